"""The local executor: worker processes walk groups of shards, each group one Beam pipeline."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from seamlessalign import storage
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.worker_process import Group, WorkerProcess, speech_lanes
from seamlessalign.resources_config import ResourcesConfig

if TYPE_CHECKING:
    from seamlessalign.pipelines.shard_task import ShardTask

_MEMORY_PER_WORKER = 3 << 30  # bytes that models and one recording take
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of control groups 2 and 1
_LOOK_SECONDS = 0.2
_GROWN = 1.2  # times what it held after its first group, from which on replacing a worker gives memory back

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """How a machine is shared out."""

    processes: int
    threads: int  # of each process
    device: str


def share_out(resources: ResourcesConfig) -> Workers:
    """Choose processes, threads and device where the configuration says `auto`. Raises ConfigError."""
    cores = len(os.sched_getaffinity(0))
    device = resources.device
    if device != "cpu":
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("resources.device is cuda, but torch sees no GPU: use auto or cpu")
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if resources.workers != "auto":
        processes = resources.workers
    elif device == "cuda":
        processes = 1
    else:
        processes = max(1, min(cores, machine_memory() // _MEMORY_PER_WORKER))
    threads = resources.threads if resources.threads != "auto" else max(1, cores // processes)
    return Workers(processes, threads, device)


def machine_memory() -> int:
    """Bytes of memory that processes here may use: the machine's, or fewer where a control group has a limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        try:
            said = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if said.isdecimal():
            memory = min(memory, int(said))
    return memory


def worker_memory(resources: ResourcesConfig, processes: int) -> int:
    """Bytes beyond which a worker is replaced: by default its share of the machine."""
    if resources.worker_memory_gb != "auto":
        return int(resources.worker_memory_gb * 2**30)
    return max(_MEMORY_PER_WORKER, machine_memory() // processes)


class LocalExecutor:
    """Worker processes that live for one run, so that models are loaded once in each.

    A worker that was killed is replaced, and what it had in hand is done again, shard by shard, until one of them has
    been in hand too often. One that holds more memory than it may is replaced when it has done its group.
    """

    in_shards = False

    def __init__(self, workers: Workers, shards_per_group: int) -> None:
        self.workers = workers
        self.most_per_group = shards_per_group
        self.at_work: list[WorkerProcess] = []
        self._leaving: list[WorkerProcess] = []

    def take_up(self, stage: str, tasks: "list[ShardTask]") -> tuple[str, ...]:
        """None: workers die with their driver."""
        return ()

    def prepare(self, stage: str, tasks: "list[ShardTask]", context: JobContext) -> None:
        """Nothing: the workers are busy with one stage at a time."""

    def execute(
        self, stage: str, tasks: "list[ShardTask]", context: JobContext, progress: Callable[[float], None]
    ) -> None:
        """Do all shards of a stage. Raises the first error; shards that are done by then stay done."""
        with heeded_interrupts() as heed:
            _Stage(self, stage, tasks, context, progress).do(heed)

    def let_go(self, worker: WorkerProcess) -> None:
        """Have a worker that ends no longer among those that work."""
        self.at_work.remove(worker)
        self._leaving.append(worker)

    def close(self) -> None:
        """End the workers at once."""
        workers = self.at_work + self._leaving
        self.at_work, self._leaving = [], []
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.wait()


class _Stage:
    """A stage being done."""

    def __init__(
        self,
        executor: LocalExecutor,
        stage: str,
        tasks: "list[ShardTask]",
        context: JobContext,
        progress: Callable[[float], None],
    ) -> None:
        from seamlessalign.pipelines.schedule import Schedule

        self._executor = executor
        self._stage = stage
        self._context = context
        self._progress = progress
        processes = executor.workers.processes
        self._lanes = speech_lanes(stage, tasks, context, processes)
        self._schedule = Schedule(tasks, executor.most_per_group, processes)
        self._memory = worker_memory(context.config.resources, processes)
        self._killed: Counter[str] = Counter()  # by shard: workers that were, with it in hand

    def do(self, heed: Callable[[], None]) -> None:
        """Do all shards. Raises the first error."""
        while True:
            heed()
            self._hand_out()
            busy = [worker for worker in self._executor.at_work if worker.groups]
            if not busy:
                return
            wait([worker.pipe for worker in busy], _LOOK_SECONDS)
            for worker in busy:
                self._hear(worker)

    def _hand_out(self) -> None:
        """Give every worker what it is to do; one that looks ahead has its next group early, while there are many."""
        executor, processes = self._executor, self._executor.workers.processes
        while len(self._schedule) and len(executor.at_work) < processes:
            executor.at_work.append(WorkerProcess(executor.workers.threads))
            self._give(executor.at_work[-1])
        for worker in executor.at_work:
            if len(self._schedule) and not worker.groups:
                self._give(worker)
        for worker in executor.at_work:
            if self._lanes is not None and len(self._schedule) > processes and len(worker.groups) == 1:
                self._give(worker)

    def _give(self, worker: WorkerProcess) -> None:
        if not worker.is_leaving:
            worker.give(Group(self._stage, self._schedule.take(), self._context, self._lanes))

    def _hear(self, worker: WorkerProcess) -> None:
        for kind, what in worker.answers():
            if kind == "progress":
                worker.told += what
                self._progress(what)
            elif kind == "failed":
                raise what
            elif kind == "gone":
                self._replace_killed(worker)
            else:
                worker.groups.popleft()
                worker.told, worker.resident = 0.0, what
                worker.first_resident = worker.first_resident or what
                self._replace_grown(worker)

    def _replace_grown(self, worker: WorkerProcess) -> None:
        """Let a worker go that holds more memory than it may, where that gives memory back."""
        if worker.resident > self._memory and worker.resident > _GROWN * worker.first_resident:
            worker.leave()
        if worker.is_leaving and not worker.groups:
            self._executor.let_go(worker)

    def _replace_killed(self, worker: WorkerProcess) -> None:
        """Have what a dead worker had in hand done again. Raises SeamlessAlignError where that was tried enough."""
        how = worker.wait()
        self._executor.at_work.remove(worker)
        self._progress(-worker.told)
        folder, retries = self._context.folder, self._context.config.resources.retries
        had = [task for group in worker.groups for task in group.tasks]
        lost = [task for task in had if not storage.exists(folder.mark(self._stage, task.name))]
        self._killed.update(task.name for task in lost)
        what = f"stage {self._stage}: a worker process that did {_names([task.name for task in lost])} {how}"
        logs = f"; log: {folder.log(self._stage, lost[0].name)}" if lost else ""
        most = max((self._killed[task.name] for task in lost), default=0)
        if most > retries:
            times = f", for the {most}. time" if most > 1 else ""
            raise SeamlessAlignError(
                f"{what}{times}, perhaps for want of memory; set resources.workers lower, or run the same command "
                f"again to go on{logs}"
            )
        log.warning("%s: another does that again%s", what, logs)
        self._schedule.again(lost)


def _names(shards: list[str]) -> str:
    if not shards:
        return "nothing"
    return shards[0] if len(shards) == 1 else f"one of {shards[0]} to {shards[-1]}"
