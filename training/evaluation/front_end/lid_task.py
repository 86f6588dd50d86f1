"""Which language is spoken, as systems say it: accuracy, macro F1, and how far their probabilities can be believed.

A clip without an answer, and an answer that is `unknown` or in a language that nobody knows, is wrong; where a
probability is missing, it counts as 1.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.label_measures import (
    UNKNOWN,
    confusion,
    f1_of,
    label_counts,
    macro_f1,
    precision_of,
    recall_of,
)
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.details import Table, details
from seamlessalign.training.evaluation.front_end.calibration_error import (
    adaptive_edges,
    bins_of,
    calibration_error,
    calibration_statistics,
    equal_edges,
)
from seamlessalign.training.evaluation.front_end.front_end_config import Lid, LidColumns
from seamlessalign.training.evaluation.measures import Float64, Measured, RowMean
from seamlessalign.training.evaluation.rows import check_ids, id_of, joined_lines, language_of, table_lines
from seamlessalign.training.evaluation.subjects import Tools
from seamlessalign.typed_config import digest

VERSION = 1  # of what counts how


@dataclass(frozen=True)
class Answer:
    """What a system said of a clip; None where it said nothing."""

    lang: str | None = None  # ISO 639-3, or `unknown`
    probability: float | None = None
    said: str | None = None  # as the table has it


def measured(section: Lid, tools: Tools) -> dict[str, list[tuple[str, Measured]]]:
    """`lid` of a configuration: what is found of each system. There is one direction, which has no name.

    Raises InputError for clips and answers that do not fit together, probabilities that are none, and unknown languages
    of clips.
    """
    ids, truth = read_truth(section.rows.path, section.rows.columns)
    found: dict[str, list[tuple[str, Measured]]] = {}
    for name, system in section.systems.items():
        answers, not_asked = read_answers(system.path, ids, system.columns)
        if not_asked:
            tools.say(f"{name}: {not_asked} answers have ids that the clips have not")
        found[name] = [("", one) for one in measure_answers(section, ids, truth, answers, not_asked)]
    return found


def measure_answers(
    section: Lid, ids: Sequence[str], truth: Sequence[str], answers: Sequence[Answer], not_asked: int = 0
) -> Iterator[Measured]:
    """What is asked for, of the answers to clips whose languages (ISO 639-3) are known."""
    said = [answer.lang or UNKNOWN for answer in answers]
    right = [a == b for a, b in zip(truth, said, strict=True)]
    missing = sum(answer.lang is None for answer in answers)
    langs = sorted(set(truth))
    told = f"truth:{digest(list(zip(ids, truth, strict=True)))[:8]}|langs:{len(langs)}|missing:wrong|version:{VERSION}"
    for name in section.measures:
        behind: list[dict[str, Any]] = []
        match name:
            case "accuracy":
                mean = RowMean("LID accuracy", told, factor=100.0)
                rows, score, title, signature = mean.of(right), mean.score, mean.name, told
                about = details(
                    tables=[_confusions(truth, said)],
                    answers=_kinds(answers),
                    not_asked=not_asked or None,
                    confusion=dict(zip(("truth", "answers", "counts"), confusion(truth, said), strict=True)),
                )
                behind = list(_wrong(ids, truth, answers))
            case "macro_f1":
                counts = label_counts(truth, said, langs)
                rows, score, title, signature = _flat(counts), macro_f1_of, "LID macro F1", told
                about = details(tables=[_by_language(truth, said, langs)])
            case _:
                given = [1.0 if answer.probability is None else answer.probability for answer in answers]
                if all(answer.probability is None for answer in answers):
                    continue  # counted in the details of accuracy
                equal = name == "calibration_error"
                edges = equal_edges(section.bins) if equal else adaptive_edges(given, section.bins)
                rows, score = calibration_statistics(given, right, edges), calibration_error
                title = "LID calibration error" if equal else "LID calibration error, adaptive"
                signature = f"{told}|bins:{section.bins}-{'equal' if equal else 'adaptive'}|missing-probability:1"
                without = sum(answer.probability is None for answer in answers)
                about = details(bins=bins_of(rows.sum(0), edges), without_probability=without or None)
        better = name in ("accuracy", "macro_f1")
        yield Measured(
            f"lid_{name}", title, signature, better, ids, rows, score, missing=missing, details=about, behind=behind
        )


def macro_f1_of(sums: Float64) -> float:
    """Macro F1 in per cent of sums of counts, `(num_languages · 3,)`."""
    return 100 * macro_f1(sums.reshape(-1, 3))


# Reading


def read_truth(place: str, columns: LidColumns) -> tuple[list[str], list[str]]:
    """Ids and languages (ISO 639-3) of clips. Raises InputError for ids and languages that are missing or wrong."""
    ids, truth = [], []
    for number, (where, values, _) in enumerate(table_lines(place, columns)):
        ids.append(id_of(values, columns.id, number, where))
        truth.append(language_of(values.get(columns.lang), None, f"{where}: {columns.lang}"))
    check_ids(ids, place)
    return ids, truth


def read_answers(place: str, ids: Sequence[str], columns: LidColumns) -> tuple[list[Answer], int]:
    """What a system said of each clip, and how many answers have other ids. Raises InputError."""

    def answer(_: str, where: str, values: Mapping[str, Any], __: tuple[str, int]) -> Answer:
        return _answer(values, columns, where)

    found = joined_lines(place, ids, columns.id, table_lines(place), answer)
    return [found.get(key, Answer()) for key in ids], len(found.keys() - set(ids))


def _answer(values: Mapping[str, Any], columns: LidColumns, where: str) -> Answer:
    if not values.keys() & {columns.answer, columns.scores}:
        raise InputError(
            f"{where}: has neither {columns.answer} nor {columns.scores}, but {', '.join(values)}: "
            "name the column of answers under columns.answer"
        )
    scores = _scores(values.get(columns.scores), f"{where}: {columns.scores}")
    said = values.get(columns.answer)
    if said is None or said == "":
        if not scores:
            return Answer()
        lang = min(scores, key=lambda one: (-scores[one], one))
        said = lang
    else:
        lang = _known(str(said))
    given = values.get(columns.probability)
    if given is None or given == "":
        return Answer(lang, scores.get(lang), str(said))
    return Answer(lang, _probability(given, f"{where}: {columns.probability}"), str(said))


def _scores(value: Any, where: str) -> dict[str, float]:
    """Language → probability; codes of one language are added."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else None
        except ValueError as error:
            raise InputError(f"{where}: is not JSON: {error}") from error
    if value is None:
        return {}
    try:
        pairs = [
            tuple(one.values()) if isinstance(one, dict) else tuple(one)
            for one in (value.items() if isinstance(value, dict) else value)
        ]
        named = [(str(code), given) for code, given in pairs]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: is no table of languages and probabilities, nor a list of pairs") from error
    found: dict[str, float] = {}
    for code, given in named:
        if given is not None:  # a column of a struct that this row has not
            lang = _known(code)
            found[lang] = found.get(lang, 0.0) + _probability(given, where)
    return found


