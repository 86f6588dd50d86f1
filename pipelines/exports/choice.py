"""Which pairs of a run are handed on: those that it kept, or those of another cut, with what people said of them.

A higher cut takes fewer of the kept pairs. A lower one takes all of these, and of the pairs that only the run's cut
rejected those that pass the run's own filters and share audio with no kept pair, nor with a better one among them.
So what the run chose is never chosen against; `seamlessalign filter` weighs everything anew instead.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from seamlessalign import storage
from seamlessalign.config import MiningConfig
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction
from seamlessalign.mapped_tables import MappedTable, mappable, open_mapped, write_mappable
from seamlessalign.mining.overlap import resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.mining.precision import keep_fdr
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.curation.labels import Labelled, Labels
from seamlessalign.pipelines.mining_stage import overlap_weight
from seamlessalign.pipelines.pair_columns import LABELS, PairColumns
from seamlessalign.pipelines.pair_filters import after_overlaps, before_overlaps, sounds_alike
from seamlessalign.pipelines.pair_tables import ROWS, Reasons
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.pipelines.row_ids import spans_of_ids
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import MOST_MARGIN, Cut, Selection, read_selection
from seamlessalign.rows import PAIRS

Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
LabelRule = Literal["ignore", "not_wrong", "only_right"]

NOT_SELECTED, LABELLED_WRONG, NOT_LABELLED_RIGHT = "not_selected", "labelled_wrong", "not_labelled_right"
BELOW_MARGIN, BELOW_PRECISION, OVERLAP = "below_margin", "below_precision", "overlap"
_CHOSEN = mappable(pa.schema([item for item in PAIRS if item.name != "drop_reason"]))


@dataclass(frozen=True)
class Rule:
    """What was asked for. At most one of the four ways to cut is given."""

    threshold: float | None = None  # least margin
    min_precision: float | None = None  # least estimated precision of each pair
    fdr: float | None = None  # greatest estimated share of wrong pairs among those taken
    selection: str | None = None  # name of one that a curator kept
    labels: LabelRule | None = None  # None: as the selection has it, else those labelled wrong are left out
    max_hours: float | None = None  # of each direction, the best pairs first

    def __post_init__(self) -> None:
        given = [name for name in ("threshold", "min_precision", "fdr", "selection") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"--{given[0]} and --{given[1]} are two ways to cut: give one".replace("_", "-"))
        for name in ("min_precision", "fdr"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"--{name.replace('_', '-')} is {value:g}: give a share between 0 and 1")
        if self.threshold is not None and not abs(self.threshold) <= MOST_MARGIN:
            raise InputError(f"--threshold is {self.threshold}: give a margin")
        if self.max_hours is not None and not self.max_hours > 0:
            raise InputError(f"--max-hours is {self.max_hours:g}: give a number above 0")


@dataclass
class Choice:
    """The candidates of one direction that pass the cut, and why some of them are left out all the same."""

    direction: Direction
    cut: Cut
    rows: MappedTable  # columns of `pairs`
    reasons: Reasons
    rejected: Counter[str]  # rows of `pairs` that do not pass the cut: reason → pairs
    by: str  # what decided, for people
    notes: list[str] = field(default_factory=list)

    @property
    def audio(self) -> list[str]:
        """Which sides are speech."""
        sides = (("src", self.direction.src), ("tgt", self.direction.tgt))
        return [name for name, side in sides if side.is_audio]

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers, of all rows."""
        return np.asarray(self.rows.column(name).to_numpy())

    @property
    def samples(self) -> Indices:
        """Length of the first audio side, (num_rows,)."""
        first = self.audio[0]
        return np.asarray(self.column(f"{first}_end") - self.column(f"{first}_start"), np.int64)

    def batches(self, columns: Sequence[str]) -> "Iterator[tuple[Indices, pa.Table]]":
        """Columns of the rows that are left, some at a time, with their numbers."""
        left = self.reasons.left
        for begin in range(0, len(left), ROWS):
            rows = left[begin : begin + ROWS]
            yield rows, self.rows.take(rows, columns)


