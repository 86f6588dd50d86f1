"""What `status` says of a run that is done, running, stopped or failed, here and from another machine."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import cli, storage
from seamlessalign.errors import ConfigError, InputError, StorageError
from seamlessalign.pipelines import heartbeat
from seamlessalign.pipelines.driver_lock import new_lease
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.heartbeat import LOST_SECONDS, driving, read_heartbeat
from seamlessalign.pipelines.ledger import Mark, Tally, write_ledger, write_mark, write_plan
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.stage_speed import overall_speed, recent_speed
from seamlessalign.pipelines.status import StatusReader, read_status
from seamlessalign.pipelines.status_screen import status_text
from seamlessalign.pipelines.task_log import task_log
from tests.pipelines.made_sides import config_of, context_of
from tests.pipelines.small_corpus import command, environment, finished_run

HOUR = 3600 * 16_000


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with both of its speech shards planned and one of them done; no driver has been seen."""
    folder = RunFolder(str(tmp_path / "run"))
    (tmp_path / "run" / "state").mkdir(parents=True)
    (tmp_path / "run" / "run.yaml").write_text("name: x\n")
    write_plan(folder, "speech", {"part-00000": "d", "part-00001": "d"})
    _mark(folder, "part-00000")
    return folder


def _mark(folder: RunFolder, shard: str, begun: datetime | None = None, seconds: float = 0.0, **about: Any) -> None:
    tally = Tally()
    tally.keep(3, samples=3 * HOUR)
    tally.drop("truncated", quarantined=True)
    tally.drop("no_speech", 2, samples=HOUR)
    line = tally.line("recordings", shard, digest="d", seconds={"vad": 1.5}, models={"m": "1"})
    moment = begun.isoformat() if begun else ""
    write_mark(folder, Mark("speech", shard, "d", [], [line], moment, seconds, "node1", **about))


def _beat(folder: RunFolder, state: str, driver: int, error: str | None = None, **more: Any) -> None:
    beat = {"stage": "speech", "state": state, "done": 30.0, "total": 120.0, "per_second": 1.5}
    Path(folder.heartbeat).write_text(json.dumps({**beat, "driver": driver, "error": error, **more}))


def _log(folder: RunFolder, shard: str, *events: dict[str, Any]) -> None:
    file = Path(folder.log("speech", shard))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as log:
        for event in events:
            log.write(json.dumps({"time": _ago(0), **event}) + "\n")


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _here() -> dict[str, Any]:
    """What a heartbeat says of the process that writes it."""
    lease = new_lease()
    return {"host": lease.host, "machine": lease.machine, "process_begun": lease.begun, "run": "r1", "ended": False}


ELSEWHERE: dict[str, Any] = {
    "host": "node7",
    "machine": "node7 1234 pid:[1]",
    "process_begun": "1",
    "run": "r1",
    "ended": False,
}


def test_time_left_is_told_once_something_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(RunFolder(str(tmp_path)), "corpus", 250, out=io.StringIO())
    now[0] += 1.5
    progress.done = 1
    assert progress.line().endswith("1/250 pairs  0.7/s")
    now[0] += 8.5
    assert progress.line().endswith("1/250 pairs  0.1/s  41:30 left")  # 249 pairs of ten seconds
    progress.done = 125
    assert progress.line().endswith("125/250 pairs  12.5/s  0:10 left")


