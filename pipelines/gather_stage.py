"""All rows of one side in one place: distinct, in the order of their ids, centred, ready to be mapped into memory.

What a direction is mined from does not depend on how its inputs were cut into shards or in which order these came:
rows are sorted by id, of equal ids the first file's row is taken, and the mean is an exact sum. A few numbers of each
row are in memory, and embeddings and texts of some rows at a time.
"""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage, table_parts
from seamlessalign.embedders.card import unit_rows
from seamlessalign.embedders.reduction import Reduction
from seamlessalign.embedding_files import dimensions_in
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.languages import Side
from seamlessalign.mapped_tables import MappedTable, mappable, open_mapped, write_mappable
from seamlessalign.pipelines import decoys_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.search_sizes import gather_memory, over_memory
from seamlessalign.rows import SCHEMA_VERSION, segments_schema, sentences_schema

STAGE = "gather"
TABLE = "state/mining/sides"
BAD_EMBEDDING = "bad_embedding"  # NaN, Inf or all zeros: such a row is near to nothing

_AUDIO_COLUMNS = ["segment_id", "recording_id", "uri", "start", "end", "lang_prob"]
_TEXT_COLUMNS = ["sentence_id", "text", "lang_prob"]
_FRACTION = 2.0**36  # sums of unit rows are whole numbers of this fraction: exact in any order, to 134 million rows
MOST_ROWS = 1 << 27  # of which that sum keeps to 63 bits
NOTHING = 1e-5  # length below which what is left of a unit row is rounding
_ROWS = 1 << 16  # that are written at a time
_NUMBERS = 1 << 22  # of embeddings that are looked at at a time

Half = npt.NDArray[np.float16]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gathered:
    """The rows of one side as it is mined. Those from `num_rows` on are decoys, which its table does not have."""

    side: Side
    num_rows: int  # that can be paired
    rows: Half  # (num_rows + num_decoys, dim) centred rows of unit length, mapped into memory
    made_from: Indices | None  # (num_decoys, 2) rows that made decoys are made from, -1 for one not there

    @property
    def num_decoys(self) -> int:
        """Rows known to have no counterpart."""
        return len(self.rows) - self.num_rows


def process(side: Side, digest: str, context: Context) -> Mark:
    """Gather one side, write its rows and its table, and return the completion mark."""
    from seamlessalign.pipelines import reduce_stage

    watch, tally = Stopwatch(), Tally()
    source = _Files(context.side_files(side))
    if source.rows > MOST_ROWS:
        raise ConfigError(f"{side}: has {source.rows:,} rows, and one side can have {MOST_ROWS:,}: mine it in parts")
    told = over_memory(f"{side}: gathering its rows", gather_memory(source.rows), context.config.resources)
    if told is not None:
        raise ConfigError(told)
    uris = {kind: _uri(side, kind, context) for kind in ("arrow", "npy", "made.npy")}
    # nothing is there under its name until all is written
    with ExitStack() as files:
        paths = {kind: files.enter_context(storage.local_target(uri)) for kind, uri in uris.items()}
        with watch.step("gather"):
            good = source.good()
            with storage.scratch(uris["arrow"]) as scratch:
                unsorted = _spool(source, _columns(side), scratch, uris["arrow"])
                with storage.writing(uris["arrow"]):
                    order = _write_table(paths["arrow"], unsorted, good)
                _count(tally, side, unsorted, good, order)
                del unsorted
            mean = source.mean(order) if context.config.mining.centre and len(order) else np.zeros(source.dim)
            decoys = decoys_stage.of_side(side, context, source.dim)
        with watch.step("write rows"):
            with storage.writing(uris["npy"]):
                _write_rows(paths["npy"], source, order, mean, decoys, reduce_stage.load(context))
            made_from = _places(decoys.made_from, open_mapped(paths["arrow"]))
            with storage.writing(uris["made.npy"]):
                _save(paths["made.npy"], made_from)
    counts = {"rows": len(order), "decoys": len(decoys.rows), "digest": digest}
    storage.write_bytes_atomic(_uri(side, "json", context), json.dumps(counts).encode())
    outputs = [*uris.values(), _uri(side, "json", context)]
    line = tally.line(
        "mining_input", f"side={side}", digest=digest, seconds=watch.seconds,
        bytes_written=sum(map(storage.size, outputs)),
    )  # fmt: skip
    advance(STAGE, 1)
    return Mark(STAGE, f"side={side}", digest, [context.folder.relative(uri) for uri in outputs], [line])


