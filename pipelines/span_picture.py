"""A picture of one recording: its fragments of speech, and above them every span that is made of them, as SVG."""

import numpy as np
import numpy.typing as npt

from seamlessalign.charts import nice_ticks
from seamlessalign.markup import Markup, tag
from seamlessalign.rows import SAMPLE_RATE

_WIDTH, _MARGIN, _LANE, _BAR = 960.0, 12.0, 6.0, 4.0
_MOST_LANES = 60
_STYLE = (  # of a picture by itself; in a page, where it would hold for all other pictures too, the page has it
    "text{font:11px sans-serif;fill:currentColor}.fragment{fill:#1f7a8c}.span{fill:#d08a3c}.axis{stroke:currentColor}"
)
Int64 = npt.NDArray[np.int64]


def span_picture(
    fragments: Int64,
    spans: Int64,
    first_seconds: float,
    last_seconds: float,
    title: str = "Fragments and spans",
    *,
    in_page: bool = False,
) -> Markup:
    """Fragments and spans, (number, 2) in samples, that lie wholly between two times of a recording.

    Spans lie in lanes, none of which has two at a time; those beyond 60 lanes are left out, and said to be. Besides by
    their colours the two are told apart by place and thickness. `in_page`: colours are for the style sheet of the page.
    """
    low, high = round(first_seconds * SAMPLE_RATE), round(last_seconds * SAMPLE_RATE)
    fragments = fragments[(fragments[:, 0] >= low) & (fragments[:, 1] <= high)]
    spans = spans[(spans[:, 0] >= low) & (spans[:, 1] <= high)]
    lanes: list[int] = []  # where each is free again
    placed: list[tuple[int, int, int]] = []
    left_out = 0
    for start, end in spans[np.lexsort((spans[:, 1], spans[:, 0]))].tolist():
        lane = next((number for number, free in enumerate(lanes) if free <= start), len(lanes))
        if lane == len(lanes):
            if lane == _MOST_LANES:
                left_out += 1
                continue
            lanes.append(0)
        lanes[lane] = end
        placed.append((start, end, lane))
    bottom = _MARGIN + 14 + len(lanes) * _LANE + 8
    height = bottom + 3 * _LANE + 24

    def x_of(sample: int) -> float:
        return round(_MARGIN + (sample - low) / max(high - low, 1) * (_WIDTH - 2 * _MARGIN), 1)

    def bar(kind: str, start: int, end: int, y: float, thick: float) -> Markup:
        seconds = tag("title", f"{start / SAMPLE_RATE:.2f} – {end / SAMPLE_RATE:.2f} s")
        width = max(x_of(end) - x_of(start) - 0.5, 0.5)
        return tag("rect", seconds, class_=kind, x=x_of(start), y=y, width=width, height=thick)

    more = f", and {left_out} more that overlap these" if left_out else ""
    told = f"{len(placed)} spans{more}; below, thick, the {len(fragments)} fragments that they are made of"
    parts = [
        tag("title", title),
        *([] if in_page else [tag("style", _STYLE)]),
        tag("text", told, x=_MARGIN, y=_MARGIN + 4),
    ]
    parts += [bar("span", start, end, bottom - 8 - (lane + 1) * _LANE, _BAR) for start, end, lane in placed]
    parts += [bar("fragment", start, end, bottom, 2 * _LANE) for start, end in fragments.tolist()]
    axis = bottom + 3 * _LANE
    parts.append(tag("line", class_="axis", x1=_MARGIN, y1=axis, x2=_WIDTH - _MARGIN, y2=axis))
    for second in nice_ticks(first_seconds, last_seconds, 8):
        x = x_of(round(second * SAMPLE_RATE))
        parts.append(tag("text", f"{second:g} s", x=x, y=axis + 15, text_anchor="middle"))
    box = f"0 0 {_WIDTH:g} {height:g}"
    kind = "chart wide" if in_page else None
    space = None if in_page else "http://www.w3.org/2000/svg"
    return tag("svg", *parts, xmlns=space, viewBox=box, class_=kind, role="img", aria_label=title)
