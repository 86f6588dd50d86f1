"""What a measure tells besides its score, in forms that the page of an evaluation draws.

`Measured.details` is plain JSON. Its keys `curves`, `bins` and `tables` are lists of what the classes here hold, as
`details` writes them: curves and bins become pictures, tables become tables. Any other key whose value is a number, a
text, or a dictionary of such, as `{"failed": {"asr_failed": 2}}`, is shown: numbers as counts, texts among the settings
of the measure. What else there is stays in `evaluation.json` and is not shown.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[Any]
Cell = str | int | float | None


@dataclass(frozen=True)
class Curve:
    """One quantity over another, such as F1 over a threshold, or a score over the signal-to-noise ratio.

    Curves of the same title and labels are drawn in one picture, those of all systems together.
    """

    name: str  # which curve of a system it is, "precision", "recall"; empty where a system has one
    x_label: str
    y_label: str
    x: Numbers
    y: Numbers  # as many; nan where there is no value
    low: Numbers | None = None  # an interval of y
    high: Numbers | None = None
    chosen: float | None = None  # the x that was chosen, which is marked
    title: str = ""  # of the picture; by default "y_label over x_label"


@dataclass(frozen=True)
class Bin:
    """Rows whose estimated probability lies in `[low, high)`, how many of them are right: a point of reliability."""

    low: float
    high: float
    count: int
    estimate: float  # the mean of what was estimated, from 0 to 1
    right: float  # the share that is right, from 0 to 1


@dataclass(frozen=True)
class Table:
    """Numbers by something. Tables of one title and the same columns are shown as one, with all systems in it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]  # each as long as columns


def details(
    curves: Sequence[Curve] = (), bins: Sequence[Bin] = (), tables: Sequence[Table] = (), **others: Any
) -> dict[str, Any]:
    """Details of a measure as plain JSON, without those that are empty; a number that is not finite is null."""
    found = {
        "curves": [_without_none(asdict(curve)) for curve in curves],
        "bins": [asdict(one) for one in bins],
        "tables": [asdict(table) for table in tables],
        **others,
    }
    plain = {key: _plain(value) for key, value in found.items()}
    return {key: value for key, value in plain.items() if value not in ([], {}, None)}


# Read again


def curves_of(told: Mapping[str, Any]) -> list[Curve]:
    """Curves of details; null is nan. Raises ValueError, TypeError or KeyError for what is none."""
    found = []
    for one in told.get("curves", ()):
        x, y = _numbers(one["x"]), _numbers(one["y"])
        low, high = (None if one.get(key) is None else _numbers(one[key]) for key in ("low", "high"))
        if any(values is not None and len(values) != len(x) for values in (y, low, high)):
            raise ValueError("the numbers of a curve are not as many as its x")
        name, x_label, y_label, title = (str(one.get(key, "")) for key in ("name", "x_label", "y_label", "title"))
        chosen = None if one.get("chosen") is None else float(one["chosen"])
        found.append(Curve(name, x_label, y_label, x, y, low, high, chosen, title))
    return found


def bins_of(told: Mapping[str, Any]) -> list[Bin]:
    """Bins of details that have rows. Raises as `curves_of`."""
    return [
        Bin(float(one["low"]), float(one["high"]), int(one["count"]), float(one["estimate"]), float(one["right"]))
        for one in told.get("bins", ())
        if one["count"]
    ]


def tables_of(told: Mapping[str, Any]) -> list[Table]:
    """Tables of details. Raises as `curves_of`."""
    found = []
    for one in told.get("tables", ()):
        table = Table(str(one["title"]), [str(name) for name in one["columns"]], [list(row) for row in one["rows"]])
        if any(len(row) != len(table.columns) for row in table.rows):
            raise ValueError(f"rows of the table {table.title!r} are not as long as its head")
        found.append(table)
    return found


def counts_of(told: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Other details that are numbers, `key` or `key: inner` → value."""
    return {key: value for key, value in _others(told) if value is None or isinstance(value, int | float)}


def texts_of(told: Mapping[str, Any]) -> dict[str, str]:
    """Other details that are texts, likewise."""
    return {key: value for key, value in _others(told) if isinstance(value, str)}


def failures_of(told: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> dict[str, dict[str, int]]:
    """System → reason → outputs that failed, of the system, direction, condition and details of each score; measures of
    the same outputs count them once.
    """
    most: dict[tuple[str, str, str], dict[str, int]] = {}
    for system, direction, condition, some in told:
        failed = some.get("failed")
        for reason, count in failed.items() if isinstance(failed, dict) else ():
            counts = most.setdefault((system, direction, condition), {})
            counts[str(reason)] = max(counts.get(str(reason), 0), int(count))
    found: dict[str, dict[str, int]] = {}
    for (system, _, _), counts in most.items():
        for reason, count in counts.items():
            found.setdefault(system, {})[reason] = found.get(system, {}).get(reason, 0) + count
    return found


def _others(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in told.items():
        if isinstance(value, dict):
            yield from ((f"{key}: {inner}", one) for inner, one in value.items())
        else:
            yield str(key), value


def _numbers(values: Any) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and not (key == "title" and not value)}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
