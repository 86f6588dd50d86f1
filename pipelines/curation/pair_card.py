"""A pair to judge, as a part of the page: texts, players with waveforms, scores."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def draw(card: Mapping[str, Any], key: str, on_done: Callable[[], None] | None = None) -> None:
    """Put a card into the page, which `pairs_shown.card` makes.

    on_done: called when one of its buttons was pressed; `st.session_state[key].done` says which of which pair.
    """
    _component()(data=dict(card), key=key, on_done_change=on_done or _nothing)


@cache
def _component() -> Any:
    from streamlit.components.v2 import component

    return component(
        "seamlessalign_pair_card",
        html='<div class="pair-card"></div>',
        css=(_HERE / "pair_card.css").read_text(encoding="utf-8"),
        js=(_HERE / "pair_card.js").read_text(encoding="utf-8"),
        isolate_styles=False,  # so that it takes the page's fonts, and is part of what a browser searches
    )


def _nothing() -> None:
    """What is done where nobody wants to know."""
