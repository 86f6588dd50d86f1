"""Whether sides, pairs and corpus are what came of segments and sentences, by id and by samples.

In memory are the sides' rows as 8 bytes each (`SideRows`), and of one direction at a time up to 32 bytes for each pair.
"""

import json
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.languages import Direction, Side
from seamlessalign.mapped_tables import open_mapped
from seamlessalign.pipelines.corpus_stage import PAIRS_PER_SHARD
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.row_ids import (
    Numbers,
    are_in,
    num_distinct,
    numbers_of_hex,
    numbers_of_spans,
    pair_numbers,
    repeated,
    segment_ids,
    sorted_together,
    spans_of_ids,
)
from seamlessalign.pipelines.verify_files import Check, Marked, line_of
from seamlessalign.pipelines.verify_rows import SideRows, Sides, batches_of, hours, tell_ids
from seamlessalign.rows import LedgerLine

_PAIR = ["pair_id", "direction", "src_id", "tgt_id", "src_start", "src_end", "tgt_start", "tgt_end"]
_MOST_NAMED = 5

Int64 = npt.NDArray[np.int64]


def check_gather(check: Check, marked: Marked, sides: Sides) -> None:
    """Every row of a side is in its gathered table once, or was dropped as a duplicate or for its embedding."""
    rows = kept = 0
    for mark in marked.shards("gather"):
        line, where = line_of(mark, "mining_input"), f"gather {mark.shard}"
        if line is None:
            check.tell(where, "its mark has no ledger line")
            continue
        side = Side.parse(mark.shard.removeprefix("side="))
        source = sides.get((side.is_audio, side.lang), SideRows(side))
        check.compare(where, "rows of its side", source.rows, line.rows_in)
        if side.is_audio:
            check.compare(where, "samples of its side", source.samples, line.samples_in)
        name = f"state/mining/sides/{side}.arrow"
        if name not in marked.present:
            continue  # told with the files
        try:
            counted, samples = _check_gathered(check, f"{where}: {name}", marked.uri(name), source)
        except (StorageError, OSError, KeyError, pa.ArrowException) as error:
            check.tell(where, f"{name}: cannot be read: {str(error).splitlines()[0]}")
            continue
        check.compare(where, "rows gathered", counted, line.rows_kept)
        if side.is_audio:
            check.compare(where, "samples gathered", samples, line.samples_kept)
        missing = num_distinct(source.ordered) - counted
        if not 0 <= missing <= line.dropped.get("bad_embedding", 0):
            bad = line.dropped.get("bad_embedding", 0)
            check.tell(where, f"{missing} ids of its side are not gathered, and {bad} rows have bad embeddings")
        _check_counts(check, where, marked, side, counted)
        rows, kept = rows + source.rows, kept + counted
    check.summary = f"{rows} rows of all sides, {kept} distinct ids gathered"


def check_search(check: Check, marked: Marked) -> None:
    """Every task of the search has found neighbours for as many rows as its name says."""
    rows = tasks = 0
    for mark in marked.shards("search"):
        first, last = map(int, mark.shard.rpartition(".")[2].split("-")[1:3])
        line = line_of(mark, "search")
        for told in (line.rows_in, line.rows_kept) if line else (0,):
            check.compare(f"search {mark.shard}", "rows searched", last - first, told)
        rows, tasks = rows + last - first, tasks + 1
    check.summary = f"{tasks} tasks, {rows} rows with their neighbours"


def check_pairs(check: Check, corpus: Check, marked: Marked, sides: Sides) -> None:
    """Every pair is one of two rows of its sides, once, and kept or dropped for a reason; every kept one is in the
    corpus or was dropped there.
    """
    totals: Counter[str] = Counter()
    for mark in marked.shards("mine"):
        line, where = line_of(mark, "pairs"), f"mine {mark.shard}"
        if line is None:
            check.tell(where, "its mark has no ledger line")
            continue
        kept = _check_direction(check, where, marked, mark, line, sides, totals)
        _check_corpus(corpus, marked, mark, kept, totals)
    check.summary = (
        f"{totals['pairs']} ids, {hours(totals['samples'])} h; kept {totals['kept']}, {hours(totals['samples kept'])} h"
    )
    corpus.summary = f"{totals['corpus']} ids of {totals['kept']} kept pairs, {hours(totals['samples in corpus'])} h"


