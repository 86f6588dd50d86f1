"""The columns of a direction that counts, filters and orders read, unpacked into files that are mapped into memory.

Parquet has to be decompressed for whatever is asked; ten million texts take two seconds of the processor each time.
Unpacked, as Arrow's IPC files, they take a fifth of that. They are a cache: made beside the tables, in the folder
`state/unpacked` of the run, of the same rows in the same order, and never needed. A file is named by the parts that it
was made from (their names, sizes and times) and appears whole or not at all; two servers that make one at the same time
make the same. Where the folder may not be written to, one is made where temporary files are, with no name, and goes
with the process. Where there is no room for it none is made.

What is mapped is not this process's own memory: the system reads it when it is looked at and lets go of it as it needs.
"""

import contextlib
import json
import logging
import mmap
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.pair_columns import FOLDED
from seamlessalign.pipelines.run_tables import RunTables

Group = Literal["numbers", "texts"]

GROUPS: tuple[Group, ...] = ("numbers", "texts")  # in the order in which they are made: a file of each
WORTH = 500_000  # pairs of a direction from which on it pays
_VERSION = 1  # of what is in the files
_ROWS = 122_880  # of a batch: as many as DuckDB takes at a time
_MOST_RECORDINGS = 100_000  # by which pairs are numbered; where there are more, their names are left out
_NUMBERS = ("margin", "cosine", "forward_rank", "backward_rank", "precision_estimate", "kept")
_ABANDONED = 3600.0  # seconds after which a file that is being written is one that nobody writes
_log = logging.getLogger(__name__)


class Ended(Exception):
    """It was not to be gone on with."""


def is_worth(tables: RunTables, direction: str) -> bool:
    """Whether a direction has so many pairs that unpacking them pays. Raises StorageError."""
    if not storage.is_local(tables.root):  # rows are found again by their files, which a store does not have
        return False
    return sum(storage.num_rows(uri) for uri in tables.parts["pairs"][direction]) >= WORTH


def find_unpacked(tables: RunTables, direction: str, group: Group) -> pa.Table | None:
    """A group of columns of a direction, mapped into memory; None where nobody has made it.

    Rows lie as in the direction's parts. `numbers` has `part`, a place among `part_paths`, and `file_row_number`.
    """
    with contextlib.suppress(SeamlessAlignError, pa.ArrowException, OSError, ValueError):  # or it is damaged
        parts = part_paths(tables, direction)
        return _mapped(_place(tables, direction, group, parts), parts)
    return None


def make_unpacked(
    tables: RunTables, direction: str, group: Group, *, keep: bool, go_on: Callable[[], bool] = lambda: True
) -> pa.Table | None:
    """Make what `find_unpacked` finds, and return it.

    None where it cannot be made: a full disk, a part that is damaged or has pairs of another direction. keep: whether
    a file may stay in the run's folder. Raises Ended once `go_on` is no more true.
    """
    try:
        return _made(tables, direction, group, keep, go_on)
    except (SeamlessAlignError, pa.ArrowException, OSError, ValueError) as error:
        _log.info("%s: %s of %s are not unpacked: %s", tables.root, group, direction, error)
        return None


def _made(tables: RunTables, direction: str, group: Group, keep: bool, go_on: Callable[[], bool]) -> pa.Table | None:
    parts = part_paths(tables, direction)
    making = _Making(tables.root, direction, parts, go_on)
    if not making.has(group) or not all(_is_of(direction, part) for part in parts):
        return None
    needed, path = _needed(parts, group), _place(tables, direction, group, parts)
    if keep and _has_room(storage.local_path(tables.root), needed):
        with contextlib.suppress(SeamlessAlignError), storage.atomic_local(str(path)) as temporary:
            _remove_others(path.parent, direction, group)
            with temporary.open("wb") as file:
                making.write(group, file)
            return _mapped(temporary, parts)  # may be used while it is being brought to the disk
    if not _has_room(Path(tempfile.gettempdir()), needed):
        return None
    with tempfile.TemporaryFile(prefix="seamlessalign-") as nameless:
        making.write(group, cast(BinaryIO, nameless))
        nameless.flush()
        return _read(mmap.mmap(nameless.fileno(), 0, access=mmap.ACCESS_READ), parts)


def part_paths(tables: RunTables, direction: str) -> list[str]:
    """Paths of the parts of a direction's pairs in a local run, as DuckDB has them, sorted."""
    return sorted(str(storage.local_path(uri).absolute()) for uri in tables.parts["pairs"][direction])


def _place(tables: RunTables, direction: str, group: Group, parts: list[str]) -> Path:
    folder = storage.local_path(RunFolder(tables.root).unpacked)
    return folder / f"{direction}-{group}-{_digest(parts)}.arrow"


def _digest(parts: list[str]) -> str:
    told = [[Path(part).name, storage.version(part)] for part in parts]
    return xxhash.xxh3_64_hexdigest(json.dumps([_VERSION, version("duckdb"), told]).encode())


def _has_room(folder: Path, needed: int) -> bool:
    """Whether a folder's disk has twice what is needed."""
    try:
        return shutil.disk_usage(folder).free >= 2 * needed
    except OSError:
        return False


