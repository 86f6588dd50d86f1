"""Whether the driver's time and memory and the completion marks stay linear in the number of shards.

    python -m benchmarks.many_shards --shards 10000 25000 50000 100000

A run of so many recordings, a shard each, goes through the driver as it is: inputs are found and cut, the stage of
speech is planned, its marks are written and read, the ledger is written, tables are counted. Only how a shard is done
is tiny: its table of recordings, and for one in ten a table of segments, are links to files that were written once, and
its mark has the figures that belong to them. The driver is timed

- while it leads: from the inputs to the end of speech, less what the shards take,
- when it is started again with everything done, until it comes to the next stage: scanning,
- when it gathers the ledger and checks tables against it: finishing,
- as `status`,
- when it is started again with every second mark gone, until the first shard would be done.

Printed are seconds on the clock and of its processor, its most resident memory, bytes of marks, and processor seconds
of all of this for each shard as a multiple of what they were for the first size. Each call is a process of its own.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from benchmarks.measured import resident
from seamlessalign import storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.embedders import speech_card
from seamlessalign.pipelines import run, status
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.ledger import Mark, Tally, mark_text, verify, write_ledger
from seamlessalign.pipelines.local import LocalExecutor
from seamlessalign.pipelines.schedule import Schedule
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE, Recording, Segment, segments_schema

SILENT = 10  # of so many recordings one has a span
SAMPLES = SAMPLE_RATE // 5
_Work = Callable[[list[ShardTask], Context, Callable[[float], None]], None]


@dataclass(frozen=True)
class Seen:
    """One call of the driver."""

    seconds: float  # on the clock, less what shards took that were done in its process
    processor: float  # seconds, likewise
    peak_mib: float
    told: Any


class Reached(Exception):
    """The driver has something to be done: a stage, and how many shards of it."""

    def __init__(self, stage: str, pending: int) -> None:
        super().__init__(stage, pending)
        self.told = stage, pending


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--folder", help="where to work (default: where temporary files are)")
    options = parser.parse_args(arguments)
    print("| shards | leading s | scanning s | finishing s | status s | half gone s | MiB | marks MB | each, × first |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    first = 0.0
    for count in options.shards:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="many-shards-") as folder:
            seen, size = measure(Path(folder), count)
        each = sum(one.processor for one in seen) / count
        first = first or each
        times = [f"{one.seconds:.1f} ({one.processor:.1f})" for one in seen]
        cells = [f"{count:,}", *times, f"{max(one.peak_mib for one in seen):.0f}", f"{size / 1e6:.1f}"]
        print(f"| {' | '.join([*cells, f'{each / first:.2f}'])} |", flush=True)


def measure(root: Path, count: int) -> tuple[list[Seen], int]:
    """What each call of the driver took with so many shards, and bytes of all marks."""
    write_inputs(root, count)
    marks = str(root / "run" / "state" / "done" / "speech")
    led, scanned, finished, told = (alone(call, root) for call in (lead, scan, finish, read_status))
    size = sum(map(storage.size, storage.list_files(marks)))
    for mark in storage.list_files(marks)[::2]:
        Path(mark).unlink()
    half = alone(scan, root)
    spans = -(-count // SILENT)
    assert led.told == scanned.told == ("gather", 2), (led.told, scanned.told)
    assert finished.told == (2 * count, spans), finished.told
    assert told.told == {"shards": count, "done": count, "rows_in": count + spans, "rows_kept": 2 * spans}, told.told
    assert half.told == ("speech", -(-count // 2)), half.told
    return [led, scanned, finished, told, half], size


def write_inputs(root: Path, count: int) -> None:
    """Recordings in folders of a thousand, and the tables that shards will have: links, each to one file."""
    sound, tables = root / "sound.wav", root / "tables"
    soundfile.write(sound, np.full(SAMPLES, 0.01, np.float32), SAMPLE_RATE)
    for number in range(count):
        path = root / "audio" / f"{number // 1000:05}" / f"{number:08}.wav"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        os.link(sound, path)
    recording = Recording("0", "0.wav", "0", SAMPLES, SAMPLE_RATE, 1, "fra", 1.0, 0, None, None, "no_speech")
    for name, one in (("silent", recording), ("spoken", replace(recording, drop_reason=None))):
        storage.write_table(str(tables / name), pa.Table.from_pylist([asdict(one)], schema=RECORDINGS))
    dim = speech_card(config_of(root).speech.embedder).dim
    row = np.random.default_rng(0).standard_normal((1, dim), dtype=np.float32)
    segment = Segment("0:0-1", "0", "0.wav", 0, SAMPLES, "fra", 1.0, 1.0, 1)
    storage.write_table(str(tables / "span"), storage.with_embeddings([asdict(segment)], row, segments_schema(dim)))


def config_of(root: Path) -> RunConfig:
    """French speech against Spanish speech; that all are French is stated, so that no identifier is needed."""
    return parse_config(
        {
            "output": str(root / "run"),
            "directions": ["frA-esA"],
            "speech": {"inputs": [str(root / "audio")], "lang": "fra"},
            "resources": {"device": "cpu"},
        },
        "many_shards",
    )


def lead(root: Path) -> Seen:
    """A run with nothing done, to the end of speech."""
    return drive(root, do_tiny)


def scan(root: Path) -> Seen:
    """A run as far as there is something to do."""
    return drive(root, lambda tasks, context, progress: refuse(tasks))


def finish(root: Path) -> Seen:
    """The end of a run."""
    folder = RunFolder(str(root / "run"))
    begun = time.perf_counter(), time.process_time()
    lines = write_ledger(folder, STAGES)
    verify(folder, lines)
    spans = sum(line.rows_kept for line in lines if line.stage == "segments")
    return Seen(*since(begun), resident("VmHWM"), (len(lines), spans))


def read_status(root: Path) -> Seen:
    """What `status` says."""
    begun = time.perf_counter(), time.process_time()
    told = status.read_status(str(root / "run"))["stages"]["speech"]
    told.pop("dropped")
    return Seen(*since(begun), resident("VmHWM"), told)


def do_tiny(tasks: list[ShardTask], context: Context, progress: Callable[[float], None]) -> None:
    """Do shards of speech by links to tables that are there, and the marks that belong to them."""
    if tasks[0].stage != "speech":
        refuse(tasks)
    folder, tables = context.folder, Path(context.root).parent / "tables"
    for place in (folder.table("recordings"), folder.table("segments", "lang=fra"), folder.marks("speech")):
        Path(place).mkdir(parents=True, exist_ok=True)
    for task in tasks:
        silent = int(task.name.removeprefix("part-")) % SILENT != 0
        recordings, segments = Tally(), Tally()
        uris = {folder.table("recordings", part=task.name): "silent" if silent else "spoken"}
        if silent:
            recordings.drop("no_speech", samples=SAMPLES)
        else:
            recordings.keep(samples=SAMPLES)
            segments.keep(samples=SAMPLES)
            uris[folder.table("segments", "lang=fra", task.name)] = "span"
        for uri, table in uris.items():
            os.link(tables / table, uri)
        lines = [
            recordings.line("recordings", task.name, digest=task.digest, seconds={"decode": 0.001}, bytes_read=6444),
            segments.line("segments", task.name, digest=task.digest, bytes_written=5000),
        ]
        mark = Mark("speech", task.name, task.digest, [folder.relative(uri) for uri in uris], lines)
        Path(folder.mark("speech", task.name)).write_bytes(mark_text(mark))
        progress(SAMPLES / SAMPLE_RATE)


def refuse(tasks: list[ShardTask]) -> None:
    """Stop the driver where it would begin to do shards."""
    raise Reached(tasks[0].stage, len(tasks))


def drive(root: Path, work: _Work) -> Seen:
    """Call `run` with shards done by `work`, and time what is not in it."""
    inside = [0.0, 0.0]

    def execute(self: Any, stage: str, tasks: list[ShardTask], context: Context, progress: Any) -> None:
        schedule, ordered = Schedule(tasks, self.most_per_group, self.workers.processes), []
        while len(schedule):
            ordered += schedule.take()
        begun = time.perf_counter(), time.process_time()
        try:
            work(ordered, context, progress)
        finally:
            for at, took in enumerate(since(begun)):
                inside[at] += took

    LocalExecutor.execute = execute  # type: ignore[method-assign]
    begun = time.perf_counter(), time.process_time()
    try:
        run.run(config_of(root))
        told: Any = None
    except Reached as reached:
        told = reached.told
    seconds, processor = since(begun)
    return Seen(seconds - inside[0], processor - inside[1], resident("VmHWM"), told)


def since(begun: tuple[float, float]) -> tuple[float, float]:
    """Seconds on the clock and of this process's processor time since then."""
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def alone(call: Callable[[Path], Seen], root: Path) -> Seen:
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, root).result()


if __name__ == "__main__":
    main()
