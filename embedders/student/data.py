"""Utterances to learn from: Parquet files, folders with a manifest, texts that espeak-ng reads out.

Listing them looks at texts and at the headers of sound files; the sound itself is decoded when it is wanted. What
cannot be used is set aside and counted under a reason, in both places.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.training_config import DataConfig, SourceConfig
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.languages import get_language
from seamlessalign.speech_sources import (
    Sound,
    bytes_of,
    content_of,
    file_bytes,
    load_sound,
    manifest_of,
    manifest_rows,
    parquet_rows,
    sound_seconds,
    text_lines,
)

_CHARS_PER_SECOND = 14.0  # of synthetic speech, whose length is not known before it is made


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
    return load_sound(utterance.sound, utterance.text, utterance.place)


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
        seconds = sound_seconds(row.content, row.sound.path, row.place)
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


# Parquet


def _parquet(source: SourceConfig) -> Iterator[_Row]:
    column = source.audio or "audio"

    def wanted(file: str, there: Sequence[str]) -> list[str]:
        optional = [source.lang_column] if source.lang_column in there else []
        names = [column, source.text, *optional, *source.translations.values()]
        _check_columns(file, names, there, source)
        return names

    for path, row, values in parquet_rows(source.path, wanted):
        content, lacking = content_of(partial(bytes_of, values[column], path))
        yield _row(source, f"{path} row {row}", values, Sound(str(path), row, column), content, lacking)


# Folders


def _folder(source: SourceConfig) -> Iterator[_Row]:
    manifest = manifest_of(Path(source.path))
    column = source.audio or "path"
    for number, values in enumerate(manifest_rows(manifest)):
        if number == 0:
            _check_columns(str(manifest), [column, source.text, *source.translations.values()], list(values), source)
        path = manifest.parent / str(values.get(column))
        content, lacking = content_of(partial(file_bytes, path))
        yield _row(source, f"{manifest} row {number}", values, Sound(str(path)), content, lacking)


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


# Synthetic speech


def _read_out(source: SourceConfig) -> Iterator[_Row]:
    lines = text_lines(source.path)
    translations = {lang: text_lines(path) for lang, path in source.translations.items()}
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
