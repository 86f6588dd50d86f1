"""The rows that a page looks at, fetched some at a time, and each as a card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seamlessalign.pipelines.curation.address import DRAWS, View
from seamlessalign.pipelines.curation.direction_view import Which
from seamlessalign.pipelines.curation.labels import Drawn, Labelled
from seamlessalign.pipelines.curation.page_state import PageState
from seamlessalign.pipelines.curation.served import Served
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.pipelines.selection import Cut, Filter

WINDOW = 10  # rows fetched at a time
ROWS = 30  # of a table
_PLACES = 300  # rows that are looked for at a time, a multiple of both
_MOST_AT_ONCE, _MOST_PASSED = 2_000, 50_000  # marked rows that are passed over
SIDES: tuple[tuple[Any, str, str], ...] = (("src", "source", "S"), ("tgt", "target", "T"))  # and the key that plays it
LABEL_TEXTS = {"right": "✓ right", "wrong": "✗ wrong", "unsure": "? unsure"}
_FACTS = (  # column, what it is called here, how it is written
    ("margin", "margin", ".4f"),
    ("cosine", "cosine", ".4f"),
    ("precision_estimate", "estimated precision", ".3f"),
    ("disagreement", "disagreement", ".3f"),
    ("chars_per_second", "chars/s", ".1f"),
    ("duration_ratio", "length ratio", ".2f"),
)


@dataclass(frozen=True)
class Window:
    """Some rows of an order, from `start`."""

    start: int
    rows: list[dict[str, Any]]
    drawn: Drawn
    size: int  # as many as were asked for

    @property
    def is_last(self) -> bool:
        """Whether no rows are behind them."""
        return len(self.rows) < self.size


def window(served: Served, state: PageState, at: int, size: int = WINDOW) -> Window:
    """The rows around a place in the order that a page looks at them in, `size` at a time."""
    view, start = state.view, at // size * size
    if not _asks_for_labels(view):
        return served.recently((order_key(view), start, size), lambda: _fetch_near(served, view, start, size))
    key = order_key(view), start, size
    if (found := state.windows.get(key)) is None:  # kept as long as the page looks at them so
        state.windows = {one: rows for one, rows in state.windows.items() if one[0] == key[0]}
        found = state.windows[key] = _fetch(served, view, start, size)
    return found


def next_unmarked(served: Served, state: PageState, at: int) -> int:
    """The first place from `at` on whose pair is not done with, or the one behind the last pair."""
    labelled, first = served.labelled(), window(served, state, at)
    rows, drawn, place, size = first.rows[at - first.start :], first.drawn, at, WINDOW
    while True:
        for number, row in enumerate(rows):
            if not has_draw(labelled, row, drawn):
                return place + number
        place += len(rows)
        if first.is_last or (size > WINDOW and len(rows) < size) or place - at > _MOST_PASSED:
            return place
        size = min(4 * size, _MOST_AT_ONCE)
        rows = _fetch(served, state.view, place, size).rows


def order_key(view: View) -> tuple[Any, ...]:
    """What an order of rows depends on."""
    cut = view.cut.model_dump_json()
    return view.direction, cut, view.scope, view.marked, view.order, view.descending, view.seed


def has_draw(labelled: Mapping[str, Labelled], row: Mapping[str, Any], drawn: Drawn) -> bool:
    """Whether a pair is done with: it has a label, and of a random draw one that was given in this draw."""
    said = labelled.get(f"{row['direction']} {row['pair_id']}")
    if said is None or said.label is None:
        return False
    return drawn in said.draws if drawn.how in DRAWS.values() else True


def is_chosen(row: Mapping[str, Any], cut: Cut) -> bool:
    """Whether a cut takes a row that passes its filters."""
    import numpy as np

    if cut.is_own:
        return bool(row["kept"])
    bounds = (("margin", cut.min_margin), ("precision_estimate", cut.min_precision))
    above = all(
        bound is None or (row[name] is not None and np.float32(row[name]) >= np.float32(bound))
        for name, bound in bounds
    )
    return above and (bool(row["kept"]) or row["drop_reason"] in ONLY_THE_CUT)


def card(
    served: Served,
    row: Mapping[str, Any],
    cut: Cut,
    label: str | None,
    *,
    keys: bool = False,
    play_at_once: bool = False,
    buttons: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:
    """A row as what `pair_card.js` draws. keys: whether the keyboard plays this one."""
    chosen = is_chosen(row, cut)
    numbers = [(name, style, value) for column, name, style in _FACTS if (value := row.get(column)) is not None]
    facts = [[name, format(value, style), ""] for name, style, value in numbers if value == value]  # or is no number
    facts.append(["ranks", f"{_rank(row['forward_rank'])} / {_rank(row['backward_rank'])}", _RANKS])
    reason = row["drop_reason"]
    state = "chosen" if chosen else "not chosen"
    facts += [["the run dropped it", reason, "why the run itself did not keep it"]] if reason else []
    sides = [_side(served, row, *side, keys=keys) for side in SIDES]
    return {
        "pair": row["pair_id"],
        "chosen": chosen,
        "state": state,
        "facts": facts,
        "label": label,
        "label_text": LABEL_TEXTS.get(label or "", ""),
        "sides": sides,
        "buttons": [list(button) for button in buttons],
        "keys": {"all": "P", "marks": "YNUZ"} if keys else {},
        "play_at_once": play_at_once,
    }


_RANKS = "places at which the target is among the source's neighbours, and the other way; – where it is not"


def _rank(rank: int) -> str:
    return "–" if rank < 0 else str(rank + 1)


def _side(served: Served, row: Mapping[str, Any], side: Any, title: str, key: str, *, keys: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"title": title, "lang": row[f"{side}_lang"], "text": row[f"{side}_text"]}
    if row[f"{side}_uri"] is not None:
        seconds = (row[f"{side}_end"] - row[f"{side}_start"]) / 16_000
        shown |= {"clip": served.clip(row, side), "seconds": seconds, "key": key if keys else None}
    return shown


def _asks_for_labels(view: View) -> bool:
    return view.marked != "any" or any(one.column == "label" for one in view.cut.filters) or view.order == "label"


def _fetch_near(served: Served, view: View, start: int, size: int) -> Window:
    """As `_fetch`; where rows lie is looked for once for many windows."""
    block = start // _PLACES * _PLACES
    places, drawn = served.recently((order_key(view), "places", block), lambda: _places(served, view, block, _PLACES))
    return _looked_up(served, view, places.slice(start - block, size), drawn, start, size)


def _fetch(served: Served, view: View, start: int, size: int) -> Window:
    return _looked_up(served, view, *_places(served, view, start, size), start, size)


def _looked_up(served: Served, view: View, places: pa.Table, drawn: Drawn, start: int, size: int) -> Window:
    return Window(start, served.view(view.direction).at_places(places).to_pylist(), drawn, size)


def _places(served: Served, view: View, start: int, size: int) -> tuple[pa.Table, Drawn]:
    pairs = served.view(view.direction)
    cut = view.cut
    if view.order in DRAWS:
        return pairs.draw_places(cut, DRAWS[view.order], view.seed, size, start)
    if view.marked != "any":
        wanted = ["right", "wrong", "unsure"] if view.marked == "marked" else [view.marked]
        cut = cut.model_copy(update={"filters": [*cut.filters, Filter(column="label", op="one_of", value=wanted)]})
    known = {column.name for column in pairs.columns()}
    order = view.order if view.order in known else "margin"  # another direction may not have it
    which: Which = "not chosen" if view.scope == "not_chosen" else view.scope
    return pairs.places(cut, which, order, view.descending, size, start), Drawn("in order")
