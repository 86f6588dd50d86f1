"""How good mining is where the truth is known, as the BUCC shared tasks count it (Zweigenbaum et al. 2017)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.errors import InputError

_FloatCurve = npt.NDArray[np.float64]
_NORMAL_95 = 1.959963984540054  # 95 % of a standard normal variable lie within it


@dataclass(frozen=True)
class Scores:
    """Precision counts pairs, recall counts distinct true items that some correct pair recovers; 0 where undefined."""

    precision: float
    recall: float
    f1: float
    correct: int  # pairs that are right
    pairs: int
    truth: int  # true items there are to find


@dataclass(frozen=True)
class Sweep:
    """Scores over all thresholds. Arrays (num_thresholds,) go with `thresholds`, which descend."""

    threshold: float  # with the best F1, the highest of several; keep margins of this or more
    best: Scores
    thresholds: npt.NDArray[Any]  # every margin that occurs
    precision: _FloatCurve
    recall: _FloatCurve
    f1: _FloatCurve


def score_pairs(correct: npt.NDArray[Any], truth_id: npt.NDArray[Any], num_truth: int) -> Scores:
    """Precision, recall and F1 of mined pairs.

    correct (num_pairs,) bool; truth_id (num_pairs,) integers or strings: the true item that a correct pair recovers,
    not looked at for wrong pairs; num_truth: how many there are. Raises InputError when more are recovered than there
    are.
    """
    correct, truth_id = _checked(correct, truth_id, num_truth)
    found = len(np.unique(truth_id[correct]))
    return _scores(int(correct.sum()), len(correct), found, num_truth)


def sweep_thresholds(
    margin: npt.NDArray[Any], correct: npt.NDArray[Any], truth_id: npt.NDArray[Any], num_truth: int
) -> Sweep:
    """Scores of the pairs with a margin of t or more, for every t among the margins; O(n log n)."""
    correct, truth_id = _checked(correct, truth_id, num_truth)
    margin = np.asarray(margin)
    if margin.shape != correct.shape:
        raise InputError(f"margin has shape {margin.shape} and correct {correct.shape}: give one of each per pair")
    if not len(margin):
        raise InputError("there are no pairs: no threshold to choose")
    if not np.isfinite(margin).all():
        raise InputError(f"margin of pair {int(np.flatnonzero(~np.isfinite(margin))[0])} is not a number")
    order = np.argsort(-margin, kind="stable")
    margin, correct, truth_id = margin[order], correct[order], truth_id[order]
    right = np.flatnonzero(correct)
    first = np.zeros(len(margin), np.int64)
    first[right[np.unique(truth_id[right], return_index=True)[1]]] = (
        1  # where each true item is found for the first time
    )
    last = np.flatnonzero(np.append(margin[1:] != margin[:-1], True))
    hits, found, pairs = np.cumsum(correct)[last], np.cumsum(first)[last], last + 1
    precision, recall = hits / pairs, found / num_truth
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(last)), where=both > 0)
    best = int(np.argmax(f1))
    scores = _scores(int(hits[best]), int(pairs[best]), int(found[best]), num_truth)
    return Sweep(float(margin[last[best]]), scores, margin[last], precision, recall, f1)


def bootstrap_f1(
    correct: npt.NDArray[Any],
    truth_id: npt.NDArray[Any],
    num_truth: int,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of F1 (Efron 1979): low and high.

    Drawn with replacement are the true items, each with the pairs that recover it, and the wrong pairs. Items
    recovered by the same number of pairs are alike, so a draw is a multinomial over those numbers.
    """
    correct, truth_id = _checked(correct, truth_id, num_truth)
    if samples < 1 or not 0 < confidence < 1:
        raise InputError(
            f"samples is {samples} and confidence {confidence}: give 1 or more, and a share between 0 and 1"
        )
    times = np.unique(truth_id[correct], return_counts=True)[1]
    pairs_each, items = np.unique(np.append(times, np.zeros(num_truth - len(times), np.int64)), return_counts=True)
    wrong = int((~correct).sum())
    units = num_truth + wrong
    drawn = np.random.default_rng(seed).multinomial(units, np.append(items, wrong) / units, samples)
    truth = drawn[:, :-1].sum(1)
    hits = drawn[:, :-1] @ pairs_each
    found = drawn[:, :-1] @ (pairs_each > 0)
    pairs = hits + drawn[:, -1]
    precision = np.divide(hits, pairs, out=np.zeros(samples), where=pairs > 0)
    recall = np.divide(found, truth, out=np.zeros(samples), where=truth > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(samples), where=both > 0)
    low, high = np.quantile(f1, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def reliability(
    estimate: npt.NDArray[np.floating[Any]], correct: npt.NDArray[Any], bins: int | npt.NDArray[np.floating[Any]] = 10
) -> pa.Table:
    """How often pairs are right, beside how often they were estimated to be: the table of a reliability diagram.

    estimate (num_pairs,) in [0, 1]; correct (num_pairs,) bool; bins: how many of equal width, or their rising edges
    (num_bins + 1,), of which the last belongs to the last bin. Columns: low and high (the edges), pairs, mean_estimate,
    precision (the share that is right), and precision_low and precision_high, the 95 % interval of Wilson 1927 for
    it; all but the edges and the count are null where a bin is empty. Estimates outside the edges are left out.
    """
    estimate, correct = np.asarray(estimate, np.float64), np.asarray(correct, bool)
    if estimate.ndim != 1 or estimate.shape != correct.shape:
        raise InputError(f"estimate has shape {estimate.shape} and correct {correct.shape}: give one of each per pair")
    if np.isnan(estimate).any():
        raise InputError(f"estimate of pair {int(np.flatnonzero(np.isnan(estimate))[0])} is not a number")
    edges = np.linspace(0, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(f"bins is {bins}: give a number of 1 or more, or edges that rise")
    inside = (estimate >= edges[0]) & (estimate <= edges[-1])
    place = np.minimum(np.searchsorted(edges, estimate[inside], side="right") - 1, len(edges) - 2)
    num, ones = len(edges) - 1, np.ones(len(place))
    pairs, expected, right = (
        np.bincount(place, each, num).astype(np.float64) for each in (ones, estimate[inside], correct[inside])
    )
    low, high = _wilson(right, pairs)
    empty = pairs == 0
    shares = {
        "mean_estimate": expected / np.maximum(pairs, 1),
        "precision": right / np.maximum(pairs, 1),
        "precision_low": low,
        "precision_high": high,
    }
    columns = {"low": pa.array(edges[:-1]), "high": pa.array(edges[1:]), "pairs": pa.array(pairs.astype(np.int64))}
    return pa.table(columns | {name: pa.array(share, mask=empty) for name, share in shares.items()})


def _wilson(right: _FloatCurve, pairs: _FloatCurve) -> tuple[_FloatCurve, _FloatCurve]:
    """Wilson's 95 % score interval for a share, of `right` of `pairs`."""
    many = np.maximum(pairs, 1)
    share, square = right / many, _NORMAL_95**2
    middle = (share + square / (2 * many)) / (1 + square / many)
    reach = _NORMAL_95 / (1 + square / many) * np.sqrt(share * (1 - share) / many + square / (4 * many**2))
    return middle - reach, middle + reach


def _scores(correct: int, pairs: int, found: int, truth: int) -> Scores:
    precision = correct / pairs if pairs else 0.0
    recall = found / truth
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Scores(precision, recall, f1, correct, pairs, truth)


def _checked(
    correct: npt.NDArray[Any], truth_id: npt.NDArray[Any], num_truth: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    correct, truth_id = np.asarray(correct, bool), np.asarray(truth_id)
    if correct.ndim != 1 or correct.shape != truth_id.shape:
        raise InputError(f"correct has shape {correct.shape} and truth_id {truth_id.shape}: give one of each per pair")
    if num_truth < 1:
        raise InputError(f"num_truth is {num_truth}: there must be something to find")
    found = len(np.unique(truth_id[correct]))
    if found > num_truth:
        raise InputError(f"{found} distinct true items are recovered, but num_truth is {num_truth}")
    return correct, truth_id
