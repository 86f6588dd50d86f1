"""Processes killed at any moment: started again, a run gives the bytes of one that was never interrupted."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.task_log import read_log
from tests.pipelines.small_corpus import (
    SmallRun,
    command,
    complaint,
    environment,
    hashes,
    marks,
    mine,
    short_run,
)

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

PATIENCE = 120.0  # seconds until a moment that does not come fails the test


@dataclass
class Started:
    """The program at work in a process group of its own."""

    process: "subprocess.Popen[str]"
    folder: Path

    def wait_for(self, what: str, moment: Callable[[Path], bool]) -> None:
        """Come back as soon as the run's folder shows a moment; fails where the program ends before."""
        until = time.monotonic() + PATIENCE
        while not moment(self.folder):
            if self.process.poll() is not None:
                pytest.fail(f"ended before {what}: {self.process.communicate()[1]}")
            if time.monotonic() > until:
                pytest.fail(f"{what} did not come")
            time.sleep(0.002)

    def workers(self) -> list[int]:
        """Ids of the driver's worker processes, without the tracker that the standard library starts."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in _command_line(child)]

    def wait_for_workers(self, number: int) -> list[int]:
        """Come back as soon as so many workers are there, which may not be ready yet; returns their ids."""
        self.wait_for(f"{number} workers", lambda _: len(self.workers()) == number)
        return self.workers()

    def kill(self) -> None:
        """SIGKILL to every process of the group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns exit status and stderr."""
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err


@contextmanager
def _started(config: Path, folder: Path, *overrides: str) -> Iterator[Started]:
    process = subprocess.Popen(
        command("run", config, "--output", folder, *overrides),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    started = Started(process, folder)
    try:
        yield started
    finally:
        if process.poll() is None:
            started.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run that nobody interrupts, over four short recordings."""
    made = short_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    assert {table.split("/")[0] for table in hashes(made.folder)} == {
        "recordings", "segments", "sentences", "pairs", "corpus"
    }  # fmt: skip
    return made


def _at(stage: str) -> Callable[[Path], bool]:
    """The moment at which a stage begins: its plan is written."""
    return lambda folder: (folder / "state" / "plan" / f"{stage}.json").exists()


def _finish(whole: SmallRun, folder: Path) -> None:
    again = mine(whole.config, folder)
    assert again.status == 0, again.err
    assert hashes(folder) == hashes(whole.folder)
    assert not list(folder.rglob(".writing-*"))
    assert read_status(str(folder))["state"] == "done"


def test_killed_in_every_stage(whole: SmallRun, tmp_path: Path) -> None:
    """One run, killed as a whole once in each stage and started again."""
    moments: list[tuple[str, Callable[[Path], bool]]] = [
        ("the first recording is done", lambda folder: len(marks(folder, "speech")) >= 1),
        ("the first text is done", lambda folder: len(marks(folder, "text")) >= 1),
        ("the first side is gathered", lambda folder: len(marks(folder, "gather")) >= 1),
        ("the first neighbours are found", lambda folder: len(marks(folder, "search")) >= 1),
        ("mining begins", _at("mine")),
        ("the first direction is mined", lambda folder: len(marks(folder, "mine")) >= 1),
        ("the corpus begins", _at("corpus")),
    ]
    folder = tmp_path / "run"
    for what, moment in moments:
        with _started(whole.config, folder) as started:
            started.wait_for(what, moment)
            started.kill()
        assert not (folder / "ledger.parquet").exists(), f"too late after {what}"
        assert read_status(str(folder))["state"] == "stopped"
    _finish(whole, folder)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.4])
def test_killed_while_marks_of_a_finished_run_are_renewed(whole: SmallRun, tmp_path: Path, seconds: float) -> None:
    """Killed some time after a rerun under another threshold has begun to mine; then started as it was before."""
    folder = whole.copy(tmp_path / "run")
    shutil.rmtree(folder / "state" / "plan")
    with _started(whole.config, folder, "mining.threshold=1.02") as started:
        started.wait_for("mining begins", _at("mine"))
        time.sleep(seconds)
        started.kill()
    _finish(whole, folder)


def _with_recordings_to_do(whole: SmallRun, folder: Path) -> None:
    """A copy of the finished run in which most recordings are still to be done."""
    whole.copy(folder)
    for mark in sorted((folder / "state" / "done" / "speech").glob("*.json"))[1:]:
        mark.unlink()


