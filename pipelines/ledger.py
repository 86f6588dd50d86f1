"""The ledger: what every shard of every stage took in, kept and dropped (`verify.py` proves that nothing was lost).

A shard's completion mark is one small JSON file with its ledger lines, written after everything the shard wrote.
`ledger.parquet` is all of them together.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.rows import LEDGER, LedgerLine

MAPS = ("dropped", "samples_dropped", "seconds", "models")  # columns of the ledger that are maps
_AT_ONCE = 1000  # marks that are read together


@dataclass(frozen=True)
class Mark:
    """That a shard is done. `digest` covers its inputs and the configuration that it depends on."""

    stage: str
    shard: str
    digest: str
    outputs: list[str]  # names below the run's folder
    lines: list[LedgerLine]
    begun: str = ""  # ISO 8601, by the clock of where it was done
    wall_seconds: float = 0.0
    host: str = ""
    failures: int = 0  # of earlier attempts, of which the log tells


@dataclass
class Tally:
    """Counts one shard's rows while it is done, and becomes its ledger line."""

    rows_in: int = 0
    rows_kept: int = 0
    samples_in: int = 0
    samples_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    samples_dropped: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0

    def keep(self, rows: int = 1, samples: int = 0) -> None:
        """Count rows that came in and go on."""
        self.rows_in += rows
        self.rows_kept += rows
        self.samples_in += samples
        self.samples_kept += samples

    def drop(self, reason: str, rows: int = 1, samples: int = 0, *, quarantined: bool = False) -> None:
        """Count rows that came in and end here; `quarantined` when they could not be read."""
        if not rows:
            return
        self.rows_in += rows
        self.samples_in += samples
        self.dropped[reason] = self.dropped.get(reason, 0) + rows
        self.samples_dropped[reason] = self.samples_dropped.get(reason, 0) + samples
        self.quarantined += rows if quarantined else 0

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for name in ("rows_in", "rows_kept", "samples_in", "samples_kept", "quarantined"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, more in ((self.dropped, other.dropped), (self.samples_dropped, other.samples_dropped)):
            for reason, count in more.items():
                mine[reason] = mine.get(reason, 0) + count

    def line(
        self,
        stage: str,
        shard: str,
        *,
        digest: str,
        seconds: Mapping[str, float] | None = None,
        bytes_read: int = 0,
        bytes_written: int = 0,
        models: Mapping[str, str] | None = None,
    ) -> LedgerLine:
        """The ledger line of what was counted."""
        return LedgerLine(
            stage=stage,
            shard=shard,
            rows_in=self.rows_in,
            rows_kept=self.rows_kept,
            dropped=dict(sorted(self.dropped.items())),
            samples_in=self.samples_in,
            samples_kept=self.samples_kept,
            samples_dropped=dict(sorted(self.samples_dropped.items())),
            seconds={step: round(value, 3) for step, value in (seconds or {}).items()},
            bytes_read=bytes_read,
            bytes_written=bytes_written,
            peak_rss=peak_rss(),
            quarantined=self.quarantined,
            digest=digest,
            models=dict(sorted((models or {}).items())),
        )


def peak_rss() -> int:
    """The most memory this process has had resident, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # not ru_maxrss, which begins at what the process that started this one holds
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def write_mark(folder: RunFolder, mark: Mark) -> None:
    """Declare a shard done."""
    text = json.dumps(asdict(mark), ensure_ascii=False, indent=1)
    storage.write_bytes_atomic(folder.mark(mark.stage, mark.shard), text.encode())


def read_marks(folder: RunFolder, stage: str, beginning: str = "") -> dict[str, Mark]:
    """The marks of a stage by shard; or those of the shards whose names begin so."""
    return {mark.shard: mark for mark in marks_of(folder, stage, beginning)}


def marks_of(folder: RunFolder, stage: str, beginning: str = "") -> Iterator[Mark]:
    """The same one after the other, of which a few are in memory at a time."""
    start = folder.mark(stage, beginning).removesuffix(".json")
    uris = [uri for uri in storage.list_files(folder.marks(stage), ".json") if uri.startswith(start)]
    for first in range(0, len(uris), _AT_ONCE):
        for uri, data in storage.read_many(uris[first : first + _AT_ONCE]).items():
            yield parse_mark(uri, data)


def parse_mark(uri: str, data: bytes) -> Mark:
    """A mark from the bytes of its file. Raises StorageError."""
    try:
        raw: dict[str, Any] = json.loads(data)
        return Mark(**{**raw, "lines": [LedgerLine(**line) for line in raw["lines"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(f"{uri}: is not a completion mark ({error}); remove it to do its shard again") from error


def write_plan(folder: RunFolder, stage: str, shards: Mapping[str, str]) -> None:
    """Say which shards a stage has, and the digest that each is done under; empty for one that stays as it is."""
    storage.write_bytes_atomic(folder.plan(stage), json.dumps(dict(shards)).encode())


def read_plan(folder: RunFolder, stage: str) -> dict[str, str] | None:
    """The shards that a stage has, with their digests; None where it is not planned yet."""
    if not storage.exists(folder.plan(stage)):
        return None
    try:
        shards: dict[str, str] = json.loads(storage.read_bytes(folder.plan(stage)))
    except ValueError as error:
        raise StorageError(f"{folder.plan(stage)}: is not JSON ({error}); the next run writes it anew") from error
    return shards


def done_shards(
    folder: RunFolder,
    stage: str,
    shards: Iterable[str],
    tables: Iterable[str],
    *,
    keep_unnamed: bool = False,
    at_work: Collection[str] = (),
) -> dict[str, str]:
    """The digest of every shard of a stage that is done, after clearing what does not belong.

    Removed are marks of shards that the plan no longer has, marks whose files are gone, and files of `tables` and of
    the quarantine that no mark of the stage names: left by runs over other inputs, and by processes that were killed
    between writing and marking. With `keep_unnamed`, files stay. Where shards are `at_work`, being done meanwhile by
    somebody else, files stay too, and so do the marks of these, which may have come after their files were looked for.
    """
    wanted = set(shards)
    quarantine = storage.list_files(storage.join(folder.root, "quarantine"), ".jsonl")
    files = [uri for table in tables for uri in storage.list_files(folder.table(table))]
    files += [uri for uri in quarantine if uri.rsplit("/", 1)[-1].startswith(f"{stage}-")]
    present = {folder.relative(uri): uri for uri in files}
    done: dict[str, str] = {}
    named: set[str] = set()
    strays = []
    for mark in marks_of(folder, stage):
        if mark.shard in wanted and all(name in present for name in mark.outputs):
            done[mark.shard] = mark.digest
            named.update(mark.outputs)
        elif mark.shard not in at_work:
            strays.append(folder.mark(stage, mark.shard))
    storage.remove_many(strays)  # before the files that they name
    if not keep_unnamed and not at_work:
        storage.remove_many([uri for name, uri in present.items() if name not in named])
    return done


def write_ledger(folder: RunFolder, stages: Iterable[str]) -> list[LedgerLine]:
    """Gather the lines of all marks into `ledger.parquet`, and return them."""
    lines = [line for stage in stages for mark in marks_of(folder, stage) for line in mark.lines]
    columns = {name: [getattr(line, name) for line in lines] for name in LEDGER.names}
    columns |= {name: [list(one.items()) for one in columns[name]] for name in MAPS}  # as Arrow takes maps
    storage.write_table(folder.ledger, pa.Table.from_pydict(columns, schema=LEDGER))
    return lines


def unbalanced(lines: Iterable[LedgerLine]) -> list[str]:
    """One sentence for each line whose rows or samples in are not those kept and dropped."""
    wrong = []
    for line in lines:
        for what, came, kept, dropped in (
            ("rows", line.rows_in, line.rows_kept, line.dropped),
            ("samples", line.samples_in, line.samples_kept, line.samples_dropped),
        ):
            if came != kept + sum(dropped.values()):
                wrong.append(
                    f"{line.stage} {line.shard}: {came} {what} in, {kept} kept and {sum(dropped.values())} dropped"
                )
    return wrong
