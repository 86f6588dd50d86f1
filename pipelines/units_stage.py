"""The corpus → discrete units: the audio of every kept pair as what a text-to-unit model is taught.

The stage is there only where the configuration has a section `units`. Each of its shards is one of the corpus.
"""

import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.config import UnitsConfig
from seamlessalign.errors import ConfigError, StorageError, UnreadableError
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.folder import UNITS_STAGE, shard_name
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.rows import UNITS
from seamlessalign.training.units.files import read_card
from seamlessalign.training.units.repeats import reduce_units

STAGE = UNITS_STAGE
TABLE = "units"
FINGERPRINT = "seamlessalign.units"  # in the schema's metadata: whose units these are
NUM_UNITS, SIDES = "seamlessalign.num_units", "seamlessalign.sides"
_AT_ONCE = 16  # pairs that are decoded and heard together


def digest_parts(context: Context) -> list[Any]:
    """What units depend on besides the audio."""
    units = settings(context)
    return [read_card(units.model).fingerprint, sorted(units.sides)]


def settings(context: Context) -> UnitsConfig:
    """The section of the configuration. Raises ConfigError where there is none."""
    if context.config.units is None:
        raise ConfigError("units: the configuration has no such section")
    return context.config.units


def process(shard: CorpusShard, digest: str, context: Context) -> Mark:
    """Make the units of one shard of the corpus, write them, and return the completion mark."""
    watch, tally, units = Stopwatch(), Tally(), settings(context)
    with watch.step("load models"):
        models = tuple(sorted(context.config.models.items()))
        extractor = _load(units.model, read_card(units.model).fingerprint, models, context.device)
    corpus = context.folder.table("corpus", f"direction={shard.direction}", shard_name(shard.number))
    rows: list[dict[str, Any]] = []
    read = 0
    for pairs in _pairs(corpus):
        sides = [(pair, side) for pair in pairs for side in sorted(units.sides) if pair[f"{side}_audio"] is not None]
        with watch.step("decode"):
            read += sum(len(pair[f"{side}_audio"]["bytes"]) for pair, side in sides)
            waveforms = [_samples(pair, side, corpus) for pair, side in sides]
        with watch.step("extract"):
            found = extractor.extract_batch(waveforms)
        for (pair, side), frames in zip(sides, found, strict=True):
            samples = pair[f"{side}_end"] - pair[f"{side}_start"]
            if not len(frames):
                tally.drop("too_short", samples=samples)
                continue
            tally.keep(samples=samples)
            reduced, durations = reduce_units(frames)
            about = {"pair_id": pair["pair_id"], "side": side, "lang": pair[f"{side}_lang"]}
            rows.append({**about, "units": reduced, "durations": durations})
        advance(STAGE, len(pairs))
    uri = context.folder.table(TABLE, f"direction={shard.direction}", shard_name(shard.number))
    card = extractor.card
    metadata = {
        "seamlessalign.digest": digest,
        FINGERPRINT: card.fingerprint,
        NUM_UNITS: str(card.units),
        SIDES: ",".join(sorted(units.sides)),
    }
    written = storage.write_table(uri, pa.Table.from_pylist(rows, schema=UNITS), metadata=metadata)
    line = tally.line(
        STAGE, shard.name, digest=digest, seconds=watch.seconds, bytes_read=read, bytes_written=written,
        models={**card.models, "units": card.sha256},
    )  # fmt: skip
    return Mark(STAGE, shard.name, digest, [context.folder.relative(uri)], [line])


def _pairs(corpus: str) -> Iterator[list[dict[str, Any]]]:
    columns = ["pair_id"]
    columns += [f"{side}_{name}" for side in ("src", "tgt") for name in ("lang", "audio", "start", "end")]
    for batch in storage.read_batches(corpus, columns, _AT_ONCE):
        yield batch.to_pylist()


def _samples(pair: dict[str, Any], side: str, corpus: str) -> npt.NDArray[np.float32]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair[f"{side}_audio"]["bytes"])
        file.flush()
        try:
            return np.asarray(decode(Path(file.name)).samples, np.float32)
        except UnreadableError as error:
            raise StorageError(f"{corpus}: pair {pair['pair_id']}: its {side}_audio cannot be read: {error}") from error


@lru_cache(maxsize=1)
def _load(directory: str, fingerprint: str, models: tuple[tuple[str, str], ...], device: str) -> Any:
    """The extractor; a process keeps one. Another fingerprint means that the directory was written anew."""
    from seamlessalign.training.units.extractor import UnitExtractor

    return UnitExtractor.load(directory, dict(models), device)