def _check_gathered(check: Check, where: str, uri: str, source: SideRows) -> tuple[int, int]:
    """Ids of a gathered table rise and are those of the side's rows; returns how many, and their samples."""
    counted, samples, before = 0, 0, ""
    with storage.local_copy(uri) as path:
        for batch in open_mapped(path, uri).batches:
            ids = batch.column(0)
            if source.side.is_audio:
                columns = [batch.column(name) for name in ("recording_id", "start", "end")]
                columns[0] = columns[0].cast(pa.string())
                numbers = numbers_of_spans(*columns)
                tell_ids(check, where, ids, _differ(ids, segment_ids(*columns)), "is not recording_id:start-end")
                samples += pc.sum(pc.subtract(columns[2], columns[1])).as_py() or 0
            else:
                numbers, good = numbers_of_hex(ids)
                tell_ids(check, where, ids, ~good, "is no id of a sentence")
            tell_ids(check, where, ids, ~are_in(numbers, source.ordered), "is no id of its side")
            rises = np.ones(len(ids), bool)
            rises[1:] = pc.greater(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
            rises[0] = ids[0].as_py() > before
            tell_ids(check, where, ids, ~rises, "does not come behind the id before it")
            before = ids[-1].as_py()
            counted += len(batch)
    return counted, samples


def _check_counts(check: Check, where: str, marked: Marked, side: Side, counted: int) -> None:
    """The file of counts and the rows to be searched agree with the table."""
    name, rows = f"state/mining/sides/{side}.json", f"state/mining/sides/{side}.npy"
    if not {name, rows} <= marked.present:
        return
    try:
        counts: dict[str, Any] = json.loads(storage.read_bytes(marked.uri(name)))
        told, decoys = int(counts["rows"]), int(counts["decoys"])
        with storage.open_read(marked.uri(rows)) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            size = file.tell() + int(np.prod(shape)) * dtype.itemsize
    except (ValueError, KeyError, TypeError, OSError) as error:
        check.tell(where, f"{marked.uri(name)} or {marked.uri(rows)} is damaged: {error}")
        return
    if told != counted or shape[0] != counted + decoys:
        check.tell(where, f"{counted} rows gathered, {name} says {told} and {decoys} decoys, {rows} has {shape[0]}")
    if storage.size(marked.uri(rows)) != size:
        check.tell(where, f"{rows} has {storage.size(marked.uri(rows))} bytes of {size}")


def _check_direction(
    check: Check, where: str, marked: Marked, mark: Mark, line: LedgerLine, sides: Sides, totals: Counter[str]
) -> Numbers:
    """The pairs of one direction; returns the numbers of those that are kept, sorted."""
    name = mark.shard.removeprefix("direction=")
    direction = Direction.parse(name)
    parts, kept, rows, samples = [], [], Counter[str | None](), Counter[str | None]()  # type: ignore[var-annotated]
    for file in marked.files(mark, "pairs"):
        place = f"{where}: {file}"
        for batch in batches_of(marked, mark, file, [*_PAIR, "kept", "drop_reason"], check):
            numbers = _check_pair_ids(check, place, batch, name)
            for which, side in (("src", direction.src), ("tgt", direction.tgt)):
                _check_side_of_pairs(check, place, batch, which, side, sides)
            stays = np.asarray(batch.column("kept").to_numpy(zero_copy_only=False), bool)
            reasons = batch.column("drop_reason")
            without = reasons.is_null().to_numpy(zero_copy_only=False)
            ids = batch.column("pair_id")
            tell_ids(check, place, ids, stays & ~without, "is kept and has a drop_reason")
            tell_ids(check, place, ids, ~stays & without, "is not kept and has no drop_reason")
            _count(batch, direction, rows, samples)
            parts.append(numbers)
            kept.append(numbers[stays])
    ordered = sorted_together(parts)
    for number in repeated(ordered)[:_MOST_NAMED].tolist():
        check.tell(where, f"pair {number:016x} is there more than once")
    totals.update({"pairs": len(ordered), "samples": sum(samples.values()), "samples kept": samples[None]})
    check.compare(where, "pairs kept", rows.pop(None, 0), line.rows_kept)
    check.compare(where, "samples kept", samples.pop(None, 0), line.samples_kept)
    for reason in sorted({*line.dropped, *line.samples_dropped, *map(str, rows)}):
        check.compare(where, f"pairs dropped as {reason}", rows[reason], line.dropped.get(reason, 0))
        check.compare(where, f"samples dropped as {reason}", samples[reason], line.samples_dropped.get(reason, 0))
    whole = sorted_together(kept)
    totals["kept"] += len(whole)
    return whole


def _check_pair_ids(check: Check, where: str, batch: pa.RecordBatch, direction: str) -> Numbers:
    ids = batch.column("pair_id")
    numbers, good = numbers_of_hex(ids)
    right = good & (numbers == pair_numbers(batch.column("src_id"), batch.column("tgt_id")))
    tell_ids(check, where, ids, ~right, "is not the id of its two rows")
    other = pc.not_equal(batch.column("direction"), direction).to_numpy(zero_copy_only=False)
    tell_ids(check, where, ids, other, "is of another direction")
    return numbers


def _check_side_of_pairs(check: Check, where: str, batch: pa.RecordBatch, which: str, side: Side, sides: Sides) -> None:
    """One side of some pairs is a row of its table, with the times that its id has."""
    ids, pairs = batch.column(f"{which}_id"), batch.column("pair_id")
    ordered = sides[side.is_audio, side.lang].ordered
    table = "segments" if side.is_audio else "sentences"
    if side.is_audio:
        recordings, starts, ends = spans_of_ids(ids)
        whole = recordings.is_valid().to_numpy(zero_copy_only=False)
        wrong = ~whole
        for edge, inside in (("start", starts), ("end", ends)):
            wrong |= _differ(batch.column(f"{which}_{edge}"), inside)
        tell_ids(check, where, pairs, wrong, f"has times on its side {which} that {which}_id has not")
        numbers = numbers_of_spans(
            *(pc.fill_null(part, "" if part is recordings else 0) for part in (recordings, starts, ends))
        )
    else:
        numbers, whole = numbers_of_hex(ids)
    tell_ids(check, where, pairs, ~(whole & are_in(numbers, ordered)), f"has a {which}_id that {table} have not")


def _check_corpus(check: Check, marked: Marked, mined: Mark, kept: Numbers, totals: Counter[str]) -> None:
    """Kept pairs are in the table that the corpus is cut from, and each of these in the corpus or dropped there."""
    name = mined.shard.removeprefix("direction=")
    direction, where = Direction.parse(name), f"mine {mined.shard}"
    parts, lengths, uris = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], set[str]()
    origins = marked.files(mined, f"state/mining/kept/{mined.shard}/recordings.parquet", whole=True)
    for file in marked.files(mined, "state/mining/kept"):
        if file in origins:
            continue
        for batch in batches_of(marked, mined, file, [*_PAIR, "src_uri", "tgt_uri"], check):
            for which in ("src_uri", "tgt_uri"):
                uris.update(pc.unique(batch.column(which).drop_null()).to_pylist())
            parts.append(_check_pair_ids(check, f"{where}: {file}", batch, name))
            lengths.append(_samples(batch, direction))
    ordered, samples = np.concatenate(parts), np.concatenate(lengths)
    for file in origins:
        found = [
            uri for batch in batches_of(marked, mined, file, ["uri"], check) for uri in batch.column(0).to_pylist()
        ]
        if sorted(found) != sorted(uris):
            check.tell(
                where, f"{file} has {len(found)} recordings, not the {len(uris)} that the pairs to be cut are of"
            )
    if not np.array_equal(np.sort(ordered), kept):
        check.tell(where, f"the {len(ordered)} pairs to be cut are not the {len(kept)} that are kept in pairs")
    planned = {f"{mined.shard}.part-{i:05d}" for i in range(-(-len(ordered) // PAIRS_PER_SHARD))}
    shards = {mark.shard: mark for mark in marked.shards("corpus") if mark.shard.startswith(f"{mined.shard}.part-")}
    for shard in sorted(planned ^ shards.keys()):
        check.tell(f"corpus {shard}", "is not done" if shard in planned else "has no pairs to be cut")
    for shard in sorted(planned & shards.keys()):
        first = int(shard.rpartition("-")[2]) * PAIRS_PER_SHARD
        some = slice(first, first + PAIRS_PER_SHARD)
        _check_corpus_shard(check, marked, shards[shard], ordered[some], samples[some], totals)


def _check_corpus_shard(
    check: Check, marked: Marked, mark: Mark, wanted: Numbers, samples: Int64, totals: Counter[str]
) -> None:
    """The rows of a shard of the corpus are its pairs, less as many as were dropped."""
    where, line = f"corpus {mark.shard}", line_of(mark, "corpus")
    name = mark.shard.removeprefix("direction=").rpartition(".")[0]
    if line is None:
        check.tell(where, "its mark has no ledger line")
        return
    found = [np.zeros(0, np.uint64)]
    for file in marked.files(mark, "corpus"):
        for batch in batches_of(marked, mark, file, ["pair_id", "direction", "src_id", "tgt_id"], check):
            numbers = _check_pair_ids(check, f"{where}: {file}", batch, name)
            strange = ~are_in(numbers, np.sort(wanted))
            tell_ids(check, f"{where}: {file}", batch.column("pair_id"), strange, "is no kept pair of this shard")
            found.append(numbers)
    ordered = sorted_together(found)
    for number in repeated(ordered)[:_MOST_NAMED].tolist():
        check.tell(where, f"pair {number:016x} is there more than once")
    there = are_in(wanted, ordered)
    missing, told = int((~there).sum()), sum(line.dropped.values())
    check.compare(where, "kept pairs come in", len(wanted), line.rows_in)
    check.compare(where, "samples come in", int(samples.sum()), line.samples_in)
    check.compare(where, "pairs with audio", int(there.sum()), line.rows_kept)
    check.compare(where, "samples of pairs with audio", int(samples[there].sum()), line.samples_kept)
    if missing != told:
        first = ", ".join(f"{number:016x}" for number in wanted[~there][:_MOST_NAMED].tolist())
        check.tell(where, f"{missing} kept pairs are not in it, {told} were dropped: {first or 'none'}")
    elif int(samples[~there].sum()) != sum(line.samples_dropped.values()):
        dropped = sum(line.samples_dropped.values())
        check.tell(where, f"the pairs that are not in it have {int(samples[~there].sum())} samples, not {dropped}")
    totals.update({"corpus": int(there.sum()), "samples in corpus": int(samples[there].sum())})


def _count(batch: pa.RecordBatch, direction: Direction, rows: Counter[Any], samples: Counter[Any]) -> None:
    """Count rows and samples by reason; None for those without."""
    table = pa.table({"reason": batch.column("drop_reason"), "samples": _samples(batch, direction)})
    for row in table.group_by("reason").aggregate([("samples", "count"), ("samples", "sum")]).to_pylist():
        rows[row["reason"]] += row["samples_count"]
        samples[row["reason"]] += row["samples_sum"]


def _samples(batch: pa.RecordBatch, direction: Direction) -> Int64:
    """Samples of the first side of pairs that is audio, as the ledger counts them."""
    which = "src" if direction.src.is_audio else "tgt"
    lengths = pc.subtract(batch.column(f"{which}_end"), batch.column(f"{which}_start"))
    return np.asarray(pc.fill_null(lengths, 0).to_numpy(), np.int64)


def _differ(left: pa.Array, right: pa.Array) -> npt.NDArray[np.bool_]:
    """Which values are not the same, a null being unlike all."""
    same = pc.fill_null(pc.equal(left.cast(right.type), right), False)
    return ~np.asarray(same.to_numpy(zero_copy_only=False), bool)
