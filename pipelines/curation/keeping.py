"""Saving the choice under a name, taking up one that was saved, and handing the pairs on."""

import io
from typing import Any

import streamlit as st

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.curation.address import Policy
from seamlessalign.pipelines.curation.cut_panel import hours_text
from seamlessalign.pipelines.curation.export_jobs import export_command
from seamlessalign.pipelines.curation.page_state import (
    begin_rows,
    careful,
    direction_view,
    rerun,
    served,
    set_otherwise,
    state,
    view,
)
from seamlessalign.pipelines.curation.told import output, quiet, tell
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.selection import Cut, Selection, list_selections, read_selection, write_selection

_POLICIES: dict[Policy, str] = {
    "not_wrong": "leave out pairs marked wrong",
    "only_right": "take only pairs marked right",
    "ignore": "as the cut says, whatever the labels say",
}
_MOST_ROWS = 1_000_000  # of a table that is downloaded


def keeping() -> None:
    """What is chosen in every direction, and what can be done with it."""
    run = served()
    st.markdown("##### What is chosen")
    chosen = _choice()
    st.session_state["policy"] = view().labels
    st.selectbox(
        "And of pairs with labels",
        list(_POLICIES),
        key="policy",
        format_func=_POLICIES.__getitem__,
        on_change=_set_policy,
    )
    if view().labels != "ignore" and run.labelled():
        quiet("The numbers above are those of the cuts, before labels leave pairs out.")
    save, take_up = st.columns(2)
    with save, st.container(border=True):
        st.markdown("##### Save")
        name = st.text_input("Name", key="save-name", max_chars=64, placeholder="letters, digits, . _ -")
        st.text_input("Note", key="save-note", max_chars=2000, placeholder="why, for whoever reads it later")
        names = list_selections(run.root)
        st.button(
            "Save again" if name in names else "Save",
            on_click=_save,
            args=(tuple(chosen),),
            disabled=run.read_only or not name or not chosen,
            type="primary",
            key="save",
        )
        if told := st.session_state.pop("save-told", ""):
            tell(told)
    with take_up, st.container(border=True):
        st.markdown("##### Saved ones")
        names = list_selections(run.root)
        if not names:
            quiet("There are none yet.")
            picked = None
        else:
            picked = st.selectbox("Selection", names, key="picked", index=None, placeholder="choose one")
            if picked:
                _saved(picked)
    if picked:
        _export(picked)
    _download()


def _choice() -> list[str]:
    """A table of the directions with what is chosen in each; returns those that are wanted."""
    run, shown = served(), view()
    wanted = st.multiselect("Directions", run.directions, default=run.directions, key="wanted-directions")
    rows = []
    for direction in wanted:
        cut = shown.cuts.get(direction) or Cut()
        kept = run.view(direction).at(cut)
        precision = None if kept.precision is None else f"{kept.precision:.1%}"
        rows.append(
            {
                "direction": direction,
                "cut": told_cut(cut),
                "pairs": kept.pairs,
                "hours of speech": hours_text(kept),
                "estimated precision": precision,
            }
        )
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch")
    else:
        tell("Choose at least one direction.")
    return wanted


def told_cut(cut: Cut) -> str:
    """A cut in words."""
    bounds = (("margin", cut.min_margin), ("estimated precision", cut.min_precision))
    told = [f"{name} ≥ {bound:.6g}" for name, bound in bounds if bound is not None] or ["the run's own cut"]
    number = len(cut.filters)
    return " and ".join([*told, *([f"{number} filter{'s' if number > 1 else ''}"] if number else [])])


def _saved(name: str) -> None:
    run = served()
    try:
        selection = read_selection(run.root, name)
    except SeamlessAlignError as error:
        tell(str(error), "error")
        return
    quiet(selection.note or "no note")
    quiet(f"{', '.join(sorted(selection.directions))}; {_POLICIES[selection.labels]}")
    st.button("Take it up", on_click=_take_up, args=(selection,), help="Cut and filter as it says, to change it")


