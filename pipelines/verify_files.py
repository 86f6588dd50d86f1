"""Whether a run's files are those that its completion marks name, with the rows that the marks say, and readable."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.ledger import Mark, parse_mark, read_plan, unbalanced
from seamlessalign.rows import LedgerLine

_AT_ONCE = 16  # files whose footers are read at a time: most of that is waiting
_INDEXES = "state/mining/index/"  # built file by file, so that some may be there that no mark names yet
_FOLDERS = (
    "recordings",
    "segments",
    "sentences",
    "frames",
    "told_languages",
    "pairs",
    "corpus",
    *SIDE_STAGES,
    "quarantine",
    "state/mining",
    "bad_lines",
    "lost",
    *(f"state/published/{name}" for name in ("lines", "shares", "wanted", "sought", "clips", "texts")),
)


@dataclass
class Check:
    """What one check looked at, in words, and a sentence for each difference that it found."""

    name: str
    summary: str = ""
    wrong: list[str] = field(default_factory=list)

    def tell(self, where: str, what: str) -> None:
        """Add a difference: where it is, from the stage down to the id, and what it is."""
        self.wrong.append(f"{where}: {what}")

    def compare(self, where: str, what: str, counted: int, told: int) -> None:
        """Add a difference unless as many were counted as the ledger says."""
        if counted != told:
            self.tell(where, f"{counted} {what}, the ledger says {told}")


@dataclass
class Marked:
    """The plans and completion marks of a run, by stage and shard, and the names of the files that are there."""

    folder: RunFolder
    plans: dict[str, list[str]]
    marks: dict[str, dict[str, Mark]]
    present: set[str]

    def uri(self, name: str) -> str:
        """The address of a file from its name below the run's folder."""
        return storage.join(self.folder.root, name)

    def shards(self, stage: str) -> Iterator[Mark]:
        """The marks of a stage whose shards are planned, in the order of the plan."""
        marks = self.marks.get(stage, {})
        yield from (marks[shard] for shard in self.plans.get(stage, []) if shard in marks)

    def files(self, mark: Mark, table: str, *, whole: bool = False) -> list[str]:
        """The files of a table that a mark names and that are there; of a `whole` name, that file."""
        start = table if whole else f"{table}/"
        return [name for name in mark.outputs if name.startswith(start) and name in self.present]

    def lines(self) -> list[LedgerLine]:
        """The ledger lines of all marks, in the order of `ledger.parquet`."""
        return [line for marks in self.marks.values() for mark in marks.values() for line in mark.lines]


def line_of(mark: Mark, stage: str) -> LedgerLine | None:
    """The ledger line that a shard has for `recordings`, `segments`, …; None where it has none."""
    return next((line for line in mark.lines if line.stage == stage), None)


def read_marked(folder: RunFolder, check: Check) -> Marked:
    """Read plans and marks; every planned shard must have a mark, and the other way round."""
    plans: dict[str, list[str]] = {}
    marks: dict[str, dict[str, Mark]] = {}
    for stage in stages_of(folder):
        try:
            planned = read_plan(folder, stage)
        except StorageError as error:
            check.tell(stage, str(error))
            continue
        if planned is None:
            check.tell(stage, "not planned: the run is not finished")
            continue
        plans[stage], marks[stage] = list(planned), {}
        for uri, data in storage.read_many(storage.list_files(folder.marks(stage), ".json")).items():
            try:
                mark = parse_mark(uri, data)
            except StorageError as error:
                check.tell(stage, str(error))
                continue
            if uri != folder.mark(stage, mark.shard):
                check.tell(f"{stage} {mark.shard}", f"its mark is under another name, {folder.relative(uri)}")
            if planned.get(mark.shard, "") not in ("", mark.digest):
                check.tell(f"{stage} {mark.shard}", "was done for other inputs or settings than are planned")
            marks[stage][mark.shard] = mark
        undone = [shard for shard in planned if shard not in marks[stage]]
        for shard in undone:
            check.tell(f"{stage} {shard}", "not done: run again to go on")
        for shard in sorted(marks[stage].keys() - set(planned)):
            check.tell(f"{stage} {shard}", f"{folder.relative(folder.mark(stage, shard))} marks no shard of the plan")
    present = {folder.relative(uri) for name in _FOLDERS for uri in storage.list_files(folder.table(name))}
    done = sum(map(len, marks.values()))
    check.summary = f"{sum(map(len, plans.values()))} shards planned, {done} done"
    return Marked(folder, plans, marks, present)


def check_ledger(check: Check, marked: Marked) -> None:
    """Lines balance, and `ledger.parquet` has those of the marks."""
    lines, folder = marked.lines(), marked.folder
    check.wrong += unbalanced(lines)
    if not storage.exists(folder.ledger):
        check.tell("ledger.parquet", "is not there: the run is not finished")
    else:
        try:
            found = [_as_line(row) for row in storage.read_table(folder.ledger).to_pylist()]
        except (StorageError, TypeError) as error:
            check.tell("ledger.parquet", str(error))
            found = lines
        there, told = _by_shard(found), _by_shard(lines)
        for key in dict.fromkeys((*told, *there)):
            if there.get(key) != told.get(key):
                check.tell(" ".join(key), "ledger.parquet has other lines than the marks")
    check.summary = f"{len(lines)} lines, rows and samples in are those kept and dropped"


