"""Rows of speech to learn from: what a source lists, and which of it can be used.

A row is looked at, not decoded: its language, its length by the header, and a key that changes with its sound. What
cannot be used has a reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.languages import get_language
from seamlessalign.speech_sources import (
    Sound,
    bytes_of,
    content_of,
    file_bytes,
    manifest_of,
    manifest_rows,
    parquet_rows,
    sound_seconds,
)
from seamlessalign.training_settings import SpeechSource

_CHARS_PER_SECOND = 14.0  # of synthetic speech, whose length is not known before it is made


class Lengths(Protocol):
    """How long speech may be that is used."""

    @property
    def min_seconds(self) -> float: ...
    @property
    def max_seconds(self) -> float: ...


@dataclass(frozen=True)
class SpeechRow:
    """One row of a source, as it stands there."""

    place: str  # file and row, for people
    lang: Any
    values: Mapping[str, Any]  # by column; none where a voice says it
    sound: Sound
    content: bytes | None  # of a sound file; None where a voice says it when it is wanted
    error: UnreadableError | None = None  # why there is no content


@dataclass(frozen=True)
class UsableSpeech:
    """What is known of a row that can be used."""

    key: str  # hex digits that change with its sound
    lang: str  # ISO 639-3
    seconds: float  # by its header; guessed from the text where the speech is synthetic


def recorded_rows(
    source: SpeechSource, wanted: Sequence[str] = (), optional: Sequence[str] = ()
) -> Iterator[SpeechRow]:
    """Rows of a source of kind `parquet` or `folder`.

    wanted: columns besides the sound that must be there; optional: those that are read where they are.

    Raises InputError for a source that is not there, cannot be read or lacks a column.
    """
    return _parquet(source, wanted, optional) if source.kind == "parquet" else _folder(source, wanted)


def spoken_row(source: SpeechSource, line: int, lang: str | None, voices: Sequence[str], turn: int) -> SpeechRow:
    """The row of a line of a text file, from 0, that a voice says when it is wanted.

    Voices take turns; when all have spoken, it is the next speed's turn.
    """
    speeds = source.words_per_minute
    voice, speed = voices[turn % len(voices)], speeds[turn // len(voices) % len(speeds)]
    return SpeechRow(f"{source.path} line {line + 1}", lang, {}, Sound(source.path, line, "", voice, speed), None)


def voices_of(lang: str, named: Sequence[str] | None, variants: Sequence[str], path: str, *, asked: bool) -> list[str]:
    """Voices of a language with their variants: those that are named, else the one of its code.

    A language that espeak-ng lacks has none, unless it was asked for: then InputError is raised, for the file `path`.
    """
    try:
        voices = named or [get_language(lang).iso639_1 or lang]
        for voice in voices:
            speak_afresh("a", voice)  # one that is not there is found now, not hours later
    except ConfigError:
        return []
    except InputError as error:
        if asked:
            raise InputError(f"{path}: {lang}: {error}; name one under voices") from error
        return []
    return [f"{voice}+{variant}" for variant in variants for voice in voices] or list(voices)


def usable(row: SpeechRow, text: str, data: Lengths) -> UsableSpeech:
    """What is known of a row; `text` is what a voice says.

    Raises UnreadableError with the reason for which it is set aside: `unknown_language`, `too_short`, `too_long`,
    `empty_text` (a voice has nothing to say), or one of those for which a file cannot be read.
    """
    try:
        lang = get_language(str(row.lang)).iso639_3
    except ConfigError as error:
        raise UnreadableError("unknown_language", f"{row.place}: {error}") from error
    key, seconds = heard(row, text, data)
    return UsableSpeech(key, lang, seconds)


def heard(row: SpeechRow, text: str, data: Lengths, *, longer: bool = False) -> tuple[str, float]:
    """Key and seconds of the sound of a row, as in UsableSpeech; its language does not matter.

    longer: more than `max_seconds` is no reason to set it aside.

    Raises UnreadableError as `usable`, but for `unknown_language`.
    """
    if row.error is not None:
        raise row.error
    if row.content is not None:
        seconds, said = sound_seconds(row.content, row.sound.path, row.place), row.content
    elif not has_words(text):
        raise UnreadableError("empty_text", row.place)
    else:
        seconds = len(text) / _CHARS_PER_SECOND
        said = repr((text, row.sound.voice, row.sound.words_per_minute)).encode()
    if seconds < data.min_seconds:
        raise UnreadableError("too_short", row.place)
    if seconds > data.max_seconds and not longer:
        raise UnreadableError("too_long", row.place)
    return hashlib.sha256(said).hexdigest()[:32], seconds


def has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


class SetAside:
    """What is not usable: how many by reason, and the first of each."""

    def __init__(self, total: Counter[str] | None = None) -> None:
        """Count in `total` too, which other sources may share."""
        self._total: Counter[str] = Counter() if total is None else total
        self._here: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, detail: str) -> None:
        self._total[reason] += 1
        self._here[reason] += 1
        self._first.setdefault(reason, detail[:200])

    def nothing_usable(self, paths: Iterable[str]) -> InputError:
        """What to say where nothing else is there."""
        told = [f"{count} {reason} (first: {self._first[reason]})" for reason, count in self._here.most_common()]
        return InputError(f"{', '.join(paths)}: nothing to learn from: {', '.join(told) or 'it is empty'}")


def parallel_lines(path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Lines of JSON, each an object of texts by language: (file and line for people, the texts).

    Raises InputError that names the file, and the line that is none.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                yield (place := f"{path} line {number + 1}"), _texts(line, place)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _texts(line: str, place: str) -> dict[str, str]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise InputError(f"{place}: is no JSON object of texts by language")
    return values


def _parquet(source: SpeechSource, wanted: Sequence[str], optional: Sequence[str]) -> Iterator[SpeechRow]:
    column = source.audio or "audio"

    def columns(file: str, there: Sequence[str]) -> list[str]:
        _check_columns(file, [column, *wanted], there, source)
        return [column, *wanted, *(name for name in (source.lang_column, *optional) if name in there)]

    for path, row, values in parquet_rows(source.path, columns):
        content, lacking = content_of(partial(bytes_of, values[column], path))
        yield _row(source, f"{path} row {row}", values, Sound(str(path), row, column), content, lacking)


def _folder(source: SpeechSource, wanted: Sequence[str]) -> Iterator[SpeechRow]:
    manifest = manifest_of(Path(source.path))
    column = source.audio or "path"
    for number, values in enumerate(manifest_rows(manifest)):
        if number == 0:
            _check_columns(str(manifest), [column, *wanted], list(values), source)
        path = manifest.parent / str(values.get(column))
        content, lacking = content_of(partial(file_bytes, path))
        yield _row(source, f"{manifest} row {number}", values, Sound(str(path)), content, lacking)


def _row(
    source: SpeechSource,
    place: str,
    values: Mapping[str, Any],
    sound: Sound,
    content: bytes,
    lacking: UnreadableError | None,
) -> SpeechRow:
    return SpeechRow(place, values.get(source.lang_column) or source.lang, values, sound, content, lacking)


def _check_columns(file: str, wanted: Sequence[str], there: Sequence[str], source: SpeechSource) -> None:
    lacking = [name for name in wanted if name not in there]
    if source.needs_lang and source.lang is None and source.lang_column not in there:
        lacking.append(f"{source.lang_column} (or give the source's lang)")
    if lacking:
        raise InputError(f"{file}: lacks the columns {', '.join(lacking)}; there are {', '.join(there)}")
