"""What is remembered of rows: a few numbers each, in arrays that lie in files and are shared by all processes.

Listing reads every row once. Texts are cut into subwords and forgotten, headers of sound are looked at, units are kept
as they are: the only part of a row that is not read again from its source.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import has_words
from seamlessalign.speech_sources import file_bytes, load_sound, open_parquet, parquet_files, sound_seconds
from seamlessalign.training.data.settings import DataSource
from seamlessalign.training.data.sources import (
    Group,
    RowSide,
    RowSource,
    SourceRow,
    file_state,
    number_of,
    open_source,
    reduced,
)
from seamlessalign.typed_config import digest

_VERSION = 2  # of what is written here
_HASHED = 1 << 20  # rows at a time
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
    ) -> None:
        """languages, reasons: what numbers in rows mean; the first reason is none."""
        self.rows, self.groups, self.units = rows, groups, units
        self.languages, self.reasons, self.folder = list(languages), list(reasons), folder

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes that load data open the same files; what lies in none is copied."""
        if self.folder is not None:
            return (_opened, (self.folder,))
        return (RowIndex, (self.rows, self.groups, self.units, self.languages, self.reasons))


def make_index(
    settings: Sequence[DataSource], text: SubwordCutter, folder: Path | None = None
) -> tuple[RowIndex, list[RowSource]]:
    """List all rows of some sources; where `folder` has them already, from the same files, they are read from there.

    Raises InputError for a source that is not there, cannot be read or lacks a column, StorageError where the folder
    cannot be written.
    """
    sources = [open_source(one) for one in settings]
    if folder is None:
        return _listed(settings, sources, text), sources
    made_of = digest(
        _VERSION,
        text.digest,
        [one.model_dump(mode="json", exclude={"weight", "human"}) for one in settings],
        [source.state() for source in sources],
        [file_state(file) for one in settings if (place := units_folder(one)) for file in parquet_files(place)],
    )
    if not _holds(folder, made_of):
        _save(_listed(settings, sources, text), folder, made_of)
    return _opened(folder), sources


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
        self._num_units = 0

    def row(self, row: SourceRow, group: int, number: int, joined: "UnitTable | None") -> Any:
        """The row as `ROW` has it."""
        found = np.zeros((), ROW)
        found["group"], found["row"], found["units_start"] = group, number, self._num_units
        found["margin"] = math.nan if row.margin is None else row.margin
        found["owns"] = row.owns[0] + 2 * row.owns[1]
        found["lang"], found["seconds"] = -1, math.nan
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

    def _side(self, found: Any, i: int, side: RowSide, row: SourceRow, joined: "UnitTable | None") -> str:
        """Fill in one side; what its sound says of its content. Raises UnreadableError for a text that is none."""
        found["lang"][i] = self.languages.of(side.lang)
        if has_words(side.text):
            try:
                found["subwords"][i] = min(_MOST, len(self._text.pieces(side.text, side.lang)))
            except InputError as error:
                raise UnreadableError("not_unicode", f"{row.place}: {error}") from error
            found["chars"][i] = min(_MOST, len(side.text))
            found["said"][i] = max(1, xxhash.xxh3_64_intdigest(side.text.encode()) & _SAID)
        units = side.units if joined is None or not row.id else joined.of(row.id, i)
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


def _listed(settings: Sequence[DataSource], sources: Sequence[RowSource], text: SubwordCutter) -> RowIndex:
    listing, parts, groups = _Listing(text), [np.zeros(0, ROW)], list[tuple[int, ...]]()
    for number, (one, source) in enumerate(zip(settings, sources, strict=True)):
        place = units_folder(one)
        joined = UnitTable(place) if place else None
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
    return RowIndex(rows_of_all, np.array(groups, GROUP), units, listing.languages.names, listing.reasons.names)


# Units


class UnitTable:
    """Units by id and side, of Parquet files with `pair_id`, `side` (`src` or `tgt`) and `units`."""

    def __init__(self, place: str) -> None:
        """Read a folder or file. Raises InputError where there is none, or one that lacks a column."""
        keys, counts, values = list[Any](), list[Any](), list[Any]()
        for file in parquet_files(place):
            opened = open_parquet(file)
            lacking = {"pair_id", "side", "units"} - set(opened.schema_arrow.names)
            if lacking:
                raise InputError(
                    f"{file}: lacks the columns {', '.join(sorted(lacking))}, as tables of units have them"
                )
            for batch in opened.iter_batches(columns=["pair_id", "side", "units"]):
                listed = batch.column("units").cast(pa.list_(pa.int64()))
                names, sides = batch.column("pair_id").to_pylist(), batch.column("side").to_pylist()
                for name, side, units in zip(names, sides, listed, strict=True):
                    if units.is_valid:
                        found = reduced(units.values.fill_null(-1).to_numpy())
                        keys.append(_unit_key(str(name), side == "tgt"))
                        counts.append(len(found))
                        values.append(found)
        order = np.argsort(np.array(keys, np.uint64), kind="stable")
        self._keys = np.array(keys, np.uint64)[order]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._order = order
        self._values = np.concatenate(values) if values else np.zeros(0, np.uint16)

    def of(self, name: str, side: int) -> npt.NDArray[np.uint16] | None:
        """Units of one side of the row with an id; None where there are none."""
        key = np.uint64(_unit_key(name, bool(side)))
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        number = int(self._order[place])
        return np.asarray(self._values[self._starts[number] : self._starts[number + 1]])


def _unit_key(name: str, second: bool) -> int:
    return number_of(name) ^ (0x9E3779B97F4A7C15 if second else 0)  # any odd constant keeps the two apart


def units_folder(settings: DataSource) -> str | None:
    """Where the units of a source are that are joined to it; of a run's folder, its own."""
    named = getattr(settings, "units", None)
    if named is None and settings.kind == "corpus" and (inside := Path(settings.path) / "units").is_dir():
        return str(inside)
    return None if named is None else str(named)


# Files

_ARRAYS = ("rows", "groups", "units")


def _save(index: RowIndex, folder: Path, made_of: str) -> None:
    """The file that says what they are of comes last, so that what a killed process left is made again."""
    storage.write_bytes_atomic(str(folder / "index.json"), b"{}\n")
    for name in _ARRAYS:
        with storage.atomic_local(str(folder / f"{name}.npy")) as temporary, Path(temporary).open("wb") as file:
            np.save(file, getattr(index, name))
    about = {"made_of": made_of, "languages": index.languages, "reasons": index.reasons}
    storage.write_bytes_atomic(str(folder / "index.json"), (json.dumps(about) + "\n").encode())


def _holds(folder: Path, made_of: str) -> bool:
    try:
        return bool(_about(folder)["made_of"] == made_of)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _about(folder: Path) -> Mapping[str, Any]:
    return dict(json.loads((folder / "index.json").read_text(encoding="utf-8")))


def _opened(folder: Path) -> RowIndex:
    try:
        about = _about(folder)
        rows, groups, units = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS)
        return RowIndex(rows, groups, units, about["languages"], about["reasons"], folder)
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"{folder}: the index of data is damaged: {error}; remove the folder") from error