def check_files(check: Check, marked: Marked) -> None:
    """Every file that a mark names is there, with the rows and the digest of its shard; and no others are."""
    named: dict[str, Mark] = {}
    for marks in marked.marks.values():
        for mark in marks.values():
            for name in mark.outputs:
                if name in named:
                    check.tell(f"{mark.stage} {mark.shard}", f"{name} is named by {named[name].shard} too")
                named[name] = mark
                if name not in marked.present:
                    check.tell(f"{mark.stage} {mark.shard}", f"{name} is not there")
    tables = [name for name in named if name.endswith(".parquet") and name in marked.present]
    rows: dict[tuple[str, str, str], int] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, footer in zip(tables, pool.map(lambda name: _footer(marked.uri(name)), tables), strict=True):
            mark = named[name]
            where = f"{mark.stage} {mark.shard}"
            if isinstance(footer, StorageError):
                check.tell(where, str(footer))
                continue
            if footer[1].get("seamlessalign.digest") != mark.digest:
                check.tell(where, f"{name} was written for other inputs or settings than its mark is of")
            key = mark.stage, mark.shard, _table_of(name)
            rows[key] = rows.get(key, 0) + footer[0]
    for marks in marked.marks.values():
        for mark in marks.values():
            for table, told in _rows_of(mark).items():
                counted = rows.get((mark.stage, mark.shard, table), 0)
                check.compare(f"{mark.stage} {mark.shard}", f"rows in {table}", counted, told)
    quarantined = sum(_check_quarantine(mark, marked, check) for stage in ("speech", "text")
                      for mark in marked.shards(stage))  # fmt: skip
    for name in sorted(marked.present - named.keys()):
        if not name.startswith(_INDEXES):
            check.tell(name, "no completion mark names this file; the next run removes it")
    check.summary = (
        f"{len(named)} files, {len(tables)} of them tables with {sum(rows.values())} rows; {quarantined} lines in "
        "quarantine"
    )


def check_data(check: Check, marked: Marked) -> None:
    """Every table can be read from end to end, and every page of it has its checksum."""
    rows = size = 0
    for marks in marked.marks.values():
        for mark in marks.values():
            for name in mark.outputs:
                if not name.endswith(".parquet") or name not in marked.present:
                    continue
                uri = marked.uri(name)
                try:
                    rows += sum(map(len, storage.read_batches(uri, rows=1 << 13)))
                    size += storage.size(uri)
                except StorageError as error:
                    check.tell(f"{mark.stage} {mark.shard}", str(error))
    check.summary = f"{rows} rows of all tables, {size / 1e6:.1f} MB, read from end to end"


def quarantined_by_reason(mark: Mark, marked: Marked, check: Check) -> tuple[Counter[str], list[str]]:
    """What a shard set aside, by reason, and the uris of it."""
    reasons, uris = Counter[str](), list[str]()
    for name in marked.files(mark, "quarantine"):
        try:
            for line in storage.read_bytes(marked.uri(name)).decode("utf-8").splitlines():
                entry = json.loads(line)
                reasons[str(entry["reason"])] += 1
                uris.append(str(entry["uri"]))
        except (ValueError, KeyError, TypeError) as error:
            check.tell(f"{mark.stage} {mark.shard}", f"{name} has a line that is no entry: {error}")
    return reasons, uris


def _by_shard(lines: list[LedgerLine]) -> dict[tuple[str, str], list[LedgerLine]]:
    """Lines without what a shard took, which may be told by another of two tasks that did the same."""
    by_shard: dict[tuple[str, str], list[LedgerLine]] = {}
    for line in lines:
        by_shard.setdefault((line.stage, line.shard), []).append(replace(line, seconds={}, peak_rss=0))
    return by_shard


def _check_quarantine(mark: Mark, marked: Marked, check: Check) -> int:
    reasons, _ = quarantined_by_reason(mark, marked, check)
    for line in mark.lines:
        if line.stage in ("recordings", "sentences"):
            where = f"{mark.stage} {mark.shard}"
            check.compare(where, "lines in quarantine", sum(reasons.values()), line.quarantined)
            for reason, number in sorted(reasons.items()):
                if number > line.dropped.get(reason, 0):
                    told = line.dropped.get(reason, 0)
                    check.tell(where, f"{number} lines in quarantine are {reason}, the ledger says {told} at most")
    return sum(reasons.values())


def _rows_of(mark: Mark) -> dict[str, int]:
    """Rows that the tables of a shard must have by its ledger lines."""
    rows = {}
    for line in mark.lines:
        if line.stage == "recordings":
            rows["recordings"] = line.rows_in - line.quarantined
            if any(name.startswith("frames/") for name in mark.outputs):
                rows["frames"] = rows["recordings"]
        elif line.stage == "pairs":
            rows["pairs"] = line.rows_in
            if mark.stage == "mine":
                rows["state/mining/kept"] = line.rows_kept
        elif line.stage == "decoys":
            rows["state/mining/decoys"] = line.rows_kept
        elif line.stage in ("segments", "sentences", "corpus", *SIDE_STAGES):
            rows[line.stage] = line.rows_kept
    return rows


def _table_of(name: str) -> str:
    parts = name.split("/")
    if parts[-1] == "recordings.parquet":  # beside pairs to be cut
        return f"{'/'.join(parts[:3])} recordings"
    return "/".join(parts[:3]) if parts[0] == "state" else parts[0]


def _footer(uri: str) -> tuple[int, dict[str, str]] | StorageError:
    try:
        return storage.footer(uri)
    except StorageError as error:
        return error
    except OSError as error:
        return StorageError(f"{uri}: cannot be read: {error.strerror or error}")


def _as_line(row: dict[str, object]) -> LedgerLine:
    return LedgerLine(**{key: dict(value) if isinstance(value, list) else value for key, value in row.items()})  # type: ignore[arg-type]