def test_running(folder: RunFolder) -> None:
    _beat(folder, "running", os.getpid())
    status = read_status(folder.root)
    assert status["state"] == "running"
    (speech,) = status["stages"].values()
    assert {name: speech[name] for name in ("shards", "done", "rows_in", "rows_kept", "dropped", "waiting")} == {
        "shards": 2,
        "done": 1,
        "rows_in": 6,
        "rows_kept": 3,
        "dropped": {"no_speech": 2, "truncated": 1},
        "waiting": 1,
    }
    assert (speech["hours_in"], speech["hours_kept"], speech["seconds"]) == (4.0, 3.0, {"vad": 1.5})
    assert speech["tables"]["recordings"]["hours_dropped"] == {"truncated": 0.0, "no_speech": 1.0}
    assert speech["eta_seconds"] == 60.0  # 90 of 120 are left, at 1.5 a second
    assert (status["quarantined"], status["unbalanced"], status["errors"]) == (1, [], [])
    assert status["eta"] == {"stage": "speech", "known_seconds": 60.0, "unknown": status["not_planned"]}
    assert status_text(status).splitlines() == [
        f"{folder.root}: running",
        "stage          shards at work failed  hours in      kept  shards/h      left",
        "speech            1/2                    4.000     3.000                1:00",
        "  recordings: 6 in, 3 kept; dropped: no_speech 2, truncated 1",
        "left: 1:00 and what these take: text, decoys, reduce, gather, index, search,",
        "  mine, corpus",
        "1 inputs could not be read: see quarantine/",
    ]


def test_between_two_stages_it_is_running(folder: RunFolder) -> None:
    _beat(folder, "done", os.getpid())
    assert read_status(folder.root)["state"] == "running"


@pytest.mark.parametrize("state", ["running", "done"])
def test_stopped_where_the_driver_is_gone(folder: RunFolder, state: str) -> None:
    _beat(folder, state, _dead())
    status = read_status(folder.root)
    assert status["state"] == "stopped" and "the same command goes on from here" in status_text(status)


def test_stopped_where_another_process_has_the_number_of_the_driver(folder: RunFolder) -> None:
    _beat(folder, "running", os.getpid(), **_here())
    assert read_status(folder.root)["state"] == "running"
    _beat(folder, "running", os.getpid(), **{**_here(), "process_begun": "1"})
    assert read_status(folder.root)["state"] == "stopped"


@pytest.mark.parametrize(
    ("written", "filed", "state"),
    [
        (0.0, 0.0, "running"),
        (LOST_SECONDS * 2, LOST_SECONDS * 2, "stopped"),
        (LOST_SECONDS / 2, LOST_SECONDS * 2, "running"),  # the clock of the disk is another
        (7200.0, 0.0, "running"),  # that of the driver is behind by two hours
        (-7200.0, 0.0, "running"),  # or ahead
        (-7200.0, 7200.0, "stopped"),
    ],
)
def test_a_driver_of_another_machine_lives_while_it_is_heard(
    folder: RunFolder, written: float, filed: float, state: str
) -> None:
    """Though this process has the same number: it is one of ours."""
    _beat(folder, "running", os.getpid(), **ELSEWHERE, time=_ago(written), beats=1)
    os.utime(folder.heartbeat, (time.time() - filed,) * 2)
    status = read_status(folder.root)
    assert status["state"] == state and status["heard_seconds"] >= 0
    assert ("on node7, heard " in status_text(status)) == (state == "running")


