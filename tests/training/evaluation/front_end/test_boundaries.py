"""Boundaries and spans against slow search over all ways to match them, and by hand."""

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.training.evaluation.front_end.boundaries import (
    Span,
    boundaries_of,
    covered,
    f1,
    matched,
    precision,
    r_value,
    recall,
    shared,
    spans_found,
    united,
)

POINTS = st.lists(st.integers(0, 20), max_size=5, unique=True).map(sorted)
SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda one: (one[0], sum(one))), max_size=6)


def _most(known: list[int], found: list[int], tolerance: float) -> int:
    """The most pairs there can be, of all ways to choose them."""
    for size in range(min(len(known), len(found)), 0, -1):
        for some in combinations(known, size):
            for others in permutations(found, size):
                if all(abs(a - b) <= tolerance for a, b in zip(some, others, strict=True)):
                    return size
    return 0


@given(POINTS, POINTS, st.sampled_from([0, 1, 2.5, 6]))
@settings(max_examples=150, deadline=None)
def test_no_way_to_match_finds_more(known: list[int], found: list[int], tolerance: float) -> None:
    pairs = matched(known, found, tolerance)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == _most(known, found, tolerance)
    assert all(abs(known[i] - found[j]) <= tolerance for i, j in pairs)
    assert len(matched(found, known, tolerance)) == len(pairs)


def test_the_nearest_is_not_always_the_best() -> None:
    assert matched([1.0, 2.0], [1.9, 2.9], 1.0) == [(0, 0), (1, 1)]


def test_boundaries_that_are_close_are_one() -> None:
    assert boundaries_of([(0.0, 1.0), (1.0, 2.0), (0.0, 2.0), (1.015, 2.5)], 0.02) == [0.0, 1.0, 2.0, 2.5]
    assert boundaries_of([(0.0, 1.0), (1.015, 2.5)], 0.0) == [0.0, 1.0, 1.015, 2.5]
    assert boundaries_of([], 1.0) == []
    assert boundaries_of([(0.0, 1.0), (1.5, 3.0)], 0.5) == [0.0, 1.0, 3.0]
    # those in a row are not drawn along without end
    assert boundaries_of([(0.0, 0.1), (0.2, 0.3), (0.4, 0.5)], 0.15) == [0.0, 0.2, 0.4]


@given(SPANS, SPANS, st.sampled_from([0, 1, 3]))
def test_a_span_is_found_by_any_that_is_near(known: list[Span], found: list[Span], tolerance: float) -> None:
    wanted = [any(abs(a - c) <= tolerance and abs(b - d) <= tolerance for c, d in found) for a, b in known]
    assert spans_found(known, found, tolerance) == wanted


@given(SPANS, SPANS, st.integers(0, 40), st.integers(0, 40))
def test_speech_is_counted_second_by_second(one: list[Span], other: list[Span], a: int, b: int) -> None:
    def seconds(spans: list[Span]) -> set[int]:
        return {second for start, end in spans for second in range(int(start), int(end))}

    edges = sorted({0, a, b, 50})
    for spans, wanted in (
        (united(one), seconds(one)),
        (shared(united(one), united(other)), seconds(one) & seconds(other)),
    ):
        parts = [sum(low <= second < high for second in wanted) for low, high in pairwise(edges)]
        assert covered(spans, edges).tolist() == parts


def test_scores_by_hand() -> None:
    sums = np.array([6.0, 8.0, 12.0])
    assert (recall(sums), precision(sums), f1(sums)) == pytest.approx((75, 50, 60))
    # hit rate 75, over-segmentation 50: r1 = √(25² + 50²) = 55.9017, r2 = (−50 + 75 − 100) / √2 = −53.0330
    assert r_value(sums) == pytest.approx(100 * (1 - (55.9017 + 53.0330) / 200), abs=1e-3)
    assert r_value(np.array([8.0, 8.0, 8.0])) == pytest.approx(100)
    assert r_value(np.array([8.0, 8.0, 80.0])) < 0
    nothing = np.zeros(3)
    assert all(np.isnan(score(nothing)) for score in (recall, precision, f1, r_value))
