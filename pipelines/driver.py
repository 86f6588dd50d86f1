"""Whoever has executors do the stages of a folder, whether those of a run or of something else, one after the other."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.beam_job import refuse_beside_job
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.slurm import living_tasks
from seamlessalign.pipelines.stage_plans import StagePlan, amount_of, begin_stage, end_stage
from seamlessalign.rows import LedgerLine


class Executor(Protocol):
    """Does the shards of a stage somewhere."""

    workers: Workers
    in_shards: bool  # whether progress is told in shards, not in the unit of the stage

    def take_up(self, stage: str, tasks: list[ShardTask]) -> Collection[str]:
        """Names of the shards of a stage that are being done already, for a driver that died. `tasks`: all it has."""

    def prepare(self, stage: str, tasks: list[ShardTask], context: JobContext) -> None:
        """Hear of a stage that may begin now, before `execute` waits for it, perhaps behind another."""

    def execute(
        self, stage: str, tasks: list[ShardTask], context: JobContext, progress: Callable[[float], None]
    ) -> None:
        """Do all shards of a stage. Raises the first error; shards that are done by then stay done."""

    def close(self) -> None:
        """Let go of what was started."""


@dataclass(frozen=True)
class JobResult:
    """What a finished run, or whatever else has stages, did."""

    folder: RunFolder
    lines: list[LedgerLine]
    shards_done: int  # by this call
    shards_kept: int  # done before

    @property
    def is_built_only(self) -> bool:
        """Whether a job's graph was asked for, and nothing was done."""
        return not self.lines

    @property
    def quarantined(self) -> int:
        """Inputs that could not be read, or sides of published pairs that could not be had."""
        return sum(line.quarantined for line in self.lines)

    @property
    def exit_status(self) -> int:
        """0, or 3 where part of the input was set aside."""
        return 3 if self.quarantined else 0


class Driver:
    """Has an executor do plans, and counts shards: `done` by this call, `kept` that were done before."""

    def __init__(self, context: JobContext, executor: Executor) -> None:
        self._context = context
        self._executor = executor
        self.done = 0
        self.kept = 0

    def do(self, plans: Iterable[StagePlan]) -> None:
        """Do what is not done of stages that do not wait for each other."""
        pending = [(plan, self._begin(plan)) for plan in plans]
        work = [(plan, tasks) for plan, tasks in pending if tasks]
        if len(work) > 1:
            for plan, tasks in work:
                self._executor.prepare(plan.stage, tasks, self._context)
        for plan, tasks in work:
            self._execute(plan, tasks)
            end_stage(plan.stage, self._context.folder)
        for plan, tasks in pending:
            self.done += len(tasks)
            self.kept += len(plan.digests) - len(tasks)

    def _begin(self, plan: StagePlan) -> list[ShardTask]:
        return begin_stage(plan, self._context.folder, self._executor.take_up(plan.stage, plan.tasks))

    def _execute(self, plan: StagePlan, tasks: list[ShardTask]) -> None:
        in_shards = self._executor.in_shards
        total = float(len(tasks)) if in_shards else amount_of(plan, tasks)
        progress = Progress(self._context.folder, plan.stage, total, in_shards=in_shards)
        try:
            self._executor.execute(plan.stage, tasks, self._context, progress.advance)
        except KeyboardInterrupt:
            progress.stop()
            raise
        except BaseException as error:
            progress.fail(str(error) or error.__class__.__name__)
            raise
        progress.finish()


def clear_folder(folder: RunFolder) -> None:
    """Remove what killed writers left. Raises SeamlessAlignError where tasks of Slurm or a job of Beam are writing."""
    refuse_beside_job(folder)
    living = living_tasks(folder)
    if living:
        raise SeamlessAlignError(
            f"{folder.root}: {len(living)} tasks of Slurm are at work in this folder: go on with --executor slurm, or "
            f"cancel them: scancel {' '.join(sorted({task.split('_')[0] for task in living}))}"
        )
    storage.remove_unfinished(folder.root)
