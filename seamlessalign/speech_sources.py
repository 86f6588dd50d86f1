"""Where speech to learn from comes from: sound files, rows of Parquet files, texts that espeak-ng reads out.

Listing looks at headers; the sound itself is decoded when it is wanted.
"""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.sources import place_of, recording_file

Float32 = npt.NDArray[np.float32]

_SILENCE = 2.0**-15  # one step of 16-bit samples; speech moves by more
_ROW_GROUPS = 4  # of Parquet files, kept in memory by each process


@dataclass(frozen=True)
class Sound:
    """Where samples come from: a file, a row of a Parquet file, bytes already read, or a voice that says a text."""

    path: str = ""  # of the file, which may be one in a tar file: audio.tar.gz::test/a.wav
    row: int = -1
    column: str = ""
    voice: str = ""
    words_per_minute: int = 0
    content: bytes = field(default=b"", repr=False)  # of the file or row, where it has been read


def load_sound(sound: Sound, text: str, place: str) -> Float32:
    """Samples, float32 `(num_samples,)` at 16 kHz; `text` is what a voice says, `place` names it for people.

    Raises UnreadableError with the reason `silent`, `no_speech` (espeak-ng says nothing) or one of `audio.decode`.
    """
    if sound.voice:
        samples = _synthesised(text, sound)
    elif sound.content:
        samples = _decoded(sound.content, Path(sound.path).suffix)
    elif sound.row < 0:
        with _local_file(sound.path) as path:
            samples = np.asarray(decode(path).samples, np.float32)
    else:
        samples = _decoded(_row_bytes(sound))
    if np.ptp(samples) <= _SILENCE:
        raise UnreadableError("silent", f"{place} holds {len(samples)} equal samples")
    return samples


def sound_bytes(sound: Sound) -> bytes:
    """The bytes of a file, of one in a tar file, or of a row. Raises UnreadableError where they cannot be had."""
    if sound.content:
        return sound.content
    if sound.row >= 0:
        return _row_bytes(sound)
    with _local_file(sound.path) as path:
        return file_bytes(path)


@contextmanager
def _local_file(path: str) -> Iterator[Path]:
    """A file, or a copy of one in a tar file, `audio.tar.gz::test/a.wav`."""
    place = place_of(path)
    if place.member is None or not storage.is_local(place.file):
        yield Path(path)
        return
    with ExitStack() as stack:
        try:
            copy = stack.enter_context(recording_file(path))
        except OSError as error:
            raise UnreadableError("missing", f"{path}: {error.strerror}") from error
        yield copy


def sound_seconds(content: bytes, path: str, place: str) -> float:
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


def parquet_rows(
    place: str, wanted: Callable[[str, Sequence[str]], list[str]]
) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Rows of a Parquet file, of those in a folder or of a pattern: (file, number of the row, values).

    wanted: says, of a file and the columns in it, which are read; it may raise InputError.

    Raises InputError where there is no file, or one that cannot be read.
    """
    for path in parquet_files(place):
        opened = open_parquet(path)
        columns = wanted(str(path), opened.schema_arrow.names)
        row = 0
        for group in range(opened.num_row_groups):
            for values in opened.read_row_group(group, columns=columns).to_pylist():
                yield path, row, values
                row += 1


def parquet_files(place: str) -> list[Path]:
    """A Parquet file, those in a folder, or those of a pattern, in order. Raises InputError where there is none."""
    files = storage.glob(place) if "*" in place else storage.list_files(place, ".parquet")
    if not files:
        raise InputError(f"{place}: there are no Parquet files")
    for file in files:
        if not storage.is_local(file):
            raise InputError(f"{file}: Parquet files to learn from must be on a local disk")
    return [Path(storage.local_path(file)) for file in files]


def open_parquet(path: Path, metadata: Any = None) -> Any:
    """A Parquet file, with its metadata where they have been read. Raises InputError where it cannot be read."""
    try:
        return pq.ParquetFile(path, metadata=metadata)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def bytes_of(value: Any, parquet: Path) -> bytes:
    """Bytes of a sound: of a struct of `bytes` and `path` as the package datasets has it, bytes, or a path; samples
    that it has decoded, `array` and `sampling_rate`, become a WAV file.
    """
    if isinstance(value, dict):
        if value.get("array") is not None and value.get("sampling_rate"):
            return _wav(value["array"], int(value["sampling_rate"]))
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value
    if not value:
        raise UnreadableError("missing", f"{parquet}: a row has neither sound nor a path")
    return file_bytes(parquet.parent / str(value))


def _wav(samples: Any, rate: int) -> bytes:
    """Samples `(num_samples,)` or `(channels, num_samples)` as a WAV file of 32-bit floats."""
    import soundfile

    made = io.BytesIO()
    soundfile.write(made, np.asarray(samples, np.float32).T, rate, format="WAV", subtype="FLOAT")
    return made.getvalue()


def _row_bytes(sound: Sound) -> bytes:
    starts = _group_starts(sound.path)
    group = int(np.searchsorted(starts, sound.row, side="right")) - 1
    value = _row_group(sound.path, group, sound.column)[sound.row - int(starts[group])].as_py()
    return bytes_of(value, Path(sound.path))


@lru_cache
def _group_starts(path: str) -> Any:
    metadata = pq.read_metadata(path)
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts)[:-1]])


@lru_cache(maxsize=_ROW_GROUPS)
def _row_group(path: str, group: int, column: str) -> Any:
    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(column)


# Folders


def manifest_of(place: Path) -> Path:
    """A manifest, or the one in a folder. Raises InputError where the folder has none or several."""
    if not place.is_dir():
        return place
    found = sorted([*place.glob("*.tsv"), *place.glob("*.jsonl")])
    if len(found) != 1:
        raise InputError(f"{place}: holds {len(found)} .tsv and .jsonl files; name the manifest itself")
    return found[0]


def manifest_rows(manifest: Path) -> Iterator[dict[str, Any]]:
    lines = text_lines(str(manifest))
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


def content_of(read: Callable[[], bytes]) -> tuple[bytes, UnreadableError | None]:
    try:
        return read(), None
    except UnreadableError as error:
        return b"", error


def file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError("missing", str(path)) from error
    except (OSError, ValueError) as error:
        raise UnreadableError("unreadable", f"{path}: {error}") from error


def _decoded(content: bytes, suffix: str = "") -> Float32:
    with tempfile.NamedTemporaryFile(suffix=suffix if suffix == ".g722" else "") as file:  # it has no header
        file.write(content)
        file.flush()
        return np.asarray(decode(Path(file.name)).samples, np.float32)


# Text


def text_lines(path: str) -> list[str]:
    """Lines of a file in UTF-8. Only line feeds and carriage returns end one: texts may hold Unicode's own separators.

    Raises InputError where it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return text.removesuffix("\n").split("\n") if text else []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _synthesised(text: str, sound: Sound) -> Float32:
    import soxr

    try:
        samples, rate = speak_afresh(text, sound.voice, sound.words_per_minute)
    except InputError as error:
        raise UnreadableError("no_speech", str(error)) from error
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)
