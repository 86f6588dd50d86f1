"""Charts as files of their own, for notebooks and documents: the SVG of a page with the colours of the page in it."""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from seamlessalign import storage
from seamlessalign.charts import WIDTH
from seamlessalign.errors import InputError
from seamlessalign.markup import Markup, escape, tag

_SHOWN = 1.3  # pixels of a unit of a chart
_BOX = re.compile(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"')
_ROOM, _HEADING, _LEGEND = 8.0, 18.0, 14.0  # units around charts, and of what stands above one


class Picture:
    """A chart. Notebooks show it; `save` writes it as an SVG, which looks the same everywhere.

    charts: SVG elements as `seamlessalign.charts` makes them, which are put below each other; `name` tells what they
    show, and each may have a heading.
    """

    def __init__(self, charts: Sequence[Markup], name: str, headings: Sequence[str] = ()) -> None:
        self.name = name
        self._charts = list(charts)
        self._headings = list(headings) or [f"{name[:1].upper()}{name[1:]}"] + [""] * (len(self._charts) - 1)

    @property
    def svg(self) -> str:
        """The whole picture: an SVG element that needs nothing beside it."""
        parts: list[Markup] = []
        height, wide = _ROOM, WIDTH
        for chart, heading in zip(self._charts, self._headings, strict=True):
            found = _BOX.match(chart)
            if found is None:
                raise ValueError("no chart: it begins with no svg element that has a viewBox from 0 0")
            if heading:
                parts.append(tag("text", heading, class_="heading", x=_ROOM, y=height + 12))
                height += _HEADING
            if 'class="rejected"' in chart:
                parts += _legend(height + 2)
                height += _LEGEND
            place = f'<svg x="{_ROOM:g}" y="{height:g}" width="{found[1]}" height="{found[2]}" '
            parts.append(Markup(place + chart.removeprefix("<svg ")))
            height, wide = height + float(found[2]) + _ROOM, max(wide, float(found[1]))
        wide += 2 * _ROOM
        back = tag("rect", width=wide, height=height, class_="back")
        return tag(
            "svg", tag("title", self.name), tag("style", Markup(_style())), back, *parts,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {wide:g} {height:g}", width=round(wide * _SHOWN),
            height=round(height * _SHOWN), role="img", aria_label=self.name,
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write it to a file or address that ends in `.svg`. Raises InputError for another ending."""
        uri = str(path)
        if not uri.lower().endswith(".svg"):
            raise InputError(f"{uri}: pictures are written as .svg")
        storage.write_bytes_atomic(uri, self.svg.encode("utf-8"))

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        # as an image, so that its style sheet holds for nothing else on the page, and the page's not for it
        source = b64encode(self.svg.encode("utf-8")).decode("ascii")
        return f'<img alt="{escape(self.name)}" style="max-width: 100%" src="data:image/svg+xml;base64,{source}">'

    def __repr__(self) -> str:
        return f"<picture: {self.name}>"


def _legend(y: float) -> list[Markup]:
    parts = []
    for x, kind in ((_ROOM, "kept"), (_ROOM + 52, "rejected")):
        parts.append(tag("rect", class_=kind, x=x, y=y, width=8, height=8))
        parts.append(tag("text", kind, class_="told", x=x + 12, y=y + 8))
    return [tag("g", *parts, class_="chart")]


@cache
def _style() -> str:
    """The rules for charts of the style sheet that all pages have, in its light colours."""
    sheet = files("seamlessalign").joinpath("html_page.css").read_text("utf-8")
    colours = sheet[sheet.index(":root") : sheet.index("}") + 1]
    rules = [line for line in sheet.splitlines() if line.startswith(".chart ") and line.endswith("}")]
    own = [
        "svg { font-family: system-ui, sans-serif; }",
        ".back { fill: var(--card); }",
        ".heading { font-size: 12px; font-weight: 600; fill: var(--ink); }",
        ".told { font-size: 10px; fill: var(--soft); }",
        ".chart .wave { fill: var(--rejected); }",
        ".chart .wave.inside { fill: var(--kept); }",
    ]
    return "\n".join([colours, *rules, *own])
