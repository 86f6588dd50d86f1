"""A training as one job of Slurm, with all its processes on one node or several.

The job is found again by its name, which is of the training's folder: the same command waits for the one that is there
rather than submit another, and Slurm itself lets only one of a name begin (`--dependency=singleton`).
"""

import logging
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seamlessalign import storage
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines import slurm_queue
from seamlessalign.pipelines.slurm_queue import NAME, QueuedTask
from seamlessalign.pipelines.slurm_submit import last_words, need_slurm, private_folder, queue_of_slurm, sender, submit
from seamlessalign.pipelines.slurm_training_task import TrainingJob, TrainingJobFolder
from seamlessalign.slurm_config import SlurmTrainingConfig
from seamlessalign.training_checkpoints import Checkpoints
from seamlessalign.training_loop import Trained
from seamlessalign.training_settings import TrainingSettings
from seamlessalign.typed_config import digest

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0  # between looks at the queue
_GONE_SECONDS = 90.0  # that word of a job's end may take to be seen: NFS shows files late
# what torch says in a process where another one was killed
_OF_A_PEER = re.compile(r"gloo|NCCL|TCPStore|ProcessGroup|[Cc]onnection")
_STOP_SECONDS = 120.0  # that a job may take to save its step


def submit_training(kind: str, config: TrainingSettings) -> str:
    """Submit the job of a training, unless there is one; its number.

    Raises ConfigError where there is no Slurm here, or it refuses the job.
    """
    need_slurm(config.output)
    here = _absolute(config)
    folder = TrainingJobFolder(Path(here.output))
    name, asks = _name(here), here.resources.slurm
    job = _living(name)
    if job is not None:
        _say(f"job {job} is at this training already")
        return job
    storage.check_writable(here.output)
    folder.stop.unlink(missing_ok=True)
    private = private_folder(asks.folder, folder.root)
    for kept in private.iterdir():
        kept.unlink()
    job = submit(
        f"training of {here.output}",
        name,
        sender(
            asks,
            private,
            folder.logs,
            "%j.log",
            [
                f"--nodes={asks.nodes}",
                f"--ntasks={asks.nodes * asks.processes}",
                f"--output={private}/logs/%j-%t.log",
                "--kill-on-bad-exit=1",
            ],
            job_name=name,
            nodes=asks.nodes,
            ntasks_per_node=asks.processes,
            gpus_per_node=asks.gpus * asks.processes or None,
            dependency="singleton",
            signal_delay_s=min(asks.warn_seconds, asks.minutes * 30),
        ),
        [TrainingJob(kind, here)],
    )
    _say(f"job {job} is submitted; it prints to {folder.log(job)}")
    return job


def train_on_slurm(kind: str, config: TrainingSettings) -> Trained:
    """Submit a training, or find its job, and wait for its end; what it prints is printed here too.

    It is submitted again where it was lost: as often as it had saved a step meanwhile, else `retries` times. Ctrl-C
    has the job save its step and end.

    Raises the training's own errors, and SeamlessAlignError where its job was lost too often.
    """
    config = _absolute(config)
    folder = TrainingJobFolder(Path(config.output))
    checkpoints = Checkpoints(Path(config.output) / "checkpoints")
    lost = _Lost(checkpoints, config.resources.slurm, checkpoints.steps())
    while True:
        job = submit_training(kind, config)
        printed = _Printed(folder.log(job))
        try:
            found = _wait(job, folder, printed)
        except KeyboardInterrupt:
            _stop(job, folder)
            printed.relay()
            raise
        if found is not None:
            return found
        lost.once_more(job, folder)


