"""How much less than real sentences of the same kind other decoys attract, measured in the search and without labels.

A decoy that was put together from pieces of sentences is nobody's neighbour quite as often as a real sentence is, and
the difference grows with the score. But every source has one counterpart at most: whatever else is among its nearest
is wrong, be it target or decoy. How often either occurs there, at a score, tells for how many hits on as many real
sentences one hit on decoys stands. Few wrong neighbours score as high as the pairs that matter, so the measurement is
joined with what is known of joined halves: in every language tried, their weight rises much alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.vectors import Floats

CAUTION = 0.5  # standard deviations by which an estimate stays below its mean where the attraction is measured
SAFETY = 1.25  # by which the weight is raised for decoys of another kind, of which nothing is known beforehand

_DEPTH = 4  # nearest rows of a source that are looked at, by margin; the first is left out
_PRIOR_MEAN = np.array([0.0, 0.2])  # of the logarithm of the weight at the mean score, and of its slope per deviation
_PRIOR_SD = np.array([0.5, 0.05])  # for decoys made from the targets
_PRIOR_SD_OTHERS = np.array([0.5, 0.5])  # for others
_FARTHEST = 6.0  # standard deviations above the mean score up to which the weight rises
_STEPS = 30  # of Newton's method
_SETTLED = 1e-9
_PART = 1 << 18  # neighbours that are looked at at a time


@dataclass(frozen=True)
class Attraction:
    """The weight of a hit on a decoy: log-linear in the score, up to `_FARTHEST` times `scale` above `centre`."""

    level: float  # logarithm of the weight at `centre`
    slope: float  # of the logarithm, per `scale`
    centre: float  # mean of the scores of wrong neighbours
    scale: float  # their standard deviation

    def weight(self, score: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Hits on as many real sentences that a hit on decoys of this score stands for; shaped like `score`."""
        return np.exp(self.level + self.slope * _place(score, self.centre, self.scale))


_UNKNOWN = Attraction(0.0, 0.0, 0.0, 1.0)  # nothing to measure: taken as equal


