"""Rows of a test set as a table that any system can translate, and that an evaluation reads again."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.speech_sources import Sound, sound_bytes
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.datasets.reading import read_test_set
from seamlessalign.training.evaluation.rows import TestRow

_SOUND = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
ROWS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("src_lang", pa.string(), nullable=False),
        pa.field("tgt_lang", pa.string(), nullable=False),
        pa.field("src_text", pa.string()),
        pa.field("reference", pa.list_(pa.string()), nullable=False),
        pa.field("reference_masculine", pa.string()),
        pa.field("reference_feminine", pa.string()),
        pa.field("group", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("gender", pa.string()),
        pa.field("src_audio", _SOUND),
        pa.field("reference_audio", _SOUND),
    ]
)
_SOUNDS = ("src_audio", "reference_audio")
_TOGETHER = 500  # rows whose sound is in memory at a time; of one tar file after the other


def write_rows_of(config: EvaluationConfig, file: str, say: Callable[[str], None] = lambda _: None) -> int:
    """Write the rows of a configuration. Returns the exit status: 3 where there is sound that could not be read.

    Raises ConfigError for a configuration without rows and another kind of file.
    """
    if config.rows is None:
        raise ConfigError("--rows-to: the configuration has no rows")
    if not file.endswith((".parquet", ".jsonl")):
        raise ConfigError(f"--rows-to {file}: write a .parquet file, or .jsonl")
    rows = read_test_set(config.rows, say).rows
    lost = write_rows(rows, file)
    say(f"{file}: {len(rows):,} rows")
    for reason, count in sorted(lost.items()):
        say(f"{count:,} sounds cannot be read, their rows stay without them: {reason}")
    return 3 if lost else 0


def write_rows(rows: Sequence[TestRow], file: str) -> Counter[str]:
    """Write rows, as Parquet with their sound or as JSON lines with its paths. Returns sounds lost, by reason."""
    lost = Counter[str]()
    if file.endswith(".jsonl"):
        lines = (json.dumps(_paths(row), ensure_ascii=False) + "\n" for row in rows)
        storage.write_bytes_atomic(file, "".join(lines).encode("utf-8", "backslashreplace"))
        return lost
    storage.write_tables(file, _batches(rows, lost), ROWS, {})
    return lost


def _batches(rows: Sequence[TestRow], lost: Counter[str]) -> Iterator[pa.Table]:
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        told = [_values(row) for row in some]
        columns = {name: [values[name] for values in told] for name in ROWS.names if name not in _SOUNDS}
        columns["src_audio"] = [_content(row.src_sound, lost) for row in some]
        columns["reference_audio"] = [_content(row.reference_sound, lost) for row in some]
        yield pa.table(columns, schema=ROWS)


def _values(row: TestRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "src_lang": row.src_lang,
        "tgt_lang": row.tgt_lang,
        "src_text": row.src_text,
        "reference": list(row.references),
        "reference_masculine": row.references_by_gender.get("masculine"),
        "reference_feminine": row.references_by_gender.get("feminine"),
        "group": row.group,
        "speaker": row.speaker,
        "gender": row.gender,
    }


def _paths(row: TestRow) -> dict[str, Any]:
    values = _values(row) | {"src_audio": _path(row.src_sound), "reference_audio": _path(row.reference_sound)}
    return {name: value for name, value in values.items() if value is not None}


def _path(sound: Sound | None) -> str | None:
    if sound is None:
        return None
    path = str(Path(sound.path).absolute())
    return path if sound.row < 0 else f"{path}::{sound.column}/{sound.row}"


def _content(sound: Sound | None, lost: Counter[str]) -> dict[str, Any] | None:
    if sound is None:
        return None
    try:
        return {"bytes": sound_bytes(sound), "path": Path(sound.path.rpartition("::")[2]).name}
    except UnreadableError as error:
        lost[error.reason] += 1
        return None
