"""The driver of a run as a job of Slurm, so that nothing has to stay at work where the run is started.

The job runs the program as anyone would. On the signal before its time is up, or for another job's sake, it kills the
driver, which loses nothing, and is queued again; the driver that it starts then takes up the tasks of the former.
"""

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from typing import Any

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.slurm import SlurmExecutor
from seamlessalign.pipelines.slurm_queue import NAME
from seamlessalign.pipelines.slurm_record import living_driver, write_driver_job
from seamlessalign.pipelines.slurm_submit import UNHARMED
from seamlessalign.pipelines.task_log import slurm_job

_child: "subprocess.Popen[bytes] | None" = None  # the driver, in the process of its job


class Driver:
    """What the job runs: the program with arguments, as on a command line."""

    def __init__(self, root: str, arguments: list[str]) -> None:
        self.root = root
        self.arguments = arguments

    def __call__(self) -> None:
        """Run the program to its end, with its exit status."""
        global _child
        write_driver_job(RunFolder(self.root), slurm_job() or "")
        # the arrays are jobs of their own: what this one was given is nothing to them
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
        kept |= {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
        _child = subprocess.Popen([*UNHARMED, sys.executable, "-m", "seamlessalign", *self.arguments], env=kept)
        status = _child.wait()
        if status:
            sys.exit(status if status > 0 else 128 - status)

    def checkpoint(self) -> Any:
        """The same again."""
        from submitit.helpers import DelayedSubmission

        if _child is not None:  # not by its own methods: they wait for the one that this signal came into
            with suppress(ProcessLookupError):
                os.kill(_child.pid, signal.SIGKILL)
        return DelayedSubmission(self)


def detach(config: RunConfig, arguments: list[str]) -> str:
    """Submit the driver of a run; returns the number of its job. `arguments`: of the program, for that job.

    Raises ConfigError where Slurm does not take it, SeamlessAlignError where one is at work already.
    """
    if config.output is None:
        raise ConfigError("no output folder: give --output DIR, or 'output:' in the configuration")
    folder = RunFolder(config.output)
    executor = SlurmExecutor(config.resources, folder.root)
    storage.check_writable(folder.root)
    at_work = living_driver(folder)
    if at_work is not None:
        raise SeamlessAlignError(f"{folder.root}: job {at_work.job} drives this run already ({at_work.state})")
    job = executor.submit_driver(f"{NAME}-driver-{uuid.uuid4().hex[:12]}", Driver(folder.root, arguments))
    write_driver_job(folder, job)
    return job
