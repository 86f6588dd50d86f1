"""How far a score can be believed: intervals by bootstrap, and whether two systems differ by more than chance.

Rows are drawn with replacement, as many as there are (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). A score follows from sums of the rows' numbers, so a draw is a product: how often each row
came times the numbers. Which rows a draw has follows from their number, the number of draws and the seed alone, as in
sacrebleu, whose draws they are: systems that are compared have the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import Resampling
from seamlessalign.training.evaluation.measures import Float64, ScoreOf

SAMPLES = 1000
SEED = 12345  # sacrebleu's
_BLOCK = 4_000_000  # numbers that are held at once, about
_SAME = 1e-9  # share by which sums in another order may differ
_WORD = 32  # numpy draws so many yes or no at once: of blocks with a multiple the draws are those of one large block


def bootstrap(statistics: Float64, score: ScoreOf, samples: int = SAMPLES, seed: int = SEED) -> Float64:
    """The score of each draw, `(samples,)`, of statistics `(num_rows, num_statistics)`.

    nan where there is one row: every draw is that row, which tells nothing of what another would give.
    """
    rows = _checked(statistics)
    if len(rows) == 1:
        return np.full(samples, np.nan)
    return np.array([score(sums) for block in _draws(len(rows), samples, seed) for sums in block @ rows])


def interval(scores: Float64, level: float = 0.95) -> tuple[float, float]:
    """The scores between which a share `level` of the draws lies, those that sacrebleu takes: as many are left out
    below as above. Of draws that have a score; nan where more have none than may lie outside.
    """
    ordered = np.sort(scores[np.isfinite(scores)])
    if len(ordered) < max(1.0, level * len(scores)):
        return float("nan"), float("nan")
    outside = int(len(ordered) * (1 - level) / 2)
    return float(ordered[outside]), float(ordered[len(ordered) - outside - 1])


@dataclass(frozen=True)
class Comparison:
    """One system against another, on the same rows."""

    difference: float  # score less that of the baseline
    low: float  # of the difference, by paired bootstrap
    high: float
    p_value: float  # two-sided, by `test`
    test: str  # with its samples and seed

    def to_json(self) -> dict[str, float | str | None]:
        """Plain values; a number that is not there is null."""
        numbers = {name: getattr(self, name) for name in ("difference", "low", "high", "p_value")}
        return {**{name: value if np.isfinite(value) else None for name, value in numbers.items()}, "test": self.test}


def paired_bootstrap(
    baseline: Float64, system: Float64, score: ScoreOf, samples: int = SAMPLES, seed: int = SEED
) -> Comparison:
    """Compare by draws of the same rows of both.

    p: how often the size of a draw's difference, less the mean size of all, is more than the size that was found
    (Riezler and Maxwell 2005, figure 2), counted as (c + 1) / (samples + 1), as sacrebleu does. Where systems differ
    this is half of what a test of both sides would say; `paired_randomisation` keeps what it promises.
    """
    first, second = _pair(baseline, system)
    found = score(second.sum(0)) - score(first.sum(0))
    differences = bootstrap(second, score, samples, seed) - bootstrap(first, score, samples, seed)
    sizes = np.abs(differences)
    there = sizes[np.isfinite(sizes)]
    low, high = interval(differences)
    p_value = _p_value(sizes - (there.mean() if len(there) else 0.0) <= abs(found), found)
    return Comparison(found, low, high, p_value, f"paired bootstrap|bs:{samples}|seed:{seed}")


def paired_randomisation(
    baseline: Float64, system: Float64, score: ScoreOf, samples: int = 10_000, seed: int = SEED
) -> Comparison:
    """Compare by exchanging the two outputs of each row or not, at random (Riezler and Maxwell 2005, figure 1).

    The exchanges are sacrebleu's for the same seed. p counts those that leave a difference as large as the one found
    (Phipson and Smyth 2010), of which sacrebleu counts the larger ones alone: of systems that differ in three rows a
    quarter of all exchanges leave the same difference, and sacrebleu has the least p that there is. The interval is
    that of the paired bootstrap.
    """
    first, second = _pair(baseline, system)
    sums, both = first.sum(0), first.sum(0) + second.sum(0)
    found = score(second.sum(0)) - score(sums)
    random, more, away = np.random.default_rng(seed), second - first, []
    for count in _blocks(len(first), samples, _WORD):
        exchanged = random.integers(2, size=(count, len(first)), dtype=bool)
        for moved in exchanged.astype(np.float64) @ more:
            away.append(abs(score(both - sums - moved) - score(sums + moved)))
    differences = bootstrap(second, score, SAMPLES, seed) - bootstrap(first, score, SAMPLES, seed)
    low, high = interval(differences)
    told = f"paired approximate randomisation|ar:{samples}|seed:{seed}"
    smaller = np.array(away) < abs(found) - _SAME * max(1.0, abs(found))
    return Comparison(found, low, high, _p_value(smaller, found), told)


def compared(baseline: Float64, system: Float64, score: ScoreOf, settings: Resampling) -> Comparison:
    """Compare as a configuration says."""
    if settings.test == "randomisation":
        return paired_randomisation(baseline, system, score, settings.exchanges, settings.seed)
    return paired_bootstrap(baseline, system, score, settings.samples, settings.seed)


def _p_value(smaller: npt.NDArray[np.bool_], found: float) -> float:
    """How probable a difference as large as the one found is; nan where none was found.

    smaller: whether chance made a smaller one, in each draw; not so of a draw without a score. Two systems that do not
    differ at all have 1, where sacrebleu has the least that there is.
    """
    if np.isnan(found):
        return float("nan")
    if found == 0:
        return 1.0
    return float((np.sum(~smaller) + 1) / (len(smaller) + 1))


def _draws(num_rows: int, samples: int, seed: int) -> Iterator[Float64]:
    """How often each row came, `(some samples, num_rows)`."""
    random = np.random.default_rng(seed)
    for count in _blocks(num_rows, samples):
        drawn = random.integers(num_rows, size=(count, num_rows))
        drawn += np.arange(count)[:, None] * num_rows
        counts = np.bincount(drawn.ravel(), minlength=count * num_rows)
        yield counts.reshape(count, num_rows).astype(np.float64)


def _blocks(num_rows: int, samples: int, multiple: int = 1) -> Iterator[int]:
    step = max(1, _BLOCK // num_rows // multiple) * multiple
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
