"""Neighbour lists → pairs of one direction: margins, choice, precision, threshold, filters, overlaps.

Every candidate that the strategy puts forward is written, kept or not, with its scores and the reason why not.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.config import MiningConfig
from seamlessalign.embedders import speech_card
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.languages import Direction, Side
from seamlessalign.mining.groups import Near
from seamlessalign.mining.mine import Repeats, empty_pairs, pairs_of
from seamlessalign.mining.overlap import resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.mining.precision import keep_fdr, keep_precision
from seamlessalign.pipelines import decoys_stage, gather_stage, search_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.pair_filters import after_overlaps, before_overlaps, idle_filters
from seamlessalign.pipelines.search_sides import Sides, load_sides
from seamlessalign.pipelines.search_stage import SearchTask
from seamlessalign.rows import PAIRS, SAMPLE_RATE, pair_id

log = logging.getLogger(__name__)

STAGE = "mine"
_LINES = 1 << 16  # pairs whose ids are made at a time


@dataclass(frozen=True)
class MiningTask:
    """A direction and the tasks whose lists its pairs are chosen from."""

    direction: str
    searched: tuple[SearchTask, ...]


@dataclass(frozen=True)
class Candidates:
    """What the strategy puts forward for one direction, and the sides' tables (without embeddings) it points into."""

    src: Side
    tgt: Side
    src_table: pa.Table
    tgt_table: pa.Table
    pairs: pa.Table  # as `mine_candidates` gives it, with precision_estimate, which may be null
    decoys: str  # what the precision was estimated with, for people


@dataclass(frozen=True)
class ChosenThreshold:
    """What decides which pairs are good enough, and where it comes from, for people."""

    value: float  # a margin; minus infinity where precision decides
    origin: str


