"""Where a threshold is fitted: the best F1, or the most that is found with a precision."""

import argparse

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.pipelines.fit_cards import Counts, _share, best_place, fitted_for

TOTAL = 50


@st.composite
def curves(draw: st.DrawFn) -> list[Counts]:
    """Right pairs are a part of all pairs, and prompts found no more than right pairs and than there are."""
    curve = []
    for pairs in draw(st.lists(st.integers(0, 80), min_size=1, max_size=12)):
        right = draw(st.integers(0, pairs))
        curve.append((right, pairs, draw(st.integers(0, min(right, TOTAL))), TOTAL))
    return curve


def _precision(counts: Counts) -> float:
    right, pairs, _, _ = counts
    return right / pairs if pairs else 0.0


def _f1(counts: Counts) -> float:
    precision, recall = _precision(counts), counts[2] / counts[3]
    return 2 / (1 / precision + 1 / recall) if precision and recall else 0.0


@given(curves())
def test_no_neighbourhood_has_a_better_f1_and_none_higher_up_one_as_good(curve: list[Counts]) -> None:
    f1 = [_f1(counts) for counts in curve]
    means = [np.mean([f1[other] for other in range(len(f1)) if abs(other - at) <= 5]) for at in range(len(f1))]
    best = best_place(curve, None)
    assert means[best] >= max(means) - 1 / TOTAL - 1e-9
    assert all(mean < max(means) - 1 / TOTAL + 1e-9 for mean in means[best + 1 :])


def test_one_lucky_place_is_not_the_best() -> None:
    flat, lucky, poor = (20, 40, 20, TOTAL), (25, 30, 25, TOTAL), (5, 6, 5, TOTAL)
    curve = [flat] * 20 + [poor] * 6 + [lucky] + [poor] * 6
    assert max(range(len(curve)), key=lambda at: _f1(curve[at])) == 26
    assert 12 <= best_place(curve, None) < 20


@given(curves(), st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]))
def test_nothing_that_is_as_precise_finds_more(curve: list[Counts], wanted: float) -> None:
    assume(any(_precision(counts) >= wanted for counts in curve))
    best = curve[best_place(curve, wanted)]
    assert _precision(best) >= wanted
    assert all(counts[2] <= best[2] for counts in curve if _precision(counts) >= wanted)


def test_a_precision_is_not_the_best_f1() -> None:
    curve = [(40, 80, 40, TOTAL), (30, 40, 30, TOTAL), (18, 20, 18, TOTAL), (5, 5, 5, TOTAL)]
    assert [best_place(curve, precision) for precision in (0.5, 0.6, 0.8, 0.95)] == [0, 1, 2, 3]
    assert best_place([counts for counts in curve for _ in range(20)], None) // 20 == 1


def test_a_precision_that_nothing_has_is_told() -> None:
    with pytest.raises(InputError, match=r"no threshold reaches a precision of 0\.9; the highest is 0\.750: ask for"):
        best_place([(40, 80, 40, TOTAL), (30, 40, 30, TOTAL), (0, 0, 0, TOTAL)], 0.9)


@pytest.mark.parametrize("text", ["0", "1.5", "-0.2", "nan"])
def test_a_precision_is_a_share(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not above 0 and at most 1"):
        _share(text)
    assert fitted_for(_share("0.8")) == "precision 0.8" and fitted_for(None) == "best F1"