class Chooser:
    """Chooses pairs of a run by one rule."""

    def __init__(self, tables: RunTables, rule: Rule) -> None:
        """Raises InputError for a selection that is not there, ConfigError for one that is damaged."""
        self._tables, self._rule = tables, rule
        self._selection = read_selection(tables.root, rule.selection) if rule.selection is not None else None
        if self._selection is not None:
            for name in self._selection.directions:
                tables.check_direction(name)
        self.labels: LabelRule = rule.labels or (self._selection.labels if self._selection else "not_wrong")

    @property
    def selection(self) -> Selection | None:
        """What was kept under the name that was given."""
        return self._selection

    @property
    def directions(self) -> list[str]:
        """Directions that there is something to choose of."""
        return sorted(self._selection.directions) if self._selection else self._tables.directions

    def choose(self, name: str, scratch: Path) -> Choice:
        """Choose the pairs of one direction; those that pass the cut are written to a file `scratch`, which is mapped.

        Raises InputError where the run cannot tell, StorageError where a table is damaged.
        """
        cut = self.cut(name)
        write_mappable(scratch, self._passing(name, cut), _CHOSEN)
        rows = open_mapped(scratch)
        choice = Choice(
            Direction.parse(name), cut, rows, Reasons(len(rows)), self._rejected(name, cut), self._told(cut)
        )
        self._drop_by_labels(name, choice)
        if not choice.rows.column("kept").combine_chunks().to_numpy(zero_copy_only=False).all():
            _judge_added(choice, _mining_of(self._tables, name))
        self._drop_beyond_hours(choice)
        return choice

    def cut(self, name: str) -> Cut:
        """Where a direction is cut. Raises InputError where precision decides and was never estimated."""
        if self._selection is not None:
            return self._selection.directions[name]
        rule = self._rule
        if rule.min_precision is None and rule.fdr is None:
            return Cut(min_margin=rule.threshold)
        only_cut = ", ".join(f"'{reason}'" for reason in sorted(ONLY_THE_CUT))
        query = f"select precision_estimate from pairs where direction = ? and (kept or drop_reason in ({only_cut}))"
        estimate = self._tables.ask(query, [name]).column(0)
        if len(estimate) and estimate.null_count == len(estimate):
            raise InputError(f"{self._tables.root}: {name} has no estimated precision; choose by --threshold")
        if rule.fdr is None:
            return Cut(min_precision=rule.min_precision)
        values = estimate.to_numpy().astype(np.float32)
        good = keep_fdr(values, rule.fdr)
        return Cut(min_precision=float(values[good].min()) if good.any() else 1.0)

    def _told(self, cut: Cut) -> str:
        if self._rule.selection is not None:
            parts = [f"the selection {self._rule.selection}"]
        elif self._rule.fdr is not None:
            parts = [f"an estimated share of wrong pairs of {self._rule.fdr:g} at most"]
        else:
            parts = ["the run's own cut"] if cut.is_own else []
        if cut.min_margin is not None:
            parts.append(f"margin at least {cut.min_margin:g}")
        if cut.min_precision is not None:
            parts.append(f"estimated precision of each pair at least {cut.min_precision:g}")
        if cut.filters:
            parts.append(f"{len(cut.filters)} filter{'s' if len(cut.filters) > 1 else ''}")
        return ", ".join(parts)

    def _passing(self, name: str, cut: Cut) -> Iterator[pa.RecordBatch]:
        source, parameters = PairColumns(self._tables, name).chosen(cut)
        query = f"select {', '.join(_CHOSEN.names)} from {source}"
        yield from self._tables.batches(query, parameters, beside=self._labelled(name, cut))

    def _rejected(self, name: str, cut: Cut) -> Counter[str]:
        """Why pairs do not pass the cut: the run's reason, or what of the cut a kept pair does not meet."""
        condition, parameters = cut.clause()
        bounds, of_bounds = cut.model_copy(update={"filters": []}).clause()
        below = BELOW_MARGIN if cut.min_margin is not None else BELOW_PRECISION
        relation = PairColumns(self._tables, name).relation(one.column for one in cut.filters)
        query = f"""
            select case when coalesce({bounds}, false) then ? when kept then ? else drop_reason end as reason, count(*)
            from {relation} where not coalesce({condition}, false) group by reason
        """
        counts = Counter[str]()
        values = [*of_bounds, NOT_SELECTED, below, *parameters]
        for batch in self._tables.batches(query, values, beside=self._labelled(name, cut)):
            for reason, count in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                counts[str(reason)] += count
        return counts

    def _labelled(self, name: str, cut: Cut) -> dict[str, pa.Table]:
        """The relation of labels, where a filter asks for it."""
        if not any(one.column == "label" for one in cut.filters):
            return {}
        said = [(pair.pair_id, pair.label) for pair in self._labels(name).values() if pair.label is not None]
        columns = {"pair_id": [one for one, _ in said], "label": [label for _, label in said]}
        return {LABELS: pa.table(columns, schema=pa.schema([("pair_id", pa.string()), ("label", pa.string())]))}

    def _labels(self, name: str) -> dict[str, Labelled]:
        return Labels(self._tables.root).labelled(name)

    def _drop_by_labels(self, name: str, choice: Choice) -> None:
        if self.labels == "ignore":
            return
        said: dict[str, set[str]] = {"right": set(), "wrong": set()}
        for pair in self._labels(name).values():
            if pair.label in said:
                said[pair.label].add(pair.pair_id)
        for rows, some in choice.batches(["pair_id"]):
            ids = some.column("pair_id").cast(pa.string())
            wrong = pc.is_in(ids, pa.array(sorted(said["wrong"]), pa.string())).to_numpy()
            choice.reasons.drop(rows[wrong], LABELLED_WRONG)
            if self.labels == "only_right":
                right = pc.is_in(ids, pa.array(sorted(said["right"]), pa.string())).to_numpy()
                choice.reasons.drop(rows[~right], NOT_LABELLED_RIGHT)

    def _drop_beyond_hours(self, choice: Choice) -> None:
        if self._rule.max_hours is not None:
            filters = MiningConfig().filters.model_copy(update={"max_hours": self._rule.max_hours})
            _limit(choice, filters, choice.column("margin").astype(np.float64))


