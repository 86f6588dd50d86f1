"""How jobs are put into Slurm's queue through submitit, which pickles what they run into a folder of the user's own."""

import contextlib
import os
import re
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, MissingPackageError, SeamlessAlignError
from seamlessalign.pipelines.slurm_queue import QueuedTask, cancel, read_queue
from seamlessalign.secrets import redact
from seamlessalign.slurm_config import SlurmAsks
from seamlessalign.typed_config import digest

# starts a program that a signal does not kill which comes before the program heeds it
UNHARMED = ["sh", "-c", 'trap "" USR2; exec "$0" "$@"']
_TRIES = 7  # to reach Slurm, in about a minute
_SIGNAL_SECONDS = 90  # before a task's time is up that it is told so
_SLURMS_OWN = ("srun:", "slurmstepd", "submitit ")  # begin lines in the logs of tasks that are not the program's
_NOT_REACHED = re.compile(r"contact|[Tt]imed out|[Tt]emporarily|[Cc]onnection|[Cc]ommunication|backup controller")


def need_slurm(root: str) -> None:
    """Raise ConfigError where there is no Slurm here or a folder is not on a shared disk, MissingPackageError."""
    if not storage.is_local(root):
        raise ConfigError(f"{root}: Slurm tasks need the run's folder on a disk that all nodes share")
    if not all(map(shutil.which, ("sbatch", "squeue", "scontrol", "srun"))):
        raise ConfigError("--executor slurm: there is no sbatch here; run on a login node of the cluster")
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("submitit", "slurm", "--executor slurm") from error


def sender(
    asks: SlurmAsks, private: Path, logs: Path, printed: str, step: Sequence[str] = (), **more: str | int | None
) -> Any:
    """submitit's executor of jobs that ask alike.

    Args:
        private: where it pickles what they run.
        logs: where what they print goes.
        printed: the name of its file, with the patterns of sbatch.
        step: options of srun.
        more: options of sbatch by submitit's names; those that are None are not given.
    """
    import submitit

    logs.mkdir(parents=True, exist_ok=True)
    link = private / "logs"  # a name without anything that Slurm reads as something else
    if not link.is_symlink() or link.readlink() != logs:
        link.unlink(missing_ok=True)
        link.symlink_to(logs)
    output = f"{link}/{printed}"
    python = shlex.join([*UNHARMED, sys.executable])
    # jobs count themselves how often their time was up
    made = submitit.SlurmExecutor(folder=private, max_num_timeout=1000, python=python)
    parameters: dict[str, Any] = {
        "time": asks.minutes,
        "mem": f"{round(asks.memory_gb * 1024)}MB",
        "cpus_per_task": asks.cpus,
        "partition": asks.partition,
        "account": asks.account,
        "qos": asks.qos,
        "constraint": asks.constraint,
        "setup": asks.setup or None,
        "signal_delay_s": min(_SIGNAL_SECONDS, asks.minutes * 15),
        "stderr_to_stdout": True,
        # srun asks for itself: not all versions hand on what the job has
        "srun_args": [f"--cpus-per-task={asks.cpus}", f"--output={output}", "--open-mode=append", *step],
        "additional_parameters": {"output": output, "requeue": True, **asks.extra},
        **more,
    }
    made.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
    return made


def submit(what: str, name: str, by: Any, calls: Sequence[Callable[[], None]]) -> str:
    """Submit calls under a name, as an array where there are several; returns the number of the job.

    Raises ConfigError where Slurm refuses it; `what` it is for is told there.
    """
    for attempt in range(_TRIES):
        try:
            return str(by.submit_array(calls)[0].job_id).split("_")[0]
        except Exception as error:
            said = re.sub(r"^.*?sbatch: error: ", "", " ".join(str(error).split()))[:300]
            if not _NOT_REACHED.search(said):
                raise ConfigError(f"{what}: Slurm did not take the job: {said}") from error
            if attempt + 1 == _TRIES:
                raise SeamlessAlignError(f"{what}: Slurm does not answer: {said}") from error
            time.sleep(2.0**attempt)
            # it may have taken the array, and have failed to say so: then its tasks have nothing to run
            cancel({task.split("_")[0] for task, queued in queue_of_slurm().items() if queued.job_name == name})
    raise AssertionError


def queue_of_slurm() -> dict[str, QueuedTask]:
    """All tasks of ours that Slurm remembers, by id. Raises SeamlessAlignError where it does not answer for long."""
    for attempt in range(_TRIES):
        queue = read_queue()
        if queue is not None:
            return queue
        time.sleep(2.0**attempt)
    raise SeamlessAlignError("Slurm does not answer: squeue fails; run again when it does, to go on")


def last_words(printed: Path) -> str:
    """The last line that the program, or what was set up before it, has printed."""
    with contextlib.suppress(OSError):
        lines = printed.read_text(encoding="utf-8", errors="replace").splitlines()
        ours = [line.strip() for line in lines if line.strip() and not line.startswith(_SLURMS_OWN)]
        return redact(ours[-1])[:200] if ours else "none"
    return "none, not even a log: do all nodes see its folder?"


def private_folder(configured: str | None, root: Path) -> Path:
    """The folder, made if need be, where submitit keeps what it pickles for a run: the user's own and nobody else's.

    Raises ConfigError where it is somebody else's, or others may write there: what is pickled there is executed.
    """
    above = Path(configured).expanduser() if configured else Path.home() / ".cache" / "seamlessalign" / "slurm"
    folder = above.absolute() / digest("run", str(root))
    key = "resources.slurm.folder"
    if "%" in str(folder) or "\\" in str(folder):
        raise ConfigError(f"{key}: {above}: Slurm reads % and \\ in names as something else; choose another folder")
    try:
        above.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        seen = folder.lstat()
    except OSError as error:
        raise ConfigError(f"{key}: {folder}: cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise ConfigError(f"{key}: {folder}: is not a folder of yours; remove it, or choose another")
    if seen.st_mode & 0o077:
        raise ConfigError(f"{key}: {folder}: others have rights there; chmod 700 it, or choose another")
    return folder
