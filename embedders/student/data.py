"""Utterances to learn from: Parquet files, folders with a manifest, texts that espeak-ng reads out.

Listing them looks at texts and at the headers of sound files; the sound itself is decoded when it is wanted. What
cannot be used is set aside and counted under a reason, in both places.
"""

import csv
import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.training_config import DataConfig, SourceConfig
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.languages import get_language
from seamlessalign.rows import SAMPLE_RATE

_SILENCE = 2.0**-15  # one step of 16-bit samples; speech moves by more
_CHARS_PER_SECOND = 14.0  # of synthetic speech, whose length is not known before it is made
_ROW_GROUPS = 4  # of Parquet files, kept in memory by each process


@dataclass(frozen=True)
class Sound:
    """Where the samples of an utterance come from: a file, a row of a Parquet file, or a voice that says its text."""

    path: str = ""
    row: int = -1
    column: str = ""
    voice: str = ""
    words_per_minute: int = 0


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech and what it says."""

    key: str  # hex digits that change with its sound
    place: str  # file and row, for people
    lang: str  # ISO 639-3
    text: str
    translations: tuple[tuple[str, str], ...]  # (language, text)
    seconds: float  # by its header; guessed from the text where the speech is synthetic
    sound: Sound


def read_sources(
    sources: Sequence[SourceConfig], data: DataConfig, rejects: Counter[str] | None = None
) -> list[Utterance]:
    """All usable utterances of some sources, in order; what is not usable is counted in `rejects` by reason.

    Raises InputError for a source that is not there or lacks a column, and where nothing is usable.
    """
    counted: Counter[str] = Counter() if rejects is None else rejects
    found: list[Utterance] = []
    first: dict[str, str] = {}  # of each reason
    for source in sources:
        rows = {"parquet": _parquet, "folder": _folder, "espeak": _read_out}[source.kind](source)
        for number, row in enumerate(rows):
            if source.max_items is not None and number >= source.max_items:
                break
            try:
                found.append(_utterance(row, data))
            except UnreadableError as error:
                counted[error.reason] += 1
                first.setdefault(error.reason, error.detail[:200])
    if not found:
        told = [
            f"{count} {reason} (first: {first[reason]})" for reason, count in counted.most_common() if reason in first
        ]
        reasons = ", ".join(told) or "it is empty"
        raise InputError(f"{', '.join(source.path for source in sources)}: nothing to learn from: {reasons}")
    return found


def load_speech(utterance: Utterance) -> Float32:
    """Samples of an utterance, float32 `(num_samples,)` at 16 kHz.

    Raises UnreadableError with the reason `silent`, `no_speech` (espeak-ng says nothing) or one of `audio.decode`.
    """
    sound = utterance.sound
    if sound.voice:
        samples = _synthesised(utterance.text, sound)
    elif sound.row < 0:
        samples = np.asarray(decode(Path(sound.path)).samples, np.float32)
    else:
        samples = _decoded(_row_bytes(sound))
    if np.ptp(samples) <= _SILENCE:
        raise UnreadableError("silent", f"{utterance.place} holds {len(samples)} equal samples")
    return samples


@dataclass(frozen=True)
class _Row:
    place: str
    lang: Any
    text: Any
    translations: Mapping[str, Any]
    sound: Sound
    content: bytes | None  # of a sound file
    error: UnreadableError | None = None  # why there is no content


def _utterance(row: _Row, data: DataConfig) -> Utterance:
    """Raises UnreadableError with the reason for which a row is set aside."""
    text = " ".join(str(row.text or "").split())
    if not any(c.isalnum() for c in text):
        raise UnreadableError("empty_text", row.place)
    if len(text) > data.max_chars:
        raise UnreadableError("text_too_long", row.place)
    try:
        lang = get_language(str(row.lang)).iso639_3
    except ConfigError as error:
        raise UnreadableError("unknown_language", f"{row.place}: {error}") from error
    if row.error is not None:
        raise row.error
    if row.content is None:
        seconds = len(text) / _CHARS_PER_SECOND
        key = hashlib.sha256(repr((text, row.sound.voice, row.sound.words_per_minute)).encode()).hexdigest()[:32]
    else:
        seconds = _seconds(row.content, row.sound.path, row.place)
        key = hashlib.sha256(row.content).hexdigest()[:32]
    if seconds < data.min_seconds:
        raise UnreadableError("too_short", row.place)
    if seconds > data.max_seconds:
        raise UnreadableError("too_long", row.place)
    translations = [
        (other, " ".join(str(said or "").split())) for other, said in row.translations.items() if other != lang
    ]
    usable = tuple(
        (other, said) for other, said in translations if any(c.isalnum() for c in said) and len(said) <= data.max_chars
    )
    return Utterance(key, row.place, lang, text, usable, seconds, row.sound)


def _seconds(content: bytes, path: str, place: str) -> float:
    import soundfile

    if not content:
        raise UnreadableError("empty", place)
    if Path(path).suffix.lower() == ".g722":
        return len(content) / 8000  # bytes a second; it has no header
    try:
        info = soundfile.info(io.BytesIO(content))
    except soundfile.LibsndfileError as error:
        raise UnreadableError("not_audio", f"{place}: {error}") from error
    return float(info.frames / info.samplerate)


# Parquet


def _parquet(source: SourceConfig) -> Iterator[_Row]:
    files = storage.glob(source.path) if "*" in source.path else storage.list_files(source.path, ".parquet")
    if not files:
        raise InputError(f"{source.path}: there are no Parquet files")
    column = source.audio or "audio"
    for file in files:
        if not storage.is_local(file):
            raise InputError(f"{file}: Parquet files to learn from must be on a local disk")
        path = storage.local_path(file)
        try:
            opened = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
        optional = [source.lang_column] if source.lang_column in opened.schema_arrow.names else []
        wanted = [column, source.text, *optional, *source.translations.values()]
        _check_columns(file, wanted, opened.schema_arrow.names, source)
        row = 0
        for group in range(opened.num_row_groups):
            for values in opened.read_row_group(group, columns=wanted).to_pylist():
                sound = Sound(str(path), row, column)
                content, lacking = _content(partial(_bytes_of, values[column], path))
                yield _row(source, f"{path} row {row}", values, sound, content, lacking)
                row += 1


def _bytes_of(value: Any, parquet: Path) -> bytes:
    """Bytes of a sound: of a struct of `bytes` and `path` as the package datasets has it, bytes, or a path."""
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value
    if not value:
        raise UnreadableError("missing", f"{parquet}: a row has neither sound nor a path")
    return _file_bytes(parquet.parent / str(value))


def _row_bytes(sound: Sound) -> bytes:
    starts = _group_starts(sound.path)
    group = int(np.searchsorted(starts, sound.row, side="right")) - 1
    value = _row_group(sound.path, group, sound.column)[sound.row - int(starts[group])].as_py()
    return _bytes_of(value, Path(sound.path))


@lru_cache
def _group_starts(path: str) -> Any:
    metadata = pq.read_metadata(path)
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts)[:-1]])


@lru_cache(maxsize=_ROW_GROUPS)
def _row_group(path: str, group: int, column: str) -> Any:
    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(column)


# Folders


def _folder(source: SourceConfig) -> Iterator[_Row]:
    manifest = Path(source.path)
    if manifest.is_dir():
        found = sorted([*manifest.glob("*.tsv"), *manifest.glob("*.jsonl")])
        if len(found) != 1:
            raise InputError(f"{manifest}: holds {len(found)} .tsv and .jsonl files; name the manifest itself")
        manifest = found[0]
    column = source.audio or "path"
    for number, values in enumerate(_manifest_rows(manifest)):
        if number == 0:
            _check_columns(str(manifest), [column, source.text, *source.translations.values()], list(values), source)
        path = manifest.parent / str(values.get(column))
        content, lacking = _content(partial(_file_bytes, path))
        yield _row(source, f"{manifest} row {number}", values, Sound(str(path)), content, lacking)


def _manifest_rows(manifest: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: cannot be read: {error}") from error
    if manifest.suffix != ".jsonl":
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return
    for number, line in enumerate(lines):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InputError(f"{manifest} line {number + 1}: is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{manifest} line {number + 1}: is no JSON object")
        yield values


def _check_columns(file: str, wanted: Iterable[str], there: Sequence[str], source: SourceConfig) -> None:
    lacking = [name for name in wanted if name not in there]
    if source.lang is None and source.lang_column not in there:
        lacking.append(f"{source.lang_column} (or give the source's lang)")
    if lacking:
        raise InputError(f"{file}: lacks the columns {', '.join(lacking)}; there are {', '.join(there)}")


def _row(
    source: SourceConfig,
    place: str,
    values: Mapping[str, Any],
    sound: Sound,
    content: bytes,
    error: UnreadableError | None,
) -> _Row:
    lang = values.get(source.lang_column) or source.lang
    said = {other: values.get(column) for other, column in source.translations.items()}
    return _Row(place, lang, values.get(source.text), said, sound, content, error)


def _content(read: Callable[[], bytes]) -> tuple[bytes, UnreadableError | None]:
    try:
        return read(), None
    except UnreadableError as error:
        return b"", error


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError("missing", str(path)) from error
    except (OSError, ValueError) as error:
        raise UnreadableError("unreadable", f"{path}: {error}") from error


def _decoded(content: bytes) -> Float32:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return np.asarray(decode(Path(file.name)).samples, np.float32)


# Synthetic speech


def _read_out(source: SourceConfig) -> Iterator[_Row]:
    lines = _lines(source.path)
    translations = {lang: _lines(path) for lang, path in source.translations.items()}
    for lang, said in translations.items():
        if len(said) != len(lines):
            raise InputError(
                f"{source.translations[lang]}: has {len(said)} lines, {source.path} {len(lines)}: "
                "line i of one must be the translation of the other's"
            )
    for voice in source.voices:
        speak_afresh("a", voice)  # a voice that is not there is found now, not hours later
    for number, text in enumerate(lines):
        voice = source.voices[number % len(source.voices)]
        speed = source.words_per_minute[number // len(source.voices) % len(source.words_per_minute)]
        said_there = {lang: said[number] for lang, said in translations.items()}
        sound = Sound(source.path, number, "", voice, speed)
        yield _Row(f"{source.path} line {number + 1}", source.lang, text, said_there, sound, None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _synthesised(text: str, sound: Sound) -> Float32:
    import soxr

    try:
        samples, rate = speak_afresh(text, sound.voice, sound.words_per_minute)
    except InputError as error:
        raise UnreadableError("no_speech", str(error)) from error
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)
