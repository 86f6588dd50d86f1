"""What an evaluation found, line by line, and as a table for people."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seamlessalign.training.evaluation.details import failures_of
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


# reasons of what a system does not make, or says nothing in: what else is not there could not be read, heard or made
_NOT_MADE = (
    "no_sound", "no_output", "function_gave_nothing", "not_spoken", "not_translated", "unknown_language", "empty_text",
    "blank", "nothing_heard",
)  # fmt: skip


def table(result: Evaluation) -> str:
    """A Markdown table for people."""
    lines = ["| system | direction | measure | score (95 %) | rows | missing | against the baseline |"]
    lines.append("|---" * 7 + "|")
    values: dict[str, list[float]] = {}
    for line in result.lines:
        values.setdefault(line.score.measure, []).append(line.score.value)
    for line in result.lines:
        score, places = line.score, decimals(values[line.score.measure])
        told = decimal(score.value, places)
        if has_value(score.low) and has_value(score.high):
            told += f" ({decimal(score.low, places)} to {decimal(score.high, places)})"
        other = "" if line.comparison is None else difference(line.comparison, places)
        measure = f"{score.measure}, {line.condition}" if line.condition else score.measure
        lines.append(
            table_row([line.system, line.direction, measure, told, str(score.rows), str(score.missing), other])
        )
    signatures = dict.fromkeys(f"{line.score.measure}: {line.score.signature}" for line in result.lines)
    tests = dict.fromkeys(line.comparison.test for line in result.lines if line.comparison)
    return "\n".join([*lines, "", *signatures, *tests, *_not_asked(result)])


def table_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def has_value(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def decimal(value: float | None, places: int, sign: str = "") -> str:
    """A number for people; a dash where there is none."""
    return f"{value:{sign}.{places}f}" if has_value(value) else "–"


def difference(found: Comparison, places: int = 2) -> str:
    """A comparison for people, with so many decimals."""
    told = decimal(found.difference, places, "+")
    if has_value(found.low) and has_value(found.high):
        told += f" ({decimal(found.low, places, '+')} to {decimal(found.high, places, '+')})"
    return f"{told}, p = {found.p_value:.3f}" if has_value(found.p_value) else told


def set_aside(result: Evaluation) -> list[str]:
    """Outputs, sources and noise that could not be made, read or heard, in a line for each: they score as empty."""
    failed = failures_of((one.system, one.direction, one.condition, _failed(one)) for one in result.lines)
    made = result.translations
    for name, system in made.systems.items() if made is not None else ():
        counts = failed.setdefault(name, {})
        every = Counter[str]()
        for one in (system, *system.noisy.values()):
            every.update(one.set_aside)
        counts.update({reason: max(counts.get(reason, 0), count) for reason, count in every.items()})
    found = [
        f"{name}: set aside, and scored as empty: {told}" for name, counts in failed.items() if (told := _told(counts))
    ]
    sources = failures_of(("", one.direction, "", {"failed": _unheard(one)}) for one in result.lines)
    found += [f"sources that could not be heard: {told}" for counts in sources.values() if (told := _told(counts))]
    if made is not None and made.unreadable_noise:
        found.append(f"recordings of noise that cannot be read: {len(made.unreadable_noise):,}")
    return found


def _told(counts: Mapping[str, int]) -> str:
    """Reasons and how often; those of a side begin with it, `fra: blank`."""
    kept = {reason: count for reason, count in counts.items() if reason.rpartition(": ")[2] not in _NOT_MADE}
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(kept.items()))


def _failed(line: Line) -> Mapping[str, Mapping[str, int]]:
    """What failed, and what has no embedding: `outputs without an embedding` are told by reason too."""
    told = line.score.details
    found = dict(told.get("failed", {}))
    for key, counts in told.items():
        side, without, reason = key.partition(" without an embedding")
        if without:
            some = counts if isinstance(counts, dict) else {reason.removeprefix(": "): counts}
            found |= {f"{side}: {reason}": count for reason, count in some.items()}
    return {"failed": found}


def _unheard(line: Line) -> Mapping[str, int]:
    """Sources in which nothing could be heard, reason → count."""
    found: Mapping[str, int] = line.score.details.get("sources_not_heard", {})
    return found


def _not_asked(result: Evaluation) -> list[str]:
    made = result.translations.systems if result.translations else {}
    counts = {name: one.not_asked for name, one in made.items()}
    return [f"{name}: {count} outputs have ids that the rows have not" for name, count in counts.items() if count]
