"""What an evaluation found, line by line, and as a table for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seamlessalign.training.evaluation.measures import Score, decimals
from seamlessalign.training.evaluation.resampling import Comparison
from seamlessalign.training.evaluation.subjects import Translations


@dataclass(frozen=True)
class Line:
    """A score, and how it differs from the baseline's."""

    task: str  # translation, or the key of a configuration under which something else is measured
    kind: str
    system: str
    direction: str  # as the task has it: two languages, one, or none
    condition: str
    score: Score
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "system": self.system,
            "direction": self.direction,
            **({"condition": self.condition} if self.condition else {}),
            "kind": self.kind,
            **self.score.to_json(),
            **({"against_baseline": self.comparison.to_json()} if self.comparison else {}),
        }


@dataclass(frozen=True)
class Evaluation:
    """All lines; of each task the system with which the others are compared; and the translations, if any."""

    lines: Sequence[Line]
    baselines: Mapping[str, str]
    translations: Translations | None = None


def table(result: Evaluation) -> str:
    """A Markdown table for people."""
    lines = ["| system | direction | measure | score (95 %) | rows | missing | against the baseline |"]
    lines.append("|---" * 7 + "|")
    values: dict[str, list[float]] = {}
    for line in result.lines:
        values.setdefault(line.score.measure, []).append(line.score.value)
    for line in result.lines:
        score, places = line.score, decimals(values[line.score.measure])
        told = f"{score.value:.{places}f} ({score.low:.{places}f} to {score.high:.{places}f})"
        other = "" if line.comparison is None else difference(line.comparison, places)
        measure = f"{score.measure}, {line.condition}" if line.condition else score.measure
        cells = [line.system, line.direction, measure, told, str(score.rows), str(score.missing), other]
        lines.append("| " + " | ".join(cells) + " |")
    signatures = dict.fromkeys(f"{line.score.measure}: {line.score.signature}" for line in result.lines)
    tests = dict.fromkeys(line.comparison.test for line in result.lines if line.comparison)
    return "\n".join([*lines, "", *signatures, *tests, *_not_asked(result)])


def difference(found: Comparison, places: int = 2) -> str:
    """A comparison for people, with so many decimals."""
    low, high = (f"{edge:+.{places}f}" for edge in (found.low, found.high))
    return f"{found.difference:+.{places}f} ({low} to {high}), p = {found.p_value:.3f}"


def _not_asked(result: Evaluation) -> list[str]:
    made = result.translations.systems if result.translations else {}
    counts = {name: one.not_asked for name, one in made.items()}
    return [f"{name}: {count} outputs have ids that the rows have not" for name, count in counts.items() if count]
