"""Charts of several series, such as the systems of an evaluation: dots with intervals by row, and lines.

Series are told apart by colour and by the shape of their marks, both of which the legend shows; colours come from the
page's style sheet, where `series-0` is the first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seamlessalign.charts import WIDTH, nice_ticks
from seamlessalign.markup import Markup, tag

NUM_COLOURS = 8
_WIDE = 960.0  # units of a chart of many rows
_LABELS_APART = 12.0  # units between labels that stand upright
_MOST_MARKS = 40  # points of a line; more are a line only


@dataclass(frozen=True)
class Dot:
    """A value of a series, and the interval around it where there is one."""

    series: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DotRow:
    """What all series have in one row."""

    label: str
    title: str  # shown while the pointer rests on the row
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Line:
    """A line of a series; where y is None it is broken."""

    series: int
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    title: str  # shown while the pointer rests on it
    low: tuple[float | None, ...] = ()  # an interval of y
    high: tuple[float | None, ...] = ()
    chosen: float | None = None  # an x that is marked
    dash: int = 0  # which pattern: lines of one series are told apart by it


def mark(series: int, x: float, y: float, size: float = 3.4) -> Markup:
    """The mark of a series as an element of SVG."""
    return tag("path", class_=f"mark series-{series % NUM_COLOURS}", d=_outline(series, x, y, size))


def legend(series_of: Mapping[str, int]) -> Markup:
    """The marks of series with their names, as HTML. series_of: name → series."""
    items = []
    for name, series in series_of.items():
        shown = tag("svg", mark(series, 7, 7, 4.4), viewBox="0 0 14 14", aria_hidden="true")
        items.append(tag("li", shown, tag("bdi", name)))
    return tag("ul", *items, class_="series-legend", aria_label="Legend")


def dots_by_row(rows: Sequence[DotRow], *, title: str, x_label: str) -> Markup:
    """A row for each label, with all its dots on one scale, one below the other. `rows` have at least one dot."""
    series = sorted({dot.series for row in rows for dot in row.dots})
    lanes = len(series)
    lane = 8.0 if lanes > 1 else 12.0
    high_row, top, bottom, right = max(lanes * lane + 8, 18.0), 6.0, 36.0, 12.0
    left = 12 + 6.4 * min(max(len(row.label) for row in rows), 24)
    height = top + high_row * len(rows) + bottom
    low, high, ticks = _scale(rows, 5)

    def x_of(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    foot = height - bottom
    parts: list[Markup] = []
    for tick in ticks:
        parts.append(tag("line", class_="grid", x1=x_of(tick), y1=top, x2=x_of(tick), y2=foot))
        parts.append(_text(f"{tick:g}", x_of(tick), foot + 15, "middle"))
    for number, row in enumerate(rows):
        y = top + high_row * number
        if number:
            parts.append(tag("line", class_="grid", x1=0.0, y1=y, x2=WIDTH - right, y2=y))
        label = row.label if len(row.label) <= 24 else row.label[:23] + "…"
        pieces = [tag("title", row.title), _text(label, left - 8, y + high_row / 2 + 4, "end", "row-label")]
        for dot in row.dots:
            middle = y + high_row / 2 + (series.index(dot.series) - (lanes - 1) / 2) * lane
            if dot.low is not None and dot.high is not None:
                ends = {"x1": x_of(dot.low), "x2": x_of(dot.high), "y1": middle, "y2": middle}
                pieces.append(tag("line", class_=f"whisker series-{dot.series % NUM_COLOURS}", **ends))
            pieces.append(mark(dot.series, x_of(dot.value), middle))
        parts.append(tag("g", *pieces))
    parts.append(tag("line", class_="axis", x1=left, y1=foot, x2=WIDTH - right, y2=foot))
    parts.append(_text(x_label, (left + WIDTH - right) / 2, height - 6, "middle", "label"))
    return _svg(title, WIDTH, height, parts, "chart")


def dots_by_column(rows: Sequence[DotRow], *, title: str, y_label: str) -> Markup:
    """The same for many rows: a narrow column for each, in order; every so many have their label below.

    All dots of a series are one element, so that hundreds of columns stay quick.
    """
    left, right, top, bottom, height = 46.0, 8.0, 24.0, 66.0, 320.0
    apart = (_WIDE - left - right) / max(len(rows), 1)
    low, high, ticks = _scale(rows, 6)
    foot = height - bottom

    def y_of(value: float) -> float:
        return foot - (value - low) / (high - low) * (foot - top)

    parts: list[Markup] = [_text(y_label, 4, 11, "start", "label")]
    for tick in ticks:
        parts.append(tag("line", class_="grid", x1=left, y1=y_of(tick), x2=_WIDE - right, y2=y_of(tick)))
        parts.append(_text(f"{tick:g}", left - 5, y_of(tick) + 4, "end"))
    whiskers: dict[int, list[str]] = {}
    marks: dict[int, list[str]] = {}
    size = min(3.0, max(1.6, apart / 2))
    every = max(1, math.ceil(_LABELS_APART / apart))
    columns: list[Markup] = []
    for number, row in enumerate(rows):
        x = left + (number + 0.5) * apart
        for dot in row.dots:
            marks.setdefault(dot.series, []).append(_outline(dot.series, x, y_of(dot.value), size))
            if dot.low is not None and dot.high is not None:
                whiskers.setdefault(dot.series, []).append(f"M{x:.1f} {y_of(dot.low):.1f}V{y_of(dot.high):.1f}")
        box = {"x": left + number * apart, "y": top, "width": apart, "height": foot - top}
        columns.append(tag("rect", tag("title", row.title), class_="column", **box))
        if number % every == 0:
            place = f"translate({x + 3:.1f},{foot + 8:.1f}) rotate(-60)"
            columns.append(tag("text", row.label[:14], class_="count", text_anchor="end", transform=place))
    for kind, found in (("whisker", whiskers), ("mark", marks)):
        for series, pieces in sorted(found.items()):
            parts.append(tag("path", class_=f"{kind} series-{series % NUM_COLOURS}", d="".join(pieces)))
    parts.append(tag("line", class_="axis", x1=left, y1=foot, x2=_WIDE - right, y2=foot))
    return _svg(title, _WIDE, height, [*parts, *columns], "chart wide")


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, y_label: str) -> Markup | None:
    """Lines over one axis; None where they have no points."""
    left, right, top, bottom, height = 50.0, 12.0, 24.0, 40.0, 240.0
    xs = [x for line in lines for x, y in zip(line.x, line.y, strict=True) if y is not None]
    ys = [y for line in lines for some in (line.y, line.low, line.high) for y in some if y is not None]
    if not xs:
        return None
    x_low, x_high = _widened(min(xs), max(xs), 0.0)
    y_low, y_high = _widened(min(ys), max(ys), 0.04)
    ticks = [tick for tick in nice_ticks(y_low, y_high, 5) if y_low <= tick <= y_high]

    def x_of(value: float) -> float:
        return left + (value - x_low) / (x_high - x_low) * (WIDTH - left - right)

    def y_of(value: float) -> float:
        return height - bottom - (value - y_low) / (y_high - y_low) * (height - top - bottom)

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(tag("line", class_="grid", x1=left, y1=y_of(tick), x2=WIDTH - right, y2=y_of(tick)))
        parts.append(_text(f"{tick:g}", left - 5, y_of(tick) + 4, "end"))
    for tick in nice_ticks(x_low, x_high, 6):
        if x_low <= tick <= x_high:
            parts.append(tag("line", class_="axis", x1=x_of(tick), y1=y_of(y_low), x2=x_of(tick), y2=y_of(y_low) + 4))
            parts.append(_text(f"{tick:g}", x_of(tick), y_of(y_low) + 16, "middle"))
    parts += [_drawn(line, x_of, y_of) for line in lines]
    for line in lines:
        if line.chosen is not None and x_low <= line.chosen <= x_high:
            x = x_of(line.chosen)
            told = tag("title", f"chosen: {line.chosen:.4g}")
            kind = f"chosen series-{line.series % NUM_COLOURS}"
            parts.append(tag("line", told, class_=kind, x1=x, y1=top, x2=x, y2=y_of(y_low)))
    parts.append(tag("line", class_="axis", x1=left, y1=y_of(y_low), x2=WIDTH - right, y2=y_of(y_low)))
    parts.append(_text(x_label, (left + WIDTH - right) / 2, height - 6, "middle", "label"))
    parts.append(_text(y_label, 4, 11, "start", "label"))
    return _svg(title, WIDTH, height, parts, "chart")


def _drawn(line: Line, x_of: Callable[[float], float], y_of: Callable[[float], float]) -> Markup:
    path, pen = "", "M"
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            pen = "M"
            continue
        path += f"{pen}{x_of(x):.1f} {y_of(y):.1f}"
        pen = "L"
    kind = f"series-{line.series % NUM_COLOURS}"
    pieces = [tag("title", line.title), tag("path", class_=f"line dash-{line.dash % 4} {kind}", d=path)]
    if line.low and line.high:
        ends = zip(line.x, line.low, line.high, strict=True)
        bars = [f"M{x_of(x):.1f} {y_of(a):.1f}V{y_of(b):.1f}" for x, a, b in ends if a is not None and b is not None]
        pieces.append(tag("path", class_=f"whisker {kind}", d="".join(bars)))
    there = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
    if len(there) <= _MOST_MARKS:
        pieces += [mark(line.series, x_of(x), y_of(y)) for x, y in there]
    return tag("g", *pieces)


def _outline(series: int, x: float, y: float, size: float) -> str:
    """The outline of a mark around a place: of the shape of a series, which changes with each and with each round."""
    a = size
    match (series + series // NUM_COLOURS) % 6:
        case 0:
            return f"M{x - a:.1f} {y:.1f}a{a:.1f} {a:.1f} 0 1 0 {2 * a:.1f} 0a{a:.1f} {a:.1f} 0 1 0 {-2 * a:.1f} 0z"
        case 1:
            a *= 0.9
            return f"M{x - a:.1f} {y - a:.1f}h{2 * a:.1f}v{2 * a:.1f}h{-2 * a:.1f}z"
        case 2:
            a *= 1.25
            return f"M{x:.1f} {y - a:.1f}l{a:.1f} {a:.1f}l{-a:.1f} {a:.1f}l{-a:.1f} {-a:.1f}z"
        case 3:
            return f"M{x:.1f} {y - 1.2 * a:.1f}l{1.2 * a:.1f} {2.1 * a:.1f}h{-2.4 * a:.1f}z"
        case 4:
            return f"M{x:.1f} {y + 1.2 * a:.1f}l{1.2 * a:.1f} {-2.1 * a:.1f}h{-2.4 * a:.1f}z"
        case _:
            b = 0.4 * a
            a *= 1.2
            arms = f"h{2 * b:.1f}v{a - b:.1f}h{a - b:.1f}v{2 * b:.1f}h{b - a:.1f}v{a - b:.1f}h{-2 * b:.1f}"
            return f"M{x - b:.1f} {y - a:.1f}{arms}v{b - a:.1f}h{b - a:.1f}v{-2 * b:.1f}h{a - b:.1f}z"


def _scale(rows: Sequence[DotRow], about: int) -> tuple[float, float, list[float]]:
    """Lowest and highest value of an axis that has all dots and intervals, and the ticks between."""
    values = [
        value for row in rows for dot in row.dots for value in (dot.value, dot.low, dot.high) if value is not None
    ]
    low, high = _widened(min(values), max(values), 0.03)
    return low, high, [tick for tick in nice_ticks(low, high, about) if low <= tick <= high]


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """A range with some room around it, and never empty."""
    room = (high - low) * share or (0.0 if high > low else abs(high) * 0.05 or 1.0)
    return low - room, high + room


def _svg(title: str, width: float, height: float, parts: Sequence[Markup], kind: str) -> Markup:
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", tag("title", title), *parts, viewBox=box, role="img", aria_label=title, class_=kind)


def _text(text: str, x: float, y: float, anchor: str, kind: str = "tick") -> Markup:
    return tag("text", text, class_=kind, x=x, y=y, text_anchor=anchor)
