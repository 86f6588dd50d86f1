"""Tables beside the corpus: what some stages make of the audio sides of its pairs, a row of each.

Such a stage is there only where the configuration has a section of its name. Each of its shards is one of the corpus,
and its table, its ledger lines and its section have one name.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.errors import StorageError, UnreadableError
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.folder import shard_name
from seamlessalign.pipelines.ledger import Mark, Tally

SIDES = "seamlessalign.sides"  # in the schema's metadata: which sides were asked for


@dataclass(frozen=True)
class AudioSide:
    """One side of a kept pair that is audio."""

    lang: str  # ISO 639-3
    waveform: npt.NDArray[np.float32]  # 16 kHz


@dataclass(frozen=True)
class SideMaker(ABC):
    """Makes the rows of a table beside the corpus."""

    schema: pa.Schema  # pair_id, side, lang, and what is made
    models: Mapping[str, str]  # name → SHA-256, for the ledger
    metadata: Mapping[str, str] = field(default_factory=dict)  # of the schema, beside the digest and the sides
    step: str = "make"  # what its work is called in the ledger
    at_once: int = 16  # pairs that are decoded and heard together

    @abstractmethod
    def make(self, sides: Sequence[AudioSide]) -> list[dict[str, Any] | str]:
        """For each side its columns, or the reason why it has no row."""


def process_sides(
    stage: str, shard: CorpusShard, digest: str, context: Context, sides: Sequence[str], load: Callable[[], SideMaker]
) -> Mark:
    """Make the rows of one shard of the corpus, write them, and return the completion mark.

    sides: `src`, `tgt` or both. Raises StorageError for audio of the corpus that cannot be decoded.
    """
    watch, tally, wanted = Stopwatch(), Tally(), sorted(sides)
    with watch.step("load models"):
        maker = load()
    corpus = context.folder.table("corpus", f"direction={shard.direction}", shard_name(shard.number))
    rows: list[dict[str, Any]] = []
    read = 0
    for pairs in _pairs(corpus, maker.at_once):
        there = [(pair, side) for pair in pairs for side in wanted if pair[f"{side}_audio"] is not None]
        with watch.step("decode"):
            read += sum(len(pair[f"{side}_audio"]["bytes"]) for pair, side in there)
            heard = [AudioSide(pair[f"{side}_lang"], _samples(pair, side, corpus)) for pair, side in there]
        with watch.step(maker.step):
            made = maker.make(heard)
        for (pair, side), columns in zip(there, made, strict=True):
            samples = pair[f"{side}_end"] - pair[f"{side}_start"]
            if isinstance(columns, str):
                tally.drop(columns, samples=samples)
                continue
            tally.keep(samples=samples)
            rows.append({"pair_id": pair["pair_id"], "side": side, "lang": pair[f"{side}_lang"], **columns})
        advance(stage, len(pairs))
    uri = context.folder.table(stage, f"direction={shard.direction}", shard_name(shard.number))
    metadata = {"seamlessalign.digest": digest, **maker.metadata, SIDES: ",".join(wanted)}
    written = storage.write_table(uri, pa.Table.from_pylist(rows, schema=maker.schema), metadata=metadata)
    line = tally.line(
        stage, shard.name, digest=digest, seconds=watch.seconds, bytes_read=read, bytes_written=written,
        models=maker.models,
    )  # fmt: skip
    return Mark(stage, shard.name, digest, [context.folder.relative(uri)], [line])


def _pairs(corpus: str, at_once: int) -> Iterator[list[dict[str, Any]]]:
    columns = ["pair_id"]
    columns += [f"{side}_{name}" for side in ("src", "tgt") for name in ("lang", "audio", "start", "end")]
    for batch in storage.read_batches(corpus, columns, at_once):
        yield batch.to_pylist()


def _samples(pair: dict[str, Any], side: str, corpus: str) -> npt.NDArray[np.float32]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair[f"{side}_audio"]["bytes"])
        file.flush()
        try:
            return np.asarray(decode(Path(file.name)).samples, np.float32)
        except UnreadableError as error:
            raise StorageError(f"{corpus}: pair {pair['pair_id']}: its {side}_audio cannot be read: {error}") from error
