"""How well two sides of a shared space find each other: precision at one and xsim, with plain cosines and margins.

Row i of one side means the same as row i of the other. A row is found when the best row of the other side is its
counterpart, or says the same as it (`labels`). xsim is the share that is not found by the ratio margin over k = 4
neighbours (Duquenne et al. 2023, section 4.1): here of all rows of the other side, while LASER's program lets the
margin choose among the k nearest alone (`best_of_each` with `among`), which finds a point less or so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

Retrieving = Literal["forward", "backward", "intersect", "max"]

_LEAST = 1e-6  # mean cosine that a margin is relative to: below 0 it would turn the order round
_SCORES = 1 << 24  # cosines held at once: 64 MiB


@dataclass(frozen=True)
class Retrieval:
    """Shares of rows whose best row of the other side is right."""

    num_rows: int
    forward: float  # by cosine, sources finding targets
    backward: float  # by cosine, targets finding sources
    forward_margin: float  # by ratio margin
    backward_margin: float

    @property
    def xsim(self) -> float:
        """Error rate of sources by margin."""
        return 1 - self.forward_margin


@dataclass(frozen=True)
class Best:
    """Each row's best of the other side, `(num_rows,)`: -1 where the row, or every row there, is zero or not finite."""

    cosine: Int64  # by cosine
    margin: Int64  # by cos / ((mean around the row + mean around the other) / 2), means over the k nearest
    score: npt.NDArray[np.float64]  # that margin; nan where there is none


def retrieval(src: Float32, tgt: Float32, k: int = 4, labels: npt.ArrayLike | None = None) -> Retrieval:
    """Measure two sides (num_rows, dim) of any norm, row by row counterparts.

    k: neighbours whose mean cosine a margin is relative to. labels (num_rows,): rows with the same label mean the same,
    such as a text that occurs twice. Raises InputError for sides of different shape, without rows, or with rows that
    are zero or not finite.
    """
    if src.shape != tgt.shape or src.ndim != 2 or not len(src):
        raise InputError(
            f"sides have shapes {src.shape} and {tgt.shape}: row i of one is the counterpart of the other's"
        )
    for rows, side in ((src, "source"), (tgt, "target")):
        bad = np.flatnonzero(~_usable(rows))
        if len(bad):
            raise InputError(f"{side} row {bad[0]} is zero or not finite: leave it out on both sides")
    same = np.arange(len(src)) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    shares = [
        (float(np.mean(same[best.cosine] == same)), float(np.mean(same[best.margin] == same)))
        for best in best_of_each(src, tgt, k)
    ]
    return Retrieval(len(src), shares[0][0], shares[1][0], shares[0][1], shares[1][1])


def best_of_each(src: Float32, tgt: Float32, k: int = 4, among: int | None = None) -> tuple[Best, Best]:
    """The best target of each source, and the best source of each target, of sides `(num_src, dim)`, `(num_tgt, dim)`.

    Rows have any norm; those that are zero or not finite find nothing and are found by nothing. among: the margin
    chooses among so many nearest by cosine, as LASER's xsim does with k; by default among all. Raises InputError for
    sides whose rows have not as many dimensions.
    """
    sides = _Sides(src, tgt, k)
    return sides.best(among), sides.turned().best(among)


def best_targets(src: Float32, tgt: Float32, k: int = 4, among: int | None = None) -> Best:
    """As `best_of_each`, of sources alone."""
    return _Sides(src, tgt, k).best(among)


def mine_best(src: Float32, tgt: Float32, k: int = 4, how: Retrieving = "max") -> tuple[Int64, Int64, Float32]:
    """Pairs of two sides by margin among the k nearest: sources, targets, margins, from the best down.

    `forward` has the best target of each source, `backward` the best source of each target, `intersect` the pairs that
    are both. `max` walks through both from the best down and takes what has neither row in a pair already, as LASER's
    `mine_bitexts` does (Artetxe and Schwenk 2019, "Margin-based parallel corpus mining", section 4.3).
    """
    forward, backward = best_of_each(src, tgt, k, among=k)
    pairs: dict[tuple[int, int], float] = {}
    if how != "backward":
        pairs |= {(i, int(j)): float(forward.score[i]) for i, j in enumerate(forward.margin) if j >= 0}
    if how in ("backward", "max"):
        pairs |= {(int(i), j): float(backward.score[j]) for j, i in enumerate(backward.margin) if i >= 0}
    if how == "intersect":
        pairs = {(i, j): score for (i, j), score in pairs.items() if backward.margin[j] == i}
    order = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
    if how == "max":
        order = list(_first_of_each(order))
    rows = np.array(order, np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1], np.array([pairs[pair] for pair in order], np.float32)


