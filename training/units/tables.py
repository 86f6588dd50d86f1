"""Units of speech outside a run: the rows of a Parquet file or of a folder's manifest, as one Parquet file.

The file is whole or not there at all; what is too much to be made in one go is better made by a run, shard by shard.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.speech_rows import SetAside, SpeechRow, UsableSpeech, recorded_rows, usable
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.units.extractor import UnitExtractor
from seamlessalign.training.units.files import FINGERPRINT, NUM_UNITS
from seamlessalign.training.units.repeats import reduce_units
from seamlessalign.training_settings import SpeechSource

_AT_ONCE = 16  # rows that are decoded and heard together
_TELL_EVERY = 1000  # rows after which it is told how many there are
_MANIFESTS = (".tsv", ".jsonl")
_SOUND = "audio"  # column into which the sound of a manifest's files is kept
_OURS = {
    "key": pa.string(),  # changes with the sound
    "lang": pa.string(),
    "units": pa.list_(pa.int32()),  # reduced
    "durations": pa.list_(pa.int32()),  # frames of 20 ms that each lasts
}


@dataclass(frozen=True)
class AnyLength:
    """No speech is too short or too long."""

    min_seconds: float = 0.0
    max_seconds: float = float("inf")


@dataclass
class Written:
    """What a table has, and what of the input it has not."""

    rows: int = 0
    frames: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)  # reason → rows


def source_of(place: str, audio: str | None = None, lang: str | None = None, lang_column: str = "lang") -> SpeechSource:
    """A folder with a manifest or the manifest itself, else Parquet: a file, a folder of them, or a pattern."""
    path = Path(place)
    there = path.iterdir() if path.is_dir() else [path]
    kind = "folder" if any(one.suffix in _MANIFESTS for one in there) else "parquet"
    return SpeechSource(kind=kind, path=place, audio=audio, lang=lang, lang_column=lang_column)


def write_units(
    source: SpeechSource,
    extractor: UnitExtractor,
    target: str,
    keep: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write the units of every row of a source, in order, beside columns of the source that are kept.

    Of a manifest `audio` is the sound itself, as its files have it, so that the table can be learnt from by itself.

    A row that cannot be read, or is too short for a unit, is counted under its reason.

    Raises InputError for a source that cannot be read, a column that is not there or has a name of ours, and where no
    row has units.
    """
    kept = _types_of(source, keep)
    schema = pa.schema([pa.field(name, kind) for name, kind in {**_OURS, **kept}.items()])
    card, written = extractor.card, Written()
    aside = SetAside(written.set_aside)
    metadata = {FINGERPRINT: card.fingerprint, NUM_UNITS: str(card.units)}

    def tables() -> Iterator[pa.Table]:
        told = 0
        for rows in _rows(source, extractor, keep, aside, written):
            if rows:
                yield pa.Table.from_pylist(rows, schema=schema)
            if written.rows >= told + _TELL_EVERY:
                told = written.rows
                say(f"{written.rows:,} rows, {written.frames / 50 / 3600:.2f} h so far")

    storage.write_tables(target, _some(tables(), aside, source), schema, metadata)
    return written


def _rows(
    source: SpeechSource, extractor: UnitExtractor, keep: Sequence[str], aside: SetAside, written: Written
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the table, a batch at a time."""
    waiting: list[tuple[SpeechRow, UsableSpeech, Any]] = []

    def made() -> list[dict[str, Any]]:
        rows = []
        found = extractor.extract_batch([samples for _, _, samples in waiting])
        for (row, one, _), frames in zip(waiting, found, strict=True):
            if not len(frames):
                aside.add("too_short", row.place)
                continue
            reduced, durations = reduce_units(frames)
            ours = {"key": one.key, "lang": one.lang, "units": reduced, "durations": durations}
            rows.append(ours | {name: _kept(row, name, source) for name in keep})
            written.rows, written.frames = written.rows + 1, written.frames + len(frames)
        waiting.clear()
        return rows

    for row in recorded_rows(source, [name for name in keep if source.kind != "folder" or name != _SOUND]):
        try:
            one = usable(row, "", AnyLength())
            waiting.append((row, one, load_sound(row.sound, "", row.place)))
        except UnreadableError as error:
            aside.add(error.reason, error.detail)
        if len(waiting) == _AT_ONCE:
            yield made()
    yield made()


def _kept(row: SpeechRow, name: str, source: SpeechSource) -> Any:
    """A value of a column that is kept; of a manifest the sound, or text: JSON's numbers and lists as they stand."""
    if source.kind != "folder":
        return row.values[name]
    if name == _SOUND:
        return {"bytes": row.content, "path": Path(row.sound.path).name}
    value = row.values.get(name)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _some(tables: Iterator[pa.Table], aside: SetAside, source: SpeechSource) -> Iterator[pa.Table]:
    """The tables. Raises InputError where there is none."""
    first = next(tables, None)
    if first is None:
        raise aside.nothing_usable([source.path])
    yield first
    yield from tables


def _types_of(source: SpeechSource, keep: Sequence[str]) -> dict[str, pa.DataType]:
    """The types of columns that are kept; of a manifest texts, and sound."""
    taken = [name for name in keep if name in _OURS]
    if taken:
        raise InputError(f"--keep {taken[0]}: the table has a column of this name of its own")
    if source.kind == "folder":
        sound = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return {name: sound if name == _SOUND else pa.string() for name in keep}
    files = storage.glob(source.path) if "*" in source.path else storage.list_files(source.path, ".parquet")
    for file in files[:1]:
        try:
            schema = pq.read_schema(storage.local_path(file))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
        lacking = [name for name in keep if name not in schema.names]
        if lacking:
            raise InputError(f"{file}: lacks the column {lacking[0]}; there are {', '.join(schema.names)}")
        return {name: schema.field(name).type for name in keep}
    return {}  # the reader says that there are no files
