"""What a run folder holds, counted for its report: every table is streamed once and none is held in memory.

A folder may be half finished: a table that is missing is `None` here, and the page says so.
"""

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.folder import RunFolder, run_below, stages_of
from seamlessalign.pipelines.ledger import marks_of
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT, FineCounts, PrecisionCounts
from seamlessalign.pipelines.report_lengths import SideLengths, fine_lengths, side_lengths
from seamlessalign.rows import SAMPLE_RATE, LedgerLine
from seamlessalign.typed_config import parse_written_yaml

_BATCH_ROWS = 1 << 16
_SHOWN_QUARANTINE = 200  # lines of the quarantine that are kept for the page


@dataclass
class LanguageHours:
    """Recordings of one language; samples at 16 kHz."""

    recordings: int = 0
    samples: int = 0
    speech_kept: int = 0  # speech samples of recordings that were segmented
    speech_dropped: int = 0  # speech samples of recordings that were dropped

    @property
    def speech(self) -> int:
        """All of their speech."""
        return self.speech_kept + self.speech_dropped


@dataclass(frozen=True)
class CutRule:
    """What decided which pairs of a direction are good enough."""

    threshold: float | None  # a margin; None where precision decides, or the table does not say and nothing was kept
    origin: str  # for people
    min_precision: float | None  # where each pair must be so sure
    decoys: str | None  # what precision was estimated with, for people; None where there were no decoys

    @property
    def by_precision(self) -> bool:
        """Whether estimated precision decides."""
        return self.threshold is None and bool(self.origin)


@dataclass
class DirectionNumbers:
    """The pairs table of one direction."""

    direction: str
    rule: CutRule
    margins: FineCounts
    cosines: FineCounts = field(default_factory=FineCounts)
    estimates: FineCounts = field(default_factory=FineCounts)
    precision: PrecisionCounts = field(default_factory=PrecisionCounts)
    rows: int = 0
    kept: int = 0
    samples_kept: int = 0  # of the first audio side of kept pairs
    sides: dict[str, SideLengths] = field(default_factory=dict)  # src and tgt
    dropped: Counter[str] = field(default_factory=Counter)
    corpus_rows: int | None = None  # None where the corpus of this direction is not written


@dataclass
class Quarantine:
    """Inputs that were set aside."""

    lines: list[dict[str, str]] = field(default_factory=list)  # the first ones: uri, reason, detail
    reasons: Counter[str] = field(default_factory=Counter)
    unparsed: int = 0  # lines that are not JSON objects

    @property
    def total(self) -> int:
        """All lines, also those not kept in `lines`."""
        return self.reasons.total() + self.unparsed


@dataclass
class RunNumbers:
    """Everything the report says about a run, except for the sample pairs."""

    name: str | None
    digest: str | None
    config: dict[str, Any] | None  # as run.yaml has it
    date: str | None  # when the run last wrote a ledger line
    ledger: list[LedgerLine] | None
    languages: dict[str, LanguageHours] | None  # from `recordings`; the key is "" where no language was found
    spans: dict[str, int] | None  # language → rows of `segments`
    sentences: dict[str, int] | None
    directions: list[DirectionNumbers] | None  # from `pairs`
    recording_minutes: FineCounts | None  # lengths of recordings, by whether they were segmented
    audio_kept: int  # samples of distinct audio inside kept pairs, both sides of all directions
    quarantine: Quarantine
    evaluation: dict[str, Any] | None
    missing: list[str]  # what the folder does not have


def read_run(run_dir: str) -> RunNumbers:
    """Count everything in a run folder.

    Raises InputError when there is no such folder or it is no run, StorageError naming a file that is damaged.
    """
    if not storage.list_files(run_dir):
        raise InputError(f"{run_dir}: there is no run here; give the folder that a run wrote")
    config = written_config(run_dir)
    ledger = _read_ledger(run_dir)
    languages, recording_minutes = _read_recordings(run_dir)
    directions, audio_kept = _read_pairs(run_dir)
    numbers = RunNumbers(
        name=_text_or_none(config, "name"),
        digest=_text_or_none(config, "digest"),
        config=config,
        date=_date_of(run_dir),
        ledger=ledger,
        languages=languages,
        spans=_rows_by_language(run_dir, "segments"),
        sentences=_rows_by_language(run_dir, "sentences"),
        directions=directions,
        recording_minutes=recording_minutes,
        audio_kept=audio_kept,
        quarantine=_read_quarantine(run_dir),
        evaluation=_read_evaluation(run_dir),
        missing=[],
    )
    has = {
        "run.yaml": config is not None,
        "ledger.parquet": storage.exists(storage.join(run_dir, "ledger.parquet")),
        "recordings": numbers.languages is not None,
        "segments": numbers.spans is not None,
        "sentences": numbers.sentences is not None,
        "pairs": directions is not None,
        "corpus": bool(parts_of(run_dir, "corpus")) or _kept_nothing(directions),
    }
    if not any(has.values()):
        told = run_below(run_dir) or "; give a run's folder"
        raise InputError(f"{run_dir}: holds none of run.yaml, ledger.parquet and the tables{told}")
    never = ("segments", "sentences") if config is not None and is_rebuilt(config) else ()
    numbers.missing += [name for name, there in has.items() if not there and name not in never]
    return numbers


