"""Kept pairs → rows to train on: the audio of each pair is cut from its recording and written beside the text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.audio import cut, encode
from seamlessalign.config import RunConfig
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.folder import shard_name
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.mining_stage import KEPT_GROUP, ORIGINS, kept_uri, origins_uri
from seamlessalign.pipelines.recordings import open_recording
from seamlessalign.rows import CORPUS, RECORDINGS

STAGE = "corpus"
PAIRS_PER_SHARD = KEPT_GROUP
ROW_GROUP = 100  # audio is big: a reader takes this many rows at a time
_SIDES = ("src", "tgt")
SUFFIX = {"flac": "flac", "opus": "ogg"}


@dataclass(frozen=True)
class CorpusShard:
    """Kept pairs `[first, last)` of a direction, in the order of their audio, so that a shard opens few recordings."""

    direction: str
    number: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Name of the shard in ledger and marks."""
        return f"direction={self.direction}.{shard_name(self.number)}"


def plan(context: Context) -> list[CorpusShard]:
    """The shards of every direction."""
    shards = []
    for direction in context.config.directions:
        total = storage.num_rows(kept_uri(direction, context))
        shards += [
            CorpusShard(direction, number, first, min(first + PAIRS_PER_SHARD, total))
            for number, first in enumerate(range(0, total, PAIRS_PER_SHARD))
        ]
    return shards


def process(shard: CorpusShard, digest: str, context: Context) -> Mark:
    """Do one shard of pairs, write its table, and return its completion mark."""
    watch, tally = Stopwatch(), Tally()
    pairs = storage.read_rows(kept_uri(shard.direction, context), shard.first, shard.last).to_pylist()
    recordings = _recordings(shard.direction, pairs, context)
    with watch.step("cut"):
        audio, problems = cut_all(pairs, recordings, context.config)
    rows = []
    with watch.step("encode"):
        for pair in pairs:
            sides = [side for side in _SIDES if pair[f"{side}_uri"] is not None]
            samples = pair[f"{sides[0]}_end"] - pair[f"{sides[0]}_start"]
            problem = next((problems[pair[f"{s}_uri"]] for s in sides if pair[f"{s}_uri"] in problems), None)
            if problem is not None:
                tally.drop(problem, samples=samples)
                continue
            tally.keep(samples=samples)
            rows.append(_row(pair, audio, recordings, context.config.corpus.audio_format))
            advance(STAGE, 1)
    uri = context.folder.table("corpus", f"direction={shard.direction}", shard_name(shard.number))
    metadata = {"seamlessalign.digest": digest, "huggingface": FEATURES}
    table = pa.Table.from_pylist(rows, schema=CORPUS)
    written = storage.write_table(uri, table, metadata=metadata, row_group_size=ROW_GROUP)
    line = tally.line(STAGE, shard.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    return Mark(STAGE, shard.name, digest, [context.folder.relative(uri)], [line])


def _recordings(direction: str, pairs: list[dict[str, Any]], context: Context) -> dict[str, dict[str, Any]]:
    """The recordings of some pairs by uri."""
    uri = origins_uri(direction, context)
    if storage.exists(uri):
        table = storage.read_table(uri)
    else:  # the direction was mined before there was such a file
        table = storage.read_tables(context.folder.table("recordings"), RECORDINGS, ORIGINS.names)
    wanted = pa.array({pair[f"{side}_uri"] for pair in pairs for side in _SIDES}, pa.string())
    return {row["uri"]: row for row in table.filter(pc.is_in(table.column("uri"), wanted)).to_pylist()}


def cut_all(
    pairs: list[dict[str, Any]],
    recordings: Mapping[str, Mapping[str, Any]],
    config: RunConfig,
    made: Callable[[Any], Any] = lambda samples: samples,
) -> tuple[dict[tuple[str, int, int], Any], dict[str, str]]:
    """Samples by (uri, start, end), or what is made of them, each recording opened once; and by uri the reason why one
    could not be cut.

    recordings: by uri, with the `sha256` that each had when it was mined.
    """
    wanted: dict[str, set[tuple[int, int]]] = {}
    for pair in pairs:
        for side in _SIDES:
            if pair[f"{side}_uri"] is not None:
                wanted.setdefault(pair[f"{side}_uri"], set()).add((pair[f"{side}_start"], pair[f"{side}_end"]))
    audio, problems = {}, {}
    for uri, spans in sorted(wanted.items()):
        ordered = sorted(spans)
        try:
            with open_recording(uri, config.speech.decode, config.root) as (path, decoding):
                if storage.sha256_of(path) != recordings[uri]["sha256"]:
                    problems[uri] = "audio_changed"  # since it was mined: its times mean nothing any more
                    continue
                for (start, end), samples in zip(
                    ordered, cut(path, np.array(ordered, np.int64), decoding), strict=True
                ):
                    audio[uri, start, end] = made(samples)
        except (OSError, UnreadableError):
            problems[uri] = "audio_gone"
    return audio, problems


def _row(
    pair: dict[str, Any], audio: dict[tuple[str, int, int], Any], recordings: dict[str, dict[str, Any]], format: Any
) -> dict[str, Any]:
    row = {name: pair.get(name) for name in CORPUS.names}
    for side in _SIDES:
        uri, start, end = (pair[f"{side}_{name}"] for name in ("uri", "start", "end"))
        if uri is None:
            continue
        name = audio_name(pair[f"{side}_id"], format)
        row[f"{side}_audio"] = {"bytes": encode(audio[uri, start, end], format), "path": name}
        row[f"{side}_license"] = recordings[uri]["license"]
        row[f"{side}_source"] = recordings[uri]["source"]
    return row


def audio_name(segment: str, format: Literal["flac", "opus"]) -> str:
    """Name of the audio of a segment, beside its bytes."""
    return f"{segment.replace(':', '_')}.{SUFFIX[format]}"


def _features() -> str:
    """The schema as Hugging Face features, so that `datasets` decodes the audio columns by itself."""
    kinds = {pa.string(): "string", pa.int64(): "int64", pa.float32(): "float32"}
    features: dict[str, Any] = {}
    for field in CORPUS:
        if field.name.endswith("_audio"):
            features[field.name] = {"sampling_rate": 16_000, "_type": "Audio"}
        else:
            features[field.name] = {"dtype": kinds[field.type], "_type": "Value"}
    return json.dumps({"info": {"features": features}})


FEATURES = _features()  # of the schema's metadata
