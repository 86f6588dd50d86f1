"""From scored candidates to pairs: the strategies of margin mining."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining import native
from seamlessalign.mining.groups import Alike, like_first
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.vectors import Floats, Indices

STRATEGIES = ("forward", "backward", "union", "intersect", "max")
DEPTH = 4  # candidates that each row puts forward where it falls back on near-duplicates of its best only
ONCE_PER_TARGET = ("backward", "intersect", "max")  # no target is in two pairs
_Columns = tuple[Indices, Indices, Floats, Floats]


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
    check_strategy(strategy)
    if depth < 1:
        raise InputError(f"depth is {depth}: every row puts one candidate or more forward")
    ahead = _put_forward(forward, forward_margin, depth, tgt_alike)
    tgt, src, *scores = _put_forward(backward, backward_margin, depth, src_alike)
    back: _Columns = (src, tgt, scores[0], scores[1])
    if strategy == "forward":
        src, tgt, margin, cosine = ahead
    elif strategy == "backward":
        src, tgt, margin, cosine = back
    else:
        shared = _among(back, ahead, len(backward.index))
        if strategy == "intersect":
            src, tgt, margin, cosine = _some(back, shared)
        else:
            new = _some(back, ~shared)
            src, tgt = np.concatenate([ahead[0], new[0]]), np.concatenate([ahead[1], new[1]])
            margin, cosine = np.concatenate([ahead[2], new[2]]), np.concatenate([ahead[3], new[3]])
    order = np.lexsort((tgt, src, -margin))
    if strategy == "max":
        order = order[one_to_one(src[order], tgt[order])]
    src, tgt = src[order], tgt[order]
    return Chosen(src, tgt, margin[order], cosine[order], rank(forward, src, tgt), rank(backward, tgt, src))


def check_strategy(strategy: str) -> None:
    """Raise InputError for a strategy that does not exist."""
    if strategy not in STRATEGIES:
        raise InputError(f"strategy is {strategy!r}: choose one of {', '.join(STRATEGIES)}")


def one_to_one(src: Indices, tgt: Indices) -> Indices:
    """Positions, ascending, of the pairs that a walk from the first to the last takes when no row may be in two pairs.

    src and tgt (num_pairs,): row numbers, 0 or more. Linear in the pairs and the highest row numbers.
    """
    if not len(src):
        return np.zeros(0, np.int64)
    for name, rows in (("src", src), ("tgt", tgt)):
        if rows.min() < 0:
            raise InputError(f"{name} of pair {int(rows.argmin())} is {rows.min()}: rows are numbered from 0")
    return native.walk_one_to_one(src, tgt, int(src.max()) + 1, int(tgt.max()) + 1)


def rank(neighbours: Neighbours, rows: Indices, others: Indices) -> npt.NDArray[np.int16]:
    """Place of `others` among the neighbours of `rows`, -1 when not among them; both (num_pairs,)."""
    out = np.full(len(rows), -1, np.int16)
    for place in range(neighbours.index.shape[1]):
        out[neighbours.index[rows, place] == others] = place
    return out


def _put_forward(neighbours: Neighbours, margin: Floats, depth: int, alike: Alike | None) -> _Columns:
    """The `depth` best candidates of each row that are alike the best: row, the other row, margin and cosine."""
    index, cosine = neighbours.index, neighbours.cosine
    places, left = [], margin if depth == 1 else margin.copy()
    for _ in range(min(depth, index.shape[1])):
        tied = left == left.max(1, keepdims=True)
        places.append(np.where(tied, index, np.iinfo(np.int64).max).argmin(1)[:, None])
        if depth > 1:
            np.put_along_axis(left, places[-1], -np.inf, 1)
    best = np.concatenate(places, 1)
    rows: Indices = np.repeat(np.arange(len(index), dtype=np.int64), best.shape[1])
    other: Indices = np.take_along_axis(index, best, 1)
    columns: _Columns = (
        rows,
        other.ravel(),
        np.take_along_axis(margin, best, 1).ravel(),
        np.take_along_axis(cosine, best, 1).ravel(),
    )
    return columns if alike is None or depth == 1 else _some(columns, like_first(other, alike).ravel())


def _some(columns: _Columns, mask: npt.NDArray[np.bool_]) -> _Columns:
    return columns[0][mask], columns[1][mask], columns[2][mask], columns[3][mask]


def _among(pairs: _Columns, others: _Columns, num_tgt: int) -> npt.NDArray[np.bool_]:
    """Which of these pairs are among the others."""
    return np.isin(pairs[0] * num_tgt + pairs[1], others[0] * num_tgt + others[1])
