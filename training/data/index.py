"""What is remembered of rows: a few numbers each, in arrays that lie in files and are shared by all processes.

Listing reads every row once. Texts are cut into subwords and forgotten, headers of sound are looked at, units are kept
as they are, and so are texts that a machine wrote: what of a row is not read again from its source.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import has_words
from seamlessalign.speech_sources import file_bytes, load_sound, parquet_files, sound_seconds
from seamlessalign.training.data.joined import (
    MachineTextRules,
    MachineTexts,
    TranscriptTable,
    UnitTable,
    transcripts_folder,
    units_folder,
)
from seamlessalign.training.data.settings import DataSource
from seamlessalign.training.data.sources import (
    Group,
    RowSide,
    RowSource,
    SourceRow,
    file_state,
    number_of,
    open_source,
)
from seamlessalign.typed_config import digest

_VERSION = 3  # of what is written here
_HASHED = 1 << 20  # rows at a time
_NOT_LISTED = {"weight", "human", "transcripts_for", "min_avg_logprob"}  # settings that listing does not depend on
_MOST = np.iinfo(np.uint16).max
_SAID = np.iinfo(np.uint32).max

# Arrays of two are of the sides of a row: what goes in and what comes out, as it lies in the source.
ROW = np.dtype(
    [
        ("key", np.uint64),  # changes with the content
        ("units_start", np.uint64),  # of its units among all; those of the second side follow those of the first
        ("group", np.uint32),
        ("row", np.uint32),  # in the group
        ("margin", np.float32),  # NaN where it was not mined
        ("problem", np.uint8),  # number of the reason why it is none that can be used; 0: it can
        ("owns", np.uint8),  # bit of each side: no row before has the same one
        ("lang", np.int16, 2),  # number of the language; -1: there is no such side
        ("seconds", np.float32, 2),  # NaN where there is no sound, or none that can be used
        ("said", np.uint32, 2),  # changes with the text; 0 where there is none
        ("chars", np.uint16, 2),  # 0 where there is no text; as all lengths here, at most 65535
        ("subwords", np.uint16, 2),
        ("units", np.uint16, 2),
        ("machine", np.uint8),  # bit of each side: its text is not its own, but one that a machine wrote
        ("avg_logprob", np.float16, 2),  # of such a text: how sure the machine was
        ("sound_problem", np.uint8, 2),  # number of the reason why sound cannot be used; 0: it can, or there is none
    ]
)

GROUP = np.dtype(
    [
        ("source", np.int32),
        ("file", np.int32),
        ("rows", np.int32),
        ("start", np.int64),
        ("first", np.int64),
        ("size", np.int64),
    ]
)

Rows = npt.NDArray[Any]


class SubwordCutter(Protocol):
    """What listing needs of a text vocabulary."""

    @property
    def digest(self) -> str:
        """Changes with anything that changes tokens."""

    def pieces(self, text: str, lang: str | None = None) -> list[int]:
        """Subwords of a text. Raises InputError where it is not Unicode."""


class RowIndex:
    """Rows of several sources: arrays of `ROW` and `GROUP`, and all their units, uint16, one behind the other."""

    def __init__(
        self,
        rows: Rows,
        groups: Rows,
        units: npt.NDArray[np.uint16],
        languages: Sequence[str],
        reasons: Sequence[str],
        folder: Path | None = None,
        texts: MachineTexts | None = None,
        rules: MachineTextRules | None = None,
    ) -> None:
        """languages, reasons: what numbers in rows mean; the first reason is none.

        texts, rules: what machines wrote, and where that is learnt; by default nothing is.
        """
        self.rows, self.groups, self.units = rows, groups, units
        self.languages, self.reasons, self.folder = list(languages), list(reasons), folder
        self.texts = texts if texts is not None else MachineTexts.of_texts([])
        self.rules = rules

    @property
    def sources(self) -> npt.NDArray[np.int32]:
        """Number of the source of each row, `(num_rows,)`."""
        return np.asarray(self.groups["source"][self.rows["group"]], np.int32)

    @property
    def digest(self) -> str:
        """16 hex digits that change with the rows."""
        told = hashlib.sha256(json.dumps([self.languages, self.reasons]).encode())
        for start in range(0, len(self.rows), _HASHED):
            told.update(self.rows[start : start + _HASHED].tobytes())
        told.update(self.texts.data.tobytes())
        return told.hexdigest()[:16]

    def group(self, number: int) -> tuple[int, Group]:
        """The number of a group's source, and the group."""
        source, file, rows, start, first, size = self.groups[number].item()
        return source, Group(file, start, first, rows, size)

    def units_of(self, row: int, side: int) -> npt.NDArray[np.uint16]:
        """Units of one side of a row; none where it has none."""
        start = int(self.rows["units_start"][row])
        first, second = (int(count) for count in self.rows["units"][row])
        start += first if side else 0
        return np.asarray(self.units[start : start + (second if side else first)])

    def texts_in(self, tasks: Any, rows: Any, sides: Any) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether a side of each of some rows has a text that is learnt in a task, and whether one is too unsure.

        It is its own, or a machine's where the rules say so. tasks: places in TASK_NAMES; rows: numbers, or a slice.
        """
        there = np.asarray(self.rows["chars"][rows, sides] > 0)
        if self.rules is None or not len(self.texts.sides):
            return there, np.zeros_like(there)
        machine = (self.rows["machine"][rows] >> sides & 1) == 1
        source = self.groups["source"][self.rows["group"][rows]]
        wanted = machine & self.rules.tasks[source, tasks]
        sure = self.rows["avg_logprob"][rows, sides] >= self.rules.least[source]
        return there & (~machine | (wanted & sure)), there & wanted & ~sure

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes that load data open the same files; what lies in none is copied."""
        if self.folder is not None:
            return (_opened, (self.folder, self.rules))
        about = self.rows, self.groups, self.units, self.languages, self.reasons, None, self.texts, self.rules
        return (RowIndex, about)