def test_a_driver_that_is_seen_to_write_lives_whatever_the_clocks_say(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = StatusReader(folder.root)
    for beats, state in ((1, "stopped"), (2, "running"), (2, "running"), (3, "running")):
        _beat(folder, "running", _dead(), **ELSEWHERE, time=_ago(86_400), beats=beats)
        os.utime(folder.heartbeat, (1.0, 1.0))
        status = reader.read()
        assert status["state"] == state
    assert 0 <= status["heard_seconds"] < 60
    later = time.monotonic() + LOST_SECONDS + 1
    monkeypatch.setattr("seamlessalign.pipelines.heartbeat.time.monotonic", lambda: later)
    assert reader.read()["state"] == "stopped"


def test_the_driver_is_heard_while_nothing_advances(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "RENEW_SECONDS", 0.02)
    with driving(folder, "r1"):
        Progress(folder, "speech", 120.0)
        before = read_heartbeat(folder)
        until = time.monotonic() + 60
        while read_heartbeat(folder)["beats"] < before["beats"] + 3 and time.monotonic() < until:
            time.sleep(0.02)
        after = read_heartbeat(folder)
        assert after["beats"] >= before["beats"] + 3 and after["stage"] == "speech" and after["time"] > before["time"]
        assert read_status(folder.root)["state"] == "running"
    write_ledger(folder, ["speech"])
    assert read_status(folder.root)["state"] == "done" and read_heartbeat(folder)["ended"]


def test_an_error_outside_of_a_stage_is_told(folder: RunFolder) -> None:
    write_ledger(folder, ["speech"])
    with pytest.raises(ConfigError), driving(folder, "r1"):
        Progress(folder, "speech", 120.0).finish()
        raise ConfigError("there is not\nenough memory")
    status = read_status(folder.root)
    assert status["state"] == "failed"
    assert "stage speech failed: there is not enough memory" in status_text(status)
    with pytest.raises(KeyboardInterrupt), driving(folder, "r2"):
        raise KeyboardInterrupt
    assert read_status(folder.root)["state"] == "stopped"


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
    assert status["state"] == "failed" and "stage speech failed: the disk is full" in status_text(status)


def test_done(folder: RunFolder) -> None:
    _mark(folder, "part-00001")
    _beat(folder, "done", _dead())
    write_ledger(folder, ["speech"])
    status = read_status(folder.root)
    assert status["state"] == "done" and status["stages"]["speech"]["done"] == 2
    assert status["eta"] is None and "left:" not in status_text(status)


def test_shards_at_work_failed_lost_and_waiting(folder: RunFolder) -> None:
    names = [f"part-{number:05d}" for number in range(7)]
    write_plan(folder, "speech", dict.fromkeys(names, "d"))
    _beat(folder, "running", os.getpid(), **_here())
    place = {"host": new_lease().host, "process": os.getpid(), "run": "r1"}
    _log(folder, names[1], {"event": "begun", **place, "job": "12_3", "time": _ago(90)})
    _log(folder, names[2], {"event": "begun", **place}, {"event": "failed", **place, "error": "no room"})
    _log(folder, names[3], {"event": "begun", **place, "run": "r0"})  # of a driver that was killed
    _log(folder, names[4], {"event": "begun", **place, "process": _dead()})
    _log(folder, names[5], {"event": "begun", **place}, {"event": "done"})  # for other settings
    _log(folder, names[6], {"event": "begun", **place, "host": "node9", "process": 1, "time": _ago(-300)})
    status = read_status(folder.root)
    speech = status["stages"]["speech"]
    assert [shard["shard"] for shard in speech["running"]] == [names[1], names[6]]
    assert speech["running"][0]["job"] == "12_3" and 90 <= speech["running"][0]["seconds"] < 900
    assert (speech["running"][1]["host"], speech["running"][1]["seconds"]) == ("node9", 0.0)  # never less than nothing
    assert [(shard["shard"], shard["error"]) for shard in speech["failed"]] == [(names[2], "no room")]
    assert [shard["shard"] for shard in speech["lost"]] == [names[3], names[4]]
    assert speech["waiting"] == 1
    assert speech["failed"][0]["log"] == folder.log("speech", names[2])
    text = status_text(status)
    assert re.search(rf"at work:\n  speech part-00001 on .*, process {os.getpid()}, job 12_3, 1:[34]\d", text)
    assert "begun and not ended:\n  speech part-00003 on" in text
    _beat(folder, "stopped", os.getpid(), **_here())
    assert len(read_status(folder.root)["stages"]["speech"]["lost"]) == 4


def test_the_last_errors_also_of_shards_that_were_done_since(folder: RunFolder) -> None:
    names = [f"part-{number:05d}" for number in range(8)]
    write_plan(folder, "speech", dict.fromkeys(names, "d"))
    for number, name in enumerate(names):
        _log(folder, name, {"event": "failed", "error": f"error {number}", "time": _ago(100 + 10 * number)})
    _mark(folder, names[2], failures=1)
    _mark(folder, names[1])  # a log that nobody need read
    errors = read_status(folder.root)["errors"]
    assert [error["error"] for error in errors] == [f"error {number}" for number in (2, 3, 4, 5, 6)]
    assert [error["later"] for error in errors] == ["done", *["failed"] * 4]
    assert (errors[0]["stage"], errors[0]["shard"], errors[0]["log"]) == (
        "speech", names[2], folder.log("speech", names[2])
    )  # fmt: skip
    text = status_text(read_status(folder.root))
    assert f"speech {names[2]}, done since\n    error 2\n    log: {folder.log('speech', names[2])}" in text


def test_a_mark_counts_the_attempts_that_failed(tmp_path: Path) -> None:
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    for _ in range(2):
        with pytest.raises(ValueError), task_log(context, "speech", "part-00000", "d"):
            raise ValueError("broken")
    with task_log(context, "speech", "part-00000", "d") as failures:
        assert failures == 2


moments = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100)), max_size=12)
START = datetime(2026, 11, 29, 12, tzinfo=UTC)


