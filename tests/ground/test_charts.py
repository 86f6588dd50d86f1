"""Charts are to scale and say what they show."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.charts import (
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