@dataclass
class _Lost:
    """How often a job was lost since a step was saved."""

    checkpoints: Checkpoints
    asks: SlurmTrainingConfig
    saved: Sequence[int]  # when it was lost last, or at first
    times: int = 0

    def once_more(self, job: str, folder: TrainingJobFolder) -> None:
        """Count a loss. Raises SeamlessAlignError where it was one too many, or somebody wanted it."""
        state, told = slurm_queue.how_it_ended(job)
        if state == "CANCELLED":
            raise SeamlessAlignError(f"job {job} was cancelled; the same command goes on from the last checkpoint")
        if state in ("PREEMPTED", "REVOKED"):
            return
        steps = self.checkpoints.steps()
        self.times = 0 if steps != self.saved else self.times + 1
        self.saved = steps
        if self.times > self.asks.retries:
            times = "once" if self.times == 1 else f"{self.times} times"
            remedy = (
                f"set checkpoint_every lower, or resources.slurm.minutes higher than {self.asks.minutes}"
                if state in ("TIMEOUT", "DEADLINE")
                else f"perhaps for want of memory: resources.slurm.memory_gb is {self.asks.memory_gb:g}"
            )
            words = last_words(folder.log(job))
            raise SeamlessAlignError(
                f"the job was lost {times} without a step saved; {told or f'job {job} is gone'}; {remedy}; "
                f"its last words: {words}; log: {folder.log(job)}"
            )
        log.warning("%s; it is submitted again", told or f"job {job} is gone")


def _wait(job: str, folder: TrainingJobFolder, printed: "_Printed") -> Trained | None:
    """Wait until a job has ended; what came of it, or None where it was lost. Raises its error."""
    state, ended = "", 0.0
    while True:
        queued = queue_of_slurm().get(job)
        now = _told(queued)
        if now != state:
            _say(f"job {job} {now}")
            state = now
        printed.relay()
        if queued is None or not queued.lives:
            ends = folder.ends(job)
            done = next((end["trained"] for end in ends if "trained" in end), None)
            if done is not None:
                return Trained(**{**done, "folder": Path(done["folder"])})
            told = [end for end in ends if end["ours"] or not _OF_A_PEER.search(end["error"])]
            if told or (ends and "signal" not in slurm_queue.how_it_ended(job)[1]):
                end = (told or ends)[0]
                error = SeamlessAlignError(end["error"])
                error.exit_status = int(end["status"])
                raise error
            ended = ended or time.monotonic()
            lost = queued is not None and queued.state != "COMPLETED"
            if lost or time.monotonic() - ended > _GONE_SECONDS:
                return None
        time.sleep(_LOOK_SECONDS)


def _stop(job: str, folder: TrainingJobFolder) -> None:
    """Have a job save its step and end, or take it from the queue."""
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.stop.touch()
    queued = queue_of_slurm().get(job)
    if queued is not None and queued.state == "RUNNING" and slurm_queue.tell_to_stop(job):
        _say(f"job {job} is told to save its step and end; Ctrl-C kills it")
        with suppress(KeyboardInterrupt):
            if slurm_queue.wait_until_gone([job], _STOP_SECONDS):
                return
    slurm_queue.cancel([job])


class _Printed:
    """What a job prints, on its way to people."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, file.stat().st_size if file.is_file() else 0

    def relay(self) -> None:
        """Print what is new, in whole lines, but for what Slurm and submitit say."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if not line.startswith(("submitit ", "srun:", "slurmstepd")):
                print(line, file=sys.stderr, flush=True)


def _told(queued: QueuedTask | None) -> str:
    if queued is None or not queued.lives:
        return "has ended"
    if queued.waits:
        return "waits in the queue" + ("" if queued.reason in ("", "None") else f": {queued.reason}")
    return "is at work"


def _living(name: str) -> str | None:
    """The job of a name that waits or works; None where there is none."""
    return next((job for job, queued in queue_of_slurm().items() if queued.job_name == name and queued.lives), None)


def _name(config: TrainingSettings) -> str:
    return f"{NAME}-train-{digest(config.output)}"


def _absolute(config: TrainingSettings) -> TrainingSettings:
    """The configuration with its output's whole path, on the device and threads that the job has."""
    resources, asks = config.resources, config.resources.slurm
    if resources.device == ("cpu" if asks.gpus else "cuda"):
        raise ConfigError(
            f"resources.device is {resources.device}, but resources.slurm.gpus is {asks.gpus}: give one of both"
        )
    threads = resources.threads or max(1, asks.cpus - resources.workers)
    resources = resources.model_copy(update={"device": "cuda" if asks.gpus else "cpu", "threads": threads})
    output = str(storage.local_path(config.output).absolute())
    return config.model_copy(update={"output": output, "resources": resources})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
