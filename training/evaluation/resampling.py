"""How far a score can be believed: intervals by bootstrap, and whether two systems differ by more than chance.

Rows are drawn with replacement, as many as there are (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). A score follows from sums of the rows' numbers, so a draw is a product: how often each row
came times the numbers. Which rows a draw has follows from their number, the number of draws and the seed alone, as in
sacrebleu, whose draws they are: systems that are compared have the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import Resampling
from seamlessalign.training.evaluation.measures import Float64, ScoreOf

SAMPLES = 1000
SEED = 12345  # sacrebleu's
_BLOCK = 4_000_000  # numbers that are held at once, about


def bootstrap(statistics: Float64, score: ScoreOf, samples: int = SAMPLES, seed: int = SEED) -> Float64:
    """The score of each draw, `(samples,)`, of statistics `(num_rows, num_statistics)`."""
    rows = _checked(statistics)
    return np.array([score(sums) for block in _draws(len(rows), samples, seed) for sums in block @ rows])


def interval(scores: Float64, level: float = 0.95) -> tuple[float, float]:
    """The percentiles between which a share `level` of the draws lies; nan where a draw has no score."""
    edge = (1 - level) / 2
    low, high = np.quantile(scores, [edge, 1 - edge])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """One system against another, on the same rows."""

    difference: float  # score less that of the baseline
    low: float  # of the difference, by paired bootstrap
    high: float
    p_value: float  # two-sided, by `test`
    test: str  # with its samples and seed


def paired_bootstrap(
    baseline: Float64, system: Float64, score: ScoreOf, samples: int = SAMPLES, seed: int = SEED
) -> Comparison:
    """Compare by draws of the same rows of both.

    p: how often the difference of a draw is farther from the mean difference of all draws than the difference that was
    found is from none (Riezler and Maxwell 2005, figure 2), counted as (c + 1) / (samples + 1).
    """
    first, second = _pair(baseline, system)
    found = score(second.sum(0)) - score(first.sum(0))
    differences = bootstrap(second, score, samples, seed) - bootstrap(first, score, samples, seed)
    away = np.abs(differences - differences.mean())
    low, high = interval(differences)
    return Comparison(found, low, high, _p_value(away, abs(found)), f"paired bootstrap|bs:{samples}|seed:{seed}")


def paired_randomisation(
    baseline: Float64, system: Float64, score: ScoreOf, samples: int = 10_000, seed: int = SEED
) -> Comparison:
    """Compare by exchanging the two outputs of each row or not, at random (Riezler and Maxwell 2005, figure 1)."""
    first, second = _pair(baseline, system)
    sums, both = first.sum(0), first.sum(0) + second.sum(0)
    found = score(second.sum(0)) - score(sums)
    random, more, away = np.random.default_rng(seed), second - first, []
    for count in _blocks(len(first), samples):
        exchanged = random.random((count, len(first))) < 0.5
        for moved in exchanged.astype(np.float64) @ more:
            away.append(abs(score(both - sums - moved) - score(sums + moved)))
    differences = bootstrap(second, score, SAMPLES, seed) - bootstrap(first, score, SAMPLES, seed)
    low, high = interval(differences)
    told = f"paired approximate randomisation|ar:{samples}|seed:{seed}"
    return Comparison(found, low, high, _p_value(np.array(away), abs(found)), told)


def compared(baseline: Float64, system: Float64, score: ScoreOf, settings: Resampling) -> Comparison:
    """Compare as a configuration says."""
    if settings.test == "randomisation":
        return paired_randomisation(baseline, system, score, settings.exchanges, settings.seed)
    return paired_bootstrap(baseline, system, score, settings.samples, settings.seed)


def _p_value(away: Float64, found: float) -> float:
    return float((np.sum(away > found) + 1) / (len(away) + 1))


def _draws(num_rows: int, samples: int, seed: int) -> Iterator[Float64]:
    """How often each row came, `(some samples, num_rows)`."""
    random = np.random.default_rng(seed)
    for count in _blocks(num_rows, samples):
        drawn = random.integers(num_rows, size=(count, num_rows))
        drawn += np.arange(count)[:, None] * num_rows
        counts = np.bincount(drawn.ravel(), minlength=count * num_rows)
        yield counts.reshape(count, num_rows).astype(np.float64)


def _blocks(num_rows: int, samples: int) -> Iterator[int]:
    step = max(1, _BLOCK // num_rows)
    for start in range(0, samples, step):
        yield min(step, samples - start)


def _pair(baseline: Float64, system: Float64) -> tuple[Float64, Float64]:
    first, second = _checked(baseline), _checked(system)
    if first.shape != second.shape:
        raise InputError(f"systems that are compared have {len(first)} and {len(second)} rows: both need the same")
    return first, second


def _checked(statistics: Float64) -> Float64:
    rows = np.asarray(statistics, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise InputError("there are no rows to draw from")
    return rows
