"""Rows of a corpus made for exports: short sounds, texts that are hard to write down, and tables beside them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from numpy.typing import NDArray

from seamlessalign.audio import encode
from seamlessalign.languages import Direction
from seamlessalign.pipelines.corpus_stage import FEATURES
from seamlessalign.pipelines.exports.clips import AudioFormat
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target, Written
from seamlessalign.rows import CORPUS, TRANSCRIPTS, UNITS, pair_id, segment_id, sentence_id

HOUSE = Path(__file__).parents[3]
TEXTS = [
    "The train to the city leaves at nine.",
    "a\ttab, a\nline feed, a\r\nboth, a\rreturn",
    '"quoted" \'twice\' ""',
    "🐟 fish and 🍞 bread, e\u0301 and \u202eback\u202c",
    "nothing\x00here",
    "NA",
    " spaces at both ends \n",
    "\u2028and\u2029separators\x85of lines\x0b\x0c",
    "<b>&amp;</b> \\n \\ % {} $x",
    "我们明天早上八点在车站见面。",
]
DIRECTIONS = ("eng-frA", "frA-eng", "esA-frA")  # text to speech, speech to text, speech to speech


def sound(seed: int) -> NDArray[np.float32]:
    """A noise of about a quarter of a second that 16 bit can hold; of like seeds none is as long as another."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(-8000, 8000, 3000 + 7 * (seed % 300)) / 32768, np.float32)


def pairs_of(direction: str, count: int, audio: AudioFormat = "flac", first: int = 0) -> pa.Table:
    """Rows of `corpus`, numbered from `first`, whose texts go round among `TEXTS`."""
    sides = Direction.parse(direction)
    rows = []
    for number in range(first, first + count):
        row: dict[str, Any] = dict.fromkeys(CORPUS.names)
        for place, (name, side) in enumerate((("src", sides.src), ("tgt", sides.tgt))):
            row[f"{name}_lang"] = side.lang
            if not side.is_audio:
                row[f"{name}_text"] = TEXTS[number % len(TEXTS)]
                row[f"{name}_id"] = sentence_id(f"{number}", side.lang)
                continue
            samples = sound(2 * number + place)
            start = 160 * number
            row[f"{name}_id"] = segment_id(f"{number % 3:016x}", start, start + len(samples))
            row |= {f"{name}_start": start, f"{name}_end": start + len(samples), f"{name}_uri": f"s3://b/{number % 3}"}
            row |= {f"{name}_license": "CC0-1.0", f"{name}_source": "voices\tof 'all'"}
            row[f"{name}_audio"] = {"bytes": encode(samples, audio), "path": f"{number}.flac"}
        row |= {"direction": direction, "margin": np.float32(1 + number / 7).item()}
        rows.append(row | {"pair_id": pair_id(row["src_id"], row["tgt_id"])})
    return pa.Table.from_pylist(rows, CORPUS.with_metadata({"huggingface": FEATURES, "seamlessalign.digest": "d"}))


def beside(pairs: pa.Table) -> dict[str, pa.Table]:
    """Units of every side that is speech, and transcripts of all of them but those of every seventh pair."""
    units, transcripts = [], []
    for number, row in enumerate(pairs.to_pylist()):
        for side in ("src", "tgt"):
            if row[f"{side}_audio"] is None:
                continue
            about = {"pair_id": row["pair_id"], "side": side, "lang": row[f"{side}_lang"]}
            units.append({**about, "units": [number, 7, 9], "durations": [2, 1, 3]})
            if number % 7 != 6:
                transcripts.append({**about, "text": f"heard {number} {TEXTS[number % 3]}", "avg_logprob": -0.5})
    return {
        "units": pa.Table.from_pylist(units, UNITS),
        "transcripts": pa.Table.from_pylist(transcripts, TRANSCRIPTS),
    }


def export(
    name: str,
    target: Target,
    shards: Mapping[Shard, pa.Table],
    tables: Mapping[Shard, Mapping[str, pa.Table]] | None = None,
    rows: int = 7,
) -> list[Written]:
    """Write shards in a format, some rows at a time, and what spans them."""
    written = []
    for shard, pairs in shards.items():
        with FORMATS[name].writer(target, shard, (tables or {}).get(shard, {})) as writer:
            for start in range(0, len(pairs), rows):
                writer.add(pairs.slice(start, rows))
        written.append(writer.written)
    FORMATS[name].finish(target, written)
    return written


def corpus(audio: AudioFormat = "flac", splits: Sequence[str] = ("train", "test")) -> dict[Shard, pa.Table]:
    """Two parts of each direction in the first split, and one of them in the others."""
    shards = {}
    for place, direction in enumerate(DIRECTIONS):
        for number, split in enumerate([splits[0], *splits]):
            first = 1000 * place + 20 * number
            shards[Shard(direction, number, split)] = pairs_of(direction, 12 - number, audio, first)
    return shards


def rows_of(shards: Mapping[Shard, pa.Table], split: str | None = None) -> dict[str, dict[str, Any]]:
    """Rows by pair_id, of a split or of all."""
    tables = [pairs for shard, pairs in shards.items() if split in (None, shard.split)]
    return {row["pair_id"]: row for pairs in tables for row in pairs.to_pylist()}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that are not audio."""
    return {name: value for name, value in row.items() if not name.endswith("_audio")}


def samples_of(row: Mapping[str, Any], side: str) -> NDArray[np.float32]:
    """The decoded audio of a side, float32 (num_samples,)."""
    samples, rate = soundfile.read(io.BytesIO(row[f"{side}_audio"]["bytes"]), dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