def _mining_of(tables: RunTables, name: str) -> MiningConfig:
    """How the pairs of a direction were chosen, as their table says, or else the run's configuration."""
    told = storage.footer(tables.parts["pairs"][name][0])[1].get("seamlessalign.mining")
    if told is None:
        return read_config(tables.root).mining
    try:
        return MiningConfig.model_validate(json.loads(told))
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{tables.root}: the pairs of {name} were chosen by a version that cannot be told what its filters were; "
            "choose a higher cut, or run `seamlessalign filter`"
        ) from error


def _judge_added(choice: Choice, mining: MiningConfig) -> None:
    """Judge the pairs that the run's own cut had rejected as the run would have."""
    filters, name = mining.filters, str(choice.direction)
    for key in ("min_speech_lang_prob", "min_text_lang_prob"):
        if getattr(filters, key):
            raise InputError(
                f"{name}: a lower cut takes pairs that mining.filters.{key} has not judged, and the table of pairs "
                "cannot tell: run `seamlessalign filter` with this cut, then export"
            )
    src, tgt = choice.direction.src, choice.direction.tgt
    kept = choice.rows.column("kept").combine_chunks().to_numpy(zero_copy_only=False)
    added = choice.reasons.left[~kept[choice.reasons.left]]
    for rows, columns in _columns(choice, added, ("text", "start", "end")):
        choice.reasons.note(rows, before_overlaps(src, tgt, columns, filters, pa.nulls(len(rows), pa.string())))
    if len(choice.audio) == 2 and filters.drop_identical_audio:
        for rows, columns in _columns(choice, added[choice.reasons.kept[added]], ("uri", "start", "end")):
            choice.reasons.note(rows, sounds_alike(columns, pa.nulls(len(rows), pa.string())))
    _drop_overlaps(choice, kept, mining.max_overlap)
    # what the run kept comes first wherever only so many are taken
    _limit(choice, filters, choice.column("margin").astype(np.float64) + np.where(kept, 1e6, 0.0))


def _columns(choice: Choice, rows: Indices, names: Sequence[str]) -> Iterator[tuple[Indices, dict[str, Any]]]:
    wanted = [f"{side}_{name}" for side in ("src", "tgt") for name in names]
    for begin in range(0, len(rows), ROWS):
        some = rows[begin : begin + ROWS]
        taken = choice.rows.take(some, wanted)
        columns = {column: taken.column(column).combine_chunks() for column in wanted}
        yield some, {n: c.cast(pa.string()) if pa.types.is_large_string(c.type) else c for n, c in columns.items()}


