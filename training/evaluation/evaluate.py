"""An evaluation: every measure of every system and direction, with intervals, comparisons, and what was missing."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.evaluation import heard, resampling, text
from seamlessalign.training.evaluation.config import EvaluationConfig, Resampling
from seamlessalign.training.evaluation.datasets.reading import read_test_set
from seamlessalign.training.evaluation.encoders.encoders_task import encoders
from seamlessalign.training.evaluation.encoders.mining_task import mining
from seamlessalign.training.evaluation.files import write_evaluation
from seamlessalign.training.evaluation.front_end import boundaries_task, lid_task
from seamlessalign.training.evaluation.learned import blaser, comet
from seamlessalign.training.evaluation.measures import Measured, Score
from seamlessalign.training.evaluation.pages.page import build_page
from seamlessalign.training.evaluation.resampling import Comparison
from seamlessalign.training.evaluation.responsible import gender, toxicity
from seamlessalign.training.evaluation.results import Evaluation, Line
from seamlessalign.training.evaluation.robustness import speakers
from seamlessalign.training.evaluation.robustness.noise_curves import with_noise_curves
from seamlessalign.training.evaluation.rows import TestRow, by_direction
from seamlessalign.training.evaluation.subjects import Subject, Tools, Translations
from seamlessalign.training.evaluation.systems.outputs import read_or_run

# system → direction and what is measured there
Found = dict[str, list[tuple[str, Measured]]]


# measures of translations: each gives what the configuration asks of it
FAMILIES: tuple[Callable[[Subject, Tools], Iterator[Measured]], ...] = (
    text.measured,
    heard.measured,
    blaser.measured,
    comet.measured,
    toxicity.measured,
    gender.measured,
    speakers.measured,
)
# what can be told of rows before anything is measured: each raises InputError
CHECKS: tuple[Callable[[Sequence[TestRow], EvaluationConfig], None], ...] = (
    blaser.check,
    comet.check,
    toxicity.check,
    gender.check,
    speakers.check,
)
# what else is measured, by its key of a configuration: each gets its section
TASKS: dict[str, Callable[[Any, Tools], Found]] = {
    "encoders": encoders,
    "mining": mining,
    "lid": lid_task.measured,
    "boundaries": boundaries_task.measured,
}


def evaluate(config: EvaluationConfig, say: Callable[[str], None] = lambda _: None) -> Evaluation:
    """Measure, and write the files of an evaluation to the output's folder.

    say: is told how far it is. Raises InputError for rows and outputs that do not fit together, StorageError
    where the folder cannot be written to.
    """
    tools = Tools(config, say)
    found: dict[str, Found] = {}
    translations = None
    if config.rows is not None:
        translations = _read_translations(config, say)
        found["translation"] = _translation(translations, tools)
    else:
        _check_writable(config.output)
    for name in config.tasks():
        found[name] = TASKS[name](getattr(config, name), tools)
    baselines = {name: next(iter(systems)) for name, systems in found.items()}
    if config.baseline is not None:
        baselines["translation"] = config.baseline
    lines = [line for name, systems in found.items() for line in _lines(name, systems, baselines[name], config)]
    result = Evaluation(with_noise_curves(lines), baselines, translations)
    write_evaluation(config.output, found, result)
    build_page(config.output)
    return result


def _check_writable(output: str) -> None:
    """Raise StorageError unless a folder can be written to, before anything takes long; a new one is left for later."""
    new = not storage.exists(output)
    storage.check_writable(output)
    if new and storage.is_local(output):
        with contextlib.suppress(OSError):
            storage.local_path(output).rmdir()


def _read_translations(config: EvaluationConfig, say: Callable[[str], None]) -> Translations:
    assert config.rows is not None
    if not config.systems:
        raise ConfigError("there are rows, but no systems whose outputs are measured: give systems")
    read = read_test_set(config.rows, say)
    empty = [row.id for row in read.rows if not row.references]
    if empty and config.measures.need_references:
        raise InputError(f"{config.rows.place}: {len(empty)} rows have no reference, such as {empty[0]}")
    for check in CHECKS:
        check(read.rows, config)
    made = read_or_run(config, read.rows, say)
    if any(one.sound is not None for system in made.systems.values() for one in system.outputs):
        heard.check_languages(config, read.rows)
    _check_writable(config.output)
    data_set = read.to_json() if config.rows.dataset else {}
    return Translations(read.rows, made.systems, data_set=data_set, noise=made.noise, unreadable_noise=made.unreadable)


def _translation(translations: Translations, tools: Tools) -> Found:
    found: Found = {}
    for name, made in translations.systems.items():
        spoke = any(one.sound is not None for one in made.outputs)
        wrote = not spoke or any(one.text is not None for one in made.outputs)  # what made nothing wrote nothing
        found[name] = []
        for direction, places in by_direction(translations.rows).items():
            rows = [translations.rows[i] for i in places]
            subject = Subject(name, rows, [made.outputs[i] for i in places], wrote, spoke, tools)
            for family in FAMILIES:
                found[name] += [(direction, one) for one in family(subject, tools)]
            for condition, noisy in made.noisy.items():
                outputs = [noisy.outputs[i] for i in places]
                under = Subject(name, rows, outputs, wrote, spoke, tools, condition)
                noise = translations.noise[condition]
                for family in FAMILIES:
                    for one in family(under, tools):
                        told = replace(one, condition=condition, signature=f"{one.signature}|{noise}")
                        found[name].append((direction, told))
            if subject.was_heard:
                translations.heard.setdefault(name, {}).update(zip(subject.ids(), subject.heard().texts, strict=True))
    return found


def _lines(task: str, systems: Found, baseline: str, config: EvaluationConfig) -> Iterator[Line]:
    first = {(direction, one.measure, one.condition): one for direction, one in systems[baseline]}
    for name, some in systems.items():
        for direction, one in some:
            other = first.get((direction, one.measure, one.condition)) if name != baseline else None
            against = None if other is None else compared(other, one, config.resampling)
            yield Line(task, one.kind, name, direction, one.condition, scored(one, config.resampling), against)


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
        row_signature=measured.row_signature,
    )


def compared(baseline: Measured, system: Measured, settings: Resampling) -> Comparison:
    """How a system differs from the baseline. Raises InputError where they were not measured in the same way."""
    if baseline.signature != system.signature:
        raise InputError(f"{system.measure}: {baseline.signature} and {system.signature} cannot be compared")
    if list(baseline.ids) != list(system.ids):
        raise InputError(f"{system.measure}: {baseline.kind} of both systems is of other rows")
    return resampling.compared(baseline.statistics, system.statistics, system.score, settings)
