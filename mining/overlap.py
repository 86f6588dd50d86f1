"""Kept pairs must not share audio: which of the overlapping ones to keep.

Two spans of one recording are in conflict when they overlap by more than `max_overlap` times the length of the shorter.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

_CONFLICTS = 1 << 22  # about how many are listed together while pairs are improved
_TOGETHER = 1 << 16  # spans that are resolved at a time, or more where more hang together: Python's numbers are large
_ROUNDING = 1e-12  # relative: sums that are apart by less are equal


def resolve_overlaps(
    recording: npt.NDArray[Any],
    start: npt.NDArray[Any],
    end: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    max_overlap: float = 0.0,
) -> Bools:
    """The spans, one audio side, that have the greatest sum of weights and no conflict; (num_spans,) bool.

    recording: integer or string ids; start, end: samples, half-open; weight: above 0. Exact for every max_overlap in
    [0, 1): weighted interval scheduling (Kleinberg and Tardos, Algorithm Design, section 6.1) extended to allowed
    overlaps, O(n log n). Of several best sets one is taken, always the same for the same rows in the same order.
    Raises InputError naming the row for empty spans and for weights that are not above 0.

    Why dynamic programming is still exact when some overlap is allowed: spans without conflict have their starts and
    their ends in the same order (a span inside another overlaps by its whole length), and if a, b and b, c are free of
    conflict in that order, a and c overlap by no more than either of them does with b, so they are free of conflict
    too.
    """
    spans = _Spans(recording, start, end, max_overlap, "")
    weight = _checked_weight(weight, len(spans.start))
    keep = np.zeros(len(weight), bool)
    for rows in _in_parts(spans.recording):
        keep[rows] = _best(spans.part(rows), weight[rows], np.arange(len(rows)))
    return keep


def resolve_overlaps_two_sides(
    src_recording: npt.NDArray[Any],
    src_start: npt.NDArray[Any],
    src_end: npt.NDArray[Any],
    tgt_recording: npt.NDArray[Any],
    tgt_start: npt.NDArray[Any],
    tgt_end: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    max_overlap: float = 0.0,
) -> Bools:
    """Pairs of spans without conflict on either side, with a great sum of weights; (num_pairs,) bool.

    The best sum cannot be found at scale (maximum weight independent set of 2-track intervals; Bar-Yehuda, Halldórsson,
    Naor, Shachnai and Shapira 2006, "Scheduling split intervals"). Pairs that hang together through overlaps are solved
    together, apart from all others. They start from the best of three choices: from the heaviest pair down; exact on
    the source side, then on the target side among what is left; and the other way round. Where the sum is that of the
    exact choice of one side alone it is the best there can be. Else it is improved: a pair is put in, what it conflicts
    with taken out, and what thereby became free filled in again from the heaviest down; the change stays when the sum
    is greater, until no pair gives one.

    Never worse than from the heaviest down, and deterministic. O(n log n) but for the improvement, whose time goes with
    the number of conflicts; where pairs that hang together have more than four million they are improved in parts.
    Arguments and errors as in `resolve_overlaps`.
    """
    sides = [
        _Spans(src_recording, src_start, src_end, max_overlap, "src "),
        _Spans(tgt_recording, tgt_start, tgt_end, max_overlap, "tgt "),
    ]
    if len(sides[0].start) != len(sides[1].start):
        raise InputError(f"src has {len(sides[0].start)} spans and tgt {len(sides[1].start)}: one of each makes a pair")
    weight = _checked_weight(weight, len(sides[0].start))
    keep = np.zeros(len(weight), bool)
    if not len(weight):
        return keep
    cluster = _together([side.clusters() for side in sides])
    for rows in _in_parts(cluster):
        numbers = np.unique(cluster[rows], return_inverse=True)[1].reshape(-1)
        keep[rows] = _resolved([side.part(rows) for side in sides], weight[rows], numbers)
    return keep


def _in_parts(numbers: Integers) -> Iterator[Integers]:
    """Rows in parts of about `_TOGETHER`, those of equal numbers in one part; in each part as they stand."""
    order = np.argsort(numbers, kind="stable")
    ordered, begin = numbers[order], 0
    while begin < len(order):
        last = ordered[min(begin + _TOGETHER, len(order)) - 1]
        end = int(np.searchsorted(ordered, last, side="right"))
        yield np.sort(order[begin:end])
        begin = end


def _resolved(sides: "list[_Spans]", weight: Weights, cluster: Integers) -> Bools:
    """What is kept of pairs of which those of one cluster (num_pairs,), numbered from 0, hang together."""
    everything = np.arange(len(weight))
    exact = [_best(side, weight, everything) for side in sides]
    choices = [_from_the_heaviest(sides, weight)]
    for first, second in ((0, 1), (1, 0)):
        choices.append(_best(sides[second], weight, np.flatnonzero(exact[first])))
    sums = np.array([np.bincount(cluster, weight * choice) for choice in choices])
    bound = np.min([np.bincount(cluster, weight * choice) for choice in exact], axis=0)
    keep: Bools = np.array(choices)[sums.argmax(0)[cluster], everything]
    open_ = (sums.max(0) < bound * (1 - _ROUNDING))[cluster]
    _improve(sides, weight, keep, cluster, open_)
    return keep


class _Spans:
    """One side's spans, checked: recording numbers, starts, ends, and the overlap (samples) each allows."""

    def __init__(
        self, recording: npt.NDArray[Any], start: npt.NDArray[Any], end: npt.NDArray[Any], max_overlap: float, side: str
    ) -> None:
        if not 0 <= max_overlap < 1:
            raise InputError(f"max_overlap is {max_overlap}: give a share of the shorter span, 0 or more and below 1")
        recording, start, end = np.asarray(recording), np.asarray(start), np.asarray(end)
        if not len(recording) == len(start) == len(end):
            raise InputError(
                f"{side}recording, start and end have {len(recording)}, {len(start)} and {len(end)} rows: give one each"
            )
        for name, column in (("start", start), ("end", end)):
            if len(column) and not np.issubdtype(column.dtype, np.integer):
                raise InputError(f"{side}{name} is {column.dtype}: give whole samples as integers")
        self.start, self.end = start.astype(np.int64), end.astype(np.int64)
        self.recording: Integers = np.unique(recording, return_inverse=True)[1].reshape(-1).astype(np.int64)
        length = self.end - self.start
        self.max_overlap = max_overlap
        if (length <= 0).any():
            row = int(np.flatnonzero(length <= 0)[0])
            raise InputError(f"{side}span {row} is [{start[row]}, {end[row]}): its end must be after its start")
        # Whole samples: an overlap of integers is within a share exactly when it is within the share rounded down.
        # The small addition keeps products such as 0.29 * 100 = 28.999… at the whole number they stand for.
        self.allowed: Integers = np.minimum(np.floor(max_overlap * length + 1e-9).astype(np.int64), length - 1)

    def part(self, rows: Integers) -> "_Spans":
        """Some of the spans."""
        return _Spans(self.recording[rows], self.start[rows], self.end[rows], self.max_overlap, "")

    def in_a_row(self) -> tuple[Integers, Integers]:
        """Starts and ends with the recordings laid one behind the other, so that those of several never overlap."""
        recordings = int(self.recording.max(initial=-1)) + 1
        first = np.full(recordings, np.iinfo(np.int64).max)
        last = np.full(recordings, np.iinfo(np.int64).min)
        np.minimum.at(first, self.recording, self.start)
        np.maximum.at(last, self.recording, self.end)
        length = last - first
        shift = (np.cumsum(length) - length - first)[self.recording]
        return self.start + shift, self.end + shift

    def clusters(self) -> Integers:
        """Numbers (num_spans,) that are equal for spans that hang together: a gap in time parts them."""
        start, end = self.in_a_row()
        order = np.argsort(start, kind="stable")
        reach = np.maximum.accumulate(end[order])
        begins = np.append(True, start[order][1:] >= reach[:-1])
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.cumsum(begins) - 1
        return numbers


