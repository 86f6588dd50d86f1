"""Neighbour lists → pairs of one direction: margins, choice, precision, threshold, filters, overlaps.

Every candidate that the strategy puts forward is written, kept or not, with its scores and the reason why not. What is
in memory of a row is a few numbers: texts and addresses are looked at some rows at a time.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from seamlessalign import storage
from seamlessalign.config import MiningConfig
from seamlessalign.embedders import speech_card
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.languages import Direction
from seamlessalign.mining.groups import Near
from seamlessalign.mining.mine import Repeats, empty_pairs, pairs_of
from seamlessalign.mining.overlap import resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.mining.precision import keep_fdr, keep_precision
from seamlessalign.mining.text_filters import fold
from seamlessalign.mining.vectors import Indices
from seamlessalign.pipelines import decoys_stage, gather_stage, search_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.pair_filters import after_overlaps, before_overlaps, idle_filters, sounds_alike
from seamlessalign.pipelines.pair_tables import ROWS, Candidates, Reasons, count_pairs, pair_tables
from seamlessalign.pipelines.search_sides import Sides, load_sides
from seamlessalign.pipelines.search_stage import SearchTask
from seamlessalign.rows import PAIRS, RECORDINGS, SAMPLE_RATE

log = logging.getLogger(__name__)

STAGE = "mine"
KEPT_TABLE = "state/mining/kept"
KEPT_GROUP = 2000  # pairs in a row group there, which a task of the corpus reads by itself
ORIGINS = pa.schema([RECORDINGS.field(name) for name in ("uri", "sha256", "license", "source")])


@dataclass(frozen=True)
class MiningTask:
    """A direction and the tasks whose lists its pairs are chosen from."""

    direction: str
    searched: tuple[SearchTask, ...]


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
        reasons = choose(candidates, mining, threshold.value)
    uri, tally = context.folder.table("pairs", shard, "part-00000"), Tally()

    def counted() -> Iterator[pa.Table]:
        for pairs in pair_tables(name, candidates, reasons):
            count_pairs(tally, pairs)
            yield pairs

    with watch.step("write pairs"):
        metadata = pairs_metadata(digest, threshold, candidates.decoys, mining)
        written = storage.write_tables(uri, counted(), PAIRS, metadata)
        kept = pair_tables(name, candidates, reasons, candidates.by_audio(reasons.left))
        written += storage.write_tables(kept_uri(name, context), kept, PAIRS, metadata, KEPT_GROUP)
    with watch.step("find recordings"):
        written += storage.write_tables(origins_uri(name, context), _origins(name, context), ORIGINS, metadata)
    line = tally.line("pairs", shard, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(STAGE, 1)
    outputs = [context.folder.relative(one) for one in (uri, kept_uri(name, context), origins_uri(name, context))]
    return Mark(STAGE, shard, digest, outputs, [line])


def kept_uri(name: str, context: Context) -> str:
    """The file of the kept pairs of a direction in the order of their audio: what the corpus is cut from."""
    return context.folder.table(KEPT_TABLE, f"direction={name}", "part-00000")


def origins_uri(name: str, context: Context) -> str:
    """The file of the recordings that kept pairs of a direction are cut from: a task of the corpus reads no other."""
    return context.folder.table(KEPT_TABLE, f"direction={name}", "recordings")


def _origins(name: str, context: Context) -> Iterator[pa.Table]:
    wanted: set[str] = set()
    for batch in storage.read_batches(kept_uri(name, context), ["src_uri", "tgt_uri"]):
        wanted |= {uri for column in batch.columns for uri in column.drop_null().to_pylist()}
    found, rows = [ORIGINS.empty_table()], 0
    for uri in storage.list_files(context.folder.table("recordings"), ".parquet") if wanted else ():
        table = storage.read_table(uri, ORIGINS.names)
        theirs = pa.array([one in wanted for one in table.column("uri").to_pylist()], pa.bool_())
        found.append(table.filter(theirs).cast(ORIGINS))
        rows += len(found[-1])
        if rows >= ROWS:
            yield pa.concat_tables(found)
            found, rows = [], 0
    if found:
        yield pa.concat_tables(found)


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


def choose(candidates: Candidates, mining: MiningConfig, threshold: float) -> Reasons:
    """Which candidates are kept, and of the others the reason why not.

    In this order: the threshold (or precision), what each pair is judged by itself, overlaps in time among what is
    left, and limits on how many pairs are taken.
    """
    src, tgt, filters, margins = candidates.src, candidates.tgt, mining.filters, candidates.margins
    reasons = Reasons(len(candidates))
    good, low = _good_enough(candidates.pairs, mining, threshold)
    reasons.drop(np.flatnonzero(~good), low)
    if not np.isfinite(threshold):  # precision decided: what is above the worst of those that are good enough counts
        threshold = float(margins[good].min()) if good.any() else 0.0
    for rows in _in_ranges(reasons.left):
        columns = candidates.columns(rows, ("lang_prob", "text", "start", "end"))
        reasons.note(rows, before_overlaps(src, tgt, columns, filters, pa.nulls(len(rows), pa.string())))
    if len(candidates.audio) == 2 and filters.drop_identical_audio:
        for rows in _in_ranges(candidates.by_audio(reasons.left)):
            columns = candidates.columns(rows, ("uri", "start", "end"))
            reasons.note(rows, sounds_alike(columns, pa.nulls(len(rows), pa.string())))
    left = reasons.left
    stays = _without_overlaps(candidates, left, threshold, mining.max_overlap)
    reasons.drop(left[~stays], "overlap")
    if filters.max_pairs_per_text is not None or filters.max_hours is not None:
        left = reasons.left
        columns = candidates.columns(left, ("start", "end"))
        columns |= _text_numbers(candidates, left) if filters.max_pairs_per_text is not None else {}
        none_yet = pa.nulls(len(left), pa.string())
        reasons.note(left, after_overlaps(src, tgt, columns, margins[left], filters, none_yet))
    return reasons


def _good_enough(pairs: pa.Table, mining: MiningConfig, threshold: float) -> tuple[npt.NDArray[np.bool_], str]:
    """Which candidates are, and what to call the others: `below_threshold`, or `below_precision` where that decides."""
    if mining.min_precision is None and mining.fdr is None:
        # compared as float32, so that a threshold read from the column margin keeps the pair it was read from
        return pairs.column("margin").to_numpy() >= np.float32(threshold), "below_threshold"
    estimate = pairs.column("precision_estimate").to_numpy(zero_copy_only=False).astype(np.float32)
    if mining.min_precision is not None:
        return keep_precision(estimate, mining.min_precision), "below_precision"
    return keep_fdr(estimate, float(mining.fdr or 0.0)), "below_precision"


def _in_ranges(rows: Indices) -> Iterator[Indices]:
    for begin in range(0, len(rows), ROWS):
        yield rows[begin : begin + ROWS]


def _text_numbers(candidates: Candidates, rows: Indices) -> dict[str, Any]:
    """Numbers of the folded texts of some candidates, equal for equal ones: texts of so many may not fit in memory."""
    found: dict[str, list[Any]] = {}
    for part in _in_ranges(rows):
        for name, texts in candidates.columns(part, ("text",)).items():
            numbers = [xxh3_64_intdigest(text.encode()) for text in fold(texts).to_pylist()]
            found.setdefault(name, []).append(pa.array(numbers, pa.uint64()))
    return {name: pa.concat_arrays(parts) for name, parts in found.items()}


def _without_overlaps(
    candidates: Candidates, rows: Indices, threshold: float, max_overlap: float
) -> npt.NDArray[np.bool_]:
    """Which of some candidates stay, (num_rows,)."""
    audio = candidates.audio
    if not len(rows) or not audio:
        return np.ones(len(rows), bool)
    columns = candidates.columns(rows, ("start", "end"))
    spans = [
        (candidates.recordings(which, rows), *(columns[f"{which}_{edge}"].to_numpy() for edge in ("start", "end")))
        for which in audio
    ]
    shorter = np.min([end - start for _, start, end in spans], axis=0)
    weight = overlap_weight(candidates.margins[rows], threshold, shorter)
    if len(spans) == 1:
        ((recording, start, end),) = spans
        return resolve_overlaps(recording, start, end, weight, max_overlap)
    (a, a_start, a_end), (b, b_start, b_end) = spans
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