def process(task: MiningTask, digest: str, context: Context) -> Mark:
    """Choose the pairs of one direction, write them, and return its completion mark."""
    name, mining = task.direction, context.config.mining
    direction = Direction.parse(name)
    shard = f"direction={name}"
    watch = Stopwatch()
    threshold = choose_threshold(direction, context)
    with watch.step("merge lists"):
        candidates = candidates_of(task, context)
    with watch.step("choose"):
        kept, reasons = choose(candidates, mining, threshold.value)
    pairs = pairs_table(name, candidates, kept, reasons)
    uri = context.folder.table("pairs", shard, "part-00000")
    written = storage.write_table(uri, pairs, metadata=pairs_metadata(digest, threshold, candidates.decoys, mining))
    line = tally_of(pairs).line("pairs", shard, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(STAGE, 1)
    return Mark(STAGE, shard, digest, [context.folder.relative(uri)], [line])


def pairs_metadata(digest: str, threshold: ChosenThreshold, decoys: str, mining: MiningConfig) -> dict[str, str]:
    """The metadata of a table of pairs."""
    return {
        "seamlessalign.digest": digest,
        "seamlessalign.threshold": repr(threshold.value),
        "seamlessalign.threshold_origin": threshold.origin,
        "seamlessalign.decoys": decoys,
        "seamlessalign.mining": json.dumps(mining.model_dump(mode="json"), sort_keys=True),
    }


def task_of(name: str, context: Context) -> MiningTask:
    """The task of a direction whose neighbours were found, from the marks of the search."""
    return MiningTask(name, tuple(search_stage.searched(name, context)))


def candidates_of(task: MiningTask, context: Context) -> Candidates:
    """Merge the neighbour lists of a direction and choose pairs by the strategy, whatever their score."""
    mining, direction = context.config.mining, Direction.parse(task.direction)
    sides = load_sides(task.direction, context)
    if sides.sizes == (0, 0):
        pairs = empty_pairs()
    else:
        with search_stage.lists(task.direction, task.searched, sides, context) as (forward, backward):
            pairs = pairs_of(
                forward, backward, margin=mining.margin, strategy=mining.strategy, num_src=sides.src.num_rows,
                num_tgt=sides.tgt.num_rows, made_from=sides.made_from, repeats=_repeats(sides, mining),
            )  # fmt: skip
    if "precision_estimate" not in pairs.column_names:
        pairs = pairs.append_column("precision_estimate", pa.nulls(len(pairs), pa.float32()))
    src, tgt = (gather_stage.load_table(side, context) for side in (direction.src, direction.tgt))
    return Candidates(direction.src, direction.tgt, src, tgt, pairs, _decoys_described(sides))


def _repeats(sides: Sides, mining: MiningConfig) -> Repeats | None:
    if mining.near_duplicates is None:
        return None
    src, tgt = (Near(rows, mining.near_duplicates) for rows in (sides.src_rows, sides.tgt_rows))
    return Repeats(src, tgt, mining.k)


def check(direction: Direction, context: Context) -> None:
    """Raise what can be known to be wrong before anything is mined, and say which filters will do nothing."""
    mining = context.config.mining
    threshold = choose_threshold(direction, context)
    if mining.reduce is not None and threshold.origin.startswith("default"):
        log.warning(
            "%s: the default threshold %g was fitted for rows that were not reduced: mining.min_precision or .fdr "
            "do without it", direction, threshold.value,
        )  # fmt: skip
    wanted = next((name for name in ("min_precision", "fdr") if getattr(mining, name) is not None), None)
    kinds = {decoys_stage.kind_of(side, context) for side in (direction.src, direction.tgt)}
    if wanted is not None and kinds == {"none"}:
        raise ConfigError(f"mining.{wanted}: {direction} has no decoys to estimate it from: see mining.decoys")
    for line in idle_filters(direction.src, direction.tgt, mining.filters):
        log.warning("%s", line)


def choose_threshold(direction: Direction, context: Context) -> ChosenThreshold:
    """The threshold of the configuration, or the one that the embedder's card has for this kind of pair."""
    mining = context.config.mining
    if mining.min_precision is not None:
        return ChosenThreshold(-np.inf, f"estimated precision of each pair at least {mining.min_precision:g}")
    if mining.fdr is not None:
        return ChosenThreshold(-np.inf, f"estimated share of wrong pairs at most {mining.fdr:g}")
    if mining.threshold != "auto":
        return ChosenThreshold(float(mining.threshold), "set in the configuration")
    if mining.margin != "ratio":
        raise ModelError(f"mining.threshold: auto is known for margin ratio only; set a number for {mining.margin}")
    kind = "speech-speech" if direction.src.is_audio and direction.tgt.is_audio else "speech-text"
    card = speech_card(context.config.speech.embedder, context.config.models)
    if kind not in card.thresholds:
        raise ModelError(f"embedder {card.name!r} has no default threshold for {kind}; set mining.threshold")
    default = card.thresholds[kind]
    known = f"precision {default.precision:.2f} on" if np.isfinite(default.precision) else "precision not known,"
    rows = "" if mining.reduce is None else ", for rows that were not reduced"
    return ChosenThreshold(default.value, f"default of {card.name} for {kind}: {known} {default.fitted_on}{rows}")


def choose(
    candidates: Candidates, mining: MiningConfig, threshold: float
) -> tuple[npt.NDArray[np.bool_], list[str | None]]:
    """Which candidates are kept, and of the others the reason why not.

    In this order: the threshold (or precision), what each pair is judged by itself, overlaps in time among what is
    left, and limits on how many pairs are taken.
    """
    src, tgt, pairs = candidates.src, candidates.tgt, candidates.pairs
    columns = _side_columns(candidates, "src") | _side_columns(candidates, "tgt")
    margins = pairs.column("margin").to_numpy()
    good = _not_good_enough(pairs, mining, threshold)
    reasons = before_overlaps(src, tgt, columns, mining.filters, good)
    left = np.flatnonzero(reasons.is_null().to_numpy(zero_copy_only=False))
    if not np.isfinite(threshold):  # precision decided: what is above the worst of those that are good enough counts
        enough = margins[good.is_null().to_numpy(zero_copy_only=False)]
        threshold = float(enough.min()) if len(enough) else 0.0
    stays = _without_overlaps(src, tgt, columns, margins, left, threshold, mining.max_overlap)
    overlaps = np.zeros(len(pairs), bool)
    overlaps[left[~stays]] = True
    reasons = pc.if_else(pa.array(overlaps), "overlap", reasons)
    reasons = after_overlaps(src, tgt, columns, margins, mining.filters, reasons)
    reasons = pa.chunked_array([reasons]) if isinstance(reasons, pa.Array) else reasons
    words = reasons.combine_chunks().dictionary_encode()  # so that a reason is one string, however many pairs it drops
    of_word = words.dictionary.to_pylist()
    named = [None if word is None else of_word[word] for word in words.indices.to_pylist()]
    return np.array([reason is None for reason in named], bool), named


def _not_good_enough(pairs: pa.Table, mining: MiningConfig, threshold: float) -> Any:
    """`below_threshold`, or `below_precision` where precision decides; null for the others."""
    estimate = pairs.column("precision_estimate").to_numpy(zero_copy_only=False).astype(np.float32)
    if mining.min_precision is not None:
        good, reason = keep_precision(estimate, mining.min_precision), "below_precision"
    elif mining.fdr is not None:
        good, reason = keep_fdr(estimate, mining.fdr), "below_precision"
    else:
        # compared as float32, so that a threshold read from the column margin keeps the pair it was read from
        good, reason = pairs.column("margin").to_numpy() >= np.float32(threshold), "below_threshold"
    return pc.if_else(pa.array(good), pa.scalar(None, pa.string()), reason)


def pairs_table(name: str, candidates: Candidates, kept: npt.NDArray[np.bool_], reasons: list[str | None]) -> pa.Table:
    """The rows of the table `pairs`, best margin first."""
    columns = _side_columns(candidates, "src") | _side_columns(candidates, "tgt")
    columns["pair_id"] = _pair_ids(columns["src_id"], columns["tgt_id"])
    columns["direction"] = pa.array([name] * len(kept), pa.string())
    for column in ("margin", "cosine", "forward_rank", "backward_rank", "precision_estimate"):
        columns[column] = candidates.pairs.column(column)
    columns["kept"] = pa.array(kept)
    columns["drop_reason"] = pa.array(reasons, pa.string())
    nothing = pa.nulls(len(kept))
    return pa.table([columns.get(field.name, nothing) for field in PAIRS], names=PAIRS.names).cast(PAIRS)


def _pair_ids(src: Any, tgt: Any) -> pa.Array:
    """Ids of pairs from those of their sides, some at a time: strings of Python take several times as much memory."""
    made = [pa.array([], pa.string())]
    for begin in range(0, len(src), _LINES):
        both = zip(src.slice(begin, _LINES).to_pylist(), tgt.slice(begin, _LINES).to_pylist(), strict=True)
        made.append(pa.array([pair_id(a, b) for a, b in both], pa.string()))
    return pa.concat_arrays(made)


def _side_columns(candidates: Candidates, prefix: str) -> dict[str, Any]:
    """One side's columns of `pairs` for each candidate, and its recordings under `<prefix>_recording`."""
    side = candidates.src if prefix == "src" else candidates.tgt
    table = candidates.src_table if prefix == "src" else candidates.tgt_table
    rows = table.take(candidates.pairs.column(prefix)).combine_chunks()
    columns: dict[str, Any] = {
        f"{prefix}_lang": pa.array([side.lang] * len(rows), pa.string()),
        f"{prefix}_lang_prob": rows.column("lang_prob"),
    }
    if side.is_audio:
        columns[f"{prefix}_id"] = rows.column("segment_id").cast(pa.string())
        for name in ("uri", "start", "end"):
            columns[f"{prefix}_{name}"] = rows.column(name)
        columns[f"{prefix}_recording"] = rows.column("recording_id")
    else:
        columns[f"{prefix}_id"] = rows.column("sentence_id").cast(pa.string())
        columns[f"{prefix}_text"] = rows.column("text")
    return columns


def _without_overlaps(
    src: Side,
    tgt: Side,
    columns: dict[str, Any],
    margins: npt.NDArray[np.float32],
    left: npt.NDArray[np.int64],
    threshold: float,
    max_overlap: float,
) -> npt.NDArray[np.bool_]:
    def span(prefix: str) -> tuple[Any, Any, Any]:
        recording, start, end = (
            columns[f"{prefix}_{name}"].take(pa.array(left)) for name in ("recording", "start", "end")
        )
        numbers = pc.rank(recording, tiebreaker="dense")  # in the order of their ids, which take more memory
        picked = (column.to_numpy(zero_copy_only=False).astype(np.int64) for column in (numbers, start, end))
        return next(picked), next(picked), next(picked)

    if not len(left):
        return np.zeros(0, bool)
    sides = [prefix for prefix, side in (("src", src), ("tgt", tgt)) if side.is_audio]
    if len(sides) == 1:
        recording, start, end = span(sides[0])
        weight = overlap_weight(margins[left], threshold, end - start)
        return resolve_overlaps(recording, start, end, weight, max_overlap)
    (a, a_start, a_end), (b, b_start, b_end) = span("src"), span("tgt")
    weight = overlap_weight(margins[left], threshold, np.minimum(a_end - a_start, b_end - b_start))
    return resolve_overlaps_two_sides(a, a_start, a_end, b, b_start, b_end, weight, max_overlap)


def _decoys_described(sides: Sides) -> str:
    side = {"src": sides.src, "tgt": sides.tgt}.get(sides.decoys)
    if side is None:
        return "none"
    kind = {"sides": "rows of another side", "texts": "sentences given as such", "made": "sentences made up"}
    kind["lent"] = "decoys of a text side"
    return f"{side.num_decoys} on the side {side.side}: {kind[sides.decoys_kind]}"


def overlap_weight(
    margin: npt.NDArray[np.floating[Any]], threshold: float, samples: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """What the pairs that are kept in the end add up to most of: margin above the threshold × seconds.

    The margin alone would prefer two half sentences to the whole one that they make up, and its excess over the
    threshold tells more than the margin itself how sure a pair is.
    """
    excess = np.asarray(margin, np.float64) - threshold
    return np.maximum(excess, 0.0) * samples / SAMPLE_RATE + 1e-6


def tally_of(pairs: pa.Table) -> Tally:
    """Count the rows of a table of pairs; samples are those of the first side that is audio."""
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
