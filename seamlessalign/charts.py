"""Charts as inline SVG: axes, labels, a title for screen readers, colours from the page's style sheet.

A chart is 400 units wide and shown at 1 to 1.4 times that, so that its text stays readable on a phone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seamlessalign.markup import Markup, tag

WIDTH = 400.0  # units of every viewBox; the text is 11 units high


@dataclass(frozen=True)
class Bin:
    """One bar of a stacked histogram, over `[low, high)`."""

    low: float
    high: float
    kept: int
    rejected: int


@dataclass(frozen=True)
class Bar:
    """One horizontal bar of two parts."""

    label: str
    value: float
    rest: float  # the paler part that follows; 0 when there is none
    text: str  # written at the end of the bar
    title: str  # shown while the pointer rests on the bar


@dataclass(frozen=True)
class Reliability:
    """One point of a reliability diagram: pairs whose estimates lie in `[low, high)`."""

    low: float
    high: float
    pairs: int
    estimate: float  # their mean
    right: float  # the share that is right
    right_low: float  # its interval
    right_high: float


@dataclass(frozen=True)
class Step:
    """One point of a curve over a cut: rows at or above `at`."""

    at: float
    kept: int
    rejected: int


def histogram(bins: Sequence[Bin], *, threshold: float | None, title: str, x_label: str, y_label: str) -> Markup:
    """Stacked bars of kept (below) and rejected (on top) rows, with the threshold as a dashed line.

    `bins` are adjacent, in order, and not empty.
    """
    left, right, top, bottom, height = 46.0, 8.0, 26.0, 40.0, 224.0
    low, high = bins[0].low, bins[-1].high
    ticks = nice_ticks(0.0, max(float(max(bar.kept + bar.rejected for bar in bins)), 1.0), 4, whole=True)
    tallest = max(ticks[-1], max(bar.kept + bar.rejected for bar in bins))

    def x_of(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    def y_of(rows: float) -> float:
        return height - bottom - rows / tallest * (height - top - bottom)

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(_line("grid", left, y_of(tick), WIDTH - right, y_of(tick)))
        parts.append(_text(short_count(tick), left - 5, y_of(tick) + 4, "end"))
    for tick in nice_ticks(low, high, 6):
        if low <= tick <= high:
            parts.append(_line("axis", x_of(tick), y_of(0), x_of(tick), y_of(0) + 4))
            written = f"{tick:g}"
            x = min(x_of(tick), WIDTH - 3.6 * len(written))  # the last one stays inside
            parts.append(_text(written, x, y_of(0) + 16, "middle"))
    for bar in bins:
        parts.append(_histogram_bar(bar, x_of, y_of))
    parts.append(_line("axis", left, y_of(0), WIDTH - right, y_of(0)))
    parts.append(_text(x_label, (left + WIDTH - right) / 2, height - 6, "middle", "label"))
    parts.append(_text(y_label, 4, 11, "start", "label"))
    if threshold is not None and low <= threshold <= high:
        x = x_of(threshold)
        at_right = x > WIDTH * 0.65
        parts.append(_line("threshold", x, top - 16, x, y_of(0)))
        label = f"threshold {threshold:.4g}"
        parts.append(
            _text(label, x + (-5 if at_right else 5), top - 8, "end" if at_right else "start", "threshold-label")
        )
    return _svg(title, height, parts)


def horizontal_bars(
    bars: Sequence[Bar], *, title: str, x_label: str, label_width: float = 120.0, text_width: float = 66.0
) -> Markup:
    """Bars from a common origin on the left, each with its label before it and its text after it.

    `bars` are not empty. `label_width` and `text_width` are in units of the chart, of which there are 400.
    """
    row, top, bottom, right = 24.0, 4.0, 36.0, text_width
    height = top + row * len(bars) + bottom
    largest = max(max(bar.value + bar.rest for bar in bars), 1e-9)
    ticks = [tick for tick in nice_ticks(0.0, largest, 4) if tick <= largest * 1.0001]

    def x_of(value: float) -> float:
        return label_width + value / largest * (WIDTH - label_width - right)

    foot = top + row * len(bars)
    parts: list[Markup] = []
    for tick in ticks:
        parts.append(_line("grid", x_of(tick), top, x_of(tick), foot))
        parts.append(_text(f"{tick:,g}", x_of(tick), foot + 14, "middle"))
    for index, bar in enumerate(bars):
        y = top + row * index
        middle = y + row / 2 + 4
        parts.append(
            tag(
                "g",
                tag("title", bar.title),
                _rect("kept", x_of(0), y + 4, x_of(bar.value) - x_of(0), row - 8),
                _rect("rejected", x_of(bar.value), y + 4, x_of(bar.rest) - x_of(0), row - 8),
                _text(bar.label, label_width - 6, middle, "end", "row-label"),
                _text(bar.text, x_of(bar.value + bar.rest) + 5, middle, "start"),
            )
        )
    parts.append(_line("axis", label_width, top, label_width, foot))
    parts.append(_text(x_label, (label_width + WIDTH - right) / 2, height - 5, "middle", "label"))
    return _svg(title, height, parts)


def reliability_diagram(
    points: Sequence[Reliability], *, title: str, x_label: str, y_label: str, unit: str = "pairs"
) -> Markup:
    """Share that is right over the estimate, with intervals; on the diagonal the estimate holds.

    A point is larger the more pairs it stands for, and their number is written below it. `points` are in order and not
    empty; `unit`: what they are points of.
    """
    left, right, top, bottom = 46.0, 10.0, 24.0, 58.0
    side = WIDTH - left - right  # the diagonal rises at 45 degrees
    foot, height = top + side, top + side + bottom
    most = max(point.pairs for point in points)

    def x_of(value: float) -> float:
        return left + value * side

    def y_of(value: float) -> float:
        return foot - value * side

    parts: list[Markup] = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_line("grid", left, y_of(tick), WIDTH - right, y_of(tick)))
        parts.append(_line("grid", x_of(tick), top, x_of(tick), foot))
        parts.append(_text(f"{tick:g}", left - 5, y_of(tick) + 4, "end"))
        parts.append(_text(f"{tick:g}", x_of(tick), foot + 15, "middle"))
    parts.append(_line("diagonal", x_of(0), y_of(0), x_of(1), y_of(1)))
    for point in points:
        x, radius = x_of(point.estimate), 3.0 + 5.0 * math.sqrt(point.pairs / most)
        told = (
            f"{point.pairs:,} {unit} estimated at {point.low:.4g} to {point.high:.4g}, "
            f"{point.estimate:.3f} on average: {point.right:.3f} right "
            f"({point.right_low:.3f} to {point.right_high:.3f})"
        )
        parts.append(
            tag(
                "g",
                tag("title", told),
                _line("interval", x, y_of(point.right_low), x, y_of(point.right_high)),
                _line("interval", x - 3, y_of(point.right_low), x + 3, y_of(point.right_low)),
                _line("interval", x - 3, y_of(point.right_high), x + 3, y_of(point.right_high)),
                tag("circle", class_="point", cx=x, cy=y_of(point.right), r=radius),
            )
        )
        parts.append(_text(short_count(point.pairs), x_of((point.low + point.high) / 2), foot + 31, "middle", "count"))
    parts.append(_text(unit, left - 5, foot + 31, "end", "count"))
    parts.append(_text(x_label, left + side / 2, height - 6, "middle", "label"))
    parts.append(_text(y_label, 4, 11, "start", "label"))
    return _svg(title, height, parts)


def curve_over_cut(
    steps: Sequence[Step], *, cut: float | None, cut_label: str, title: str, x_label: str, y_label: str
) -> Markup:
    """How many rows are left as a cut rises from 0 to 1: kept ones (below) and rejected ones (on top), and the cut.

    `steps` rise from 0 to 1. Where the rejected ones would make the kept ones too small to see, the top is cut off, and
    a note says how many there are.
    """
    left, right, top, bottom, height = 46.0, 10.0, 26.0, 40.0, 190.0
    whole = max(step.kept + step.rejected for step in steps)
    most_kept = max(step.kept for step in steps)
    tallest = float(max(min(whole, 4 * most_kept) if most_kept else whole, 1))
    ticks = nice_ticks(0.0, tallest, 3, whole=True)
    cut_off = whole > ticks[-1]

    def x_of(value: float) -> float:
        return left + value * (WIDTH - left - right)

    def y_of(rows: float) -> float:
        return height - bottom - min(rows / ticks[-1], 1.0) * (height - top - bottom)

    def area(kind: str, tops: Sequence[float]) -> Markup:
        # A row is at or above every cut up to its own value: the count holds until the next step, and falls there.
        corners = [(x_of(steps[0].at), y_of(0)), (x_of(steps[0].at), y_of(tops[0]))]
        for step, before, after in zip(steps[1:], tops, tops[1:], strict=False):
            corners += [(x_of(step.at), y_of(before)), (x_of(step.at), y_of(after))]
        corners.append((x_of(steps[-1].at), y_of(0)))
        return tag("polygon", class_=kind, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners))

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(_line("grid", left, y_of(tick), WIDTH - right, y_of(tick)))
        parts.append(_text(short_count(tick), left - 5, y_of(tick) + 4, "end"))
    parts.append(area("rejected", [float(step.kept + step.rejected) for step in steps]))
    parts.append(area("kept", [float(step.kept) for step in steps]))
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_line("axis", x_of(tick), y_of(0), x_of(tick), y_of(0) + 4))
        parts.append(_text(f"{tick:g}", x_of(tick), y_of(0) + 16, "middle"))
    parts.append(_line("axis", left, y_of(0), WIDTH - right, y_of(0)))
    parts.append(_text(x_label, (left + WIDTH - right) / 2, height - 6, "middle", "label"))
    parts.append(_text(y_label + (f" (up to {whole:,}, cut off here)" if cut_off else ""), 4, 11, "start", "label"))
    if cut is not None:
        x, at_right = x_of(cut), cut > 0.55
        parts.append(_line("threshold", x, top - 8, x, y_of(0)))
        place = (x - 5, "end") if at_right else (x + 5, "start")
        parts.append(_text(cut_label, place[0], top + 6, place[1], "threshold-label halo"))
    return _svg(title, height, parts)


def nice_ticks(low: float, high: float, about: int, *, whole: bool = False) -> list[float]:
    """Round numbers (steps of 1, 2 or 5 times a power of ten) that cover `[low, high]`, about `about` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    if whole:
        step = max(step, 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short_count(number: float) -> str:
    """A count in at most about four characters: 950, 1.2k, 35k, 2.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _histogram_bar(bar: Bin, x_of: Callable[[float], float], y_of: Callable[[float], float]) -> Markup:
    x, width = x_of(bar.low), max(x_of(bar.high) - x_of(bar.low) - 0.6, 0.4)
    kept_top, whole_top = y_of(bar.kept), y_of(bar.kept + bar.rejected)
    return tag(
        "g",
        tag("title", f"{bar.low:.4g} to {bar.high:.4g}: {bar.kept:,} kept, {bar.rejected:,} rejected"),
        _rect("kept", x, kept_top, width, y_of(0) - kept_top),
        _rect("rejected", x, whole_top, width, kept_top - whole_top),
    )


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", title),
        *parts,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=title,
        class_="chart",
    )


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    if width <= 0 or height <= 0:
        return Markup("")
    return tag("rect", class_=kind, x=x, y=y, width=width, height=height)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return tag("line", class_=kind, x1=x1, y1=y1, x2=x2, y2=y2)


def _text(text: str, x: float, y: float, anchor: str, kind: str = "tick") -> Markup:
    return tag("text", text, class_=kind, x=x, y=y, text_anchor=anchor)
