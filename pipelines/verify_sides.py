"""Whether what stages made of the sides of pairs fits the corpus: every audio side once, or counted as dropped."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.pipelines import units_stage
from seamlessalign.pipelines.folder import TRANSCRIPTS_STAGE, UNITS_STAGE
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.side_tables import SIDES
from seamlessalign.pipelines.verify_files import Check, Marked, line_of
from seamlessalign.pipelines.verify_rows import batches_of
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import has_words

_STRIDE = 320  # samples of a unit
_MOST_NAMED = 5
_CALLED = {UNITS_STAGE: "as units", TRANSCRIPTS_STAGE: "as text"}

Side = tuple[str, str]  # pair_id, and src or tgt


def check_sides(check: Check, marked: Marked, stage: str) -> None:
    """Compare each shard of a stage behind the corpus with its shard of that."""
    sides = samples = 0
    corpus = {mark.shard: mark for mark in marked.shards("corpus")}
    made = {mark.shard: mark for mark in marked.shards(stage)}
    for shard in sorted(corpus.keys() ^ made.keys()):
        check.tell(f"{stage} {shard}", "is not done" if shard in corpus else "has no shard of the corpus")
    for shard in sorted(corpus.keys() & made.keys()):
        counted = _check_shard(check, marked, stage, made[shard], corpus[shard])
        sides, samples = sides + counted[0], samples + counted[1]
    check.summary = f"{sides} sides of the corpus {_CALLED[stage]}, {samples / SAMPLE_RATE / 3600:.3f} h"


def _check_shard(check: Check, marked: Marked, stage: str, mark: Mark, corpus: Mark) -> tuple[int, int]:
    """Sides that have a row in a shard, and how many samples these are."""
    where, line = f"{stage} {mark.shard}", line_of(mark, stage)
    if line is None:
        check.tell(where, "its mark has no ledger line")
        return 0, 0
    files = marked.files(mark, stage)
    metadata = {file: storage.footer(marked.uri(file))[1] for file in files}
    asked = {side for about in metadata.values() for side in about.get(SIDES, "").split(",")}
    wanted = _sides(marked, corpus, asked, check)
    columns, look = _LOOKS[stage]
    there: set[Side] = set()
    for file in files:
        for batch in batches_of(marked, mark, file, ["pair_id", "side", *columns], check):
            keys = [(row["pair_id"], row["side"]) for row in batch.select(["pair_id", "side"]).to_pylist()]
            faults = look(batch, metadata[file], [wanted.get(key) for key in keys])
            for key, fault in zip(keys, faults, strict=True):
                if fault:
                    check.tell(f"{where}: {file}", f"{key[0]} {key[1]}: {fault}")
                if key in there:
                    check.tell(f"{where}: {file}", f"{key[0]} {key[1]} is there more than once")
                there.add(key)
    for key in sorted(there - wanted.keys())[:_MOST_NAMED]:
        check.tell(where, f"{key[0]} {key[1]} is no audio of its shard of the corpus")
    kept = {key: samples for key, samples in wanted.items() if key in there}
    check.compare(where, "audio sides of the corpus come in", len(wanted), line.rows_in)
    check.compare(where, "samples come in", sum(wanted.values()), line.samples_in)
    check.compare(where, "sides that are kept", len(kept), line.rows_kept)
    check.compare(where, "samples of sides that are kept", sum(kept.values()), line.samples_kept)
    return len(kept), sum(kept.values())


def _sides(marked: Marked, corpus: Mark, asked: set[str], check: Check) -> dict[Side, int]:
    """Samples of the audio sides of a shard of the corpus by pair and side."""
    wanted: dict[Side, int] = {}
    columns = ["pair_id", *(f"{side}_{name}" for side in ("src", "tgt") for name in ("start", "end"))]
    for file in marked.files(corpus, "corpus"):
        for batch in batches_of(marked, corpus, file, columns, check):
            for row in batch.to_pylist():
                for side in ("src", "tgt"):
                    if side in asked and row[f"{side}_start"] is not None:
                        wanted[row["pair_id"], side] = row[f"{side}_end"] - row[f"{side}_start"]
    return wanted


# What is wrong with each row of a batch, by its columns and the samples of its side (None where there is no such side)
_Look = Callable[[pa.RecordBatch, Mapping[str, str], list[int | None]], list[str]]


def _look_at_units(batch: pa.RecordBatch, metadata: Mapping[str, str], samples: list[int | None]) -> list[str]:
    """Units must be there, below their number, reduced, and last as long as the audio."""
    most, found = int(metadata.get(units_stage.NUM_UNITS, "0")), []
    for units, durations, there in zip(batch.column("units"), batch.column("durations"), samples, strict=True):
        values, lasts = units.values.to_numpy(), durations.values.to_numpy()
        good = len(values) == len(lasts) and len(values) > 0 and lasts.min() > 0
        good = good and values.min() >= 0 and values.max() < most and bool((np.diff(values) != 0).all())
        frames = int(pc.sum(durations.values).as_py()) if good else 0
        if not good:
            found.append(f"are no reduced units below {most}")
        elif there is not None and not -_STRIDE // 2 < there - frames * _STRIDE < 2 * _STRIDE:
            found.append(f"has {there} samples, its units last {frames * _STRIDE}")
        else:
            found.append("")
    return found


def _look_at_transcripts(batch: pa.RecordBatch, metadata: Mapping[str, str], samples: list[int | None]) -> list[str]:
    """There must be words, and what may be the logarithm of a probability."""
    found = []
    for row in batch.select(["text", "avg_logprob"]).to_pylist():
        if not has_words(row["text"]):
            found.append("has no words")
        elif not -math.inf < row["avg_logprob"] <= 0:
            found.append(f"{row['avg_logprob']} is the logarithm of no probability")
        else:
            found.append("")
    return found


_LOOKS: dict[str, tuple[list[str], _Look]] = {
    UNITS_STAGE: (["units", "durations"], _look_at_units),
    TRANSCRIPTS_STAGE: (["text", "avg_logprob"], _look_at_transcripts),
}
