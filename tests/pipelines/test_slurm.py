"""Mining as tasks of a job array on a real Slurm: the bytes of a local search, also when a task is killed."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from seamlessalign import storage
from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, SeamlessAlignError, StorageError
from seamlessalign.languages import Side
from seamlessalign.pipelines import gather_stage, search_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.slurm import SlurmExecutor, living_tasks
from seamlessalign.pipelines.slurm_queue import wait_until_gone
from seamlessalign.pipelines.slurm_record import StageRecord, write_record
from seamlessalign.resources_config import ResourcesConfig
from tests.pipelines.made_sides import config_of, context_of, search_tasks, vectors, write_segments, write_sentences
from tests.pipelines.real_slurm import slurm

SMALL = {"memory_gb": 1.5, "cpus": 1, "minutes": 5, "parallel": 4}


def prepared(root: Path, tasks: int) -> tuple[Context, list[ShardTask]]:
    """A run's folder with gathered sides, and the search of its direction in so many tasks."""
    text, speech = vectors(400, 300)
    write_sentences(root, "eng", text, [0])
    write_segments(root, "fra", speech, [0])
    resources = {"mining_tasks": tasks, "shards_per_group": 1, "slurm": SMALL}
    context = context_of(config_of(root, ["eng-frA"], resources=resources))
    for side in (Side("eng", False), Side("fra", True)):
        gather_stage.process(side, "gathered", context)
    return context, search_tasks(context, "eng-frA")


def lists_of(context: Context) -> dict[str, bytes]:
    uris = storage.list_files(context.folder.table(search_stage.TABLE))
    return {context.folder.relative(uri): storage.read_bytes(uri) for uri in uris}


def locally(root: Path, tasks: int) -> dict[str, bytes]:
    context, shards = prepared(root, tasks)
    for shard in shards:
        assert isinstance(shard.shard, search_stage.SearchTask)
        search_stage.process(shard.shard, shard.digest, context)
    return lists_of(context)


@pytest.mark.slow
def test_an_array_writes_the_lists_of_a_local_search_though_a_task_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    wanted = locally(tmp_path / "local", 4)
    context, tasks = prepared(tmp_path / "slurm", 4)
    (tmp_path / "daemons").mkdir()
    with slurm(tmp_path / "daemons"):
        executor = SlurmExecutor(context.config.resources, context.root)
        killed: list[int] = []
        private = tmp_path / "home" / ".cache" / "seamlessalign" / "slurm"
        killer = threading.Thread(target=_kill_one_task, args=(private, killed))
        killer.start()
        done: list[float] = []
        executor.execute(search_stage.STAGE, tasks, context, done.append)
        killer.join()
        assert len(killed) == 1
        assert sum(done) == 4 and len(read_marks(context.folder, search_stage.STAGE)) == 4
        assert lists_of(context) == wanted
        # an error of a task is the error of the stage, in one line
        rows = Path(context.folder.table(gather_stage.TABLE)) / "eng.npy"
        rows.write_bytes(rows.read_bytes()[:1000])
        for mark in (Path(context.root) / "state/done/search").iterdir():
            mark.unlink()
        with pytest.raises(StorageError, match=r"eng.npy: is not a whole array of rows") as error:
            executor.execute(search_stage.STAGE, tasks[:1], context, done.append)
        assert "\n" not in str(error.value) and "lost" not in str(error.value)


