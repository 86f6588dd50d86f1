"""A worker of the local executor: a process that does groups of shards, each group one Beam pipeline.

Driver and worker talk through one pipe. A group that comes while another is being done waits; its recordings are looked
ahead to meanwhile.
"""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.context import Context, JobContext, set_progress, use_threads
from seamlessalign.pipelines.task_log import shard_failure
from seamlessalign.secrets import log_redacted
from seamlessalign.uncollected_imports import uncollected

if TYPE_CHECKING:  # a worker imports this module before it is told to keep Beam quiet
    from seamlessalign.pipelines.shard_task import ShardTask
    from seamlessalign.pipelines.speech_ahead import Lanes

_GRACE_SECONDS = 5.0  # for a process to go after SIGTERM


@dataclass(frozen=True)
class Group:
    """Shards that a worker does together. With `lanes` it looks ahead to their recordings."""

    stage: str
    tasks: "list[ShardTask]"
    context: JobContext
    lanes: "Lanes | None" = None


class WorkerProcess:
    """The driver's side of a worker: what it has in hand, and what it said."""

    def __init__(self, threads: int) -> None:
        """Start it. It loads its libraries at once."""
        start = multiprocessing.get_context("spawn")
        self.pipe, others = start.Pipe()
        self.process = start.Process(target=_work, args=(others, threads), name="seamlessalign-worker")
        with without_interrupt():
            self.process.start()
        others.close()
        self.groups: deque[Group] = deque()  # given and not done, the one being done first
        self.told = 0.0  # progress since the last group was done
        self.resident = 0  # bytes after the last group
        self.first_resident = 0  # bytes after the first
        self.is_leaving = False  # nothing more is given to it

    def give(self, group: Group) -> None:
        """Hand over a group; where the process has died, that shows in `answers`."""
        self.groups.append(group)
        with contextlib.suppress(OSError):
            self.pipe.send(group)

    def leave(self) -> None:
        """Ask it to end when it has done what it was given."""
        self.is_leaving = True
        with contextlib.suppress(OSError):
            self.pipe.send(None)

    def answers(self) -> Iterator[tuple[str, Any]]:
        """What it said and nobody has heard yet, without waiting: `progress`, `done` or `failed`; last `gone`."""
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            yield "gone", None

    def end(self) -> None:
        """End it at once."""
        self.process.terminate()
        self.pipe.close()

    def wait(self) -> str:
        """Wait until it is gone; returns how it ended."""
        self.process.join(_GRACE_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        status = self.process.exitcode or 0
        if status >= 0:
            return f"ended with status {status}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"


@contextlib.contextmanager
def without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back while a process is started: it inherits that, and is silent before `_work` begins too.

    The tracker that the standard library starts with the first one would let Ctrl-C through again: it comes before.
    """
    resource_tracker.ensure_running()
    asked: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    # Python raises it in the main thread whichever thread the kernel has told, and these have masks of their own
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number)) if in_main else None
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if in_main:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
            if asked:
                signal.raise_signal(signal.SIGINT)


def do_group(stage: str, tasks: "list[ShardTask]", context: JobContext) -> None:
    """Do a group of shards in this process, as one Beam pipeline, and look ahead to recordings where that helps."""
    from seamlessalign.pipelines import speech_ahead

    lanes = speech_lanes(stage, tasks, context, 1)
    if lanes is None:
        _run_in_memory(Group(stage, tasks, context))
        return
    group = Group(stage, tasks, context, lanes)
    try:
        _look_ahead(group)
        _run_in_memory(group)
    finally:
        speech_ahead.end()


def speech_lanes(stage: str, tasks: "list[ShardTask]", context: JobContext, processes: int) -> "Lanes | None":
    """How so many processes that share these shards look ahead; None where they do not."""
    from seamlessalign.pipelines import speech_ahead, speech_stage
    from seamlessalign.pipelines.inputs import Shard

    if stage != speech_stage.STAGE or not isinstance(context, Context):
        return None
    return speech_ahead.lanes_of(context, [task.shard for task in tasks if isinstance(task.shard, Shard)], processes)


def _look_ahead(group: Group) -> None:
    from seamlessalign.pipelines import speech_ahead
    from seamlessalign.pipelines.inputs import Shard

    if group.lanes is not None and isinstance(group.context, Context):
        shards = [(task.shard, task.digest) for task in group.tasks if isinstance(task.shard, Shard)]
        speech_ahead.begin(shards, group.context, group.lanes)


def _run_in_memory(group: Group) -> None:
    with uncollected():
        from seamlessalign.pipelines.beam_stage import run_in_memory

    try:
        run_in_memory(group.stage, group.tasks, group.context)
    except SeamlessAlignError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is must reach the driver with its shard's name
        cause = str(error).strip().splitlines()[0] if str(error).strip() else error.__class__.__name__
        names = [task.name for task in group.tasks]
        raise shard_failure(group.context.folder, group.stage, names, cause, traceback.format_exc()) from None


def follow_driver() -> None:
    """Have this process not outlive a driver that was killed (PR_SET_PDEATHSIG), nor answer Ctrl-C: the driver does."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    if driver is not None and not driver.is_alive():  # it was killed before this process had asked for the signal
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(pipe: Any, threads: int) -> None:
    """The life of a worker."""
    follow_driver()
    # Errors reach the driver as such; what Beam would log besides is the same with a trace.
    log_redacted(logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger("seamlessalign").setLevel(logging.WARNING)
    use_threads(threads)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with uncollected():  # loaded while the driver plans
        from seamlessalign.pipelines import beam_stage, speech_ahead  # noqa: F401

    one_at_a_time = threading.Lock()

    def say(kind: str, what: Any) -> None:
        with one_at_a_time:
            pipe.send((kind, what))

    set_progress(lambda stage, amount: say("progress", amount))
    given: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, given, say), daemon=True).start()
    while (group := given.get()) is not None:
        try:
            _run_in_memory(group)
        except SeamlessAlignError as error:
            _say_error(say, error)
        else:
            say("done", _resident())
    speech_ahead.end()


def _listen(pipe: Any, given: Any, say: Any) -> None:
    """Take in groups as they come, and look ahead to their recordings."""
    group: Group | None = None
    while True:
        try:
            group = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)  # nobody is there to hear of what is done
        try:
            if group is not None:
                _look_ahead(group)
        except SeamlessAlignError as error:
            _say_error(say, error)
        given.put(group)
        if group is None:
            return


def _say_error(say: Any, error: SeamlessAlignError) -> None:
    try:
        say("failed", error)
    except Exception:  # noqa: BLE001  one that cannot be sent
        say("failed", SeamlessAlignError(str(error)))


def _resident() -> int:
    """Bytes of memory that this process has for itself, without files that are mapped."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 if "RssAnon:" in status else 0