def test_one_worker_killed(whole: SmallRun, tmp_path: Path) -> None:
    """Another takes its place, and does again what it had in hand."""
    folder = tmp_path / "run"
    _with_recordings_to_do(whole, folder)
    with _started(whole.config, folder, "resources.workers=2") as started:
        started.wait_for_workers(2)
        busy: list[int] = []  # as it was seen once: a shard may be done when it is looked for again

        def in_hand(folder: Path) -> bool:
            busy.extend(_busy(folder, started.workers()))
            return bool(busy)

        started.wait_for("a shard in hand", in_hand)
        first = busy[0]
        os.kill(first, signal.SIGKILL)
        (other,) = set(started.workers()) - {first}
        started.wait_for("a new worker", lambda _: len(set(started.workers()) - {first}) == 2)
        assert _alive(other)
        status, err = started.end()
    assert status == 0, err
    (told,) = [line for line in err.splitlines() if "worker process" in line]
    assert re.search(r"that did part-0\d+.* was killed by SIGKILL: another does that again", told), told
    assert "Traceback" not in err
    assert hashes(folder) == hashes(whole.folder)
    assert read_status(str(folder))["state"] == "done"


def test_every_worker_killed(whole: SmallRun, tmp_path: Path) -> None:
    """As where a recording takes all memory each time: tried twice, then told which one it was; nothing is lost."""
    folder = tmp_path / "run"
    _with_recordings_to_do(whole, folder)
    with _started(whole.config, folder, "resources.retries=1") as started:
        killed: set[int] = set()
        for number in (1, 2):
            started.wait_for(f"worker {number}", lambda _: not killed.issuperset(started.workers()))
            (worker,) = set(started.workers()) - killed
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        status, err = started.end()
        _all_gone(list(killed))
    assert status == 1
    last = err.splitlines()[-1]
    assert "that did part-00002 was killed by SIGKILL, for the 2. time" in last, err  # the largest is first
    assert "run the same command again" in last and "Traceback" not in err
    assert read_status(str(folder))["state"] == "failed"
    _finish(whole, folder)


def test_only_the_driver_killed(whole: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _with_recordings_to_do(whole, folder)
    with _started(whole.config, folder, "resources.workers=2") as started:
        workers = started.wait_for_workers(2)
        os.kill(started.process.pid, signal.SIGKILL)  # before they are ready, when they have asked for no signal yet
        started.process.wait()
        _all_gone(workers)
    with _started(whole.config, folder, "resources.workers=2") as started:
        started.wait_for("a recording", lambda folder: len(marks(folder, "speech")) >= 2)
        workers = started.workers()
        os.kill(started.process.pid, signal.SIGKILL)
        started.process.wait()
        _all_gone(workers)
    _finish(whole, folder)


def test_ctrl_c(whole: SmallRun, tmp_path: Path) -> None:
    """While the worker is starting, and again while it is at work."""
    folder = tmp_path / "run"
    _with_recordings_to_do(whole, folder)
    for at_work in (False, True):
        with _started(whole.config, folder) as started:
            started.wait_for_workers(1)
            if at_work:
                started.wait_for("a recording", lambda folder: len(marks(folder, "speech")) >= 2)
            workers = started.workers()
            os.killpg(started.process.pid, signal.SIGINT)  # as a terminal does
            status, err = started.end()
            _all_gone(workers)
        assert status == 1, (at_work, err)
        assert complaint(err) == "seamlessalign: stopped; the same command goes on from here"
        assert read_status(str(folder))["state"] == "stopped"
    _finish(whole, folder)


def _command_line(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has gone since it was listed
        return b""


def _busy(folder: Path, workers: list[int]) -> list[int]:
    """Workers that have begun a shard of speech and not ended it."""
    run = RunFolder(str(folder))
    logs = [read_log(run, "speech", file.stem) for file in (folder / "logs" / "speech").glob("part-*.jsonl")]
    last = [events[-1] for events in logs if events]
    return [int(event["process"]) for event in last if event["event"] == "begun" and event["process"] in workers]


def _all_gone(processes: list[int], seconds: float = 5.0) -> None:
    assert processes
    until = time.monotonic() + seconds
    while any(map(_alive, processes)):
        assert time.monotonic() < until, [process for process in processes if _alive(process)]
        time.sleep(0.02)


def _alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie is dead, and nobody has asked for it yet
