"""The local executor with real workers: replaced when they grow or are killed, and gone when it is closed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seamlessalign.config import parse_config
from seamlessalign.errors import SeamlessAlignError, StorageError
from seamlessalign.languages import Side
from seamlessalign.pipelines import gather_stage, local
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.local import LocalExecutor, Workers, machine_memory, worker_memory
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.task_log import read_log
from seamlessalign.resources_config import ResourcesConfig
from tests.pipelines.made_sides import config_of, context_of, vectors, write_segments, write_sentences

STAGE = gather_stage.STAGE
SIDES = (Side("eng", False), Side("fra", True), Side("spa", True))
PATIENCE = 120.0


@contextmanager
def _executor(processes: int = 1) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(Workers(processes, 1, "cpu"), 1)
    try:
        yield executor
    finally:
        executor.close()


def _gather(root: Path, **resources: object) -> tuple[Context, list[ShardTask]]:
    """Three shards that take next to no time."""
    text, speech = vectors(60, 60)
    write_sentences(root, "eng", text, [0])
    for lang in ("fra", "spa"):
        write_segments(root, lang, speech, [0])
    context = context_of(config_of(root, ["eng-frA", "frA-esA"], resources=dict(resources)))
    return context, [ShardTask(STAGE, f"side={side}", "digest", side) for side in SIDES]


def _processes(context: Context, tasks: list[ShardTask]) -> set[int]:
    """Processes that did shards, by their logs."""
    begun = [
        event for task in tasks for event in read_log(context.folder, STAGE, task.name) if event["event"] == "begun"
    ]
    assert len(begun) == len(tasks)
    return {event["process"] for event in begun}


def _gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("memory", "grown", "processes"), [(0.001, 0.0, 3), (0.001, 100.0, 1), ("auto", 0.0, 1)])
def test_a_worker_that_has_grown_too_large_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: object, grown: float, processes: int
) -> None:
    """Each shard has a worker of its own where all are too large and replacing them helps; otherwise one does all."""
    monkeypatch.setattr(local, "_GROWN", grown)
    context, tasks = _gather(tmp_path, worker_memory_gb=memory)
    with _executor() as executor:
        executor.execute(STAGE, tasks, context, lambda amount: None)
        assert len(executor.at_work) <= 1
    assert read_marks(context.folder, STAGE).keys() == {task.name for task in tasks}
    used = _processes(context, tasks)
    assert len(used) == processes and all(map(_gone, used))


def test_a_shard_whose_worker_is_always_killed_is_named(tmp_path: Path) -> None:
    """Every worker is killed as soon as it is there: what it had is tried so many times more, and nothing is lost."""
    context, tasks = _gather(tmp_path, retries=2)
    killed: list[int] = []
    over = threading.Event()
    with _executor() as executor:

        def kill() -> None:
            while not over.is_set():
                for worker in list(executor.at_work):
                    pid = worker.process.pid
                    if pid is not None and pid not in killed:
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                time.sleep(0.001)

        thread = threading.Thread(target=kill)
        thread.start()
        told: list[float] = []
        with pytest.raises(SeamlessAlignError, match=r"that did side=eng was killed by SIGKILL, for the 3\. time"):
            executor.execute(STAGE, tasks, context, told.append)
        over.set()
        thread.join()
    assert len(killed) == 3 and sum(told) == 0.0
    with _executor() as executor:
        executor.execute(STAGE, tasks, context, lambda amount: None)
    assert read_marks(context.folder, STAGE).keys() == {task.name for task in tasks}


def test_an_error_in_one_shard_ends_the_stage(tmp_path: Path) -> None:
    """Raised as what it is, though Beam came between; the workers are gone."""
    context, tasks = _gather(tmp_path)
    (tmp_path / "sentences" / "lang=eng" / "part-00000.parquet").write_bytes(b"not a table")
    with _executor(2) as executor:
        with pytest.raises(StorageError, match="part-00000"):
            executor.execute(STAGE, tasks, context, lambda amount: None)
        workers = [worker.process.pid or 0 for worker in executor.at_work]
    assert all(map(_gone, workers))
    assert f"side={SIDES[0]}" not in read_marks(context.folder, STAGE)


def test_memory_is_that_of_the_machine_or_what_a_control_group_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(local, "_LIMITS", (str(tmp_path / "nowhere"), str(limit)))
    assert machine_memory() == machine
    for said, found in (("max", machine), (str(1 << 60), machine), (str(7 << 30), min(machine, 7 << 30))):
        limit.write_text(f"{said}\n")
        assert machine_memory() == found
    if machine > 7 << 30:
        assert worker_memory(ResourcesConfig(), 2) == 7 << 29
        assert worker_memory(ResourcesConfig(), 7) == 3 << 30  # less than models and one recording take
    assert worker_memory(ResourcesConfig(worker_memory_gb=1.5), 7) == 3 << 29


@pytest.mark.parametrize("key", ["worker_memory_gb", "decoded_memory_gb"])
def test_no_memory_is_no_setting(key: str) -> None:
    with pytest.raises(SeamlessAlignError, match=f"resources.{key}.*greater than 0"):
        parse_config({"directions": ["frA-esA"], "speech": {"inputs": ["x"]}, "resources": {key: 0}}, "c.yaml")
