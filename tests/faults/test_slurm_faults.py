"""What befalls jobs on a cluster, on a real Slurm: the tables of a run have the bytes of a local one all the same.

A whole run goes through job arrays first. The others begin from a finished local run with some of its recordings
taken back, so that each has only that to do what it is about.
"""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.status_screen import status_text
from seamlessalign.typed_config import digest
from tests.faults.counts import count
from tests.pipelines.real_slurm import Slurm, slurm
from tests.pipelines.small_corpus import (
    SmallRun,
    command,
    environment,
    hashes,
    marks,
    mine,
    program,
    short_run,
)

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

PATIENCE = 600.0  # seconds until a moment that does not come fails the test
ASKS = {"cpus": 1, "memory_gb": 3, "minutes": 10, "parallel": 2}


@dataclass
class Driver:
    """`seamlessalign run --executor slurm` at work on a folder."""

    process: "subprocess.Popen[str]"
    folder: Path
    cluster: Slurm

    def wait_for(self, what: str, moment: Callable[[], bool]) -> None:
        """Come back as soon as a moment is there; fails where the driver ends before."""
        until = time.monotonic() + PATIENCE
        while not moment():
            if self.process.poll() is not None:
                pytest.fail(f"ended before {what}: {self.process.communicate()[1]}")
            if time.monotonic() > until:
                pytest.fail(f"{what} did not come: {self.cluster.queue('%i %T %r %j')}")
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        """Wait for the end, and let requeued tasks begin at once; returns exit status and stderr."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self.cluster.hurry()
            assert time.monotonic() < until, self.cluster.queue("%i %T %r %j")
            time.sleep(0.5)
        return self.process.returncode, self.process.communicate()[1]

    def programs(self) -> dict[str, int]:
        """Processes of this run's tasks, by the id of the task."""
        return _programs(self.folder)


_IDS = (b"SLURM_ARRAY_JOB_ID", b"SLURM_ARRAY_TASK_ID", b"SLURM_JOB_ID")


def _programs(folder: Path) -> dict[str, int]:
    """The processes of a run's tasks that heed signals by now, by the id of the task."""
    found = {}
    for entry in Path("/proc").iterdir():
        words = _bytes(entry / "cmdline").split(b"\0") if entry.name.isdigit() else []
        ours = b"submitit.core._submit" in words and words[-2].endswith(digest("run", str(folder)).encode())
        if ours and words[0] != b"srun" and _heeds(int(entry.name), signal.SIGUSR2):
            told = dict(item.partition(b"=")[::2] for item in _bytes(entry / "environ").split(b"\0"))
            array, number, job = (told.get(key, b"").decode() for key in _IDS)
            found[f"{array}_{number}" if array else job] = int(entry.name)
    return found