def _probability(value: Any, where: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not 0 <= found <= 1 + 1e-6:
        raise InputError(f"{where} is {value!r}: a probability is from 0 to 1")
    return min(found, 1.0)


def _known(code: str) -> str:
    """ISO 639-3 of any code; what is none stays as it is, and is wrong."""
    if code == UNKNOWN:
        return code
    try:
        return find_language(code).iso639_3
    except ConfigError:
        return code


# What is told


def _kinds(answers: Sequence[Answer]) -> dict[str, int]:
    kinds = Counter(
        "missing" if answer.lang is None else "unknown" if answer.lang == UNKNOWN else "languages" for answer in answers
    )
    kinds["without a probability"] = sum(answer.lang is not None and answer.probability is None for answer in answers)
    return {kind: count for kind, count in kinds.items() if count}


def _confusions(truth: Sequence[str], said: Sequence[str]) -> Table:
    rows, columns, counts = confusion(truth, said)
    taken = [
        (-int(counts[i, j]), rows[i], columns[j]) for i, j in np.argwhere(counts).tolist() if rows[i] != columns[j]
    ]
    found = [(lang, answer, -less) for less, lang, answer in sorted(taken)]  # most first
    return Table("Languages taken for others", ("language", "answer", "clips"), found)


def _by_language(truth: Sequence[str], said: Sequence[str], langs: Sequence[str]) -> Table:
    counts = label_counts(truth, said, langs).sum(0)
    shares = 100 * np.stack([precision_of(counts), recall_of(counts), f1_of(counts)], axis=1)
    rows = [
        (lang, int(one[0] + one[2]), *share)
        for lang, one, share in zip(langs, counts, shares.round(4).tolist(), strict=True)
    ]
    return Table("Languages", ("language", "clips", "precision", "recall", "F1"), rows)


def _wrong(ids: Sequence[str], truth: Sequence[str], answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    for key, lang, answer in zip(ids, truth, answers, strict=True):
        if answer.lang != lang:
            what = "no answer" if answer.lang is None else "wrong language"
            yield {"id": key, "what": what, "lang": lang, "answer": answer.said, "probability": answer.probability}


def _flat(counts: Any) -> Float64:
    return np.asarray(counts, np.float64).reshape(len(counts), -1)
