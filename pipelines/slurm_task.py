"""What a task of a job array runs: the shards of a group that have no mark yet, and what becomes of it when time is up.

submitit pickles it into the user's own folder (`private_folder` of `slurm_submit.py`), never into the run's, and calls
`checkpoint` on the signal that Slurm sends before a task's time is up or when another job takes its node.
"""

import json
import logging
import os
import sys
from contextlib import suppress
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError, StorageError
from seamlessalign.pipelines import slurm_queue
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.task_log import task_log
from seamlessalign.pipelines.worker_process import do_group
from seamlessalign.secrets import log_redacted
from seamlessalign.slurm_config import SlurmConfig

_queued_again = False  # whether this process's task is to be started again


class Group:
    """Shards that one task does, one after the other.

    Started again, it does those that are left. How often its time was up before a single one was done is counted:
    more often than `asks.retries`, it gives up. Making room for another job counts nothing.
    """

    def __init__(self, stage: str, tasks: list[ShardTask], context: JobContext, asks: SlurmConfig) -> None:
        self.stage = stage
        self.tasks = tasks
        self.context = context
        self.asks = asks
        self.idle = 0  # times that time was up with nothing done

    def __call__(self) -> None:
        """Do what is left."""
        log_redacted(logging.WARNING)
        logging.getLogger("submitit").propagate = False  # it has a handler of its own
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # an error is told once, by what comes behind
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        self.tasks = self._left()
        if not self.tasks:
            return
        try:
            do_group(self.stage, self.tasks, self.context)
        except BaseException:
            if _queued_again:  # submitit's way out, which the pipeline may take for an error, or wait for its threads
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1)
            raise

    def checkpoint(self) -> Any:
        """What the task does when it is started again. Ends the process where it shall not be."""
        global _queued_again
        from submitit.helpers import DelayedSubmission

        left = self._left()
        preempted = slurm_queue.is_preempted(os.environ.get("SLURM_JOB_ID", ""))
        if not preempted:
            self.idle = 0 if len(left) < len(self.tasks) else self.idle + 1
        why = "makes room for another job" if preempted else f"has had its {self.asks.minutes} minutes"
        print(f"seamlessalign: the task {why}; left: {len(left)} of {len(self.tasks)} shards", flush=True)
        if self.idle > self.asks.retries:
            with suppress(SeamlessAlignError), task_log(self.context, self.stage, left[0].name, left[0].digest):
                raise SeamlessAlignError(self._too_long(left[0].name))
            os._exit(1)
        self.tasks = left
        _queued_again = True
        return DelayedSubmission(self)

    def _too_long(self, shard: str) -> str:
        times = "once" if self.idle == 1 else f"{self.idle} times"
        return (
            f"stage {self.stage}, {shard}: was not done in {self.asks.minutes} minutes, tried {times}: "
            f"set resources.slurm.stages.{self.stage}.minutes higher"
        )

    def _left(self) -> list[ShardTask]:
        folder = self.context.folder
        return [task for task in self.tasks if marked_digest(folder, self.stage, task.name) != task.digest]


def marked_digest(folder: RunFolder, stage: str, shard: str) -> str | None:
    """The digest that a shard was done under, or None where it has no mark."""
    try:
        return str(json.loads(storage.read_bytes(folder.mark(stage, shard)))["digest"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        uri = folder.mark(stage, shard)
        raise StorageError(f"{uri}: is not a completion mark ({error}); remove it to do its shard again") from error
