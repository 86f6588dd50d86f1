"""The Slurm executor: groups of shards as tasks of job arrays, on nodes that share the run's folder and environment.

Whether a shard is done is told by its mark in the run's folder, how a task ended by Slurm's own memory of it; so a task
that was killed, timed out or lost with its node is noticed at once, with or without accounting, and its shards are
submitted again. A driver that dies leaves its tasks at work: started again, it takes up those that do what is still
wanted. Tasks write the same bytes whoever does them, so that one done twice does no harm.
"""

import contextlib
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines import slurm_queue
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.slurm_queue import QueuedTask, cancel, has_ended, how_it_ended, read_queue, wait_until_gone
from seamlessalign.pipelines.slurm_record import StageRecord, read_record, read_records, write_record
from seamlessalign.pipelines.slurm_submit import last_words, need_slurm, private_folder, queue_of_slurm, sender, submit
from seamlessalign.pipelines.slurm_task import Group, marked_digest
from seamlessalign.pipelines.task_log import error_of, last_failure
from seamlessalign.resources_config import ResourcesConfig
from seamlessalign.slurm_config import SlurmConfig
from seamlessalign.typed_config import digest

log = logging.getLogger(__name__)

GONE_SECONDS = 90.0  # that a mark may take to be seen, or a task that nobody knows of to be lost: NFS shows files late
_LOOK_SECONDS = 1.0  # between looks at marks
_MOST_QUEUE_SECONDS = 15.0  # between looks at the queue, of a stage that takes long
_NO_ERRORS = {"SystemExit", "KeyboardInterrupt"}  # how a task ends that is told to
# why tasks wait that need nobody's attention
_USUAL = {"None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "Dependency", "Cleaning", "Licenses"}


@dataclass
class _Task:
    """A task that Slurm has, and its shards that have no mark yet."""

    id: str
    left: dict[str, ShardTask]
    unsure_since: float | None = None  # since when it has ended, or is unknown, without all of its marks


@dataclass
class _Submission:
    """A stage that Slurm works at."""

    stage: str
    context: JobContext
    record: StageRecord
    begun: float
    tasks: list[_Task] = field(default_factory=list)
    looked: float = 0.0  # when the queue was looked at last
    untold: float = 0.0  # shards done that progress was not told of
    told: set[str] = field(default_factory=set)  # why tasks wait, that people know of


class SlurmExecutor:
    """Hands stages to Slurm as job arrays, and waits for them."""

    in_shards = True  # tasks tell only when they are done

    def __init__(self, resources: ResourcesConfig, root: str, cut_for: str = "search") -> None:
        """`cut_for`: the stage whose tasks `workers` tells of.

        Raises ConfigError where there is no Slurm here, or the run's folder is not on a shared disk.
        """
        need_slurm(root)
        self._slurm = resources.slurm
        _check_devices(resources)
        asks = self._slurm.of(cut_for)
        self.workers = Workers(asks.parallel, asks.cpus, "cpu")
        self._most_per_group = resources.shards_per_group
        path = storage.local_path(root).absolute()
        self._folder = RunFolder(root)
        self._logs = storage.local_path(self._folder.slurm_logs).absolute()
        self._private = private_folder(self._slurm.folder, path)
        self._most_in_array = slurm_queue.max_array_size()
        self._taken_up: dict[str, list[_Task]] = {}
        self._open: dict[str, _Submission] = {}

    @property
    def mining_memory_gb(self) -> float:
        """The memory that every task of mining has."""
        return min(self._slurm.of(stage).memory_gb for stage in ("gather", "index", "search", "mine"))

    def clear(self, patience: float = 0.0) -> None:
        """Remove what killed writers left, and what submitit keeps, unless tasks are at work: then they go on.

        patience: seconds to wait for them to end.
        """
        if not wait_until_gone(living_tasks(self._folder), patience):
            return
        storage.remove_unfinished(self._folder.root)
        storage.remove(self._folder.arrays_folder)
        for kept in self._private.iterdir():
            kept.unlink()

    def take_up(self, stage: str, tasks: list[ShardTask]) -> set[str]:
        """Find the tasks of a driver that died, and return the names of the shards that they are doing.

        tasks: all shards of the stage. Tasks that do something else than is wanted now are cancelled, and have ended
        when this returns. To be called before files that no mark names are removed: they may be of these shards.
        """
        record = read_record(self._folder, stage)
        if not record.arrays:
            return set()
        wanted = {task.name: task for task in tasks}
        kept, others, queue = [], [], queue_of_slurm()
        for array, identity, shards in record.living(queue):
            left = {name: had for name, had in shards.items() if marked_digest(self._folder, stage, name) != had}
            same = all(name in wanted and wanted[name].digest == had for name, had in left.items())
            waits_for_other = queue[identity].waits and array.asks != self._asked(stage)
            if same and not waits_for_other and not array.cancelled:
                kept.append(_Task(identity, {name: wanted[name] for name in left}))
            else:
                others.append(identity)
        cancel(others)
        if not wait_until_gone(others):
            raise SeamlessAlignError(f"stage {stage}: tasks that are not wanted do not end: scancel {' '.join(others)}")
        write_record(self._folder, record)
        self._taken_up[stage] = kept
        return {name for task in kept for name in task.left}

    def prepare(self, stage: str, tasks: list[ShardTask], context: JobContext) -> None:
        """Put the shards of a stage into the queue, but for those that are being done. Raises ConfigError."""
        asks = self._slurm.of(stage)
        context = replace(context, device="cuda" if asks.gpus else "cpu", threads=asks.cpus)
        made = _Submission(stage, context, read_record(context.folder, stage), time.monotonic())
        self._open[stage] = made
        pending = {task.name: task for task in tasks}
        for task in self._taken_up.pop(stage, []):
            task.left = {name: pending.pop(name) for name in task.left if name in pending}
            if task.left:
                made.tasks.append(task)
        if not made.tasks:
            made.record = StageRecord(stage)  # nothing of before is of interest any more
        size = max(1, min(self._most_per_group, len(pending) // asks.parallel))
        rest = list(pending.values())
        try:
            self._send(made, [rest[start : start + size] for start in range(0, len(rest), size)])
        except BaseException:
            self.close()
            raise

    def execute(
        self, stage: str, tasks: list[ShardTask], context: JobContext, progress: Callable[[float], None]
    ) -> None:
        """Do all shards of a stage. Raises the first error; shards that are done by then stay done.

        Other stages that were prepared are looked after meanwhile.
        """
        if stage not in self._open:
            self.prepare(stage, tasks, context)
        mine = self._open[stage]
        try:
            with heeded_interrupts() as heed:
                while mine.tasks or mine.untold:
                    progress(mine.untold)
                    mine.untold = 0.0
                    heed()
                    if mine.tasks:
                        time.sleep(_LOOK_SECONDS)
                        for each in self._open.values():
                            self._look(each)
        except BaseException:
            self.close()
            raise
        del self._open[stage]

    def submit_driver(self, name: str, call: Callable[[], None]) -> str:
        """Submit what drives the run as a job; returns its number. Raises ConfigError where Slurm refuses it."""
        private = private_folder(self._slurm.folder, storage.local_path(self._folder.driver_job).absolute())
        for kept in private.iterdir():
            kept.unlink()
        return submit("the driver", name, self._sender("driver", name, 1, private=private), [call])

    def close(self) -> None:
        """Cancel what is still at work of a run that failed or was stopped; nothing where all is done."""
        for each in self._open.values():
            for array in each.record.arrays:
                array.cancelled = True  # for a driver that comes before they have ended
            each.record.lost = {}
            with contextlib.suppress(Exception):  # on the way out of an error or Ctrl-C, which is what matters
                write_record(each.context.folder, each.record)
            queue = read_queue()
            living = each.record.living(queue) if queue is not None else ()
            cancel([identity for _, identity, _ in living] or [task.id for task in each.tasks])
        self._open = {}

    def _send(self, to: _Submission, groups: list[list[ShardTask]]) -> None:
        """Submit groups as few arrays, none larger than Slurm takes, that share `parallel`.

        Where there are more arrays than that, those that have no share wait for one that has.
        """
        asks, context = self._slurm.of(to.stage), to.context
        starts = range(0, len(groups), self._most_in_array)
        lanes = min(len(starts), asks.parallel)
        before: list[str | None] = [None] * lanes
        for number, start in enumerate(starts):
            some = groups[start : start + self._most_in_array]
            array = to.record.add([{task.name: task.digest for task in group} for group in some], self._asked(to.stage))
            write_record(context.folder, to.record)
            lane = number % lanes
            at_once = asks.parallel // lanes + (lane < asks.parallel % lanes)
            sender = self._sender(to.stage, array.name, len(some), at_once, before[lane])
            array.job = before[lane] = submit(
                f"stage {to.stage}", array.name, sender, [Group(to.stage, group, context, asks) for group in some]
            )
            write_record(context.folder, to.record)
            for identity, group in zip(array.ids(), some, strict=True):
                to.tasks.append(_Task(identity, {task.name: task for task in group}))

    def _sender(
        self, stage: str, name: str, size: int, at_once: int = 1, behind: str | None = None, private: Path | None = None
    ) -> Any:
        """submitit's executor of a stage. `behind`: a job that shall have ended first."""
        asks = self._slurm.of(stage)
        return sender(
            asks,
            private or self._private,
            self._logs,
            "%j.log" if size == 1 else "%A_%a.log",
            job_name=name,
            gpus_per_node=asks.gpus or None,
            array_parallelism=at_once,
            dependency=f"afterany:{behind}" if behind else None,
        )

    def _asked(self, stage: str) -> str:
        """Digest of what tasks of a stage ask of Slurm."""
        return digest(
            self._slurm.of(stage).model_dump(mode="json", exclude={"stages", "folder", "retries", "parallel"})
        )

    def _look(self, at: _Submission) -> None:
        """See which tasks are done, which have failed (the error is raised), and which are lost (submitted again)."""
        now, queue = time.monotonic(), None
        if now - at.looked >= min(_MOST_QUEUE_SECONDS, (now - at.begun) / 20):
            queue, at.looked = read_queue(), now
        self._take_marks(at)  # after the queue: what has ended there has its marks here
        at.tasks = [task for task in at.tasks if task.left]
        if queue is None:
            return
        self._tell_why_they_wait(at, queue)
        again: list[list[ShardTask]] = []
        for task in list(at.tasks):
            queued = queue.get(task.id)
            held = queued is not None and queued.could_not_begin
            if queued is not None and queued.lives and not held:
                task.unsure_since = None
                continue
            self._raise_its_error(at, task)
            if held:
                cancel([task.id])
            elif self._may_yet_be_done(task, queued):
                continue
            at.tasks.remove(task)
            again += self._lost(at, task, queued)
        if again:
            self._send(at, again)

    def _take_marks(self, at: _Submission) -> None:
        folder = at.context.folder
        there = {uri.rsplit("/", 1)[-1].removesuffix(".json") for uri in storage.list_files(folder.marks(at.stage))}
        done = 0
        for task in at.tasks:
            for name in [name for name in task.left if name in there]:
                if marked_digest(folder, at.stage, name) == task.left[name].digest:
                    del task.left[name]
                    done += 1
        at.untold += done

    def _may_yet_be_done(self, task: _Task, queued: QueuedTask | None) -> bool:
        """Whether a task that is not at work may have marks that are not seen yet."""
        state = queued.state if queued is not None else how_it_ended(task.id)[0]
        if has_ended(state) and state != "COMPLETED":
            return False
        task.unsure_since = task.unsure_since or time.monotonic()
        return time.monotonic() - task.unsure_since < GONE_SECONDS

    def _lost(self, at: _Submission, task: _Task, queued: QueuedTask | None) -> list[list[ShardTask]]:
        """The shards of a lost task as new groups, one each, so that the one that is to blame is alone with it.

        Raises SeamlessAlignError where one was lost more often than `retries`.
        """
        if queued is not None and queued.could_not_begin:
            state, told = "LAUNCH_FAILED", f"Slurm could not start task {task.id} on its node"
        else:
            state, told = how_it_ended(task.id)
        if queued is not None and queued.made_room:
            return [list(task.left.values())]
        asks = self._slurm.of(at.stage)
        for name in task.left:
            times = at.record.lost.get(name, 0) + 1
            at.record.lost[name] = times
            if times > asks.retries:
                printed = self._logs / f"{task.id}.log"
                raise SeamlessAlignError(
                    f"stage {at.stage}, {name}: its task was lost {'once' if times == 1 else f'{times} times'}"
                    f"{f'; {told}' if told else ''}; {_remedy(at.stage, state, told, asks, printed)}; log: {printed}"
                )
        log.warning("stage %s: %s; its shards are submitted again", at.stage, told or f"task {task.id} is gone")
        return [[shard] for shard in task.left.values()]

    def _raise_its_error(self, at: _Submission, task: _Task) -> None:
        """Raise what stopped a task that has ended, where it left word of it."""
        for name in task.left:
            failure = last_failure(at.context.folder, at.stage, name, job=task.id)
            if failure is not None and failure.get("kind") not in _NO_ERRORS:
                raise error_of(failure, at.context.folder, at.stage, name)

    def _tell_why_they_wait(self, at: _Submission, queue: dict[str, QueuedTask]) -> None:
        """Say so, once, where tasks wait for something that people may have to see to."""
        waiting = [queue[task.id] for task in at.tasks if task.id in queue and queue[task.id].waits]
        for reason, number in Counter(queued.reason for queued in waiting).items():
            if reason not in _USUAL | at.told:
                at.told.add(reason)
                log.warning("stage %s: %d tasks wait in the queue: %s", at.stage, number, reason)


def living_tasks(folder: RunFolder) -> list[str]:
    """Ids of the tasks that Slurm has at work, or waiting to be, in a run's folder."""
    records = [record for record in read_records(folder) if record.arrays] if storage.is_local(folder.root) else []
    if not records:
        return []
    if shutil.which("squeue") is None:
        raise SeamlessAlignError(
            f"{folder.root}: tasks of Slurm may be at work here, and there is no squeue to ask: run where there is "
            f"one, or remove {folder.arrays_folder} if you know that they have ended"
        )
    queue = queue_of_slurm()
    return [identity for record in records for _, identity, _ in record.living(queue)]


def _check_devices(resources: ResourcesConfig) -> None:
    with_gpus = [stage for stage in type(resources.slurm.stages).model_fields if resources.slurm.of(stage).gpus]
    if resources.device == "cpu" and with_gpus:
        raise ConfigError(
            f"resources.device is cpu, but the stage {with_gpus[0]} asks Slurm for gpus: give one of both"
        )
    if resources.device == "cuda" and not with_gpus:
        raise ConfigError("resources.device is cuda: say resources.slurm.stages.speech.gpus: 1 (or of other stages)")


def _remedy(stage: str, state: str, told: str, asks: SlurmConfig, printed: Path) -> str:
    """What to change where a task ended so."""
    key = f"resources.slurm.stages.{stage}"
    if state in ("TIMEOUT", "DEADLINE"):
        return f"set {key}.minutes higher than {asks.minutes}"
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return f"keep it off that node with {key}.extra.exclude, or run again to go on"
    if state == "LAUNCH_FAILED":
        return f"slurmd's log on that node tells why; mend it, or keep off that node with {key}.extra.exclude"
    if state == "CANCELLED":
        return "somebody cancelled it; run again to go on"
    if state == "FAILED" and "signal" not in told:
        return f"its last words: {last_words(printed)}"
    return f"perhaps for want of memory: set {key}.memory_gb higher than {asks.memory_gb:g}"
