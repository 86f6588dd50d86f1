"""How well labels are told, such as languages: accuracy, F1 of each, confusions. All follow from counts that add up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

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
    langs = sorted({truth[i] for i in counted})
    counts = label_counts([truth[i] for i in counted], [answers[i] for i in counted], langs).sum(0)
    right = sum(truth[i] == answers[i] for i in kept)
    return Measures(
        clips=len(truth),
        answered=len(kept),
        accuracy=right / len(kept) if kept else 0.0,
        macro_f1=macro_f1(counts) if langs else 0.0,
        f1=dict(zip(langs, f1_of(counts).tolist(), strict=True)),
        recall=dict(zip(langs, recall_of(counts).tolist(), strict=True)),
    )


def label_counts(truth: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> Int64:
    """Of each row and label, whether it is a true positive, a false positive, a false negative:
    `(num_rows, num_labels, 3)`. Labels that are not among `labels` are none of these.
    """
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(truth), len(labels), 3), np.int64)
    for row, (true, answer) in enumerate(zip(truth, answers, strict=True)):
        if true == answer and true in place:
            counts[row, place[true], 0] = 1
            continue
        if answer in place:
            counts[row, place[answer], 1] = 1
        if true in place:
            counts[row, place[true], 2] = 1
    return counts


def f1_of(counts: npt.ArrayLike) -> Float64:
    """F1 of each label, `(num_labels,)`, of sums of counts `(num_labels, 3)`; 0 where nothing is counted."""
    hits, false, missed = np.asarray(counts, np.float64).T
    return _ratio(2 * hits, 2 * hits + false + missed)


def precision_of(counts: npt.ArrayLike) -> Float64:
    """The share of a label's answers that is right; 0 where it is no answer."""
    hits, false, _ = np.asarray(counts, np.float64).T
    return _ratio(hits, hits + false)


def recall_of(counts: npt.ArrayLike) -> Float64:
    """The share of a label's rows that is found; 0 where it has none."""
    hits, _, missed = np.asarray(counts, np.float64).T
    return _ratio(hits, hits + missed)


def macro_f1(counts: npt.ArrayLike) -> float:
    """The mean F1 of labels that rows have, of sums of counts `(num_labels, 3)`; nan where no row has one."""
    numbers = np.asarray(counts, np.float64)
    there = numbers[:, 0] + numbers[:, 2] > 0
    return float(f1_of(numbers)[there].mean()) if there.any() else float("nan")


def confusion(truth: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str], Int64]:
    """Languages of the truth, answers there are, and counts `(num_truths, num_answers)`."""
    rows = sorted(set(truth))
    others = sorted(set(answers) - set(rows) - {UNKNOWN})
    columns = rows + others + [UNKNOWN] * (UNKNOWN in answers)
    row_of, column_of = ({label: i for i, label in enumerate(some)} for some in (rows, columns))
    counts = np.zeros((len(rows), len(columns)), np.int64)
    for true, answer in zip(truth, answers, strict=True):
        counts[row_of[true], column_of[answer]] += 1
    return rows, columns, counts


def _ratio(part: Float64, whole: Float64) -> Float64:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