def _wait_for(what: str, moment: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not moment():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.1)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A local run over four short recordings."""
    made = short_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    assert len(hashes(made.folder)) == 15
    root = tmp_path_factory.mktemp("on slurm")
    raw = yaml.safe_load(made.config.read_text())
    for kind in ("speech", "text"):
        raw[kind]["inputs"] = [str(made.config.parent / name) for name in raw[kind]["inputs"]]
    raw["resources"] |= {"shards_per_group": 1, "slurm": {**ASKS, "folder": str(root / "private")}}
    (root / "run.yaml").write_text(yaml.safe_dump(raw))
    return replace(made, config=root / "run.yaml")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    with slurm(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@contextmanager
def _driver(whole: SmallRun, folder: Path, cluster: Slurm, *overrides: str) -> Iterator[Driver]:
    process = subprocess.Popen(
        command("run", whole.config, "--output", folder, "--executor", "slurm", *overrides),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    driver = Driver(process, folder, cluster)
    try:
        yield driver
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _taken_back(whole: SmallRun, folder: Path, recordings: int) -> Path:
    """A copy of the finished run in which so many recordings are not done yet."""
    whole.copy(folder)
    for number in range(recordings):
        (folder / f"state/done/speech/part-{number:05d}.json").unlink()
    return folder


def _as_local(whole: SmallRun, folder: Path) -> None:
    made = hashes(folder)
    assert made == hashes(whole.folder)
    count("Slurm: bytes compared with a local run", sum((folder / name).stat().st_size for name in made))
    assert not list(folder.rglob(".writing-*"))
    assert not list(folder.rglob("*.pkl")) and not (folder / "state" / "slurm").exists()
    assert read_status(str(folder))["state"] == "done"


def _jobs(cluster: Slurm, stage: str) -> set[str]:
    """Numbers of the jobs that were submitted for a stage and that Slurm remembers."""
    queue = cluster.queue("%i %j")
    return {task.split("_")[0] for task, name in queue if name.startswith(f"seamlessalign-{stage}-")}


def _take_its_node() -> None:
    """Submit a job that other jobs make room for."""
    other = ["sbatch", "--partition=high", "--exclusive", "--wrap=true", "--output=/dev/null"]
    subprocess.run(other, check=True, capture_output=True)


def _printed(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted((folder / "logs" / "slurm").glob("*.log")))


def test_a_whole_run_as_arrays(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Two tasks at a time; Slurm takes arrays of three, so the four recordings are two arrays, and texts go beside."""
    with _driver(whole, tmp_path / "run", cluster, "resources.slurm.stages.text.parallel=1") as driver:
        most: Counter[str] = Counter()  # tasks at work at a time, by stage
        while driver.process.poll() is None:
            most |= Counter(name.split("-")[1] for name, state in cluster.queue("%j %T") if state == "RUNNING")
            time.sleep(0.3)
        assert driver.end()[0] == 0
    assert most["speech"] == 2 and max(most.values()) == 2 and most["text"] == 1
    assert len(_jobs(cluster, "speech")) == 2 and len(_jobs(cluster, "search")) == 1
    _as_local(whole, tmp_path / "run")