def load(side: Side, context: Context) -> Gathered:
    """The rows of a side that was gathered. Raises StorageError naming a file that is damaged."""
    uri, counted = _uri(side, "npy", context), _uri(side, "json", context)
    try:
        counts = json.loads(storage.read_bytes(counted))
        num_rows, decoys = int(counts["rows"]), int(counts["decoys"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"does not say how many rows there are ({error}); remove it and run again"
        raise StorageError(f"{counted}: {told}") from error
    rows, made_from = _mapped(uri), _mapped(_uri(side, "made.npy", context))
    if len(rows) != num_rows + decoys:
        raise StorageError(
            f"{uri}: has {len(rows)} rows, its table {num_rows} and {decoys} decoys; remove it to gather it again"
        )
    return Gathered(side, num_rows, rows, made_from if len(made_from) else None)


def load_table(side: Side, context: Context) -> MappedTable:
    """The table of a side that was gathered, without embeddings. Raises StorageError where it is damaged."""
    uri = _uri(side, "arrow", context)
    with storage.local_copy(uri) as path:
        return open_mapped(path, uri)


def digest_parts(context: Context) -> list[Any]:
    """What a gathered side depends on besides its rows."""
    return ["gather mapped", SCHEMA_VERSION, context.config.mining.centre]


def spread_rows(side: Side, count: int, context: Context) -> npt.NDArray[np.float32]:
    """Rows spread evenly over those of a side, in the order of ids: of unit length, less the side's mean.

    float32 (at most count, dim), no more than there are; (0, 0) where there are none.
    """
    source, uri = _Files(context.side_files(side)), _uri(side, "spread", context)
    if not source.rows:
        return np.zeros((0, 0), np.float32)
    with storage.scratch(uri) as scratch:
        ids = _spool(source, _columns(side)[:1], scratch, uri)
        order = np.concatenate([rows for rows, _ in _first_of_each(ids, source.good())])
    centred = context.config.mining.centre and len(order)
    shift = source.mean(order) if centred else np.zeros(source.dim)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64))]
    rows = np.empty((len(chosen), source.dim), np.float32)
    for begin, part in source.embeddings():
        here = (chosen >= begin) & (chosen < begin + len(part))
        if here.any():
            rows[here] = unit_rows(part[chosen[here] - begin])
    return np.asarray(rows - shift, np.float32)


