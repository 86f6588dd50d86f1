"""The Slurm executor: groups of shards as tasks of a job array, on nodes that share the run's folder and environment.

Whether a shard is done is told by its mark in the run's folder, whether a task still lives by `squeue`; so a task that
was killed, timed out or lost with its node is noticed with or without Slurm's accounting, and is submitted again. A
driver that dies leaves the array running: started again, it submits what has no mark yet. Tasks write the same bytes
whoever does them, so that one done twice does no harm.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, MissingPackageError, SeamlessAlignError
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.worker_process import do_group
from seamlessalign.resources_config import ResourcesConfig

_LOOK_SECONDS = 1.0
GONE_SECONDS = 90.0  # without a place in the queue or a mark, until a task is lost: NFS shows new files late


@dataclass
class _Array:
    """One submission: its jobs, and since when each is missing."""

    jobs: list[Any]
    groups: list[list[ShardTask]]
    missing: dict[int, float] = field(default_factory=dict)


class SlurmExecutor:
    """Hands every stage to Slurm as one job array, and waits for it."""

    in_shards = True

    def __init__(self, resources: ResourcesConfig, root: str) -> None:
        """Raises ConfigError where there is no Slurm here, or the run's folder is not on a shared disk."""
        if not storage.is_local(root):
            raise ConfigError(f"{root}: Slurm tasks need the run's folder on a disk that all nodes share")
        if shutil.which("sbatch") is None or shutil.which("squeue") is None:
            raise ConfigError("--executor slurm: there is no sbatch here; run on a login node of the cluster")
        try:
            import submitit
        except ImportError as error:
            raise MissingPackageError("submitit", "slurm", "--executor slurm") from error
        slurm = resources.slurm
        self.workers = Workers(slurm.parallel, slurm.cpus, "cuda" if resources.device == "cuda" else "cpu")
        self._retries = slurm.retries
        self._most_per_group = resources.shards_per_group
        self._logs = storage.local_path(root).absolute() / "state" / "slurm"
        self._submitit: Any = submitit.SlurmExecutor(folder=self._logs, max_num_timeout=slurm.retries)
        parameters: dict[str, Any] = {
            "time": slurm.minutes,
            "mem": f"{round(slurm.memory_gb * 1024)}MB",
            "cpus_per_task": slurm.cpus,
            "array_parallelism": slurm.parallel,
        }
        optional = {"partition": slurm.partition, "account": slurm.account, "gpus_per_node": slurm.gpus or None}
        parameters |= {name: value for name, value in optional.items() if value is not None}
        self._submitit.update_parameters(**parameters)

    def prepare(self, stage: str, tasks: list[ShardTask], context: Context) -> None:
        """Nothing yet."""

    def execute(self, stage: str, tasks: list[ShardTask], context: Context, progress: Callable[[float], None]) -> None:
        """Do all shards of a stage. Raises the first error; shards that are done by then stay done."""
        left, attempt = tasks, 0
        while left:
            if attempt > self._retries:
                raise SeamlessAlignError(
                    f"stage {stage}: {left[0].name} was lost {attempt} times, perhaps for want of memory or time; "
                    f"see {self._logs}, set resources.slurm.memory_gb or .minutes higher, or run again to go on"
                )
            with heeded_interrupts() as heed:
                array = self._submit(stage, left, context)
                self._wait(array, stage, context, progress, heed)
            left = _unmarked(left, context)
            attempt += 1

    def close(self) -> None:
        """Nothing to end: what is queued is worth doing, and a later run takes it up."""

    def _submit(self, stage: str, tasks: list[ShardTask], context: Context) -> _Array:
        size = max(1, min(self._most_per_group, len(tasks) // self.workers.processes))
        groups = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        self._submitit.update_parameters(job_name=f"seamlessalign-{stage}")
        try:
            jobs = self._submitit.map_array(do_group, [stage] * len(groups), groups, [context] * len(groups))
        except Exception as error:
            what = " ".join(str(error).split())[:300]
            raise SeamlessAlignError(f"stage {stage}: Slurm did not take the job array: {what}") from error
        return _Array(jobs, groups)

    def _wait(
        self,
        array: _Array,
        stage: str,
        context: Context,
        progress: Callable[[float], None],
        heed: Callable[[], None],
    ) -> None:
        """Until every task has its marks, has failed (its error is raised), or is lost."""
        open_ = dict(enumerate(array.jobs))
        try:
            while open_:
                heed()
                time.sleep(_LOOK_SECONDS)
                queued, marks = _queued(), read_marks(context.folder, stage)
                for number, job in list(open_.items()):
                    group = array.groups[number]
                    if all(task.name in marks and marks[task.name].digest == task.digest for task in group):
                        progress(float(len(group)))
                        del open_[number]
                        continue
                    if queued is None or job.job_id in queued or job.job_id.split("_")[0] in queued:
                        array.missing.pop(number, None)
                        continue
                    _raise_its_error(job)
                    since = array.missing.setdefault(number, time.monotonic())
                    if time.monotonic() - since >= GONE_SECONDS:
                        del open_[number]
        except BaseException:
            for job in open_.values():
                with contextlib.suppress(Exception):
                    job.cancel(check=False)
            raise


def _unmarked(tasks: list[ShardTask], context: Context) -> list[ShardTask]:
    if not tasks:
        return []
    marks = read_marks(context.folder, tasks[0].stage)
    return [task for task in tasks if task.name not in marks or marks[task.name].digest != task.digest]


def _queued() -> set[str] | None:
    """Ids of all tasks that Slurm has, `12_3` or, for those not started yet, `12`; None where it does not answer."""
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i", "--states=PENDING,RUNNING,CONFIGURING,COMPLETING,SUSPENDED"],
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split()) if done.returncode == 0 else None


def _raise_its_error(job: Any) -> None:
    """Raise what stopped a task, where it left word of it."""
    if not Path(job.paths.result_pickle).exists():
        return
    outcome, result = job._get_outcome_and_result()
    if outcome != "error":
        return
    lines = [line for line in str(result).strip().splitlines() if line.strip()]
    # the last line of the task's trace: module.Class: message
    raise SeamlessAlignError(lines[-1].split(": ", 1)[-1] if lines else "a task failed without a word")
