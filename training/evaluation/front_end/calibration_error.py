"""How far probabilities are from what they promise: the expected calibration error, of sums that add up.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2: answers are put into M bins by their
probability, ((m − 1) / M, m / M]; the error is the mean over bins of |accuracy − mean probability|, weighted by how
many answers are in each. Bins that hold as many answers each are those of Nguyen and O'Connor 2015, "Posterior
calibration and exploratory analysis for natural language processing models".
"""

import numpy as np
import numpy.typing as npt

from seamlessalign.training.evaluation.details import Bin
from seamlessalign.training.evaluation.measures import Float64


def equal_edges(bins: int) -> Float64:
    """Edges of bins of equal width from 0 to 1, `(bins + 1,)`."""
    return np.linspace(0.0, 1.0, bins + 1)


def adaptive_edges(probabilities: npt.ArrayLike, bins: int) -> Float64:
    """Edges between which as many probabilities lie, as far as equal ones stay together, `(bins + 1,)`."""
    ordered = np.sort(np.asarray(probabilities, np.float64))
    inner = [ordered[max(0, round(len(ordered) * m / bins) - 1)] for m in range(1, bins)]
    return np.array([0.0, *inner, 1.0])


def calibration_statistics(probabilities: npt.ArrayLike, right: npt.ArrayLike, edges: Float64) -> Float64:
    """Of each answer and bin 1, its probability, and whether it is right, `(num_answers, bins · 3)`; 0 in others."""
    given, truth = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    place = np.searchsorted(edges[1:-1], given, side="left")  # a probability on an edge is in the bin below
    found = np.zeros((len(given), len(edges) - 1, 3))
    found[np.arange(len(given)), place] = np.stack([np.ones_like(given), given, truth], axis=1)
    return found.reshape(len(given), -1)


def calibration_error(sums: Float64) -> float:
    """The error in per cent, of sums `(bins · 3,)`; nan where there is no answer."""
    count, given, right = sums.reshape(-1, 3).T
    return float(100 * np.abs(given - right).sum() / count.sum()) if count.sum() else float("nan")


def bins_of(sums: Float64, edges: Float64) -> list[Bin]:
    """The bins with answers, for a picture of reliability."""
    return [
        Bin(float(low), float(high), int(count), float(given / count), float(right / count))
        for low, high, (count, given, right) in zip(edges, edges[1:], sums.reshape(-1, 3), strict=False)
        if count
    ]
