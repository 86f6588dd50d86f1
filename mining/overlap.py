"""Kept pairs must not share audio: which of the overlapping ones to keep.

Two spans of one recording are in conflict when they overlap by more than `max_overlap` times the length of the shorter.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


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
    order = np.lexsort((spans.start, spans.end, spans.recording))
    bounds = np.flatnonzero(np.diff(spans.recording[order], prepend=-1, append=-1))
    for left, right in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[left:right]
        keep[rows[_best_chain(spans.start[rows], spans.end[rows], spans.allowed[rows], weight[rows])]] = True
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

    The best sum cannot be found at scale (maximum weight independent set of 2-track intervals). Pairs are taken from
    the heaviest down, then improved: a pair is put in, what it conflicts with taken out, and what thereby became free
    filled in again from the heaviest down; the change stays when the sum is greater, until no pair gives one. Never
    worse than the first walk, and deterministic. Arguments and errors as in `resolve_overlaps`.
    """
    sides = [
        _Spans(src_recording, src_start, src_end, max_overlap, "src "),
        _Spans(tgt_recording, tgt_start, tgt_end, max_overlap, "tgt "),
    ]
    if len(sides[0].start) != len(sides[1].start):
        raise InputError(f"src has {len(sides[0].start)} spans and tgt {len(sides[1].start)}: one of each makes a pair")
    weight = _checked_weight(weight, len(sides[0].start))
    return _improved(_conflicts(sides), weight)


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
        if (length <= 0).any():
            row = int(np.flatnonzero(length <= 0)[0])
            raise InputError(f"{side}span {row} is [{start[row]}, {end[row]}): its end must be after its start")
        # Whole samples: an overlap of integers is within a share exactly when it is within the share rounded down.
        # The small addition keeps products such as 0.29 * 100 = 28.999… at the whole number they stand for.
        self.allowed: Integers = np.minimum(np.floor(max_overlap * length + 1e-9).astype(np.int64), length - 1)


def _checked_weight(weight: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float64]:
    weight = np.asarray(weight).astype(np.float64)
    if weight.shape != (rows,):
        raise InputError(f"weight has shape {weight.shape} for {rows} spans: give one number each")
    bad = ~(np.isfinite(weight) & (weight > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"weight of row {row} is {weight[row]}: weights must be above 0, shift or scale them")
    return weight


def _best_chain(start: Integers, end: Integers, allowed: Integers, weight: npt.NDArray[np.float64]) -> list[int]:
    """Positions of the heaviest chain of spans of one recording.

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


def _conflicts(sides: list[_Spans]) -> list[list[int]]:
    """For each pair the pairs that it conflicts with on any side, ascending."""
    edges = [_conflicts_of_side(side) for side in sides]
    one, two = (np.concatenate(column) for column in zip(*edges, strict=True))
    rows = len(sides[0].start)
    key = np.unique(np.concatenate([one * rows + two, two * rows + one]))
    neighbours = np.split(key % max(rows, 1), np.searchsorted(key // max(rows, 1), np.arange(1, rows)))
    return [part.tolist() for part in neighbours[:rows]]


def _conflicts_of_side(side: _Spans) -> tuple[Integers, Integers]:
    order = np.lexsort((side.start, side.recording))
    start, end, recording = side.start[order], side.end[order], side.recording[order]
    # Ranks of times keep recording and time in one sortable number.
    times = np.unique(np.concatenate([start, end]))
    starts = recording * len(times) + np.searchsorted(times, start)
    ends = recording * len(times) + np.searchsorted(times, end)
    count = (
        np.searchsorted(starts, ends, side="left") - np.arange(len(order)) - 1
    )  # later ones that begin before its end
    one = np.repeat(np.arange(len(order)), count)
    two = one + 1 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    overlap = np.minimum(end[one], end[two]) - start[two]
    allowed = side.allowed[order]
    bad = overlap > np.minimum(allowed[one], allowed[two])
    return order[one[bad]], order[two[bad]]


def _improved(conflicts: list[list[int]], weight: npt.NDArray[np.float64]) -> Bools:
    weights = weight.tolist()
    order = np.argsort(-weight, kind="stable").tolist()
    place = {row: number for number, row in enumerate(order)}
    blocked = [0] * len(weights)  # how many kept pairs each conflicts with
    keep = [False] * len(weights)

    def put(row: int) -> None:
        keep[row] = True
        for other in conflicts[row]:
            blocked[other] += 1

    def take(row: int) -> None:
        keep[row] = False
        for other in conflicts[row]:
            blocked[other] -= 1

    for row in order:
        if not blocked[row]:
            put(row)
    changed = True
    while changed:
        changed = False
        for row in order:
            if keep[row]:
                continue
            out = [other for other in conflicts[row] if keep[other]]
            for other in out:
                take(other)
            put(row)
            freed = {near for other in out for near in conflicts[other]}
            into = [row]
            for near in sorted(freed, key=place.__getitem__):
                if not keep[near] and not blocked[near]:
                    put(near)
                    into.append(near)
            lost = sum(weights[other] for other in out)
            if sum(weights[other] for other in into) > lost * (1 + 1e-12):  # more than rounding, so that it ends
                changed = True
                continue
            for other in into:
                take(other)
            for other in out:
                put(other)
    return np.asarray(keep, bool)
