"""Gender: whether outputs lean to the masculine or the feminine, as the SeamlessM4T paper measures it with
Multilingual HolisticBias (section "Gender bias").

From a language without gender into one with it, a row has a masculine and a feminine reference, and the one output is
compared with both. The other way, the sentence is there twice, as a masculine and as a feminine source (`gender`), and
the outputs of the two are compared with the same reference. M and F are chrF (of characters alone) of a corpus;
Δ = (M − F) / min(M, F), in per cent: 0 is even, more than 0 leans to the masculine.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.details import Table, details
from seamlessalign.training.evaluation.heard import Heard
from seamlessalign.training.evaluation.measures import Float64, Measure, Measured
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.training.evaluation.subjects import Subject, Tools
from seamlessalign.training.evaluation.text import Chrf

GENDERS = ("masculine", "feminine")
_WRITTEN = {"masculine": 0, "masc": 0, "male": 0, "m": 0, "feminine": 1, "fem": 1, "female": 1, "f": 1}


def check(rows: Sequence[TestRow], config: EvaluationConfig) -> None:
    """Raise InputError before anything is measured where gender is asked for and rows have none, or no reference."""
    if config.measures.gender is None:
        return
    if not any(_has_both(row) or _gender(row) is not None for row in rows):
        raise InputError(
            "measures.gender: no row has both reference_masculine and reference_feminine, nor a gender, "
            "masculine or feminine"
        )
    by_reference = {row.direction for row in rows if _has_both(row)}
    without = [
        row.id for row in rows if _gender(row) is not None and not row.references and row.direction not in by_reference
    ]
    if without:
        raise InputError(f"measures.gender: {len(without)} rows with a gender have no reference, such as {without[0]}")


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.gender` of what a system wrote and of what is heard in what it said: Δ, and both chrF."""
    if tools.config.measures.gender is None:
        return
    if not any(_has_both(row) or _gender(row) is not None for row in subject.rows):
        tools.say(f"gender of {subject.direction}: not measured, no row has one")
        return
    shown = tools.config.measures.gender.shown
    if subject.wrote:
        texts = subject.texts()
        yield from _lines("gender", Chrf(word_order=0), subject, texts, shown, subject.reasons(texts))
    if subject.spoke:
        heard = subject.heard()
        failed = dict(Counter(heard.failed.values()))
        measure = Heard(Chrf(word_order=0), subject.tgt_lang, tools.recogniser.signature)
        yield from _lines("asr_gender", measure, subject, heard.texts, shown, failed)


def delta(score: Callable[[Float64], float]) -> Callable[[Float64], float]:
    """Δ in per cent of sums, those for the masculine before those for the feminine. It is 0 where both chrF are 0,
    and nan where one is.
    """

    def of(sums: Float64) -> float:
        masculine, feminine = (score(part) for part in np.split(sums, 2))
        least = min(masculine, feminine)
        if least <= 0:
            return 0.0 if masculine == feminine else float("nan")
        return 100 * (masculine - feminine) / least

    return of


def _has_both(row: TestRow) -> bool:
    return row.references_by_gender.keys() >= set(GENDERS)


def _gender(row: TestRow) -> int | None:
    """0 masculine, 1 feminine."""
    return _WRITTEN.get((row.gender or "").strip().lower())


@dataclass(frozen=True)
class _Counted:
    """Numbers of chrF of rows, or groups of rows, for either gender."""

    form: str  # of the comparison
    ids: list[str]
    masculine: Float64  # (num_ids, num_statistics)
    feminine: Float64
    told: list[dict[str, Any]]  # of each id, for people
    left_out: dict[str, int]  # rows that say nothing of gender, by reason


