"""The page's server: how it is started and ended, and what is told where it cannot be."""

import contextlib
import http.client
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from seamlessalign.errors import ConfigError, InputError, MissingPackageError, StorageError
from seamlessalign.pipelines.curation import serve as serving
from seamlessalign.pipelines.curation.export_jobs import ExportJobs, export_command
from seamlessalign.pipelines.curation.served import Served
from tests.pipelines.fake_run import FakeRun
from tests.pipelines.small_corpus import HOUSE, command, complaint, environment, program

for _package in ("streamlit", "altair", "duckdb"):
    pytest.importorskip(_package, reason="needs the extra 'curate'")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return FakeRun(str(tmp_path_factory.mktemp("made") / "run"), rejected=20)


def test_a_port_that_is_taken_is_told(run: FakeRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken: give another with --port"):
            serving.serve(run.root, port=port, open_browser=False)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_told(run: FakeRun, port: int) -> None:
    with pytest.raises(ConfigError, match="0 to 65535"):
        serving.serve(run.root, port=port, open_browser=False)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is it a run's folder"):
        serving.serve(str(tmp_path), port=0, open_browser=False)
    with pytest.raises(InputError, match="is it a run's folder"):
        serving.serve(str(tmp_path / "none"), port=0, open_browser=False)


def test_a_run_without_pairs_is_told(run: FakeRun, tmp_path: Path) -> None:
    shutil.copytree(Path(run.root) / "recordings", tmp_path / "recordings")
    with pytest.raises(InputError, match="has no pairs to look at; is the run finished"):
        serving.serve(str(tmp_path), port=0, open_browser=False)


def test_tables_that_lie_elsewhere_are_not_followed(run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "pairs").symlink_to(Path(run.root) / "pairs")
    with pytest.raises(StorageError, match="cannot be read: Permission Error"):
        serving.serve(str(tmp_path), port=0, open_browser=False)


def test_a_missing_package_is_told(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "altair" else object())
    with pytest.raises(MissingPackageError, match=r"altair: pip install 'seamlessalign\[curate\]'"):
        serving.serve(run.root, port=0, open_browser=False)


def test_the_program_tells_it_in_one_line(tmp_path: Path) -> None:
    done = program("curate", tmp_path, "--no-browser")
    assert done.returncode == 2 and "is it a run's folder" in complaint(done.stderr)


def test_what_is_asked_ends_with_it(run: FakeRun) -> None:
    served = Served(run.root)
    told: list[str] = []

    def ask(query: str) -> None:
        try:
            served.tables.ask(query)
        except StorageError as error:
            told.append(str(error))

    endless = "select count(*) from range(10000000000000) a, range(10000000) b where a.range * b.range % 7 = 3"
    asking = [threading.Thread(target=ask, args=(endless,)) for _ in range(2)]
    for thread in asking:
        thread.start()
    time.sleep(0.1)
    served.close()
    for thread in asking:
        thread.join(5)
        assert not thread.is_alive()
    ask("select 1")
    assert told == [f"{run.root}: is not asked any more: this process ends"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_its_export(run: FakeRun, tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        command("curate", run.root, "--port", "0", "--no-browser"),
        cwd=HOUSE, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().rpartition(" ")[2].strip()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # which keeps the key
    with browser.open(address, timeout=20) as answer:
        assert answer.status == 200 and "key" not in answer.url
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_an_export_that_fails_says_why_and_one_that_is_stopped_ends(run: FakeRun) -> None:
    jobs = ExportJobs(run.root)
    job = jobs.start("none", "parquet")
    deadline = time.monotonic() + 60
    with pytest.raises(InputError, match="an export is running"):
        jobs.start("none", "parquet")
    while job.status is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job.status == 2 and "has no selection 'none'" in job.lines[-1]
    job = jobs.start("none", "parquet")
    jobs.stop()
    assert job.status is not None
    assert not Path(job.target).exists()


def test_the_command_is_as_it_is_typed() -> None:
    assert export_command("/data/my run", "a", "webdataset", "/data/my run/exports/a-webdataset") == (
        "seamlessalign export '/data/my run' --selection a --format webdataset --to '/data/my run/exports/a-webdataset'"
    )


def test_an_export_that_cannot_be_started_is_told(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match="the export cannot be started: No such file"):
        ExportJobs(run.root).start("a", "parquet")


def test_whether_a_run_is_finished_is_known(run: FakeRun, tmp_path: Path) -> None:
    root = Path(shutil.copytree(run.root, tmp_path / "run"))
    for state in ("", "stopped"):
        with contextlib.closing(Served(str(root))) as served:
            assert served.unfinished == state
        (root / "ledger.parquet").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_browser_that_is_started_gets_a_key_for_once(run: FakeRun, tmp_path: Path) -> None:
    """Its command line is seen by all users of the machine; and the server does not wait until it ends."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.new\nmv {opened}.new {opened}\nsleep 60\n')
    browser.chmod(0o755)
    variables = environment() | {"BROWSER": f"{browser} %s"}
    words = command("curate", run.root, "--port", "0")
    process = subprocess.Popen(words, cwd=HOUSE, env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base, key = process.stdout.readline().strip().rsplit("http://", 1)[1].split("/?key=")
    deadline = time.monotonic() + 30
    while not opened.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    given = opened.read_text().removeprefix(f"http://{base}")
    assert given.startswith("/?key=") and key not in given
    for status in (303, 403):
        asking = http.client.HTTPConnection(base, timeout=30)
        asking.request("GET", given)
        answer = asking.getresponse()
        assert answer.status == status and (key in (answer.headers["set-cookie"] or "")) == (status == 303)
        asking.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
