"""The browser's buttons back and forward, which show again what the page showed."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import streamlit as st

from seamlessalign.pipelines.curation.page_state import careful, go_to

_KEY = "browser-history"


def follow() -> None:
    """Have the page follow them."""
    _component()(key=_KEY, on_went_change=_went)


@cache
def _component() -> Any:
    from streamlit.components.v2 import component

    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return component("seamlessalign_browser_history", js=script, isolate_styles=False)


@careful
def _went() -> None:
    search = getattr(st.session_state.get(_KEY), "went", None)
    if isinstance(search, str):
        go_to(dict(parse_qsl(search.removeprefix("?"), keep_blank_values=True)))