class _Files:
    """The Parquet files that the rows of a side lie in; rows are numbered through all of them."""

    def __init__(self, uris: list[str]) -> None:
        self.uris = uris
        footers = table_parts.footers(uris)
        self.sizes = [int(footers[uri].num_rows) for uri in uris]
        self.rows = sum(self.sizes)
        dims = [dimensions_in(footers[uri].schema.to_arrow_schema(), uri) for uri in uris]
        self.dim = dims[0] if dims else 0
        for uri, dim in zip(uris, dims, strict=True):
            if dim != self.dim:
                raise StorageError(f"{uri}: has {dim} dimensions, files before it {self.dim}: embed it again")

    def embeddings(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """All embeddings, some at a time, with the number of the first."""
        begin = 0
        for batch in self.batches(["embedding"], max(1, _NUMBERS // max(1, self.dim))):
            yield begin, storage.embeddings_of(batch).astype(np.float32)
            begin += len(batch)

    def batches(self, columns: list[str], rows: int = _ROWS) -> Iterator[pa.RecordBatch]:
        """Some columns, some rows at a time. Raises StorageError for a file that is damaged or changed meanwhile."""
        left = dict(zip(self.uris, self.sizes, strict=True))
        for uri, batch in table_parts.batches_of(self.uris, columns, rows):
            left[uri] -= len(batch)
            yield batch
        for uri, size in left.items():
            if size:
                raise StorageError(f"{uri}: changed while it was read; run again")

    def good(self) -> Bools:
        """Which rows have an embedding that can be compared."""
        good = np.zeros(self.rows, bool)
        for begin, rows in self.embeddings():
            norms = np.linalg.norm(rows.astype(np.float64), axis=1)
            good[begin : begin + len(rows)] = np.isfinite(norms) & (norms > 0)
        return good

    def mean(self, order: Indices) -> npt.NDArray[np.float64]:
        """The mean of the chosen rows made unit, the same to the last bit in whatever files they lie."""
        chosen = np.zeros(self.rows, bool)
        chosen[order] = True
        total = np.zeros(self.dim, np.int64)
        for begin, rows in self.embeddings():
            unit = unit_rows(rows[chosen[begin : begin + len(rows)]])
            total += np.rint(unit.astype(np.float64) * _FRACTION).astype(np.int64).sum(0)
        return np.asarray(total / _FRACTION / len(order), np.float64)


def _columns(side: Side) -> list[str]:
    """The columns of a side's table, its id first."""
    return _AUDIO_COLUMNS if side.is_audio else _TEXT_COLUMNS


def _spool(source: _Files, columns: list[str], path: Path, uri: str) -> MappedTable:
    """Columns of all files in one that is mapped into memory."""
    schema = segments_schema(1) if columns[0] == _AUDIO_COLUMNS[0] else sentences_schema(1)
    wanted = mappable(pa.schema([schema.field(column) for column in columns]))
    with storage.writing(uri):
        write_mappable(path, source.batches(columns), wanted)
    return open_mapped(path, uri)


def _first_of_each(table: MappedTable, good: Bools) -> Iterator[tuple[Indices, pa.Table]]:
    """Good rows in the order of their ids, of equal ids the first, some at a time with their lines of the table."""
    key = table.schema.names[0]
    order = pc.sort_indices(table.column(key)).to_numpy()  # stable
    order = order[good[order]]
    before = None
    yield np.zeros(0, np.int64), table.schema.empty_table()
    for begin in range(0, len(order), _ROWS):
        rows = order[begin : begin + _ROWS].astype(np.int64)
        lines = table.take(rows)
        ids = lines.column(key).combine_chunks()
        new = np.ones(len(ids), bool)
        new[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        new[0] = ids[0].as_py() != before
        before = ids[-1].as_py()
        yield rows[new], lines.filter(pa.array(new))


def _write_table(path: Path, table: MappedTable, good: Bools) -> Indices:
    """Write the lines of good rows, distinct and by id; returns which these are."""
    order = []

    def lines() -> Iterator[pa.Table]:
        for rows, part in _first_of_each(table, good):
            order.append(rows)
            yield part

    write_mappable(path, lines(), table.schema)
    return np.concatenate(order)


def _count(tally: Tally, side: Side, table: MappedTable, good: Bools, order: Indices) -> None:
    samples = np.zeros(len(table), np.int64)
    if side.is_audio:
        lengths = pc.subtract(table.column("end"), table.column("start"))
        samples = np.asarray(lengths.to_numpy(), np.int64)
    kept, bad = int(samples[order].sum()), int(samples[~good].sum())
    tally.keep(len(order), kept)
    tally.drop(BAD_EMBEDDING, int((~good).sum()), bad)
    tally.drop("duplicate", int(good.sum()) - len(order), int(samples.sum()) - bad - kept)


def _uri(side: Side, kind: str, context: Context) -> str:
    return storage.join(context.folder.table(TABLE), f"{side}.{kind}")


def _mapped(uri: str) -> npt.NDArray[Any]:
    """An array in a file, mapped into memory; of one that is not local a copy, which goes with the array."""
    try:
        return _map(uri) if storage.is_local(uri) else _map_copy(uri, storage.version(uri))
    except (ValueError, OSError, EOFError) as error:
        what = str(error).splitlines()[0]
        raise StorageError(f"{uri}: is not a whole array of rows ({what}); remove it to gather it again") from error


@lru_cache(maxsize=8)  # of a direction's two sides and of the next one's
def _map_copy(uri: str, version: str) -> npt.NDArray[Any]:
    """The same array for all tasks of this process that look at it, so that it is fetched once."""
    return _map(uri)


def _map(uri: str) -> npt.NDArray[Any]:
    with storage.local_copy(uri) as path:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped


def _places(made_from: list[list[str]], table: MappedTable) -> Indices:
    """Rows of a table, whose first column are distinct ids, for every decoy (num_decoys, 2); -1 for one not there."""
    wanted = pa.array([one for ids in made_from for one in ids], pa.large_string())
    names = pc.unique(wanted)
    place, begin = np.full(len(names) + 1, -1, np.int64), 0  # the last for what is not there
    for batch in table.batches:
        number = pc.fill_null(pc.index_in(batch.column(0), value_set=names), -1).to_numpy()
        here = np.flatnonzero(number >= 0)
        place[number[here]] = begin + here
        begin += len(batch)
    found: Indices = place[pc.index_in(wanted, value_set=names).to_numpy()].reshape(-1, 2)
    return found


def _write_rows(
    path: Path,
    source: _Files,
    order: Indices,
    mean: npt.NDArray[np.float64],
    decoys: decoys_stage.Decoys,
    reduction: Reduction | None,
) -> None:
    dim = source.dim
    shape = (len(order) + len(decoys.rows), reduction.dims[1] if reduction and dim else dim)
    if not all(shape):
        _save(path, np.zeros(shape, np.float16))
        return
    out = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    storage.reserve(path)
    place = np.full(source.rows, -1, np.int64)
    place[order] = np.arange(len(order))
    shift = mean.astype(np.float32)
    for begin, rows in source.embeddings():
        there = place[begin : begin + len(rows)]
        out[there[there >= 0]] = _reduced(_centred(rows[there >= 0], shift), reduction)
    if len(decoys.rows):
        centred = unit_rows(decoys.rows) if decoys.centred else _centred(decoys.rows, shift)
        out[len(order) :] = _reduced(centred, reduction)
    out.flush()


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a small array; numpy by itself does not say why a disk refuses."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def _centred(rows: npt.NDArray[np.float32], shift: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of unit length less the mean, of unit length again; what is the mean itself, as an only row is, stays."""
    unit = unit_rows(rows)
    centred = unit - shift
    nothing = np.linalg.norm(centred, axis=1) < NOTHING
    centred[nothing] = unit[nothing]
    return unit_rows(centred)


def _reduced(rows: npt.NDArray[np.float32], reduction: Reduction | None) -> Half:
    if reduction is None:
        return rows.astype(np.float16)
    reduced = reduction.apply(rows)
    if not np.isfinite(reduced).all():
        raise StorageError(f"of a row nothing is left in {reduction.dims[1]} dimensions: let mining.reduce keep more")
    return reduced.astype(np.float16)
