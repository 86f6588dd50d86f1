"""Filters on every column: a range of numbers, values of a category, a word of a text."""

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.page_state import (
    begin_rows,
    careful,
    direction_view,
    key_of,
    served,
    set_otherwise,
    state,
    view,
)
from seamlessalign.pipelines.curation.told import quiet
from seamlessalign.pipelines.pair_columns import Kind, PairColumn
from seamlessalign.pipelines.selection import Filter

NONE = "(none)"  # stands for null among values
_HIDDEN = (
    "direction",
    "pair_id",
    "src_lang",
    "tgt_lang",
    "src_start",
    "src_end",
    "tgt_start",
    "tgt_end",
)  # behind others
_MOST_VALUES = 200
_SHOWN: dict[Kind, tuple[str, ...]] = {  # conditions that a control shows
    "number": ("at_least", "at_most"),
    "text": ("contains",),
    "category": ("one_of", "is_null"),
    "flag": ("one_of", "is_null"),
}


def filter_panel() -> None:
    """Controls of the filters that there are, and one to add another."""
    pairs = direction_view()
    columns = {column.name: column for column in pairs.columns()}
    filters = view().cut.filters
    shown = list(dict.fromkeys([*(one.column for one in filters), *state().filtered]))
    for name in shown:
        if name in columns:
            _control(pairs, columns[name], [one for one in filters if one.column == name])
    rest = [name for name in columns if name not in shown]
    rest.sort(key=lambda name: name in _HIDDEN)
    st.session_state["add-filter"] = None
    st.selectbox("Add a filter", rest, key="add-filter", on_change=_add, placeholder="a column", index=None)
    if filters and len(served().directions) > 1:
        st.button("Use these filters for all directions", on_click=_everywhere, width="stretch")


def _control(pairs: DirectionView, column: PairColumn, filters: Sequence[Filter]) -> None:
    name, key = column.name, _key(column.name)
    with st.container(border=True):
        title, close = st.columns([5, 1], vertical_alignment="center")
        with title:
            quiet(f"{name} · {column.meaning}" if column.meaning else name)
        close.button(
            "✕", key=f"{key}-remove", help="Remove this filter", on_click=_remove, args=(name,), type="tertiary"
        )
        given: dict[str, Any] = {one.op: one.value for one in filters}
        if column.kind == "number":
            _range(pairs, column, key, given)
        elif column.kind == "text":
            st.session_state[key] = given.get("contains", "")
            st.text_input("contains", key=key, on_change=_set_text, args=(name, key), placeholder="a word, in any case")
        else:
            _values(pairs, column, key, given)
        shown = _SHOWN[column.kind]
        for one in filters:  # those that a selection has and no control shows
            if one.op not in shown or given[one.op] != one.value:
                quiet(f"and {_told(one)}: stays until this filter is changed or removed")


def _told(one: Filter) -> str:
    value = ", ".join(map(str, one.value)) if isinstance(one.value, list) else "" if one.value is None else one.value
    return f"{one.op.replace('_', ' ')} {value}".strip()


def _key(name: str) -> str:
    return f"{key_of('filter')}-{view().direction}-{name}"


def _range(pairs: DirectionView, column: PairColumn, key: str, given: dict[str, Any]) -> None:
    known = served().remembered(("range", view().direction, column.name), lambda: pairs.range(column.name))
    low, high = st.columns(2)
    for place, op, label, end in ((low, "at_least", "at least", known.low), (high, "at_most", "at most", known.high)):
        own = f"{key}-{op}"
        st.session_state[own] = None if given.get(op) is None else float(given[op])
        place.number_input(
            label,
            value=None,
            key=own,
            step=_step(known.low, known.high),
            format="%.6g",
            placeholder="" if end is None else f"{end:.4g}",
            on_change=_set_range,
            args=(column.name, key),
        )


def _values(pairs: DirectionView, column: PairColumn, key: str, given: dict[str, Any]) -> None:
    remembered = ("values", view().direction, column.name)
    if column.name == "label":  # which changes
        found = pairs.values(column.name, limit=_MOST_VALUES).to_pylist()
    else:
        found = served().remembered(remembered, lambda: pairs.values(column.name, limit=_MOST_VALUES).to_pylist())
    counts = {NONE if row["value"] is None else row["value"]: row["pairs"] for row in found}
    chosen = [NONE] if "is_null" in given else [str(value) for value in given.get("one_of") or []]
    for value in chosen:
        counts.setdefault(value, 0)
    st.session_state[key] = chosen
    st.multiselect(
        "one of",
        list(counts),
        key=key,
        format_func=lambda value: f"{value} ({counts.get(value, 0):,})",
        on_change=_set_values,
        args=(column.name, key),
        placeholder="any",
    )


def _step(low: float | None, high: float | None) -> float:
    width = (high - low) if low is not None and high is not None else 0.0
    return 10.0 ** round(math.log10(width / 50)) if width > 0 else 0.1


# What happens when they are used


@careful
def _add() -> None:
    name = st.session_state.get("add-filter")
    if name and name not in state().filtered:
        state().filtered.append(name)


@careful
def _remove(name: str) -> None:
    state().filtered = [one for one in state().filtered if one != name]
    set_otherwise("filter")
    _replace(name, [])


@careful
def _set_text(name: str, key: str) -> None:
    if key != _key(name):  # of another direction, or taken away meanwhile
        return
    text = st.session_state.get(key)
    _replace(name, [Filter(column=name, op="contains", value=text)] if text else [])


@careful
def _set_range(name: str, key: str) -> None:
    if key != _key(name):
        return
    given = {op: st.session_state.get(f"{key}-{op}") for op in ("at_least", "at_most")}
    _replace(name, [Filter(column=name, op=op, value=value) for op, value in given.items() if value is not None])  # type: ignore[arg-type]


@careful
def _set_values(name: str, key: str) -> None:
    if key != _key(name):
        return
    values = st.session_state.get(key) or []
    if NONE in values:  # a condition on values is not met where there is none, so this one stands by itself
        _replace(name, [Filter(column=name, op="is_null")])
    else:
        _replace(name, [Filter(column=name, op="one_of", value=list(values))] if values else [])


def _replace(name: str, filters: list[Filter]) -> None:
    """Put these in the place of a column's filters."""
    shown = view()
    if filters and name not in state().filtered:
        state().filtered.append(name)
    others = [one for one in shown.cut.filters if one.column != name]
    shown.set_cut(shown.cut.model_copy(update={"filters": [*others, *filters]}))
    begin_rows()


@careful
def _everywhere() -> None:
    shown, run = view(), served()
    here, filters = shown.direction, shown.cut.filters
    for direction in run.directions:
        known = {column.name for column in run.view(direction).columns()}
        shown.direction = direction
        kept = [one for one in filters if one.column in known]
        shown.set_cut(shown.cut.model_copy(update={"filters": kept}))
    shown.direction = here
