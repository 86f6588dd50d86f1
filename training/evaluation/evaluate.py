"""An evaluation: every measure of every system and direction, with intervals, comparisons, and what was missing."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation import resampling
from seamlessalign.training.evaluation.asr import (
    FunctionRecogniser,
    HeardSounds,
    Recogniser,
    WhisperRecogniser,
    hear_sounds,
)
from seamlessalign.training.evaluation.config import EvaluationConfig, Resampling
from seamlessalign.training.evaluation.measures import Float64, Measure, Score
from seamlessalign.training.evaluation.resampling import Comparison, ScoreOf
from seamlessalign.training.evaluation.rows import SystemOutputs, TestRow, by_direction, read_outputs, read_test_rows
from seamlessalign.training.evaluation.text import heard_measure, text_measure
from seamlessalign.typed_config import digest


@dataclass(frozen=True)
class Measured:
    """What a measure finds in rows of one direction that a system translated."""

    kind: str  # as configurations call the measure
    measure: str  # as tables do
    signature: str
    higher_is_better: bool
    statistics: Float64  # (num_rows, num_statistics)
    score: ScoreOf  # of sums of statistics
    missing: int = 0  # rows without an output: they count as if it were empty
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line of the result: a score, and how it differs from the baseline's."""

    kind: str
    system: str
    direction: str
    score: Score
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Evaluation:
    """All lines, and what did not fit."""

    lines: list[Line]
    rows: int
    missing: dict[str, list[str]]  # system → ids of rows for which it has nothing
    not_asked: dict[str, int]  # system → outputs of ids that the test set has not
    baseline: str


def evaluate(config: EvaluationConfig, say: Callable[[str], None] = lambda _: None) -> Evaluation:
    """Measure, and write `evaluation.json` and `statistics.parquet` to the output's folder.

    say: is told how far it is. Raises InputError for rows and outputs that do not fit together.
    """
    rows = read_test_rows(
        config.rows.path,
        config.rows.columns,
        src_lang=config.rows.src_lang,
        tgt_lang=config.rows.tgt_lang,
    )
    systems = {name: read_outputs(name, system.path, rows, system.columns) for name, system in config.systems.items()}
    baseline = config.baseline or next(iter(systems))
    measuring = _Measuring(config, rows, say)
    found = {name: measuring.system(outputs) for name, outputs in systems.items()}
    lines = []
    for name, measured in found.items():
        for (direction, measure), one in measured.items():
            score = scored(one, config.resampling)
            other = found[baseline].get((direction, measure)) if name != baseline else None
            against = None if other is None else compared(other, one, config.resampling)
            lines.append(Line(one.kind, name, direction, score, against))
    result = Evaluation(
        lines,
        len(rows),
        {name: one.missing for name, one in systems.items()},
        {name: one.not_asked for name, one in systems.items()},
        baseline,
    )
    _write(config, rows, found, result)
    return result


class _Measuring:
    """Measuring one system after the other, with one recogniser."""

    def __init__(self, config: EvaluationConfig, rows: Sequence[TestRow], say: Callable[[str], None]) -> None:
        self._config, self._rows, self._say = config, rows, say
        empty = [row.id for row in rows if not row.references]
        if empty:
            raise InputError(f"{config.rows.path}: {len(empty)} rows have no reference, such as {empty[0]}")

    @cached_property
    def _recogniser(self) -> Recogniser:
        asr = self._config.measures.asr
        if asr.function is not None:
            return FunctionRecogniser(asr.function)
        return WhisperRecogniser(asr.whisper, asr.directory, asr.device)

    def system(self, outputs: SystemOutputs) -> dict[tuple[str, str], Measured]:
        """(direction, measure) → what is found, of text and of speech where the system made some."""
        measures = self._config.measures
        found: dict[tuple[str, str], Measured] = {}
        texts, sounds = outputs.texts(), outputs.sounds()
        for direction, places in by_direction(self._rows).items():
            lang, measured = direction.partition("-")[2], []
            if any(text is not None for text in texts):
                some = [texts[i] for i in places]
                for name in measures.text:
                    measure = text_measure(name, lang, sentencepiece=measures.sentencepiece)
                    measured.append(self._measured(name, measure, some, places))
            if measures.speech and any(sound is not None for sound in sounds):
                heard = self._heard(outputs.name, direction, [sounds[i] for i in places])
                for spoken in measures.speech:
                    measure = heard_measure(spoken, lang, self._recogniser.signature)
                    failed = dict(Counter(heard.failed.values()))
                    measured.append(self._measured(spoken, measure, heard.texts, places, failed))
            found |= {(direction, one.measure): one for one in measured}
        return found

    def _heard(self, name: str, direction: str, sounds: Sequence[Sound | None]) -> HeardSounds:
        kept = Path(storage.local_path(self._config.measures.asr.kept or storage.join(self._config.output, "asr")))
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            self._say(f"{name}, {direction}: {done} of {len(sounds)} outputs heard")

        return hear_sounds(sounds, direction.partition("-")[2], self._recogniser, kept, progress)

    def _measured(
        self,
        kind: str,
        measure: Measure,
        texts: Sequence[str | None],
        places: Sequence[int],
        failed: dict[str, int] | None = None,
    ) -> Measured:
        references = [self._rows[i].references for i in places]
        return Measured(
            kind,
            measure.name,
            measure.signature(len(references[0])),
            measure.higher_is_better,
            measure.statistics([text or "" for text in texts], references),
            measure.score,
            missing=sum(text is None for text in texts),
            details={"failed": failed} if failed else {},
        )


