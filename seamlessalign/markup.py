"""HTML and SVG built so that a string is escaped unless it is already `Markup`.

What a report shows (uris, texts, reasons) was written by strangers; escaping is therefore the default, not a habit.
"""

import html


class Markup(str):
    """A piece of HTML or SVG that may go into a page as it is."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """HTML of a plain string: quotes and angle brackets escaped, control characters made visible (newline → ␊).

    A lone surrogate, which JSON can carry and UTF-8 cannot, becomes a question mark.
    """
    if isinstance(text, Markup):
        return text
    visible = text.translate(_CONTROL_PICTURES).encode("utf-8", "replace").decode("utf-8")
    return Markup(html.escape(visible, quote=True))


def tag(name: str, *children: str, **attributes: str | int | float | None) -> Markup:
    """One element: `tag("td", text, class_="number")`; children that are not `Markup` are escaped.

    In the names of attributes a trailing underscore is dropped and others become hyphens; an attribute that is None
    is left out.
    """
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return Markup(f"<{name}{''.join(written)}>{join(*children)}</{name}>")


def join(*pieces: str) -> Markup:
    """Pieces one after the other; those that are not `Markup` are escaped."""
    return Markup("".join(escape(piece) for piece in pieces))


def _plain(value: str | int | float) -> str:
    # Coordinates to a hundredth of a unit: finer is not seen and makes the page heavy.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


# C0 controls and DEL as their pictures; C1 controls as the replacement character.
_CONTROL_PICTURES = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}
