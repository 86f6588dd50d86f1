"""HTML from strings of strangers."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.markup import escape, tag
from tests.ground.page import Page


@given(st.text())
def test_escaped_text_is_read_back_as_it_was(text: str) -> None:
    page = Page(tag("p", text, title=text))
    assert page.elements == Counter({"p": 1})
    plain = "".join(c for c in text if c.isprintable() or c == " ")
    assert all(c in page.text for c in plain)
    assert not any(ord(c) < 32 for c in escape(text))
