"""A run that is killed at a call, started again, and compared with one that nobody interrupted."""

import hashlib
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from seamlessalign.pipelines.status import read_status
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import COUNT, Call, Fault, Outcome, WarmProgram

# what says when or by whom it was made, and so is never the same
_TIMED = ("state/done/", "state/plan/", "state/progress.json", "state/lock", "ledger.parquet", "logs/", "run.yaml")
_TIMED_COLUMNS = ("seconds", "peak_rss")
_TABLES = ("recordings", "segments", "sentences", "pairs", "corpus", "quarantine")


@dataclass(frozen=True)
class Finished:
    """What a run leaves: SHA-256 and bytes of every file of data, the ledger but for times, and its shards."""

    files: dict[str, tuple[str, int]]
    ledger: list[dict[str, Any]]
    shards: int

    @property
    def bytes(self) -> int:
        """Of all files of data."""
        return sum(size for _, size in self.files.values())


def finished(folder: Path) -> Finished:
    """What a finished run left; fails where it is not done, not balanced, or not tidy."""
    assert not list(folder.rglob(".writing-*"))
    status = read_status(str(folder))
    assert status["state"] == "done" and not status["unbalanced"], status
    assert all(stage["done"] == stage["shards"] for stage in status["stages"].values()), status
    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if not name.startswith(_TIMED) and name != "report.html":
            files[name] = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
    rows = pq.ParquetFile(folder / "ledger.parquet").read().to_pylist()
    return Finished(
        files,
        [{name: value for name, value in row.items() if name not in _TIMED_COLUMNS} for row in rows],
        sum(stage["shards"] for stage in status["stages"].values()),
    )


def marks_of(folder: Path) -> set[str]:
    """The completion marks that are there."""
    return {str(file.relative_to(folder)) for file in (folder / "state" / "done").rglob("[!.]*.json")}


def safe_marks(calls: list[Call]) -> set[str]:
    """Completion marks that no crash can take away after so many calls: named, their folder fsynced, not removed."""
    named: set[str] = set()
    safe: set[str] = set()
    for kind, file in calls:
        name = file.removeprefix("/")
        if kind == "rename" and name.startswith("state/done/"):
            named.add(name)
        if kind == "unlink":
            named.discard(name)
            safe.discard(name)
        if kind == "fsync":
            safe |= {mark for mark in named if mark.rpartition("/")[0] == name}
    return safe


@dataclass
class Tiny:
    """The tiny run and the warm process that does it."""

    config: Path
    root: Path
    program: WarmProgram
    _whole: dict[tuple[str, ...], tuple[Finished, list[Call]]] = field(default_factory=dict)
    _folders: int = 0

    def folder(self) -> Path:
        """A name for a run's folder, which is not there yet."""
        self._folders += 1
        return self.root / f"run-{self._folders}"

    def whole(self, *overrides: str) -> tuple[Finished, list[Call]]:
        """What a run leaves that nobody interrupts, and its calls."""
        if overrides not in self._whole:
            folder = self.folder()
            outcome = self.program.run(self.config, folder, *overrides, fault=Fault(COUNT))
            assert outcome.status == STATUS, outcome.err
            self._whole[overrides] = finished(folder), outcome.calls
            assert {name.split("/")[0] for name in self._whole[overrides][0].files} >= set(_TABLES)
            shutil.rmtree(folder)
        return self._whole[overrides]

    def again(self, folder: Path, counted: Counter[str], *overrides: str) -> Outcome:
        """Start a run again with nothing in its way, compare what it leaves with what it ought to, and remove it."""
        whole, _ = self.whole(*overrides)
        outcome = self.program.run(self.config, folder, *overrides, report=False)
        assert outcome.status == STATUS, outcome.err
        found = finished(folder)
        assert found.files == whole.files, differences(found.files, whole.files)
        assert found.ledger == whole.ledger
        counted["files compared"] += len(found.files)
        counted["bytes compared"] += found.bytes
        shutil.rmtree(folder)
        return outcome

    def crash(self, fault: Fault, counted: Counter[str], *overrides: str, before: Path | None = None) -> Outcome | None:
        """Kill a run at a call and start it again; None where it had fewer calls.

        `before`: a run's folder that it starts from.
        """
        folder = self.folder()
        if before is not None:
            shutil.copytree(before, folder)
        crashed = self.program.run(self.config, folder, *overrides, fault=fault)
        if not crashed.faults:
            shutil.rmtree(folder)
            return None
        (call,) = crashed.faults
        try:
            assert crashed.status == -9, crashed
            there = marks_of(folder)
            if before is None:
                assert not safe_marks(crashed.calls[:-1]) - there
            again = self.again(folder, counted, *overrides)
            if before is None:
                # no shard that was done is done again, so that what was lost is at most the one that was being done
                assert again.kept == len(there), again.out
        except AssertionError as error:
            error.add_note(f"{fault.name} at call {fault.at}, {call.kind} of {call.file}")
            raise
        counted[f"crash points: {fault.name} at {call.kind}"] += 1
        return crashed


def differences(found: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """Files that are not the same."""
    return sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))


def sampled(numbers: Sequence[int], most: int) -> list[int]:
    """So many of some numbers at random, in order, the same every time; all where there are no more.

    All, too, with SEAMLESSALIGN_THOROUGH set, as `make test-thorough` does.
    """
    if "SEAMLESSALIGN_THOROUGH" in os.environ:
        return list(numbers)
    return sorted(random.Random(0).sample(numbers, min(len(numbers), most)))


def moments(calls: Sequence[Call]) -> list[int]:
    """Numbers, from 1, of calls that are not like the one before or behind: of many writes to a file the outer ones."""
    plain = [(kind, re.sub(r"\.\d+\.\d+$", "", file)) for kind, file in calls]
    around = zip([None, *plain], plain, [*plain[1:], None], strict=False)
    return [number for number, (before, this, behind) in enumerate(around, 1) if this != before or this != behind]
