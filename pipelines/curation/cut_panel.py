"""Where a direction is cut: numbers that follow the threshold, the picture of margins, and the slider."""

import math
from typing import Any

import streamlit as st

from seamlessalign.pipelines.curation.labelled_precision import advise, precision_above, random_labels
from seamlessalign.pipelines.curation.margin_chart import CLICKED, margin_chart, shown_range, trade_chart
from seamlessalign.pipelines.curation.margin_curve import Kept, MarginCurve
from seamlessalign.pipelines.curation.page_state import (
    PARTS,
    begin_rows,
    careful,
    direction_view,
    key_of,
    remember,
    rerun,
    served,
    set_otherwise,
    view,
)
from seamlessalign.pipelines.curation.told import quiet, tell, telling
from seamlessalign.pipelines.selection import MOST_MARGIN, Cut


@st.fragment(key="numbers")
@telling
def numbers() -> None:
    """What the cut keeps, and how much of it is right."""
    pairs, cut = direction_view(), view().cut
    kept = pairs.at(cut)
    whole = pairs.curve(cut.filters).total
    shown = st.columns([2, 2, 2, 3])
    shown[0].metric("Pairs chosen", f"{kept.pairs:,}", help=f"Of {whole:,} candidates that pass the filters.")
    shown[1].metric("Hours of speech", hours_text(kept), help="Spans that overlap in time count each.")
    estimated = "–" if kept.precision is None else f"{kept.precision:.1%}"
    shown[2].metric(
        "Estimated precision",
        estimated,
        help="Mean of the pairs' own estimates, which decoys are the measure of.",
    )
    with shown[3]:
        told, wants_more = _labelled_precision(cut)
    words, button = st.columns([5, 2], vertical_alignment="center")
    with words:
        quiet(told)
    if wants_more and not served().read_only:
        button.button(
            "Mark a random sample",
            key="sample",
            on_click=_sample,
            width="stretch",
            help="Goes through chosen pairs in a random order, which is what the precision is told from",
        )


@st.fragment(key="cut")
@telling
def cut_panel() -> None:
    """The pictures and the slider."""
    pairs, cut = direction_view(), view().cut
    curve = pairs.curve(cut.filters)
    own = served().remembered(("own threshold", view().direction), lambda: pairs.own_threshold)
    low, high = shown_range(pairs.curve())  # whatever the filters are, so that the slider stays as it is
    line = cut.min_margin if cut.min_margin is not None else own if cut.is_own else None
    kept = pairs.at(cut)
    if cut.min_precision is None:
        pictured, threshold = curve, cut.min_margin
    else:  # one filter more, of whose pairs all are chosen that have the margin
        pictured = pairs.curve(pairs.filters_and_threshold(cut)[0])
        threshold = -math.inf if cut.min_margin is None else cut.min_margin
    if pictured.total:
        _pictures(pictured, threshold, kept, line, low, high)
    else:
        tell("No pair passes the filters." if cut.filters or cut.min_precision is not None else "It has no pairs.")
    _slider(curve, cut, line, low, high, own)


def _pictures(
    curve: MarginCurve, threshold: float | None, kept: Kept, line: float | None, low: float, high: float
) -> None:
    left, right = st.columns([3, 2])
    with left:
        st.vega_lite_chart(
            spec=margin_chart(curve, threshold, line, low, high),
            key=key_of("margins"),
            on_select=_clicked,
            selection_mode=CLICKED,
            width="stretch",
            alt="Histogram of margins with the cut as a line",
        )
    with right:
        now = {"hours": kept.hours, "pairs": kept.pairs, "precision": kept.precision}
        worth = trade_chart(curve.curve(), now, kept.hours > 0 or curve.own.hours > 0)
        if worth is None:
            quiet("No pair that a cut could choose here has an estimated precision.")
        else:
            st.vega_lite_chart(spec=worth, width="stretch", alt="Estimated precision over what is kept")


def hours_text(kept: Kept) -> str:
    """Hours of speech: of both sides where both are."""
    sides = [hours for hours in (kept.src_hours, kept.tgt_hours) if hours]
    return " + ".join(f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}" for hours in sides) or "0"


