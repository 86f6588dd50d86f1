"""Words of data and errors on the page: as text in elements of our own, never as Streamlit's Markdown."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import streamlit as st

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.markup import Markup, tag
from seamlessalign.secrets import redact

_STYLE = Path(__file__).parent / "page.css"


def style() -> None:
    """Put the page's style sheet into it."""
    st.html(_STYLE)


def telling(part: Callable[[], None]) -> Callable[[], None]:
    """A part of the page that says what is wrong where it cannot be drawn."""

    @functools.wraps(part)
    def drawn() -> None:
        try:
            part()
        except SeamlessAlignError as error:
            tell(str(error), "error")

    return drawn


def tell(text: str, kind: Literal["note", "error"] = "note") -> None:
    """A line of text in a box."""
    st.html(tag("div", redact(text), class_=f"told {kind}", role="alert" if kind == "error" else "status"))


def quiet(text: str) -> None:
    """A line of smaller text."""
    st.html(tag("div", redact(text), class_="quiet"))


def heading(name: str, below: str) -> None:
    """The name of the run, and a line below it."""
    st.html(tag("div", name, tag("small", below), class_="run-name", role="heading", aria_level="1"))


def output(lines: list[str]) -> None:
    """What a program said."""
    pieces = [piece for line in lines for piece in (redact(line), Markup("\n"))]
    st.html(tag("pre", *pieces, class_="said"))
