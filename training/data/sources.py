"""Rows of all kinds of sources, in groups that are read at once: the door to what a training learns from.

A source lists its groups; a group can be opened, with its sound or without, and rows of an open group made one by one.
So what has to be remembered of a row is where it lies.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.languages import find_language
from seamlessalign.speech_sources import Sound
from seamlessalign.training.data.settings import DataSource
from seamlessalign.training.units.repeats import reduce_units

UInt16 = npt.NDArray[np.uint16]

_NO_UNIT = 65535


@dataclass(frozen=True, eq=False)
class RowSide:
    """One side of a row, as it stands there."""

    lang: str  # ISO 639-3
    text: str = ""  # with single spaces; empty where there is none
    sound: Sound | None = None  # None where there is none, or it was not read
    seconds: float | None = None  # of the sound, where the row says it
    units: UInt16 | None = None  # without adjacent repeats
    problem: UnreadableError | None = None  # why there is no sound


@dataclass(frozen=True, eq=False)
class SourceRow:
    """A row of a source. Its own problem is why it is none that can be used."""

    place: str  # file and row, for people
    sides: tuple[RowSide, ...] = ()  # what goes in, and what comes out; one where it is a transcription
    id: str = ""  # that the source gives it
    margin: float | None = None  # where it was mined
    owns: tuple[bool, bool] = (True, True)  # whether each side is not the same one of a row before
    problem: UnreadableError | None = None


@dataclass(frozen=True)
class Group:
    """Rows that are read at once."""

    file: int  # number among the source's files
    start: int  # row group of a Parquet file, first byte of lines, first row of a data set
    first: int  # number of the first row, or line, in the file
    rows: int
    size: int  # bytes in memory once it is open, about


class OpenGroup(Protocol):
    """A group in memory."""

    def row(self, number: int) -> SourceRow:
        """The row with a number in the group."""

    def rows(self) -> Iterator[SourceRow]:
        """All of them, in order."""


class RowSource(ABC):
    """A source that was found. `files` are the paths that its groups are in."""

    files: list[str]

    @abstractmethod
    def groups(self) -> Iterator[Group]:
        """All groups, in order. Raises InputError for what cannot be read."""

    @abstractmethod
    def open(self, group: Group, *, sound: bool) -> OpenGroup:
        """Read a group. Without `sound` only what listing needs: sound itself where rows do not say how long it is.

        Raises InputError for a file that cannot be read any more.
        """

    @abstractmethod
    def place(self, group: Group, number: int) -> str:
        """File and row, for people, of a row by its number in a group."""

    def state(self) -> list[Any]:
        """What changes when the source does: names, sizes and times of its files."""
        return [file_state(Path(file)) for file in self.files]


def open_source(settings: DataSource) -> RowSource:
    """Find a source. Raises InputError where it is not there, or lacks what the settings name."""
    from seamlessalign.training.data import line_sources, table_sources

    if settings.kind == "corpus" or settings.kind == "parquet":
        return table_sources.ParquetRows(settings)
    if settings.kind == "hf":
        return table_sources.open_hub(settings)
    if settings.kind == "manifest":
        return line_sources.ManifestRows(settings)
    return line_sources.ParallelRows(settings)


class OpenGroups:
    """Groups that are open, the latest ones, as far as they fit; and how often each was read."""

    def __init__(self, sources: Sequence[RowSource], limit: int) -> None:
        """limit: bytes, by the size that groups are listed with, which windows of a plan go by too; the group that is
        asked for is open whatever its size.
        """
        self._sources, self._limit = sources, limit
        self._open: OrderedDict[tuple[int, Group, bool], OpenGroup] = OrderedDict()
        self.size = 0
        self.reads: dict[tuple[int, Group, bool], int] = {}

    def get(self, source: int, group: Group, *, sound: bool) -> OpenGroup:
        """A group, with its sound or without. Raises InputError as `RowSource.open`."""
        key = (source, group, sound)
        found = self._open.get(key)
        if found is None:
            found = self._sources[source].open(group, sound=sound)
            self.reads[key] = self.reads.get(key, 0) + 1
            self._open[key] = found
            self.size += group.size
            while self.size > self._limit and len(self._open) > 1:
                (_, oldest, _), _ = self._open.popitem(last=False)
                self.size -= oldest.size
        self._open.move_to_end(key)
        return found


def file_state(file: Path) -> list[Any]:
    """Name, size and time of a file."""
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns]


def language_of(code: object, place: str) -> str:
    """ISO 639-3 code of a language in any usual code. Raises UnreadableError with the reason `unknown_language`."""
    try:
        return find_language(str(code)).iso639_3
    except ConfigError as error:
        raise UnreadableError("unknown_language", f"{place}: {error}") from error


def words_of(text: object) -> str:
    """A text with single spaces; empty where there is none."""
    return " ".join(str(text).split()) if text is not None else ""


def reduced(units: Iterable[int | None]) -> UInt16:
    """Units without adjacent repeats, as a T2U learns them; what can be no unit is 65535, which no vocabulary has."""
    if not isinstance(units, np.ndarray):  # any numbers at all, and none
        units = np.array([_NO_UNIT if unit is None else min(max(unit, -1), _NO_UNIT) for unit in units], np.int64)
    numbers = reduce_units(units)[0].astype(np.int64)
    return np.where((numbers < 0) | (numbers > _NO_UNIT), _NO_UNIT, numbers).astype(np.uint16)


def number_of(name: str) -> int:
    """64 bits for an id: its own where it is 16 hex digits, as ids of pairs are, else of its SHA-256."""
    if len(name) == 16:
        try:
            return int(name, 16)
        except ValueError:
            pass
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
