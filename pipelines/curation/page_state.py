"""What one open page remembers: its view, which its address repeats, and what cannot be in an address."""

import functools
import getpass
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import streamlit as st

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.curation.address import View, from_parameters, to_parameters
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.served import Served, get_served

P = ParamSpec("P")
_STATE = "page_state"
PARTS = ("numbers", "cut", "body")  # the fragments of the page


@dataclass
class PageState:
    """The memory of an open page."""

    view: View
    left_out: list[str]  # parameters of the address that did not fit
    session: str  # who marks: a user's name and what tells this page from his others
    marked: list[tuple[str, str, int]] = field(default_factory=list)  # direction, pair and place of each mark, in order
    windows: dict[Any, Any] = field(default_factory=dict)  # rows fetched last
    fresh: dict[str, int] = field(default_factory=dict)  # how often a control was set otherwise than by hand
    filtered: list[str] = field(default_factory=list)  # columns whose filters are shown though they say nothing yet
    begins: bool = True  # whether the rows are newly chosen, so that the first that is not marked is looked at
    rerun_all: bool = False  # what was changed shows in all of the page
    complaint: str = ""  # of what was done last
    told: str = ""


def served() -> Served:
    """The run that is shown."""
    return get_served()


def state() -> PageState:
    """The memory of this page, begun from its address."""
    if _STATE not in st.session_state:
        view, left_out = _asked_for(st.query_params.to_dict())
        session = f"{_user()}-{secrets.token_hex(2)}"
        st.session_state[_STATE] = PageState(view, left_out, session, begins=view.at == 0)
    found: PageState = st.session_state[_STATE]
    return found


def view() -> View:
    """What this page shows."""
    return state().view


def direction_view() -> DirectionView:
    """The pairs of the direction that this page shows."""
    return served().view(view().direction)


def remember() -> None:
    """Have the address say what the page shows."""
    told = to_parameters(view())
    if {"direction": served().directions[0]} | st.query_params.to_dict() != told:
        st.query_params.from_dict(told)


def go_to(address: Mapping[str, str]) -> None:
    """Show what the parameters of another address ask for."""
    found = state()
    found.view, found.left_out = _asked_for(address)
    found.begins, found.filtered = found.view.at == 0, []
    set_otherwise("slider", "exact", "margins", "filter")


def _asked_for(address: Mapping[str, str]) -> tuple[View, list[str]]:
    run = served()
    named = {column.name for direction in run.directions for column in run.view(direction).columns()}
    return from_parameters(address, run.directions, named)


def key_of(control: str) -> str:
    """The key of a control that is also set otherwise than by hand."""
    return f"{control}-{state().fresh.get(control, 0)}"


def set_otherwise(*controls: str) -> None:
    """Take other controls in the place of these, since what they are set to is not by hand.

    A browser sends what its controls show with whatever is done next. Where that is before it has shown the new
    values, the old ones would be taken for what was just done by hand.
    """
    for control in controls:
        state().fresh[control] = state().fresh.get(control, 0) + 1


def begin_rows() -> None:
    """Look at the first of what was newly chosen."""
    view().at = 0
    state().begins = True


def redraw_all_if_asked() -> None:
    """In a fragment: draw the whole page anew where a callback wanted that (`PageState.rerun_all`)."""
    if state().rerun_all:
        state().rerun_all = False
        st.rerun()


def careful(callback: Callable[P, None]) -> Callable[P, None]:
    """A callback after which the page says what went wrong, if something did."""

    @functools.wraps(callback)
    def called(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            callback(*arguments, **named)
        except SeamlessAlignError as error:
            state().complaint = str(error)

    return called


def rerun(*parts: str) -> None:
    """From a callback: draw these fragments anew, and nothing else."""
    st.rerun(list(parts))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody has this number
        return "curator"
