"""The lock on a run's folder: one driver at a time, wherever the folder is, and however the driver ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.driver_lock import Clockwork, Lease, is_driven, new_lease, only_driver, read_lease
from seamlessalign.pipelines.folder import RunFolder
from tests.faults.faulty_s3 import Faults, faulty_s3

FOR_EVER = 1e6  # seconds: a test that waits for them hangs
QUICK = Clockwork(renew=0.1, watch=3.0, look=0.05)
ELSEWHERE = """
    from seamlessalign.pipelines import driver_lock
    driver_lock._machine = lambda: "another machine"
"""
HOLD = """
    import sys, time
    from seamlessalign.pipelines.driver_lock import Clockwork, only_driver
    from seamlessalign.pipelines.folder import RunFolder
    {elsewhere}
    with only_driver(RunFolder({root!r}), Clockwork(*{clockwork!r})):
        print("held", flush=True)
        {then}
    print("let go", flush=True)
"""


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """The folder of a run."""
    return RunFolder(f"{request.getfixturevalue('s3_bucket')}/run" if request.param == "s3" else str(tmp_path / "run"))


@contextmanager
def holder(
    folder: RunFolder, then: str = "sys.stdin.read()", *, elsewhere: bool = False, clockwork: Clockwork = QUICK
) -> "Iterator[subprocess.Popen[str]]":
    """A process that holds a folder, until its input ends."""
    times = (clockwork.renew, clockwork.watch, clockwork.look)
    script = textwrap.dedent(HOLD).format(
        elsewhere=textwrap.dedent(ELSEWHERE) if elsewhere else "", root=folder.root, clockwork=times, then=then
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _held(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"


def _lease(folder: RunFolder) -> Lease:
    lease = read_lease(storage.read_bytes(folder.lease))
    assert lease is not None
    return lease


def test_the_second_is_refused_and_told_by_whom(folder: RunFolder) -> None:
    with holder(folder) as process:
        _held(process)
        with pytest.raises(SeamlessAlignError) as caught, only_driver(folder, Clockwork(watch=FOR_EVER)):
            pytest.fail("two are in")
        told = str(caught.value)
        assert told.startswith(
            f"{folder.root}: another run is at work in this folder (on {os.uname().nodename}, process"
        )
        assert f"process {process.pid}, since 2" in told and told.endswith("; wait for it") and "\n" not in told
        out, _ = process.communicate("")
        assert out == "let go\n"
    with only_driver(folder, Clockwork(watch=FOR_EVER)):
        pass


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_of_this_machine_that_was_killed_costs_no_wait(folder: RunFolder, signum: int) -> None:
    with holder(folder) as process:
        _held(process)
        process.send_signal(signum)
        process.wait()
        with only_driver(folder, Clockwork(watch=FOR_EVER)):
            pass


def test_it_is_let_go_whatever_happens_inside(folder: RunFolder) -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), only_driver(folder, QUICK):
            raise error
    assert storage.is_local(folder.root) or not storage.exists(folder.lease)


class TestLeases:
    @pytest.fixture
    def folder(self, s3_bucket: str) -> RunFolder:
        """The folder of a run in a store."""
        return RunFolder(f"{s3_bucket}/run")

    def test_a_driver_elsewhere_that_lives(self, folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
        """It is seen to renew its lease, however long one would watch otherwise."""
        with holder(folder, elsewhere=True) as process:
            _held(process)
            watching = Clockwork(watch=FOR_EVER, look=0.05)
            with pytest.raises(SeamlessAlignError, match="another run is at work"), only_driver(folder, watching):
                pytest.fail("two are in")
            assert process.poll() is None
        (told,) = [record.getMessage() for record in caplog.records if record.name.startswith("seamlessalign")]
        assert told.startswith(f"{folder.root}: a run seems to be at work in this folder (on ")

    def test_a_driver_elsewhere_that_is_dead(self, folder: RunFolder) -> None:
        with holder(folder, elsewhere=True) as process:
            _held(process)
            process.kill()
            process.wait()
            dead = _lease(folder)
            with only_driver(folder, QUICK):
                assert _lease(folder).id != dead.id
        assert not storage.exists(folder.lease)

    def test_clocks_tell_nothing(self, folder: RunFolder) -> None:
        """A lease from the future, or of long ago, is watched all the same."""
        for since in ("2099-01-01 00:00:00 UTC", "1999-01-01 00:00:00 UTC"):
            with holder(folder, elsewhere=True) as process:
                _held(process)
                process.send_signal(signal.SIGSTOP)
                stopped = json.loads(storage.read_bytes(folder.lease))
                storage.write_bytes_atomic(folder.lease, json.dumps({**stopped, "since": since}).encode())
                process.send_signal(signal.SIGCONT)
                watching = Clockwork(watch=FOR_EVER, look=0.05)
                with pytest.raises(SeamlessAlignError, match="at work"), only_driver(folder, watching):
                    pytest.fail("two are in")

    def test_whether_a_folder_is_driven(self, folder: RunFolder) -> None:
        assert not is_driven(folder, os.getpid())
        for elsewhere in (False, True):
            with holder(folder, elsewhere=elsewhere) as process:
                _held(process)
                assert is_driven(folder, process.pid)
                process.kill()
                process.wait()
                assert is_driven(folder, process.pid) == elsewhere  # of another machine nothing is known
            storage.remove(folder.lease)

    def test_a_lease_that_is_no_lease(self, folder: RunFolder) -> None:
        storage.write_bytes_atomic(folder.lease, b"{")
        with only_driver(folder, Clockwork(renew=0.1, watch=0.3, look=0.05)):
            assert _lease(folder).process == os.getpid()

    def test_a_driver_that_was_taken_for_dead_stops(self, folder: RunFolder) -> None:
        """Stopped for longer than one is watched; then it goes on."""
        with holder(folder, "time.sleep(1000)", elsewhere=True) as process:
            _held(process)
            process.send_signal(signal.SIGSTOP)
            with only_driver(folder, Clockwork(renew=FOR_EVER, watch=1.0, look=0.05)):
                mine = _lease(folder)
                process.send_signal(signal.SIGCONT)
                out, err = process.communicate()
                assert out == "" and process.returncode == 1
                told = err.strip().splitlines()[-1]
                assert f"{folder.root}: a run on " in told and "has taken this folder over" in told
                assert _lease(folder) == mine
        assert not storage.exists(folder.lease)

    def test_a_driver_whose_folder_is_removed_stops(self, folder: RunFolder) -> None:
        with pytest.raises(SeamlessAlignError, match="somebody has taken this folder over"), only_driver(folder, QUICK):
            storage.remove(folder.root)
            time.sleep(1000)

    def test_one_that_is_no_main_thread_stops_too(self, folder: RunFolder) -> None:
        told: list[str] = []

        def drive() -> None:
            try:
                with only_driver(folder, QUICK):
                    storage.remove(folder.lease)
                    for _ in range(100_000):
                        time.sleep(0.01)
            except SeamlessAlignError as error:
                told.append(str(error))

        thread = threading.Thread(target=drive)
        thread.start()
        thread.join(60)
        assert len(told) == 1 and "has taken this folder over" in told[0]

    def test_renewals_go_on(self, folder: RunFolder) -> None:
        with only_driver(folder, QUICK):
            until = time.monotonic() + 60
            while _lease(folder).renewals < 5:
                assert time.monotonic() < until
                time.sleep(0.05)

    @pytest.mark.slow
    @pytest.mark.parametrize("faults", [Faults({}), Faults({"*": {"error": 0.1, "lost": 0.1, "reset": 0.05}})])
    def test_of_many_only_one_is_in(
        self, faults: Faults, folder: RunFolder, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Six processes that want the folder again and again, on machines of their own: none meets another in it."""
        inside, entries = tmp_path / "inside", tmp_path / "entries"
        entries.touch()
        script = f"""
            import os, sys, time
            from pathlib import Path
            from seamlessalign.errors import SeamlessAlignError
            from seamlessalign.pipelines import driver_lock
            from seamlessalign.pipelines.folder import RunFolder
            driver_lock._machine = lambda: sys.argv[1]
            sign, entries = Path({str(inside)!r}), Path({str(entries)!r})
            while entries.stat().st_size < 12:
                try:
                    with driver_lock.only_driver(RunFolder({folder.root!r}), driver_lock.Clockwork(0.5, 60.0, 0.02)):
                        os.close(os.open(sign, os.O_CREAT | os.O_EXCL))
                        time.sleep(0.05)
                        with entries.open("ab") as file:
                            file.write(b".")
                        sign.unlink()
                except SeamlessAlignError as error:
                    assert "at work" in str(error), error
        """
        with faulty_s3(s3_endpoint, faults) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
            processes = [
                subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), f"machine {number}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for number in range(6)
            ]  # fmt: skip
            ends = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * 6, [err for _, err in ends]
        assert not inside.exists()


def test_a_lease_is_told_from_that_of_a_later_process_with_its_number() -> None:
    mine = new_lease()
    assert mine.is_here and not mine.is_gone and not mine.is_at_work  # as far as others are concerned
    other = Lease(**{**json.loads(mine.data), "begun": "1"})
    assert other.is_gone
    elsewhere = Lease(**{**json.loads(mine.data), "machine": "another"})
    assert not elsewhere.is_here and not elsewhere.is_gone
    assert read_lease(mine.data) == mine
