"""A shard of recordings → tables of segments with embeddings, of recordings and of what could not be read.

Audio is decoded once and only what mining needs is written.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.known_languages import TOLD, TOLD_TABLE
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.look_ahead import Alone
from seamlessalign.pipelines.span_counts import FRAMES_TABLE
from seamlessalign.pipelines.speech_ahead import taken
from seamlessalign.pipelines.speech_recordings import STAGE as STAGE
from seamlessalign.pipelines.speech_recordings import Recordings, SpeechModels, SpeechOutput
from seamlessalign.pipelines.stretch_rows import StretchRows
from seamlessalign.rows import RECORDINGS, segments_schema
from seamlessalign.secrets import redact, redact_uri
from seamlessalign.segmentation.kept_scores import FRAMES
from seamlessalign.segmentation.quality import COLUMNS, DNSMOS_COLUMNS


def process(shard: Shard, digest: str, context: Context) -> Mark:
    """Do one shard of recordings, write its tables, and return its completion mark."""
    models, output = taken(shard, digest) or _done_here(shard, digest, context)
    touching = models.fingerprints()
    metadata = {"seamlessalign.digest": digest, "seamlessalign.models": json.dumps(touching, sort_keys=True)}
    outputs, written = _write(shard, context, models.load()[1].dim, output, metadata)
    lines = [
        output.recordings_tally.line(
            "recordings",
            shard.name,
            digest=digest,
            models=touching,
            seconds=output.watch.seconds,
            bytes_read=output.bytes_read,
        ),
        output.segments_tally.line("segments", shard.name, digest=digest, models=touching, bytes_written=written),
    ]
    return Mark(STAGE, shard.name, digest, outputs, lines)


def _done_here(shard: Shard, digest: str, context: Context) -> tuple[SpeechModels, SpeechOutput]:
    """Do the recordings one after the other, each with all threads."""
    models, output = SpeechModels(context), SpeechOutput()
    stretches = StretchRows(context.folder, shard.name, digest)
    with output.watch.step("load models"):
        models.load()
    for file in shard.files:
        Recordings(context, models, Alone(), output, stretches).do(file)
    return models, output


def _write(
    shard: Shard, context: Context, dim: int, output: SpeechOutput, metadata: dict[str, str]
) -> tuple[list[str], int]:
    """Write a shard's tables and quarantine; returns their names below the run's folder and their bytes."""
    folder = context.folder
    outputs, written = [], 0
    quality = context.config.speech.quality
    measures = (*COLUMNS, *DNSMOS_COLUMNS) if quality.rated else COLUMNS
    schema = segments_schema(dim, measures if quality.wanted else ())
    for lang, segments in sorted(output.segments.items()):
        uri = folder.table("segments", f"lang={lang}", shard.name)
        rows = np.concatenate(output.embeddings[lang])
        written += storage.write_table(
            uri,
            storage.with_embeddings(segments, rows, schema),
            metadata=metadata,
        )
        outputs.append(folder.relative(uri))
    uri = folder.table("recordings", part=shard.name)
    table = pa.Table.from_pylist([asdict(row) for row in output.recordings], schema=RECORDINGS)
    written += storage.write_table(uri, table, metadata=metadata)
    outputs.append(folder.relative(uri))
    if context.config.speech.vad.keep_probabilities:
        uri = folder.table(FRAMES_TABLE, part=shard.name)
        written += storage.write_table(uri, pa.Table.from_pylist(output.frames, schema=FRAMES), metadata=metadata)
        outputs.append(folder.relative(uri))
    if context.config.speech.lid.check_stated:
        uri = folder.table(TOLD_TABLE, part=shard.name)
        written += storage.write_table(uri, pa.Table.from_pylist(output.told, schema=TOLD), metadata=metadata)
        outputs.append(folder.relative(uri))
    outputs.extend(write_quarantine(folder, STAGE, shard.name, output.quarantine))
    return outputs, written


def write_quarantine(folder: Any, stage: str, shard: str, entries: list[dict[str, Any]]) -> list[str]:
    """Write what could not be read, one JSON object a line; nothing where there is nothing."""
    if not entries:
        return []
    uri = folder.quarantine(stage, shard)
    shown = [
        {name: redact(value) if name == "detail" else redact_uri(value) for name, value in entry.items()}
        for entry in entries
    ]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in shown)
    storage.write_bytes_atomic(uri, lines.encode("utf-8", "backslashreplace"))
    return [folder.relative(uri)]