def _works(moments: list[tuple[int, int]]) -> list[Mark]:
    line = Tally()
    line.keep(1, HOUR)
    lines = [line.line("recordings", "x", digest="d")]
    return [
        Mark("speech", str(number), "d", [], lines, (START + timedelta(seconds=begun)).isoformat(), float(took))
        for number, (begun, took) in enumerate(moments)
    ]


@given(moments)
def test_speed_over_all_counts_the_seconds_in_which_something_was_at_work(moments: list[tuple[int, int]]) -> None:
    """Against a count of every second; pauses and overlaps are no work."""
    busy = len({second for begun, took in moments for second in range(begun, begun + took)})
    speed = overall_speed(_works(moments))
    assert speed.minutes == pytest.approx(busy / 60, abs=1e-3)
    if busy:
        assert speed.shards_per_hour == pytest.approx(len(moments) * 3600 / busy)
        assert speed.audio_hours_per_hour == pytest.approx(len(moments) * 3600 / busy)
    else:
        assert speed.shards_per_hour is None


@given(moments, st.integers(0, 700), st.integers(0, 700))
def test_speed_of_late_counts_what_ended_of_late(moments: list[tuple[int, int]], now: int, since: int) -> None:
    at = START.timestamp()
    speed = recent_speed(_works(moments), at + now, at + since, minutes=2.0)
    begun = max([now - 120, since, *([min(begun for begun, _ in moments)] if moments else [])])
    ended = sum(begun < start + took for start, took in moments)
    assert speed.minutes == pytest.approx(max(now - begun, 0) / 60, abs=1e-3)
    if ended and now > begun:
        assert speed.shards_per_hour == pytest.approx(ended * 3600 / (now - begun))
    else:
        assert speed.shards_per_hour is None


def test_speed_and_the_slowest_shards_are_told(folder: RunFolder) -> None:
    names = [f"part-{number:05d}" for number in range(9)]
    write_plan(folder, "speech", dict.fromkeys(names, "d"))
    for number, name in enumerate(names[:8]):  # one after the other, each a minute longer than the one before
        _mark(folder, name, START + timedelta(minutes=number * (number + 1) / 2), 60.0 * (number + 1))
    _beat(folder, "running", os.getpid(), **{**_here(), "time": (START + timedelta(minutes=36)).isoformat()}, total=0)
    speech = read_status(folder.root)["stages"]["speech"]
    assert speech["speed"]["overall"] == {
        "minutes": 36.0, "shards_per_hour": 8 / 0.6, "audio_hours_per_hour": pytest.approx(8 * 4 / 0.6)
    }  # fmt: skip
    assert speech["speed"]["recent"]["minutes"] == 10.0 and speech["speed"]["recent"]["shards_per_hour"] == 12.0
    assert speech["eta_seconds"] == 270.0 and speech["wall_seconds"] == 36 * 60
    assert [(shard["shard"], shard["wall_seconds"]) for shard in speech["slowest"]] == [
        (name, 60.0 * (int(name[-1]) + 1)) for name in reversed(names[3:8])
    ]
    assert speech["slowest"][0]["host"] == "node1"
    assert speech["slowest"][0]["log"] == folder.log("speech", names[7])
    assert "slowest:\n  speech part-00007 8:00 on node1" in status_text(read_status(folder.root))


