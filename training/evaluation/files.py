"""The files of an evaluation: what is told, and the numbers and texts behind it.

| file | |
|---|---|
| `evaluation.json` | every score with its signature, interval and comparison; written last |
| `statistics.parquet` | the numbers of each row of which scores are made, and the score of the row by itself |
| `translations.parquet` | source, references and what each system wrote and what was heard in what it said |
| `behind.jsonl` | the rows behind counts |
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.training.evaluation.measures import Measured
from seamlessalign.training.evaluation.results import Evaluation
from seamlessalign.training.evaluation.rows import SystemOutputs
from seamlessalign.training.evaluation.subjects import Translations
from seamlessalign.typed_config import digest

Found = Mapping[str, Mapping[str, Sequence[tuple[str, Measured]]]]  # task → system → direction and measure

STATISTICS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("system", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("statistics", pa.list_(pa.float64()), nullable=False),
        pa.field("score", pa.float64()),  # of the row by itself
    ]
)

TRANSLATIONS = pa.schema(
    [
        pa.field("system", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("src_lang", pa.string(), nullable=False),
        pa.field("tgt_lang", pa.string(), nullable=False),
        pa.field("src_text", pa.string()),
        pa.field("references", pa.list_(pa.string()), nullable=False),
        pa.field("text", pa.string()),  # what the system wrote
        pa.field("heard", pa.string()),  # what was heard in what it said
    ]
)


def write_evaluation(output: str, found: Found, result: Evaluation) -> None:
    """Write them to a folder, in place of what another evaluation wrote there. Raises StorageError."""
    written = ["statistics.parquet", "behind.jsonl"]
    storage.remove(storage.join(output, "evaluation.html"))  # of other scores
    storage.write_table(storage.join(output, "statistics.parquet"), _statistics(found))
    if result.translations is not None:
        written.append("translations.parquet")
        storage.write_table(storage.join(output, "translations.parquet"), _translations(result.translations))
    else:
        storage.remove(storage.join(output, "translations.parquet"))
    behind = [
        {"task": task, "system": system, "direction": direction, "measure": one.measure}
        | ({"condition": one.condition} if one.condition else {})
        | row
        for task, systems in found.items()
        for system, some in systems.items()
        for direction, one in some
        for row in one.behind
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in behind)
    storage.write_bytes_atomic(storage.join(output, "behind.jsonl"), _utf8(lines))
    told = {**_told_translations(result), "baselines": dict(result.baselines)}
    told["files"] = {name: sha256_of(storage.join(output, name)) for name in sorted(written)}
    told["scores"] = [line.to_json() for line in result.lines]
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(storage.join(output, "evaluation.json"), _utf8(text))


def sha256_of(file: str) -> str:
    """By which an evaluation knows its own files from those that another wrote."""
    with storage.local_copy(file) as path:
        return storage.sha256_of(path)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair is written as its number


def _told_translations(result: Evaluation) -> dict[str, Any]:
    made = result.translations
    if made is None:
        return {}
    return {
        "rows": len(made.rows),
        **({"data set": made.data_set} if made.data_set else {}),
        "digest of rows": digest([(row.id, row.src_lang, row.tgt_lang, row.references) for row in made.rows]),
        "systems": {name: _told_system(one) for name, one in made.systems.items()},
        **({"noise": dict(made.noise), "unreadable noise": dict(made.unreadable_noise)} if made.noise else {}),
    }


def _told_system(made: SystemOutputs) -> dict[str, Any]:
    """What is told of a system's outputs; of one that was run, with which settings, and what it set aside and why."""
    told: dict[str, Any] = {"missing": made.missing, "not_asked": made.not_asked}
    told |= {key: dict(value) for key in ("set_aside", "settings") if (value := getattr(made, key))}
    if made.noisy:
        told["noisy"] = {
            condition: {key: value for key, value in _told_system(one).items() if key != "settings"}
            for condition, one in made.noisy.items()
        }
    return told


def _statistics(found: Found) -> pa.Table:
    parts = [STATISTICS.empty_table()]
    for task, systems in found.items():
        for system, some in systems.items():
            for direction, one in some:
                about = {
                    "task": task,
                    "system": system,
                    "direction": direction,
                    "condition": one.condition,
                    "measure": one.measure,
                }
                parts.append(_table_of(one, about))
    return pa.concat_tables(parts)


def _table_of(measured: Measured, about: Mapping[str, str]) -> pa.Table:
    rows, width = measured.statistics.shape
    columns: dict[str, Any] = {name: pa.repeat(value, rows) for name, value in about.items()}
    columns["id"] = pa.array(list(measured.ids), pa.string())
    offsets = pa.array(np.arange(rows + 1) * width, pa.int32())
    columns["statistics"] = pa.ListArray.from_arrays(offsets, pa.array(measured.statistics.ravel(), pa.float64()))
    columns["score"] = pa.array(measured.row_scores(), pa.float64(), from_pandas=True)  # nan is null
    return pa.table(columns, schema=STATISTICS)


def _translations(made: Translations) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for name, system in made.systems.items():
        heard = made.heard.get(name, {})
        for row, output in zip(made.rows, system.outputs, strict=True):
            rows.append(
                {
                    "system": name,
                    "id": row.id,
                    "src_lang": row.src_lang,
                    "tgt_lang": row.tgt_lang,
                    "src_text": row.src_text,
                    "references": list(row.references),
                    "text": output.text,
                    "heard": heard.get(row.id),
                }
            )
    return pa.Table.from_pylist(rows, schema=TRANSLATIONS)
