"""Tables of what is to be translated: Parquet files, JSON lines or tab-separated values, read a chunk at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, load_sound, manifest_of, manifest_rows

Float32 = npt.NDArray[np.float32]

TABLES = (".parquet", ".jsonl", ".tsv")
# name of a column that is not given → the first of these that is there
_USUAL = {
    "id": ("id", "pair_id"),
    "audio": ("audio", "path", "src_audio"),
    "text": ("text", "src_text"),
    "src_lang": ("src_lang", "lang"),
    "tgt_lang": ("tgt_lang",),
}


@dataclass(frozen=True)
class Columns:
    """Names of columns as they were given; None where the usual ones are looked for."""

    id: str | None = None
    audio: str | None = None
    text: str | None = None
    src_lang: str | None = None
    tgt_lang: str | None = None


@dataclass(frozen=True, eq=False)
class TableRow:
    """A row of a table, whose sound was not looked at."""

    place: str  # file and row, for people
    id: str  # the number of the row in the whole table where there is no column for it
    src_lang: str | None
    tgt_lang: str | None
    text: str | None  # None where the table has speech
    sound: Sound | None
    samples: Float32 | None = None  # (num_samples,) at 16 kHz, of sound that was read already
    unreadable: UnreadableError | None = None  # why there is neither


@dataclass(frozen=True)
class Chunk:
    """Rows [first, last) of a file, of which the first is number `before` of the whole table."""

    file: str
    first: int
    last: int
    before: int


def is_table(place: str) -> bool:
    """Whether a place is one of a table, by its name: anything else is taken for a sound file."""
    return place.endswith(TABLES) or "*" in place or Path(place).is_dir()


class SourceTable:
    """Rows of a table by chunks."""

    def __init__(self, place: str, columns: Columns) -> None:
        """Look at a table's size and columns.

        Args:
            place: a `.jsonl` or `.tsv` file, or a `.parquet` file, a folder or pattern of those.
            columns: which of its columns are read.

        Raises:
            InputError: no such table, or one that lacks a column.
        """
        self.place = place
        self._rows: list[dict[str, Any]] | None = None
        if place.endswith((".jsonl", ".tsv")):
            manifest = manifest_of(Path(place))
            self._rows = list(manifest_rows(manifest))
            self.files = {str(manifest): len(self._rows)}
            there = list(dict.fromkeys(name for row in self._rows for name in row if isinstance(name, str)))
        else:
            found = storage.glob(place) if "*" in place else storage.list_files(place, ".parquet")
            found = [place] if not found and place.endswith(".parquet") else found
            self.files = {storage.local_path(file).as_posix(): 0 for file in found if storage.is_local(file)}
            if not self.files:
                raise InputError(f"{place}: there are no Parquet files on a local disk")
            footers = {file: _footer(file) for file in self.files}
            self.files = {file: rows for file, (rows, _, _) in footers.items()}
            filled = {name for _, _, names in footers.values() for name in names}  # a corpus has sides without sound
            first, *others = (names for _, names, _ in footers.values())
            there = [name for name in first if name in filled and all(name in names for names in others)]
        self.num_rows = sum(self.files.values())
        if not self.num_rows:
            raise InputError(f"{place}: has no rows")
        self.columns = self._resolve(columns, there)

    def chunks(self, rows: int) -> list[Chunk]:
        """The table cut into chunks of at most so many rows, none of which has rows of two files."""
        chunks, before = [], 0
        for file, count in self.files.items():
            for first in range(0, count, rows):
                chunks.append(Chunk(file, first, min(first + rows, count), before + first))
            before += count
        return chunks

    def read(self, chunk: Chunk) -> list[TableRow]:
        """The rows of a chunk. Raises InputError for a file that cannot be read."""
        if self._rows is not None:
            values: Sequence[Mapping[str, Any]] = self._rows[chunk.first : chunk.last]
        else:
            wanted = [name for what, name in self.columns.items() if what != "audio"]
            values = _read(chunk, wanted)
        return [self._row(row, chunk, i) for i, row in enumerate(values)]

    def _row(self, values: Mapping[str, Any], chunk: Chunk, i: int) -> TableRow:
        def value(what: str) -> str | None:
            found = values.get(self.columns.get(what, ""))
            return None if found is None else str(found)

        def plain(what: str) -> str | None:  # of what is written again: JSON may hold what is not Unicode
            found = value(what)
            return None if found is None else found.encode(errors="replace").decode()

        place, sound = f"{chunk.file} row {chunk.first + i}", None
        if "audio" in self.columns:
            sound = Sound(chunk.file, chunk.first + i, self.columns["audio"])
            if self._rows is not None:
                sound = Sound(str(Path(chunk.file).parent / (value("audio") or "")))
        number = str(chunk.before + i)
        return TableRow(place, plain("id") or number, plain("src_lang"), plain("tgt_lang"), value("text"), sound)

    def _resolve(self, columns: Columns, there: Sequence[str]) -> dict[str, str]:
        """What is read → the column that has it."""
        if columns.audio is not None and columns.text is not None:
            raise InputError(f"{self.place}: name a column of either text or audio to translate, not both")
        found = {}
        for what, usual in _USUAL.items():
            given = getattr(columns, what)
            if given is not None and given not in there:
                raise InputError(f"{self.place}: has no column {given!r}; there are {', '.join(there)}")
            name = given or next((name for name in usual if name in there), None)
            if name is not None:
                found[what] = name
        if "audio" not in found and "text" not in found:
            raise InputError(f"{self.place}: has no column audio, path or text; there are {', '.join(there)}: name one")
        if "audio" in found and "text" in found:
            del found["audio" if columns.text is not None else "text"]
        return found


def load_waveform(row: TableRow, min_samples: int, max_seconds: float) -> Float32:
    """The sound of a row, float32 `(num_samples,)` at 16 kHz.

    Raises UnreadableError with the reason `too_short`, `too_long`, or one of those of `load_sound`.
    """
    samples = waveform_of(row)
    check_length(samples, row.place, min_samples, max_seconds)
    return samples


def waveform_of(row: TableRow) -> Float32:
    """The sound of a row, as `load_waveform`, however long."""
    if row.unreadable is not None:
        raise row.unreadable
    if row.samples is not None:
        return row.samples
    if row.sound is None:
        raise UnreadableError("missing", f"{row.place}: has no sound")
    return load_sound(row.sound, "", row.place)


def check_length(samples: Float32, place: str, min_samples: int, max_seconds: float) -> None:
    """Raise UnreadableError, `too_short` or `too_long`, for speech at 16 kHz that is not translated in one piece."""
    seconds = len(samples) / SAMPLE_RATE
    if len(samples) < min_samples:
        raise UnreadableError("too_short", f"{place}: is {seconds:.3f} s")
    if seconds > max_seconds:
        raise UnreadableError(
            "too_long", f"{place}: is {seconds:.1f} s, more than {max_seconds:g}; cut it, or raise --max-seconds"
        )


def _footer(file: str) -> tuple[int, list[str], set[str]]:
    """Rows of a Parquet file, its columns, and those of them in which something may be."""
    try:
        opened = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    filled = set()
    for group in range(opened.metadata.num_row_groups):
        chunks = opened.metadata.row_group(group)
        for i in range(chunks.num_columns):
            chunk = chunks.column(i)
            known = chunk.is_stats_set and chunk.statistics.has_null_count
            if not known or chunk.statistics.null_count < chunk.num_values:
                filled.add(chunk.path_in_schema.partition(".")[0])
    return int(opened.metadata.num_rows), list(opened.schema_arrow.names), filled


def _read(chunk: Chunk, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Values of columns of a chunk of a Parquet file, from the row groups that have some of it."""
    if not columns:
        return [{} for _ in range(chunk.first, chunk.last)]
    try:
        parquet = pq.ParquetFile(chunk.file)
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        groups = [i for i, end in enumerate(ends) if end > chunk.first and end - sizes[i] < chunk.last]
        before = int(ends[groups[0]] - sizes[groups[0]])
        table = parquet.read_row_groups(groups, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{chunk.file}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return list(table.slice(chunk.first - before, chunk.last - chunk.first).to_pylist())
