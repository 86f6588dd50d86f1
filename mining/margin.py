"""Margin scores: how much nearer a pair is than either of its rows usually is to its neighbours.

Artetxe and Schwenk 2019, "Margin-based Parallel Corpus Mining with Multilingual Sentence Embeddings", section 3.
"""

import logging

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.groups import Alike, unlike
from seamlessalign.mining.knn import Neighbours, check_k
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
    _check_rows("forward", forward, backward, tgt_alike)
    _check_rows("backward", backward, forward, src_alike)
    ours = neighbourhood(forward, ks[0], tgt_alike)
    theirs = neighbourhood(backward, ks[1], src_alike)
    return (
        margin(forward.cosine, ours[:, None], theirs[forward.index], kind),
        margin(backward.cosine, ours[backward.index], theirs[:, None], kind),
    )


def neighbourhood(neighbours: Neighbours, k: int | None = None, alike: Alike | None = None) -> npt.NDArray[np.float64]:
    """Mean cosine of each row with its k nearest neighbours, (num_rows,); of those that are alike, with the nearest."""
    if alike is None:
        return np.asarray(neighbours.cosine[:, :k].mean(1, dtype=np.float64))
    counts = unlike(neighbours.index, alike)
    if k is not None:
        counts &= np.cumsum(counts, 1) <= k
    sums = np.where(counts, neighbours.cosine, np.float32(0)).sum(1, dtype=np.float64)
    return np.asarray(sums / counts.sum(1))


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
    check_margin(kind)
    cosine = cosine.astype(np.float64)
    if kind == "absolute":
        return cosine.astype(np.float32)
    base = src_mean / 2 + tgt_mean / 2
    if kind == "distance":
        return (cosine - base).astype(np.float32)
    low = int(np.count_nonzero(base < _LEAST_DENOMINATOR))
    if low:
        log.warning("%d candidates have neighbours with cosines of 0 or less on average: lower k, or use distance", low)
    return (cosine / np.maximum(base, _LEAST_DENOMINATOR)).astype(np.float32)


def check_margin(kind: str) -> None:
    """Raise InputError for a margin that does not exist."""
    if kind not in MARGINS:
        raise InputError(f"margin is {kind!r}: choose one of {', '.join(MARGINS)}")


def _check_rows(name: str, lists: Neighbours, other: Neighbours, alike: Alike | None) -> None:
    """Lists point into the other side, which has a list for each of its rows, and may say which of them are alike."""
    rows = len(other.index)
    if lists.index.size and not 0 <= lists.index.min() <= lists.index.max() < rows:
        row = int(np.flatnonzero(((lists.index < 0) | (lists.index >= rows)).any(1))[0])
        raise InputError(f"{name} neighbours of row {row} are not among the {rows} rows of the other side")
    if alike is not None and len(alike) != rows:
        raise InputError(f"{name} neighbours are among {rows} rows, and {len(alike)} are said to be alike or not")