def _needed(parts: list[str], group: Group) -> int:
    """Bytes that a group takes, about."""
    rows = sum(storage.num_rows(part) for part in parts)
    if group == "numbers":
        return 72 * rows
    return 16 * rows + sum(_column_bytes(part, column) for part in parts for column in ("src_text", "tgt_text"))


def _column_bytes(part: str, column: str) -> int:
    with pq.ParquetFile(part) as file:
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        place = file.schema_arrow.get_field_index(column)
        return sum(group.column(place).total_uncompressed_size for group in groups)


def _is_of(direction: str, part: str) -> bool:
    """Whether the footer of a part tells that all its pairs are of a direction."""
    with pq.ParquetFile(part) as file:
        place = file.schema_arrow.get_field_index("direction")
        told = [file.metadata.row_group(number).column(place).statistics for number in range(file.num_row_groups)]
    return all(one is not None and one.has_min_max and one.min == one.max == direction for one in told)


def _remove_others(folder: Path, direction: str, group: Group) -> None:
    """Remove what was made of other parts, and what killed servers left. A server that has them mapped keeps them."""
    for path in folder.glob(f"{direction}-{group}-*.arrow"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f"{storage.TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)


# Reading


def _mapped(path: Path, parts: list[str]) -> pa.Table:
    with path.open("rb") as file:
        return _read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), parts)


def _read(mapped: mmap.mmap, parts: list[str]) -> pa.Table:
    """The table of a file. Raises pyarrow.ArrowInvalid where that is not whole."""
    if hasattr(mmap, "MADV_WILLNEED"):
        mapped.madvise(mmap.MADV_WILLNEED)  # as it may have to come from a disk
    with pa.ipc.open_file(pa.py_buffer(mapped)) as file:
        table = file.read_all()
    table.validate()
    if table.num_rows != sum(storage.num_rows(part) for part in parts):
        raise pa.ArrowInvalid("it has other rows than its parts")
    return table


# Making


class _Making:
    """Writes the columns of a direction."""

    def __init__(self, root: str, direction: str, parts: list[str], go_on: Callable[[], bool]) -> None:
        self._root, self._direction, self._parts, self._go_on = root, direction, parts, go_on
        sides = {"src": Direction.parse(direction).src, "tgt": Direction.parse(direction).tgt}
        self._speech = [name for name, side in sides.items() if side.is_audio]
        self._text = [name for name, side in sides.items() if not side.is_audio]

    def has(self, group: Group) -> bool:
        """Whether the direction has such columns."""
        return group == "numbers" or bool(self._text)

    def write(self, group: Group, file: BinaryIO) -> None:
        """Write a group to a file."""
        with RunTables(self._root, threads=1) as tables:  # whose questions are asked in this thread, and no other
            batches = self._numbers(tables) if group == "numbers" else self._texts(tables)
            first = next(batches)
            with pa.ipc.new_file(file, first.schema) as writer:
                for batch in chain([first], batches):
                    if not self._go_on():
                        raise Ended
                    writer.write_batch(batch)

    def _numbers(self, tables: RunTables) -> Iterator[pa.RecordBatch]:
        coded = {"drop_reason": self._values(tables, "drop_reason")}
        coded |= {name: self._values(tables, name) for name in (f"{side}_uri" for side in self._speech)}
        coded = {name: values for name, values in coded.items() if len(values) <= _MOST_RECORDINGS}
        ends = [f"{side}_{end}" for side in self._speech for end in ("start", "end")]
        for number, part in enumerate(self._parts):
            with pq.ParquetFile(part, read_dictionary=list(coded), page_checksum_verification=True) as file:
                place = 0
                for batch in file.iter_batches(_ROWS, columns=[*_NUMBERS, *ends, *coded], use_threads=False):
                    columns: dict[str, Any] = {name: batch[name] for name in (*_NUMBERS, *ends)}
                    columns |= {name: _as_coded(batch[name], values) for name, values in coded.items()}
                    columns["part"] = pa.array(np.full(len(batch), number, np.int16))
                    columns["file_row_number"] = pa.array(np.arange(place, place + len(batch)), pa.int32())
                    place += len(batch)
                    yield pa.RecordBatch.from_pydict(columns)

    def _texts(self, tables: RunTables) -> Iterator[pa.RecordBatch]:
        wanted = [
            f"length({side}_text)::int as {side}_chars, lower({side}_text) as {side}_text{FOLDED}"
            for side in self._text
        ]
        for part in self._parts:
            query = f"select {', '.join(wanted)} from pairs where filename = ?"
            yield from tables.batches(query, [part], _ROWS)

    def _values(self, tables: RunTables, column: str) -> pa.Array:
        """Different values of a column, one more than are numbered at most; sorted."""
        query = f'select distinct "{column}" as value from pairs where direction = ? and "{column}" is not null'
        found = tables.ask(f"{query} order by 1 limit {_MOST_RECORDINGS + 1}", [self._direction])["value"]
        return found.combine_chunks().cast(pa.string())


def _as_coded(column: pa.DictionaryArray, values: pa.Array) -> pa.DictionaryArray:
    """The same values, numbered as in `values`."""
    numbers = pc.index_in(column.dictionary, value_set=values)
    return pa.DictionaryArray.from_arrays(numbers.take(column.indices), values)
