"""Rates from doing a short piece of the configured inputs with the configured models, on this machine."""

import gzip
import json
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from seamlessalign import storage
from seamlessalign.audio import stream
from seamlessalign.config import RunConfig
from seamlessalign.errors import InputError, SeamlessAlignError
from seamlessalign.pipelines import speech_stage, text_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import InputFile, Shard, cut_into_shards, find_recordings, find_texts
from seamlessalign.pipelines.ledger import write_ledger
from seamlessalign.pipelines.recordings import open_recording
from seamlessalign.pipelines.search_plan import audio_seconds
from seamlessalign.pipelines.shard_task import ShardTask, do_and_mark
from seamlessalign.pipelines.stage_rates import Rates, read_rates
from seamlessalign.rows import SAMPLE_RATE

SECONDS = 60.0  # of audio
LINES = 300  # of text
_PIECES = 3  # recordings that each give an equal part of the audio
_INTO = 60.0  # seconds into a recording that its part begins, where it is that long: beginnings are silent or music


def measure_rates(config: RunConfig, context: Context, recordings: list[Shard], texts: list[Shard]) -> Rates:
    """Embed a minute of audio and some hundred sentences, and read the rates from that. What is written goes again.

    Mining is not measured: of so few rows it would tell nothing. Raises InputError where the inputs have nothing that
    can be measured, and whatever a run over them would.
    """
    with tempfile.TemporaryDirectory(prefix="seamlessalign-rates-") as folder:
        root = Path(folder)
        entries = list(islice(_pieces(_spread(recordings), config, root), _PIECES))
        if not entries:
            raise InputError("speech.inputs: no recording could be read")
        (root / "recordings.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        inside = replace(context, root=str(root / "run"))
        (shard,) = cut_into_shards(find_recordings([str(root / "recordings.jsonl")]), _PIECES)
        tasks = [ShardTask(speech_stage.STAGE, shard.name, "rates", shard)]
        lines = b"".join(islice(_lines(texts), LINES))
        if lines:
            (root / "lines.txt").write_bytes(lines)
            (shard,) = cut_into_shards(find_texts([str(root / "lines.txt")]), 1)
            tasks.append(ShardTask(text_stage.STAGE, shard.name, "rates", shard))
        for task in tasks:
            do_and_mark(task, inside)
        write_ledger(inside.folder, [task.stage for task in tasks])
        storage.write_bytes_atomic(inside.folder.config, b"{}")
        origin = f"{len(entries)} pieces of the recordings, together {SECONDS:.0f} s at most, and up to {LINES} lines"
        rates = read_rates(inside.root, f"{origin}, embedded here and now")
    return replace(
        rates,
        on_gpu=context.device == "cuda",
        shares={},
        decoy_seconds=rates.text_seconds,
        decoy_bytes=rates.sentence_bytes,
        audio_bytes=_bytes_per_hour(recordings) or rates.audio_bytes,
    )


def _spread(shards: list[Shard]) -> list[InputFile]:
    """Recordings that can be found, in an order in which any few of the first lie far apart."""
    files = [file for shard in shards for file in shard.files if file.problem is None]
    step = max(1, len(files) // _PIECES)
    return [file for start in range(step) for file in files[start::step]]


def _pieces(files: list[InputFile], config: RunConfig, root: Path) -> Iterator[dict[str, str | None]]:
    """Lines of a manifest of parts of recordings, written as WAV; those that cannot be read are passed over."""
    seconds = SECONDS / _PIECES
    for number, file in enumerate(files):
        held: list[np.ndarray] = []  # type: ignore[type-arg]
        try:
            with open_recording(file.uri, config.speech.decode) as (path, decoding):
                for block in stream(path, decoding=decoding):
                    held.append(block)
                    if sum(map(len, held)) >= (_INTO + seconds) * SAMPLE_RATE:
                        break
        except (SeamlessAlignError, OSError):
            continue
        part = np.concatenate(held)[: int((_INTO + seconds) * SAMPLE_RATE)][-int(seconds * SAMPLE_RATE) :]
        soundfile.write(root / f"{number}.wav", part, SAMPLE_RATE)
        yield {"path": f"{number}.wav", **({"lang": file.lang} if file.lang else {})}


def _lines(shards: list[Shard]) -> Iterator[bytes]:
    for file in (file for shard in shards for file in shard.files if file.problem is None):
        try:
            with storage.open_read(file.uri) as raw:
                yield from gzip.GzipFile(fileobj=raw) if file.uri.endswith(".gz") else raw
        except (SeamlessAlignError, OSError, EOFError, zlib.error):
            continue


def _bytes_per_hour(shards: list[Shard]) -> float | None:
    """Bytes of an hour of the recordings as they are, from some whose length and size can be told at once."""
    files = [file for file in _spread(shards)[:100] if storage.is_local(file.uri) and "::" not in file.uri]
    seconds = audio_seconds([Shard("", tuple(files))])
    return sum(storage.size(file.uri) for file in files) / seconds * 3600 if seconds else None
