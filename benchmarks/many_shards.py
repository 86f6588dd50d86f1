"""Whether the driver's time and memory and the completion marks stay linear in the number of shards.

    python -m benchmarks.many_shards --shards 10000 25000 50000 100000

A run of so many recordings, a shard each, goes through the driver as it is: inputs are found and cut, the stage of
speech is planned, its marks are written and read, the ledger is written, all is proved. Only how a shard is done is
tiny: it writes a table with its recording, for one in ten also one with a made-up span, and its mark, all without
waiting for the disk. The recordings are links to one. The driver is timed

- while it leads: from the inputs to the end of speech, less what the shards take,
- when it is started again with everything done, until it comes to the next stage: scanning,
- when it gathers the ledger and proves shards, ledger, files, recordings and segments: finishing,
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
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import soundfile

from benchmarks.measured import resident
from seamlessalign import local_files, storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.embedders import speech_card
from seamlessalign.pipelines import run, status, verify
from seamlessalign.pipelines.context import Context, JobContext
from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.ledger import Mark, Tally, write_ledger, write_mark
from seamlessalign.pipelines.local import LocalExecutor
from seamlessalign.pipelines.schedule import Schedule
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.rows import (
    RECORDINGS,
    SAMPLE_RATE,
    Recording,
    Segment,
    recording_id,
    segment_id,
    segments_schema,
    sha256_hex,
)

SILENT = 10  # of so many recordings one has a span
SAMPLES = SAMPLE_RATE // 5
_Work = Callable[[list[ShardTask], JobContext, Callable[[float], None]], None]


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
    """Recordings, all links to one file, in folders of a thousand."""
    sound = root / "sound.wav"
    soundfile.write(sound, np.full(SAMPLES, 0.01, np.float32), SAMPLE_RATE)
    for number in range(count):
        path = root / "audio" / f"{number // 1000:05}" / f"{number:08}.wav"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        os.link(sound, path)


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
    limits = verify._MOST_ROWS, verify._MOST_SHARDS
    checks = list(islice(verify._checks(folder, data=False, most=limits), 5))
    names = ["shards", "ledger", "files", "recordings", "segments"]
    assert [check.name for check in checks] == (names if len(lines) // 2 <= limits[1] else names[:3])
    ends = ("not planned: the run is not finished", "not done: run again to go on")  # of stages behind speech
    wrong = [sentence for check in checks for sentence in check.wrong if not sentence.endswith(ends)]
    assert not wrong, wrong[:5]
    spans = sum(line.rows_kept for line in lines if line.stage == "segments")
    return Seen(*since(begun), resident("VmHWM"), (len(lines), spans))


def read_status(root: Path) -> Seen:
    """What `status` says."""
    begun = time.perf_counter(), time.process_time()
    told = status.read_status(str(root / "run"))["stages"]["speech"]
    told = {name: told[name] for name in ("shards", "done", "rows_in", "rows_kept")}
    return Seen(*since(begun), resident("VmHWM"), told)


def do_tiny(tasks: list[ShardTask], context: JobContext, progress: Callable[[float], None]) -> None:
    """Do shards of speech: a recording each that has nothing in it, or one span."""
    if tasks[0].stage != "speech":
        refuse(tasks)
    assert isinstance(context, Context)
    local_files.sync = lambda path: None  # which takes the disk's time
    dim = speech_card(context.config.speech.embedder).dim
    row = np.random.default_rng(0).standard_normal((1, dim), dtype=np.float32)
    for task in tasks:
        assert isinstance(task.shard, Shard)
        write_mark(context.folder, tiny_mark(task.shard, task.digest, context.folder, row))
        progress(SAMPLES / SAMPLE_RATE)


def tiny_mark(shard: Shard, digest: str, folder: RunFolder, row: npt.NDArray[np.float32]) -> Mark:
    """Write the tables of one shard, and return its mark. `row` (1, dim) is the embedding of its span."""
    uri, silent = shard.files[0].uri, int(shard.name.removeprefix("part-")) % SILENT != 0
    sha256 = sha256_hex(uri.encode())
    recording = Recording(
        recording_id(sha256), uri, sha256, SAMPLES, SAMPLE_RATE, 1, "fra", 1.0, 0, None, None,
        "no_speech" if silent else None,
    )  # fmt: skip
    table = pa.Table.from_pylist([asdict(recording)], schema=RECORDINGS)
    tables = {folder.table("recordings", part=shard.name): table}
    recordings, segments = Tally(), Tally()
    if silent:
        recordings.drop("no_speech", samples=SAMPLES)
    else:
        recordings.keep(samples=SAMPLES)
        segments.keep(samples=SAMPLES)
        identity = segment_id(recording.recording_id, 0, SAMPLES)
        segment = Segment(identity, recording.recording_id, uri, 0, SAMPLES, "fra", 1.0, 1.0, 1)
        table = storage.with_embeddings([asdict(segment)], row, segments_schema(row.shape[1]))
        tables[folder.table("segments", "lang=fra", shard.name)] = table
    metadata = {"seamlessalign.digest": digest}
    written = sum(storage.write_table(uri, table, metadata=metadata) for uri, table in tables.items())
    lines = [
        recordings.line("recordings", shard.name, digest=digest, seconds={"decode": 0.001}, bytes_read=6444),
        segments.line("segments", shard.name, digest=digest, bytes_written=written),
    ]
    return Mark("speech", shard.name, digest, [folder.relative(uri) for uri in tables], lines)


def refuse(tasks: list[ShardTask]) -> None:
    """Stop the driver where it would begin to do shards."""
    raise Reached(tasks[0].stage, len(tasks))


def drive(root: Path, work: _Work) -> Seen:
    """Call `run` with shards done by `work`, and time what is not in it."""
    inside = [0.0, 0.0]

    def execute(self: Any, stage: str, tasks: list[ShardTask], context: JobContext, progress: Any) -> None:
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
