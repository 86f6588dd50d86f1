"""The sums behind a report and the pieces of its page, against slow references."""

from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.pipelines.charts import Bar, Bin, histogram, horizontal_bars, nice_ticks, short_count
from seamlessalign.pipelines.markup import escape, tag
from seamlessalign.pipelines.report_numbers import MarginCounts, covered_samples
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


def _attributes(markup: str, element: str, name: str) -> list[float]:
    found: list[float] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag_name: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag_name == element:
                found.append(float(dict(attributes)[name] or "nan"))

    Reader().feed(markup)
    return found
