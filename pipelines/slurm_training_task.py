"""What each process of a training runs as a job of Slurm, and how it is queued again.

Slurm starts all processes of all nodes; they find each other by what it tells them. On the signal before the job's time
is up, or for another job's sake, the step is ended and saved by all, and the first process puts the job back into the
queue. Started again, it goes on from there, as from any checkpoint.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines import slurm_queue
from seamlessalign.secrets import log_redacted, redact
from seamlessalign.training_cli import TRAININGS, Training
from seamlessalign.training_settings import TrainingSettings

_KILLED_SECONDS = 120.0  # that Slurm may take to kill a job that it queues again
_STOPPED = 128 + signal.SIGTERM


class TrainingJobFolder:
    """What a training and its job tell each other in the training's folder, and the names of these files."""

    def __init__(self, output: Path) -> None:
        self.root = output / "slurm"
        self.stop = self.root / "stop"  # there: the job shall end, and not begin again
        self.logs = self.root / "logs"

    def log(self, job: str) -> Path:
        """What the first process of a job prints."""
        return self.logs / f"{job}-0.log"

    def end(self, job: str, process: int) -> Path:
        """How a process ended, but for what killed it."""
        return self.root / f"end-{job}-{process}.json"

    def ends(self, job: str) -> list[dict[str, Any]]:
        """How processes of a job ended: those with errors of ours first, then in the order of their ends."""
        found = [json.loads(file.read_bytes()) for file in self.root.glob(f"end-{job}-*.json")]
        return sorted(found, key=lambda end: (not end["ours"], float(end["time"])))

    def forget(self, job: str) -> None:
        """Remove how an earlier start of a job ended."""
        for file in self.root.glob(f"end-{job}-*.json"):
            file.unlink(missing_ok=True)


class TrainingJob:
    """What submitit pickles: a kind of training with its configuration, whose output is an absolute path."""

    def __init__(self, kind: str, config: TrainingSettings) -> None:
        self.kind = kind
        self.config = config

    def __call__(self) -> None:
        """Train as one of the job's processes."""
        log_redacted(logging.WARNING)
        logging.getLogger("submitit").propagate = False  # it has a handler of its own
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        process = _join(self.config)
        folder, job = TrainingJobFolder(Path(self.config.output)), os.environ["SLURM_JOB_ID"]
        if process == 0:
            folder.forget(job)
        try:
            training = TRAININGS[self.kind]
            assert isinstance(training, Training)  # so it was when it was submitted
            result = training.train(self.config)
        except Exception as error:  # noqa: BLE001 - told in one line, as the command line tells it
            ours = isinstance(error, SeamlessAlignError)
            line = str(error) if ours else f"{type(error).__name__}: {error}"
            line = redact(line.splitlines()[0] if line else type(error).__name__)
            status = error.exit_status if isinstance(error, SeamlessAlignError) else 1
            _note(folder.end(job, process), {"status": status, "error": line, "ours": ours})
            print(f"seamlessalign: {line}", file=sys.stderr, flush=True)
            sys.exit(status)
        if result.finished:
            trained = {**vars(result), "folder": str(result.folder)}
            if process == 0:
                _note(folder.end(job, process), {"status": 0, "trained": trained, "ours": True})
            return
        if process == 0 and not folder.stop.exists():
            print(
                f"seamlessalign: saved at step {result.steps}; job {job} is queued again", file=sys.stderr, flush=True
            )
            slurm_queue.requeue(job)  # refused where Slurm does so itself
        if not folder.stop.exists():
            time.sleep(_KILLED_SECONDS)  # whoever ends first ends the job
        sys.exit(_STOPPED)

    def checkpoint(self) -> Any:
        """The same again: what submitit asks for on the signal where no step is being taken."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _join(config: TrainingSettings) -> int:
    """Set what tells torch and accelerate of the other processes; this one's number."""
    given, asks = os.environ, config.resources.slurm
    process, count = int(given["SLURM_PROCID"]), int(given["SLURM_NTASKS"])
    if not asks.gpus:
        given["ACCELERATE_USE_CPU"] = "true"
    if count > 1:
        given["RANK"], given["WORLD_SIZE"] = str(process), str(count)
        given["LOCAL_RANK"], given["LOCAL_WORLD_SIZE"] = given["SLURM_LOCALID"], str(asks.processes)
        given["MASTER_ADDR"] = "127.0.0.1" if asks.nodes == 1 else _address(_first_node())
        given["MASTER_PORT"] = str(20_000 + int(given["SLURM_JOB_ID"]) % 40_000)
    return process


def _first_node() -> str:
    import submitit

    return str(submitit.JobEnvironment().hostnames[0])


def _address(node: str) -> str:
    """What a node is reached at: its name, where that is known, else the address that Slurm uses."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        return slurm_queue.address_of(node) or node
    return node


def _note(file: Path, end: dict[str, Any]) -> None:
    storage.write_bytes_atomic(str(file), json.dumps({**end, "time": time.time()}).encode())
