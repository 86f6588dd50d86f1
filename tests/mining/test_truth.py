"""Scores against known truth: hand-computed cases and a slow sweep."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining.truth import Scores, bootstrap_f1, score_pairs, sweep_thresholds


def test_hand_computed() -> None:
    # Four pairs, three right, two of which recover the same item; five items to find.
    scores = score_pairs(np.array([True, True, False, True]), np.array(["a", "a", "a", "b"]), 5)
    assert scores == Scores(0.75, 0.4, 2 * 0.75 * 0.4 / 1.15, 3, 4, 5)


def test_nothing_mined_and_nothing_right() -> None:
    assert score_pairs(np.array([], bool), np.array([], int), 3) == Scores(0, 0, 0, 0, 0, 3)
    assert score_pairs(np.array([False]), np.array([1]), 3) == Scores(0, 0, 0, 0, 1, 3)


def test_sweep_by_hand() -> None:
    sweep = sweep_thresholds(
        np.array([1.1, 1.4, 1.3, 1.2], np.float32), np.array([False, True, True, False]), np.array([0, 1, 2, 0]), 2
    )
    assert sweep.threshold == np.float32(1.3) and sweep.best == Scores(1, 1, 1, 2, 2, 2)
    assert sweep.precision == pytest.approx([1, 1, 2 / 3, 0.5]) and sweep.recall == pytest.approx([0.5, 1, 1, 1])


@st.composite
def mined(draw: st.DrawFn) -> tuple[Any, Any, Any, int]:
    rows = draw(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 6)), min_size=1, max_size=30))
    margin, correct, truth = zip(*rows, strict=True)
    return np.array(margin, np.float32) / 3, np.array(correct), np.array(truth), draw(st.integers(7, 12))


@settings(max_examples=100, deadline=None)
@given(mined())
def test_sweep_equals_scoring_every_threshold(given_: tuple[Any, Any, Any, int]) -> None:
    margin, correct, truth, num_truth = given_
    sweep = sweep_thresholds(margin, correct, truth, num_truth)
    assert sweep.thresholds.tolist() == sorted(set(margin.tolist()), reverse=True)
    every = [score_pairs(correct[margin >= t], truth[margin >= t], num_truth) for t in sweep.thresholds]
    assert sweep.precision == pytest.approx([scores.precision for scores in every])
    assert sweep.recall == pytest.approx([scores.recall for scores in every])
    assert sweep.f1 == pytest.approx([scores.f1 for scores in every])
    best = max(every, key=lambda scores: scores.f1)
    assert sweep.best.f1 == pytest.approx(best.f1)
    kept = margin >= np.float32(sweep.threshold)
    assert score_pairs(correct[kept], truth[kept], num_truth) == sweep.best


def test_bootstrap_brackets_and_narrows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for size in (100, 10_000):
        correct, truth = rng.random(size) < 0.8, np.arange(size)
        f1 = score_pairs(correct, truth, size).f1
        low, high = bootstrap_f1(correct, truth, size)
        assert 0 < low < f1 < high < 1
        assert bootstrap_f1(correct, truth, size) == (low, high)
        assert bootstrap_f1(correct, truth, size, seed=1) != (low, high)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.4)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found, wrong = rng.random(300) < 0.7, rng.poisson(90)
        correct = np.concatenate([np.ones(found.sum(), bool), np.zeros(wrong, bool)])
        truth = np.concatenate([np.flatnonzero(found), np.zeros(wrong, np.int64)])
        low, high = bootstrap_f1(correct, truth, 300, samples=300, confidence=0.9)
        inside += low <= 2 * 210 / (300 + 300) <= high  # 210 right of 300 pairs, 300 to find
    assert 165 <= inside <= 195


@pytest.mark.parametrize(
    ("correct", "truth", "num_truth", "message"),
    [
        ([True], [1, 2], 2, r"correct has shape \(1,\) and truth_id \(2,\)"),
        ([True, True], [1, 2], 1, "2 distinct true items are recovered, but num_truth is 1"),
        ([True], [1], 0, "num_truth is 0"),
    ],
)
def test_errors(correct: Any, truth: Any, num_truth: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_pairs(np.array(correct), np.array(truth), num_truth)


def test_sweep_errors() -> None:
    with pytest.raises(InputError, match="there are no pairs"):
        sweep_thresholds(np.array([]), np.array([], bool), np.array([], int), 1)
    with pytest.raises(InputError, match="margin of pair 1 is not a number"):
        sweep_thresholds(np.array([1, np.nan]), np.array([True, True]), np.array([1, 2]), 2)
    with pytest.raises(InputError, match=r"margin has shape \(1,\)"):
        sweep_thresholds(np.array([1.0]), np.array([True, True]), np.array([1, 2]), 2)
    with pytest.raises(InputError, match="samples is 0"):
        bootstrap_f1(np.array([True]), np.array([1]), 1, samples=0)
