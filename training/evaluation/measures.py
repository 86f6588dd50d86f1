"""What a measure is: numbers of each row that are summed, and a score that follows from the sums.

BLEU is made of counts of n-grams, an error rate of edits and words, a mean of values and ones. Because sums are enough,
any measure is resampled in the same way: rows are drawn, their numbers summed, and the score taken of the sums.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Float64 = npt.NDArray[np.float64]
ScoreOf = Callable[[Float64], float]


class Measure(Protocol):
    """A measure of rows that have a hypothesis and one or more references."""

    @property
    def name(self) -> str:
        """As in tables: `BLEU`, `chrF2++`, `WER`."""

    def signature(self, num_references: int = 1) -> str:
        """All settings on which a score depends, and versions, as `key:value` between bars; see `num_references`."""

    @property
    def higher_is_better(self) -> bool: ...

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Float64:
        """Numbers of each row, `(num_rows, num_statistics)`; references: of each row one or more."""

    def score(self, sums: Float64) -> float:
        """The score of the rows whose numbers have these sums, `(num_statistics,)`; nan where it has none."""

    def row_score(self, numbers: Float64) -> float:
        """The score of one row by itself, `(num_statistics,)`; nan where it has none."""

    def row_signature(self, num_references: int = 1) -> str:
        """`signature` of the scores of rows by themselves."""


@dataclass(frozen=True)
class Measured:
    """What a measure finds in rows that one system answered, in one direction and under one condition."""

    kind: str  # as configurations call the measure; says how a score follows from sums (`scores.score_of`)
    measure: str  # as tables do
    signature: str
    higher_is_better: bool
    ids: Sequence[str]  # what each row of the statistics is: a row of the test set, or a group of them
    statistics: Float64  # (num_rows, num_statistics)
    score: ScoreOf  # of sums of statistics
    row_score: ScoreOf | None = None  # of the numbers of one row, where that is not `score`
    row_signature: str = ""  # of the scores of rows, where that is not `signature`
    condition: str = ""  # under which the system answered, such as noise:10
    missing: int = 0  # rows without an output: they count as if it were empty
    details: dict[str, Any] = field(default_factory=dict)  # plain values, in forms of details.py where shown
    behind: Sequence[dict[str, Any]] = ()  # the rows behind a count: id, what, and what is to be read there

    def row_scores(self) -> list[float]:
        """The score of each row by itself; nan where it has none."""
        return [(self.row_score or self.score)(numbers) for numbers in self.statistics]


@dataclass(frozen=True)
class Score:
    """A number with what is needed to believe it."""

    measure: str
    value: float
    signature: str
    rows: int  # that count, those without an output included
    missing: int = 0  # of them without an output: scored as if it were empty
    low: float | None = None  # of the interval of 95 % by bootstrap
    high: float | None = None
    higher_is_better: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    row_signature: str = ""  # of the scores of rows by themselves, where it differs

    def __str__(self) -> str:
        told = f"{self.measure} {self.value:.2f}"
        if self.low is not None and self.high is not None:
            told += f" ({self.low:.2f} to {self.high:.2f})"
        told += f", {self.rows} rows"
        if self.missing:
            told += f" ({self.missing} without an output)"
        return f"{told}, {self.signature}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; a number that is not there is null."""
        return {
            "measure": self.measure,
            "score": _plain(self.value),
            "low": _plain(self.low),
            "high": _plain(self.high),
            "rows": self.rows,
            "missing": self.missing,
            "higher_is_better": self.higher_is_better,
            "signature": self.signature,
            **({"row_signature": self.row_signature} if self.row_signature else {}),
            **({"details": self.details} if self.details else {}),
        }


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


@dataclass(frozen=True)
class RowMean:
    """The mean of a value of each row, `(num_rows,)`, as a measure; rows whose value is nan do not count."""

    name: str
    signature: str
    higher_is_better: bool = True
    factor: float = 1.0  # 100 for a share in per cent

    def of(self, values: npt.ArrayLike) -> Float64:
        """The statistics of values."""
        found = np.asarray(values, np.float64)
        there = np.isfinite(found)
        return np.stack([np.where(there, found, 0.0), there.astype(np.float64)], axis=1)

    def score(self, sums: Float64) -> float:
        return self.factor * ratio(sums)


def ratio(sums: Float64) -> float:
    """The first sum over the second: a mean of values and ones, a rate of errors and words; nan over nothing."""
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def percentage(sums: Float64) -> float:
    """`ratio` in per cent."""
    return 100 * ratio(sums)


def f1_percentage(sums: Float64) -> float:
    """F1 in per cent, of how many pairs are right and how many there are, how many items are found and how many there
    are: 0 where nothing is found, nan where there is nothing to find.
    """
    right, predicted, found, items = sums
    if not (right and found):
        return 0.0 if items else float("nan")
    precision, recall = right / predicted, found / items
    return float(100 * 2 * precision * recall / (precision + recall))


def decimals(values: Iterable[float | None]) -> int:
    """Decimals that tell scores of a measure apart: 2 of percentages, 3 of marks from 1 to 5, 4 of shares."""
    largest = max((abs(value) for value in values if value is not None and np.isfinite(value)), default=0.0)
    return 2 if largest > 5 or not largest else 3 if largest > 1.5 else 4


def check_rows(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise InputError unless there are as many hypotheses as rows of references, and each row has a reference."""
    if len(hypotheses) != len(references):
        raise InputError(f"{len(hypotheses)} hypotheses have {len(references)} references: give one for each row")
    if not len(hypotheses):
        raise InputError("there are no rows to measure")
    if not all(references):
        raise InputError("each row needs references")


def num_references(references: Sequence[Sequence[str]]) -> int:
    """How many references each row has; -1, as sacrebleu has it, where rows have different numbers."""
    counts = {len(some) for some in references}
    return counts.pop() if len(counts) == 1 else -1


def references_told(count: int) -> str:
    """A number of references in a signature."""
    return f"nrefs:{'var' if count < 0 else count}"
