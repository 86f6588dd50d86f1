"""Segments and sentences → pairs of one direction: centre, mine, choose, filter, resolve overlaps.

Every candidate that the strategy puts forward is written, kept or not, with its scores and the reason why not.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.config import FiltersConfig, MiningConfig
from seamlessalign.embedders import load_card
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.errors import ModelError
from seamlessalign.languages import Direction, Side
from seamlessalign.mining import mine_candidates
from seamlessalign.mining.filters import chars_per_second, duration, duration_ratio, first_reason
from seamlessalign.mining.overlap import resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.rows import PAIRS, SAMPLE_RATE, pair_id

STAGE = "mine"
Float32 = npt.NDArray[np.float32]

_AUDIO_COLUMNS = ["segment_id", "recording_id", "uri", "start", "end", "embedding"]
_TEXT_COLUMNS = ["sentence_id", "text", "embedding"]


@dataclass(frozen=True)
class MinedSide:
    """Distinct rows of one side: its table without embeddings, and its centred unit rows `(num_rows, dim)`."""

    side: Side
    table: pa.Table
    rows: Float32
    tally: Tally  # rows read, and those dropped as duplicates


@dataclass(frozen=True)
class ChosenThreshold:
    """A margin threshold and where it comes from, for people."""

    value: float
    origin: str


def process(name: str, digest: str, context: Context) -> Mark:
    """Mine one direction, write its pairs, and return its completion mark."""
    direction, mining = Direction.parse(name), context.config.mining
    shard = f"direction={name}"
    watch = Stopwatch()
    with watch.step("load rows"):
        src = load_side(direction.src, context)
        tgt = load_side(direction.tgt, context)
    threshold = choose_threshold(direction, context)
    with watch.step("mine"):
        candidates = candidates_of(src, tgt, mining)
    with watch.step("choose"):
        kept, reasons = choose(src, tgt, candidates, mining, threshold.value)
    pairs = pairs_table(name, src, tgt, candidates, kept, reasons)
    uri = context.folder.table("pairs", shard, "part-00000")
    metadata = {
        "seamlessalign.digest": digest,
        "seamlessalign.threshold": repr(threshold.value),
        "seamlessalign.threshold_origin": threshold.origin,
        "seamlessalign.mining": json.dumps(mining.model_dump(mode="json"), sort_keys=True),
    }
    written = storage.write_table(uri, pairs, metadata=metadata)
    tally = _tally(pairs)
    lines = [
        src.tally.line("mining_input", f"{shard}.{src.side}", digest=digest),
        tgt.tally.line("mining_input", f"{shard}.{tgt.side}", digest=digest),
        tally.line("pairs", shard, digest=digest, seconds=watch.seconds, bytes_written=written),
    ]
    advance(STAGE, 1)
    return Mark(STAGE, shard, digest, [context.folder.relative(uri)], lines)


def load_side(side: Side, context: Context) -> MinedSide:
    """Read one side's rows in the order of their files, the first of each id only, and centre them."""
    folder = context.folder.table("segments" if side.is_audio else "sentences", f"lang={side.lang}")
    key = "segment_id" if side.is_audio else "sentence_id"
    columns = _AUDIO_COLUMNS if side.is_audio else _TEXT_COLUMNS
    tables = [storage.read_table(uri, columns) for uri in storage.list_files(folder, ".parquet")]
    tally = Tally()
    if not tables:
        return MinedSide(side, pa.table({name: [] for name in columns[:-1]}), np.zeros((0, 0), np.float32), tally)
    table = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    ids = table.column(key).to_numpy(zero_copy_only=False)
    first = np.sort(np.unique(ids, return_index=True)[1])
    samples = _samples(table) if side.is_audio else np.zeros(len(table), np.int64)
    tally.keep(len(first), int(samples[first].sum()))
    tally.drop("duplicate", len(table) - len(first), int(samples.sum() - samples[first].sum()))
    table = table.take(pa.array(first))
    rows = unit_rows(storage.embeddings_of(table).astype(np.float32))
    if context.config.mining.centre and len(rows):
        rows = unit_rows(rows - fit_mean(rows))
    return MinedSide(side, table.drop_columns(["embedding"]), rows, tally)


