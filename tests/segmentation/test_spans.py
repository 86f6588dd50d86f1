"""Over-segmentation against brute force over all pairs of fragments, and its growth."""

import sys
import tracemalloc
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.errors import InputError
from seamlessalign.segmentation import Spans, over_segment

RATE = 16_000


def _fragments(pieces: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Fragments from (gap before, length) in samples."""
    edges, position = [], 0
    for gap, length in pieces:
        edges.append((position + gap, position + gap + length))
        position += gap + length
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def _slow(
    fragments: NDArray[np.int64],
    min_seconds: float,
    max_seconds: float,
    max_gap_seconds: float,
    most: int | None = None,
) -> list[tuple[int, int, int, int, float]]:
    """Every (i, j) tried, straight from the definition."""
    found = []
    rows = fragments.tolist()
    for i in range(len(rows)):
        for j in range(i, len(rows)):
            length = rows[j][1] - rows[i][0]
            gaps = [rows[k + 1][0] - rows[k][1] for k in range(i, j)]
            if not round(min_seconds * RATE) <= length <= round(max_seconds * RATE):
                continue
            if any(gap / RATE > max_gap_seconds for gap in gaps) or (most is not None and j - i + 1 > most):
                continue
            speech = sum(end - start for start, end in rows[i : j + 1])
            found.append((rows[i][0], rows[j][1], i, j + 1, speech / length))
    return sorted(found)


_pieces = st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 60_000)), max_size=14)


@given(_pieces, st.floats(0, 4), st.floats(0, 12), st.floats(0, 3), st.none() | st.integers(1, 6))
@example(
    [(0, RATE), (RATE, RATE), (RATE + 1, RATE)], 1.0, 2.0, 1.0, None
)  # all bounds met exactly, one gap a sample too long
@example([], 1.0, 20.0, 1.0, None)
def test_equals_brute_force(
    pieces: list[tuple[int, int]], low: float, width: float, gap: float, most: int | None
) -> None:
    fragments = _fragments(pieces)
    result = over_segment(fragments, min_seconds=low, max_seconds=low + width, max_gap_seconds=gap, max_fragments=most)
    expected = _slow(fragments, low, low + width, gap, most)
    assert result.spans.dtype == result.fragments.dtype == np.int64
    assert result.spans.shape == result.fragments.shape == (len(expected), 2)
    rows = np.hstack((result.spans, result.fragments)).tolist()
    assert rows == [list(row[:4]) for row in expected]
    assert result.num_fragments.tolist() == [row[3] - row[2] for row in expected]
    np.testing.assert_allclose(result.speech_ratio(fragments), [row[4] for row in expected], rtol=1e-12)


@given(_pieces)
def test_defaults_are_one_to_twenty_seconds_and_gaps_of_one(pieces: list[tuple[int, int]]) -> None:
    fragments = _fragments(pieces)
    expected = [list(row[:2]) for row in _slow(fragments, 1.0, 20.0, 1.0)]
    assert over_segment(fragments).spans.tolist() == expected


def test_bounds_are_inclusive() -> None:
    second = RATE
    fragments = _fragments([(0, second), (second, 18 * second), (0, 1)])
    assert over_segment(fragments).spans.tolist() == [
        [0, second],
        [0, 20 * second],
        [2 * second, 20 * second],
        [2 * second, 20 * second + 1],
    ]


def test_a_single_fragment_by_hand() -> None:
    result = over_segment(np.array([[100, 100 + RATE]]))
    assert result.spans.tolist() == [[100, 100 + RATE]]
    assert result.fragments.tolist() == [[0, 1]]
    assert len(result) == 1


@pytest.mark.parametrize(
    "rows",
    [[[5, 3]], [[5, 5]], [[0, 10], [5, 20]], [[50, 60], [0, 10]], [[-5, 10]], [[0, 10], [0, 10]]],
    ids=["reversed", "empty", "overlapping", "unsorted", "negative", "twice"],
)
def test_bad_fragments(rows: list[list[int]]) -> None:
    with pytest.raises(InputError, match="fragment"):
        over_segment(np.array(rows))


def test_bad_shape_and_type() -> None:
    for bad in (np.zeros(4, np.int64), np.zeros((2, 3), np.int64), np.array([[0.0, 1.0]])):
        with pytest.raises(InputError, match="num_fragments, 2"):
            over_segment(bad)


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_seconds": -1.0},
        {"min_seconds": 5.0, "max_seconds": 4.0},
        {"max_seconds": float("inf")},
        {"max_gap_seconds": -0.1},
        {"max_gap_seconds": float("nan")},
        {"max_fragments": 0},
    ],
)
def test_bad_bounds(bounds: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        over_segment(np.array([[0, RATE]]), **bounds)


def test_speech_ratio_wants_the_same_fragments() -> None:
    fragments = _fragments([(0, RATE), (10, RATE)])
    with pytest.raises(InputError, match="fragment 1 of 1"):
        over_segment(fragments).speech_ratio(fragments[:1])


def _cost(num_fragments: int) -> tuple[Spans, int, int]:
    """Result, Python lines executed and peak bytes allocated for a recording of steady speech."""
    fragments = _fragments([(3_000, 29_000)] * num_fragments)
    lines = 0

    def count(_: FrameType, event: str, __: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(count)
    try:
        result = over_segment(fragments)
    finally:
        sys.settrace(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return result, lines, peak


def test_cost_grows_in_proportion_to_the_recording() -> None:
    _cost(10)  # imports and caches
    small, small_lines, small_peak = _cost(2_000)
    large, large_lines, large_peak = _cost(16_000)
    assert len(small) > 15_000
    assert 7.9 < len(large) / len(small) < 8.1
    assert large_lines <= small_lines * 1.1 + 50  # no Python loop over fragments
    assert large_peak < small_peak * 9  # and no array that grows faster than they do
