"""What the machinery of a run costs over calling the functions themselves: the stage `speech`, both ways in turn.

    python -m benchmarks.overhead --demo runs/demo

Plain: one process calls the stage's function on one shard after the other, with models loaded. Run: what a run does
for the stage with one worker: plan and marks, worker process, groups as Beam pipelines, logs, progress, ledger and its
check. Both do a shard first that is not counted, which loads libraries and models; how long that takes is printed.
Printed are wall and processor seconds of both ways and their ratio; and, which other work on the machine does not blur,
the share of the run's time in which no shard was being done. A shard should be about a minute of work, which the
default is where a core is as fast as those this was written on.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.demo_speech import speech_run, write_pieces
from seamlessalign.pipelines import run, verify
from seamlessalign.pipelines.context import Context, use_threads
from seamlessalign.pipelines.ledger import read_marks, write_ledger
from seamlessalign.pipelines.local import LocalExecutor, Workers
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.shard_task import ShardTask, do_shard
from seamlessalign.pipelines.stage_plans import StagePlan, amount_of, begin_stage, end_stage

_ONE = Workers(1, 1, "cpu")


@dataclass(frozen=True)
class Done:
    """What a way took for all shards."""

    start: float  # wall seconds before
    wall: float
    processor: float  # seconds of all processes
    between: float = 0.0  # wall seconds in which no shard was being done


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="overhead of a run's machinery at shards of about a minute of work")
    parser.add_argument("--demo", type=Path, required=True, help="folder of a demo, of which the recordings are taken")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=660.0, help="of audio in a shard")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pieces = Path(folder, "pieces")
        write_pieces(options.demo, pieces, options.shards, options.seconds)
        write_pieces(options.demo, Path(folder, "first"), 1, 10.0)
        plain, run = [], []
        for number in range(options.rounds):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                plain.append(pool.submit(_plain, folder, number).result())
            run.append(_run(folder, number))
            print(f"  round {number + 1}: plain {plain[-1].wall:.1f} s, run {run[-1].wall:.1f} s", flush=True)
    work = statistics.median(one.processor for one in plain) / options.shards
    print(f"\n{options.shards} shards of {work:.0f} s of work, {len(os.sched_getaffinity(0))} cores", end="")
    print(f", load {os.getloadavg()[0]:.1f}; medians of {options.rounds}\n")
    print(f"{'':<8} {'start s':>8} {'wall s':>8} {'processor s':>12}")
    for name, done in (("plain", plain), ("run", run)):
        print(f"{name:<8} {_of(done, 'start'):>8.1f} {_of(done, 'wall'):>8.2f} {_of(done, 'processor'):>12.2f}")
    for what in ("wall", "processor"):
        print(f"overhead in {what} seconds: {100 * (_of(run, what) / _of(plain, what) - 1):.2f} %")
    share = statistics.median(100 * one.between / (one.wall - one.between) for one in run)
    print(f"time of the run in which no shard was being done: {share:.2f} % of that of the shards")


def _of(done: list[Done], what: str) -> float:
    return float(statistics.median(getattr(one, what) for one in done))


def _tasks(folder: str, name: str) -> tuple[Context, list[ShardTask], list[ShardTask]]:
    """The context of a run, its shards, and the one that is done before."""
    inputs = sorted(str(path) for path in Path(folder, "pieces").iterdir())
    context, tasks = speech_run(Path(folder, name), inputs, _ONE)
    _, first = speech_run(Path(folder, f"{name}-first"), [str(Path(folder, "first"))], _ONE)
    return context, tasks, first


def _plain(folder: str, number: int) -> Done:
    """Call the stage's function, in this process."""
    begun = time.monotonic()
    use_threads(1)
    context, tasks, first = _tasks(folder, f"plain-{number}")
    for task in first:
        do_shard(task, context)
    start = time.monotonic() - begun
    begun, before = time.monotonic(), time.process_time()
    for task in tasks:
        do_shard(task, context)
    return Done(start, time.monotonic() - begun, time.process_time() - before)


def _run(folder: str, number: int) -> Done:
    """Do the same as a run does it, with this process as its driver."""
    begun = time.monotonic()
    context, tasks, first = _tasks(folder, f"run-{number}")
    executor = LocalExecutor(_ONE, context.config.resources.shards_per_group)
    try:
        executor.execute("speech", first, context, _nothing)
        (worker,) = executor.at_work
        pid = worker.process.pid
        start = time.monotonic() - begun
        begun, before = time.monotonic(), time.process_time() + _processor_seconds(pid)
        plan = StagePlan("speech", tasks, 0.0)
        pending = begin_stage(plan, context.folder)
        progress = Progress(context.folder, "speech", amount_of(plan, pending))
        executor.execute("speech", pending, context, progress.advance)
        progress.finish()
        end_stage("speech", context.folder)
        run._write_config(context.folder, context.config, {})
        write_ledger(context.folder, ["speech"])
        # the proof of what there is: shards, ledger, files, recordings and segments; other stages were not done
        proved = list(islice(verify._checks(context.folder, data=False), 5))
        assert not [said for check in proved[1:] for said in check.wrong], proved
        wall = time.monotonic() - begun
        processor = time.process_time() + _processor_seconds(pid) - before
    finally:
        executor.close()
    shards = sum(mark.wall_seconds or 0.0 for mark in read_marks(context.folder, "speech").values())
    return Done(start, wall, processor, wall - shards)


def _nothing(_: float) -> None:
    """Progress that nobody looks at."""


def _processor_seconds(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
