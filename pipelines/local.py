"""The local executor: worker processes walk groups of shards, each group one Beam pipeline."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.context import Context, set_progress, use_threads
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.task_log import shard_failure
from seamlessalign.resources_config import ResourcesConfig

if TYPE_CHECKING:  # a worker imports this module before it is told to keep Beam quiet
    from seamlessalign.pipelines.shard_task import ShardTask

_MEMORY_PER_WORKER = 3 << 30  # bytes that models and one recording take
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Workers:
    """How a machine is shared out."""

    processes: int
    threads: int  # of each process
    device: str


def share_out(resources: ResourcesConfig) -> Workers:
    """Choose processes, threads and device where the configuration says `auto`. Raises ConfigError."""
    cores = len(os.sched_getaffinity(0))
    device = resources.device
    if device != "cpu":
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("resources.device is cuda, but torch sees no GPU: use auto or cpu")
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if resources.workers != "auto":
        processes = resources.workers
    elif device == "cuda":
        processes = 1
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        processes = max(1, min(cores, memory // _MEMORY_PER_WORKER))
    threads = resources.threads if resources.threads != "auto" else max(1, cores // processes)
    return Workers(processes, threads, device)


class LocalExecutor:
    """A pool of worker processes that lives for one run, so that models are loaded once in each."""

    in_shards = False

    def __init__(self, workers: Workers, shards_per_group: int) -> None:
        self.workers = workers
        self._most_per_group = shards_per_group
        start = multiprocessing.get_context("spawn")
        self._progress: Any = start.Queue()
        self._pool = ProcessPoolExecutor(
            workers.processes, mp_context=start, initializer=_begin_worker, initargs=(self._progress, workers.threads)
        )

    def prepare(self, stage: str, tasks: "list[ShardTask]", context: Context) -> None:
        """Nothing: the workers are busy with one stage at a time."""

    def execute(
        self, stage: str, tasks: "list[ShardTask]", context: Context, progress: Callable[[float], None]
    ) -> None:
        """Do all shards of a stage. Raises the first error; shards that are done by then stay done."""
        # small enough that every worker has several groups, so that none waits long for the last
        size = max(1, min(self._most_per_group, len(tasks) // (4 * self.workers.processes)))
        groups = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        try:
            with heeded_interrupts() as heed:
                with _workers_without_interrupt():
                    waiting: set[Future[None]] = {
                        self._pool.submit(do_group, stage, group, context) for group in groups
                    }
                while waiting:
                    heed()
                    done, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
                    for amount in self._reported():
                        progress(amount)
                    for future in done:
                        future.result()
        except BrokenProcessPool as error:
            raise SeamlessAlignError(
                f"stage {stage}: a worker process was killed, perhaps for want of memory; set resources.workers lower, "
                "or run the same command again to go on"
            ) from error

    def close(self) -> None:
        """End the workers at once. Only this cancels shards: the pool trips over futures cancelled while it breaks."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _reported(self) -> Iterator[float]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._progress.get_nowait()


@contextlib.contextmanager
def _workers_without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back while processes are started: they inherit that, and are silent before `_begin_worker` too."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _begin_worker(progress: Any, threads: int) -> None:
    # A worker must not outlive a driver that was killed (PR_SET_PDEATHSIG), nor answer Ctrl-C, which the driver does.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    if driver is not None and not driver.is_alive():  # it was killed before this process had asked for the signal
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Errors reach the driver as such; what Beam would log besides is the same with a trace.
    logging.basicConfig(format="seamlessalign: %(message)s", level=logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger("seamlessalign").setLevel(logging.WARNING)
    use_threads(threads)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    set_progress(lambda stage, amount: progress.put(amount))


def do_group(stage: str, tasks: "list[ShardTask]", context: Context) -> None:
    """Do a group of shards in this process, as one Beam pipeline."""
    from seamlessalign.pipelines.beam_stage import run_in_memory

    try:
        run_in_memory(stage, tasks, context)
    except SeamlessAlignError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is must reach the driver with its shard's name
        cause = str(error).strip().splitlines()[0] if str(error).strip() else error.__class__.__name__
        names = [task.name for task in tasks]
        raise shard_failure(context.folder, stage, names, cause, traceback.format_exc()) from None
