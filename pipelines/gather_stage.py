"""All rows of one side in one place: distinct, in the order of their ids, centred, ready to be mapped into memory.

What a direction is mined from does not depend on how its inputs were cut into shards or in which order these came:
rows are sorted by id, of equal ids the first file's row is taken, and the mean is an exact sum. One file of embeddings
is in memory at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.embedders.card import unit_rows
from seamlessalign.embedders.reduction import Reduction
from seamlessalign.errors import StorageError
from seamlessalign.languages import Side
from seamlessalign.pipelines import decoys_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.rows import SCHEMA_VERSION, segments_schema, sentences_schema

STAGE = "gather"
TABLE = "state/mining/sides"
BAD_EMBEDDING = "bad_embedding"  # NaN, Inf or all zeros: such a row is near to nothing

_AUDIO_COLUMNS = ["segment_id", "recording_id", "uri", "start", "end", "lang_prob"]
_TEXT_COLUMNS = ["sentence_id", "text", "lang_prob"]
_FRACTION = 2.0**36  # sums of unit rows are whole numbers of this fraction: exact in any order, to 134 million rows
NOTHING = 1e-5  # length below which what is left of a unit row is rounding

Half = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Gathered:
    """The rows of one side as it is mined. Those from `num_rows` on are decoys, which its table does not have."""

    side: Side
    num_rows: int  # that can be paired
    rows: Half  # (num_rows + num_decoys, dim) centred rows of unit length, mapped into memory where they are local
    made_from: npt.NDArray[np.int64] | None  # (num_decoys, 2) rows that made decoys are made from, -1 for one not there

    @property
    def num_decoys(self) -> int:
        """Rows known to have no counterpart."""
        return len(self.rows) - self.num_rows


def process(side: Side, digest: str, context: Context) -> Mark:
    """Gather one side, write its rows and its table, and return the completion mark."""
    from seamlessalign.pipelines import reduce_stage

    name, watch, tally = str(side), Stopwatch(), Tally()
    key = "segment_id" if side.is_audio else "sentence_id"
    columns = _AUDIO_COLUMNS if side.is_audio else _TEXT_COLUMNS
    uris = context.side_files(side)
    with watch.step("gather"):
        tables = [storage.read_table(uri, columns).replace_schema_metadata(None) for uri in uris]
        sizes = [len(table) for table in tables]
        schema = segments_schema(1) if side.is_audio else sentences_schema(1)
        empty = pa.schema([schema.field(column) for column in columns]).empty_table()
        table = pa.concat_tables(tables) if tables else empty
        good, dim = look_through(uris, sizes)
        ids = table.column(key).to_numpy(zero_copy_only=False).astype(str)
        candidates = np.flatnonzero(good)
        order = _first_of_each(ids, candidates)
        samples = _samples(table) if side.is_audio else np.zeros(len(table), np.int64)
        tally.keep(len(order), int(samples[order].sum()))
        tally.drop(BAD_EMBEDDING, int((~good).sum()), int(samples[~good].sum()))
        tally.drop("duplicate", len(candidates) - len(order), int(samples[candidates].sum() - samples[order].sum()))
        mean = mean_of(uris, sizes, order, dim) if context.config.mining.centre and len(order) else np.zeros(dim)
        decoys = decoys_stage.of_side(side, context, dim)
    with watch.step("write rows"):
        rows_uri, table_uri, made_uri = (_uri(name, kind, context) for kind in ("npy", "parquet", "made.npy"))
        with storage.local_target(rows_uri) as path:
            _write_rows(path, uris, sizes, order, mean, decoys, dim, reduce_stage.load(context))
        metadata = {"seamlessalign.digest": digest, "seamlessalign.decoys": str(len(decoys.rows))}
        written = storage.write_table(table_uri, table.take(pa.array(order)), metadata=metadata)
        made_from = _places(decoys.made_from, ids[order])
        with storage.local_target(made_uri) as path, path.open("wb") as file:
            np.save(file, made_from)
    line = tally.line(
        "mining_input", f"side={name}", digest=digest, seconds=watch.seconds,
        bytes_written=written + storage.size(rows_uri),
    )  # fmt: skip
    advance(STAGE, 1)
    outputs = [context.folder.relative(uri) for uri in (rows_uri, table_uri, made_uri)]
    return Mark(STAGE, f"side={name}", digest, outputs, [line])


def load(side: Side, context: Context) -> Gathered:
    """The rows of a side that was gathered. Raises StorageError naming a file that is damaged."""
    uri = _uri(str(side), "npy", context)
    num_rows, metadata = storage.footer(_uri(str(side), "parquet", context))
    decoys = int(metadata.get("seamlessalign.decoys", "0"))
    rows, made_from = _mapped(uri), _mapped(_uri(str(side), "made.npy", context))
    if len(rows) != num_rows + decoys:
        raise StorageError(
            f"{uri}: has {len(rows)} rows, its table {num_rows} and {decoys} decoys; remove it to gather it again"
        )
    return Gathered(side, num_rows, rows, made_from if len(made_from) else None)


def load_table(side: Side, context: Context) -> pa.Table:
    """The table of a side that was gathered, (num_rows,) without embeddings: more than all else that a task needs."""
    return storage.read_table(_uri(str(side), "parquet", context)).replace_schema_metadata(None)


def digest_parts(context: Context) -> list[Any]:
    """What a gathered side depends on besides its rows."""
    return ["gather", SCHEMA_VERSION, context.config.mining.centre]


def _uri(name: str, kind: str, context: Context) -> str:
    return storage.join(context.folder.table(TABLE), f"{name}.{kind}")


def _mapped(uri: str) -> npt.NDArray[Any]:
    """An array in a file: mapped into memory where it is local, read where it is not."""
    try:
        if storage.is_local(uri):
            mapped: npt.NDArray[Any] = np.load(storage.local_path(uri), mmap_mode="r", allow_pickle=False)
            return mapped
        with storage.local_copy(uri) as path:
            read: npt.NDArray[Any] = np.load(path, allow_pickle=False)
            return read
    except (ValueError, OSError, EOFError) as error:
        what = str(error).splitlines()[0]
        raise StorageError(f"{uri}: is not a whole array of rows ({what}); remove it to gather it again") from error


def _places(made_from: list[list[str]], ids: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Rows of ids, which ascend, for every decoy (num_decoys, 2)."""
    wanted = np.array(made_from, dtype=ids.dtype if len(ids) else "U1").reshape(-1, 2)
    place = np.minimum(np.searchsorted(ids, wanted), max(len(ids) - 1, 0))
    if not len(ids):
        return np.full(wanted.shape, -1, np.int64)
    return np.where(ids[place] == wanted, place, -1).astype(np.int64)