def _first_of_each(pairs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    taken: tuple[set[int], set[int]] = (set(), set())
    for i, j in pairs:
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            yield i, j


class _Sides:
    """Two sides without the rows that are zero or not finite, and the mean cosine of each row with its k nearest."""

    def __init__(self, src: Float32, tgt: Float32, k: int) -> None:
        if src.ndim != 2 or tgt.ndim != 2 or src.shape[1] != tgt.shape[1]:
            raise InputError(f"sides have shapes {src.shape} and {tgt.shape}: rows of both need the same dimensions")
        if k < 1:
            raise InputError(f"k is {k}: it must be 1 or more")
        self._lengths = len(src), len(tgt)
        self._there = np.flatnonzero(_usable(src)), np.flatnonzero(_usable(tgt))
        self._rows = _unit(src[self._there[0]]), _unit(tgt[self._there[1]])
        self._around = _mean_of_nearest(*self._rows, k), _mean_of_nearest(*self._rows[::-1], k)

    def turned(self) -> "_Sides":
        """The same with sources and targets exchanged."""
        other = object.__new__(_Sides)
        other._lengths, other._there = self._lengths[::-1], self._there[::-1]
        other._rows, other._around = self._rows[::-1], self._around[::-1]
        return other

    def best(self, among: int | None) -> Best:
        """The best target of each source."""
        num_rows, (ours, theirs) = self._lengths[0], self._there
        whole = Best(np.full(num_rows, -1), np.full(num_rows, -1), np.full(num_rows, np.nan))
        if len(ours) and len(theirs):
            found = _best(*self._rows, *self._around, among)
            whole.cosine[ours], whole.margin[ours], whole.score[ours] = (
                theirs[found.cosine],
                theirs[found.margin],
                found.score,
            )
        return whole


def _usable(rows: Float32) -> npt.NDArray[np.bool_]:
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    return np.asarray(np.isfinite(norms) & (norms > 0))


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None], np.float32)


def _blocks(num_rows: int, others: int) -> list[slice]:
    step = max(1, _SCORES // max(1, others))
    return [slice(start, start + step) for start in range(0, num_rows, step)]


def _mean_of_nearest(rows: Float32, others: Float32, k: int) -> Float32:
    """The mean cosine of each row with its k nearest of the other side, all of them where it has fewer, (num_rows,)."""
    k, means = min(k, len(others)), [np.zeros(0, np.float32)]
    for part in _blocks(len(rows), len(others)) if k else []:
        nearest = np.partition(rows[part] @ others.T, -k, axis=1)[:, -k:]
        means.append(np.sort(nearest, axis=1).mean(1))
    return np.concatenate(means)


def _best(rows: Float32, others: Float32, around: Float32, around_others: Float32, among: int | None) -> Best:
    plain, margin, scores = [], [], []
    for part in _blocks(len(rows), len(others)):
        cosine = rows[part] @ others.T
        plain.append(cosine.argmax(1))
        if among is None or among >= len(others):
            near, theirs = None, around_others[None]
        else:
            near = np.sort(np.argpartition(cosine, -among, axis=1)[:, -among:], axis=1)
            cosine, theirs = np.take_along_axis(cosine, near, axis=1), around_others[near]
        ratio = cosine / np.maximum((around[part, None] + theirs) / 2, _LEAST)
        best = ratio.argmax(1)[:, None]
        scores.append(np.take_along_axis(ratio, best, axis=1)[:, 0])
        margin.append((best if near is None else np.take_along_axis(near, best, axis=1))[:, 0])
    return Best(np.concatenate(plain), np.concatenate(margin), np.concatenate(scores).astype(np.float64))
