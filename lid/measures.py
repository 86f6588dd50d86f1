"""How well languages are told: accuracy, F1 of each language, confusions, and what rejecting the unsure ones gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

UNKNOWN = "unknown"  # the answer where none is sure enough


@dataclass(frozen=True)
class Measures:
    """What some answers are worth against the truth."""

    clips: int
    answered: int  # those whose answer is not `unknown`
    accuracy: float  # of those answered
    macro_f1: float  # mean of `f1`
    f1: dict[str, float]  # by language of the clips that count
    recall: dict[str, float]


def measure(truth: Sequence[str], answers: Sequence[str], *, rejected: str = "missed") -> Measures:
    """Compare answers with the truth.

    Args:
        truth: ISO 639-3 of each clip.
        answers: ISO 639-3, or `unknown`.
        rejected: `missed`: a clip that got no answer is a miss of its language; `left out`: it does not count at all,
            as in the SeamlessM4T paper.

    F1 of a language is 2 TP / (2 TP + FP + FN), and 0 where that has no denominator. Answers with languages that are
    not in the truth are wrong ones; those languages are no part of the mean, nor are those of which no clip counts.
    """
    kept = [i for i, answer in enumerate(answers) if answer != UNKNOWN]
    counted = kept if rejected == "left out" else list(range(len(truth)))
    f1: dict[str, float] = {}
    recall: dict[str, float] = {}
    for lang in sorted({truth[i] for i in counted}):
        hits = sum(truth[i] == lang == answers[i] for i in counted)
        there = sum(truth[i] == lang for i in counted)
        said = sum(answers[i] == lang for i in counted)
        f1[lang] = 2 * hits / (there + said) if there + said else 0.0
        recall[lang] = hits / there if there else 0.0
    right = sum(truth[i] == answers[i] for i in kept)
    return Measures(
        clips=len(truth),
        answered=len(kept),
        accuracy=right / len(kept) if kept else 0.0,
        macro_f1=float(np.mean(list(f1.values()))) if f1 else 0.0,
        f1=f1,
        recall=recall,
    )


def confusion(truth: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str], Int64]:
    """Languages of the truth, answers there are, and counts `(num_truths, num_answers)`."""
    rows = sorted(set(truth))
    others = sorted(set(answers) - set(rows) - {UNKNOWN})
    columns = rows + others + [UNKNOWN] * (UNKNOWN in answers)
    counts = np.zeros((len(rows), len(columns)), np.int64)
    for true, answer in zip(truth, answers, strict=True):
        counts[rows.index(true), columns.index(answer)] += 1
    return rows, columns, counts


@dataclass(frozen=True)
class CurvePoint:
    """What is left when all clips below some sureness are rejected."""

    rejected: float  # share of all clips
    macro_f1: float  # of the others, the rejected ones left out
    missed_f1: float  # with the rejected ones as misses


def rejection_curve(
    truth: Sequence[str], answers: Sequence[str], sureness: Sequence[float], points: int = 51, most: float = 0.5
) -> list[CurvePoint]:
    """Macro F1 over the share of clips that are rejected, the least sure ones first; ties in the order given."""
    order = np.argsort(np.asarray(sureness, np.float64), kind="stable")
    found = []
    for share in np.linspace(0.0, most, points):
        count = round(share * len(order))
        cut = list(answers)
        for i in order[:count].tolist():
            cut[i] = UNKNOWN
        found.append(
            CurvePoint(
                count / max(1, len(order)),
                measure(truth, cut, rejected="left out").macro_f1,
                measure(truth, cut).macro_f1,
            )
        )
    return found
