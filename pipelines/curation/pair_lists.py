"""Many pairs at once: as cards, ten a page, and as a table of every column."""

from typing import Any

import streamlit as st

from seamlessalign.pipelines.curation import pair_card
from seamlessalign.pipelines.curation.labels import Said
from seamlessalign.pipelines.curation.marking import MARKS, add_label, of_how_many
from seamlessalign.pipelines.curation.page_state import careful, direction_view, rerun, served, state, view
from seamlessalign.pipelines.curation.pairs_shown import LABEL_TEXTS, ROWS, WINDOW, card, window
from seamlessalign.pipelines.curation.told import quiet, tell

CARDS = WINDOW  # a page
_FIRST = (
    "margin", "src_text", "tgt_text", "seconds", "precision_estimate", "cosine", "disagreement", "label", "drop_reason",
)  # fmt: skip
_LAST = ("_id", "_uri", "_start", "_end")


def card_list() -> None:
    """Pairs as cards."""
    run, shown = served(), view()
    first = shown.at // CARDS * CARDS
    rows = window(run, state(), first)
    page = rows.rows
    labelled = run.labelled()
    here = _from_to(first, len(page)) + of_how_many(rows)
    _turn("cards-above", first, CARDS, here, is_last=len(page) < CARDS)
    if not page:
        tell("No pair is here: choose others above, or go back." if first else "No pair is chosen so.")
    buttons = () if run.read_only else tuple((said, LABEL_TEXTS[said]) for said, _, _ in MARKS)
    for number, row in enumerate(page):
        said = labelled.get(f"{row['direction']} {row['pair_id']}")
        made = card(
            run,
            row,
            shown.cut,
            said.label if said else None,
            buttons=(*buttons, *((("undo", "take back"),) if said and said.label and not run.read_only else ())),
        )
        key = f"card-{number}"
        pair_card.draw(made, key, lambda key=key: _done(key))  # type: ignore[misc]
    if len(page) > 3:
        _turn("cards-below", first, CARDS, here, is_last=len(page) < CARDS)


def row_table() -> None:
    """Pairs as rows of a table; the one that is selected is heard below."""
    run, shown = served(), view()
    first = shown.at // ROWS * ROWS
    rows = window(run, state(), first, ROWS)
    _turn("rows", first, ROWS, _from_to(first, len(rows.rows)) + of_how_many(rows), is_last=rows.is_last)
    if not rows.rows:
        tell("No pair is here: choose others above, or go back." if first else "No pair is chosen so.")
        return
    labelled = run.labelled()
    listed = []
    for row in rows.rows:
        found = labelled.get(f"{row['direction']} {row['pair_id']}")
        listed.append({**row, "label": found.label if found else None})
    names = list(listed[0])
    ordered = [name for name in _FIRST if name in names]
    ordered += [name for name in names if name not in _FIRST and not name.endswith(_LAST)]
    ordered += [name for name in names if name not in ordered]
    hidden = {name for name in ("direction", "src_lang", "tgt_lang") if name in names}
    ordered = [name for name in ordered if name not in hidden and any(row[name] is not None for row in listed)]
    chosen: Any = st.dataframe(
        [{name: row[name] for name in ordered} for row in listed],
        hide_index=True,
        width="stretch",
        height=420,
        key=f"rows-{first}",
        on_select="rerun",
        selection_mode="single-row",
        column_config=_config(),
    )
    picked = chosen["selection"]["rows"]
    number = picked[0] if picked and picked[0] < len(listed) else 0
    row = listed[number]
    quiet(f"row {first + number + 1:,}: select another row to hear it")
    said = row["label"]
    buttons = () if run.read_only else tuple((one, LABEL_TEXTS[one]) for one, _, _ in MARKS)
    undo = (("undo", "take back"),) if said and not run.read_only else ()
    pair_card.draw(
        card(run, row, view().cut, said, keys=True, buttons=(*buttons, *undo)), "row-card", lambda: _done("row-card")
    )


def _config() -> dict[str, Any]:
    """Texts wide, numbers short, and what each column means."""
    config: dict[str, Any] = {}
    for column in direction_view().columns():
        help_text = column.meaning or None
        if column.kind == "number":
            config[column.name] = st.column_config.NumberColumn(help=help_text, format="%.6g")
        elif column.kind == "text":
            wide = column.name in ("src_text", "tgt_text")
            config[column.name] = st.column_config.TextColumn(help=help_text, width="large" if wide else "small")
        elif column.kind == "flag":
            config[column.name] = st.column_config.CheckboxColumn(help=help_text)
        else:
            config[column.name] = st.column_config.TextColumn(help=help_text)
    return config


def _from_to(first: int, number: int) -> str:
    return f"pairs {first + 1:,} to {first + number:,}" if number else "no pair"


def _turn(key: str, first: int, size: int, told: str, *, is_last: bool) -> None:
    """Buttons to other pages, around where this one is."""
    back, here, on = st.columns([1, 4, 1], vertical_alignment="center")
    back.button(
        "◀ Back", key=f"{key}-back", on_click=_turn_to, args=(first - size,), disabled=first == 0, width="stretch"
    )
    with here:
        quiet(told)
    on.button("Next ▶", key=f"{key}-next", on_click=_turn_to, args=(first + size,), disabled=is_last, width="stretch")


# What happens when they are used


@careful
def _turn_to(at: int) -> None:
    view().at = max(at, 0)
    rerun("body")


@careful
def _done(key: str) -> None:
    """A button of a card was pressed."""
    done = getattr(st.session_state.get(key), "done", None)
    known: dict[str, Said] = {"right": "right", "wrong": "wrong", "unsure": "unsure", "undo": "undo"}
    if not isinstance(done, dict) or done.get("what") not in known or served().read_only:
        return
    rows = window(served(), state(), view().at, ROWS if view().look == "table" else CARDS)
    for place, row in enumerate(rows.rows):
        if row["pair_id"] == done.get("pair"):
            if add_label(row, known[done["what"]], rows.drawn) and done["what"] != "undo":
                state().marked.append((row["direction"], row["pair_id"], rows.start + place))
            rerun("numbers", "body")