def _drop_overlaps(choice: Choice, kept: Bools, max_overlap: float) -> None:
    left = choice.reasons.left
    old, new = left[kept[left]], left[~kept[left]]
    spans = {side: _spans(choice, side) for side in choice.audio}
    clear = np.ones(len(new), bool)
    for recording, start, end in spans.values():
        clear &= ~conflicting(
            (recording[old], start[old], end[old]), (recording[new], start[new], end[new]), max_overlap
        )
    choice.reasons.drop(new[~clear], OVERLAP)
    new = new[clear]
    if not len(new):
        return
    margins = choice.column("margin")[new]
    shorter = np.min([end[new] - start[new] for _, start, end in spans.values()], axis=0)
    weight = overlap_weight(margins, float(margins.min()), shorter)
    # Of several best choices, the one taken depends on the order of rows: here that of their ids
    order = np.argsort(np.array(choice.rows.take(new, ["pair_id"]).column(0).to_pylist()), kind="stable")
    sides = [(one[new][order], start[new][order], end[new][order]) for one, start, end in spans.values()]
    if len(sides) == 1:
        stays = resolve_overlaps(*sides[0], weight[order], max_overlap)
    else:
        stays = resolve_overlaps_two_sides(*sides[0], *sides[1], weight[order], max_overlap)
    choice.reasons.drop(new[order][~stays], OVERLAP)


def _spans(choice: Choice, side: str) -> tuple[Indices, Indices, Indices]:
    """Number of the recording, start and end of every row on one side, each (num_rows,)."""
    numbers: dict[str, int] = {}
    recording = np.empty(len(choice.rows), np.int64)
    begin = 0
    for batch in choice.rows.batches:
        words = spans_of_ids(batch.column(f"{side}_id").cast(pa.string()))[0].dictionary_encode()
        of_word = np.array(
            [numbers.setdefault(str(name), len(numbers)) for name in words.dictionary.to_pylist()] or [0]
        )
        recording[begin : begin + len(batch)] = of_word[words.indices.fill_null(0).to_numpy()]
        begin += len(batch)
    return recording, choice.column(f"{side}_start").astype(np.int64), choice.column(f"{side}_end").astype(np.int64)


def conflicting(old: tuple[Any, Any, Any], new: tuple[Any, Any, Any], max_overlap: float) -> Bools:
    """Which new spans overlap an old one by more than `max_overlap` of the shorter, (num_new,).

    Spans are recordings, starts and ends. The old ones have no such conflict among themselves, so that their starts and
    their ends have one order, and those that touch a new span stand one behind the other.
    """
    order = np.lexsort([old[1], old[0]])
    recording, start, end = (np.asarray(array)[order] for array in old)
    reach = max(int(end.max(initial=0)), int(np.asarray(new[2]).max(initial=0))) + 1
    first = np.searchsorted(recording * reach + end, new[0] * reach + new[1], side="right")
    last = np.searchsorted(recording * reach + start, new[0] * reach + new[2], side="left")
    counts = np.maximum(last - first, 0)
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    shared = np.minimum(end[place], new[2][row]) - np.maximum(start[place], new[1][row])
    shorter = np.minimum(end[place] - start[place], new[2][row] - new[1][row])
    found = np.zeros(len(counts), bool)
    found[row[shared > max_overlap * shorter]] = True
    return found


def _limit(choice: Choice, filters: Any, scores: npt.NDArray[np.float64]) -> None:
    """Leave out what is more than the pairs of a text and the hours that are wanted, the best by score staying."""
    if filters.max_pairs_per_text is None and filters.max_hours is None:
        return
    left = choice.reasons.left
    columns: dict[str, Any] = {}
    for side in choice.audio:
        columns |= {f"{side}_{edge}": pa.array(choice.column(f"{side}_{edge}")[left]) for edge in ("start", "end")}
    for side in {"src", "tgt"} - set(choice.audio) if filters.max_pairs_per_text is not None else ():
        texts = [fold(some.column(0).cast(pa.string())) for _, some in choice.batches([f"{side}_text"])]
        chunks = [chunk for text in texts for chunk in (text.chunks if isinstance(text, pa.ChunkedArray) else [text])]
        columns[f"{side}_text"] = pa.chunked_array(chunks, pa.string())
    src, tgt = choice.direction.src, choice.direction.tgt
    none_yet = pa.nulls(len(left), pa.string())
    choice.reasons.note(left, after_overlaps(src, tgt, columns, scores[left], filters, none_yet))