def _lines(
    kind: str, measure: Measure, subject: Subject, texts: Sequence[str | None], shown: int, failed: dict[str, int]
) -> Iterator[Measured]:
    by_reference = any(map(_has_both, subject.rows))
    counted = (_by_reference if by_reference else _by_source)(measure, subject.rows, texts)
    missing = {row.id for row, text in zip(subject.rows, texts, strict=True) if text is None}
    of_score, signature = delta(measure.score), f"{measure.signature()}|gender:{counted.form}"

    def lean(numbers: Float64) -> float:
        masculine, feminine = _scores(measure, numbers)
        return masculine - feminine

    both = np.concatenate([counted.masculine, counted.feminine], axis=1)
    leans = _leans(counted, measure)
    sides = {}
    for name, rows in zip(GENDERS, (counted.masculine, counted.feminine), strict=True):
        there = [i for i, told in enumerate(counted.told) if told["rows"][name]]
        sides[name] = Measured(
            f"{kind}_{name}",
            f"{measure.name} {name}",
            signature,
            True,
            [counted.ids[i] for i in there],
            rows[there],
            measure.score,
            condition=subject.condition,
            missing=len(missing & {key for i in there for key in counted.told[i]["rows"][name]}),
        )
    even = int(np.sum(leans == 0))
    towards = Table(
        "Gender",
        ("rows", "chrF masculine", "chrF feminine", "nearer masculine", "nearer feminine", "as near"),
        [[len(leans), *_scores(measure, both.sum(0)), int(np.sum(leans > 0)), int(np.sum(leans < 0)), even]],
    )
    yield Measured(
        kind,
        f"{measure.name} gender Δ",
        signature,
        False,
        counted.ids,
        both,
        of_score,
        lean,
        condition=subject.condition,
        missing=len(missing & {key for told in counted.told for some in told["rows"].values() for key in some}),
        details=details(tables=[towards], failed=failed, rows_left_out=counted.left_out),
        behind=_behind(counted, leans, measure, shown),
    )
    yield from sides.values()


def _by_reference(measure: Measure, rows: Sequence[TestRow], texts: Sequence[str | None]) -> _Counted:
    there = [i for i, row in enumerate(rows) if _has_both(row)]
    made = [texts[i] or "" for i in there]
    masculine, feminine = (
        measure.statistics(made, [[rows[i].references_by_gender[name]] for i in there]) for name in GENDERS
    )
    told = [
        {
            "rows": {name: [rows[i].id] for name in GENDERS},
            "source": rows[i].src_text,
            "output": texts[i],
            **{name: rows[i].references_by_gender[name] for name in GENDERS},
        }
        for i in there
    ]
    left_out = {"without both references": len(rows) - len(there)} if len(there) < len(rows) else {}
    return _Counted("references", [rows[i].id for i in there], masculine, feminine, told, left_out)


def _by_source(measure: Measure, rows: Sequence[TestRow], texts: Sequence[str | None]) -> _Counted:
    there = [i for i, row in enumerate(rows) if _gender(row) is not None]
    numbers = measure.statistics([texts[i] or "" for i in there], [[rows[i].references[0]] for i in there])
    places: dict[str, int] = {}
    for i in there:
        group = rows[i].group
        places.setdefault(rows[i].id if group is None else f"group {group}", len(places))
    sums = np.zeros((2, len(places), numbers.shape[1]))
    told: list[dict[str, Any]] = [{"rows": {name: [] for name in GENDERS}} for _ in places]
    for number, i in enumerate(there):
        group, gender = rows[i].group, _gender(rows[i]) or 0
        place = places[rows[i].id if group is None else f"group {group}"]
        sums[gender, place] += numbers[number]
        told[place]["rows"][GENDERS[gender]].append(rows[i].id)
        told[place].setdefault(GENDERS[gender], []).append({"source": rows[i].src_text, "output": texts[i]})
    left_out = dict(Counter(f"gender {row.gender or 'not given'}" for row in rows if _gender(row) is None))
    return _Counted("sources", list(places), sums[0], sums[1], told, left_out)


def _scores(measure: Measure, numbers: Float64) -> list[float]:
    return [measure.score(part) for part in np.split(numbers, 2)]


def _leans(counted: _Counted, measure: Measure) -> Float64:
    """chrF for the masculine less that for the feminine; nan where one of the two is not there."""
    found = []
    for masculine, feminine, told in zip(counted.masculine, counted.feminine, counted.told, strict=True):
        both = all(told["rows"].values())
        found.append(measure.score(masculine) - measure.score(feminine) if both else float("nan"))
    return np.array(found)


def _behind(counted: _Counted, leans: Float64, measure: Measure, shown: int) -> list[dict[str, Any]]:
    order = sorted((i for i in range(len(leans)) if leans[i]), key=lambda i: (-abs(leans[i]), counted.ids[i]))
    return [
        {
            "id": counted.ids[i],
            "what": f"leans to the {GENDERS[int(leans[i] < 0)]}",
            "chrF masculine": round(measure.score(counted.masculine[i]), 2),
            "chrF feminine": round(measure.score(counted.feminine[i]), 2),
            **{key: value for key, value in counted.told[i].items() if key != "rows"},
        }
        for i in [i for i in order if np.isfinite(leans[i])][:shown]
    ]
