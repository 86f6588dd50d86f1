"""Translating with a UnitY model: a text, or a whole table into a folder, where a job that was killed goes on."""

import contextlib
import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from seamlessalign import storage
from seamlessalign.embedders.sonar.features import MIN_SAMPLES
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.languages import find_language
from seamlessalign.training.unity.generation import (
    BatchLimits,
    Precision,
    Source,
    Translation,
    Translator,
    load_translator,
)
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.unity.source_tables import SourceTable, TableRow, load_waveform
from seamlessalign.training.unity.translation_folder import (
    Translated,
    told_of,
    translate_into,
    wav_bytes,
    write_sound,
)

MAX_SECONDS = 50.0  # of speech in one piece; what the published models learnt from is no longer
MAX_TOKENS = 1024  # of a text in one piece


@dataclass(frozen=True)
class TranslationJob:
    """How a table is translated."""

    model: str  # folder
    tgt_lang: str | None = None  # None: rows say
    src_lang: str | None = None
    speak: bool = False
    spoken_only: bool = True  # rows of languages that it does not speak are set aside; else they have text, no speech
    speaker: int = 0
    vocoder: str | None = None  # folder of one that speaks in place of the model's own
    text_search: SearchOptions = field(default_factory=SearchOptions)
    unit_search: SearchOptions = field(default_factory=SearchOptions)
    max_seconds: float = MAX_SECONDS
    chunk: int = 256  # rows that are written at a time; among them those of like length share batches
    format: Literal["parquet", "jsonl"] = "parquet"
    device: str = "auto"
    precision: Precision = "no"
    batches: BatchLimits = field(default_factory=BatchLimits)


def translate_table(
    table: SourceTable, output: str, job: TranslationJob, progress: Callable[[str], None] | None = None
) -> Translated:
    """Translate every row of a table into a folder; the same call goes on from wherever another stopped.

    Args:
        table: what to translate.
        output: the folder.
        job: how.
        progress: called with a line for people after each chunk.

    Raises:
        ConfigError: the folder holds another translation, or a language or speaker that the model does not have.
        InputError: the table cannot be read, or lacks a language.
        ModelError: the model cannot be loaded.
        StorageError: the folder cannot be written or read back.
    """
    if job.tgt_lang is None and "tgt_lang" not in table.columns:
        raise InputError(f"{table.place}: has no column of languages to translate into; give --to")
    if job.src_lang is None and "text" in table.columns and "src_lang" not in table.columns:
        raise InputError(f"{table.place}: has no column of the texts' languages; give --from")
    read = {"input": {file: storage.version(file) for file in table.files}, "columns": table.columns}
    return translate_into(
        Path(output),
        table,
        read | plan_of(job),
        lambda: load_worker(job),
        chunk=job.chunk,
        kind=job.format,
        progress=progress,
    )


def resolve_language(code: str, known: Collection[str]) -> str:
    """A model's own code for a language that is told by that, or by any code that `find_language` knows.

    Raises ConfigError that names the nearest of the model's.
    """
    if code in known:
        return code
    name, wanted = "", code
    with contextlib.suppress(ConfigError):
        language = find_language(code)
        name, wanted = f" ({language.name})", language.iso639_3
    if wanted in known:
        return wanted
    near = difflib.get_close_matches(wanted, sorted(known), n=1, cutoff=0.0)
    raise ConfigError(f"language {code!r}{name}: is none of the model's {len(known)}; the nearest is {near[0]!r}")


def load_worker(job: TranslationJob) -> "ModelWorker":
    """A job's model, loaded. Raises ModelError; ConfigError for a language or speaker that it does not have."""
    translator = load_translator(
        job.model,
        device=job.device,
        precision=job.precision,
        vocoder=job.vocoder,
        text_search=job.text_search,
        unit_search=job.unit_search,
        batches=job.batches,
    )
    return ModelWorker(translator, job)


