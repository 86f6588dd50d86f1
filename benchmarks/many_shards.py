"""Whether the driver's time and memory and the completion marks stay linear in the number of shards.

    python -m benchmarks.many_shards --shards 10000 25000 50000 100000

A run of so many recordings, a shard each, goes through the driver as it is: inputs are found and cut, stages planned,
marks written and read, the ledger written, tables counted. Only how a shard of speech is done is tiny: its recording
has 0.2 s, and in the place of what models would find it writes that there is no speech, or, for each tenth, one made-up
span. All later stages do their real work, in the driver's process. Half of the spans are French, half Spanish, and each
has its counterpart, so that there is a corpus to cut. One folder grows from size to size. At each, the driver is timed

- while it leads the shards that are new (what these take by themselves is not counted),
- started again with everything done: scanning and finishing,
- by `status`,
- started again on a copy in which every second mark of speech is gone, until the first shard would be done.

Printed are seconds on the clock and of its processor, its most resident memory, bytes of marks, and processor seconds
for each shard as a multiple of what they were for the smallest size. Each call is a process of its own. The folder is
removed.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from benchmarks.measured import resident
from seamlessalign import storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.embedders import speech_card
from seamlessalign.pipelines import run, shard_task, speech_stage, status
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.local import LocalExecutor
from seamlessalign.pipelines.schedule import Schedule
from seamlessalign.pipelines.shard_task import ShardTask, do_and_mark
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

LANGS = ("fra", "spa")
SAMPLES = SAMPLE_RATE // 5
SILENT = 10  # one recording of so many has a span
PROCESSES = 4  # that do tiny shards


@dataclass(frozen=True)
class Seen:
    """One call of the driver."""

    seconds: float  # on the clock, less what shards took that were done in its process
    processor: float  # seconds, likewise
    peak_mib: float
    told: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--folder", help="where to work (default: where temporary files are)")
    options = parser.parse_args(arguments)
    print("| shards | leading s | again s | status s | half gone s | MiB | marks MB | processor s each, × smallest |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    least: list[float] = []
    before = 0
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="many-shards-") as folder:
        root = Path(folder)
        for count in sorted(options.shards):
            write_inputs(root, before, count)
            seen = [alone(first_run, root), alone(run_again, root), alone(read_status, root)]
            size = check(root, seen, count, count - before)
            before = count
            seen.append(alone(resume_scan, root))
            assert seen[-1].told["pending"] == -(-count // 2), seen[-1].told
            each = [one.processor / count for one in seen[1:]]
            least = least or each
            ratios = ", ".join(f"{one / small:.2f}" for one, small in zip(each, least, strict=True))
            times = [f"{one.seconds:.1f} ({one.processor:.1f})" for one in seen]
            cells = [f"{count:,}", *times, f"{max(one.peak_mib for one in seen):.0f}", f"{size / 1e6:.1f}", ratios]
            print(f"| {' | '.join(cells)} |", flush=True)


def check(root: Path, seen: list[Seen], count: int, new: int) -> int:
    """Bytes of all marks, once it is sure that everything was done as it should."""
    first, again, told = (one.told for one in seen)
    stages, spans = told["stages"], -(-count // SILENT)
    assert first["done"] >= new and first["kept"] >= count - new and again["done"] == 0, (first, again)
    assert stages["speech"]["done"] == count and stages["speech"]["rows_kept"] == 2 * spans, stages
    assert stages["corpus"]["rows_kept"] == spans // 2, stages
    return sum(map(storage.size, storage.list_files(str(root / "run" / "state" / "done"))))


def write_inputs(root: Path, first: int, last: int) -> None:
    """Recordings of these numbers, all different, in folders of a thousand."""

    def write(number: int) -> None:
        path = root / "audio" / f"{number // 1000:05}" / f"{number:08}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.full(SAMPLES, 0.01, np.float32)
        samples[:32] = [(number >> bit & 1) / 2 for bit in range(32)]
        soundfile.write(path, samples, SAMPLE_RATE)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(write, range(first, last)):
            pass


def config_of(root: Path, audio: str) -> RunConfig:
    """French speech against Spanish speech; the languages are stated, so that no identifier is needed."""
    return parse_config(
        {
            "output": str(root / "run"),
            "directions": ["frA-esA"],
            "speech": {"inputs": [audio], "lang": "fra"},
            "mining": {"threshold": 1.0, "near_duplicates": None, "filters": {"min_seconds": 0.1}},
            "resources": {"device": "cpu"},
        },
        "many_shards",
    )


def tiny_speech(shard: Shard, digest: str, context: Context) -> Mark:
    """What `speech_stage.process` does, with a made-up span, or none, in the place of what models find."""
    tally, spans = Tally(), Tally()
    (file,) = shard.files
    number, other = divmod(int(Path(file.uri).stem), SILENT)
    lang = LANGS[number % 2]
    sha256 = sha256_hex(Path(file.uri).read_bytes())
    identity, reason = recording_id(sha256), "no_speech" if other else None
    speech = 0 if other else SAMPLES
    recording = Recording(identity, file.uri, sha256, SAMPLES, SAMPLE_RATE, 1, lang, 1.0, speech, None, None, reason)
    folder, metadata, outputs, written = context.folder, {"seamlessalign.digest": digest}, [], 0
    tables = [
        (folder.table("recordings", part=shard.name), pa.Table.from_pylist([asdict(recording)], schema=RECORDINGS))
    ]
    if reason is None:
        dim = dim_of(context.config.speech.embedder)
        row = np.random.default_rng(number // 2).standard_normal((1, dim), dtype=np.float32)  # as its counterpart's
        row += np.random.default_rng(2**40 + number).standard_normal((1, dim), dtype=np.float32) / 8
        segment = Segment(segment_id(identity, 0, SAMPLES), identity, file.uri, 0, SAMPLES, lang, 1.0, 1.0, 1)
        table = storage.with_embeddings([asdict(segment)], row, segments_schema(dim))
        tables.append((folder.table("segments", f"lang={lang}", shard.name), table))
        tally.keep(samples=SAMPLES)
        spans.keep(samples=SAMPLES)
    else:
        tally.drop(reason, samples=SAMPLES)
    for uri, table in tables:
        written += storage.write_table(uri, table, metadata=metadata)
        outputs.append(folder.relative(uri))
    lines = [
        tally.line("recordings", shard.name, digest=digest, seconds={"decode": 0.001}, bytes_read=len(sha256)),
        spans.line("segments", shard.name, digest=digest, bytes_written=written),
    ]
    return Mark(speech_stage.STAGE, shard.name, digest, outputs, lines)


@cache
def dim_of(embedder: str) -> int:
    """Dimensions of a speech embedder."""
    return speech_card(embedder).dim


def first_run(root: Path) -> Seen:
    """A run with nothing done."""
    return drive(root, do_tiny)


def run_again(root: Path) -> Seen:
    """A run with everything done."""
    return drive(root, refuse)


def resume_scan(root: Path) -> Seen:
    """A run with every second shard of speech to be done, up to the first of them, in a copy made of links."""
    copy = root / "copy"
    shutil.copytree(root / "run", copy / "run", copy_function=os.link)
    for mark in storage.list_files(str(copy / "run" / "state" / "done" / "speech"))[::2]:
        Path(mark).unlink()
    seen = drive(copy, refuse, str(root / "audio"))
    shutil.rmtree(copy)
    return seen


class Reached(Exception):
    """The driver has something to be done; `pending` says how many shards."""

    def __init__(self, pending: int) -> None:
        super().__init__(f"{pending} shards")
        self.pending = pending


def refuse(tasks: list[ShardTask], context: Context, progress: Callable[[float], None]) -> None:
    """Stop the driver where it would begin to do shards."""
    raise Reached(len(tasks))


def do_tiny(tasks: list[ShardTask], context: Context, progress: Callable[[float], None]) -> None:
    """Do all shards in this process: those of speech tiny, all others as any run does them."""

    if tasks[0].stage != speech_stage.STAGE:
        for task in tasks:
            do_and_mark(task, context)
        return
    with multiprocessing.get_context("fork").Pool(PROCESSES, _be_tiny) as pool:
        for _ in pool.imap_unordered(partial(_do_one, context=context), tasks, 50):
            progress(SAMPLES / SAMPLE_RATE)


def _be_tiny() -> None:
    shard_task._PROCESS[speech_stage.STAGE] = tiny_speech


def _do_one(task: ShardTask, context: Context) -> None:
    do_and_mark(task, context)


def drive(
    root: Path, work: Callable[[list[ShardTask], Context, Callable[[float], None]], None], audio: str = ""
) -> Seen:
    """Call `run` with shards done by `work`, and time what is not in it."""
    inside = [0.0, 0.0]
    told: dict[str, Any] = {}

    def execute(self: Any, stage: str, tasks: list[ShardTask], context: Context, progress: Any) -> None:
        schedule, ordered = Schedule(tasks, self.most_per_group, self.workers.processes), []
        while len(schedule):
            ordered += schedule.take()
        begun = time.perf_counter(), time.process_time()
        try:
            work(ordered, context, progress)
        finally:
            inside[0] += time.perf_counter() - begun[0]
            inside[1] += time.process_time() - begun[1]

    LocalExecutor.execute = execute  # type: ignore[method-assign]
    begun = time.perf_counter(), time.process_time()
    try:
        done = run.run(config_of(root, audio or str(root / "audio")))
        told |= {"done": done.shards_done, "kept": done.shards_kept}
    except Reached as reached:
        told |= {"pending": reached.pending}
    took = time.perf_counter() - begun[0] - inside[0], time.process_time() - begun[1] - inside[1]
    return Seen(*took, resident("VmHWM"), told)


def read_status(root: Path) -> Seen:
    """What `status` says."""
    begun = time.perf_counter(), time.process_time()
    told = status.read_status(str(root / "run"))
    return Seen(time.perf_counter() - begun[0], time.process_time() - begun[1], resident("VmHWM"), told)


def alone(call: Callable[[Path], Seen], root: Path) -> Seen:
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, root).result()


if __name__ == "__main__":
    main()