def _kept_nothing(directions: list[DirectionNumbers] | None) -> bool:
    return directions is not None and not any(item.kept for item in directions)


def is_rebuilt(config: Mapping[str, Any]) -> bool:
    """Whether a folder's `run.yaml` is that of a corpus rebuilt from published metadata, which mined nothing."""
    return "metadata" in config and "speech" not in config


def refuse_rebuilt(run_dir: str) -> None:
    """Raises InputError where a folder has such a corpus, for what needs a run that mined; StorageError."""
    if is_rebuilt(written_config(run_dir) or {}):
        raise InputError(
            f"{run_dir}: was rebuilt from metadata, so that nothing was mined here; "
            f"`seamlessalign export {shlex.quote(run_dir)} --threshold M` chooses by the published score"
        )


def parts_of(run_dir: str, table: str) -> dict[str, list[str]]:
    """Uris of the Parquet files of a table, by the value of its partition ("" where it has none), both sorted."""
    parts: dict[str, list[str]] = {}
    for uri in storage.list_files(storage.join(run_dir, table), ".parquet"):
        folder, name = uri.rsplit("/", 2)[-2:]
        if name.startswith("part-"):
            parts.setdefault(folder.partition("=")[2], []).append(uri)
    return dict(sorted(parts.items()))


@contextmanager
def open_parquet(uri: str, columns: list[str]) -> Iterator[pq.ParquetFile]:
    """A Parquet file that must have these columns, closed on leaving. Raises StorageError naming the file."""
    try:
        with storage.open_read(uri) as source:
            file = pq.ParquetFile(source)
            absent = [column for column in columns if column not in file.schema_arrow.names]
            if absent:
                raise StorageError(f"{uri}: has no column {absent[0]}; it was not written by this version, run again")
            yield file
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise StorageError(f"{uri}: is not a readable Parquet file: {what}; delete it and run again") from error


