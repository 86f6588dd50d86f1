"""What Slurm says of tasks, and what it is told: squeue, scontrol, sacct and scancel.

A task is named as Slurm does: `12_3` is the fourth of the array 12, `12` a job of its own. Slurm remembers tasks for
some minutes after their end (MinJobAge), so that it can be asked how they ended without its accounting.
"""

import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

NAME = "seamlessalign"  # that names of jobs begin with
_SECONDS = 60.0  # that a command of Slurm may take
_TRIES = 4
_AT_ONCE = 500  # ids in one command
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
_MADE_ROOM = {"PREEMPTED", "REVOKED"}


@dataclass(frozen=True)
class QueuedTask:
    """A line of the queue: the state and its reason in Slurm's words, and the name of the job."""

    state: str
    reason: str
    job_name: str

    @property
    def lives(self) -> bool:
        """Whether it waits, works or is about to end; else it has ended."""
        return not has_ended(self.state)

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state == "PENDING"

    @property
    def could_not_begin(self) -> bool:
        """Whether its node could not start it, so that Slurm holds it until somebody releases it."""
        return self.waits and self.reason.lower() == "launch failed requeued held"

    @property
    def made_room(self) -> bool:
        """Whether it ended for others' sake."""
        return self.state in _MADE_ROOM


def has_ended(state: str) -> bool:
    """Whether a state is one that tasks end in."""
    return state in _ENDED | _MADE_ROOM


def read_queue() -> dict[str, QueuedTask] | None:
    """All tasks of ours that Slurm remembers by id; None where it does not answer."""
    done = _ask("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%j")
    if done is None:
        return None
    tasks = {}
    for line in done.splitlines():
        task, state, rest = line.split("|", 2)
        reason, _, name = rest.rpartition("|")
        if name.startswith(NAME):
            tasks[task] = QueuedTask(state, reason, name)
    return tasks


def max_array_size() -> int:
    """How many tasks an array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.MULTILINE)
    return max(1, int(found[1])) if found else 1001  # Slurm's own default


def how_it_ended(task: str) -> tuple[str, str]:
    """The state in which a task ended and a sentence on it, as scontrol or else sacct has it; ("", "") if neither."""
    text = _ask("scontrol", "show", "job", "--oneliner", task)
    if text:
        words = dict(word.split("=", 1) for word in text.split() if "=" in word)
        state, signal = words.get("JobState", ""), _signal(words.get("ExitCode", ""))
    else:  # which takes 128 off exit codes, so that it does not tell signals from others
        text = _ask("sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={task}")
        state, signal = (text or "").strip().split(" ")[0].split("\n")[0], ""  # CANCELLED by 1000
    return state, f"task {task} ended as {state}{signal}" if state else ""


def is_preempted(job: str) -> bool:
    """Whether a job that works is being put off its node for another's sake. To be asked by the job itself."""
    for _ in range(_TRIES):  # the signals that tell the job so may end the one that asks as well
        text = _ask("scontrol", "show", "job", "--oneliner", job)
        if text:
            found = re.search(r"\bPreemptTime=(\S+)", text)
            return found is not None and found[1] not in ("None", "N/A", "Unknown")
    return False


def requeue(job: str) -> bool:
    """Put a job that works back into the queue, which kills it; returns whether Slurm did so."""
    return _ask("scontrol", "requeue", job) is not None


def tell_to_stop(job: str) -> bool:
    """Send SIGTERM to the tasks of a job, and not to what started them; returns whether Slurm did so."""
    return _ask("scancel", "--quiet", "--signal=TERM", job) is not None


def address_of(node: str) -> str | None:
    """The address at which Slurm reaches a node, where that is not its name."""
    found = re.search(r"\bNodeAddr=(\S+)", _ask("scontrol", "show", "node", "--oneliner", node) or "")
    return found[1] if found else None


def cancel(tasks: Iterable[str]) -> None:
    """Kill tasks that work and take those that wait from the queue. Those that have ended are left alone."""
    ids = list(tasks)
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        # killed first: what submitit runs takes no notice of the signal that scancel begins with
        _ask("scancel", "--quiet", "--full", "--signal=KILL", *some)
        _ask("scancel", "--quiet", *some)


def wait_until_gone(tasks: Iterable[str], seconds: float = 120.0) -> bool:
    """Wait until none of the tasks works any more; returns whether that came."""
    left, until = set(tasks), time.monotonic() + seconds
    while left:
        queue = read_queue()
        if queue is not None:
            left = {task for task in left if task in queue and queue[task].lives}
        if left and time.monotonic() > until:
            return False
        if left:
            time.sleep(0.5)
    return True


def _signal(code: str) -> str:
    """What an exit code such as `137:0` or `0:9` says of a signal."""
    status, _, number = code.partition(":")
    if number.isdigit() and int(number):
        return f" (signal {number})"
    if status.isdigit() and int(status) > 128:  # as a shell tells that of the program it ran
        return f" (signal {int(status) - 128})"
    return ""


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