def scored(measured: Measured, settings: Resampling) -> Score:
    """A score with its interval."""
    draws = resampling.bootstrap(measured.statistics, measured.score, settings.samples, settings.seed)
    low, high = resampling.interval(draws)
    return Score(
        measured.measure,
        measured.score(measured.statistics.sum(0)),
        f"{measured.signature}|bs:{settings.samples}|seed:{settings.seed}",
        rows=len(measured.statistics),
        missing=measured.missing,
        low=low,
        high=high,
        higher_is_better=measured.higher_is_better,
        details=measured.details,
    )


def compared(baseline: Measured, system: Measured, settings: Resampling) -> Comparison:
    """How a system differs from the baseline. Raises InputError where they were not measured in the same way."""
    if baseline.signature != system.signature:
        raise InputError(f"{system.measure}: {baseline.signature} and {system.signature} cannot be compared")
    rows = baseline.statistics, system.statistics
    if settings.test == "randomisation":
        return resampling.paired_randomisation(*rows, system.score, settings.exchanges, settings.seed)
    return resampling.paired_bootstrap(*rows, system.score, settings.samples, settings.seed)


def table(result: Evaluation) -> str:
    """A Markdown table for people."""
    lines = [f"| system | direction | measure | score (95 %) | rows | missing | against {result.baseline} |"]
    lines.append("|---" * 7 + "|")
    for line in result.lines:
        score = line.score
        told = f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"
        other = "" if line.comparison is None else difference(line.comparison)
        cells = [line.system, line.direction, score.measure, told, str(score.rows), str(score.missing), other]
        lines.append("| " + " | ".join(cells) + " |")
    signatures = dict.fromkeys(f"{line.score.measure}: {line.score.signature}" for line in result.lines)
    others = [
        f"{name}: {number} outputs have ids that the rows have not"
        for name, number in result.not_asked.items()
        if number
    ]
    return "\n".join([*lines, "", *signatures, *others])


def difference(found: Comparison) -> str:
    """A comparison for people."""
    return f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f}), p = {found.p_value:.3f}"


# Files


def _write(
    config: EvaluationConfig,
    rows: Sequence[TestRow],
    found: dict[str, dict[tuple[str, str], Measured]],
    result: Evaluation,
) -> None:
    """`evaluation.json` has what is told, `statistics.parquet` the numbers of each row, of which scores are made."""
    places, lines = by_direction(rows), []
    for system, measured in found.items():
        for (direction, measure), one in measured.items():
            for place, numbers in zip(places[direction], one.statistics.tolist(), strict=True):
                lines.append(
                    {
                        "system": system,
                        "direction": direction,
                        "measure": measure,
                        "id": rows[place].id,
                        "statistics": numbers,
                    }
                )
    storage.write_table(storage.join(config.output, "statistics.parquet"), pa.Table.from_pylist(lines))
    told = {
        "rows": result.rows,
        "digest of rows": digest([(row.id, row.src_lang, row.tgt_lang, row.references) for row in rows]),
        "baseline": result.baseline,
        "systems": {
            name: {"missing": result.missing[name], "not_asked": result.not_asked[name]} for name in config.systems
        },
        "scores": [
            {
                "system": line.system,
                "direction": line.direction,
                "kind": line.kind,
                **line.score.to_json(),
                **({"against_baseline": vars(line.comparison)} if line.comparison else {}),
            }
            for line in result.lines
        ],
    }
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(storage.join(config.output, "evaluation.json"), text.encode())
