"""From scored candidates to pairs: the strategies of margin mining."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.vectors import Floats, Indices

STRATEGIES = ("forward", "backward", "union", "intersect", "max")
ONCE_PER_TARGET = ("backward", "intersect", "max")  # no target is in two pairs
_Columns = tuple[Indices, Indices, Floats, Floats]
_ROUNDS = 32  # of picking many pairs at once, before what is left is walked through one by one


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
    forward: Neighbours, backward: Neighbours, forward_margin: Floats, backward_margin: Floats, strategy: str = "max"
) -> Chosen:
    """Choose pairs from the candidates of both directions.

    A row's best is the candidate with the highest margin, the lowest index among equals. `forward` pairs every source
    with its best target, `backward` every target with its best source, `union` is both without repeats, `intersect`
    what both have, and `max` walks the union from the highest margin and takes a pair where neither row is taken.
    """
    check_strategy(strategy)
    source = _pairs_of_best(forward, forward_margin)
    target = _pairs_of_best(backward, backward_margin)
    ahead: _Columns = (np.arange(len(forward.index)), *source)
    back: _Columns = (target[0], np.arange(len(backward.index)), *target[1:])
    if strategy == "forward":
        src, tgt, margin, cosine = ahead
    elif strategy == "backward":
        src, tgt, margin, cosine = back
    elif strategy == "intersect":
        agree = target[0][source[0]] == np.arange(len(source[0]))
        src, tgt, margin, cosine = (column[agree] for column in ahead)
    else:
        new = source[0][target[0]] != np.arange(len(target[0]))
        src, tgt = np.concatenate([ahead[0], back[0][new]]), np.concatenate([ahead[1], back[1][new]])
        margin, cosine = np.concatenate([ahead[2], back[2][new]]), np.concatenate([ahead[3], back[3][new]])
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

    Pairs that come first for both of their rows are taken all at once, and with them everything that touches those rows
    goes; a few rounds of this leave next to nothing for the walk itself.
    """
    left = np.arange(len(src))
    taken: list[Indices] = []
    for _ in range(_ROUNDS):
        if not len(left):
            break
        first = _first_of(src[left]) & _first_of(tgt[left])
        taken.append(left[first])
        used = np.isin(src[left], src[left[first]]) | np.isin(tgt[left], tgt[left[first]])
        left = left[~used]
    used_src: set[int] = set()
    used_tgt: set[int] = set()
    walked: list[int] = []
    for place, x, y in zip(left.tolist(), src[left].tolist(), tgt[left].tolist(), strict=True):
        if x not in used_src and y not in used_tgt:
            used_src.add(x)
            used_tgt.add(y)
            walked.append(place)
    return np.sort(np.concatenate([*taken, np.asarray(walked, np.int64)]))


def rank(neighbours: Neighbours, rows: Indices, others: Indices) -> npt.NDArray[np.int16]:
    """Place of `others` among the neighbours of `rows`, -1 when not among them; both (num_pairs,)."""
    out = np.full(len(rows), -1, np.int16)
    for place in range(neighbours.index.shape[1]):
        out[neighbours.index[rows, place] == others] = place
    return out


def _pairs_of_best(neighbours: Neighbours, margin: Floats) -> tuple[Indices, Floats, Floats]:
    """Each row's best candidate: its index, margin and cosine."""
    tied = margin == margin.max(1, keepdims=True)
    index = np.where(tied, neighbours.index, np.iinfo(np.int64).max)
    best = index.argmin(1)[:, None]
    return (
        np.take_along_axis(neighbours.index, best, 1)[:, 0],
        np.take_along_axis(margin, best, 1)[:, 0],
        np.take_along_axis(neighbours.cosine, best, 1)[:, 0],
    )


def _first_of(rows: Indices) -> npt.NDArray[np.bool_]:
    """Where each value of `rows` occurs for the first time."""
    first = np.zeros(len(rows), bool)
    first[np.unique(rows, return_index=True)[1]] = True
    return first
