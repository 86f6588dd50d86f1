"""What a curator chose of a run: a cut for each direction, filters, and what to do about labels; as a file and as SQL.

A selection is kept in the run's folder, `selections/NAME.yaml`. It is taken up by the page to choose by, and by
`seamlessalign export DIR --selection NAME`.
"""

import re
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.typed_config import Section, checked, parse_written_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOST_MARGIN = 1e38  # that a bound can be: margins are 32-bit floats
_COLUMN = re.compile(r"[a-z][a-z0-9_]*")

Clause = tuple[str, list[Any]]  # SQL with a ? for each parameter, and these


class Filter(Section):
    """A condition on one column of `pairs`, or one derived from them. A row in which it is null does not meet it."""

    column: str  # of `pairs`, or one that is derived from them
    op: Literal["at_least", "at_most", "one_of", "none_of", "contains", "is_null", "is_not_null"]  # what must hold
    value: float | str | list[str] | bool | None = None  # a number; a text that is contained in any case; or values

    @model_validator(mode="after")
    def _fits(self) -> "Filter":
        if not _COLUMN.fullmatch(self.column):
            raise ValueError(f"{self.column!r} is no name of a column")
        numeric = isinstance(self.value, float | int) and not isinstance(self.value, bool)
        if self.op in ("at_least", "at_most") and not numeric:
            raise ValueError(f"{self.op} needs a number")
        if self.op in ("one_of", "none_of") and not isinstance(self.value, list):
            raise ValueError(f"{self.op} needs a list of values")
        if self.op == "contains" and not isinstance(self.value, str):
            raise ValueError("contains needs a text")
        return self

    def clause(self) -> Clause:
        """The condition in SQL."""
        name = f'"{self.column}"'
        if self.op in ("at_least", "at_most"):
            return f"{name} {'>=' if self.op == 'at_least' else '<='} ?", [self.value]
        if self.op in ("one_of", "none_of"):
            values = self.value if isinstance(self.value, list) else []
            listed = ", ".join("?" for _ in values)
            within = f"{name}::varchar in ({listed})" if values else "false"
            return (within if self.op == "one_of" else f"not ({within})"), list(values)
        if self.op == "contains":
            # half the time of lower() and contains()
            literally = re.sub(r"([\\%_])", r"\\\1", str(self.value))
            return f"{name}::varchar ilike ? escape '\\'", [f"%{literally}%"]
        return f"{name} is {'' if self.op == 'is_null' else 'not '}null", []


class Cut(Section):
    """Where one direction is cut. Without any bound, the run's own kept pairs."""

    min_margin: float | None = Field(None, ge=-MOST_MARGIN, le=MOST_MARGIN)  # of each pair
    min_precision: float | None = Field(None, ge=0, le=1)  # of each pair's estimate
    filters: list[Filter] = []  # all of which a pair must meet

    @property
    def is_own(self) -> bool:
        """Whether the run's own cut stays."""
        return self.min_margin is None and self.min_precision is None

    def clause(self) -> Clause:
        """The condition in SQL, over `pairs`.

        With a bound of its own, pairs that only the run's cut rejected are taken too; those rejected for another reason
        (a filter, an overlap in time) never are.
        """
        only_cut = ", ".join(f"'{reason}'" for reason in sorted(ONLY_THE_CUT))
        conditions = ["kept" if self.is_own else f"(kept or drop_reason in ({only_cut}))"]
        parameters: list[Any] = []
        if self.min_margin is not None:
            conditions.append("margin >= ?::float")  # as it is kept, so that a bound read off a pair takes that pair
            parameters.append(self.min_margin)
        if self.min_precision is not None:
            conditions.append("precision_estimate >= ?::float")
            parameters.append(self.min_precision)
        for one in self.filters:
            sql, values = one.clause()
            conditions.append(f"({sql})")
            parameters += values
        return " and ".join(conditions), parameters


class Selection(Section):
    """A choice of pairs over some or all directions of a run."""

    directions: dict[str, Cut]  # others are left out
    labels: Literal["ignore", "not_wrong", "only_right"] = "not_wrong"  # what is done about pairs with a label
    note: str = ""  # the curator's own words


def write_selection(root: str, name: str, selection: Selection) -> str:
    """Keep a selection in a run's folder under a name, in place of another of that name; returns where.

    Raises InputError for a name that cannot be a file's.
    """
    uri = _place(root, name)
    text = yaml.safe_dump(selection.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    storage.write_bytes_atomic(uri, text.encode())
    return uri


def read_selection(root: str, name: str) -> Selection:
    """The selection of a name. Raises InputError where there is none, ConfigError where it is damaged."""
    uri = _place(root, name)
    if not storage.exists(uri):
        there = ", ".join(list_selections(root)) or "none; `seamlessalign curate` makes them"
        raise InputError(f"{root}: has no selection {name!r}; there are: {there}")
    try:
        raw = parse_written_yaml(storage.read_bytes(uri))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{uri}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{uri}: is not a selection; remove it, or save it again")
    return checked(Selection, raw, uri)


def list_selections(root: str) -> list[str]:
    """Names of the selections that a run's folder has, sorted."""
    found = storage.list_files(RunFolder(root).selections, ".yaml")
    return sorted(uri.rsplit("/", 1)[-1].removesuffix(".yaml") for uri in found)


def _place(root: str, name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a selection: take letters, digits, and . _ - behind the first")
    return RunFolder(root).selection(name)
