"""Running systems on the rows of a test set, each into a folder of its own, where a run that was killed goes on."""

import hashlib
import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, StorageError, UnreadableError
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.evaluation.functions import load_function
from seamlessalign.training.evaluation.robustness.noise import Condition, NoiseMaker
from seamlessalign.training.evaluation.rows import Output, SystemOutputs, TestRow
from seamlessalign.training.evaluation.systems.system_settings import System
from seamlessalign.training.evaluation.systems.whisper_system import task_of
from seamlessalign.training.unity.source_tables import Chunk, TableRow
from seamlessalign.typed_config import digest

Input = Literal["speech", "text"]

# reasons of rows that have a text all the same
_WITH_TEXT = ("no_units", "not_spoken")


@dataclass(frozen=True)
class AskedRows:
    """Rows of a test set as a table to be translated: their text, or their speech, which may be noisy."""

    rows: Sequence[TestRow]
    input: Input
    noise: tuple[NoiseMaker, Condition] | None = None

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def chunks(self, rows: int) -> list[Chunk]:
        """In their order, at most so many together."""
        count = len(self.rows)
        return [Chunk("", first, min(first + rows, count), first) for first in range(0, count, rows)]

    def read(self, chunk: Chunk) -> list[TableRow]:
        """Speech is read where it is made noisy only."""
        return [self._row(row) for row in self.rows[chunk.first : chunk.last]]

    def plan(self) -> dict[str, Any]:
        """What of the rows changes what is made of them."""
        return {
            "rows": digest([(row.id, row.src_lang, row.tgt_lang, row.src_text) for row in self.rows]),
            "input": self.input,
            "sound": self._sound_versions() if self.input == "speech" else None,
            "noise": [self.noise[0].signature(self.noise[1]), self.noise[0].voices_digest()] if self.noise else None,
        }

    def _sound_versions(self) -> str:
        """Changes with the files that the rows' speech is in."""
        sounds = [row.src_sound for row in self.rows]
        files = sorted({sound.path for sound in sounds if sound is not None and not sound.content})
        versions = {file: str(found) for file, found in storage.versions(files).items()}
        return digest(versions, [None if one is None else _place_of(one) for one in sounds])

    def _row(self, row: TestRow) -> TableRow:
        place = f"row {row.id}"
        made = TableRow(place, row.id, row.src_lang, row.tgt_lang, None, None)
        if self.input == "text":
            if row.src_text is None:
                return replace(made, unreadable=UnreadableError("missing", f"{place}: has no src_text"))
            return replace(made, text=row.src_text)
        if row.src_sound is None:
            return replace(made, unreadable=UnreadableError("missing", f"{place}: has no src_audio"))
        if self.noise is None:
            return replace(made, sound=row.src_sound)
        maker, condition = self.noise
        try:
            return replace(made, samples=maker.noisy(row, condition, load_sound(row.src_sound, "", place)))
        except UnreadableError as error:
            return replace(made, unreadable=error)


@dataclass
class Runner:
    """A system that can be run: its settings, what it can do, and what does it, which is loaded once."""

    name: str
    input: Input
    chunk: int
    settings: dict[str, Any]  # all that changes what it makes
    can: Callable[[TestRow], bool]  # by the languages of a row
    load: Callable[[], Any]  # a Worker
    _loaded: list[Any] = field(default_factory=list)

    def run(
        self,
        rows: Sequence[TestRow],
        folder: Path,
        say: Callable[[str], None],
        noise: tuple[NoiseMaker, Condition] | None = None,
    ) -> SystemOutputs:
        """What it makes of rows, in a folder that has what another run made already.

        Raises ConfigError where the folder holds something else.
        """
        from seamlessalign.training.unity.translation_folder import translate_into

        table = AskedRows(rows, self.input, noise)
        what = f"{self.name}, {noise[1]}" if noise else self.name
        done = translate_into(
            folder,
            table,
            {**table.plan(), "chunk": self.chunk, **self.settings},
            self._worker,
            chunk=self.chunk,
            progress=lambda line: say(f"{what}: {line}"),
        )
        for reason, count in done.set_aside.items():
            say(f"{what}: {count:,} set aside: {reason} (first: {done.first[reason]})")
        made = _outputs(self.name, folder, done.path, self.settings)
        if len(made.outputs) != len(rows):
            raise StorageError(f"{done.path}: has {len(made.outputs)} rows of {len(rows)}: remove {folder}")
        return made

    def _worker(self) -> Any:
        if not self._loaded:
            self._loaded.append(self.load())
        return self._loaded[0]


def prepare(name: str, system: System, rows: Sequence[TestRow], say: Callable[[str], None], *, speak: bool) -> Runner:
    """A system that is run, looked at before anything is run.

    say: is told of rows that it can't translate. speak: whether speech is measured. Raises ConfigError, ModelError or
    InputError for a model that is none, rows without what it is to read, and languages that it has not.
    """
    runner = _PREPARE[next(kind for kind in _PREPARE if getattr(system, kind) is not None)](name, system, rows, speak)
    _check_input(runner, rows)
    cannot = Counter(row.direction for row in rows if not runner.can(row))
    if cannot:
        told = ", ".join(f"{direction} ({count})" for direction, count in sorted(cannot.items()))
        if cannot.total() == len(rows):
            raise ConfigError(f"systems.{name}: has none of the languages of the rows: {told}")
        say(
            f"{name}: {cannot.total()} of {len(rows)} rows are in languages that it has not, and count as empty: {told}"
        )
    return runner


