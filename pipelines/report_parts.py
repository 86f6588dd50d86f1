"""Small pieces that the sections of a report are made of: lengths of time, figures, tables."""

from collections.abc import Sequence

from seamlessalign.pipelines.markup import Markup, join, tag
from seamlessalign.rows import SAMPLE_RATE

Row = tuple[tuple[str, ...], str | None]  # cells, and the kind of the row


def hours(samples: int) -> str:
    """Samples at 16 kHz as a length of time for reading: 1,234.5 h, 12.34 h, 18.9 min, 4.2 s."""
    seconds = samples / SAMPLE_RATE
    if seconds == 0:
        return "0 h"
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h" if seconds >= 360_000 else f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def tidy(reason: str) -> str:
    """A reason as words."""
    return reason.replace("_", " ")


def figure(value: object, form: str) -> str:
    """A number in its form; what is no number as it stands, and a dash for nothing."""
    if value is None:
        return "–"
    return form.format(value) if isinstance(value, int | float) else str(value)


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
