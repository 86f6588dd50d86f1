"""Translating a whole table into a folder, a chunk at a time: a job that was killed goes on where it was.

The folder is the state: `translation.json` says what is done, `parts/` has a table for each chunk that is done, in the
order of the input, `speech/` the sound of each row, and `translations.parquet` or `.jsonl` is there once all is done.
"""

import contextlib
import difflib
import fcntl
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.embedders.sonar.features import MIN_SAMPLES
from seamlessalign.errors import ConfigError, InputError, StorageError, UnreadableError
from seamlessalign.languages import find_language
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.unity.generation import (
    BatchLimits,
    Float32,
    Precision,
    Source,
    Translation,
    Translator,
    load_translator,
)
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.unity.source_tables import SourceTable, TableRow, load_waveform

_PLAN = "translation.json"

MAX_SECONDS = 50.0  # of speech in one piece; what the published models learnt from is no longer
MAX_TOKENS = 1024  # of a text in one piece

TRANSLATIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("src_lang", pa.string()),  # as the table has it; null where it does not say
        pa.field("tgt_lang", pa.string()),
        pa.field("hypothesis", pa.string(), nullable=False),  # empty where there is none
        pa.field("score", pa.float64()),
        pa.field("at_limit", pa.bool_()),  # whether text or units ended because they had become as long as they may be
        pa.field("units", pa.list_(pa.int32())),
        pa.field("speech", pa.string()),  # path of a WAV file in this folder
        pa.field("reason", pa.string()),  # why there is no translation, or no speech
        pa.field("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class TranslationJob:
    """How a table is translated."""

    model: str  # folder
    tgt_lang: str | None = None  # None: rows say
    src_lang: str | None = None
    speak: bool = False
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


@dataclass(frozen=True)
class Translated:
    """What became of a table."""

    path: str  # of the translations
    rows: int
    set_aside: dict[str, int]  # reason → rows
    first: dict[str, str]  # reason → the first of them


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
    folder, plan = Path(output), _plan(table, job)
    _check_same(folder, plan)
    finished = folder / f"translations.{job.format}"
    parts = [folder / "parts" / f"part-{number:05}.parquet" for number in range(len(table.chunks(job.chunk)))]
    if not finished.is_file():
        _translate_parts(table, folder, plan, parts, job, progress or (lambda line: None))
        _join(parts, finished)
    storage.remove(str(folder / "parts"))
    return _summary(finished)


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


def pcm_of(samples: Float32) -> npt.NDArray[np.int16]:
    """Samples of 16 bits, clipped to full scale."""
    return np.asarray(np.clip(np.rint(samples * np.float32(32768)), -32768, 32767), np.int16)


def wav_bytes(samples: Float32) -> bytes:
    """Samples at 16 kHz as a WAV file of 16 bits."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, pcm_of(samples), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _translate_parts(
    table: SourceTable,
    folder: Path,
    plan: dict[str, Any],
    parts: Sequence[Path],
    job: TranslationJob,
    progress: Callable[[str], None],
) -> None:
    """Translate the chunks that are not there yet."""
    chunks = table.chunks(job.chunk)
    left = [(chunk, part) for chunk, part in zip(chunks, parts, strict=True) if not part.is_file()]
    if not left:
        return
    storage.remove_unfinished(str(folder))
    worker = _Worker(_translator(job), job)
    if not (folder / _PLAN).is_file():
        storage.write_bytes_atomic(str(folder / _PLAN), (json.dumps(plan, indent=1) + "\n").encode())
    done = table.num_rows - sum(chunk.last - chunk.first for chunk, _ in left)
    began, before = time.monotonic(), done
    with _alone(folder):
        for chunk, part in left:
            rows = worker.translate(table.read(chunk), chunk.before, folder)
            storage.write_table(str(part), pa.Table.from_pylist(rows, TRANSLATIONS))
            done += len(rows)
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            progress(f"{done:,} of {table.num_rows:,} rows, {rate:.1f} a second")


def _translator(job: TranslationJob) -> Translator:
    return load_translator(
        job.model,
        device=job.device,
        precision=job.precision,
        vocoder=job.vocoder,
        text_search=job.text_search,
        unit_search=job.unit_search,
        batches=job.batches,
    )


class _Worker:
    """A job with its model."""

    def __init__(self, translator: Translator, job: TranslationJob) -> None:
        """Raises ConfigError for a language or speaker that the model does not have."""
        self.job, self.translator = job, translator
        self.known = set(translator.text.languages)
        given = {code: resolve_language(code, self.known) for code in (job.tgt_lang, job.src_lang) if code is not None}
        if job.speak:
            translator.check_spoken([given[job.tgt_lang]] if job.tgt_lang is not None else [], job.speaker)

    def translate(self, rows: Sequence[TableRow], before: int, folder: Path) -> list[dict[str, Any]]:
        """Rows of `TRANSLATIONS`, with their sound written; `before` rows of the table come before these."""
        sources: list[Source] = []
        places: list[int] = []
        lines = [_line(row, self.job) for row in rows]
        for i, row in enumerate(rows):
            try:
                sources.append(self.source(row))
                places.append(i)
            except UnreadableError as error:
                lines[i] |= {"reason": error.reason, "detail": error.detail}
        translations = self.translator.translate_rows(sources, speak=self.job.speak, speaker=self.job.speaker)
        for i, source, translation in zip(places, sources, translations, strict=True):
            lines[i] |= _told(translation) | {"tgt_lang": source.tgt_lang}
            if source.src_lang is not None:
                lines[i]["src_lang"] = source.src_lang
            if translation.waveform is None:
                continue
            if not len(translation.waveform):
                lines[i] |= {"reason": "no_units", "detail": f"{rows[i].place}: the model makes no speech of its text"}
                continue
            name = f"speech/{before + i:08}.wav"
            storage.write_bytes_atomic(str(folder / name), wav_bytes(translation.waveform))
            lines[i]["speech"] = name
        return lines

    def source(self, row: TableRow) -> Source:
        """What of a row is translated. Raises UnreadableError where it cannot be."""
        tgt_lang = self._language(self.job.tgt_lang or row.tgt_lang, row.place)
        if self.job.speak and tgt_lang not in self.translator.spoken_languages:
            raise UnreadableError("not_spoken", f"{row.place}: the model does not speak {tgt_lang}")
        if row.sound is not None:
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
    worker = _Worker(_translator(job), job)
    try:
        source = worker.source(TableRow("the text", "", None, None, text, None))
    except UnreadableError as error:
        raise InputError(str(error)) from error
    return worker.translator.translate_rows([source], speak=job.speak, speaker=job.speaker)[0]


def load_job(job: TranslationJob) -> tuple[Translator, str]:
    """A job's model, and its own code for the language that is translated into. Raises ModelError, ConfigError."""
    worker = _Worker(_translator(job), job)
    return worker.translator, resolve_language(job.tgt_lang or "", worker.known)


def write_speech(path: str, translation: Translation) -> None:
    """Write the speech of a translation as a WAV file. Raises InputError where there is none, StorageError."""
    if translation.waveform is None or not len(translation.waveform):
        raise InputError(f"{path}: is not written: the model makes no speech of its text")
    storage.write_bytes_atomic(path, wav_bytes(translation.waveform))


def _line(row: TableRow, job: TranslationJob) -> dict[str, Any]:
    """What is told of a row that is not translated."""
    languages = {"src_lang": job.src_lang or row.src_lang, "tgt_lang": job.tgt_lang or row.tgt_lang}
    return {"id": row.id, **languages, "hypothesis": ""}


def _told(translation: Translation) -> dict[str, Any]:
    return {
        "hypothesis": translation.text,
        "score": translation.score,
        "at_limit": translation.at_limit or translation.units_at_limit,
        "units": None if translation.units is None else list(translation.units),
    }


# The folder


def _plan(table: SourceTable, job: TranslationJob) -> dict[str, Any]:
    """What changes what is written."""
    left_out = ("model", "vocoder", "device", "batches")
    return {
        "input": {file: storage.version(file) for file in table.files},
        "columns": table.columns,
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


def _check_same(folder: Path, wanted: dict[str, Any]) -> None:
    """Raise ConfigError where a folder holds something else than what was done so far of the same."""
    plan = folder / _PLAN
    if not plan.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: holds something, but no translation; name another output")
        return
    try:
        kept = dict(json.loads(plan.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{plan}: is damaged: {error}; name another output") from error
    for key, value in json.loads(json.dumps(wanted)).items():
        if kept.get(key) != value:
            told = f"{folder}: holds a translation with another {key}{_difference(kept.get(key), value)}"
            raise ConfigError(f"{told}; go on with the same, or name another output")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others out of a folder for as long as this process lives in here. Raises ConfigError where one is in."""
    with (folder / _PLAN).open("rb") as plan:
        try:
            fcntl.flock(plan, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another process is translating into it") from error
        yield


def _difference(kept: Any, wanted: Any) -> str:
    """The first key that differs, for people."""
    if not isinstance(kept, dict) or not isinstance(wanted, dict):
        return f": {kept!r}, not {wanted!r}"
    key = next(key for key in sorted(kept.keys() | wanted.keys()) if kept.get(key) != wanted.get(key))
    if isinstance(kept.get(key), str) and len(kept[key]) == 64:  # SHA-256 says nothing to people
        return f" {key}"
    return f" {key}{_difference(kept.get(key), wanted.get(key))}"


def _join(parts: Sequence[Path], finished: Path) -> None:
    """Write all parts as one file."""
    if finished.suffix == ".parquet":
        storage.write_tables(str(finished), (storage.read_table(str(part)) for part in parts), TRANSLATIONS, {})
        return
    with storage.atomic_local(str(finished)) as path, path.open("w", encoding="utf-8") as file:
        for part in parts:
            for row in storage.read_table(str(part)).to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(finished: Path) -> Iterator[dict[str, Any]]:
    if finished.suffix == ".parquet":
        for batch in storage.read_batches(str(finished), ["reason", "detail"]):
            yield from batch.to_pylist()
        return
    with finished.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _summary(finished: Path) -> Translated:
    rows, counts = 0, Counter[str]()
    first: dict[str, str] = {}
    for row in _rows(finished):
        rows += 1
        if row["reason"] is not None:
            counts[row["reason"]] += 1
            first.setdefault(row["reason"], row["detail"])
    return Translated(str(finished), rows, dict(counts.most_common()), first)
