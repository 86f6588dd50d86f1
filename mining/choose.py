"""From scored candidates to pairs: the strategies of margin mining."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining import native
from seamlessalign.mining.groups import Alike, like_first
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.lists import InMemory, Lists
from seamlessalign.mining.vectors import Floats, Indices

STRATEGIES = ("forward", "backward", "union", "intersect", "max")
DEPTH = 4  # candidates that each row puts forward where it falls back on near-duplicates of its best only
ONCE_PER_TARGET = ("backward", "intersect", "max")  # no target is in two pairs


class Offers(NamedTuple):
    """Pairs that rows of one side put forward; every array (num_pairs,). Rows may be numbered in 32 bits."""

    row: npt.NDArray[np.integer[Any]]
    other: npt.NDArray[np.integer[Any]]
    margin: Floats
    cosine: Floats

    @property
    def turned(self) -> "Offers":
        """The same pairs, the other row first."""
        return Offers(self.other, self.row, self.margin, self.cosine)

    def some(self, which: npt.NDArray[Any]) -> "Offers":
        """Those at some places, or under a mask."""
        return Offers(self.row[which], self.other[which], self.margin[which], self.cosine[which])

    def small(self, rows: int) -> "Offers":
        """The same in 32 bits where these suffice to number so many rows: all offers of a direction are in memory."""
        if rows > np.iinfo(np.int32).max:
            return self
        return Offers(self.row.astype(np.int32), self.other.astype(np.int32), self.margin, self.cosine)

    @staticmethod
    def of(parts: "Sequence[Offers]") -> "Offers":
        """All together."""
        return Offers(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Chosen:
    """Pairs by margin descending, then src, then tgt; every array (num_pairs,)."""

    src: Indices
    tgt: Indices
    margin: Floats  # float32
    cosine: Floats  # float32
    forward_rank: npt.NDArray[np.int16]  # place of tgt among src's neighbours, -1 when it is not among them
    backward_rank: npt.NDArray[np.int16]  # place of src among tgt's neighbours, -1 when it is not among them


def choose(
    forward: Neighbours,
    backward: Neighbours,
    forward_margin: Floats,
    backward_margin: Floats,
    strategy: str = "max",
    depth: int = 1,
    *,
    src_alike: Alike | None = None,
    tgt_alike: Alike | None = None,
) -> Chosen:
    """Choose pairs from the candidates of both directions, whose lists may differ in width.

    A row's best is the candidate with the highest margin, the lowest index among equals. `forward` pairs every source
    with its best target, `backward` every target with its best source, `union` is both without repeats, `intersect`
    what both have, and `max` walks the union from the highest margin and takes a pair where neither row is taken.

    depth: how many of its candidates, from the best down, each row puts forward. With 1 the strategies are LASER's. In
    `max` a row whose best is taken then falls back on its next, so that of two sources with the same best target the
    one that loses it keeps its claim to another; the other strategies list that many pairs of every row. src_alike and
    tgt_alike say which rows of a side are the same: of the candidates on that side only those alike the best are put
    forward then, so that a row falls back on a near-duplicate of its best and not on anything else. Raises InputError
    for a strategy that does not exist and a depth below 1.
    """
    ahead = put_forward(0, forward, forward_margin, depth, tgt_alike)
    back = put_forward(0, backward, backward_margin, depth, src_alike)
    return choose_among(ahead, back, InMemory(forward), InMemory(backward), strategy)


def choose_among(
    ahead: Offers, back: Offers, forward: Lists, backward: Lists, strategy: str, k: tuple[int, int] | None = None
) -> Chosen:
    """Choose from what sources and targets put forward. Ranks are places among the first k of either side's lists."""
    check_strategy(strategy)
    back = back.turned
    if strategy == "forward":
        pairs = ahead
    elif strategy == "backward":
        pairs = back
    elif strategy == "max":  # of a pair that both put forward, the second is not taken
        pairs = Offers.of([ahead, back])
    else:
        shared = _among(back, ahead, len(backward))
        pairs = back.some(shared) if strategy == "intersect" else Offers.of([ahead, back.some(~shared)])
    del ahead, back
    order = np.lexsort((pairs.other, pairs.row, -pairs.margin))
    if strategy == "max":
        order = order[one_to_one(pairs.row[order], pairs.other[order])]
    src, tgt = pairs.row[order].astype(np.int64), pairs.other[order].astype(np.int64)
    margin, cosine = pairs.margin[order], pairs.cosine[order]
    del pairs, order
    ks = k or (forward.width, backward.width)
    return Chosen(src, tgt, margin, cosine, rank(forward, src, tgt, ks[0]), rank(backward, tgt, src, ks[1]))