class Wrong(NamedTuple):
    """Neighbours that cannot be right; both (num_wrong,)."""

    score: Floats  # float32 margins
    is_target: npt.NDArray[np.bool_]  # else a decoy

    @staticmethod
    def of(parts: "Sequence[Wrong]") -> "Wrong":
        """All together."""
        return Wrong(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def weight_of_made(
    score: Floats, wrong: Wrong, num_targets: int, made_from: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float64]:
    """Weights for `estimate_precision`: what is measured, 1 at least, times `SAFETY` where decoys are not self-made.

    Shape (num_hits,). score (num_hits,): margins of the chosen pairs; the rest as for `measure_attraction`.
    """
    measured = measure_attraction(wrong, num_targets, made_from).weight(score)
    return np.maximum(measured, 1.0) * (1.0 if _self_made(made_from) else SAFETY)


def measure_attraction(wrong: Wrong, num_targets: int, made_from: npt.NDArray[np.integer[Any]]) -> Attraction:
    """Measure how decoys attract, by logistic regression of target against decoy among wrong neighbours.

    wrong: of all sources, as `wrong_neighbours` finds them. made_from (num_decoys, p): targets that each decoy was made
    from, -1 for none.
    """
    prior_sd = _PRIOR_SD if _self_made(made_from) else _PRIOR_SD_OTHERS
    return _fit(wrong, np.log(num_targets / len(made_from)), prior_sd)


def wrong_neighbours(
    forward: Neighbours, margin: Floats, num_targets: int, made_from: npt.NDArray[np.integer[Any]]
) -> Wrong:
    """What is among the neighbours of some sources and cannot be right.

    forward: neighbours (num_sources, k) among the targets and, numbered from `num_targets` on, the decoys; margin: of
    the same shape, -inf where one does not count. Looked at are each source's second to fourth neighbour by margin.
    Pieces of a source's own counterpart attract it, as no other sentence does; so a decoy does not count behind a
    target that it was made from, nor a target or another decoy of the same origin behind a decoy. Raises InputError for
    a made_from that does not fit.
    """
    made_from = np.asarray(made_from)
    if made_from.ndim != 2 or not len(made_from):
        raise InputError(f"made_from has shape {made_from.shape}: give the origins of at least one decoy, one row each")
    if made_from.max(initial=-1) >= num_targets:
        row = int(np.flatnonzero((made_from >= num_targets).any(1))[0])
        raise InputError(f"made_from: row {row} names target {made_from[row].max()}, but there are {num_targets}")
    order = np.argsort(-margin, axis=1, kind="stable")[:, :_DEPTH]
    index, score = np.take_along_axis(forward.index, order, 1), np.take_along_axis(margin, order, 1)
    counts = ~_relatives_of_first(index, num_targets, made_from)
    counts[:, 0] = False
    counts &= (index >= 0) & np.isfinite(score)
    return Wrong(score[counts].astype(np.float32), (index < num_targets)[counts])


def _self_made(made_from: npt.NDArray[np.integer[Any]]) -> bool:
    """Whether it is known of any decoy from which targets it was made."""
    return bool((made_from >= 0).any())


def _relatives_of_first(
    index: npt.NDArray[np.int64], num_targets: int, made_from: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.bool_]:
    """Which neighbours share an origin with the first of their row, one of both being a decoy."""
    is_decoy = index >= num_targets
    origins = np.where(is_decoy[..., None], made_from[np.where(is_decoy, index - num_targets, 0)], -1)
    own = np.where(is_decoy, -1, index)[..., None]
    origins = np.concatenate([origins, own], axis=2)  # (num_sources, depth, p + 1), a target is its own origin
    shared = (origins[:, :, :, None] == origins[:, :1, None, :]) & (origins[:, :, :, None] >= 0)
    return np.asarray(shared.any((2, 3)))


def _fit(wrong: Wrong, offset: float, prior_sd: npt.NDArray[np.float64]) -> Attraction:
    """Log-odds of a target less `offset`, as a straight line in the score, with a Gaussian prior."""
    if not len(wrong.score):
        return _UNKNOWN
    centre, scale = _moments(wrong.score)
    prior = np.diag(prior_sd**-2.0)
    at = _PRIOR_MEAN
    for _ in range(_STEPS):
        information, slope = prior, -prior @ (at - _PRIOR_MEAN)
        for score, is_target in _in_parts(wrong):
            line = np.stack([np.ones(len(score)), _place(score, centre, scale)], axis=1)
            share = 1 / (1 + np.exp(-(line @ at + offset)))
            information = information + (line * (share * (1 - share))[:, None]).T @ line
            slope = slope + line.T @ (is_target - share)
        step = np.linalg.solve(information, slope)
        at = at + step
        if np.abs(step).max() < _SETTLED:
            break
    return Attraction(float(at[0]), float(at[1]), centre, scale)


def _moments(score: Floats) -> tuple[float, float]:
    """Mean and standard deviation, the latter 1 where all are equal."""
    centre = float(score.mean(dtype=np.float64))
    square = sum(
        float(np.square(part.astype(np.float64) - centre).sum()) for part, _ in _in_parts(Wrong(score, score > 0))
    )
    return centre, float(np.sqrt(square / len(score))) or 1.0


def _in_parts(wrong: Wrong) -> Iterator[Wrong]:
    for begin in range(0, len(wrong.score), _PART):
        yield Wrong(wrong.score[begin : begin + _PART], wrong.is_target[begin : begin + _PART])


def _place(score: npt.NDArray[np.floating[Any]], centre: float, scale: float) -> npt.NDArray[np.float64]:
    return np.minimum((np.asarray(score, np.float64) - centre) / scale, _FARTHEST)