def _slider(curve: MarginCurve, cut: Cut, line: float | None, low: float, high: float, own: float | None) -> None:
    slider, exact, back, wanted = st.columns([9, 5, 5, 5], vertical_alignment="bottom")
    step = 1 / curve.grid.per_unit
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))
    at = low if line is None else min(max(line, low), high)
    st.session_state[key_of("slider")] = round(at, digits)
    slider.slider(
        "Keep pairs with a margin of at least",
        round(low, digits),
        round(high, digits),
        key=key_of("slider"),
        step=step,
        format=f"%.{digits}f",
        on_change=_slid,
        args=(key_of("slider"),),
    )
    st.session_state[key_of("exact")] = line
    exact.number_input(
        "exactly",
        -MOST_MARGIN,
        MOST_MARGIN,
        value=None,
        key=key_of("exact"),
        step=step,
        format="%.4f",
        on_change=_typed,
        args=(key_of("exact"),),
    )
    back.button(
        "Run's own cut" if own is None else f"Run's own cut ({own:.4g})",
        on_click=_own,
        disabled=cut.is_own,
        help="The pairs that the run itself kept",
        width="stretch",
    )
    st.session_state["wanted"] = None
    wanted.number_input(
        "or estimated precision",
        0.0,
        1.0,
        value=None,
        key="wanted",
        step=0.05,
        placeholder="such as 0.9",
        format="%.2f",
        on_change=_want,
        help="Takes the lowest margin above which the pairs' mean estimate is this or more.",
    )
    if cut.min_precision is not None:
        quiet(f"This selection also keeps only pairs whose own estimated precision is {cut.min_precision:g} or more.")
    if told := st.session_state.pop("cut-told", None):
        quiet(told)
    remember()


def _labelled_precision(cut: Cut) -> tuple[str, bool]:
    """From labels of random samples, with its interval; of the run's own cut above its threshold.

    Returns from what, and whether more labels would help.
    """
    pairs = direction_view()
    filters, threshold = pairs.filters_and_threshold(cut)
    if cut.is_own and threshold is None:  # the run kept nothing
        threshold = MOST_MARGIN
    labels = random_labels(pairs, served().labelled(), filters)
    found = precision_above(labels, pairs.curve(filters), threshold)
    told = "–" if found.estimate is None else f"{found.estimate:.1%}"
    if found.estimate is not None:
        told += f" [{found.low:.0%}–{found.high:.0%}]"
    st.metric(
        "Precision by labels [95 %]",
        told,
        help="From pairs that were drawn at random and marked, right and wrong; unsure ones are left out. Pairs of "
        "which nothing is known widen the interval: they might all be wrong or all be right.",
    )
    wanted = advise(labels, pairs.curve(filters), threshold).labels if found.pairs else 0
    counts = f"{found.right} right, {found.wrong} wrong, {found.unsure} unsure"
    if labels.unused:
        counts += f"; {labels.unused} not from a draw"
    more = f" About {wanted:,} more would tell it within ±5 %." if wanted else ""
    return f"Labels of random samples here: {counts}.{more}", bool(wanted) and view().order != "random_above"


# What happens when they are used


def _set_margin(margin: float | None, *by_hand: str) -> None:
    shown = view()
    shown.set_cut(shown.cut.model_copy(update={"min_margin": margin, "min_precision": None}))
    set_otherwise(*({"slider", "exact"} - {*by_hand}))
    if "margins" not in by_hand and _bar_clicked() is not None:  # so that the same bar may be clicked again
        set_otherwise("margins")
    begin_rows()
    rerun(*PARTS)


@careful
def _slid(key: str) -> None:
    if key == key_of("slider"):  # else it was set otherwise meanwhile
        _set_margin(float(st.session_state[key]), "slider")


@careful
def _typed(key: str) -> None:
    if key == key_of("exact"):
        value = st.session_state[key]
        _set_margin(None if value is None else float(value), "exact")


@careful
def _own() -> None:
    _set_margin(None)


@careful
def _want() -> None:
    wanted = st.session_state.get("wanted")
    if wanted is None:
        return
    margin = direction_view().curve(view().cut.filters).lowest_threshold(float(wanted))
    if margin is None:
        st.session_state["cut-told"] = f"No cut has an estimated precision of {wanted:g}."
        rerun(*PARTS)
    _set_margin(margin)


@careful
def _sample() -> None:
    view().order, view().look = "random_above", "mark"
    begin_rows()
    rerun(*PARTS)


@careful
def _clicked() -> None:
    margin = _bar_clicked()
    if margin is not None:
        _set_margin(margin, "margins")


def _bar_clicked() -> float | None:
    """The margin at which the bar that was clicked last begins."""
    event: Any = st.session_state.get(key_of("margins")) or {"selection": {}}
    points = event["selection"].get(CLICKED) or []
    return float(points[0]["low"]) if points and "low" in points[0] else None