def test_marks_are_read_once_under_one_driver(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    listed: list[str] = []
    real = storage.read_many

    def counted(uris: list[str]) -> dict[str, bytes]:
        read.extend(uris)
        return real(uris)

    def nothing(uri: str, suffix: str = "") -> list[str]:
        listed.append(uri)
        return []

    monkeypatch.setattr(storage, "read_many", counted)
    _beat(folder, "running", os.getpid(), **_here(), since=_ago(60))
    reader = StatusReader(folder.root)
    assert reader.read()["stages"]["speech"]["done"] == 1 and len(read) == 1
    _mark(folder, "part-00001")
    assert reader.read()["stages"]["speech"]["done"] == 2
    assert read == [folder.mark("speech", "part-00000"), folder.mark("speech", "part-00001")]
    monkeypatch.setattr(storage, "list_files", nothing)
    assert reader.read()["stages"]["speech"]["done"] == 2 and not any("speech" in uri for uri in listed)
    monkeypatch.undo()
    Path(folder.mark("speech", "part-00000")).unlink()  # as a driver does that does a shard again
    _beat(folder, "running", os.getpid(), **{**_here(), "run": "r2"}, since=_ago(0))
    assert reader.read()["stages"]["speech"]["done"] == 1


def test_marks_that_go_between_being_listed_and_being_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, gone = storage.read_many, folder.mark("speech", "part-00000")

    def read(uris: list[str]) -> dict[str, bytes]:
        if gone in uris:
            Path(gone).unlink(missing_ok=True)
        return real(uris)

    monkeypatch.setattr(storage, "read_many", read)
    assert read_status(folder.root)["stages"]["speech"]["done"] == 0


def test_a_run_in_a_store_has_the_same_status(folder: RunFolder, s3_bucket: str) -> None:
    _beat(folder, "running", _dead(), **ELSEWHERE, time=_ago(1))
    _log(folder, "part-00001", {"event": "begun", "run": "r1", "host": "node7", "process": 7})
    there = f"{s3_bucket}/run"
    for uri in storage.list_files(folder.root):
        storage.write_bytes_atomic(f"{there}/{folder.relative(uri)}", Path(uri).read_bytes())
    here, status = read_status(folder.root), read_status(there)
    for one in (here, status):
        one.pop("heard_seconds"), one["stages"]["speech"]["running"][0].pop("seconds")
    assert json.loads(json.dumps(status).replace(there, folder.root)) == here
    assert status["state"] == "running"


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


def test_marks_of_other_settings_are_not_counted(folder: RunFolder) -> None:
    write_plan(folder, "speech", {"part-00000": "other", "part-00001": "d"})
    assert read_status(folder.root)["stages"]["speech"]["done"] == 0


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


class Screen:
    """A terminal of 80 columns that a program draws on: lines, and how often a line was too long."""

    ROWS, COLUMNS = 30, 80

    def __init__(self) -> None:
        self.rows = [[" "] * self.COLUMNS for _ in range(self.ROWS)]
        self.row = self.column = self.too_long = 0
        self._rest = ""

    def take(self, text: str) -> None:
        """Draw what the program wrote."""
        text, self._rest = self._rest + text, ""
        while text:
            control = re.match(r"\x1b\[([?0-9;]*)([A-Za-z])", text)
            if control:
                self._control(control[1], control[2])
                text = text[len(control[0]) :]
            elif text[0] == "\x1b":
                self._rest, text = text, ""
            else:
                self._put(text[0])
                text = text[1:]

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]

    def _control(self, numbers: str, kind: str) -> None:
        if kind == "H":
            self.row = self.column = 0
        elif kind == "K":
            self.rows[self.row][self.column :] = [" "] * (self.COLUMNS - self.column)
        elif kind == "J":
            first = 0 if numbers == "2" else self.row + 1
            for row in range(first, self.ROWS):
                self.rows[row] = [" "] * self.COLUMNS
        else:
            assert kind in "mhl", kind

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row = min(self.row + 1, self.ROWS - 1)
        elif self.column == self.COLUMNS:
            self.too_long += 1
        else:
            self.rows[self.row][self.column] = letter
            self.column += 1