def _kill_one_task(private: Path, killed: list[int]) -> None:
    """SIGKILL to the first python that a task of the array starts."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not killed:
        found = subprocess.run(["pgrep", "-f", f"submitit.core._submit {private}"], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            break
        time.sleep(0.05)


def test_where_there_is_no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        SlurmExecutor(ResourcesConfig(), str(tmp_path))
    with pytest.raises(ConfigError, match="on a disk that all nodes share"):
        SlurmExecutor(ResourcesConfig(), "s3://bucket/run")


@pytest.mark.slow
def test_what_slurm_does_not_take(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    context, tasks = prepared(tmp_path / "run", 1)
    with slurm(tmp_path / "daemons"):
        for asks, told in (
            ({"partition": "nowhere"}, "stage search: Slurm did not take the job: invalid partition specified"),
            ({"memory_gb": 900}, "Requested node configuration is not available"),
            ({"extra": {"no-such-thing": True}}, "unrecognized option '--no-such-thing'"),
        ):
            resources = ResourcesConfig.model_validate({"slurm": {"folder": str(tmp_path / "private"), **asks}})
            executor = SlurmExecutor(resources, context.root)
            with pytest.raises(ConfigError, match=told) as error:
                executor.execute(search_stage.STAGE, tasks, context, lambda amount: None)
            assert "\n" not in str(error.value)
            executor.close()


@pytest.mark.slow
def test_a_task_that_cannot_begin(tmp_path: Path) -> None:
    """Its last words are told: they come from what was set up before the program, of which nothing knows."""
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    context, tasks = prepared(tmp_path / "run", 1)
    asks = {"folder": str(tmp_path / "private"), "retries": 1, "setup": ["echo 'cuda: no such module'", "exit 3"]}
    resources = ResourcesConfig.model_validate({"slurm": {**SMALL, **asks}})
    with slurm(tmp_path / "daemons") as cluster:
        executor = SlurmExecutor(resources, context.root)
        told = r"was lost 2 times; task 2 ended as FAILED; its last words: cuda: no such module; log: \S+/2\.log$"
        with pytest.raises(SeamlessAlignError, match=told):
            executor.execute(search_stage.STAGE, tasks, context, lambda amount: None)
        assert len(cluster.queue()) == 2


@pytest.mark.slow
def test_nodes_that_cannot_start_a_task(tmp_path: Path) -> None:
    """Slurm holds such tasks for ever; they are given up like those that are lost."""
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    context, tasks = prepared(tmp_path / "run", 1)
    resources = ResourcesConfig.model_validate({"slurm": {**SMALL, "folder": str(tmp_path / "private"), "retries": 1}})
    with slurm(tmp_path / "daemons", starts_jobs=False) as cluster:
        executor = SlurmExecutor(resources, context.root)
        told = r"was lost 2 times; Slurm could not start task 2 on its node; slurmd's log on that node tells why"
        with pytest.raises(SeamlessAlignError, match=told):
            executor.execute(search_stage.STAGE, tasks, context, lambda amount: None)
        assert {state for _, state in cluster.queue()} == {"CANCELLED"}


@pytest.mark.slow
def test_arrays_beyond_the_largest_wait_for_each_other(tmp_path: Path) -> None:
    """Slurm takes arrays of three here; of four tasks that are to run one at a time, the last waits for the others."""
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    context, tasks = prepared(tmp_path / "run", 4)
    asks = {"folder": str(tmp_path / "private"), "memory_gb": 1.5, "cpus": 1, "parallel": 1}
    with slurm(tmp_path / "daemons") as cluster:
        executor = SlurmExecutor(ResourcesConfig.model_validate({"slurm": asks, "shards_per_group": 1}), context.root)
        executor.prepare(search_stage.STAGE, tasks, context)
        array, last = sorted({task.split("_")[0] for task, _ in cluster.queue()}, key=int)
        reasons = {task: reason[0] for task, *reason in cluster.queue("%i %r")}
        assert len([task for task in reasons if task.startswith(f"{array}_")]) == 3
        assert reasons[last] == "Dependency"
        assert sorted(living_tasks(context.folder)) == [*(f"{array}_{number}" for number in range(3)), last]
        executor.close()
        assert wait_until_gone(living_tasks(context.folder), 30)
        assert {state for _, state in cluster.queue()} <= {"CANCELLED", "FAILED", "COMPLETED"}


@pytest.mark.slow
def test_a_task_that_ended_well_without_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one of a driver that died before Slurm had told it the number of the job."""
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    monkeypatch.setattr("seamlessalign.pipelines.slurm.GONE_SECONDS", 2.0)
    wanted = locally(tmp_path / "local", 2)
    context, tasks = prepared(tmp_path / "run", 2)
    resources = ResourcesConfig.model_validate({"slurm": {"folder": str(tmp_path / "private"), **SMALL}})
    with slurm(tmp_path / "daemons") as cluster:
        executor = SlurmExecutor(resources, context.root)
        record = StageRecord(search_stage.STAGE)
        array = record.add([{task.name: task.digest for task in tasks}], executor._asked(search_stage.STAGE))
        write_record(context.folder, record)
        idle = ["sbatch", f"--job-name={array.name}", "--output=/dev/null", "--wrap=sleep 2"]
        subprocess.run(idle, check=True, capture_output=True)
        assert executor.take_up(search_stage.STAGE, tasks) == {task.name for task in tasks}
        executor.execute(search_stage.STAGE, tasks, context, lambda amount: None)
        names = [name for _, name in cluster.queue("%i %j")]
    assert len(names) == 3  # the two shards were submitted again, each by itself
    assert lists_of(context) == wanted


def test_only_slurm_takes_the_driver_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("directions: [eng-frA]\nspeech: {inputs: [a]}\ntext: {inputs: [b]}\n")
    assert main(["run", str(config), "--output", str(tmp_path / "run"), "--detach"]) == 2
    assert capsys.readouterr().err == "seamlessalign: --detach needs --executor slurm\n"


def test_gpus_say_where_tasks_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    folder = {"folder": str(tmp_path / "private")}
    with_gpus = {"device": "cpu", "slurm": {"stages": {"search": {"gpus": 1}}, **folder}}
    with pytest.raises(ConfigError, match="device is cpu, but the stage search asks Slurm for gpus"):
        SlurmExecutor(ResourcesConfig.model_validate(with_gpus), str(tmp_path))
    with pytest.raises(ConfigError, match=r"say resources\.slurm\.stages\.speech\.gpus: 1"):
        SlurmExecutor(ResourcesConfig.model_validate({"device": "cuda", "slurm": folder}), str(tmp_path))


def test_tasks_of_mining_keep_to_the_least_memory_of_their_stages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    stages = {"search": {"memory_gb": 30}, "mine": {"memory_gb": 12}, "speech": {"memory_gb": 2}}
    asks = {"memory_gb": 20, "stages": stages, "folder": str(tmp_path / "private")}
    resources = ResourcesConfig.model_validate({"mining_memory_gb": 64, "slurm": asks})
    assert resources.within(SlurmExecutor(resources, str(tmp_path)).mining_memory_gb).mining_memory_gb == 12
