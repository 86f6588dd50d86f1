"""The curation page: what it shows from top to bottom."""

import streamlit as st

from seamlessalign.pipelines.curation import browser_history
from seamlessalign.pipelines.curation.address import DRAWS
from seamlessalign.pipelines.curation.cut_panel import cut_panel, numbers
from seamlessalign.pipelines.curation.filter_panel import filter_panel
from seamlessalign.pipelines.curation.keeping import keeping
from seamlessalign.pipelines.curation.marking import marking
from seamlessalign.pipelines.curation.page_state import (
    begin_rows,
    careful,
    direction_view,
    redraw_all_if_asked,
    remember,
    rerun,
    served,
    set_otherwise,
    state,
    view,
)
from seamlessalign.pipelines.curation.pair_lists import card_list, row_table
from seamlessalign.pipelines.curation.told import heading, quiet, style, tell, telling

_LOOKS = {"mark": "Mark", "list": "List", "table": "Table", "keep": "Save and export"}
_SCOPES = {"chosen": "chosen", "not_chosen": "not chosen", "all": "all candidates"}
_MARKED = {"any": "marked or not", "marked": "marked", "right": "right", "wrong": "wrong", "unsure": "unsure"}
_DRAW_TEXTS = {
    "random_near": "a random sample at the threshold",
    "random_above": "a random sample of the chosen",
    "random": "a random sample of all",
}
_ORDERS = ("margin", "cosine", "disagreement", "precision_estimate")  # that come first


def show() -> None:
    """Draw the page."""
    st.set_page_config(page_title=f"{served().name}: curate", layout="wide", initial_sidebar_state="auto")
    style()
    telling(_page)()


def _page() -> None:
    run = served()
    state().rerun_all = False
    with st.sidebar:
        _sidebar()
        browser_history.follow()
    if state().left_out:
        tell(f"The address asked for something that is not here, which was left out: {', '.join(state().left_out)}")
    if run.unfinished:
        tell(f"This run is not finished: it is {run.unfinished}. Here is what it had when the page was started.")
    numbers()
    cut_panel()
    body()
    remember()
    if run.read_only:
        quiet("Read only: nothing is kept.")


def _sidebar() -> None:
    run, shown = served(), view()
    heading(run.name, run.root)
    st.session_state["direction"] = shown.direction
    st.selectbox("Direction", run.directions, key="direction", on_change=_set_direction)
    filter_panel()


@st.fragment(key="body")
@telling
def body() -> None:
    """The pairs."""
    redraw_all_if_asked()
    shown = view()
    st.session_state["look"] = shown.look
    st.segmented_control(
        "Look", list(_LOOKS), key="look", format_func=_LOOKS.__getitem__, on_change=_set, args=("look",),
        label_visibility="collapsed", required=True,
    )  # fmt: skip
    if complaint := state().complaint:
        tell(complaint, "error")
        state().complaint = ""
    remember()
    if shown.look == "keep":
        keeping()
    else:
        _which()
        {"mark": marking, "list": card_list, "table": row_table}[shown.look]()
    remember()  # where marked pairs were passed over


def _which() -> None:
    """Which pairs, and in which order."""
    shown = view()
    names = [column.name for column in direction_view().columns()]
    orders = [*_ORDERS, *DRAWS, *(name for name in names if name not in _ORDERS)]
    is_drawn = shown.order in DRAWS
    places = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
    st.session_state["order"] = shown.order if shown.order in orders else "margin"
    places[0].selectbox(
        "In the order of", orders, key="order", format_func=lambda name: _DRAW_TEXTS.get(name, name), on_change=_set,
        args=("order",),
    )  # fmt: skip
    if is_drawn:
        places[1].button("Draw anew", on_click=_draw, help="Another sample", width="stretch")
        with places[2]:
            quiet("Labels of random samples tell the precision.")
        return
    st.session_state["descending"] = shown.descending
    places[1].selectbox(
        "from", [True, False], key="descending", format_func=lambda down: "high to low" if down else "low to high",
        on_change=_set, args=("descending",),
    )  # fmt: skip
    st.session_state["scope"] = shown.scope
    places[2].selectbox(
        "of pairs that are", list(_SCOPES), key="scope", format_func=_SCOPES.__getitem__, on_change=_set,
        args=("scope",),
    )  # fmt: skip
    st.session_state["marked"] = shown.marked
    places[3].selectbox(
        "and are", list(_MARKED), key="marked", format_func=_MARKED.__getitem__, on_change=_set, args=("marked",),
    )  # fmt: skip


# What happens when they are used


@careful
def _set(name: str) -> None:
    value = st.session_state.get(name)
    if value is not None:
        setattr(view(), name, value)
        if name != "look":
            begin_rows()
    rerun("body")


@careful
def _set_direction() -> None:
    view().direction = st.session_state.get("direction", view().direction)
    begin_rows()
    set_otherwise("slider", "exact")
    state().filtered = []


@careful
def _draw() -> None:
    view().seed += 1
    begin_rows()
    rerun("body")
