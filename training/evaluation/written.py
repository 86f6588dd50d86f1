"""Evaluations as they were written to a folder, read again: scores, what was missing, and the scores of rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.files import STATISTICS, TRANSLATIONS, sha256_of
from seamlessalign.training.evaluation.measures import Float64
from seamlessalign.training.evaluation.resampling import Comparison

Place = tuple[str, str, str, str]  # task, direction, condition, measure
Aim = Literal["high", "low", "zero"]  # which score of a measure is the best

_ABOUT_ZERO = ("gender",)  # kinds whose scores have a side to which they lean


@dataclass(frozen=True)
class WrittenScore:
    """A score of `evaluation.json`; what has no value is None."""

    task: str
    system: str
    direction: str
    condition: str
    kind: str
    measure: str
    score: float | None
    low: float | None
    high: float | None
    rows: int
    missing: int
    higher_is_better: bool
    signature: str
    details: Mapping[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None  # with the baseline; what has no value is nan

    @property
    def place(self) -> Place:
        return self.task, self.direction, self.condition, self.measure

    @property
    def aim(self) -> Aim:
        if self.kind.removeprefix("asr_") in _ABOUT_ZERO:
            return "zero"
        return "high" if self.higher_is_better else "low"


@dataclass(frozen=True)
class Written:
    """An evaluation of a folder."""

    folder: str
    rows: int | None  # of the test set of translations, if there is one
    digest: str | None  # of these rows
    baselines: Mapping[str, str]  # task → system
    missing: Mapping[str, Sequence[str]]  # system, or system and condition → ids of rows for which it has nothing
    not_asked: Mapping[str, int]  # system → outputs of ids that the test set has not
    scores: Sequence[WrittenScore]
    set_aside: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # system that was run → reason → rows
    settings: Mapping[str, Any] = field(default_factory=dict)  # the data set's, and those of systems that were run
    unreadable_noise: Mapping[str, str] = field(default_factory=dict)  # recording → what is wrong with it

    def systems(self) -> list[str]:
        """Systems of all tasks, each once."""
        return list(dict.fromkeys(one.system for one in self.scores))


def is_evaluation(folder: str) -> bool:
    """Whether a folder has been evaluated into."""
    return bool(folder) and storage.exists(storage.join(folder, "evaluation.json"))


def read_written(folder: str) -> Written:
    """The evaluation in a folder. Raises InputError where there is none, one that was not written here, or one whose
    files another evaluation wrote over, which was stopped or ran at the same time.
    """
    file = storage.join(folder, "evaluation.json")
    if not is_evaluation(folder):
        raise InputError(f"{folder}: is no folder of an evaluation, which has evaluation.json")
    try:
        told = json.loads(storage.read_bytes(file))
        digests = {str(name): str(sha256) for name, sha256 in told.get("files", {}).items()}
        systems: dict[str, dict[str, Any]] = {}
        for name, one in told.get("systems", {}).items():
            systems[name] = one
            systems |= {f"{name}, {condition}": noisy for condition, noisy in one.get("noisy", {}).items()}
        settings = {"data set": told["data set"]} if "data set" in told else {}
        found = Written(
            folder,
            told.get("rows"),
            told.get("digest of rows"),
            {str(task): str(name) for task, name in told["baselines"].items()},
            {name: [str(key) for key in one["missing"]] for name, one in systems.items()},
            {name: int(one["not_asked"]) for name, one in systems.items()},
            [_score(one) for one in told["scores"]],
            {name: dict(one["set_aside"]) for name, one in systems.items() if one.get("set_aside")},
            settings | {name: one["settings"] for name, one in systems.items() if one.get("settings")},
            {str(name): str(reason) for name, reason in told.get("unreadable noise", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is not what `seamlessalign evaluate` writes: {error!r}") from error
    for name, sha256 in digests.items():
        place = storage.join(folder, name)
        if not storage.exists(place):
            raise InputError(f"{place}: is not there: evaluate again")
        if sha256_of(place) != sha256:
            raise InputError(f"{place}: is not that of {file}, but damaged or of another evaluation: evaluate again")
    return found


@dataclass(frozen=True)
class RowNumbers:
    """The numbers of the rows of one measure."""

    ids: Sequence[str]
    numbers: Float64  # (num_rows, num_statistics)


def read_statistics(folder: str, system: str) -> dict[Place, RowNumbers]:
    """The numbers of rows of all measures of a system. Raises StorageError, InputError for a file that is damaged."""
    file = storage.join(folder, "statistics.parquet")
    table = read_columns(file, STATISTICS, ["task", "system", "direction", "condition", "measure", "id", "statistics"])
    table = table.filter(pc.equal(table["system"], system)).combine_chunks()
    ids = table["id"].to_pylist()
    numbers = table["statistics"].to_pylist()
    places: dict[Place, dict[str, int]] = {}
    columns = (table[name].to_pylist() for name in ("task", "direction", "condition", "measure"))
    for row, place in enumerate(zip(*columns, strict=True)):
        places.setdefault(place, {})[ids[row]] = row
    try:
        return {
            place: RowNumbers(list(rows), np.array([numbers[row] for row in rows.values()], np.float64))
            for place, rows in places.items()
        }
    except ValueError as error:
        raise InputError(f"{file}: rows of one measure have not as many numbers: evaluate again") from error


def read_references(folder: str) -> dict[str, tuple[str, str, tuple[str, ...]]] | None:
    """Both languages and the references of each row of translations, by id; None where the folder has none."""
    file = storage.join(folder, "translations.parquet")
    if not storage.exists(file):
        return None
    table = read_columns(file, TRANSLATIONS, ["id", "src_lang", "tgt_lang", "references"])
    columns = (table[name].to_pylist() for name in table.column_names)
    return {key: (src_lang, tgt_lang, tuple(texts)) for key, src_lang, tgt_lang, texts in zip(*columns, strict=True)}


def read_columns(file: str, schema: pa.Schema, names: Sequence[str]) -> pa.Table:
    """Columns of a table of an evaluation. Raises StorageError for a damaged one, InputError for another."""
    if not storage.exists(file):
        raise InputError(f"{file}: is not there: evaluate again")
    table = storage.read_table(file, list(names))
    for name in names:
        if name not in table.column_names or table.schema.field(name).type != schema.field(name).type:
            raise InputError(f"{file}: has no column {name} as `seamlessalign evaluate` writes it: evaluate again")
    return table.select(list(names))


def _score(told: dict[str, Any]) -> WrittenScore:
    against = told.get("against_baseline")
    details = told.get("details", {})
    if not isinstance(details, dict):
        raise TypeError("details are no mapping")
    return WrittenScore(
        task=str(told["task"]),
        system=str(told["system"]),
        direction=str(told["direction"]),
        condition=str(told.get("condition", "")),
        kind=str(told["kind"]),
        measure=str(told["measure"]),
        score=_number(told["score"]),
        low=_number(told["low"]),
        high=_number(told["high"]),
        rows=int(told["rows"]),
        missing=int(told["missing"]),
        higher_is_better=bool(told["higher_is_better"]),
        signature=str(told["signature"]),
        details=details,
        comparison=None if against is None else _comparison(against),
    )


def _comparison(told: Mapping[str, Any]) -> Comparison:
    difference, low, high, p_value = (
        float("nan") if (value := _number(told[key])) is None else value
        for key in ("difference", "low", "high", "p_value")
    )
    return Comparison(difference, low, high, p_value, str(told["test"]))


def _number(value: Any) -> float | None:
    if value is None or value != value:
        return None
    return float(value)
