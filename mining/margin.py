"""Margin scores: how much nearer a pair is than either of its rows usually is to its neighbours.

Artetxe and Schwenk 2019, "Margin-based Parallel Corpus Mining with Multilingual Sentence Embeddings", section 3.
"""

import logging

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.groups import Alike, unlike
from seamlessalign.mining.knn import Neighbours, check_k
from seamlessalign.mining.lists import Lists
from seamlessalign.mining.vectors import Floats

log = logging.getLogger(__name__)

MARGINS = ("ratio", "distance", "absolute")
WIDER = 2  # times as many neighbours are found as are averaged, where those that are alike count once
_LEAST_DENOMINATOR = 1e-6


def margins(
    forward: Neighbours,
    backward: Neighbours,
    kind: str = "ratio",
    *,
    k: int | tuple[int, int] | None = None,
    src_alike: Alike | None = None,
    tgt_alike: Alike | None = None,
) -> tuple[Floats, Floats]:
    """Margin of every forward and every backward candidate, float32, shaped like their `index`.

    k: how many neighbours the means are over, of sources and of targets; None: all that the lists have, which may
    differ in width. src_alike and tgt_alike say which rows of a side are the same: of those only the nearest counts,
    in lists that are better wider than k (`WIDER` times), since only what is in them can stand in for what does not
    count. Where a list runs out, the mean is over the fewer that there are. Raises InputError for a margin that does
    not exist, a k that is no number of neighbours, and for sides that the lists do not fit.
    """
    ks = (None, None) if k is None else check_k(k)
    for name, lists, num_others, alike in (
        ("forward neighbours", forward, len(backward.index), tgt_alike),
        ("backward neighbours", backward, len(forward.index), src_alike),
    ):
        _check_rows(name, lists, num_others)
        _check_alike(name, num_others, alike)
    ours = neighbourhood(forward, ks[0], tgt_alike)
    theirs = neighbourhood(backward, ks[1], src_alike)
    return (
        margin(forward.cosine, ours[:, None], theirs[forward.index], kind),
        margin(backward.cosine, ours[backward.index], theirs[:, None], kind),
    )


def neighbourhood(neighbours: Neighbours, k: int | None = None, alike: Alike | None = None) -> npt.NDArray[np.float64]:
    """Mean cosine of each row with its k nearest neighbours, (num_rows,); of those that are alike, with the nearest.

    Sums run down the list, so that a row's mean depends on its own list alone.
    """
    cosine, counts = neighbours.cosine[:, :k], None
    if alike is not None:
        cosine, counts = neighbours.cosine, unlike(neighbours.index, alike)
        if k is not None:
            counts &= np.cumsum(counts, 1) <= k
    sums = np.zeros(len(cosine))
    for place in range(cosine.shape[1]):
        sums += cosine[:, place] if counts is None else np.where(counts[:, place], cosine[:, place], np.float32(0))
    return np.asarray(sums / (cosine.shape[1] if counts is None else counts.sum(1)), np.float64)


def neighbourhoods(lists: Lists, num_others: int, k: int, alike: Alike | None) -> npt.NDArray[np.float64]:
    """`neighbourhood` of every row of a side, a range of rows at a time. Raises InputError as `margins` does."""
    _check_alike("neighbours", num_others, alike)
    means = np.empty(len(lists))
    for begin, part in lists.ranges():
        _check_rows("neighbours", part, num_others, begin)
        means[begin : begin + len(part.index)] = neighbourhood(part, k, alike)
    return means


def nearest(neighbours: Neighbours, k: int) -> Neighbours:
    """The first k of wider lists."""
    return Neighbours(neighbours.cosine[:, :k], neighbours.index[:, :k])


def margin(
    cosine: npt.NDArray[np.floating], src_mean: npt.NDArray[np.float64], tgt_mean: npt.NDArray[np.float64], kind: str
) -> Floats:
    """Margin of pairs from their cosine and the mean cosines of each row with its k neighbours, float32.

    With b = src_mean / 2 + tgt_mean / 2: `ratio` is cosine / b, `distance` is cosine - b, `absolute` is the cosine. A
    b of zero or less, where a ratio has no meaning, counts as 0.000001: such neighbourhoods are as far away as can be.
    """
    scored, low = scored_margin(cosine, src_mean, tgt_mean, kind)
    warn_of_low(low)
    return scored


def scored_margin(
    cosine: npt.NDArray[np.floating], src_mean: npt.NDArray[np.float64], tgt_mean: npt.NDArray[np.float64], kind: str
) -> tuple[Floats, int]:
    """`margin`, and how many pairs have a b where a ratio has no meaning, for `warn_of_low`."""
    check_margin(kind)
    cosine = cosine.astype(np.float64)
    if kind == "absolute":
        return cosine.astype(np.float32), 0
    base = src_mean / 2 + tgt_mean / 2
    if kind == "distance":
        return (cosine - base).astype(np.float32), 0
    low = int(np.count_nonzero(base < _LEAST_DENOMINATOR))
    return (cosine / np.maximum(base, _LEAST_DENOMINATOR)).astype(np.float32), low


def warn_of_low(low: int) -> None:
    """Say how many candidates have a ratio without a meaning."""
    if low:
        log.warning("%d candidates have neighbours with cosines of 0 or less on average: lower k, or use distance", low)


def check_margin(kind: str) -> None:
    """Raise InputError for a margin that does not exist."""
    if kind not in MARGINS:
        raise InputError(f"margin is {kind!r}: choose one of {', '.join(MARGINS)}")


def _check_rows(name: str, lists: Neighbours, num_others: int, begin: int = 0) -> None:
    """Lists point into the other side. `begin`: row of the first of them."""
    if lists.index.size and not 0 <= lists.index.min() <= lists.index.max() < num_others:
        row = begin + int(np.flatnonzero(((lists.index < 0) | (lists.index >= num_others)).any(1))[0])
        raise InputError(f"{name} of row {row} are not among the {num_others} rows of the other side")


def _check_alike(name: str, num_others: int, alike: Alike | None) -> None:
    if alike is not None and len(alike) != num_others:
        raise InputError(f"{name} are among {num_others} rows, and {len(alike)} are said to be alike or not")
