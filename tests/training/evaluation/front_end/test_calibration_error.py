"""The expected calibration error by hand and against a slow reference, and what its sums promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.training.evaluation.front_end.calibration_error import (
    adaptive_edges,
    bins_of,
    calibration_error,
    calibration_statistics,
    equal_edges,
)

ANSWERS = st.lists(st.tuples(st.sampled_from([k / 20 for k in range(21)]), st.booleans()), min_size=1, max_size=40)


def _error(probabilities: list[float], right: list[bool], bins: int) -> float:
    """By the formula, a bin at a time."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, p in enumerate(probabilities) if (m - 1) / bins < p <= m / bins or (m == 1 and p == 0)]
        if inside:
            gap = np.mean([right[i] for i in inside]) - np.mean([probabilities[i] for i in inside])
            total += len(inside) * abs(float(gap))
    return 100 * total / len(probabilities)


def test_by_hand() -> None:
    probabilities, right = [0.1, 0.2, 0.9, 0.95, 0.6], [0, 1, 1, 1, 0]
    sums = calibration_statistics(probabilities, right, equal_edges(5)).sum(0)
    # (0, .2]: 2 answers, .5 right, mean .15; (.4, .6]: 1, 0, .6; (.8, 1]: 2, 1, .925
    assert calibration_error(sums) == pytest.approx(100 * (2 * 0.35 + 1 * 0.6 + 2 * 0.075) / 5)
    found = bins_of(sums, equal_edges(5))
    assert [(one.count, one.right) for one in found] == [(2, 0.5), (1, 0.0), (2, 1.0)]
    assert [one.low for one in found] == pytest.approx([0, 0.4, 0.8])
    assert [one.estimate for one in found] == pytest.approx([0.15, 0.6, 0.925])


@given(ANSWERS, st.sampled_from([1, 4, 5, 10]))
def test_it_is_what_the_formula_says(answers: list[tuple[float, bool]], bins: int) -> None:
    probabilities, right = (list(some) for some in zip(*answers, strict=True))
    rows = calibration_statistics(probabilities, right, np.array([m / bins for m in range(bins + 1)]))
    assert calibration_error(rows.sum(0)) == pytest.approx(_error(probabilities, right, bins))
    assert calibration_error(rows[::-1].sum(0)) == pytest.approx(calibration_error(rows.sum(0)))
    assert calibration_error(3 * rows.sum(0)) == pytest.approx(calibration_error(rows.sum(0)))
    assert sum(one.count for one in bins_of(rows.sum(0), equal_edges(bins))) == len(answers)


def test_adaptive_bins_hold_as_many() -> None:
    probabilities = np.random.default_rng(0).beta(8, 1, 300)
    edges = adaptive_edges(probabilities, 15)
    counts = calibration_statistics(probabilities, np.ones(300), edges).sum(0).reshape(-1, 3)[:, 0]
    assert counts.tolist() == [20] * 15
    # equal ones stay together: some bins are empty then
    edges = adaptive_edges([0.9] * 10 + [0.5], 3)
    found = bins_of(calibration_statistics([0.9] * 10 + [0.5], [1] * 11, edges).sum(0), edges)
    assert sum(one.count for one in found) == 11 and {one.count for one in found} <= {1, 10, 11}


def test_one_that_keeps_its_word_has_no_error() -> None:
    assert calibration_error(calibration_statistics([0.75] * 4, [1, 1, 1, 0], equal_edges(15)).sum(0)) == 0
    assert np.isnan(calibration_error(np.zeros(45)))