def check_strategy(strategy: str) -> None:
    """Raise InputError for a strategy that does not exist."""
    if strategy not in STRATEGIES:
        raise InputError(f"strategy is {strategy!r}: choose one of {', '.join(STRATEGIES)}")


def one_to_one(src: npt.NDArray[np.integer[Any]], tgt: npt.NDArray[np.integer[Any]]) -> Indices:
    """Positions, ascending, of the pairs that a walk from the first to the last takes when no row may be in two pairs.

    src and tgt (num_pairs,): row numbers, 0 or more. Linear in the pairs and the highest row numbers.
    """
    if not len(src):
        return np.zeros(0, np.int64)
    for name, rows in (("src", src), ("tgt", tgt)):
        if rows.min() < 0:
            raise InputError(f"{name} of pair {int(rows.argmin())} is {rows.min()}: rows are numbered from 0")
    return native.walk_one_to_one(src, tgt, int(src.max()) + 1, int(tgt.max()) + 1)


def rank(lists: Lists, rows: Indices, others: Indices, k: int) -> npt.NDArray[np.int16]:
    """Place of `others` among the first k neighbours of `rows`, -1 when not among them; both (num_pairs,)."""
    out = np.full(len(rows), -1, np.int16)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    for begin, part in lists.ranges():
        first, last = np.searchsorted(ordered, [begin, begin + len(part.index)])
        pairs, lines = order[first:last], ordered[first:last] - begin
        for place in range(min(k, lists.width)):
            out[pairs[part.index[lines, place] == others[pairs]]] = place
    return out


def put_forward(begin: int, lists: Neighbours, margin: Floats, depth: int, alike: Alike | None) -> Offers:
    """The `depth` best candidates of each row that are alike the best: row, the other row, margin and cosine.

    begin: row of the first of these lists. Raises InputError for a depth below 1.
    """
    if depth < 1:
        raise InputError(f"depth is {depth}: every row puts one candidate or more forward")
    index, cosine = lists.index, lists.cosine
    places, left = [], margin if depth == 1 else margin.copy()
    for _ in range(min(depth, index.shape[1])):
        tied = left == left.max(1, keepdims=True)
        places.append(np.where(tied, index, np.iinfo(np.int64).max).argmin(1)[:, None])
        if depth > 1:
            np.put_along_axis(left, places[-1], -np.inf, 1)
    best = np.concatenate(places, 1)
    rows: Indices = np.repeat(np.arange(begin, begin + len(index), dtype=np.int64), best.shape[1])
    other: Indices = np.take_along_axis(index, best, 1)
    offers = Offers(
        rows,
        other.ravel(),
        np.take_along_axis(margin, best, 1).ravel(),
        np.take_along_axis(cosine, best, 1).ravel(),
    )
    return offers if alike is None or depth == 1 else offers.some(like_first(other, alike).ravel())


def _among(pairs: Offers, others: Offers, num_tgt: int) -> npt.NDArray[np.bool_]:
    """Which of these pairs are among the others."""
    keys = (offers.row.astype(np.int64) * num_tgt + offers.other for offers in (pairs, others))
    return np.isin(next(keys), next(keys))
