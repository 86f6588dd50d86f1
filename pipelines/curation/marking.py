"""One pair to hear, read and mark, by keys."""

from typing import Any

import streamlit as st

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.curation import pair_card
from seamlessalign.pipelines.curation.address import DRAWS
from seamlessalign.pipelines.curation.labels import Drawn, Label, Said
from seamlessalign.pipelines.curation.page_state import careful, direction_view, rerun, served, state, view
from seamlessalign.pipelines.curation.pairs_shown import Window, card, next_unmarked, window
from seamlessalign.pipelines.curation.told import quiet, tell

MARKS: tuple[tuple[Said, str, str], ...] = (
    ("right", "Right", "Y"),
    ("wrong", "Wrong", "N"),
    ("unsure", "Unsure", "U"),
)


def marking() -> None:
    """The pair looked at, with what is to be said of it."""
    run, shown = served(), view()
    rows, row = _looked_at()
    if state().begins and shown.skip:
        shown.at = next_unmarked(run, state(), shown.at)
        rows, row = _looked_at()
    state().begins = False
    if row is None:
        tell("No pair is here: choose others above, or go back." if shown.at else "No pair is chosen so.")
    else:
        said = run.labelled().get(f"{row['direction']} {row['pair_id']}")
        made = card(
            run,
            row,
            shown.cut,
            said.label if said else None,
            keys=True,
            play_at_once=bool(st.session_state.get("play-at-once", False)),
        )
        pair_card.draw(made, key="looked-at")
    _buttons(None if row is None else row["pair_id"])
    place, listen, passing = st.columns([3, 2, 2], vertical_alignment="center")
    with place:
        quiet(f"{_place(rows)} · P plays both sides, S the source, T the target")
    listen.toggle("Play at once", key="play-at-once", help="Whenever another pair comes")
    st.session_state["skip"] = shown.skip
    passing.toggle("Pass over marked ones", key="skip", on_change=_set_skip)
    if row is not None:
        with st.expander("All columns of this pair"):
            meanings = {column.name: column.meaning for column in direction_view().columns()}
            listed = [
                {"column": name, "value": _text(value), "meaning": meanings.get(name, "")}
                for name, value in {**row, "label": said.label if said else None}.items()
            ]
            st.dataframe(listed, hide_index=True, width="stretch")


def _looked_at() -> tuple[Window, dict[str, Any] | None]:
    """The rows around the pair looked at, and it; where marked ones are passed over, the next that is not."""
    shown = view()
    rows = window(served(), state(), shown.at)
    place = shown.at - rows.start
    return rows, rows.rows[place] if place < len(rows.rows) else None


def _buttons(pair: str | None) -> None:
    read_only, there = served().read_only, pair is not None
    row = st.container(horizontal=True)  # which breaks into lines where the screen is narrow
    for said, text, key in MARKS:
        row.button(
            text,
            key=f"mark-{said}",
            shortcut=key,
            on_click=_mark,
            args=(said, pair),
            disabled=not there or read_only,
            width="stretch",
            type="primary" if said == "right" else "secondary",
        )
    row.button(
        "Undo", key="undo", shortcut="Z", on_click=_undo, disabled=read_only or not state().marked, width="stretch",
        help="Takes back what this page marked last",
    )  # fmt: skip
    row.button("◀", key="back", shortcut="K", on_click=_go, args=(-1,), disabled=view().at == 0, help="The pair before")
    row.button("▶", key="on", shortcut="J", on_click=_go, args=(1,), disabled=not there, help="The next pair")


def _place(rows: Window) -> str:
    return (f"pair {view().at + 1:,}" if rows.rows else "no pair") + of_how_many(rows)


def of_how_many(rows: Window) -> str:
    """How many pairs the order has that these rows are of, as far as that is known."""
    shown = view()
    if shown.order not in DRAWS and shown.marked == "any":
        curve = direction_view().curve(shown.cut.filters)
        chosen = direction_view().at(shown.cut).pairs
        return f" of { ({'chosen': chosen, 'all': curve.total}.get(shown.scope, curve.total - chosen)):,}"
    return f" of {rows.start + len(rows.rows):,}" if rows.is_last else ""


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


# What happens when they are used


def add_label(row: dict[str, Any], said: Said, drawn: Drawn) -> bool:
    """Keep what was said of a pair; where that fails, say why and return False."""
    shown = view()
    try:
        margin = float(row["margin"])
        threshold = shown.cut.min_margin if shown.cut.min_margin is not None else direction_view().own_threshold
        line = Label(row["pair_id"], row["direction"], said, margin, drawn, state().session, threshold)
        served().labels.append([line])
    except SeamlessAlignError as error:
        state().complaint = str(error)
        return False
    return True


@careful
def _mark(said: Said, pair: str) -> None:
    rows, row = _looked_at()
    if row is None or row["pair_id"] != pair or served().read_only:  # pressed twice, before the next pair was there
        return
    if add_label(row, said, rows.drawn):
        state().marked.append((row["direction"], row["pair_id"], view().at))
        _step(1)
    rerun("numbers", "body")


@careful
def _undo() -> None:
    """Take the last mark of this page back, and look at its pair again."""
    if not state().marked or served().read_only:
        return
    direction, pair, at = state().marked[-1]
    row = served().view(direction).pair(pair)
    if row is None or add_label(row, "undo", Drawn("looked up")):
        state().marked.pop()
    if direction == view().direction:
        view().at = at
    rerun("numbers", "body")


@careful
def _go(step: int) -> None:
    _step(step)
    rerun("body")


def _step(step: int) -> None:
    """Look at the next pair, where marked ones are passed over at the next that is not; or at the one before."""
    shown = view()
    shown.at = max(shown.at + step, 0)
    if step > 0 and shown.skip:
        shown.at = next_unmarked(served(), state(), shown.at)


@careful
def _set_skip() -> None:
    view().skip = bool(st.session_state.get("skip", True))
    rerun("body")