class ModelWorker:
    """A job with its model."""

    def __init__(self, translator: Translator, job: TranslationJob) -> None:
        """Raises ConfigError for a language or speaker that the model does not have."""
        self.job, self.translator = job, translator
        self.known = set(translator.text.languages)
        given = {code: resolve_language(code, self.known) for code in (job.tgt_lang, job.src_lang) if code is not None}
        if job.speak and job.spoken_only:
            translator.check_spoken([given[job.tgt_lang]] if job.tgt_lang is not None else [], job.speaker)

    def translate(self, rows: Sequence[TableRow], before: int, folder: Path) -> list[dict[str, Any]]:
        """Rows of `TRANSLATIONS`, with their sound written; `before` rows of the table come before these."""
        sources: list[Source] = []
        places: list[int] = []
        lines = [told_of(row, self.job.src_lang, self.job.tgt_lang) for row in rows]
        for i, row in enumerate(rows):
            try:
                sources.append(self.source(row))
                places.append(i)
            except UnreadableError as error:
                lines[i] |= {"reason": error.reason, "detail": error.detail}
        translations = self._translations(sources)
        for i, source, translation in zip(places, sources, translations, strict=True):
            lines[i] |= _told(translation) | {"tgt_lang": source.tgt_lang}
            if source.src_lang is not None:
                lines[i]["src_lang"] = source.src_lang
            if translation.waveform is None:
                if self.job.speak:
                    told = f"{rows[i].place}: the model does not speak {source.tgt_lang}"
                    lines[i] |= {"reason": "not_spoken", "detail": told}
            elif not len(translation.waveform):
                lines[i] |= {"reason": "no_units", "detail": f"{rows[i].place}: the model makes no speech of its text"}
            else:
                lines[i]["speech"] = write_sound(folder, before + i, translation.waveform)
        return lines

    def _translations(self, sources: Sequence[Source]) -> list[Translation]:
        """In their order, spoken in languages that the model speaks."""
        made: dict[int, Translation] = {}
        for speak in (True, False):
            some = [i for i, source in enumerate(sources) if self._speaks(source.tgt_lang) == speak]
            if not some:  # a model that ends with text cannot be asked to speak, be it of nothing
                continue
            found = self.translator.translate_rows([sources[i] for i in some], speak=speak, speaker=self.job.speaker)
            made |= dict(zip(some, found, strict=True))
        return [made[i] for i in range(len(sources))]

    def _speaks(self, lang: str) -> bool:
        return self.job.speak and lang in self.translator.spoken_languages

    def source(self, row: TableRow) -> Source:
        """What of a row is translated. Raises UnreadableError where it cannot be."""
        tgt_lang = self._language(self.job.tgt_lang or row.tgt_lang, row.place)
        if self.job.speak and self.job.spoken_only and not self._speaks(tgt_lang):
            raise UnreadableError("not_spoken", f"{row.place}: the model does not speak {tgt_lang}")
        if row.sound is not None or row.samples is not None or row.unreadable is not None:
            return Source(tgt_lang, waveform=load_waveform(row, MIN_SAMPLES, self.job.max_seconds))
        text = (row.text or "").strip()
        if not text:
            raise UnreadableError("empty_text", row.place)
        src_lang = self._language(self.job.src_lang or row.src_lang, row.place)
        check_text(self.translator, text, src_lang, row.place)
        return Source(tgt_lang, text, src_lang)

    def _language(self, code: str | None, place: str) -> str:
        if not code:
            raise UnreadableError("no_language", f"{place}: does not say its language")
        try:
            return resolve_language(code, self.known)
        except ConfigError as error:
            raise UnreadableError("unknown_language", f"{place}: {error}") from error


def check_text(translator: Translator, text: str, lang: str, place: str) -> None:
    """Raise UnreadableError for a text that is not translated in one piece."""
    try:
        tokens = len(translator.text.pieces(text, lang))
    except InputError as error:
        raise UnreadableError("invalid_utf8", f"{place}: {error}") from error
    if tokens > MAX_TOKENS:
        raise UnreadableError("too_long", f"{place}: has {tokens} tokens, more than {MAX_TOKENS}; cut it")


def translate_one(job: TranslationJob, text: str) -> Translation:
    """The translation of a text.

    Raises:
        InputError: what cannot be translated, in one line.
        ConfigError: a language or speaker that the model does not have.
        ModelError: the model cannot be loaded.
    """
    if job.tgt_lang is None or job.src_lang is None:
        raise ConfigError(f"give {'--to' if job.tgt_lang is None else '--from'}: the language of the text")
    worker = load_worker(job)
    try:
        source = worker.source(TableRow("the text", "", None, None, text, None))
    except UnreadableError as error:
        raise InputError(str(error)) from error
    return worker.translator.translate_rows([source], speak=job.speak, speaker=job.speaker)[0]


def load_job(job: TranslationJob) -> tuple[Translator, str]:
    """A job's model, and its own code for the language that is translated into. Raises ModelError, ConfigError."""
    worker = load_worker(job)
    return worker.translator, resolve_language(job.tgt_lang or "", worker.known)


def write_speech(path: str, translation: Translation) -> None:
    """Write the speech of a translation as a WAV file. Raises InputError where there is none, StorageError."""
    if translation.waveform is None or not len(translation.waveform):
        raise InputError(f"{path}: is not written: the model makes no speech of its text")
    storage.write_bytes_atomic(path, wav_bytes(translation.waveform))


def _told(translation: Translation) -> dict[str, Any]:
    return {
        "hypothesis": translation.text,
        "score": translation.score,
        "at_limit": translation.at_limit or translation.units_at_limit,
        "units": None if translation.units is None else list(translation.units),
    }


def plan_of(job: TranslationJob) -> dict[str, Any]:
    """What of a job changes what is written. Raises ConfigError where a folder of a model is none."""
    left_out = ("model", "vocoder", "device", "batches")
    return {
        "model": model_digests(job.model),
        "vocoder": None if job.vocoder is None else model_digests(job.vocoder),
        "job": {key: value for key, value in asdict(job).items() if key not in left_out},
    }


def model_digests(directory: str) -> dict[str, str]:
    """SHA-256 of each file of a model's folder. Raises ConfigError where there is no such folder."""
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigError(f"{directory}: is no folder of a model")
    return {file.name: storage.sha256_of(file) for file in sorted(folder.iterdir()) if file.is_file()}