def folder_of(output: str, name: str, condition: Condition | None = None) -> Path:
    """Where a system's outputs are kept. Raises ConfigError for an output's folder that is elsewhere."""
    if not storage.is_local(output):
        raise ConfigError(
            f"output is {output}: systems that are run keep what they make on a local disk; give a folder"
        )
    part = "clean" if condition is None else f"{condition.kind}_{condition.snr:g}"
    root = Path(storage.local_path(storage.join(output, "translations")))
    return root / _file_name(name) / _file_name(part)


def _file_name(name: str) -> str:
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def _place_of(sound: Sound) -> list[Any]:
    """What a sound is known by, besides the version of its file."""
    if sound.content:
        return [hashlib.sha256(sound.content).hexdigest()]
    return [sound.path, sound.row, sound.column]


# Kinds of systems


def _model(name: str, system: System, rows: Sequence[TestRow], speak: bool) -> Runner:
    from seamlessalign.training.unity.generation import TEXT_SEARCH, UNIT_SEARCH, BatchLimits
    from seamlessalign.training.unity.model import load_config
    from seamlessalign.training.unity.translate import TranslationJob, load_worker, plan_of, resolve_language
    from seamlessalign.training.vocabulary import load_text_vocabulary

    shared: dict[str, Any] = {"beam": system.beam, "length_penalty": system.length_penalty}
    model = system.model or ""
    job = TranslationJob(
        model=model,
        speak=speak if system.speak is None else system.speak,
        spoken_only=False,
        speaker=system.speaker,
        vocoder=system.vocoder,
        text_search=replace(TEXT_SEARCH, **shared, no_repeat_ngram=system.no_repeat_ngram),
        unit_search=replace(UNIT_SEARCH, **shared),
        max_seconds=system.max_seconds,
        chunk=system.chunk,
        device=system.device,
        precision=system.precision,
        batches=BatchLimits(rows=system.batch),
    )
    load_config(Path(model))
    known = load_text_vocabulary(model).languages
    kind = _input(name, system, rows)

    def can(row: TestRow) -> bool:
        try:
            for lang in (row.tgt_lang, row.src_lang) if kind == "text" else (row.tgt_lang,):
                resolve_language(lang, known)
        except ConfigError:
            return False
        return True

    def load() -> Any:
        worker = load_worker(job)
        if system.speak:
            worker.translator.check_spoken([], job.speaker)
        return worker

    return Runner(name, kind, system.chunk, plan_of(job), can, load)


def _whisper(name: str, system: System, rows: Sequence[TestRow], speak: bool) -> Runner:
    from seamlessalign.model_files import find_model
    from seamlessalign.training.evaluation.systems.whisper_system import WhisperWorker
    from seamlessalign.whisper import load_whisper

    model = system.whisper or ""
    settings = {
        "whisper": model,
        "sha256": find_model(model, system.directory).sha256,
        "task": system.task or "as languages ask for",
        "beam": 1,
        "temperature": 0,
    }

    def load() -> Any:
        import torch

        has_gpu = system.device == "auto" and torch.cuda.is_available()
        device = ("cuda" if has_gpu else "cpu") if system.device == "auto" else system.device
        return WhisperWorker(load_whisper(model, system.directory, device), system.task)

    return Runner(
        name,
        "speech",
        system.chunk,
        settings,
        lambda row: task_of(row.src_lang, row.tgt_lang, system.task) is not None,
        load,
    )


def _function(name: str, system: System, rows: Sequence[TestRow], speak: bool) -> Runner:
    from seamlessalign.training.evaluation.systems.function_system import FunctionWorker

    place = system.function or ""
    function = load_function(place, f"systems.{name}.function")
    file = getattr(importlib.import_module(place.partition(":")[0]), "__file__", None)
    settings = {
        "function": str(getattr(function, "signature", place)),
        "sha256": storage.sha256_of(Path(file)) if file else None,  # of what it is written in
    }
    kind = _input(name, system, rows)
    return Runner(name, kind, system.chunk, settings, lambda row: True, lambda: FunctionWorker(function))


_PREPARE: Mapping[str, Callable[[str, System, Sequence[TestRow], bool], Runner]] = {
    "model": _model,
    "whisper": _whisper,
    "function": _function,
}


def _input(name: str, system: System, rows: Sequence[TestRow]) -> Input:
    if system.input is not None:
        return system.input
    speech, text = _have(rows, "speech"), _have(rows, "text")
    if speech and text:
        raise ConfigError(f"systems.{name}: the rows have both speech and text: give input: speech, or input: text")
    return "speech" if speech else "text"


def _check_input(runner: Runner, rows: Sequence[TestRow]) -> None:
    if not _have(rows, runner.input):
        column = "src_audio" if runner.input == "speech" else "src_text"
        raise InputError(f"systems.{runner.name}: reads {runner.input}, but the rows have none: no {column}")


def _have(rows: Sequence[TestRow], what: Input) -> bool:
    return any((row.src_sound if what == "speech" else row.src_text) is not None for row in rows)


# What was made


def _outputs(name: str, folder: Path, finished: str, settings: dict[str, Any]) -> SystemOutputs:
    outputs, ids, set_aside = [], [], Counter[str]()
    columns = ["id", "hypothesis", "score", "speech", "reason"]
    for row in storage.read_table(finished, columns).to_pylist():
        reason = row["reason"]
        spoke_only = not row["hypothesis"] and row["score"] is None and row["speech"] is not None
        failed = reason is not None and reason not in _WITH_TEXT
        text = None if failed or spoke_only else row["hypothesis"]
        sound = None if row["speech"] is None else Sound(str(folder / row["speech"]))
        outputs.append(Output(text, sound, reason))
        ids.append(row["id"])
        if reason is not None:
            set_aside[reason] += 1
    missing = [key for key, one in zip(ids, outputs, strict=True) if one.text is None and one.sound is None]
    return SystemOutputs(name, outputs, missing, set_aside=dict(sorted(set_aside.items())), settings=settings)
