"""What an export will write: its pairs in order, divided into splits and shards, and what of the run is left out.

A plan is made from the tables of the run alone, and the same wherever and however often it is made. Of each pair some
numbers are in memory, about 300 bytes at most; texts and ids are looked at some rows at a time.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.exports.choice import Choice, Chooser, Rule
from seamlessalign.pipelines.exports.dividing import Apart, Parts, divided, drop_straddling, empty, told
from seamlessalign.pipelines.exports.evaluation_sets import EvaluationSets
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.folder import tsv_line
from seamlessalign.pipelines.exports.leaks import Leak, Recording, TextLeaks, sound_leaks
from seamlessalign.pipelines.exports.shards import Shard
from seamlessalign.pipelines.exports.splits import Straddling
from seamlessalign.pipelines.folder import TRANSCRIPTS_STAGE
from seamlessalign.pipelines.row_ids import numbers_of_hex
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import CORPUS, RECORDINGS

Indices = npt.NDArray[np.int64]
_PART = 1 << 32  # more rows than a part of the corpus has
_ROWS_PER_FILE = 100_000  # of planned pairs
_ORIGINS = pa.schema([RECORDINGS.field(name) for name in ("uri", "sha256", "num_samples", "license", "source")])
_PLAIN = [item for item in CORPUS if not item.name.endswith("_audio")]
PLANNED = pa.schema(
    [
        *_PLAIN,
        pa.field("cosine", pa.float32(), nullable=False),
        pa.field("precision_estimate", pa.float32()),
        pa.field("part", pa.int32()),  # of the corpus that has its audio; null where that is still to be cut
        pa.field("row", pa.int64()),  # in that part
        pa.field("src_sha256", pa.string()),  # of the recording's file
        pa.field("tgt_sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class PlannedShard:
    """Rows `[first, last)` of a file of the planned pairs of a direction and split."""

    shard: Shard
    file: int
    first: int
    last: int


@dataclass(frozen=True)
class Asked:
    """What a plan is made of."""

    rule: Rule
    directions: tuple[str, ...] = ()  # all that can be where there are none
    shares: Mapping[str, float] | None = None  # by split
    seed: int = 0
    straddling: Straddling = "leave-out"
    apart: Apart = "texts"
    pairs_per_shard: int = 2000
    not_in: tuple[str, ...] = ()

    @property
    def parts(self) -> Parts | None:
        """The splits; None where there are none."""
        return Parts(self.shares, self.seed, self.straddling, self.apart) if self.shares else None


@dataclass(frozen=True)
class Plan:
    """The shards, and what is counted before they are written."""

    digest: str  # of what was asked for and of the run
    shards: list[PlannedShard]
    rows: dict[str, int]  # by direction: rows of the run's `pairs`
    left_out: dict[str, dict[str, int]]  # by direction: reason → pairs
    by: dict[str, str]  # by direction: what decided, for people
    to_cut: dict[str, int]  # by direction: pairs whose audio is not in the corpus
    labels: str  # what was done about pairs that people labelled
    leaks: dict[str, int]  # reason → pairs
    evaluation: dict[str, Any] | None  # what pairs were compared with
    splits: dict[str, Any] | None  # what became of the shares
    notes: list[str]  # what people must know

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    @staticmethod
    def of_json(raw: Mapping[str, Any]) -> "Plan":
        """As it was written."""
        shards = [PlannedShard(**{**item, "shard": Shard(**item["shard"])}) for item in raw["shards"]]
        return Plan(**{**raw, "shards": shards})


def make_plan(tables: RunTables, asked: Asked, sets: EvaluationSets | None, folder: ExportFolder, digest: str) -> Plan:
    """Choose, compare with evaluation sets, divide, and write the planned pairs below the export's folder.

    Raises InputError for what the run does not have, StorageError for a damaged table, ConfigError.
    """
    chooser = Chooser(tables, asked.rule)
    names = directions_asked(chooser, tables, asked)
    origins, corpus = _origins(tables), tables.parts.get("corpus", {})
    with ExitStack() as stack:
        choices = []
        for name in names:
            scratch = stack.enter_context(storage.scratch(folder.planned(name)))
            with storage.writing(folder.planned(name)):
                choices.append(chooser.choose(name, scratch))
        leaks = _drop_leaks(choices, tables, origins, sets, folder) if sets is not None else Counter[str]()
        division = divided(tables, choices, asked.parts) if asked.parts else None
        splits = drop_straddling(choices, division) if division else [None] * len(choices)
        shards, to_cut = list[PlannedShard](), dict[str, int]()
        for name, choice, split in zip(names, choices, splits, strict=True):
            left = choice.reasons.left
            place = _places(corpus.get(name, []), choice, left)
            to_cut[name] = int((place < 0).sum())
            order = _in_order(choice, left, place)
            for number, split_name in enumerate(division.names if division else (None,)):
                some = order if split is None else order[split[order] == number]
                planned = _Planned(choice, left[some], place[some], origins)
                shards += planned.write(Shard(name, 0, split_name), asked.pairs_per_shard, folder)
    return Plan(
        digest,
        shards,
        {name: len(choice.rows) + choice.rejected.total() for name, choice in zip(names, choices, strict=True)},
        {name: _left_out(choice) for name, choice in zip(names, choices, strict=True)},
        {name: choice.by for name, choice in zip(names, choices, strict=True)},
        to_cut,
        chooser.labels,
        dict(sorted(leaks.items())),
        sets.told() if sets is not None else None,
        told(division, asked.parts) if division and asked.parts else None,
        [*division.notes, *empty(division, names, splits)] if division else [],
    )


def check_asked(tables: RunTables, asked: Asked) -> list[str]:
    """The directions that are meant. Raises InputError for what the run does not have, ConfigError."""
    if "pairs" not in tables.parts or ("corpus" not in tables.parts and _kept_some(tables)):
        raise InputError(f"{tables.root}: has no corpus to export; is it a finished run?")
    return directions_asked(Chooser(tables, asked.rule), tables, asked)


def _kept_some(tables: RunTables) -> bool:
    return bool(tables.ask("select 1 from pairs where kept limit 1").num_rows)


def directions_asked(chooser: Chooser, tables: RunTables, asked: Asked) -> list[str]:
    """The directions that are meant. Raises InputError for one that the run, or the selection, does not have."""
    for name in asked.directions:
        tables.check_direction(name)
        if name not in chooser.directions:
            raise InputError(f"the selection {asked.rule.selection!r} has nothing of {name!r}")
    return sorted(set(asked.directions)) or chooser.directions


def _origins(tables: RunTables) -> pa.Table:
    """The recordings of the run, one row for each uri, sorted by it."""
    found = [_ORIGINS.empty_table()]
    for uri in tables.parts.get("recordings", {}).get("", []):
        found.append(storage.read_table(uri, _ORIGINS.names).select(_ORIGINS.names).cast(_ORIGINS))
    table = pa.concat_tables(found).combine_chunks()
    _, first = np.unique(np.array(table.column("uri").to_pylist(), object), return_index=True)
    return table.take(pa.array(first, pa.int64()))


def _left_out(choice: Choice) -> dict[str, int]:
    counts = Counter(choice.rejected)
    for begin in range(0, len(choice.rows), 1 << 20):
        rows = np.arange(begin, min(begin + (1 << 20), len(choice.rows)))
        for found in choice.reasons.column(rows).value_counts().to_pylist():
            if found["values"] is not None:
                counts[found["values"]] += found["counts"]
    return dict(sorted(counts.items()))


# Evaluation sets


def _drop_leaks(
    choices: Sequence[Choice], tables: RunTables, origins: pa.Table, sets: EvaluationSets, folder: ExportFolder
) -> Counter[str]:
    """Leave out the pairs that leak, and list them; how many, by reason."""
    texts = TextLeaks(sets) if sets.texts else None
    sounds = sound_leaks(sets, _used(choices, origins)) if sets.sounds else {}
    counts = Counter[str]()
    with storage.local_target(folder.planned_leaks) as path, path.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(_LISTED) + "\n")
        for choice in choices:
            name = str(choice.direction)
            heard = _heard_leaks(tables.parts.get(TRANSCRIPTS_STAGE, {}).get(name, []), texts)
            for rows, some in choice.batches(["pair_id", "src_uri", "tgt_uri", "src_text", "tgt_text"]):
                found = _leaks_of(some, texts, sounds, heard)
                places = sorted(found)
                for number, pair_id in zip(
                    places, some.column("pair_id").take(pa.array(places, pa.int64())), strict=True
                ):
                    counts[found[number].leak.reason] += 1
                    out.write(_line(name, pair_id.as_py(), found[number]))
                for reason in {one.leak.reason for one in found.values()}:
                    those = [number for number in places if found[number].leak.reason == reason]
                    choice.reasons.drop(rows[those], reason)
    return counts


_LISTED = ("direction", "pair_id", "side", "reason", "measure", "found_in", "text", "text_there")


@dataclass(frozen=True)
class _PairLeak:
    """What of a pair leaks."""

    side: str
    leak: Leak
    text: str  # of that side, or what was heard in it


def _leaks_of(
    some: pa.Table, texts: TextLeaks | None, sounds: Mapping[str, Leak], heard: Mapping[str, _PairLeak]
) -> dict[int, _PairLeak]:
    """By number of the row what leaks: a recording, else a text, else what was heard."""
    found: dict[int, _PairLeak] = {}
    for side in ("src", "tgt"):
        for number, uri in enumerate(some.column(f"{side}_uri").to_pylist()) if sounds else ():
            if uri in sounds:
                found.setdefault(number, _PairLeak(side, sounds[uri], ""))
    for side in ("src", "tgt"):
        column = some.column(f"{side}_text").combine_chunks().cast(pa.string())
        if texts is not None and column.null_count < len(column):
            for number, leak in texts.find(column):
                found.setdefault(number, _PairLeak(side, leak, column[number].as_py()))
    for number, name in enumerate(some.column("pair_id").to_pylist()) if heard else ():
        if name in heard:
            found.setdefault(number, heard[name])
    return found


def _heard_leaks(uris: Sequence[str], texts: TextLeaks | None) -> dict[str, _PairLeak]:
    """By pair, what leaks of the transcripts of a direction."""
    found: dict[str, _PairLeak] = {}
    if texts is None:
        return found
    for uri in uris:
        for batch in storage.read_batches(uri, ["pair_id", "side", "text"]):
            for number, leak in texts.find(batch.column("text")):
                name, side, text = (batch.column(column)[number].as_py() for column in ("pair_id", "side", "text"))
                found.setdefault(name, _PairLeak(side, leak, text))
    return found


def _line(direction: str, pair_id: str, found: _PairLeak) -> str:
    leak = found.leak
    measure = "" if leak.share is None else f"{leak.share:.3f}"
    cells = [direction, pair_id, found.side, leak.reason, measure, leak.place, found.text, leak.known]
    return tsv_line([" ".join(cell.split()) for cell in cells])


def _used(choices: Sequence[Choice], origins: pa.Table) -> Iterator[Recording]:
    """The recordings that pairs which are left are cut from."""
    uris: set[str] = set()
    for choice in choices:
        for _, some in choice.batches([f"{side}_uri" for side in choice.audio]):
            for column in some.columns:
                uris |= set(column.unique().to_pylist())
    for row in origins.select(["uri", "sha256", "num_samples"]).to_pylist():
        if row["uri"] in uris:
            yield Recording(**row)


# The pairs in order


def _places(uris: Sequence[str], choice: Choice, left: Indices) -> Indices:
    """Where in the corpus some pairs are, (num_rows,): part times 2 ** 32 plus row in it; -1 where they are not."""
    numbers, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part, uri in enumerate(uris):
        begin = part * _PART
        for batch in storage.read_batches(uri, ["pair_id"]):
            numbers.append(numbers_of_hex(batch.column(0))[0])
            places.append(np.arange(begin, begin + len(batch)))
            begin += len(batch)
    known, place = np.concatenate(numbers), np.concatenate(places)
    numbers.clear()
    places.clear()
    order = np.argsort(known, kind="stable")
    known, place = known[order], place[order]
    del order
    found, begin = np.full(len(left), -1, np.int64), 0
    for _, some in choice.batches(["pair_id"]):
        wanted, good = numbers_of_hex(some.column(0).combine_chunks().cast(pa.string()))
        at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
        there = np.flatnonzero(good & (known[at] == wanted)) if len(known) else np.zeros(0, np.int64)
        found[begin + there] = place[at[there]]
        begin += len(some)
    return found


def _in_order(choice: Choice, left: Indices, place: Indices) -> Indices:
    """Numbers of rows as they lie in the corpus, then of those to be cut by recording and time."""
    there, cut = np.flatnonzero(place >= 0), np.flatnonzero(place < 0)
    order = there[np.argsort(place[there], kind="stable")]
    if not len(cut):
        return order
    side = choice.audio[0]
    keys = [f"{side}_uri", f"{side}_start", "pair_id"]
    table = choice.rows.take(left[cut], keys)
    sorted_ = pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys]).to_numpy()
    return np.concatenate([order, cut[sorted_]])


@dataclass(frozen=True)
class _Planned:
    """The pairs of one direction and split, in order."""

    choice: Choice
    rows: Indices
    place: Indices
    origins: pa.Table

    def write(self, first: Shard, per_shard: int, folder: ExportFolder) -> list[PlannedShard]:
        """Write them, and cut them into shards: many to a file, but not so many that its footer takes long to read."""
        shards: list[PlannedShard] = []
        per_file = per_shard * max(_ROWS_PER_FILE // per_shard, 1)
        for file, begin in enumerate(range(0, len(self.rows), per_file)):
            table = self._table(slice(begin, begin + per_file))
            with storage.table_writer(folder.planned(first.place, file), PLANNED) as writer:
                writer.write_table(table, row_group_size=per_shard)
            for start in range(0, len(table), per_shard):
                end = min(start + per_shard, len(table))
                shards.append(PlannedShard(Shard(first.direction, len(shards), first.split), file, start, end))
        return shards

    def _table(self, some: slice) -> pa.Table:
        taken = self.choice.rows.take(self.rows[some])
        columns = {name: taken.column(name) for name in taken.column_names}
        part, row = np.divmod(self.place[some], _PART)
        columns["part"] = pc.if_else(pa.array(part < 0), None, pa.array(part, pa.int32()))
        columns["row"] = pa.array(np.where(part < 0, 0, row))
        for side in ("src", "tgt"):
            place = pc.index_in(taken.column(f"{side}_uri").cast(pa.string()), self.origins.column("uri"))
            for name in ("license", "source", "sha256"):
                columns[f"{side}_{name}"] = self.origins.column(name).take(place)
        return pa.table([columns[item.name] for item in PLANNED], names=PLANNED.names).cast(PLANNED)


def read_plan(folder: ExportFolder) -> Plan | None:
    """The plan that was made; None where there is none yet."""
    if not storage.exists(folder.export_plan):
        return None
    return Plan.of_json(json.loads(storage.read_bytes(folder.export_plan)))


def write_plan(plan: Plan, folder: ExportFolder) -> None:
    """Keep a plan. Its presence says that the planned pairs are all written."""
    storage.write_bytes_atomic(folder.export_plan, json.dumps(plan.to_json(), ensure_ascii=False).encode())
