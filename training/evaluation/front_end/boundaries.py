"""Boundaries of stretches of speech against known ones: which of them are found, and how much speech is.

A boundary is a start or an end. Where several are closer than `merge`, as where candidate spans overlap or one ends
where the next begins, the first stands for all. Found ones are matched with known ones one to one, within a tolerance.
Times are in seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from seamlessalign.training.evaluation.measures import Float64

Span = tuple[float, float]  # start, end


def boundaries_of(spans: Sequence[Span], merge: float) -> list[float]:
    """The distinct boundaries of spans, in order; they may overlap."""
    kept: list[float] = []
    for point in sorted({point for span in spans for point in span}):
        if not kept or point - kept[-1] > merge:
            kept.append(point)
    return kept


def matched(known: Sequence[float], found: Sequence[float], tolerance: float) -> list[tuple[int, int]]:
    """Pairs of places of boundaries, both in order, that differ by no more than a tolerance: as many as there can be.

    Of two lists in order, whichever has the earlier boundary can do without it where it is too early for the other's
    first, and else matching the two firsts costs nothing, so one walk finds the most pairs.
    """
    pairs, i, j = [], 0, 0
    while i < len(known) and j < len(found):
        if abs(known[i] - found[j]) <= tolerance:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif known[i] < found[j]:
            i += 1
        else:
            j += 1
    return pairs


def spans_found(known: Sequence[Span], found: Sequence[Span], tolerance: float) -> list[bool]:
    """Of each known span, whether some found one has both its boundaries within a tolerance."""
    ordered = sorted(found)
    starts = [start for start, _ in ordered]
    hits = []
    for start, end in known:
        near = ordered[bisect_left(starts, start - tolerance) : bisect_right(starts, start + tolerance)]
        hits.append(any(abs(end - other) <= tolerance for _, other in near))
    return hits


def united(spans: Sequence[Span]) -> list[Span]:
    """Spans that overlap or touch made one, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def covered(spans: Sequence[Span], edges: Sequence[float]) -> Float64:
    """Seconds of united spans between edges, `(len(edges) - 1,)`."""
    starts, ends = np.array(spans, np.float64).reshape(-1, 2).T
    lengths = np.concatenate([[0.0], np.cumsum(ends - starts)])

    def until(time: float) -> float:
        """Seconds of speech before a time."""
        place = int(np.searchsorted(starts, time))
        over = max(0.0, float(ends[place - 1]) - time) if place else 0.0
        return float(lengths[place]) - over

    return np.diff([until(edge) for edge in edges])


def shared(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Where both of two lists of united spans are."""
    found, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start < end:
            found.append((start, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


# Scores of sums: hits, known ones, found ones


def precision(sums: Float64) -> float:
    """Hits over found ones, in per cent; nan where nothing is found."""
    return _share(sums[0], sums[2])


def recall(sums: Float64) -> float:
    """Hits over known ones, in per cent; nan where nothing is known."""
    return _share(sums[0], sums[1])


def f1(sums: Float64) -> float:
    """Twice the hits over known and found ones, in per cent; nan where neither are."""
    return _share(2 * sums[0], sums[1] + sums[2])


def r_value(sums: Float64) -> float:
    """How near to all hits and no over-segmentation, in per cent (Räsänen et al. 2009, "An improved speech segmentation
    quality measure: the R-value"); below 0 where many more are found than known.
    """
    if not sums[1]:
        return float("nan")
    hit_rate, over = 100 * sums[0] / sums[1], 100 * (sums[2] / sums[1] - 1)
    ideal = np.hypot(100 - hit_rate, over)  # distance from all hits and no over-segmentation
    no_false = abs(hit_rate - over - 100) / np.sqrt(2)  # from the line on which no boundary is false
    return float(100 * (1 - (ideal + no_false) / 200))


def _share(part: float, whole: float) -> float:
    return float(100 * part / whole) if whole else float("nan")
