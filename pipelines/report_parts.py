"""How the sections of a report write lengths of time, reasons, figures and options."""

import re

from seamlessalign.markup import Markup, tag
from seamlessalign.rows import SAMPLE_RATE


def hours(samples: int) -> str:
    """Samples at 16 kHz as a length of time for reading: 1,234.5 h, 12.34 h, 18.9 min, 4.2 s."""
    seconds = samples / SAMPLE_RATE
    if seconds == 0:
        return "0 h"
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h" if seconds >= 360_000 else f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def with_options(text: str) -> list[str | Markup]:
    """A text in which options, such as --to, are set as code."""
    pieces = re.split(r"(--[a-z][a-z-]*)", text)
    return [tag("code", piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def tidy(reason: str) -> str:
    """A reason as words."""
    return reason.replace("_", " ")


def figure(value: object, form: str) -> str:
    """A number in its form; what is no number as it stands, and a dash for nothing."""
    if value is None:
        return "–"
    return form.format(value) if isinstance(value, int | float) else str(value)
