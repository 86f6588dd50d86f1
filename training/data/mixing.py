"""Which items are learnt, and how often in an epoch: the best of what was mined, and a mixture by temperature."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.training.data.limits import Items
from seamlessalign.training.data.settings import (
    TASK_NAMES,
    ChoiceSettings,
    DataSource,
    MixingSettings,
    TaskChoice,
    TaskName,
)

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_MIX = 1  # stream of random numbers


def choose(items: Items, sources: Sequence[DataSource], settings: ChoiceSettings) -> tuple[Items, list[Counter[str]]]:
    """Items that are learnt, in the order that they had; and what of each source is left out, by reason.

    Of each task and direction: mined rows down to `min_margin` (`below_margin`), the best by margin as far as hours go
    (`beyond_hours`), ties by key; what people made comes before all that was mined.
    """
    index = items.index
    of_source = index.sources[items.rows]
    human = np.array([one.human for one in sources], bool)[of_source] & ~items.machine_texts
    margin = index.rows["margin"][items.rows].astype(np.float64)
    left_out: list[Counter[str]] = [Counter() for _ in sources]
    kept = np.ones(len(items), bool)

    def leave(failing: npt.NDArray[np.bool_], reason: str) -> None:
        nonlocal kept
        for source, count in enumerate(np.bincount(of_source[failing & kept], minlength=len(sources)).tolist()):
            if count:
                left_out[source][reason] += count
        kept = kept & ~failing

    if settings.min_margin is not None:
        leave(~human & (margin < settings.min_margin), "below_margin")
    if settings.max_hours or settings.total_hours:
        beyond = np.zeros(len(items), bool)
        hours, key = items.seconds / 3600, index.rows["key"][items.rows]
        group, names = _groups(items)
        for number, (_, src, tgt) in enumerate(names):
            mined_hours, total_hours = settings.hours(src, tgt)
            there = np.flatnonzero((group == number) & kept)
            worth = np.where(human, math.inf, np.nan_to_num(margin, nan=-math.inf))[there]
            order = there[np.lexsort((key[there], -worth))]
            mined = np.cumsum(np.where(human[order], 0.0, hours[order]))
            if mined_hours is not None:
                beyond[order[~human[order] & (mined > mined_hours + _ROUNDING)]] = True
            if total_hours is not None:
                used = np.cumsum(np.where(beyond[order], 0.0, hours[order]))
                beyond[order[used > total_hours + _ROUNDING]] = True
        leave(beyond, "beyond_hours")
    return items.where(np.flatnonzero(kept)), left_out


_ROUNDING = 1e-9  # hours


@dataclass(frozen=True, eq=False)
class Mixture:
    """How often items of each group come in an epoch. A group is a source, a task and a direction."""

    items: Items
    group: Int64  # (num_items,): number of its group
    names: tuple[str, ...]  # of groups, for people
    sizes: Int64  # (num_groups,): items that there are
    counts: Int64  # (num_groups,): items that an epoch has

    @property
    def repeated(self) -> int:
        """How many items of an epoch are there for a second time, or one more."""
        return int(np.maximum(self.counts - self.sizes, 0).sum())

    @property
    def left_over(self) -> int:
        """How many items are not in an epoch; they are in the next ones."""
        return int(np.maximum(self.sizes - self.counts, 0).sum())

    def draw(self, seed: int, epoch: int) -> tuple[Int64, Int64]:
        """The items of an epoch and which time it is in this epoch, from 0, `(num,)` each; by group, in random order.

        Each group goes round and round in random orders, and an epoch takes up where the one before left. So over any
        number of epochs no item of a group comes twice more often than another.
        """
        taken: list[Int64] = [np.zeros(0, np.int64)]
        times: list[Int64] = [np.zeros(0, np.int64)]
        by_group = np.argsort(self.group, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        for number, (size, count) in enumerate(zip(self.sizes.tolist(), self.counts.tolist(), strict=True)):
            if not count:
                continue
            members = by_group[starts[number] : starts[number + 1]]
            first, end = epoch * count, (epoch + 1) * count
            for turn in range(first // size, -(-end // size)):
                order = np.random.default_rng([seed, _MIX, number, turn]).permutation(size)
                part = order[max(0, first - turn * size) : min(size, end - turn * size)]
                taken.append(members[part])
                times.append(np.full(len(part), turn - first // size, np.int64))
        return np.concatenate(taken), np.concatenate(times)


def mix(
    items: Items, sources: Sequence[DataSource], tasks: Mapping[TaskName, TaskChoice], settings: MixingSettings
) -> Mixture:
    """The mixture of items that an epoch has."""
    source = items.index.sources[items.rows].astype(np.int64)
    plain, names = _groups(items)
    joined, group = np.unique(source * len(names) + plain, return_inverse=True)
    told, weights = [], []
    for number in joined.tolist():
        of_source, (task, src, tgt) = number // len(names), names[number % len(names)]
        told.append(f"{of_source}. {sources[of_source].kind}: {task} {src}-{tgt}")
        weights.append(sources[of_source].weight * tasks[task].weight)
    sizes = np.bincount(group, minlength=len(joined)).astype(np.int64)
    share = shares(sizes, weights, settings.temperature)
    counts = rounded(share, settings.epoch_items or len(items))
    return Mixture(items, group.astype(np.int64), tuple(told), sizes, counts)


def each_once(items: Items) -> Mixture:
    """Every item once an epoch, whatever its source."""
    size = np.array([len(items)], np.int64)
    return Mixture(items, np.zeros(len(items), np.int64), ("all",), size, size)


def first_of_each(items: Items, most: int) -> npt.NDArray[np.bool_]:
    """Which items are among the first `most` of their task and direction, by key: the same ones in any order."""
    group, _ = _groups(items)
    order = np.lexsort((items.index.rows["key"][items.rows], group))
    starts = np.concatenate([[0], np.cumsum(np.bincount(group))])
    place = np.arange(len(items)) - starts[group[order]]
    found = np.empty(len(items), bool)
    found[order] = place < most
    return found


def shares(sizes: Int64, weights: Sequence[float], temperature: float) -> Float64:
    """The share of each group in an epoch: p ∝ w · n^(1/T), `(num_groups,)`.

    Arivazhagan et al. 2019 (arXiv 1907.05019), section 4.2: sampling by temperature; T = 1 is the natural share.
    """
    scaled = np.asarray(weights, np.float64) * np.power(sizes.astype(np.float64), 1 / temperature)
    return np.asarray(scaled / scaled.sum()) if len(sizes) else scaled


def rounded(share: Float64, total: int) -> Int64:
    """Whole numbers in these shares whose sum is `total`: the largest remainders are rounded up, ties by place."""
    exact = share * total
    counts = np.floor(exact + 1e-6).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def _groups(items: Items) -> tuple[Int64, list[tuple[TaskName, str, str]]]:
    """The number of the task and direction of each item, and what the numbers are."""
    languages = items.index.languages
    width = len(languages)
    src, tgt = items.of_side("lang", items.src_sides), items.of_side("lang", items.tgt_sides)
    code = (items.tasks * width + src.astype(np.int64)) * width + tgt.astype(np.int64)
    found, group = np.unique(code, return_inverse=True)
    names = [
        (TASK_NAMES[one // width // width], languages[one // width % width], languages[one % width])
        for one in found.tolist()
    ]
    return group.astype(np.int64), names
