"""The sums behind a report and the pieces of its page, against slow references."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.pipelines.charts import (
    Bar,
    Bin,
    Reliability,
    Step,
    curve_over_cut,
    histogram,
    horizontal_bars,
    nice_ticks,
    reliability_diagram,
    short_count,
)
from seamlessalign.pipelines.markup import escape, tag
from seamlessalign.pipelines.report_counts import MarginCounts, PrecisionCounts
from seamlessalign.pipelines.report_numbers import covered_samples
from tests.pipelines.fake_run import Page

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
    counts = MarginCounts(threshold)
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
    counts = MarginCounts(1.0)
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


# markup and charts


@given(st.text())
def test_escaped_text_is_read_back_as_it_was(text: str) -> None:
    page = Page(tag("p", text, title=text))
    assert page.elements == Counter({"p": 1})
    plain = "".join(c for c in text if c.isprintable() or c == " ")
    assert all(c in page.text for c in plain)
    assert not any(ord(c) < 32 for c in escape(text))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_cover_the_range(low: float, width: float, about: int) -> None:
    ticks = nice_ticks(low, low + width, about)
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low + width * 1e-6
    assert ticks[-1] >= low + width - width * 1e-6
    assert 2 <= len(ticks) <= about + 3


def test_short_counts() -> None:
    assert [short_count(n) for n in (0, 7, 950, 1200, 35_000, 2_500_000, 4e9)] == [
        "0", "7", "950", "1.2k", "35k", "2.5M", "4G",
    ]  # fmt: skip


def test_charts_draw_to_scale_and_say_what_they_show() -> None:
    chart = histogram(
        [Bin(1.0, 1.1, 0, 40), Bin(1.1, 1.2, 20, 20), Bin(1.2, 1.3, 10, 0)],
        threshold=1.1, title="Margins <of> a", x_label="margin", y_label="pairs",
    )  # fmt: skip
    heights = _attributes(chart, "rect", "height")
    assert heights[0] == pytest.approx(heights[1] * 2) == pytest.approx(heights[3] * 4)
    assert 'aria-label="Margins &lt;of&gt; a"' in chart
    assert "<title>Margins &lt;of&gt; a</title>" in chart
    assert "1.1 to 1.2: 20 kept, 20 rejected" in chart
    bars = horizontal_bars([Bar("fra", 3.0, 1.0, "4 h", "t"), Bar("deu", 2.0, 0.0, "2 h", "t")], title="t", x_label="h")
    widths = _attributes(bars, "rect", "width")
    assert widths[0] == pytest.approx(widths[1] * 3, abs=0.05) == pytest.approx(widths[2] * 1.5, abs=0.05)


def test_reliability_diagram_is_to_scale() -> None:
    points = [Reliability(0.0, 0.5, 900, 0.25, 0.5, 0.4, 0.6), Reliability(0.5, 1.0, 100, 0.75, 1.0, 0.9, 1.0)]
    chart = reliability_diagram(points, title="Reliability of <a>", x_label="estimated", y_label="right")
    (x1, x2), (y1, y2) = _attributes(chart, "circle", "cx"), _attributes(chart, "circle", "cy")
    small, large = sorted(_attributes(chart, "circle", "r"))
    assert x2 - x1 == pytest.approx(y1 - y2, abs=0.02)  # on both axes half of the range, which is a square
    assert large > 1.5 * small
    assert "<title>Reliability of &lt;a&gt;</title>" in chart and 'role="img"' in chart
    diagonal = {name: _attributes(chart, "line", name, "diagonal")[0] for name in ("x1", "y1", "x2", "y2")}
    slope = (diagonal["y1"] - diagonal["y2"]) / (diagonal["x2"] - diagonal["x1"])
    assert slope == pytest.approx(1)
    assert y2 == pytest.approx(diagonal["y2"])  # all are right
    assert x1 == pytest.approx((3 * diagonal["x1"] + diagonal["x2"]) / 4, abs=0.02)
    low, high = (_attributes(chart, "line", name, "interval")[0] for name in ("y1", "y2"))
    assert low - high == pytest.approx(0.2 * (diagonal["y1"] - diagonal["y2"]), abs=0.02)
    assert low - y1 == pytest.approx(y1 - high, abs=0.02)


def test_curve_over_a_cut_is_to_scale_and_says_what_it_leaves_out() -> None:
    steps = [Step(0.0, 100, 300), Step(0.5, 100, 0), Step(1.0, 25, 0)]
    chart = curve_over_cut(steps, cut=0.5, cut_label="cut at 0.50", title="t", x_label="x", y_label="pairs")
    areas = [[tuple(map(float, corner.split(","))) for corner in text.split()] for text in _texts(chart, "points")]
    rejected, kept = ([foot - y for _, y in corners] for corners in areas for foot in [corners[0][1]])
    assert max(rejected) == pytest.approx(4 * max(kept), rel=0.01)
    assert kept[-2] == pytest.approx(max(kept) / 4, rel=0.02)
    places = [x for x, _ in areas[1]]
    assert _attributes(chart, "line", "x1", "threshold") == pytest.approx([(min(places) + max(places)) / 2], abs=0.06)
    assert "cut off" not in chart
    crowded = curve_over_cut(
        [Step(0.0, 10, 123_456), Step(1.0, 0, 0)], cut=None, cut_label="", title="t", x_label="x", y_label="pairs"
    )
    assert "up to 123,466, cut off here" in crowded and "threshold" not in crowded
    nothing = curve_over_cut(
        [Step(0.0, 0, 0), Step(1.0, 0, 0)], cut=0.9, cut_label="c", title="t", x_label="", y_label=""
    )
    assert "nan" not in nothing


def _texts(markup: str, name: str) -> list[str]:
    return re.findall(rf'{name}="([^"]*)"', markup)


def _attributes(markup: str, element: str, name: str, kind: str | None = None) -> list[float]:
    found: list[float] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag_name: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag_name == element and kind in (None, dict(attributes).get("class")):
                found.append(float(dict(attributes)[name] or "nan"))

    Reader().feed(markup)
    return found