def make_index(
    settings: Sequence[DataSource], text: SubwordCutter, folder: Path | None = None
) -> tuple[RowIndex, list[RowSource]]:
    """List all rows of some sources; where `folder` has them already, from the same files, they are read from there.

    Raises InputError for a source that is not there, cannot be read or lacks a column, StorageError where the folder
    cannot be written.
    """
    sources = [open_source(one) for one in settings]
    rules = MachineTextRules.of(settings)
    if folder is None:
        return _listed(settings, sources, text, rules), sources
    made_of = digest(
        _VERSION,
        text.digest,
        [one.model_dump(mode="json", exclude=_NOT_LISTED) for one in settings],
        [source.state() for source in sources],
        [
            [file_state(file) for file in parquet_files(place)]
            for one in settings
            for place in (units_folder(one), transcripts_folder(one))
            if place
        ],
    )
    if not _holds(folder, made_of):
        _save(_listed(settings, sources, text, rules), folder, made_of)
    return _opened(folder, rules), sources


# Listing


class _Numbers:
    """Numbers of names, in the order in which they come."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self._known = {name: number for number, name in enumerate(names)}

    def of(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = len(self.names)
            self.names.append(name)
        return self._known[name]


class _Listing:
    """Turns rows of sources into rows of the index."""

    def __init__(self, text: SubwordCutter) -> None:
        self._text = text
        self.languages, self.reasons = _Numbers(), _Numbers("")
        self.units: list[npt.NDArray[np.uint16]] = []
        self.texts: list[tuple[int, str]] = []
        self._num_units = self._num_rows = 0

    def row(self, row: SourceRow, group: int, number: int, joined: "_Joined") -> Any:
        """The row as `ROW` has it."""
        found = np.zeros((), ROW)
        found["group"], found["row"], found["units_start"] = group, number, self._num_units
        found["margin"] = math.nan if row.margin is None else row.margin
        found["owns"] = row.owns[0] + 2 * row.owns[1]
        found["lang"], found["seconds"] = -1, math.nan
        self._num_rows += 1
        try:
            if row.problem is not None:
                raise row.problem
            digests = [self._side(found, i, side, row, joined) for i, side in enumerate(row.sides)]
        except UnreadableError as error:
            found["problem"] = self.reasons.of(error.reason)
            found["units"] = 0
            return found
        said = json.dumps([[side.lang, side.text, told] for side, told in zip(row.sides, digests, strict=True)])
        found["key"] = number_of(row.id or said)
        return found

    def _side(self, found: Any, i: int, side: RowSide, row: SourceRow, joined: "_Joined") -> str:
        """Fill in one side; what its sound says of its content. Raises UnreadableError for a text that is none."""
        found["lang"][i] = self.languages.of(side.lang)
        text = side.text
        heard = joined.transcripts.of(row.id, i) if joined.transcripts is not None and row.id else None
        if heard is not None and not has_words(text) and has_words(heard[0]):
            text, found["avg_logprob"][i] = heard
            found["machine"] |= 1 << i
            self.texts.append((2 * (self._num_rows - 1) + i, text))
        if has_words(text):
            try:
                found["subwords"][i] = min(_MOST, len(self._text.pieces(text, side.lang)))
            except InputError as error:
                raise UnreadableError("not_unicode", f"{row.place}: {error}") from error
            found["chars"][i] = min(_MOST, len(text))
            found["said"][i] = max(1, xxhash.xxh3_64_intdigest(text.encode()) & _SAID)
        units = side.units if joined.units is None or not row.id else joined.units.of(row.id, i)
        told = ""
        try:
            if side.problem is not None:
                raise side.problem
            found["seconds"][i], told = _heard(side, row.place)
        except UnreadableError as error:
            found["sound_problem"][i] = self.reasons.of(error.reason)
        if units is not None and len(units) <= _MOST:
            found["units"][i] = len(units)
            self.units.append(units)
            self._num_units += len(units)
        return told


def _heard(side: RowSide, place: str) -> tuple[float, str]:
    """How long a sound is, NaN where there is none, and its digest where it was read."""
    sound = side.sound
    if side.seconds is not None:
        return side.seconds, f"{side.seconds:.4f}"
    if sound is None:
        return math.nan, ""
    if sound.voice:  # nothing else says how long it will be
        samples = load_sound(sound, side.text, place)
        return len(samples) / SAMPLE_RATE, f"{sound.voice} {sound.words_per_minute}"
    content = sound.content or file_bytes(Path(sound.path))
    return sound_seconds(content, sound.path, place), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class _Joined:
    """What is joined to the rows of a source."""

    units: UnitTable | None
    transcripts: TranscriptTable | None

    @classmethod
    def of(cls, settings: DataSource) -> "_Joined":
        units, transcripts = units_folder(settings), transcripts_folder(settings)
        return cls(UnitTable(units) if units else None, TranscriptTable(transcripts) if transcripts else None)


def _listed(
    settings: Sequence[DataSource], sources: Sequence[RowSource], text: SubwordCutter, rules: MachineTextRules
) -> RowIndex:
    listing, parts, groups = _Listing(text), [np.zeros(0, ROW)], list[tuple[int, ...]]()
    for number, (one, source) in enumerate(zip(settings, sources, strict=True)):
        joined = _Joined.of(one)
        left = one.max_rows
        for group in source.groups():
            if left is not None and left <= 0:
                break
            rows = [
                listing.row(row, len(groups), i, joined)
                for i, row in enumerate(source.open(group, sound=False).rows())
                if left is None or i < left
            ]
            parts.append(np.array(rows, ROW))
            groups.append((number, group.file, group.rows, group.start, group.first, group.size))
            left = None if left is None else left - len(rows)
    units = np.concatenate(listing.units) if listing.units else np.zeros(0, np.uint16)
    rows_of_all = np.concatenate(parts)
    return RowIndex(
        rows_of_all, np.array(groups, GROUP), units, listing.languages.names, listing.reasons.names,
        texts=MachineTexts.of_texts(listing.texts), rules=rules,
    )  # fmt: skip


# Files

_ARRAYS = ("rows", "groups", "units")


def _save(index: RowIndex, folder: Path, made_of: str) -> None:
    """The file that says what they are of comes last, so that what a killed process left is made again."""
    storage.write_bytes_atomic(str(folder / "index.json"), b"{}\n")
    arrays = {name: getattr(index, name) for name in _ARRAYS} | index.texts.arrays()
    for name, array in arrays.items():
        with storage.atomic_local(str(folder / f"{name}.npy")) as temporary, Path(temporary).open("wb") as file:
            np.save(file, array)
    about = {"made_of": made_of, "languages": index.languages, "reasons": index.reasons}
    storage.write_bytes_atomic(str(folder / "index.json"), (json.dumps(about) + "\n").encode())


def _holds(folder: Path, made_of: str) -> bool:
    try:
        return bool(_about(folder)["made_of"] == made_of)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _about(folder: Path) -> Mapping[str, Any]:
    return dict(json.loads((folder / "index.json").read_text(encoding="utf-8")))


def _opened(folder: Path, rules: MachineTextRules | None) -> RowIndex:
    try:
        about = _about(folder)
        rows, groups, units = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS)
        texts = MachineTexts.read(folder)
        return RowIndex(rows, groups, units, about["languages"], about["reasons"], folder, texts, rules)
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"{folder}: the index of data is damaged: {error}; remove the folder") from error
