"""Sources that are lines of text files: manifests of SeamlessM4T's fine-tuning, parallel texts, texts to read out."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.languages import find_language
from seamlessalign.speech_rows import has_words, voices_of
from seamlessalign.speech_sources import Sound
from seamlessalign.training.data.settings import EspeakSource, ManifestSource, TextSource
from seamlessalign.training.data.sources import (
    Group,
    OpenGroup,
    RowSide,
    RowSource,
    SourceRow,
    language_of,
    reduced,
    words_of,
)

_LINES = 200  # read at once


class _OpenLines:
    """Lines in memory; a line may hold several rows."""

    def __init__(self, lines: list[bytes], each: int, make: Callable[[bytes, int, int], SourceRow]) -> None:
        """make: the row of a line, its number here and that of the row in it."""
        self._lines, self._each, self._make = lines, each, make

    def row(self, number: int) -> SourceRow:
        line, inside = divmod(number, self._each)
        return self._make(self._lines[line], line, inside)

    def rows(self) -> Iterator[SourceRow]:
        return (self.row(number) for number in range(len(self._lines) * self._each))


class _Lines(RowSource):
    """Lines of one file, each of `_each` rows."""

    _each = 1

    def __init__(self, path: str) -> None:
        self.files = [path]
        if not Path(path).is_file():
            raise InputError(f"{path}: there is no such file")

    def groups(self) -> Iterator[Group]:
        start = first = count = size = 0
        with Path(self.files[0]).open("rb") as file:
            for line in file:
                count, size = count + 1, size + len(line)
                if count == _LINES:
                    yield Group(0, start, first, count * self._each, size)
                    start, first, count, size = start + size, first + count, 0, 0
        if count:
            yield Group(0, start, first, count * self._each, size)

    def open(self, group: Group, *, sound: bool) -> OpenGroup:
        try:
            with Path(self.files[0]).open("rb") as file:
                file.seek(group.start)
                lines = [file.readline() for _ in range(group.rows // self._each)]
        except OSError as error:
            raise InputError(f"{self.files[0]}: cannot be read: {error.strerror}") from error

        def make(line: bytes, number: int, inside: int) -> SourceRow:
            return self._row(line, self.place(group, number * self._each), group.first + number, inside)

        return _OpenLines(lines, self._each, make)

    def place(self, group: Group, number: int) -> str:
        return f"{self.files[0]} line {group.first + number // self._each + 1}"

    @abstractmethod
    def _row(self, line: bytes, place: str, number: int, inside: int) -> SourceRow:
        """A row of a line, whose number is from 0."""


class ManifestRows(_Lines):
    """A manifest as SeamlessM4T's fine-tuning has it: objects with `source` and `target`, each of them with `lang`,
    `text`, `audio_local_path` and `units`.

    Where both are of one language, the row is speech and its transcription. Paths are relative to the manifest. An `id`
    is not one of a row: of FLEURS it is that of a sentence, which several people read.
    """

    def __init__(self, settings: ManifestSource) -> None:
        super().__init__(settings.path)
        self._both_ways = settings.both_ways

    def _row(self, line: bytes, place: str, number: int, inside: int) -> SourceRow:
        try:
            values = _object(line, place)
            src, tgt = (self._side(values.get(name), name, place) for name in ("source", "target"))
        except UnreadableError as error:
            return SourceRow(place, problem=error)
        if src.lang == tgt.lang:
            said = replace(src, text=tgt.text or src.text, units=tgt.units if tgt.units is not None else src.units)
            return SourceRow(place, (said,))
        return SourceRow(place, (src, tgt))

    def _side(self, values: Any, name: str, place: str) -> RowSide:
        if not isinstance(values, dict) or not values.get("lang"):
            raise UnreadableError("not_a_manifest", f"{place}: {name} is no object with lang")
        units, sound = values.get("units"), None
        if units is not None and not (isinstance(units, list) and all(isinstance(unit, int) for unit in units)):
            raise UnreadableError("not_a_manifest", f"{place}: {name}.units is no list of numbers")
        if values.get("audio_local_path") and (name == "source" or self._both_ways):
            sound = Sound(str(Path(self.files[0]).parent / str(values["audio_local_path"])))
        return RowSide(
            language_of(values["lang"], place),
            words_of(values.get("text")),
            sound,
            units=None if units is None else reduced(units),
        )


class ParallelRows(_Lines):
    """Texts that mean the same, of which each pair of languages is a row; or a text in one language a line.

    Of kind `espeak` voices say them, in turn, and when all have spoken at the next speed.
    """

    def __init__(self, settings: TextSource | EspeakSource) -> None:
        """Find the file and the voices. Raises InputError where one is not there."""
        super().__init__(settings.path)
        self._json = not (isinstance(settings, EspeakSource) and settings.lang is not None)
        pairs = [tuple(find_language(code).iso639_3 for code in pair) for pair in settings.pairs]
        if isinstance(settings, EspeakSource) and settings.lang is not None:
            pairs = [(find_language(settings.lang).iso639_3,)]
        self._pairs: list[tuple[str, ...]] = pairs
        self._each = len(pairs)
        self._voices: dict[str, list[str]] = {}
        if isinstance(settings, EspeakSource):
            self._speeds = settings.words_per_minute
            for lang in sorted({lang for pair in pairs for lang in pair}):
                named = settings.voices.get(lang)
                self._voices[lang] = voices_of(lang, named, settings.variants, settings.path, asked=named is not None)
            if not any(self._voices.values()):
                raise InputError(f"{settings.path}: espeak-ng has no voice for {', '.join(self._voices)}; name one")

    def _row(self, line: bytes, place: str, number: int, inside: int) -> SourceRow:
        pair = self._pairs[inside]
        try:
            texts = self._texts(line, place)
        except UnreadableError as error:
            return SourceRow(place, problem=error)
        before = [lang for earlier in self._pairs[:inside] for lang in earlier]
        owns = (pair[0] not in before, pair[-1] not in before)
        return SourceRow(place, tuple(self._side(lang, texts, number) for lang in pair), owns=owns)

    def _texts(self, line: bytes, place: str) -> dict[str, str]:
        if not self._json:
            try:
                return {self._pairs[0][0]: words_of(line.decode())}
            except UnicodeDecodeError as error:
                raise UnreadableError("invalid_utf8", f"{place}: {error}") from error
        values = _object(line, place)
        if not all(isinstance(text, str) for text in values.values()):
            raise UnreadableError("not_texts", f"{place}: is no JSON object of texts by language")
        return {language_of(code, place): words_of(text) for code, text in values.items()}

    def _side(self, lang: str, texts: dict[str, str], number: int) -> RowSide:
        text, voices, sound = texts.get(lang, ""), self._voices.get(lang), None
        if voices and has_words(text):
            voice, speed = voices[number % len(voices)], self._speeds[number // len(voices) % len(self._speeds)]
            sound = Sound(self.files[0], number, "", voice, speed)
        return RowSide(lang, text, sound)


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:  # also where it is not UTF-8
        raise UnreadableError("not_json", f"{place}: {error}") from error
    if not isinstance(values, dict):
        raise UnreadableError("not_json", f"{place}: is no JSON object")
    return values
