"""How likely a mined pair is right, without labels: learned from decoys that are known to have no counterpart.

Decoys compete with the targets. Every hit on a decoy is wrong, and a source that takes a wrong row takes a decoy as
readily as a target, whichever is still free (Elias and Gygi 2007, "Target-decoy search strategy"). So where a share q
of the target hits of some score is right, there are `free decoys / free targets * (1 - q)` decoy hits for each target
hit. q is found as a smooth, rising function of the score: its log-odds are a cubic smoothing spline, as in Käll, Storey
and Noble 2008, "Non-parametric estimation of posterior error probabilities", with their smoothness averaged over by
marginal likelihood. What is reported is q's posterior mean, so that few hits promise little, or less where decoys are
not sure to be like the targets.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.vectors import Floats

_Array = npt.NDArray[np.float64]

_BINS = 50  # of about equal numbers of hits
_STIFFNESS = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)  # of the spline; the scores' standard deviation is 1
_LOW = 0.1  # the share of hits that score lower than where the prior is anchored
_PRIOR_MEAN = np.array([-5.0, 3.0])  # of the log-odds there, and of their slope per standard deviation
_PRIOR_SD = np.array([2.0, 3.0])
_FARTHEST = 3.0  # scores count up to so many times the distance from their median to their 5 % and 95 % quantiles
_STEPS = 60  # of Fisher scoring
_DRAWS = 2000  # of the posterior
_TOLERANCE = 1e-6  # estimates are float32: 1 - 0.95 is a little over 0.05


def estimate_precision(
    score: Floats,
    is_decoy: npt.NDArray[np.bool_],
    num_targets: int,
    num_decoys: int,
    once_per_target: bool,
    weight: npt.NDArray[np.floating[Any]] | float = 1.0,
    caution: float = 0.0,
) -> Floats:
    """Estimate for every hit how likely a target hit with its score is right; (num_hits,) float32, in [0, 1].

    score (num_hits,) in any order, is_decoy (num_hits,). The estimate is that of a single pair, not of all pairs above
    it, never rises as the score falls, and is equal for equal scores. Where a target is in one pair at most
    (`once_per_target`), targets and decoys that are paired above a score are no longer free below it; otherwise all are
    free, which is the safe side.

    weight, one number or (num_hits,): for how many hits on as many real sentences a hit on decoys of this score stands.
    Above 1 where decoys attract less than real sentences do (`attraction.py` measures it). caution: how many standard
    deviations of its posterior the estimate stays below the mean. Raises InputError for shapes that differ, scores that
    are no numbers, weights that are not positive, a negative caution, and no decoys.
    """
    scores, is_decoy = np.asarray(score, np.float64), np.asarray(is_decoy, bool)
    if scores.ndim != 1 or scores.shape != is_decoy.shape:
        raise InputError(f"score has shape {scores.shape} and is_decoy {is_decoy.shape}: give one of each per hit")
    if num_decoys < 1 or num_targets < 1:
        raise InputError(f"{num_decoys} decoys among {num_targets} targets: give at least one of each")
    if not np.isfinite(scores).all():
        raise InputError(f"score of hit {int(np.flatnonzero(~np.isfinite(scores))[0])} is not a number")
    weights = np.broadcast_to(np.asarray(weight, np.float64), scores.shape)
    if not (weights > 0).all():
        raise InputError(f"weight of hit {int(np.flatnonzero(~(weights > 0))[0])} is not positive")
    if not caution >= 0:
        raise InputError(f"caution is {caution}: give a number of standard deviations, 0 or more")
    if not len(scores):
        return np.empty(0, np.float32)
    place = _standardised(scores)
    hits = _Hits.of(place, is_decoy, weights)
    free_targets, free_decoys = (np.full(len(hits.place), float(count)) for count in (num_targets, num_decoys))
    if once_per_target:
        free_targets -= _above(hits.targets)
        free_decoys -= _above(hits.decoys)
    odds = np.maximum(free_decoys, 0.5) / (hits.weight * np.maximum(free_targets, 0.5))
    right = _averaged(hits, odds, caution)
    return np.interp(place, hits.place, right).astype(np.float32)


def keep_precision(precision_estimate: npt.NDArray[np.floating[Any]], min_precision: float) -> npt.NDArray[np.bool_]:
    """Which pairs are each right with a probability of `min_precision` or more; (num_pairs,). NaN, null, is not."""
    if not 0 <= min_precision <= 1:
        raise InputError(f"min_precision is {min_precision}: give a share between 0 and 1")
    kept: npt.NDArray[np.bool_] = np.asarray(precision_estimate, np.float32) >= np.float32(min_precision)
    return kept


def keep_fdr(precision_estimate: npt.NDArray[np.floating[Any]], fdr: float) -> npt.NDArray[np.bool_]:
    """The most pairs, best first, of which together a share of `fdr` at most is expected to be wrong; (num_pairs,).

    That share, the false discovery rate, is the mean of 1 - precision_estimate over what is kept (Storey 2003, "The
    positive false discovery rate", section 4). Pairs of equal estimate stay or go together. NaN, null, is never kept.
    """
    if not 0 <= fdr <= 1:
        raise InputError(f"fdr is {fdr}: give a share between 0 and 1")
    estimate = np.asarray(precision_estimate, np.float64)
    known = np.sort(estimate[~np.isnan(estimate)])[::-1]
    last = np.flatnonzero(np.append(known[1:] != known[:-1], len(known) > 0))
    wrong = np.cumsum(1 - known)[last] / (last + 1)
    good = np.flatnonzero(wrong <= fdr + _TOLERANCE)
    if not len(good):
        return np.zeros(len(estimate), bool)
    kept: npt.NDArray[np.bool_] = estimate >= known[last[good[-1]]]
    return kept


@dataclass(frozen=True)
class _Hits:
    """Hits in bins of rising score; every array (num_bins,)."""

    place: _Array  # mean of the standardised scores, strictly rising
    targets: _Array  # number of hits on targets
    decoys: _Array
    weight: _Array  # mean of the hits' weights

    @property
    def low(self) -> float:
        """The place below which a share of `_LOW` of the hits lies."""
        return float(self.place[int(_LOW * (len(self.place) - 1))])

    @staticmethod
    def of(place: _Array, is_decoy: npt.NDArray[np.bool_], weight: _Array) -> "_Hits":
        """Bins of about equal numbers of hits; equal scores are in one bin."""
        values, number, times = np.unique(place, return_inverse=True, return_counts=True)
        middle = (np.cumsum(times) - times / 2) / len(place)
        of_value = np.unique((middle * _BINS).astype(np.int64), return_inverse=True)[1]
        of_hit = of_value[number]
        size = np.bincount(of_hit).astype(np.float64)
        decoys = np.bincount(of_hit, weights=is_decoy).astype(np.float64)
        places = np.bincount(of_value, weights=values * times) / size
        return _Hits(places, size - decoys, decoys, np.bincount(of_hit, weights=weight) / size)


def _standardised(score: _Array) -> _Array:
    """Scores with mean 0 and standard deviation 1; outliers, where nothing can be learned, count as less far away."""
    low, middle, high = np.quantile(score, [0.05, 0.5, 0.95])
    if low < high:
        score = np.clip(score, middle - _FARTHEST * (middle - low), middle + _FARTHEST * (high - middle))
    spread = score.std()
    return np.asarray((score - score.mean()) / spread if spread > 0 else np.zeros(len(score)), np.float64)


def _above(count: _Array) -> _Array:
    """Hits that score higher than the middle of each bin."""
    return np.asarray(np.cumsum(count[::-1])[::-1] - count / 2)


def _averaged(hits: _Hits, odds: _Array, caution: float) -> _Array:
    """Posterior mean of the share of right hits per bin, less `caution` times its standard deviation.

    Both are over all stiffnesses, weighted by their marginal likelihood. odds (num_bins,): decoy hits per wrong target
    hit.
    """
    evidence, moments = [], []
    for stiffness in _STIFFNESS:
        found, known = _fit(hits, odds, *_prior(hits.place, hits.low, stiffness))
        moments.append(found)
        evidence.append(known)
    share = np.exp(np.array(evidence) - max(evidence))
    mean, square = np.tensordot(share, np.array(moments), 1) / share.sum()
    safe = np.maximum(mean - caution * np.sqrt(np.maximum(square - mean**2, 0)), 0)
    return _rising(safe, hits.targets + hits.decoys)


def _prior(place: _Array, low: float, stiffness: float) -> tuple[_Array, _Array]:
    """Gaussian prior of the log-odds at `place`: precision matrix, and precision matrix times mean.

    A second-order random walk on uneven places (Rue and Held 2005, section 3.5), with a proper prior of the straight
    line that it leaves free: next to none of the lowest hits is right, and being right rises steeply from there.
    """
    num = len(place)
    line = np.linalg.pinv(np.stack([np.ones(num), place - low], axis=1)) if num > 1 else np.array([[1.0], [0.0]])
    certain = np.diag(_PRIOR_SD**-2.0)
    precision = line.T @ certain @ line
    if num > 2:
        step = np.diff(place)
        bend = np.zeros((num - 2, num))
        row = np.arange(num - 2)
        bend[row, row], bend[row, row + 2] = 1 / step[:-1], 1 / step[1:]
        bend[row, row + 1] = -bend[row, row] - bend[row, row + 2]
        precision += stiffness * bend.T @ (bend / ((step[1:] + step[:-1]) / 2)[:, None])
    return precision, line.T @ certain @ _PRIOR_MEAN


def _fit(hits: _Hits, odds: _Array, precision: _Array, pull: _Array) -> tuple[_Array, float]:
    """Posterior means of the share of right hits and of its square, and the logarithm of the marginal likelihood.

    A hit of a bin is on a decoy with the odds `odds * (1 - share)`. The mode is found by Fisher scoring, with steps
    halved until they help; means and likelihood by importance sampling from the normal distribution around the mode,
    which alone would be too wide where a share is near 0 or 1.
    """
    total = hits.targets + hits.decoys

    def objective(at: _Array) -> _Array:
        """Logarithm of likelihood times prior, but for a constant, of one curve or of each of several."""
        log_odds = np.log(odds) - np.logaddexp(0, at)
        likelihood = log_odds @ hits.decoys - np.logaddexp(0, log_odds) @ total
        return np.asarray(likelihood - ((at @ precision) * at).sum(-1) / 2 + at @ pull)

    def slope_and_information(at: _Array) -> tuple[_Array, _Array]:
        share = _share(at)
        decoy = odds * (1 - share) / (1 + odds * (1 - share))
        information = np.diag(total * decoy * (1 - decoy) * share**2) + precision
        return share * (total * decoy - hits.decoys) - precision @ at + pull, information

    curve = _PRIOR_MEAN[0] + _PRIOR_MEAN[1] * (hits.place - hits.low)
    value = objective(curve)
    for _ in range(_STEPS):
        slope, information = slope_and_information(curve)
        step = np.linalg.solve(information, slope)
        length = 1.0
        while length > 1e-4 and objective(curve + length * step) < value - 1e-9:
            length /= 2
        curve = curve + length * step
        before, value = value, objective(curve)
        if abs(value - before) < 1e-6:
            break
    information = slope_and_information(curve)[1]
    normal = _normal(_DRAWS, len(curve))
    around = curve + np.linalg.solve(np.linalg.cholesky(information).T, normal.T).T
    weight = objective(around) - value + (normal**2).sum(1) / 2  # logarithm of the posterior over what was drawn from
    highest = weight.max()
    weight = np.exp(weight - highest)
    share = _share(around)
    moments = np.stack([weight @ share, weight @ share**2]) / weight.sum()
    volume = (np.linalg.slogdet(precision)[1] - np.linalg.slogdet(information)[1]) / 2
    # What the prior's mean alone adds is the same for every stiffness: the random walk knows nothing of the line.
    return moments, float(value + volume + highest + np.log(weight.mean()))


def _share(log_odds: _Array) -> _Array:
    share: _Array = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
    return share


@cache
def _normal(draws: int, num: int) -> _Array:
    """The same draws of a standard normal at every call, each with its mirror image; (draws, num)."""
    half = np.random.default_rng(0).standard_normal((draws // 2, num))
    return np.concatenate([half, -half])


def _rising(share: _Array, hits: _Array) -> _Array:
    """The nearest shares that never fall from bin to bin: isotonic regression by pooling, weighted with `hits`."""
    pools: list[tuple[float, float, int]] = []  # sum of shares, hits, bins
    for value, weight in zip((share * hits).tolist(), hits.tolist(), strict=True):
        total, size, bins = value, weight, 1
        while pools and pools[-1][0] * size >= total * pools[-1][1]:
            total, size, bins = total + pools[-1][0], size + pools[-1][1], bins + pools[-1][2]
            pools.pop()
        pools.append((total, size, bins))
    return np.repeat([total / size for total, size, _ in pools], [bins for *_, bins in pools])
