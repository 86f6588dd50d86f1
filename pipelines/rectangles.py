"""Cutting the plane of all pairs of rows into rectangles: what a scan task does each of."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Rectangle(NamedTuple):
    """Rows [begin, end) of one side against rows [left, right) of the other."""

    begin: int
    end: int
    left: int
    right: int

    @property
    def rows(self) -> int:
        """How many rows of the one side."""
        return self.end - self.begin

    @property
    def columns(self) -> int:
        """How many rows of the other."""
        return self.right - self.left

    @property
    def turned(self) -> "Rectangle":
        """The same seen from the other side."""
        return Rectangle(self.left, self.right, self.begin, self.end)


def disjoint(rectangles: Iterable[Rectangle]) -> list[Rectangle]:
    """Rectangles in order, but of those that share a pair only the first: a pair found twice would count twice."""
    ordered = sorted(set(rectangles))
    kept: list[Rectangle] = []
    edges = np.empty((len(ordered), 4), np.int64)
    for one in ordered:
        begin, end, left, right = edges[: len(kept)].T
        if not ((begin < one.end) & (one.begin < end) & (left < one.right) & (one.left < right)).any():
            edges[len(kept)] = one
            kept.append(one)
    return kept


def covers(rectangles: Iterable[Rectangle], rows: int, columns: int) -> bool:
    """Whether rectangles of which no two share a pair, all within the plane, hold every pair of it."""
    return sum(one.rows * one.columns for one in rectangles) == rows * columns


def cut(rows: int, columns: int, step: tuple[int, int], done: Iterable[Rectangle] = ()) -> list[Rectangle]:
    """Rectangles that together hold every pair once, in order.

    Those `done` that lie within the plane stay as they are; what they leave is cut into pieces of at most `step` rows
    and columns.
    """
    inside = (one for one in done if 0 <= one.begin < one.end <= rows and 0 <= one.left < one.right <= columns)
    kept = disjoint(inside)
    pieces = [
        Rectangle(begin, min(begin + step[0], end), at, min(at + step[1], right))
        for begin, end, left, right in _uncovered(rows, columns, kept)
        for begin in range(begin, end, step[0])
        for at in range(left, right, step[1])
    ]
    return sorted(kept + pieces)


def _uncovered(rows: int, columns: int, kept: list[Rectangle]) -> list[Rectangle]:
    """What disjoint rectangles leave of the plane, cut at their upper and lower edges where that is needed."""
    edges: npt.NDArray[np.int64] = np.array(kept, np.int64).reshape(-1, 4)
    found: list[Rectangle] = []
    open_: dict[tuple[int, int], int] = {}  # gap (left, right) → where it begins, as long as nothing changes
    for begin, end in pairwise(np.unique([0, rows, *edges[:, 0], *edges[:, 1]]).tolist()):
        across = edges[(edges[:, 0] <= begin) & (edges[:, 1] >= end)]
        walls = [0, *across[np.argsort(across[:, 2]), 2:].ravel().tolist(), columns]
        gaps = [(left, right) for left, right in zip(walls[::2], walls[1::2], strict=True) if left < right]
        if gaps != list(open_):
            found += [Rectangle(since, begin, *gap) for gap, since in open_.items()]
            open_ = dict.fromkeys(gaps, begin)
    return found + [Rectangle(since, rows, *gap) for gap, since in open_.items()]
