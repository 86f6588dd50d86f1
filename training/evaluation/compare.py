"""Evaluations that were made apart, compared row by row: the numbers of each row are kept, so nothing is made again."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import Resampling
from seamlessalign.training.evaluation.measures import Float64
from seamlessalign.training.evaluation.resampling import Comparison, compared
from seamlessalign.training.evaluation.results import difference
from seamlessalign.training.evaluation.scores import score_of

Key = tuple[str, str, str, str]  # task, direction, condition, measure


@dataclass(frozen=True)
class Pair:
    """A measure of a direction in two evaluations."""

    task: str
    direction: str
    condition: str
    measure: str
    first: float
    second: float
    signature: str
    comparison: Comparison  # of the second with the first


@dataclass(frozen=True)
class _Kept:
    told: dict[str, Any]  # evaluation.json
    system: str
    rows: dict[Key, dict[str, list[float]]]  # id → statistics


def compare(first: str, second: str, settings: Resampling | None = None) -> list[Pair]:
    """Compare two evaluations, each a folder, or `FOLDER:SYSTEM` where it has several systems.

    Raises InputError for folders that hold no evaluation, other rows, and measures none of which have the same
    settings.
    """
    settings = settings or Resampling()
    one, other = _read(first), _read(second)
    if one.told.get("digest of rows") != other.told.get("digest of rows"):
        raise InputError(f"{first} and {second} were made of different rows: evaluate both on the same")
    found, differ = [], []
    for key in one.rows.keys() & other.rows.keys():
        a, b = _score_of(one, key), _score_of(other, key)
        if a["signature"] != b["signature"]:
            differ.append(f"{key[-1]}: {a['signature']} and {b['signature']}")
            continue
        if one.rows[key].keys() != other.rows[key].keys():
            differ.append(f"{key[-1]}: rows with other ids")
            continue
        ids = list(one.rows[key])
        rows = [np.array([kept.rows[key][name] for name in ids], np.float64) for kept in (one, other)]
        found.append(_pair(key, a, b, rows[0], rows[1], settings))
    if not found:
        told = f": {differ[0]}" if differ else ""
        raise InputError(f"{first} and {second} have no measure with the same settings{told}")
    return sorted(found, key=lambda pair: (pair.task, pair.direction, pair.condition, pair.measure))


def table(first: str, second: str, pairs: list[Pair]) -> str:
    """A Markdown table for people."""
    lines = [f"| direction | measure | {first} | {second} | difference (95 %) |", "|---" * 5 + "|"]
    for pair in pairs:
        measure = f"{pair.measure}, {pair.condition}" if pair.condition else pair.measure
        cells = [pair.direction, measure, f"{pair.first:.2f}", f"{pair.second:.2f}", difference(pair.comparison)]
        lines.append("| " + " | ".join(cells) + " |")
    signatures = dict.fromkeys(f"{pair.measure}: {pair.signature}" for pair in pairs)
    return "\n".join([*lines, "", *signatures, pairs[0].comparison.test])


def _pair(
    key: Key, a: dict[str, Any], b: dict[str, Any], first: Float64, second: Float64, settings: Resampling
) -> Pair:
    score = score_of(a["kind"])
    values = [float("nan") if one["score"] is None else float(one["score"]) for one in (a, b)]
    return Pair(*key, values[0], values[1], a["signature"], compared(first, second, score, settings))


def _score_of(kept: _Kept, key: Key) -> dict[str, Any]:
    for score in kept.told["scores"]:
        found = (score["task"], score["direction"], score.get("condition", ""), score["measure"])
        if score["system"] == kept.system and found == key:
            return dict(score)
    raise InputError(f"evaluation.json lacks {key[-1]} of {kept.system}, {key[1]}: evaluate again")


def _read(place: str) -> _Kept:
    folder, system = place, ""
    if not storage.exists(storage.join(folder, "evaluation.json")):
        folder, _, system = place.rpartition(":")
    file = storage.join(folder, "evaluation.json")
    if not folder or not storage.exists(file):
        raise InputError(f"{place}: is no folder of an evaluation, which has evaluation.json")
    try:
        told = json.loads(storage.read_bytes(file))
        systems = list(dict.fromkeys(score["system"] for score in told["scores"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is not what `seamlessalign evaluate` writes") from error
    if not system and len(systems) > 1:
        raise InputError(f"{place}: has several systems: say {folder}:{systems[0]}, or :{', :'.join(systems[1:])}")
    system = system or systems[0]
    if system not in systems:
        raise InputError(f"{folder}: has no system {system!r}, but {', '.join(systems)}")
    rows: dict[Key, dict[str, list[float]]] = {}
    for row in storage.read_table(storage.join(folder, "statistics.parquet")).to_pylist():
        if row["system"] == system:
            key = (row["task"], row["direction"], row["condition"], row["measure"])
            rows.setdefault(key, {})[row["id"]] = row["statistics"]
    return _Kept(told, system, rows)
