"""What was handed on, counted over the planned pairs but those that could not be written."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.plan import Plan
from seamlessalign.pipelines.exports.shard_work import Done
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import SAMPLE_RATE

SIDES = ("src", "tgt")
SYNTHETIC = re.compile(r"synthe|espeak|festvox|festival|text.to.speech|\btts\b", re.IGNORECASE)
_COLUMNS = ["pair_id", "margin", "precision_estimate"]
_COLUMNS += [f"{side}_{name}" for side in SIDES for name in ("uri", "start", "end", "license", "source")]


@dataclass
class SplitTally:
    """The pairs of a direction in one split. Lengths are samples at 16 kHz."""

    pairs: int = 0
    samples: Counter[str] = field(default_factory=Counter)  # by side

    @property
    def hours(self) -> float:
        """Of the first side that is speech."""
        first = next((side for side in SIDES if self.samples[side]), "src")
        return self.samples[first] / SAMPLE_RATE / 3600


@dataclass
class DirectionTally:
    """The pairs of a direction. None of the lists has more rows than there are pairs."""

    splits: dict[str | None, SplitTally] = field(default_factory=dict)
    margins: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    estimates: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # NaN where unknown
    licenses: Counter[tuple[str, str | None]] = field(default_factory=Counter)  # (side, license) of speech → pairs
    sources: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    uris: set[str] = field(default_factory=set)  # of recordings

    @property
    def pairs(self) -> int:
        """In all splits."""
        return sum(split.pairs for split in self.splits.values())

    @property
    def hours(self) -> float:
        """Of the first side that is speech."""
        return sum(split.hours for split in self.splits.values())

    @property
    def precision(self) -> float | None:
        """The mean of the pairs' estimated precision; None where some has none."""
        return float(self.estimates.mean(dtype=np.float64)) if len(self.estimates) and not _some_nan(self) else None


@dataclass
class Tally:
    """Everything that was handed on."""

    directions: dict[str, DirectionTally]
    recordings: int  # that pairs are cut from
    guessed: int  # of these, how many have a language that a model told
    least_lang_prob: float | None  # the least sure of them


def count_written(tables: RunTables, plan: Plan, dones: Sequence[Done], folder: ExportFolder) -> Tally:
    """Count what was written, some rows at a time."""
    gone = pa.array(sorted({name for done in dones for name, _, _ in done.left_out}), pa.string())
    directions = {name: DirectionTally() for name in plan.rows}
    for (direction, split), files in _files(plan, folder).items():
        tally = directions[direction]
        counts = tally.splits.setdefault(split, SplitTally())
        margins, estimates = [tally.margins], [tally.estimates]
        for batch in (batch for uri in files for batch in storage.read_batches(uri, _COLUMNS)):
            rows = batch.filter(pc.invert(pc.is_in(batch.column("pair_id"), gone)))
            _count(rows, counts, tally)
            margins.append(rows.column("margin").to_numpy())
            estimates.append(rows.column("precision_estimate").to_numpy(zero_copy_only=False).astype(np.float32))
        tally.margins, tally.estimates = np.concatenate(margins), np.concatenate(estimates)
    return _with_recordings(tables, directions)


def _files(plan: Plan, folder: ExportFolder) -> dict[tuple[str, str | None], list[str]]:
    """The files of planned pairs by direction and split."""
    found: dict[tuple[str, str | None], dict[str, None]] = {}
    for one in plan.shards:
        files = found.setdefault((one.shard.direction, one.shard.split), {})
        files[folder.planned(one.shard.place, one.file)] = None
    return {name: list(files) for name, files in found.items()}


def _count(rows: pa.RecordBatch, counts: SplitTally, tally: DirectionTally) -> None:
    counts.pairs += len(rows)
    for side in SIDES:
        speech = rows.filter(pc.is_valid(rows.column(f"{side}_uri")))
        if not len(speech):
            continue
        lengths = pc.subtract(speech.column(f"{side}_end"), speech.column(f"{side}_start"))
        counts.samples[side] += pc.sum(lengths).as_py()
        for name, into in (("license", tally.licenses), ("source", tally.sources)):
            for found in speech.column(f"{side}_{name}").value_counts().to_pylist():
                into[side, found["values"]] += found["counts"]
        tally.uris |= set(speech.column(f"{side}_uri").unique().to_pylist())


def _with_recordings(tables: RunTables, directions: dict[str, DirectionTally]) -> Tally:
    uris: set[str] = set().union(*(tally.uris for tally in directions.values())) if directions else set()
    guessed, least = 0, list[float]()
    for uri in tables.parts.get("recordings", {}).get("", []):
        for batch in storage.read_batches(uri, ["uri", "lang_prob"]):
            for name, prob in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if name in uris and prob is not None and prob < 1:
                    guessed += 1
                    least.append(prob)
    return Tally(directions, len(uris), guessed, min(least, default=None))


def _some_nan(tally: DirectionTally) -> bool:
    return bool(np.isnan(tally.estimates).any())


def by_value(counts: Iterable[Counter[tuple[str, str | None]]]) -> Counter[str | None]:
    """Pairs by license or source, whichever side has it; both sides of a pair count."""
    found: Counter[str | None] = Counter()
    for counter in counts:
        for (_, value), pairs in counter.items():
            found[value] += pairs
    return found


def told_hours(hours: float) -> str:
    """Hours for people."""
    return f"{hours:,.2f}" if hours >= 1 else f"{hours:.4f}"


def to_json(tally: DirectionTally) -> dict[str, Any]:
    """The counts of a direction for `export.json`."""
    return {
        "pairs": tally.pairs,
        "hours": round(tally.hours, 6),
        "splits": {
            name or "all": {"pairs": split.pairs, "hours": round(split.hours, 6)}
            for name, split in tally.splits.items()
        },
    }