def embeddings(uri: str, rows: int) -> npt.NDArray[np.float32]:
    table = storage.read_table(uri, ["embedding"])
    if len(table) != rows:
        raise StorageError(f"{uri}: changed while it was read; run again")
    return storage.embeddings_of(table).astype(np.float32)


def look_through(uris: list[str], sizes: list[int]) -> tuple[npt.NDArray[np.bool_], int]:
    """Which rows have an embedding that can be compared, and the dimensions of all."""
    good, dims = [np.zeros(0, bool)], set()
    for uri, size in zip(uris, sizes, strict=True):
        rows = embeddings(uri, size)
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        good.append(np.isfinite(norms) & (norms > 0))
        dims.add(rows.shape[1])
        if len(dims) > 1:
            raise StorageError(f"{uri}: has {rows.shape[1]} dimensions, files before it {min(dims)}: embed it again")
    return np.concatenate(good), dims.pop() if dims else 0


def mean_of(uris: list[str], sizes: list[int], order: npt.NDArray[np.int64], dim: int) -> npt.NDArray[np.float64]:
    """The mean of the chosen rows, the same to the last bit in whatever files they lie."""
    chosen = np.zeros(sum(sizes), bool)
    chosen[order] = True
    total, begin = np.zeros(dim, np.int64), 0
    for uri, size in zip(uris, sizes, strict=True):
        rows = embeddings(uri, size)[chosen[begin : begin + size]]
        begin += size
        for start in range(0, len(rows), 4096):
            unit = unit_rows(rows[start : start + 4096])
            total += np.rint(unit.astype(np.float64) * _FRACTION).astype(np.int64).sum(0)
    return np.asarray(total / _FRACTION / len(order), np.float64)


def spread_rows(side: Side, count: int, context: Context) -> npt.NDArray[np.float32]:
    """Rows spread evenly over those of a side, in the order of ids: of unit length, less the side's mean.

    float32 (at most count, dim), no more than there are; (0, 0) where there are none.
    """
    key = "segment_id" if side.is_audio else "sentence_id"
    uris = context.side_files(side)
    tables = [storage.read_table(uri, [key]) for uri in uris]
    sizes = [len(table) for table in tables]
    if not sum(sizes):
        return np.zeros((0, 0), np.float32)
    good, dim = look_through(uris, sizes)
    ids = np.concatenate([table.column(key).to_numpy(zero_copy_only=False).astype(str) for table in tables])
    order = _first_of_each(ids, np.flatnonzero(good))
    shift = mean_of(uris, sizes, order, dim) if context.config.mining.centre and len(order) else np.zeros(dim)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64))]
    rows, begin = np.empty((len(chosen), dim), np.float32), 0
    for uri, size in zip(uris, sizes, strict=True):
        here = (chosen >= begin) & (chosen < begin + size)
        if here.any():
            rows[here] = unit_rows(embeddings(uri, size)[chosen[here] - begin])
        begin += size
    return np.asarray(rows - shift, np.float32)


def _first_of_each(ids: npt.NDArray[np.str_], candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows in the order of their ids, of equal ids the first."""
    return candidates[np.unique(ids[candidates], return_index=True)[1]]


def _write_rows(
    path: Path,
    uris: list[str],
    sizes: list[int],
    order: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float64],
    decoys: decoys_stage.Decoys,
    dim: int,
    reduction: Reduction | None,
) -> None:
    shape = (len(order) + len(decoys.rows), reduction.dims[1] if reduction and dim else dim)
    if not all(shape):
        with path.open("wb") as file:
            np.save(file, np.zeros(shape, np.float16))
        return
    out = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    storage.reserve(path)
    place = np.full(sum(sizes), -1, np.int64)
    place[order] = np.arange(len(order))
    shift, begin = mean.astype(np.float32), 0
    for uri, size in zip(uris, sizes, strict=True):
        there = place[begin : begin + size]
        begin += size
        rows = embeddings(uri, size)
        out[there[there >= 0]] = _reduced(_centred(rows[there >= 0], shift), reduction)
    if len(decoys.rows):
        centred = unit_rows(decoys.rows) if decoys.centred else _centred(decoys.rows, shift)
        out[len(order) :] = _reduced(centred, reduction)
    out.flush()


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


def _samples(table: pa.Table) -> npt.NDArray[np.int64]:
    lengths = pc.subtract(table.column("end"), table.column("start"))
    return np.asarray(lengths.to_numpy(), np.int64)