def batches_of(uri: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Stream some columns of a Parquet file. Raises StorageError naming the file."""
    with open_parquet(uri, columns) as file:
        yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)


def covered_samples(uris: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> int:
    """Samples inside at least one of the spans `[start, end)` of numbered recordings; three arrays (spans,)."""
    if len(uris) == 0:
        return 0
    order = np.lexsort((starts, uris))
    # Recordings are laid one after the other on one line, so that the furthest end so far is one running maximum.
    lengths = np.zeros(int(uris.max()) + 1, dtype=np.int64)
    np.maximum.at(lengths, uris, ends)
    shift = (np.cumsum(lengths) - lengths)[uris[order]]
    begin, finish = starts[order] + shift, ends[order] + shift
    reached = np.concatenate(([0], np.maximum.accumulate(finish)[:-1]))
    return int(np.maximum(finish - np.maximum(begin, reached), 0).sum())


def written_config(run_dir: str) -> dict[str, Any] | None:
    """What `run.yaml` says; None where there is none. Raises StorageError where it is damaged."""
    uri = storage.join(run_dir, "run.yaml")
    if not storage.exists(uri):
        return None
    try:
        config = parse_written_yaml(storage.read_bytes(uri))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StorageError(f"{uri}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise StorageError(f"{uri}: is not a mapping of keys; it was not written by a run")
    return config


def _read_ledger(run_dir: str) -> list[LedgerLine] | None:
    """The lines of `ledger.parquet`, which is written at the end; before that, those of the shards that are done."""
    uri = storage.join(run_dir, "ledger.parquet")
    if not storage.exists(uri):
        folder = RunFolder(run_dir)
        done = [line for stage in stages_of(folder) for mark in marks_of(folder, stage) for line in mark.lines]
        return done or None
    names = [item.name for item in fields(LedgerLine)]
    maps = ("dropped", "samples_dropped", "seconds", "models")
    lines = []
    for batch in batches_of(uri, names):
        for row in batch.to_pylist():
            lines.append(LedgerLine(**{**row, **{name: dict(row[name]) for name in maps}}))
    return lines


def _read_recordings(run_dir: str) -> tuple[dict[str, LanguageHours] | None, FineCounts | None]:
    """Recordings by language, and how long they are."""
    parts = parts_of(run_dir, "recordings")
    if not parts:
        return None, None
    languages: dict[str, LanguageHours] = {}
    minutes = fine_lengths()
    for uri in (uri for uris in parts.values() for uri in uris):
        for batch in batches_of(uri, ["lang", "num_samples", "speech_samples", "drop_reason"]):
            lengths = batch["num_samples"].to_numpy() / SAMPLE_RATE / 60
            minutes.add(lengths, batch["drop_reason"].is_null().to_numpy(zero_copy_only=False))
            for row in batch.to_pylist():
                hours = languages.setdefault(row["lang"] or "", LanguageHours())
                hours.recordings += 1
                hours.samples += row["num_samples"]
                if row["drop_reason"] is None:
                    hours.speech_kept += row["speech_samples"]
                else:
                    hours.speech_dropped += row["speech_samples"]
    return languages, minutes


def _rows_by_language(run_dir: str, table: str) -> dict[str, int] | None:
    parts = parts_of(run_dir, table)
    if not parts:
        return None
    return {lang: sum(_row_count(uri) for uri in uris) for lang, uris in parts.items()}


def _row_count(uri: str) -> int:
    with open_parquet(uri, []) as file:
        return int(file.metadata.num_rows)


_PAIR_COLUMNS = ["margin", "cosine", "precision_estimate", "kept", "drop_reason"]
_PAIR_COLUMNS += [f"{side}_{name}" for side in ("src", "tgt") for name in ("uri", "start", "end", "text")]


def _read_pairs(run_dir: str) -> tuple[list[DirectionNumbers] | None, int]:
    """Numbers of every direction, and the samples of distinct audio in kept pairs."""
    parts = parts_of(run_dir, "pairs")
    corpus = parts_of(run_dir, "corpus")
    if not parts:
        return None, 0
    audio = _KeptAudio()
    directions = []
    for name, uris in parts.items():
        rule = rule_of(uris)
        origin = lowest_kept_margin(uris) if rule.threshold is None else rule.threshold
        numbers = DirectionNumbers(name, rule, FineCounts(origin or 0.0), sides=side_lengths(name))
        for uri in uris:
            for batch in batches_of(uri, _PAIR_COLUMNS):
                _add_pairs(numbers, batch)
                numbers.samples_kept += audio.add(batch.filter(batch["kept"]))
        if name in corpus:
            numbers.corpus_rows = sum(_row_count(uri) for uri in corpus[name])
        directions.append(numbers)
    return directions, audio.covered()


def rule_of(uris: list[str]) -> CutRule:
    """The rule that a direction's pairs were cut by, from the schema's metadata; else the lowest kept margin."""
    with open_parquet(uris[0], []) as file:
        metadata = {key: value.decode("utf-8", "replace") for key, value in (file.schema_arrow.metadata or {}).items()}
    decoys = metadata.get(b"seamlessalign.decoys", "none")
    told = None if decoys in ("", "none") else decoys
    written = metadata.get(b"seamlessalign.threshold")
    if written is None:
        return CutRule(lowest_kept_margin(uris), "lowest kept margin; the table does not say", None, told)
    try:
        threshold = float(written)
    except ValueError as error:
        raise StorageError(f"{uris[0]}: its threshold is not a number: {written[:40]!r}") from error
    try:
        minimum = json.loads(metadata.get(b"seamlessalign.mining", "{}")).get("min_precision")
        min_precision = None if minimum is None else float(minimum)
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"{uris[0]}: its metadata seamlessalign.mining is damaged; mine again") from error
    origin = metadata.get(b"seamlessalign.threshold_origin", "")
    if math.isfinite(threshold):
        return CutRule(threshold, origin, None, told)
    return CutRule(None, origin or "estimated precision", min_precision, told)


def lowest_kept_margin(uris: list[str]) -> float | None:
    """The lowest margin among the kept pairs of a direction; None where nothing was kept."""
    lowest = None
    for uri in uris:
        for batch in batches_of(uri, ["margin", "kept"]):
            value = pc.min(batch.filter(batch["kept"])["margin"]).as_py()
            if value is not None and (lowest is None or value < lowest):
                lowest = float(value)
    return lowest


def _add_pairs(numbers: DirectionNumbers, batch: pa.RecordBatch) -> None:
    kept = batch["kept"].to_numpy(zero_copy_only=False)
    numbers.rows += batch.num_rows
    numbers.kept += int(kept.sum())
    for name, counts in (("margin", numbers.margins), ("cosine", numbers.cosines)):
        counts.add(batch[name].to_numpy(zero_copy_only=False), kept)
    for side, lengths in numbers.sides.items():
        lengths.add(batch, side, kept)
    reasons = batch.filter(pc.invert(batch["kept"]))["drop_reason"]
    for counted in pc.value_counts(reasons).to_pylist():
        numbers.dropped[counted["values"] or "no reason given"] += counted["counts"]
    estimates = batch["precision_estimate"].to_numpy(zero_copy_only=False).astype(np.float32)
    numbers.estimates.add(estimates, kept)
    only_cut = pc.is_in(batch["drop_reason"], pa.array(sorted(ONLY_THE_CUT))).to_numpy(zero_copy_only=False)
    numbers.precision.add(estimates, _lengths(batch), kept, only_cut & ~kept)


def _lengths(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Samples of the first side that is audio, 0 where none is; (rows,)."""
    lengths = [pc.subtract(batch[f"{side}_end"], batch[f"{side}_start"]) for side in ("src", "tgt")]
    found: npt.NDArray[np.int64] = pc.fill_null(pc.coalesce(*lengths), 0).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


class _KeptAudio:
    """The spans of audio that kept pairs use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._spans: list[npt.NDArray[np.int64]] = []

    def add(self, kept: pa.RecordBatch) -> int:
        """Remember both sides' spans; returns the samples of the first side that is audio, summed over the rows."""
        for side in ("src", "tgt"):
            spans = kept.select([f"{side}_uri", f"{side}_start", f"{side}_end"]).drop_null()
            coded = spans[0].dictionary_encode()
            places = [self._numbers.setdefault(uri, len(self._numbers)) for uri in coded.dictionary.to_pylist()]
            numbers = np.array(places, dtype=np.int64)[coded.indices.to_numpy()]
            self._spans.append(np.stack([numbers, spans[1].to_numpy(), spans[2].to_numpy()]))
        return int(_lengths(kept).sum())

    def covered(self) -> int:
        """Samples inside at least one span."""
        if not self._spans:
            return 0
        uris, starts, ends = np.concatenate(self._spans, axis=1)
        return covered_samples(uris, starts, ends)


def _read_quarantine(run_dir: str) -> Quarantine:
    quarantine = Quarantine()
    for uri in storage.list_files(storage.join(run_dir, "quarantine"), ".jsonl"):
        for line in storage.read_bytes(uri).decode("utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except json.JSONDecodeError:
                item = None
            if not isinstance(item, dict):  # the last line of a run that was killed may be cut; the page tells
                quarantine.unparsed += 1
                continue
            shown = {key: str(item.get(key) or "") for key in ("uri", "reason", "detail")}
            quarantine.reasons[shown["reason"] or "no reason given"] += 1
            if len(quarantine.lines) < _SHOWN_QUARANTINE:
                quarantine.lines.append(shown)
    return quarantine


def _read_evaluation(run_dir: str) -> dict[str, Any] | None:
    uri = storage.join(run_dir, "evaluation.json")
    if not storage.exists(uri):
        return None
    try:
        evaluation = json.loads(storage.read_bytes(uri))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{uri}: is not JSON: {error}; remove it or evaluate again") from error
    listed = evaluation.get("directions") if isinstance(evaluation, dict) else None
    if not isinstance(listed, list) or not all(isinstance(line, dict) for line in listed):
        raise StorageError(f"{uri}: has no list of directions; remove it or evaluate again")
    return dict(evaluation)


def _date_of(run_dir: str) -> str | None:
    """When the run last wrote to its ledger (or its config, before the first line), in UTC."""
    for name in ("ledger.parquet", "run.yaml"):
        uri = storage.join(run_dir, name)
        if storage.exists(uri):
            changed = storage.modified(uri)
            return f"{changed:%Y-%m-%d %H:%M} UTC" if changed else None  # not every driver can tell
    return None


def _text_or_none(config: dict[str, Any] | None, key: str) -> str | None:
    return str(config[key]) if config and config.get(key) is not None else None