def test_a_task_is_killed(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    folder = _taken_back(whole, tmp_path / "run", 2)
    with _driver(whole, folder, cluster) as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        task, process = next(iter(driver.programs().items()))
        os.kill(process, signal.SIGKILL)
        count("Slurm: tasks killed")
        status, err = driver.end()
    assert status == 0, err
    assert f"task {task} ended as FAILED (signal 9); its shards are submitted again" in err
    _as_local(whole, folder)


def test_a_task_is_killed_every_time(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """One task more than `retries` allows, and the run says why it ends and what to change."""
    folder = _taken_back(whole, tmp_path / "run", 1)
    with _driver(whole, folder, cluster, "resources.slurm.stages.speech.retries=1") as driver:
        killed: set[str] = set()
        while driver.process.poll() is None:
            for task, process in driver.programs().items():
                os.kill(process, signal.SIGKILL)
                killed.add(task)
                count("Slurm: tasks killed")
            time.sleep(0.1)
        status, err = driver.end()
    assert status == 1 and len(killed) == 2
    last = err.strip().splitlines()[-1]
    assert re.search(
        r"stage speech, part-00000: its task was lost 2 times; task \d+ ended as FAILED \(signal 9\)", last
    )
    assert "set resources.slurm.stages.speech.memory_gb higher than 3" in last
    log = re.search(r"; log: (\S+\.log)$", last)
    assert log is not None and Path(log[1]).is_file()
    assert read_status(str(folder))["state"] == "failed"
    assert mine(whole.config, folder).status == 0  # here, without Slurm
    assert hashes(folder) == hashes(whole.folder)


def test_a_task_has_had_its_time(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """It is stopped until Slurm tells it that its time is up, so that it cannot be done before."""
    folder = _taken_back(whole, tmp_path / "run", 2)
    with _driver(whole, folder, cluster, "resources.shards_per_group=2", "resources.slurm.parallel=1") as driver:
        driver.wait_for("half of a task", lambda: len(marks(folder, "speech")) == 3)
        ((task, process),) = driver.programs().items()
        os.kill(process, signal.SIGSTOP)
        cluster.update(f"jobid={task}", "TimeLimit=1")
        driver.wait_for("the task to be queued again", lambda: [task, "PENDING"] in cluster.queue())
        cluster.update(f"jobid={task}", "TimeLimit=10")
        status, err = driver.end()
    assert status == 0, err
    printed = _printed(folder)
    assert "the task has had its 10 minutes; left: 1 of 2 shards" in printed
    count("Slurm: tasks out of time")
    assert f"Requeued job {task}" in printed
    assert "submitted again" not in err
    _as_local(whole, folder)


def test_a_task_makes_room(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """A job of the other partition takes its node. That counts nothing, not even where nothing may be tried again."""
    folder = _taken_back(whole, tmp_path / "run", 1)
    overrides = ["resources.slurm.retries=0", "resources.slurm.extra.nodelist=second"]
    with _driver(whole, folder, cluster, *overrides) as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        ((task, process),) = driver.programs().items()
        os.kill(process, signal.SIGSTOP)
        _take_its_node()
        status, err = driver.end()
    assert status == 0, err
    printed = _printed(folder)
    assert "the task makes room for another job; left: 1 of 1 shards" in printed
    count("Slurm: tasks preempted")
    assert f"Requeued job {task}" in printed
    _as_local(whole, folder)


def test_a_task_makes_room_for_good(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Where preempted jobs are cancelled at once, its shards are submitted again; that counts nothing either."""
    folder = _taken_back(whole, tmp_path / "run", 1)
    with _driver(whole, folder, cluster, "resources.slurm.retries=0", "resources.slurm.partition=cheap") as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        (process,) = driver.programs().values()
        os.kill(process, signal.SIGSTOP)
        _take_its_node()
        status, err = driver.end()
    assert status == 0, err
    assert "DUE TO PREEMPTION" in _printed(folder)
    count("Slurm: tasks preempted")
    _as_local(whole, folder)


def test_the_driver_is_killed(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Started again, it waits for the tasks that are at work and in the queue; nothing is submitted twice."""
    folder = _taken_back(whole, tmp_path / "run", 3)
    before = _jobs(cluster, "speech")
    with _driver(whole, folder, cluster, "resources.slurm.parallel=1") as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        driver.process.kill()
        driver.process.wait()
        count("Slurm: drivers killed")
        processes = driver.programs()
    for other in ("local", "beam"):
        elsewhere = mine(whole.config, folder, "--executor", other)
        assert elsewhere.status == 1, elsewhere.err
        assert "3 tasks of Slurm are at work in this folder: go on with --executor slurm" in elsewhere.err
    with _driver(whole, folder, cluster, "resources.slurm.parallel=1") as driver:
        status, err = driver.end()
    assert status == 0, err
    assert len(processes) == 1 and len(_jobs(cluster, "speech") - before) == 1
    assert "submitted again" not in err
    _as_local(whole, folder)


@pytest.mark.thorough
def test_the_driver_comes_back_wanting_something_else(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Tasks that do what nobody wants any more are cancelled, and have ended before the new ones begin."""
    folder = _taken_back(whole, tmp_path / "run", 2)
    with _driver(whole, folder, cluster, "speech.spans.max_seconds=7", "resources.slurm.parallel=1") as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        driver.process.kill()
        driver.process.wait()
        count("Slurm: drivers killed")
        old = driver.programs()
        before = _jobs(cluster, "speech")
    with _driver(whole, folder, cluster) as driver:
        driver.wait_for("new tasks", lambda: bool(_jobs(cluster, "speech") - before))
        assert old and not any(Path(f"/proc/{process}").exists() for process in old.values())
        status, err = driver.end()
    assert status == 0, err
    _as_local(whole, folder)


def test_a_node_is_drained(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """What is at work there ends, and what waits for it waits until it is back."""
    folder = _taken_back(whole, tmp_path / "run", 2)
    overrides = ["resources.slurm.parallel=1", "resources.slurm.extra.nodelist=first"]
    with _driver(whole, folder, cluster, *overrides) as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        cluster.update("nodename=first", "state=drain", "reason=broken fan")
        try:
            driver.wait_for("the first to be done", lambda: len(marks(folder, "speech")) == 3)
            driver.wait_for("no task at work", lambda: not driver.programs())
            time.sleep(3)  # in which the other must not begin
            assert len(marks(folder, "speech")) == 3 and not driver.programs()
        finally:
            cluster.update("nodename=first", "state=resume")
        status, err = driver.end()
    assert status == 0, err
    assert "submitted again" not in err
    _as_local(whole, folder)


def test_a_node_is_lost(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Slurm queues what was at work there again, and it begins anew. The node comes back by itself."""
    folder = _taken_back(whole, tmp_path / "run", 1)
    with _driver(whole, folder, cluster) as driver:
        driver.wait_for("a task at work", lambda: bool(driver.programs()))
        (task,) = driver.programs()
        (node,) = [words[1] for words in cluster.queue("%i %N") if words[0] == task]
        cluster.update(f"nodename={node}", "state=down", "reason=no power")
        count("Slurm: nodes lost")
        status, err = driver.end()
    assert status == 0, err
    _as_local(whole, folder)


def test_ctrl_c_cancels_the_tasks(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    folder = _taken_back(whole, tmp_path / "run", 2)
    with _driver(whole, folder, cluster) as driver:
        driver.wait_for("tasks at work", lambda: len(driver.programs()) == 2)
        os.killpg(driver.process.pid, signal.SIGINT)
        status, err = driver.end()
        assert status == 1 and err.endswith("seamlessalign: stopped; the same command goes on from here\n")
        assert read_status(str(folder))["state"] == "stopped"
    with _driver(whole, folder, cluster) as driver:
        status, err = driver.end()
    assert status == 0, err
    _as_local(whole, folder)


def test_the_driver_is_a_job(whole: SmallRun, cluster: Slurm, tmp_path: Path) -> None:
    """Told that its time is up, it is queued again, and goes on with the tasks that are at work."""
    folder = _taken_back(whole, tmp_path / "run", 3)
    words = ["--executor", "slurm", "--detach", "resources.slurm.parallel=1", "--output", str(folder)]
    done = program("run", whole.config, *words)
    assert done.returncode == 0, done.stderr
    found = re.match(r"driven by job (\d+); ", done.stdout)
    assert found is not None
    job = found[1]
    assert read_status(str(folder))["driver"]["job"] == job
    again = program("run", whole.config, *words)
    assert again.returncode == 1 and f"job {job} drives this run already" in again.stderr
    before = _jobs(cluster, "speech")
    _wait_for("a task at work", lambda: bool(_programs(folder)))
    assert read_status(str(folder))["state"] == "running"
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    _wait_for("the driver in the queue", lambda: [job, "PENDING"] in cluster.queue())
    status = read_status(str(folder))
    assert status["state"] == "waiting" and f"driven by job {job}, waits in the queue: " in status_text(status)
    assert _programs(folder), "the tasks go on"

    def ended() -> bool:
        cluster.hurry()
        return [job, "COMPLETED"] in cluster.queue()

    _wait_for("the end", ended)
    assert len(_jobs(cluster, "speech") - before) == 1 and "submitted again" not in _printed(folder)
    _as_local(whole, folder)


def test_with_accounting(whole: SmallRun, tmp_path: Path) -> None:
    """The same with slurmdbd, which is asked how a task ended once Slurm itself has forgotten."""
    folder = _taken_back(whole, tmp_path / "run", 2)
    with slurm(tmp_path / "slurm", accounting=True) as cluster:
        with _driver(whole, folder, cluster) as driver:
            driver.wait_for("a task at work", lambda: bool(driver.programs()))
            task, process = next(iter(driver.programs().items()))
            os.kill(process, signal.SIGKILL)
            count("Slurm: tasks killed")
            status, err = driver.end()
        told = subprocess.run(
            ["sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State,ExitCode"],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
    assert status == 0, err
    assert f"task {task} ended as FAILED (signal 9); its shards are submitted again" in err
    assert f"{task}|FAILED|9:0" in told, told
    _as_local(whole, folder)


def _heeds(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.search(rb"^SigCgt:\s*([0-9a-f]+)", _bytes(Path(f"/proc/{process}/status")), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
