"""Whether units are those of the corpus: every side with audio once, of units that there are, as long as it is."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.pipelines import units_stage
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.verify_files import Check, Marked, line_of
from seamlessalign.pipelines.verify_rows import batches_of

_COLUMNS = ["pair_id", "side", "units", "durations"]
_STRIDE = 320  # samples of a unit
_MOST_NAMED = 5


def check_units(check: Check, marked: Marked) -> None:
    """Compare each shard with its shard of the corpus."""
    sides = frames = 0
    corpus = {mark.shard: mark for mark in marked.shards("corpus")}
    units = {mark.shard: mark for mark in marked.shards("units")}
    for shard in sorted(corpus.keys() ^ units.keys()):
        check.tell(f"units {shard}", "is not done" if shard in corpus else "has no shard of the corpus")
    for shard in sorted(corpus.keys() & units.keys()):
        counted = _check_shard(check, marked, units[shard], corpus[shard])
        sides, frames = sides + counted[0], frames + counted[1]
    check.summary = f"{sides} sides of the corpus as units, {frames * _STRIDE / 16_000 / 3600:.3f} h"


def _check_shard(check: Check, marked: Marked, mark: Mark, corpus: Mark) -> tuple[int, int]:
    """Sides that have units in a shard, and how many frames these last."""
    where, line = f"units {mark.shard}", line_of(mark, "units")
    if line is None:
        check.tell(where, "its mark has no ledger line")
        return 0, 0
    there: dict[tuple[str, str], int] = {}  # frames by pair and side
    asked: set[str] = set()
    for file in marked.files(mark, units_stage.TABLE):
        _, metadata = storage.footer(marked.uri(file))
        asked.update(metadata.get(units_stage.SIDES, "").split(","))
        most = int(metadata.get(units_stage.NUM_UNITS, "0"))
        for batch in batches_of(marked, mark, file, _COLUMNS, check):
            for row, frames in zip(batch.select(["pair_id", "side"]).to_pylist(), _frames(batch, most), strict=True):
                key = row["pair_id"], row["side"]
                if frames < 0:
                    check.tell(f"{where}: {file}", f"{key[0]} {key[1]}: are no reduced units below {most}")
                if key in there:
                    check.tell(f"{where}: {file}", f"{key[0]} {key[1]} is there more than once")
                there[key] = frames
    wanted = _sides(marked, corpus, asked, check)
    for key in sorted(there.keys() - wanted.keys())[:_MOST_NAMED]:
        check.tell(where, f"{key[0]} {key[1]} is no audio of its shard of the corpus")
    kept = {key: samples for key, samples in wanted.items() if key in there}
    for key, samples in kept.items():
        if there[key] >= 0 and not -_STRIDE // 2 < samples - there[key] * _STRIDE < 2 * _STRIDE:
            check.tell(where, f"{key[0]} {key[1]} has {samples} samples, its units last {there[key] * _STRIDE}")
    check.compare(where, "audio sides of the corpus come in", len(wanted), line.rows_in)
    check.compare(where, "samples come in", sum(wanted.values()), line.samples_in)
    check.compare(where, "sides with units", len(kept), line.rows_kept)
    check.compare(where, "samples of sides with units", sum(kept.values()), line.samples_kept)
    return len(kept), sum(max(there[key], 0) for key in kept)


def _sides(marked: Marked, corpus: Mark, asked: set[str], check: Check) -> dict[tuple[str, str], int]:
    """Samples of the audio sides of a shard of the corpus by pair and side."""
    wanted: dict[tuple[str, str], int] = {}
    columns = ["pair_id", *(f"{side}_{name}" for side in ("src", "tgt") for name in ("start", "end"))]
    for file in marked.files(corpus, "corpus"):
        for batch in batches_of(marked, corpus, file, columns, check):
            for row in batch.to_pylist():
                for side in ("src", "tgt"):
                    if side in asked and row[f"{side}_start"] is not None:
                        wanted[row["pair_id"], side] = row[f"{side}_end"] - row[f"{side}_start"]
    return wanted


def _frames(batch: pa.RecordBatch, most: int) -> list[int]:
    """How many frames the units of each row last; -1 where they are none, not reduced, or without durations."""
    found = []
    for units, durations in zip(batch.column("units"), batch.column("durations"), strict=True):
        values, lasts = units.values.to_numpy(), durations.values.to_numpy()
        good = len(values) == len(lasts) and len(values) > 0 and lasts.min() > 0
        good = good and values.min() >= 0 and values.max() < most and bool((np.diff(values) != 0).all())
        found.append(int(pc.sum(durations.values).as_py()) if good else -1)
    return found
