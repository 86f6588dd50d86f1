"""What the page shows, as the parameters of its address, so that a reload and a bookmark show it again.

Whatever an address says is checked, and what does not fit is left out and told: an address may come from anyone.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pydantic import ValidationError

from seamlessalign.pipelines.curation.labels import How
from seamlessalign.pipelines.selection import Cut, Selection

Looks = Literal["mark", "list", "table", "keep"]
Scope = Literal["chosen", "not_chosen", "all"]
Marked = Literal["any", "marked", "right", "wrong", "unsure"]
Policy = Literal["ignore", "not_wrong", "only_right"]

DRAWS: dict[str, How] = {  # orders beside those by a column
    "random_near": "random at the threshold",
    "random_above": "random above the threshold",
    "random": "random",
}
_LONGEST = 8_192  # characters of one parameter
_MOST_FILTERS = 64  # of one direction
_LAST_PAGE = 10**9
_CUT = "cut."


@dataclass
class View:
    """All that the page remembers but does not write to disk."""

    direction: str
    cuts: dict[str, Cut] = field(default_factory=dict)  # of directions that are cut in another way than the run's
    labels: Policy = "not_wrong"
    look: Looks = "mark"
    scope: Scope = "chosen"
    marked: Marked = "any"
    order: str = "margin"  # a column, or one of DRAWS
    descending: bool = True
    seed: int = 0  # of a draw
    skip: bool = True  # whether going on passes over what is marked already
    at: int = 0  # the row looked at, from 0, in this order

    @property
    def cut(self) -> Cut:
        """That of the direction shown."""
        return self.cuts.get(self.direction) or Cut()

    def set_cut(self, cut: Cut) -> None:
        """Cut the direction shown in another way."""
        if cut == Cut():
            self.cuts.pop(self.direction, None)
        else:
            self.cuts[self.direction] = cut

    def selection(self, directions: Sequence[str], note: str = "") -> Selection:
        """The choice of these directions, to be kept."""
        return Selection(
            directions={name: self.cuts.get(name) or Cut() for name in directions}, labels=self.labels, note=note
        )


def to_parameters(view: View) -> dict[str, str]:
    """A view as parameters; what is as it is at first is left out."""
    first = View(view.direction)
    told = {"direction": view.direction}
    for name in ("labels", "look", "scope", "marked", "order", "seed", "at"):
        if getattr(view, name) != getattr(first, name):
            told[name] = str(getattr(view, name))
    told |= {name: "no" for name in ("descending", "skip") if not getattr(view, name)}
    for direction, cut in sorted(view.cuts.items()):
        told[f"{_CUT}{direction}"] = json.dumps(cut.model_dump(exclude_defaults=True), separators=(",", ":"))
    return told


def from_parameters(
    given: Mapping[str, str], directions: Sequence[str], columns: Collection[str]
) -> tuple[View, list[str]]:
    """The view that an address asks for, and the names of parameters that were left out because they do not fit.

    directions: of the run, not empty. columns: that rows may be ordered and filtered by.
    """
    wrong: list[str] = []
    short = {name: value for name, value in given.items() if len(name) <= 256 and len(value) <= _LONGEST}
    wrong += [name for name in given if name not in short]

    def one_of(name: str, allowed: Collection[str], otherwise: str) -> str:
        value = short.get(name, otherwise)
        if value not in allowed:
            wrong.append(name)
            return otherwise
        return value

    def whole(name: str, most: int) -> int:
        value = short.get(name, "0")
        if not (value.isascii() and value.isdecimal() and int(value[:20]) <= most):
            wrong.append(name)
            return 0
        return int(value)

    view = View(one_of("direction", directions, directions[0]))
    view.labels = one_of("labels", get_args(Policy), view.labels)  # type: ignore[assignment]
    view.look = one_of("look", get_args(Looks), view.look)  # type: ignore[assignment]
    view.scope = one_of("scope", get_args(Scope), view.scope)  # type: ignore[assignment]
    view.marked = one_of("marked", get_args(Marked), view.marked)  # type: ignore[assignment]
    view.order = one_of("order", {*columns, *DRAWS}, view.order)
    view.descending = one_of("descending", ("yes", "no"), "yes") == "yes"
    view.skip = one_of("skip", ("yes", "no"), "yes") == "yes"
    view.seed, view.at = whole("seed", 2**31 - 1), whole("at", _LAST_PAGE)
    for name, value in short.items():
        if name.startswith(_CUT):
            cut = _cut(value, columns)
            if cut is None or name.removeprefix(_CUT) not in directions:
                wrong.append(name)
            else:
                view.cuts[name.removeprefix(_CUT)] = cut
    return view, wrong


def _cut(text: str, columns: Collection[str]) -> Cut | None:
    try:
        cut = Cut.model_validate(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return None
    numbers = [cut.min_margin, cut.min_precision, *(one.value for one in cut.filters)]
    finite = all(math.isfinite(number) for number in numbers if isinstance(number, float | int))
    known = all(one.column in columns for one in cut.filters)
    return cut if finite and known and len(cut.filters) <= _MOST_FILTERS else None
