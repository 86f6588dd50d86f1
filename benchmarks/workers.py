"""How the stage `speech` grows with worker processes and threads, and what fetching ahead is worth.

    python -m benchmarks.workers --demo runs/demo
    python -m benchmarks.workers --demo runs/demo --delay 2

Pieces of the demo's recordings are one shard each. Every way has workers of its own and does one shard on each of them
first, which loads the models; then all pieces are timed. Ways take turns. Printed are wall and processor seconds, how
many times as fast as one worker of one thread, the memory of all workers at their highest, and how busy the machine was
before: on one that is busy with other things ratios are low, while processor seconds tell whether sharing costs any.

With --delay a server on this machine answers every request after so many seconds, and one worker of one thread fetches
its recordings one after the other, or ahead.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.demo_speech import speech_run, write_pieces
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.local import LocalExecutor, Workers
from seamlessalign.pipelines.shard_task import ShardTask

ONE = "1 worker × 1 thread"
WAYS = {
    ONE: Workers(1, 1, "cpu"),
    "2 workers × 1 thread": Workers(2, 1, "cpu"),
    "1 worker × 2 threads": Workers(1, 2, "cpu"),
}
FETCHES: dict[str, dict[str, object]] = {"one after the other": {"decode_ahead": 0}, "ahead": {"decode_ahead": "auto"}}


@dataclass(frozen=True)
class Done:
    """What a way took."""

    start: float  # seconds until models were loaded and a shard was done on each worker
    wall: float  # seconds of all pieces
    processor: float
    peak: float  # GiB of all workers
    load: float  # of the machine, before
    rows: int  # segments


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="the stage speech by workers and threads")
    parser.add_argument("--demo", type=Path, required=True, help="folder of a demo, of which the recordings are taken")
    parser.add_argument("--pieces", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a piece")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, help="seconds until a server answers: measures fetching ahead instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pieces = Path(folder, "pieces")
        whole = write_pieces(options.demo, pieces, options.pieces, options.seconds)
        print(f"{options.pieces} pieces of {options.seconds:g} s; {len(os.sched_getaffinity(0))} cores", flush=True)
        if options.delay is None:
            names = [str(path) for path in sorted(pieces.iterdir())]
            done = _by_turns(Path(folder), options.rounds, {name: (way, names, {}) for name, way in WAYS.items()})
        else:
            with _server(pieces, options.delay) as address:
                names = [f"{address}/{path.name}" for path in sorted(pieces.iterdir())]
                ways = {name: (WAYS[ONE], names, resources) for name, resources in FETCHES.items()}
                done = _by_turns(Path(folder), options.rounds, ways)
    _print(done, whole)


def _by_turns(
    folder: Path, rounds: int, ways: dict[str, tuple[Workers, list[str], dict[str, object]]]
) -> dict[str, list[Done]]:
    done: dict[str, list[Done]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, (workers, inputs, resources) in ways.items():
            root = folder / f"{name}-{number}".replace(" ", "-")
            done[name].append(_measured(*speech_run(root, inputs, workers, **resources), workers))
            print(
                f"  round {number + 1}, {name}: {done[name][-1].wall:.1f} s, load {done[name][-1].load:.1f}", flush=True
            )
    return done


def _measured(context: Context, tasks: list[ShardTask], workers: Workers) -> Done:
    load = os.getloadavg()[0]
    executor = LocalExecutor(workers, context.config.resources.shards_per_group)
    try:
        begun = time.monotonic()
        executor.execute("speech", tasks[: workers.processes], context, _nothing)
        start, before = time.monotonic() - begun, _processor_seconds(executor)
        begun = time.monotonic()
        executor.execute("speech", tasks, context, _nothing)
        wall = time.monotonic() - begun
        processor, peak = _processor_seconds(executor) - before, _peak(executor)
    finally:
        executor.close()
    rows = sum(line.rows_kept for mark in read_marks(context.folder, "speech").values() for line in mark.lines[1:])
    return Done(start, wall, processor, peak, load, rows)


def _nothing(_: float) -> None:
    """Progress that nobody looks at."""


def _processor_seconds(executor: LocalExecutor) -> float:
    """Of the workers so far."""
    tick, total = os.sysconf("SC_CLK_TCK"), 0
    for worker in executor.at_work:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / tick


def _peak(executor: LocalExecutor) -> float:
    """GiB of the workers, each at its highest."""
    total = 0
    for worker in executor.at_work:
        status = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii", errors="replace")
        total += int(status.partition("VmHWM:")[2].split()[0])
    return total / 2**20


class _Slow(SimpleHTTPRequestHandler):
    """Files of a folder, each after a while."""

    delay = 0.0

    def do_GET(self) -> None:
        """Answer late."""
        time.sleep(self.delay)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _server(folder: Path, delay: float) -> Iterator[str]:
    handler = type("Handler", (_Slow,), {"delay": delay})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _print(done: dict[str, list[Done]], whole: float) -> None:
    first = statistics.median(one.wall for one in next(iter(done.values())))
    heads = ("wall s", "least", "ratio", "× real", "proc. s", "start s")
    print(f"\n{'':<24} " + " ".join(f"{head:>8}" for head in heads) + f" {'GiB':>6} {'load':>6}")
    for name, runs in done.items():
        wall = statistics.median(run.wall for run in runs)
        print(
            f"{name:<24} {wall:>8.1f} {min(run.wall for run in runs):>8.1f} {first / wall:>7.2f}× {whole / wall:>8.1f} "
            f"{statistics.median(run.processor for run in runs):>8.1f} "
            f"{statistics.median(run.start for run in runs):>8.1f} {max(run.peak for run in runs):>6.2f} "
            f"{statistics.median(run.load for run in runs):>6.1f}"
        )
    counts = {run.rows for runs in done.values() for run in runs}
    print(f"medians; segments of every way: {', '.join(map(str, sorted(counts)))}")


if __name__ == "__main__":
    main()
