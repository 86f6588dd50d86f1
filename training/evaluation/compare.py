"""Evaluations that were made apart, compared row by row: the numbers of each row are kept, so nothing is made again."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import Resampling
from seamlessalign.training.evaluation.measures import decimals
from seamlessalign.training.evaluation.resampling import Comparison, compared
from seamlessalign.training.evaluation.results import decimal, difference, table_row
from seamlessalign.training.evaluation.rows import named
from seamlessalign.training.evaluation.scores import ABSENT_IS_NOTHING, score_of
from seamlessalign.training.evaluation.written import (
    Place,
    RowNumbers,
    Written,
    WrittenScore,
    is_evaluation,
    read_references,
    read_statistics,
    read_written,
)

_RESAMPLING = re.compile(r"\|bs:\d+\|seed:\d+$")
_AGREE = 1e-6  # share of a score by which it may differ from that of the kept numbers


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    place: str  # as it was given
    system: str
    evaluation: Written

    def scores(self) -> dict[Place, WrittenScore]:
        return {one.place: one for one in self.evaluation.scores if one.system == self.system}


@dataclass(frozen=True)
class Pair:
    """A measure of a direction in two evaluations."""

    first: WrittenScore
    second: WrittenScore
    comparison: Comparison  # of the second with the first


@dataclass(frozen=True)
class LeftOut:
    """A measure of a direction that cannot be compared, and why."""

    place: Place
    reason: str


@dataclass(frozen=True)
class Compared:
    """All that two evaluations have in common, and what they have not."""

    first: Side
    second: Side
    pairs: Sequence[Pair]
    left_out: Sequence[LeftOut]


def compare(first: str, second: str, settings: Resampling | None = None) -> Compared:
    """Compare two evaluations, each a folder, or `FOLDER:SYSTEM` where it has several systems.

    Raises InputError for folders that hold no evaluation, other rows, and where nothing has the same settings;
    StorageError for damaged files.
    """
    one, other = _read(first), _read(second)
    if (one.evaluation.folder, one.system) == (other.evaluation.folder, other.system):
        raise InputError(f"{first} and {second} are the same system of the same evaluation")
    _check_rows(one, other)
    numbers = [read_statistics(side.evaluation.folder, side.system) for side in (one, other)]
    pairs, left_out = [], []
    scores = one.scores(), other.scores()
    for place in sorted(scores[0].keys() | scores[1].keys()):
        found = _pair(place, (one, other), scores, numbers, settings or Resampling())
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            left_out.append(LeftOut(place, found))
    if not pairs:
        told = f": {_named(left_out[0].place)}: {left_out[0].reason}" if left_out else ""
        raise InputError(f"{first} and {second} have no measure with the same settings{told}")
    return Compared(one, other, pairs, left_out)


def table(found: Compared) -> str:
    """A Markdown table for people, and what is not in it."""
    names = found.first.place, found.second.place
    lines = [table_row(["direction", "measure", *names, "difference (95 %)"]), "|---" * 5 + "|"]
    for pair in found.pairs:
        _, direction, condition, measure = pair.first.place
        told = f"{measure}, {condition}" if condition else measure
        scores = pair.first.score, pair.second.score
        places = decimals(scores)
        values = [decimal(score, places) for score in scores]
        lines.append(table_row([direction, told, *values, difference(pair.comparison, places)]))
    signatures = dict.fromkeys(f"{pair.first.measure}: {pair.first.signature}" for pair in found.pairs)
    others = [f"not compared: {_named(one.place)}: {one.reason}" for one in found.left_out]
    return "\n".join([*lines, "", *signatures, *dict.fromkeys(pair.comparison.test for pair in found.pairs), *others])


def to_json(found: Compared) -> dict[str, Any]:
    """The comparison as plain values."""
    return {
        name: {"place": side.place, "folder": side.evaluation.folder, "system": side.system}
        for name, side in (("first", found.first), ("second", found.second))
    } | {
        "digest of rows": found.first.evaluation.digest,
        "pairs": [
            {
                **_place_json(pair.first.place),
                "kind": pair.first.kind,
                "rows": pair.first.rows,
                "higher_is_better": pair.first.higher_is_better,
                "first": pair.first.score,
                "second": pair.second.score,
                "signature": pair.first.signature,
                **pair.comparison.to_json(),
            }
            for pair in found.pairs
        ],
        "left_out": [{**_place_json(one.place), "reason": one.reason} for one in found.left_out],
    }


def settings_of_score(score: WrittenScore) -> str:
    """The signature without how its interval was made, on which the score does not depend."""
    return _RESAMPLING.sub("", score.signature)


def names_of_sides(found: Compared) -> tuple[str, str]:
    """What to call both in a table: systems, with folders where these are not enough."""
    sides = found.first, found.second
    for name in (
        lambda side: side.system,
        lambda side: f"{PurePosixPath(side.evaluation.folder).name}: {side.system}",
        lambda side: f"{side.evaluation.folder}: {side.system}",
    ):
        one, other = (name(side) for side in sides)
        if one != other:
            return one, other
    raise AssertionError("the two are not the same")


# How a pair is made


def _pair(
    place: Place,
    sides: tuple[Side, Side],
    scores: tuple[Mapping[Place, WrittenScore], Mapping[Place, WrittenScore]],
    numbers: Sequence[Mapping[Place, RowNumbers]],
    settings: Resampling,
) -> Pair | str:
    """A pair, or why there is none."""
    for side, there in zip(sides, scores, strict=True):
        if place not in there:
            return f"{side.place} has none"
    first, second = scores[0][place], scores[1][place]
    signatures = [settings_of_score(one) for one in (first, second)]
    if signatures[0] != signatures[1]:
        return f"other settings: {signatures[0]} and {signatures[1]}"
    try:
        score = score_of(first.kind)
    except InputError as error:
        return str(error)
    rows = []
    for side, kept, told in zip(sides, numbers, (first, second), strict=True):
        if place not in kept:
            raise InputError(f"{side.evaluation.folder}: statistics.parquet lacks {_named(place)}: evaluate again")
        _check_score(told, score(kept[place].numbers.sum(0)), side)
        rows.append(kept[place])
    if first.kind in ABSENT_IS_NOTHING:
        rows = _with_zeros(rows)
    order = {key: number for number, key in enumerate(rows[1].ids)}
    apart = _apart(set(rows[0].ids), set(order), sides)
    if apart:
        return f"other rows: {apart}"
    second_numbers = rows[1].numbers[[order[key] for key in rows[0].ids]]
    if second_numbers.shape != rows[0].numbers.shape:
        return f"rows have {rows[0].numbers.shape[1]} and {second_numbers.shape[1]} numbers"
    return Pair(first, second, compared(rows[0].numbers, second_numbers, score, settings))


def _with_zeros(rows: Sequence[RowNumbers]) -> list[RowNumbers]:
    """Numbers of all rows that any has, in the order of ids: zeros where it has none."""
    ids = sorted({key for one in rows for key in one.ids})
    places = {key: number for number, key in enumerate(ids)}
    found = []
    for one in rows:
        numbers = np.zeros((len(ids), one.numbers.shape[1]))
        numbers[[places[key] for key in one.ids]] = one.numbers
        found.append(RowNumbers(ids, numbers))
    return found


def _check_score(told: WrittenScore, found: float, side: Side) -> None:
    """Raise InputError unless the score that is told is that of the kept numbers."""
    value = float("nan") if told.score is None else told.score
    same = math.isclose(found, value, rel_tol=_AGREE, abs_tol=_AGREE) or (math.isnan(found) and math.isnan(value))
    if not same:
        raise InputError(
            f"{side.evaluation.folder}: {_named(told.place)} is {value:.4f} in evaluation.json and {found:.4f} in "
            "statistics.parquet: evaluate again"
        )


def _check_rows(one: Side, other: Side) -> None:
    """Raise InputError that says how many rows differ, and which, unless both test sets have the same in some order."""
    if one.evaluation.digest == other.evaluation.digest:
        return
    told = f"{one.place} and {other.place} were made of different rows"
    first, second = (read_references(side.evaluation.folder) for side in (one, other))
    if first is not None and second is not None:
        apart = _apart(set(first), set(second), (one, other))
        changed = sorted(key for key in first.keys() & second.keys() if first[key] != second[key])
        parts = [apart] if apart else []
        parts += [f"{len(changed)} with other languages or references ({named(changed)})"] if changed else []
        if not parts:
            return
        told += f": {', '.join(parts)}"
    raise InputError(f"{told}: evaluate both on the same")


def _apart(first: set[str], second: set[str], sides: tuple[Side, Side]) -> str:
    found = []
    for side, only in ((sides[0], first - second), (sides[1], second - first)):
        if only:
            found.append(f"{len(only)} only in {side.place} ({named(sorted(only))})")
    return ", ".join(found)


def _place_json(place: Place) -> dict[str, str]:
    return dict(zip(("task", "direction", "condition", "measure"), place, strict=True))


def _named(place: Place) -> str:
    _, direction, condition, measure = place
    return ", ".join(part for part in (measure, direction, condition) if part)


def _read(place: str) -> Side:
    folder, system = place, ""
    if not is_evaluation(folder):
        folder, _, system = place.rpartition(":")
        if not is_evaluation(folder):
            raise InputError(f"{place}: is no folder of an evaluation, which has evaluation.json")
    evaluation = read_written(folder)
    systems = evaluation.systems()
    if not systems:
        raise InputError(f"{folder}: has no scores")
    if not system and len(systems) > 1:
        raise InputError(
            f"{place}: has several systems: say {folder}:{systems[0]}, or {named([f':{name}' for name in systems[1:]])}"
        )
    system = system or systems[0]
    if system not in systems:
        raise InputError(f"{folder}: has no system {system!r}, but {named(systems)}")
    return Side(place, system, evaluation)
