"""A small mined corpus on disk, with sound and units, and rows of an index that were never on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign.audio import encode
from seamlessalign.rows import CORPUS, SAMPLE_RATE, pair_id
from seamlessalign.training.data.batches import Reader, UnityBatches
from seamlessalign.training.data.index import GROUP, ROW, RowIndex
from seamlessalign.training.data.limits import OFFERS, Items
from seamlessalign.training.data.mixing import Mixture
from seamlessalign.training.data.settings import BatchSettings, DataSource, TranslationData
from seamlessalign.training.data.sources import RowSource
from seamlessalign.typed_config import checked
from tests.ground.sounds import noise
from tests.training.tiny_unity import tiny_text, tiny_units

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "birds", "fly", "over", "green", "hills"]
LANGUAGES = ("eng", "fra", "rus")
NUM_UNITS = 12


def sentence(number: int) -> str:
    """Words that say which row they are of; lengths differ."""
    rng = np.random.default_rng(number)
    return " ".join([*rng.choice(WORDS, 2 + number % 6), WORDS[number % len(WORDS)], "s" * (1 + number % 7)])


def seconds_of(number: int) -> float:
    return 0.3 + 0.1 * (number * 7 % 11)


def corpus_row(number: int, speech: str = "fra", **changes: Any) -> dict[str, Any]:
    """Row of the direction eng-frA: English text, French speech and what it says."""
    length = round(seconds_of(number) * SAMPLE_RATE)
    src, tgt = f"{number:016x}", f"recording:{number}-{number + length}"
    row: dict[str, Any] = dict.fromkeys(CORPUS.names)
    row |= {
        "pair_id": pair_id(src, tgt),
        "direction": "eng-frA",
        "margin": 1.0 + (number * 13 % 17) / 100,
        "src_lang": "eng",
        "tgt_lang": speech,
        "src_text": sentence(number),
        "tgt_text": f"{sentence(number + 1000)}",
        "tgt_audio": {"bytes": encode(noise(length, seed=number)[:, 0], "flac"), "path": f"{number}.flac"},
        "src_id": src,
        "tgt_id": tgt,
        "tgt_start": number,
        "tgt_end": number + length,
    }
    return row | changes


def units_of(number: int) -> list[int]:
    """Not reduced: repeats lie beside each other."""
    rng = np.random.default_rng(number)
    return [int(unit) for unit in rng.integers(0, NUM_UNITS, 5 + number % 9) for _ in range(2)]


def write_corpus(folder: Path, rows: Sequence[dict[str, Any]], files: int = 2, group: int = 5) -> Path:
    """A run's folder: corpus/ with so many files, in row groups of `group`; units/ of the spoken side."""
    place = folder / "corpus" / "direction=eng-frA"
    place.mkdir(parents=True)
    for number in range(files):
        table = pa.Table.from_pylist(list(rows[number::files]), CORPUS)
        pq.write_table(table, place / f"part-{number:05}.parquet", row_group_size=group)
    return folder


def write_units(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The table of units of a run, of the target side, in another order than its rows."""
    place = folder / "units" / "direction=eng-frA"
    place.mkdir(parents=True)
    named = [(row["pair_id"], units_of(number)) for number, row in enumerate(rows)]
    table = pa.table(
        {
            "pair_id": [name for name, _ in reversed(named)],
            "side": ["tgt"] * len(named),
            "lang": ["fra"] * len(named),
            "units": pa.array([units for _, units in reversed(named)], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, place / "part-00000.parquet")
    return folder / "units"


def data_of(*train: dict[str, Any], **keys: Any) -> TranslationData:
    """Settings as a file would hold them."""
    return checked(TranslationData, {"train": list(train), "tasks": ["asr", "s2tt"]} | keys, "a.yaml")


def source_of(**keys: Any) -> DataSource:
    return data_of(keys).train[0]


def vocabularies() -> tuple[Any, Any]:
    return tiny_text(*LANGUAGES), tiny_units(*LANGUAGES)


def made_index(
    seconds: Sequence[float],
    subwords: Sequence[tuple[int, int]],
    *,
    groups: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    margin: Sequence[float] | None = None,
    lang: Sequence[tuple[int, int]] | None = None,
    units: Sequence[int] | None = None,
    size: int = 1_000_000,
) -> RowIndex:
    """Rows that were never on disk: speech, text and units on the first side, text on the second.

    groups: number of the row group of each; sources: of each group. A length of 0 is a part that is not there.
    """
    count = len(seconds)
    rows = np.zeros(count, ROW)
    rows["key"] = np.array([(i + 1) * 0x9E3779B97F4A7C15 % 2**64 for i in range(count)], np.uint64)
    rows["group"] = groups if groups is not None else np.zeros(count)
    rows["row"] = np.arange(count)
    rows["margin"] = np.nan if margin is None else margin
    rows["owns"] = 3
    rows["lang"] = lang if lang is not None else (0, 1)
    rows["seconds"] = np.nan
    rows["seconds"][:, 0] = np.where(np.array(seconds) > 0, seconds, np.nan)
    rows["subwords"] = np.array(subwords).reshape(count, 2)
    rows["chars"] = 4 * rows["subwords"]
    if units is not None:
        rows["units"][:, 0] = units
        rows["units_start"] = np.concatenate([[0], np.cumsum(units)[:-1]])
    number = 1 + max(groups, default=0) if groups is not None else 1
    of_groups = np.zeros(number, GROUP)
    of_groups["size"], of_groups["rows"] = size, count
    of_groups["source"] = sources if sources is not None else 0
    values = np.zeros(sum(units) if units is not None else 0, np.uint16)
    return RowIndex(rows, of_groups, values, ["aaa", "bbb", "ccc"], [""])


def items_of(index: RowIndex, *offers: tuple[str, int]) -> Items:
    """All rows of an index, in each of some offers."""
    numbers = [OFFERS.index(offer) for offer in offers]  # type: ignore[arg-type]
    rows = np.repeat(np.arange(len(index.rows), dtype=np.uint32), len(numbers))
    return Items(index, rows, np.tile(np.array(numbers, np.uint8), len(index.rows)))


def batches_of(
    mixture: Mixture,
    settings: Sequence[DataSource],
    sources: Sequence[RowSource],
    batches: BatchSettings,
    memory: int = 1 << 30,
    **keys: Any,
) -> UnityBatches:
    """Batches without changes."""
    text, units = vocabularies()
    reader = Reader(mixture.items, settings, sources, memory)
    return UnityBatches(mixture, reader, text, units, batches, keys.pop("augment", None), keys.pop("seed", 0), **keys)


def write_lines(path: Path, values: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path
