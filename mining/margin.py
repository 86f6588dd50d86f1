"""Margin scores: how much nearer a pair is than either of its rows usually is to its neighbours.

Artetxe and Schwenk 2019, "Margin-based Parallel Corpus Mining with Multilingual Sentence Embeddings", section 3.
"""

import logging

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.vectors import Floats

log = logging.getLogger(__name__)

MARGINS = ("ratio", "distance", "absolute")
_LEAST_DENOMINATOR = 1e-6


def margins(forward: Neighbours, backward: Neighbours, kind: str = "ratio") -> tuple[Floats, Floats]:
    """Margin of every forward and every backward candidate, float32, shaped like their `index`."""
    ours = forward.cosine.mean(1, dtype=np.float64)
    theirs = backward.cosine.mean(1, dtype=np.float64)
    return (
        margin(forward.cosine, ours[:, None], theirs[forward.index], kind),
        margin(backward.cosine, ours[backward.index], theirs[:, None], kind),
    )


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