def choose_threshold(direction: Direction, context: Context) -> ChosenThreshold:
    """The threshold of the configuration, or the one that the embedder's card has for this kind of pair."""
    mining = context.config.mining
    if mining.threshold != "auto":
        return ChosenThreshold(float(mining.threshold), "set in the configuration")
    if mining.margin != "ratio":
        raise ModelError(f"mining.threshold: auto is known for margin ratio only; set a number for {mining.margin}")
    kind = "speech-speech" if direction.src.is_audio and direction.tgt.is_audio else "speech-text"
    card = load_card(context.config.speech.embedder)
    if kind not in card.thresholds:
        raise ModelError(f"embedder {card.name!r} has no default threshold for {kind}; set mining.threshold")
    default = card.thresholds[kind]
    return ChosenThreshold(
        default.value, f"default of {card.name} for {kind}: precision {default.precision:.2f} on {default.fitted_on}"
    )


def candidates_of(src: MinedSide, tgt: MinedSide, mining: MiningConfig) -> pa.Table:
    """What the strategy puts forward, whatever its score: src, tgt, margin, cosine, forward_rank, backward_rank."""
    if not (len(src.rows) and len(tgt.rows)):
        one = np.ones((1, 1), np.float32)  # the empty table has the columns of any other
        return mine_candidates(one, one, k=1).slice(0, 0)
    k = min(mining.k, len(src.rows), len(tgt.rows))
    return mine_candidates(
        src.rows, tgt.rows, k=k, margin=mining.margin, strategy=mining.strategy, backend=mining.backend
    )


def choose(
    src: MinedSide, tgt: MinedSide, candidates: pa.Table, mining: MiningConfig, threshold: float
) -> tuple[npt.NDArray[np.bool_], list[str | None]]:
    """Which candidates are kept, and of the others the reason why not.

    In this order: the threshold, the filters, then overlaps in time among what is left.
    """
    columns = _side_columns(src, candidates, "src") | _side_columns(tgt, candidates, "tgt")
    margins = candidates.column("margin").to_numpy()
    low = pc.if_else(pc.less(candidates.column("margin"), threshold), "below_threshold", pa.scalar(None, pa.string()))
    reasons = first_reason(low, *_filter_reasons(src, tgt, columns, mining.filters))
    left = np.flatnonzero(reasons.is_null().to_numpy(zero_copy_only=False))
    stays = _without_overlaps(src, tgt, columns, margins, left, threshold, mining.max_overlap)
    named = reasons.to_numpy(zero_copy_only=False).astype(object)
    named[left[~stays]] = "overlap"
    return np.array([reason is None for reason in named], bool), named.tolist()


def _filter_reasons(src: MinedSide, tgt: MinedSide, columns: dict[str, Any], filters: FiltersConfig) -> list[Any]:
    """For each filter that fits the sides, a reason or null for every candidate."""
    spans = {p: (columns[f"{p}_start"], columns[f"{p}_end"]) for p in ("src", "tgt") if f"{p}_start" in columns}
    found = [
        duration(*span, min_seconds=filters.min_seconds, max_seconds=filters.max_seconds) for span in spans.values()
    ]
    if len(spans) == 2:
        found.append(duration_ratio(*spans["src"], *spans["tgt"], max_ratio=filters.max_duration_ratio))
    else:
        text, audio = ("tgt", "src") if src.side.is_audio else ("src", "tgt")
        found.append(
            chars_per_second(
                columns[f"{text}_text"],
                *spans[audio],
                min_rate=filters.min_chars_per_second,
                max_rate=filters.max_chars_per_second,
            )
        )
    return found


def pairs_table(
    name: str,
    src: MinedSide,
    tgt: MinedSide,
    candidates: pa.Table,
    kept: npt.NDArray[np.bool_],
    reasons: list[str | None],
) -> pa.Table:
    """The rows of the table `pairs`, best margin first."""
    columns = _side_columns(src, candidates, "src") | _side_columns(tgt, candidates, "tgt")
    ids = zip(columns["src_id"].to_pylist(), columns["tgt_id"].to_pylist(), strict=True)
    columns["pair_id"] = pa.array([pair_id(a, b) for a, b in ids], pa.string())
    columns["direction"] = pa.array([name] * len(candidates), pa.string())
    for column in ("margin", "cosine", "forward_rank", "backward_rank"):
        columns[column] = candidates.column(column)
    columns["kept"] = pa.array(kept)
    columns["drop_reason"] = pa.array(reasons, pa.string())
    nothing = pa.nulls(len(candidates))
    return pa.table([columns.get(field.name, nothing) for field in PAIRS], names=PAIRS.names).cast(PAIRS)