def _watched(folder: RunFolder) -> tuple["subprocess.Popen[bytes]", int]:
    """`status --watch` in a terminal of 30 lines of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", Screen.ROWS, Screen.COLUMNS, 0, 0))
    process = subprocess.Popen(
        command("status", folder.root, "--watch"), stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment(), "TERM": "xterm"}, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def _read_until(terminal: int, screen: Screen, shown: str) -> str:
    """Draw what comes until the screen shows something; returns what was written."""
    written = ""
    while shown not in "\n".join(screen.lines()):
        text = os.read(terminal, 1 << 16).decode()
        screen.take(text)
        written += text
    return written


def test_watching_draws_over_itself_until_the_run_ends(folder: RunFolder) -> None:
    place = {"host": new_lease().host, "process": os.getpid(), "run": "r1"}
    _log(folder, "part-00001", {"event": "begun", **place})
    _beat(folder, "running", os.getpid(), **_here(), since=_ago(10))
    process, terminal = _watched(folder)
    screen = Screen()
    try:
        written = _read_until(terminal, screen, "speech part-00001 on")
        assert "\x1b[1;36mrunning\x1b[0m" in written
        assert screen.lines()[2].startswith("speech            1/2       1 ")
        _mark(folder, "part-00001")
        _read_until(terminal, screen, "speech            2/2")
        assert "at work:" not in screen.lines() and screen.too_long == 0
        write_ledger(folder, ["speech"])
        _beat(folder, "done", os.getpid(), **{**_here(), "ended": True})
        written = _read_until(terminal, screen, ": done")
        assert process.wait(60) == 0
        assert sum("speech            2/2" in line for line in screen.lines()) == 1
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_ctrl_c_ends_watching_without_an_error(folder: RunFolder) -> None:
    _beat(folder, "running", os.getpid(), **_here())
    process, terminal = _watched(folder)
    screen = Screen()
    try:
        _read_until(terminal, screen, ": running")
        os.write(terminal, b"\x03")
        assert process.wait(60) == 0
        rest = os.read(terminal, 1 << 16).decode()
        assert "\x1b[?25h" in rest and "seamlessalign:" not in rest and "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_watching_without_a_terminal_is_plain(folder: RunFolder) -> None:
    _beat(folder, "stopped", _dead())
    done = subprocess.run(
        command("status", folder.root, "--watch"), capture_output=True, text=True, env=environment(), timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{status_text(read_status(folder.root))}\n\n" and "\x1b" not in done.stdout


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
    speech = status["stages"]["speech"]
    assert speech["dropped"] == {"language_not_wanted": 1} and speech["eta_seconds"] == 0.0
    assert all(stage["speed"]["overall"]["shards_per_hour"] for stage in status["stages"].values() if stage["shards"])
    assert speech["speed"]["overall"]["audio_hours_per_hour"] and len(speech["slowest"]) == 5
    assert status["now"]["ended"] and status["not_planned"] == [] and status["eta"] is None
    assert all(len(line) <= 80 for line in status_text(status).splitlines()[1:])
