"""Charts that only the pictures of docs/concepts.md have: points between two scores, and spans that compete for audio.

A picture stands by itself, in a page of a code host: it brings its style, and a white ground for dark ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from seamlessalign.charts import WIDTH, nice_ticks
from seamlessalign.markup import Markup, tag
from seamlessalign.rows import SAMPLE_RATE

# blue and orange of Okabe and Ito's palette, which no kind of colour blindness confuses; shapes tell the same
STYLE = (
    "text{font:11px sans-serif;fill:#333}.grid{stroke:#e2e4e1}.axis{stroke:#8b939b}"
    ".right{fill:#0072b2;fill-opacity:.75}.wrong{fill:none;stroke:#b35900;stroke-width:1.1}"
    ".kept{fill:#0072b2}.rejected{fill:#e8a35c}.kept-text{fill:#fff}"
    ".margin{stroke:#333;stroke-width:1.5;stroke-dasharray:5 3}"
    ".cosine{stroke:#333;stroke-width:1.5;stroke-dasharray:1 3}"
    ".threshold{stroke:#333;stroke-width:1.5;stroke-dasharray:4 3}.diagonal{stroke:#8b939b;stroke-dasharray:5 4}"
    ".interval{stroke:#0072b2;stroke-width:1.5}.point{fill:#0072b2}.fragment{fill:#8b939b}.span{fill:#e8a35c}"
)


@dataclass(frozen=True)
class Point:
    """A span with the sentence next to it."""

    cosine: float
    neighbourhood: float  # mean cosine of both with their k nearest
    right: bool


@dataclass(frozen=True)
class Candidate:
    """A span that competes for the audio of a recording."""

    start: int  # samples
    end: int
    weight: float
    kept: bool
    text: str


def standing_alone(chart: Markup) -> Markup:
    """A chart as a file of its own: with its style and a ground."""
    head, _, rest = chart.partition(">")
    space = "" if " xmlns=" in head else ' xmlns="http://www.w3.org/2000/svg"'
    title, _, parts = rest.partition("</title>")
    ground = tag("rect", width="100%", height="100%", fill="#fff")
    return Markup(f"{head}{space}>{title}</title>{tag('style', Markup(STYLE))}{ground}{parts}\n")


def points_of_margin(points: Sequence[Point], *, margin: float, cosine: float, title: str) -> Markup:
    """Cosine of each point over its neighbourhood, with the line of one margin and the line of one cosine.

    `points` are not empty. Right ones are filled, wrong ones hollow.
    """
    left, right, top, bottom, height = 46.0, 12.0, 22.0, 42.0, 330.0
    xs, ys = [one.neighbourhood for one in points], [one.cosine for one in points]
    x_ticks, y_ticks = nice_ticks(min(0.0, min(xs)), max(xs), 6), nice_ticks(min(0.0, min(ys)), max(ys), 6)
    low_x, high_x, low_y, high_y = x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1]

    def x_of(value: float) -> float:
        return left + (value - low_x) / (high_x - low_x) * (WIDTH - left - right)

    def y_of(value: float) -> float:
        return height - bottom - (value - low_y) / (high_y - low_y) * (height - top - bottom)

    parts = [tag("line", class_="grid", x1=left, x2=WIDTH - right, y1=y_of(tick), y2=y_of(tick)) for tick in y_ticks]
    parts += [_text(f"{tick:g}", left - 5, y_of(tick) + 4, "end") for tick in y_ticks]
    parts += [_text(f"{tick:g}", x_of(tick), height - bottom + 15, "middle") for tick in x_ticks]
    parts.append(tag("line", class_="axis", x1=left, x2=WIDTH - right, y1=y_of(low_y), y2=y_of(low_y)))
    for one in sorted(points, key=lambda point: point.right):
        kind, place = "right" if one.right else "wrong", (x_of(one.neighbourhood), y_of(one.cosine))
        parts.append(tag("circle", class_=kind, cx=place[0], cy=place[1], r=3.0))
    end = min(high_x, high_y / margin)
    line = {"x1": x_of(low_x), "y1": y_of(low_x * margin), "x2": x_of(end), "y2": y_of(end * margin)}
    parts.append(tag("line", class_="margin", **line))
    parts.append(_text(f"margin {margin:g}", x_of(end / 4) + 8, y_of(end / 4 * margin) + 8, "start"))
    parts.append(tag("line", class_="cosine", x1=left, x2=WIDTH - right, y1=y_of(cosine), y2=y_of(cosine)))
    parts.append(_text(f"cosine {cosine:.2f}", WIDTH - right, y_of(cosine) + 13, "end"))
    parts.append(_text("mean cosine of both with their nearest neighbours", (left + WIDTH) / 2, height - 7, "middle"))
    parts.append(_text("cosine of span and sentence; ● right, ○ wrong", 4, 12, "start"))
    return tag("svg", tag("title", title), *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=title)


def competing_spans(candidates: Sequence[Candidate], *, title: str) -> Markup:
    """Spans over time, each in a lane of its own, with its weight and text; those that are kept are filled darkly.

    `candidates` are not empty.
    """
    wide, lane, left, right, top = 960.0, 24.0, 12.0, 12.0, 22.0
    low, high = min(one.start for one in candidates), max(one.end for one in candidates)
    height = top + lane * len(candidates) + 30.0

    def x_of(sample: float) -> float:
        return left + (sample - low) / (high - low) * (wide - left - right)

    parts = [_text("each candidate with its (margin − threshold) × seconds; filled darkly: kept", left, 13, "start")]
    for number, one in enumerate(sorted(candidates, key=lambda span: (span.start, span.end))):
        y, kind = top + lane * number, "kept" if one.kept else "rejected"
        x, width = x_of(one.start), x_of(one.end) - x_of(one.start)
        parts.append(tag("rect", class_=kind, x=x, y=y, width=width, height=lane - 6))
        told = f"{one.weight:.2f}  {one.text}"
        inside = len(told) * 5.6 < width - 8
        at_left = not inside and x + width + len(told) * 5.6 > wide
        place = x + 5 if inside else (x - 5 if at_left else x + width + 5)
        kind = "kept-text" if inside and one.kept else "outside-text"
        anchor = "end" if at_left else "start"
        parts.append(tag("text", told, class_=kind, x=place, y=y + 13, text_anchor=anchor))
    foot = top + lane * len(candidates) + 2
    parts.append(tag("line", class_="axis", x1=left, x2=wide - right, y1=foot, y2=foot))
    for second in nice_ticks(low / SAMPLE_RATE, high / SAMPLE_RATE, 8):
        if low <= second * SAMPLE_RATE <= high:
            parts.append(_text(f"{second:g} s", x_of(second * SAMPLE_RATE), foot + 16, "middle"))
    return tag("svg", tag("title", title), *parts, viewBox=f"0 0 {wide:g} {height:g}", role="img", aria_label=title)


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor)
