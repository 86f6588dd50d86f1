"""Which tasks a row can serve, and what is set aside: every offer of a row is an item to learn, or has a reason.

An offer is one task by one row, with one of its sides going in. A row that has no offer counts as one, so that of each
source `offers + rows without = items + Σ set_aside`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.sonar.features import FRAME_LENGTH, FRAME_SHIFT, STACKED
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.data.index import RowIndex
from seamlessalign.training.data.settings import (
    TASK_NAMES,
    BatchSettings,
    DataSource,
    LimitSettings,
    TaskChoice,
    TaskName,
)

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

# the offers that a row can make: a task, and the side that goes in
OFFERS: tuple[tuple[TaskName, int], ...] = tuple((task, side) for task in TASK_NAMES for side in (0, 1))
ALONE = ("asr", "t2u")  # tasks of one side
SPOKEN = ("asr", "s2tt", "s2st")  # tasks that start from speech
WITH_UNITS = ("s2st", "t2st", "t2u")

# why a row offers nothing, in the order of asking
_PARTS = ("no_speech", "no_source_text", "no_target_text", "no_units")
_TAGS = 2  # tokens of a source text beside its subwords: its tag and </s>
_TARGET_TAGS = 3  # </s> stands before, too


@dataclass(frozen=True, eq=False)
class Items:
    """What there is to learn: rows of an index in one of their tasks, `(num_items,)` each."""

    index: RowIndex
    rows: npt.NDArray[np.uint32]
    offers: npt.NDArray[np.uint8]  # place in OFFERS

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: Bools | Int64) -> "Items":
        """Some of the items."""
        return Items(self.index, self.rows[chosen], self.offers[chosen])

    @cached_property
    def tasks(self) -> Int64:
        """Places in TASK_NAMES."""
        return self.offers.astype(np.int64) // 2

    @property
    def src_sides(self) -> Int64:
        return self.offers.astype(np.int64) % 2

    @property
    def tgt_sides(self) -> Int64:
        """The side that comes out: the same one for `asr` and `t2u`."""
        alone = np.array([task in ALONE for task in TASK_NAMES])[self.tasks]
        return np.where(alone, self.src_sides, 1 - self.src_sides)

    def of_side(self, column: str, sides: Int64) -> npt.NDArray[np.generic]:
        """A column of the index by item, at one side of each."""
        return np.asarray(self.index.rows[column][self.rows, sides])

    @cached_property
    def reads_source(self) -> Bools:
        """Whether there is a text of what goes in, of people or of a machine where that is learnt."""
        return self.index.texts_in(self.tasks, self.rows, self.src_sides)[0]

    @cached_property
    def machine_texts(self) -> Bools:
        """Whether a machine wrote a text that is learnt, of what goes in or of what comes out."""
        machine = self.index.rows["machine"][self.rows].astype(np.int64)
        return np.asarray((machine >> self.tgt_sides | machine >> self.src_sides & self.reads_source) & 1 == 1)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """Of the speech that goes in; where text does, of the longer speech of the row; 0 where there is none."""
        both = np.nan_to_num(self.index.rows["seconds"][self.rows].astype(np.float64))
        spoken = np.array([task in SPOKEN for task in TASK_NAMES])[self.tasks]
        return np.where(spoken, both[np.arange(len(self)), self.src_sides], both.max(axis=1, initial=0))

    @property
    def has_speech(self) -> Bools:
        return np.array([task in SPOKEN for task in TASK_NAMES])[self.tasks]

    @property
    def has_units(self) -> Bools:
        return np.array([task in WITH_UNITS for task in TASK_NAMES])[self.tasks]

    def lengths(self, slowest: float = 1.0) -> Int64:
        """`(num_items, 4)`: frames of features, tokens of source text, of target text, and of units; 0: no such part.

        slowest: the least speed at which speech may be heard; frames are the most that there can be.
        """
        src, tgt = self.src_sides, self.tgt_sides
        frames = most_frames(self.of_side("seconds", src).astype(np.float64), slowest)
        said = np.where(self.reads_source, self.of_side("subwords", src).astype(np.int64), 0)
        told = self.of_side("subwords", tgt).astype(np.int64)
        units = self.of_side("units", tgt).astype(np.int64)
        return np.stack(
            [
                np.where(self.has_speech, frames, 0),
                np.where(said > 0, said + _TAGS, 0),
                told + _TARGET_TAGS,
                np.where(self.has_units, units + _TARGET_TAGS, 0),
            ],
            axis=1,
        )


@dataclass(frozen=True)
class Vocabularies:
    """The languages that there are tags for, and how many units; no units: none are learnt."""

    text: Collection[str]
    units: Collection[str] = ()
    num_units: int = 0


def usable_items(
    index: RowIndex,
    sources: Sequence[DataSource],
    tasks: Mapping[TaskName, TaskChoice],
    limits: LimitSettings,
    batches: BatchSettings,
    slowest: float,
    vocabularies: Vocabularies,
) -> tuple[Items, list[Counter[str]]]:
    """All items within the limits, in the order of rows; and what of each source is set aside, by reason."""
    judge = _Judge(index, sources, limits, batches, slowest, vocabularies)
    found: list[tuple[Int64, int]] = []
    for number, (task, src) in enumerate(OFFERS):
        if task in tasks:
            found.append((judge.items(task, src, tasks[task]), number))
    judge.rows_without()
    rows = np.concatenate([rows for rows, _ in found]) if found else np.zeros(0, np.int64)
    offers = np.concatenate([np.full(len(rows), number, np.uint8) for rows, number in found])
    order = np.lexsort((offers, rows))
    return Items(index, rows[order].astype(np.uint32), offers[order]), judge.set_aside


def most_frames(seconds: npt.NDArray[np.float64], slowest: float) -> Int64:
    """The most frames, 50 a second, that speech of a length can have at a speed of `slowest` or more; 0 for NaN.

    One more than the length says, since lengths in seconds are rounded, and so are resampled ones.
    """
    samples = np.nan_to_num(seconds) * SAMPLE_RATE / slowest
    frames = np.floor((samples - FRAME_LENGTH) / FRAME_SHIFT).astype(np.int64) + 1
    return np.where(np.isnan(seconds), 0, np.maximum(frames, 0) // STACKED + 1)


class _Judge:
    """Goes over all rows, offer by offer, and counts what is set aside."""

    def __init__(
        self,
        index: RowIndex,
        sources: Sequence[DataSource],
        limits: LimitSettings,
        batches: BatchSettings,
        slowest: float,
        vocabularies: Vocabularies,
    ) -> None:
        self._index, self._limits, self._batches = index, limits, batches
        self._slowest, self._vocabularies = slowest, vocabularies
        rows = index.rows
        self._sources = index.sources
        self._both_ways = np.array([one.both_ways for one in sources], bool)[self._sources]
        self._langs = rows["lang"].astype(np.int64)  # (num_rows, 2)
        self._sound = ~np.isnan(rows["seconds"]) | (rows["sound_problem"] > 0)
        self._units = rows["units"] > 0
        self._offered = np.zeros(len(rows), bool)
        self._lacking = np.zeros(len(rows), np.uint8)  # 1 + place in _PARTS of what the fullest offer lacks
        self.set_aside: list[Counter[str]] = [Counter() for _ in sources]

    def items(self, task: TaskName, src: int, choice: TaskChoice) -> Int64:
        """Rows whose offer is an item."""
        tgt = src if task in ALONE else 1 - src
        wanted = (
            (self._index.rows["problem"] == 0) & self._chosen(src, choice.sources) & self._chosen(tgt, choice.targets)
        )
        if task in ALONE:
            wanted &= (self._index.rows["owns"] >> src & 1) == 1
        if src and task != "t2u":  # which begins from text, and turns nothing round
            wanted &= self._both_ways
        texts = [self._index.texts_in(TASK_NAMES.index(task), slice(None), side) for side in (src, tgt)]
        (said, said_unsure), (told, told_unsure) = texts
        parts = [(self._sound[:, src], "no_speech")] if task in SPOKEN else []
        if task not in SPOKEN:
            parts.append((said | said_unsure, "no_source_text"))
        parts.append((told | told_unsure, "no_target_text"))
        if task in WITH_UNITS:
            parts.append((self._units[:, tgt], "no_units"))
        there = wanted.copy()
        for part, lacking in parts:
            without = there & ~part
            self._lacking[without] = np.maximum(self._lacking[without], 1 + _PARTS.index(lacking))
            there &= part
        self._offered |= there
        left, unsure = there, told_unsure if task in SPOKEN else said_unsure | told_unsure
        for failing, reason in [(unsure, "unsure_transcript"), *self._failing(task, src, tgt, said)]:
            self._count(left & failing, reason)
            left = left & ~failing
        for number, reason in enumerate(self._index.reasons[1:], 1):
            if task in SPOKEN:
                failing = self._index.rows["sound_problem"][:, src] == number
                self._count(left & failing, reason)
                left = left & ~failing
        return np.flatnonzero(left)

    def rows_without(self) -> None:
        """Count the rows that made no offer."""
        problems = self._index.rows["problem"]
        for number, reason in enumerate(self._index.reasons[1:], 1):
            self._count(problems == number, reason)
        without = ~self._offered & (problems == 0)
        for number, reason in enumerate(("not_wanted", *_PARTS)):
            self._count(without & (self._lacking == number), reason)

    def _chosen(self, side: int, languages: Sequence[str] | None) -> Bools:
        """Rows with a side, in one of some languages."""
        there = self._langs[:, side] >= 0
        if languages is None:
            return there
        known = [number for number, lang in enumerate(self._index.languages) if lang in languages]
        return there & np.isin(self._langs[:, side], known)

    def _has_tag(self, side: int, languages: Collection[str]) -> Bools:
        known = np.array([lang in languages for lang in self._index.languages] + [False])  # the last one: no side
        return np.asarray(known[self._langs[:, side]])

    def _failing(self, task: TaskName, src: int, tgt: int, said: Bools) -> list[tuple[Bools, str]]:
        """Rows beyond each limit, by the reason; the first one counts. said: rows that have a text of what goes in."""
        rows, limits, batches, vocabularies = self._index.rows, self._limits, self._batches, self._vocabularies
        seconds = rows["seconds"].astype(np.float64)[:, src]
        subwords, units = rows["subwords"].astype(np.int64), rows["units"].astype(np.int64)[:, tgt]
        chars = rows["chars"].astype(np.float64)
        if src != tgt:
            subwords[~said, src], chars[~said, src] = 0, 0
        source_read = said if task in SPOKEN else np.ones(len(rows), bool)
        found = [
            (~self._has_tag(tgt, vocabularies.text), "no_tag"),
            (source_read & ~self._has_tag(src, vocabularies.text), "no_tag"),
            (np.maximum(subwords[:, src], subwords[:, tgt]) > limits.max_subwords, "text_too_long"),
            (
                np.maximum(subwords[:, src] + _TAGS, subwords[:, tgt] + _TARGET_TAGS) > batches.max_tokens,
                "larger_than_a_batch",
            ),
        ]
        if task in SPOKEN:
            found += [
                (seconds < limits.min_seconds, "too_short"),
                (seconds > limits.max_seconds, "too_long"),
                (most_frames(seconds, self._slowest) > batches.max_frames, "larger_than_a_batch"),
            ]
            if limits.max_chars_per_second is not None:
                dense = np.maximum(chars[:, tgt], chars[:, src]) > limits.max_chars_per_second * seconds
                found.append((dense, "too_much_text"))
        if task in WITH_UNITS:
            found += [
                (~self._has_tag(tgt, vocabularies.units), "no_unit_tag"),
                (units > limits.max_units, "too_many_units"),
                (self._strange_units(tgt), "unknown_units"),
                (units + _TARGET_TAGS > batches.max_units, "larger_than_a_batch"),
            ]
        if limits.max_chars_ratio is not None and src != tgt:
            longer, shorter = np.maximum(chars[:, 0], chars[:, 1]), np.minimum(chars[:, 0], chars[:, 1])
            found.append(((shorter > 0) & (longer > limits.max_chars_ratio * shorter), "unlike_lengths"))
        return found

    def _strange_units(self, side: int) -> Bools:
        """Rows with units that the vocabulary has not."""
        index = self._index
        strange = np.asarray(index.units) >= self._vocabularies.num_units
        if not strange.any():
            return np.zeros(len(index.rows), bool)
        before = np.concatenate([[0], np.cumsum(strange)])
        start = index.rows["units_start"].astype(np.int64)
        start = start + index.rows["units"].astype(np.int64)[:, 0] * side
        return np.asarray(before[start + index.rows["units"].astype(np.int64)[:, side]] > before[start])

    def _count(self, failing: Bools, reason: str) -> None:
        counts = np.bincount(self._sources[failing], minlength=len(self.set_aside))
        for source, count in enumerate(counts.tolist()):
            if count:
                self.set_aside[source][reason] += count
