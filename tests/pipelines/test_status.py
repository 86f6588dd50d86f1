"""What `status` says of a run that is done, running, stopped or failed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seamlessalign import cli
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import Mark, Tally, write_ledger, write_mark, write_plan
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.status import read_status, status_text
from tests.pipelines.small_corpus import finished_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with both of its speech shards planned and one of them done; no driver has been seen."""
    folder = RunFolder(str(tmp_path / "run"))
    (tmp_path / "run" / "state").mkdir(parents=True)
    (tmp_path / "run" / "run.yaml").write_text("name: x\n")
    write_plan(folder, "speech", {"part-00000": "d", "part-00001": "d"})
    _mark(folder, "part-00000")
    return folder


def _mark(folder: RunFolder, shard: str) -> None:
    tally = Tally()
    tally.keep(3, samples=300)
    tally.drop("truncated", quarantined=True)
    tally.drop("no_speech", 2, samples=200)
    write_mark(folder, Mark("speech", shard, "d", [], [tally.line("recordings", shard, digest="d")]))


def _beat(folder: RunFolder, state: str, driver: int, error: str | None = None) -> None:
    beat = {"stage": "speech", "state": state, "done": 30.0, "total": 120.0, "per_second": 1.5}
    Path(folder.heartbeat).write_text(json.dumps({**beat, "driver": driver, "error": error}))


def _dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_running(folder: RunFolder) -> None:
    _beat(folder, "running", os.getpid())
    status = read_status(folder.root)
    assert status["state"] == "running"
    assert status["stages"] == {
        "speech": {
            "shards": 2,
            "done": 1,
            "rows_in": 6,
            "rows_kept": 3,
            "dropped": {"no_speech": 2, "truncated": 1},
        }
    }
    assert (status["quarantined"], status["unbalanced"]) == (1, [])
    assert status_text(status).splitlines() == [
        f"{folder.root}: running",
        "  speech  1/2 shards, 6 rows in, 3 kept; dropped: no_speech 2, truncated 1",
        "  at speech: 25%, about 1:00 left",
        "  1 inputs could not be read: see quarantine/",
    ]


def test_between_two_stages_it_is_running(folder: RunFolder) -> None:
    _beat(folder, "done", os.getpid())
    assert read_status(folder.root)["state"] == "running"


@pytest.mark.parametrize("state", ["running", "done"])
def test_stopped_where_the_driver_is_gone(folder: RunFolder, state: str) -> None:
    _beat(folder, state, _dead())
    status = read_status(folder.root)
    assert status["state"] == "stopped" and "the same command goes on from here" in status_text(status)


def test_stopped_by_ctrl_c(folder: RunFolder) -> None:
    Progress(folder, "speech", 120.0).stop()
    assert read_status(folder.root)["state"] == "stopped"


def test_stopped_before_anything_was_done(folder: RunFolder) -> None:
    Path(folder.plan("speech")).unlink()
    status = read_status(folder.root)
    assert (status["state"], status["stages"]) == ("stopped", {})


@pytest.mark.parametrize("had_been_done", [True, False])
def test_failed(folder: RunFolder, had_been_done: bool) -> None:
    if had_been_done:
        write_ledger(folder, ["speech"])
    Progress(folder, "speech", 120.0).fail("the disk is full")
    status = read_status(folder.root)
    assert status["state"] == "failed" and "  stage speech failed: the disk is full" in status_text(status)


def test_done(folder: RunFolder) -> None:
    _mark(folder, "part-00001")
    _beat(folder, "done", _dead())
    write_ledger(folder, ["speech"])
    status = read_status(folder.root)
    assert status["state"] == "done" and status["stages"]["speech"]["done"] == 2
    assert "left" not in status_text(status)


def test_counts_that_do_not_balance_are_told(folder: RunFolder) -> None:
    file = Path(folder.mark("speech", "part-00000"))
    mark: dict[str, Any] = json.loads(file.read_text())
    mark["lines"][0]["rows_in"] = 7
    file.write_text(json.dumps(mark))
    status = read_status(folder.root)
    assert status["unbalanced"] == ["recordings part-00000: 7 rows in, 3 kept and 3 dropped"]
    assert "does not balance: recordings part-00000" in status_text(status)


def test_marks_that_are_not_planned_are_not_counted(folder: RunFolder) -> None:
    _mark(folder, "part-00007")
    assert read_status(folder.root)["stages"]["speech"]["rows_in"] == 6


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="not the folder of a run"):
        read_status(str(tmp_path))
    assert cli.main(["status", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"seamlessalign: {tmp_path}/none: is not the folder of a run")


@pytest.mark.parametrize("damaged", ["plan", "heartbeat"])
def test_a_damaged_state_is_named(folder: RunFolder, damaged: str) -> None:
    file = Path({"plan": folder.plan("speech"), "heartbeat": folder.heartbeat}[damaged])
    file.write_text("{half")
    with pytest.raises(StorageError, match=file.name):
        read_status(folder.root)


def test_json_for_programs(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    _beat(folder, "running", os.getpid())
    assert cli.main(["status", folder.root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_status(folder.root)
    assert cli.main(["status", folder.root]) == 0
    assert capsys.readouterr().out == status_text(read_status(folder.root)) + "\n"


@pytest.mark.embedded
def test_a_real_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = finished_run(tmp_path_factory.getbasetemp())
    status = read_status(str(made.folder))
    assert status["state"] == "done"
    assert {stage: (n["done"], n["shards"]) for stage, n in status["stages"].items()} == {
        "speech": (5, 5),
        "text": (2, 2),
        "decoys": (1, 1),
        "reduce": (0, 0),
        "gather": (3, 3),
        "index": (0, 0),
        "search": (3, 3),
        "mine": (3, 3),
        "corpus": (3, 3),
    }
    assert status["stages"]["speech"]["dropped"] == {"language_not_wanted": 1}
