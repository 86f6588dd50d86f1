"""Measuring: each method in a process of its own, methods by turns, medians, and where the time goes."""

import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from seamlessalign.mining import native

_T = TypeVar("_T")


@dataclass(frozen=True)
class Measured:
    """One run of one method."""

    seconds: float
    peak_mib: float  # resident memory at its highest, beside what was resident before: the inputs
    parts: dict[str, float]  # seconds of parts of the run
    result: Any


class Clock:
    """Seconds by part of a run, of what is wrapped in `part` and of functions that are watched."""

    def __init__(self) -> None:
        """Nothing is watched at first."""
        self.parts: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str, threads: int = 1) -> Iterator[None]:
        """Count what happens inside; where so many threads do it side by side, each second counts as its share."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = (time.perf_counter() - start) / threads
            with self._lock:
                self.parts[name] = self.parts.get(name, 0.0) + seconds

    def watch(self, module: Any, function: str, name: str, threads: int = 1) -> None:
        """Count every call of a module's function, found there by its name, as a part until this process ends."""
        plain = getattr(module, function)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self.part(name, threads):
                return plain(*arguments, **options)

        setattr(module, function, watched)


def watch_exact(clock: Clock) -> None:
    """Watch the parts of the exact search; `codes` and `scan` lie inside `pass`."""
    from seamlessalign.mining import certify, distinct, exact, knn, tiles

    clock.watch(knn, "Vectors", "check rows")
    clock.watch(distinct, "classes_of", "find repeats")
    clock.watch(exact, "one_pass", "pass")
    clock.watch(tiles, "one_pass", "pass")
    clock.watch(native, "encode", "codes", cores())
    clock.watch(native, "scan", "scan", cores())
    clock.watch(certify, "best_certain", "certification")
    clock.watch(distinct, "spread", "give repeats back")


def measure(work: Callable[[], Any], clock: Clock) -> Measured:
    """Run `work` and say what it took; what the clock knows from before is forgotten."""
    clock.parts.clear()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
    before = resident("VmRSS")
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return Measured(seconds, resident("VmHWM") - before, dict(clock.parts), result)


def resident(what: str) -> float:
    """MiB that /proc/self/status gives for this process: VmRSS now, VmHWM at its highest."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


def by_turns(names: Iterable[str], rounds: int, run: Callable[..., Measured], *more: Any) -> dict[str, list[Measured]]:
    """Call run(name, *more) for each name in turn, as many rounds, each in a fresh process with memory of its own.

    A name like `method [Haswell]` runs `method` with OPENBLAS_CORETYPE so, which chooses the kernels of products.
    """
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, done in runs.items():
            plain, _, kernels = name.removesuffix("]").partition(" [")
            with kernels_of_products(kernels), multiprocessing.get_context("spawn").Pool(1) as pool:
                done.append(pool.apply(run, (plain, *more)))
    return runs


def with_kernels(names: Iterable[str], kernels: Iterable[str]) -> list[str]:
    """Names as `by_turns` takes them, once as they are and once for each choice of kernels."""
    names = list(names)
    return names + [f"{name} [{kernel}]" for kernel in kernels for name in names]


@contextmanager
def kernels_of_products(kernels: str) -> Iterator[None]:
    """Let processes that start inside have OPENBLAS_CORETYPE so, unless it is empty."""
    before = os.environ.get("OPENBLAS_CORETYPE")
    if kernels:
        os.environ["OPENBLAS_CORETYPE"] = kernels
    try:
        yield
    finally:
        if kernels and before is None:
            del os.environ["OPENBLAS_CORETYPE"]
        elif kernels and before is not None:
            os.environ["OPENBLAS_CORETYPE"] = before


def seconds_of(runs: list[Measured]) -> float:
    """Median seconds."""
    return statistics.median(run.seconds for run in runs)


def part_of(runs: list[Measured], name: str) -> float:
    """Median seconds of a part; 0 where it never happened."""
    return statistics.median(run.parts.get(name, 0.0) for run in runs)


def peak_of(runs: list[Measured]) -> float:
    """Median MiB."""
    return statistics.median(run.peak_mib for run in runs)


def print_parts(title: str, parts: dict[str, float], whole: float) -> None:
    """Print seconds and per cent of each part, and of what no part accounts for."""
    print(f"\n{title}")
    for name, seconds in {**parts, "all else": whole - sum(parts.values()), "together": whole}.items():
        print(f"  {name:<42} {seconds:>8.2f} s {100 * seconds / whole:>6.1f} %")


def exact_parts(runs: list[Measured]) -> dict[str, float]:
    """Seconds of the parts of the exact search, none inside another."""
    parts = {name: part_of(runs, name) for name in ("check rows", "find repeats", "codes", "scan")}
    parts["rest of the pass: samples, order"] = part_of(runs, "pass") - parts["codes"] - parts["scan"]
    for name in ("certification", "give repeats back"):
        parts[name] = part_of(runs, name)
    return parts


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def conditions() -> str:
    """What the figures depend on beside the code."""
    import faiss

    blas = os.environ.get("OPENBLAS_CORETYPE", "not set")
    isa = native.ISA_NAMES[native.best_isa()]
    return f"{cores()} cores, {isa}, load {os.getloadavg()[0]:.1f}; faiss {faiss.__version__}, OPENBLAS_CORETYPE {blas}"
