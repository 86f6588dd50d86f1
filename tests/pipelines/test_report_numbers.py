"""The sums behind a report, against slow references."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.pipelines.report_counts import FineCounts, PrecisionCounts
from seamlessalign.pipelines.report_numbers import covered_samples

finite = st.floats(-5, 5, width=32)


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[float, list[tuple[float, bool]]]:
    """A threshold and rows of margin and kept, many of them within a bin's width of the threshold."""
    threshold = draw(finite)
    near = st.integers(-8, 8).map(lambda step: threshold + step * 0.0003)
    margin = near | finite | st.sampled_from([float("nan"), float("inf"), 3e30, -3e30])
    return threshold, draw(st.lists(st.tuples(margin, st.booleans())))


@given(scored_rows())
def test_histogram_conserves_rows_and_splits_at_the_threshold(case: tuple[float, list[tuple[float, bool]]]) -> None:
    threshold, rows = case
    counts = FineCounts(threshold)
    for part in (rows[::2], rows[1::2]):
        counts.add(np.array([m for m, _ in part], dtype=np.float64), np.array([k for _, k in part], dtype=np.bool_))
    bins = counts.bins()
    there = [(margin, kept) for margin, kept in rows if np.isfinite(margin)]
    assert len(bins) <= 49
    assert sum(bar.kept for bar in bins) == sum(kept for _, kept in there)
    assert sum(bar.rejected for bar in bins) == sum(not kept for _, kept in there)
    assert counts.not_finite == len(rows) - len(there)
    for left, right in pairwise(bins):
        assert left.high == pytest.approx(right.low)
    above = sum(margin >= threshold for margin, _ in there)
    assert sum(bar.kept + bar.rejected for bar in counts.bins(from_origin=True)) == above
    # So few rows have no tails: where the bars reach over the threshold, each lies wholly on one side of it.
    for side in ([bar for bar in bins if bar.low > threshold - 1e-6], counts.bins(from_origin=True)):
        assert sum(bar.kept + bar.rejected for bar in side) == above


def test_histogram_bins_are_counted_right() -> None:
    counts = FineCounts(1.0)
    margins = np.concatenate([np.linspace(0.9, 1.0999, 2001), [0.2, 1.7]])
    counts.add(margins, margins >= 1.0)
    bins = counts.bins()
    assert bins[0].low > 0.85
    assert bins[-1].high < 1.15  # the two strays are in the end bars, which stay where the rows are
    for bar in bins[1:-1]:
        assert bar.kept + bar.rejected == pytest.approx(((margins >= bar.low) & (margins < bar.high)).sum(), abs=2)
        assert (bar.kept == 0) == (bar.high < 1.0 + 1e-9)


estimated = st.one_of(
    st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0, float("nan")]), st.floats(0, 1, width=32, allow_subnormal=False)
)


@given(st.lists(st.tuples(estimated, st.integers(0, 9), st.sampled_from(["kept", "cut", "other"]))))
def test_precision_counts_against_a_slow_count(rows: list[tuple[float, int, str]]) -> None:
    counts = PrecisionCounts()
    for part in (rows[::2], rows[1::2]):
        counts.add(
            np.array([estimate for estimate, _, _ in part], np.float32),
            np.array([samples for _, samples, _ in part], np.int64),
            np.array([what == "kept" for *_, what in part], np.bool_),
            np.array([what == "cut" for *_, what in part], np.bool_),
        )
    known = [(np.float32(estimate), samples, what) for estimate, samples, what in rows if not np.isnan(estimate)]
    kept = [float(estimate) for estimate, _, what in known if what == "kept"]
    assert counts.estimated == len(known)
    assert counts.num_kept == len(kept)
    assert counts.expected_right == pytest.approx(sum(kept))
    assert counts.lowest_kept == (min(kept) if kept else None)
    for cut in (0.0, 0.5, 0.8, 0.9, 0.95, 1.0):
        left = [row for row in known if row[0] >= np.float32(cut) and row[2] != "other"]
        rows_left, samples_left, right = counts.at_least(cut)
        assert (rows_left, samples_left) == (len(left), sum(samples for _, samples, _ in left))
        assert right == pytest.approx(sum(float(estimate) for estimate, _, _ in left), abs=1e-6)
    steps = counts.steps()
    assert [step.at for step in steps] == pytest.approx(np.linspace(0, 1, 101))
    for step in steps:
        for what, number in (("kept", step.kept), ("cut", step.rejected)):
            assert number == sum(row[2] == what and row[0] >= np.float32(step.at) for row in known)


spans = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 20)), max_size=25)


@given(spans)
def test_covered_samples_against_a_set(rows: list[tuple[int, int, int]]) -> None:
    table = np.array([(uri, start, start + length) for uri, start, length in rows], dtype=np.int64).reshape(-1, 3)
    slow = {(uri, sample) for uri, start, end in table.tolist() for sample in range(start, end)}
    assert covered_samples(table[:, 0], table[:, 1], table[:, 2]) == len(slow)
