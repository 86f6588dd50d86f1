"""A folder in which a table is translated, a chunk at a time, by whatever makes something of rows.

The folder is the state: `translation.json` says what is done, `parts/` has a table for each chunk that is done, in the
order of the input, `speech/` the sound of each row, and `translations.parquet` or `.jsonl` is there once all is done.
"""

import contextlib
import fcntl
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.unity.source_tables import Chunk, TableRow

Float32 = npt.NDArray[np.float32]

_PLAN = "translation.json"

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


class Table(Protocol):
    """What is translated."""

    @property
    def num_rows(self) -> int: ...

    def chunks(self, rows: int) -> list[Chunk]:
        """The table cut into chunks of at most so many rows."""

    def read(self, chunk: Chunk) -> list[TableRow]:
        """The rows of a chunk."""


class Worker(Protocol):
    """What translates rows."""

    def translate(self, rows: Sequence[TableRow], before: int, folder: Path) -> list[dict[str, Any]]:
        """Rows of `TRANSLATIONS`, one for each, with their sound written; `before` rows of the table come before."""


@dataclass(frozen=True)
class Translated:
    """What became of a table."""

    path: str  # of the translations
    rows: int
    set_aside: dict[str, int]  # reason → rows
    first: dict[str, str]  # reason → the first of them


def translate_into(
    folder: Path,
    table: Table,
    plan: Mapping[str, Any],
    start: Callable[[], Worker],
    *,
    chunk: int,
    kind: Literal["parquet", "jsonl"] = "parquet",
    progress: Callable[[str], None] | None = None,
) -> Translated:
    """Have a worker translate every row of a table; the same call goes on from wherever another stopped.

    Args:
        folder: where.
        table: what.
        plan: all that changes what is written, by names that people know; may be written as JSON.
        start: gives the worker; called where there is something to do.
        chunk: rows that are written at a time.
        kind: of the file that is there in the end.
        progress: called with a line for people after each chunk.

    Raises:
        ConfigError: the folder holds another translation, or another process is in it.
        StorageError: the folder cannot be written or read back.
    """
    _check_same(folder, plan)
    finished = folder / f"translations.{kind}"
    parts = [folder / "parts" / f"part-{number:05}.parquet" for number in range(len(table.chunks(chunk)))]
    if not finished.is_file():
        _translate_parts(folder, table, plan, start, parts, chunk, progress or (lambda line: None))
        _join(parts, finished)
    storage.remove(str(folder / "parts"))
    return _summary(finished)


def told_of(row: TableRow, src_lang: str | None = None, tgt_lang: str | None = None) -> dict[str, Any]:
    """What is told of a row that is not translated; languages where those given are of all rows."""
    return {"id": row.id, "src_lang": src_lang or row.src_lang, "tgt_lang": tgt_lang or row.tgt_lang, "hypothesis": ""}


def write_sound(folder: Path, number: int, samples: Float32) -> str:
    """Write the speech, at 16 kHz, of a row of that number in the whole table; gives its path in the folder."""
    name = f"speech/{number:08}.wav"
    storage.write_bytes_atomic(str(folder / name), wav_bytes(samples))
    return name


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
    folder: Path,
    table: Table,
    plan: Mapping[str, Any],
    start: Callable[[], Worker],
    parts: Sequence[Path],
    rows_at_a_time: int,
    progress: Callable[[str], None],
) -> None:
    """Translate the chunks that are not there yet."""
    chunks = table.chunks(rows_at_a_time)
    left = [(chunk, part) for chunk, part in zip(chunks, parts, strict=True) if not part.is_file()]
    if not left:
        return
    storage.remove_unfinished(str(folder))
    worker = start()
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


def _check_same(folder: Path, wanted: Mapping[str, Any]) -> None:
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