def _checked_weight(weight: npt.NDArray[Any], rows: int) -> Weights:
    weight = np.asarray(weight).astype(np.float64)
    if weight.shape != (rows,):
        raise InputError(f"weight has shape {weight.shape} for {rows} spans: give one number each")
    bad = ~(np.isfinite(weight) & (weight > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"weight of row {row} is {weight[row]}: weights must be above 0, shift or scale them")
    return weight


def _best(spans: _Spans, weight: Weights, rows: Integers) -> Bools:
    """The heaviest of the spans `rows` that have no conflict, as a mask over all spans."""
    keep = np.zeros(len(weight), bool)
    start, end = spans.in_a_row()
    order = rows[np.lexsort((start[rows], end[rows]))]
    start, end, allowed = start[order], end[order], spans.allowed[order]
    chain = _best_chain_of_overlapping(start, end, allowed, weight[order]) if allowed.any() else None
    keep[order[_best_chain(start, end, weight[order]) if chain is None else chain]] = True
    return keep


def _best_chain(start: Integers, end: Integers, weight: Weights) -> list[int]:
    """Positions of the heaviest chain of spans that do not overlap; spans by end."""
    before = np.searchsorted(end, start, side="right").tolist()  # how many spans end in time
    sums = [0.0]
    for place, own in enumerate(weight.tolist()):
        with_it = sums[before[place]] + own
        sums.append(with_it if with_it > sums[-1] else sums[-1])
    chain: list[int] = []
    place = len(before)
    while place:
        if sums[place] > sums[place - 1]:
            chain.append(place - 1)
            place = before[place - 1]
        else:
            place -= 1
    return chain


def _best_chain_of_overlapping(start: Integers, end: Integers, allowed: Integers, weight: Weights) -> list[int]:
    """Positions of the heaviest chain of spans of which some may overlap.

    Span j may come before i when end_j <= start_i + allowed_i and end_j - allowed_j <= start_i. A sweep over time asks
    for the best j at start_i + allowed_i, when only spans with earlier ends have entered, by the second
    condition: a prefix maximum, kept in a Fenwick tree over the values of end - allowed.
    """
    inner = end - allowed
    values = np.unique(inner)
    slot = (np.searchsorted(values, inner) + 1).tolist()
    reach = np.searchsorted(values, start, side="right").tolist()
    when = np.concatenate([end, start + allowed])
    asks = np.repeat([0, 1], len(start))  # of the same moment, a span that ends enters before another asks
    best = [0.0] * (len(values) + 1)
    holder = [-1] * (len(values) + 1)
    sums = [0.0] * len(start)
    before = [-1] * len(start)
    weights = weight.tolist()
    heaviest, last = 0.0, -1
    for event in np.lexsort((asks, when)).tolist():
        span = event % len(start)
        if event >= len(start):
            place, total, previous = reach[span], 0.0, -1
            while place:
                if best[place] > total:
                    total, previous = best[place], holder[place]
                place &= place - 1
            sums[span], before[span] = total + weights[span], previous
            if sums[span] > heaviest:
                heaviest, last = sums[span], span
        else:
            place, total = slot[span], sums[span]
            while place < len(best):
                if total > best[place]:
                    best[place], holder[place] = total, span
                place += place & -place
    chain: list[int] = []
    while last >= 0:
        chain.append(last)
        last = before[last]
    return chain


def _together(numbers: list[Integers]) -> Integers:
    """Numbers (num_pairs,) from 0 that are equal for pairs that hang together through the numbers of any side."""
    label = np.arange(len(numbers[0]))
    while True:
        new = label
        for side in numbers:
            least = np.full(int(side.max()) + 1, len(label))
            np.minimum.at(least, side, new)
            new = least[side]
        new = new[new]  # labels are pairs: what hangs together with them is taken over, so that few rounds suffice
        if (new == label).all():
            return np.unique(label, return_inverse=True)[1].reshape(-1).astype(np.int64)
        label = new


def _from_the_heaviest(sides: list[_Spans], weight: Weights) -> Bools:
    """Pairs taken from the heaviest down where they do not conflict with any that was taken before.

    What was taken from a recording is free of conflicts, so that its starts and its ends are in the same order, and a
    span has to be compared with the one before it and the one after it only (see `resolve_overlaps`).
    """
    keep = np.zeros(len(weight), bool)
    columns = [
        (side.recording.tolist(), side.start.tolist(), side.end.tolist(), side.allowed.tolist()) for side in sides
    ]
    taken: list[dict[int, tuple[list[int], list[int]]]] = [{} for _ in sides]  # of a recording: starts and rows
    for row in np.argsort(-weight, kind="stable").tolist():
        places = []
        for (recording, start, end, allowed), lists in zip(columns, taken, strict=True):
            begin = start[row]
            starts, rows = lists.setdefault(recording[row], ([], []))
            place = bisect_left(starts, begin)
            if place and end[rows[place - 1]] - begin > min(allowed[row], allowed[rows[place - 1]]):
                break
            if place < len(starts):
                after = rows[place]
                if min(end[row], end[after]) - starts[place] > min(allowed[row], allowed[after]):
                    break
            places.append((place, starts, rows, begin))
        else:
            keep[row] = True
            for place, starts, rows, begin in places:
                starts.insert(place, begin)
                rows.insert(place, row)
    return keep


def _improve(sides: list[_Spans], weight: Weights, keep: Bools, cluster: Integers, open_: Bools) -> None:
    """Improve what is kept of the pairs that are open, in place, so many at a time that their conflicts fit.

    Pairs that hang together stay together as far as they fit; what is kept of the others is left alone then.
    """
    rows = np.flatnonzero(open_)
    if not len(rows):
        return
    rows = rows[np.lexsort((sides[0].in_a_row()[0][rows], cluster[rows]))]
    filled = np.cumsum(_most_conflicts(sides, rows)) // _CONFLICTS
    for batch in np.split(rows, np.flatnonzero(np.diff(filled)) + 1):
        others = keep.copy()
        others[batch] = False
        outside = np.flatnonzero(others)
        some = batch[~np.logical_or.reduce([_conflict_with(side, outside, batch) for side in sides])]
        if len(some):
            keep[some] = _improved(_conflicts([side.part(some) for side in sides]), weight[some], keep[some])


def _conflict_with(side: _Spans, kept: Integers, rows: Integers) -> Bools:
    """Which of the spans `rows` conflict with any of `kept`, which are free of conflicts among themselves.

    The nearest before and after are enough to look at (see `_from_the_heaviest`).
    """
    start, end = side.in_a_row()
    kept = kept[np.argsort(start[kept], kind="stable")]
    found = np.zeros(len(rows), bool)
    if not len(kept):
        return found
    place = np.searchsorted(start[kept], start[rows], side="left")
    for there, at in ((place > 0, place - 1), (place < len(kept), place)):
        near = kept[np.clip(at, 0, len(kept) - 1)]
        overlap = np.minimum(end[rows], end[near]) - np.maximum(start[rows], start[near])
        found |= there & (overlap > np.minimum(side.allowed[rows], side.allowed[near]))
    return found


def _later(side: _Spans) -> tuple[Integers, Integers]:
    """Spans by recording and start; and for each in that order how many after it begin before it ends."""
    start, end = side.in_a_row()
    order = np.argsort(start, kind="stable")
    return order, np.searchsorted(start[order], end[order], side="left") - np.arange(len(order)) - 1


def _most_conflicts(sides: list[_Spans], rows: Integers) -> Integers:
    """For each of the pairs `rows` at most how many conflicts are found from it on, on both sides."""
    most = np.zeros(len(rows), np.int64)
    for side in sides:
        order, count = _later(side.part(rows))
        most[order] += count
    return most


def _conflicts(sides: list[_Spans]) -> "list[array[int]]":
    """For each pair the pairs that it conflicts with on any side, ascending."""
    edges = [_conflicts_of_side(side) for side in sides]
    one, two = (np.concatenate(column) for column in zip(*edges, strict=True))
    rows = len(sides[0].start)
    key = np.concatenate([one * rows + two, two * rows + one])
    del edges, one, two
    key.sort()
    key = key[np.append(True, key[1:] != key[:-1])] if len(key) else key
    ends = np.searchsorted(key, (np.arange(rows) + 1) * rows).tolist()
    others = array("i", (key % rows).astype(np.intc).tobytes())  # lists of Python's numbers take ten times the memory
    return [others[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def _conflicts_of_side(side: _Spans) -> tuple[Integers, Integers]:
    order, count = _later(side)
    start, end, allowed = side.start[order], side.end[order], side.allowed[order]
    one = np.repeat(np.arange(len(order)), count)
    two = one + 1 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    overlap = np.minimum(end[one], end[two]) - start[two]
    bad = overlap > np.minimum(allowed[one], allowed[two])
    return order[one[bad]], order[two[bad]]


def _improved(conflicts: "list[array[int]]", weight: Weights, start: Bools) -> Bools:
    """What is kept, from `start` on, after no pair that is put in gives a greater sum any more."""
    weights, keep = weight.tolist(), start.tolist()
    order = np.argsort(-weight, kind="stable").tolist()
    place = {row: number for number, row in enumerate(order)}
    blocked = [sum(keep[other] for other in near) for near in conflicts]  # how many kept pairs each conflicts with

    tries = order
    while tries:
        swapped: set[int] = set()
        for row in tries:
            if keep[row]:
                continue
            out = [other for other in conflicts[row] if keep[other]]
            into, gain = _filled(row, out, conflicts, blocked, weights, place)
            if gain <= sum(weights[other] for other in out) * (1 + _ROUNDING):  # more than rounding, so that it ends
                continue
            swapped.update(out, into)
            for rows, now in ((out, False), (into, True)):
                for other in rows:
                    keep[other] = now
                    for near in conflicts[other]:
                        blocked[near] += 1 if now else -1
        # A pair has another chance where what it would push out, or what would come in for that, has changed.
        touched = {one for other in swapped for one in (other, *conflicts[other])}
        kept = {other for one in touched for other in conflicts[one] if keep[other]}
        again = touched.union(*(conflicts[other] for other in kept))
        tries = sorted((row for row in again if not keep[row]), key=place.__getitem__)
    return np.asarray(keep, bool)


def _filled(
    row: int,
    out: list[int],
    conflicts: "list[array[int]]",
    blocked: list[int],
    weights: list[float],
    place: dict[int, int],
) -> tuple[list[int], float]:
    """What can be kept in place of `out` when `row` is, from the heaviest down, and its weight."""
    most, met = len(out), dict[int, int]()
    for other in out:
        for near in conflicts[other]:
            if blocked[near] <= most:
                met[near] = met.get(near, 0) + 1
    own = set(conflicts[row])
    free = [near for near, times in met.items() if times == blocked[near] and near != row and near not in own]
    into, gain = [row], weights[row]
    for near in sorted(free, key=place.__getitem__):
        if near not in own:
            into.append(near)
            gain += weights[near]
            own.update(conflicts[near])
    return into, gain