def _side_columns(side: MinedSide, candidates: pa.Table, prefix: str) -> dict[str, Any]:
    """One side's columns of `pairs` for each candidate, and its recordings under `<prefix>_recording`."""
    rows = side.table.take(candidates.column(prefix))
    columns: dict[str, Any] = {f"{prefix}_lang": pa.array([side.side.lang] * len(candidates), pa.string())}
    if side.side.is_audio:
        columns[f"{prefix}_id"] = rows.column("segment_id").cast(pa.string())
        for name in ("uri", "start", "end"):
            columns[f"{prefix}_{name}"] = rows.column(name)
        columns[f"{prefix}_recording"] = rows.column("recording_id")
    else:
        columns[f"{prefix}_id"] = rows.column("sentence_id").cast(pa.string())
        columns[f"{prefix}_text"] = rows.column("text")
    return columns


def _without_overlaps(
    src: MinedSide,
    tgt: MinedSide,
    columns: dict[str, Any],
    margins: npt.NDArray[np.float32],
    left: npt.NDArray[np.int64],
    threshold: float,
    max_overlap: float,
) -> npt.NDArray[np.bool_]:
    def span(prefix: str) -> tuple[Any, Any, Any]:
        picked = [columns[f"{prefix}_{name}"].take(pa.array(left)) for name in ("recording", "start", "end")]
        recording, start, end = (column.to_numpy(zero_copy_only=False) for column in picked)
        return recording.astype(str), start.astype(np.int64), end.astype(np.int64)

    if not len(left):
        return np.zeros(0, bool)
    sides = [prefix for prefix, side in (("src", src.side), ("tgt", tgt.side)) if side.is_audio]
    if len(sides) == 1:
        recording, start, end = span(sides[0])
        weight = overlap_weight(margins[left], threshold, end - start)
        return resolve_overlaps(recording, start, end, weight, max_overlap)
    (a, a_start, a_end), (b, b_start, b_end) = span("src"), span("tgt")
    weight = overlap_weight(margins[left], threshold, np.minimum(a_end - a_start, b_end - b_start))
    return resolve_overlaps_two_sides(a, a_start, a_end, b, b_start, b_end, weight, max_overlap)


def overlap_weight(
    margin: npt.NDArray[np.floating[Any]], threshold: float, samples: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """What the pairs that are kept in the end add up to most of: margin above the threshold × seconds.

    The margin alone would prefer two half sentences to the whole one that they make up, and its excess over the
    threshold tells more than the margin itself how sure a pair is.
    """
    excess = np.asarray(margin, np.float64) - threshold
    return np.maximum(excess, 0.0) * samples / SAMPLE_RATE + 1e-6


def _samples(table: pa.Table) -> npt.NDArray[np.int64]:
    lengths = pc.subtract(table.column("end"), table.column("start"))
    return np.asarray(lengths.to_numpy(), np.int64)


def _tally(pairs: pa.Table) -> Tally:
    tally = Tally()
    for prefix in ("src", "tgt"):
        if pairs.column(f"{prefix}_start").null_count < len(pairs):
            lengths = pc.subtract(pairs.column(f"{prefix}_end"), pairs.column(f"{prefix}_start"))
            break
    else:
        lengths = pa.array([0] * len(pairs), pa.int64())
    kept = pairs.column("kept")
    tally.keep(pc.sum(kept).as_py() or 0, pc.sum(lengths.filter(kept)).as_py() or 0)
    for reason in pc.unique(pairs.column("drop_reason").drop_null()).to_pylist():
        chosen = pc.fill_null(pc.equal(pairs.column("drop_reason"), reason), False)
        tally.drop(reason, pc.sum(chosen).as_py(), pc.sum(lengths.filter(chosen)).as_py())
    return tally
