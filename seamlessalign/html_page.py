"""One HTML file that needs nothing beside it: styles and pictures lie in it, and it may ask for nothing.

What strangers wrote can do no harm in such a page: the only script that runs is the one whose hash the page names.
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from string import Template

from seamlessalign.markup import Markup, escape, join, tag

Row = tuple[tuple[str, ...], str | None]  # cells, and the kind of the row


def html_page(title: str, body: str, *, styles: Sequence[str] = (), script: str = "") -> bytes:
    """A whole page in UTF-8.

    styles: sheets that come after the one all pages have. script: of ours, what runs once the page is read.
    """
    here = files("seamlessalign")
    policy = "default-src 'none'; style-src 'unsafe-inline'; media-src data:; img-src data:"
    written = ""
    if script:
        content = f"\n{script.strip()}\n"
        policy += f"; script-src 'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
        written = f"<script>{content}</script>\n"
    page = Template(here.joinpath("html_page.html").read_text("utf-8")).substitute(
        title=escape(title),
        policy=policy,
        style="\n".join([here.joinpath("html_page.css").read_text("utf-8"), *styles]),
        body=body,
        script=written,
    )
    return page.encode("utf-8")


def row_of(*cells: str, kind: str | None = None) -> Row:
    """One row of a table, of a kind that the style sheet knows."""
    return cells, kind


def table_of(
    head: Sequence[str],
    rows: Sequence[Row],
    *,
    numeric: Sequence[int] = (),
    long: Sequence[int] = (),
) -> Markup:
    """A table that scrolls by itself where the screen is narrow; the columns of numbers stand right."""
    classes = ["number" if index in numeric else "long" if index in long else None for index in range(len(head))]
    body = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(cells, classes, strict=True)), class_=row_kind)
        for cells, row_kind in rows
    ]
    headings = tag("tr", *(tag("th", text, class_=kind, scope="col") for text, kind in zip(head, classes, strict=True)))
    # A box that scrolls must be reachable by keyboard.
    table = tag("table", tag("thead", headings), tag("tbody", join(*body)))
    return tag("div", table, class_="scroll", tabindex=0)
