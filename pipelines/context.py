"""What every shard needs to be done: the configuration, the run's folder, and a way to say how far it is."""

import contextlib
import importlib
import os
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from seamlessalign import storage
from seamlessalign.config import FetchConfig, RunConfig
from seamlessalign.languages import Side
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.processor_time import thread_seconds
from seamlessalign.resources_config import ResourcesConfig

Progress = Callable[[str, float], None]  # (stage, seconds of audio or rows done since the last call)

_progress: Progress | None = None


class JobConfig(Protocol):
    """What all that is done in shards is told, whatever it is."""

    @property
    def fetch(self) -> FetchConfig:
        """What may be asked of the web."""

    @property
    def resources(self) -> ResourcesConfig:
        """Where and how fast it works."""


@dataclass(frozen=True)
class JobContext:
    """Given to every shard of a run, or of anything else that executors do; small enough to be sent to a worker."""

    config: JobConfig
    root: str
    device: str
    threads: int
    run_id: str = ""  # of one start of the driver, for logs

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.root)

    def on(self, device: str) -> Self:
        """The same on another device."""
        return replace(self, device=device)


@dataclass(frozen=True)
class Context(JobContext):
    """Given to every shard of a run."""

    config: RunConfig

    def side_files(self, side: Side) -> list[str]:
        """Files of the table that a side of a direction is mined from, by name."""
        table = "segments" if side.is_audio else "sentences"
        return storage.list_files(self.folder.table(table, f"lang={side.lang}"), ".parquet")

    def model_directory(self, name: str) -> str | None:
        """Where the configuration says that a model lies."""
        return self.config.models.get(name)


def new_run_id() -> str:
    """A name for one start of the driver."""
    return secrets.token_hex(4)


@dataclass
class Stopwatch:
    """Core-seconds by step: processor time of all threads of this process, so that two busy cores count twice.

    With it goes that of its children, such as ffmpeg, which counts in the step in which they end. Where several
    threads have steps at a time, each has a stopwatch that is `of_thread`: it counts that thread, and what was done in
    its place.
    """

    of_thread: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what happens inside under a step's name."""
        clock = thread_seconds if self.of_thread else _processor_seconds
        begun = clock()
        try:
            yield
        finally:
            self.add({name: clock() - begun})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count seconds of steps that were measured elsewhere."""
        for name, more in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + more


def _processor_seconds() -> float:
    """Processor time of this process and of its children that have ended and were waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def set_progress(progress: Progress | None) -> None:
    """Where this process reports how far it is."""
    global _progress
    _progress = progress


def advance(stage: str, amount: float) -> None:
    """Report that this much more of a stage is done: seconds of audio, lines of text, directions, or pairs."""
    if _progress is not None:
        _progress(stage, amount)


def use_threads(threads: int) -> None:
    """Let the numeric libraries of this process use so many threads: those loaded now, and those loaded later."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # read when they are loaded
    # imported once more, which waits where another thread is about to load it
    if "torch" in sys.modules:
        importlib.import_module("torch").set_num_threads(threads)
    if "faiss" in sys.modules:
        importlib.import_module("faiss").omp_set_num_threads(threads)