def _export(name: str) -> None:
    """The command that exports a saved selection, and a button that does."""
    run = served()
    with st.container(border=True):
        st.markdown("##### Export")
        chosen = st.selectbox("Format", list(FORMATS), key="format")
        quiet("At a shell, with any folder:")
        target = run.exports.free_target(name, chosen)
        st.code(export_command(run.root, name, chosen, target), language=None, wrap_lines=True)
        job = run.exports.last
        running = job is not None and job.status is None
        start, stop = st.columns([3, 1])
        start.button(
            "Export here",
            key="export",
            on_click=_start_export,
            args=(name, chosen),
            disabled=run.read_only or running,
            help="Into the run's folder exports/",
            type="primary",
        )
        stop.button("Stop", key="stop-export", on_click=run.exports.stop, disabled=not running)
    _progress()


def _progress() -> None:
    job = served().exports.last
    if job is None:
        return
    _watch(job) if job.status is None else _ended(job)


@st.fragment(run_every=0.5)
def _watch(job: Any) -> None:
    """What an export says, while it runs."""
    if job.status is not None:
        st.rerun()
    quiet(f"Exporting to {job.target} …")
    output(list(job.lines)[-12:])


def _ended(job: Any) -> None:
    if job.status == 0:
        tell(f"Exported to {job.target}")
    else:
        tell(f"The export ended with status {job.status}.", "error")
    output(list(job.lines)[-20:])


def _download() -> None:
    """The chosen rows of this direction as a file."""
    shown = view()
    kept = direction_view().at(shown.cut).pairs
    with st.container(border=True):
        st.markdown("##### The table of the pairs chosen here")
        if kept > _MOST_ROWS:
            quiet(f"{kept:,} rows are too many for a browser: export the selection, or ask for them in Python.")
            return
        quiet(f"{kept:,} rows of {shown.direction} with every column, without audio; labels change nothing here.")
        places = st.columns([1, 1, 4])
        for place, kind in zip(places, ("parquet", "tsv"), strict=False):
            place.download_button(
                kind.upper() if kind == "tsv" else "Parquet",
                _file(kind),
                f"{shown.direction}.{kind}",
                "application/octet-stream",
                key=f"download-{kind}",
                on_click="ignore",
                disabled=not kept,
            )


def _file(kind: str) -> Any:
    """What makes the file once it is asked for."""
    pairs, cut = direction_view(), view().cut.model_copy(deep=True)

    def made() -> bytes:
        import pyarrow.csv
        import pyarrow.parquet as pq

        table = pairs.rows(cut, limit=_MOST_ROWS)
        written = io.BytesIO()
        if kind == "parquet":
            pq.write_table(table, written, compression="zstd")
        else:
            options = pyarrow.csv.WriteOptions(delimiter="\t")
            pyarrow.csv.write_csv(table, written, options)
        return written.getvalue()

    return made


# What happens when they are used


@careful
def _set_policy() -> None:
    view().labels = st.session_state.get("policy", view().labels)
    rerun("body")


@careful
def _save(directions: tuple[str, ...]) -> None:
    run, name = served(), st.session_state.get("save-name", "")
    if run.read_only:
        return
    try:
        selection = view().selection(directions, st.session_state.get("save-note", ""))
        where = write_selection(run.root, name, selection)
    except (SeamlessAlignError, ValueError) as error:
        state().complaint = str(error)
    else:
        st.session_state["save-told"] = f"Saved: {where}"
        st.session_state["picked"] = name
    rerun("body")


@careful
def _take_up(selection: Selection) -> None:
    shown, run = view(), served()
    shown.labels = selection.labels
    for direction, cut in selection.directions.items():
        if direction in run.directions:
            here, shown.direction = shown.direction, direction
            shown.set_cut(cut)
            shown.direction = here
    st.session_state["wanted-directions"] = [name for name in run.directions if name in selection.directions]
    begin_rows()
    set_otherwise("slider", "exact", "filter")
    state().filtered = []
    state().rerun_all = True


@careful
def _start_export(name: str, format_name: str) -> None:
    try:
        if name in list_selections(served().root) and format_name in FORMATS and not served().read_only:
            served().exports.start(name, format_name)
    except SeamlessAlignError as error:
        state().complaint = str(error)
    rerun("body")
