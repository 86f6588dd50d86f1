"""Real speech for benchmarks of runs: the recordings of a demo, cut into pieces of equal length."""

from pathlib import Path

import soundfile

from seamlessalign.audio import decode
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import find_recordings
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.stage_plans import speech_tasks
from seamlessalign.rows import SAMPLE_RATE


def write_pieces(demo: Path, folder: Path, number: int, seconds: float) -> float:
    """Write so many pieces of a demo's recordings as FLAC, all of one length; returns the seconds of all.

    Where there are not enough recordings they are gone through again, so that pieces repeat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    length, written = int(seconds * SAMPLE_RATE), 0
    recordings = sorted(path for path in (demo / "data" / "recordings").iterdir() if "recording-01" not in path.name)
    if not recordings:
        raise SystemExit(f"{demo}: there are no recordings below data/: give the folder of a demo")
    while written < number:
        before = written
        for path in recordings:
            if written == number:
                break
            samples = decode(path).samples
            for start in range(0, len(samples) - length + 1, length)[: number - written]:
                soundfile.write(folder / f"piece-{written:04d}.flac", samples[start : start + length], SAMPLE_RATE)
                written += 1
        if written == before:
            raise SystemExit(f"{demo}: no recording is {seconds:g} s long")
    return number * seconds


def speech_run(root: Path, inputs: list[str], workers: Workers, **resources: object) -> tuple[Context, list[ShardTask]]:
    """The stage `speech` of a run of the demo's languages over some inputs, a shard for each, written to a folder."""
    raw = {
        "directions": ["eng-esA", "eng-frA", "eng-itA", "eng-ruA"],
        "output": str(root),
        "speech": {"inputs": inputs},
        "text": {"inputs": ["none"]},
        "fetch": {"allow_local": True},
        "resources": {"workers": workers.processes, "threads": workers.threads, "device": workers.device, **resources},
    }
    config: RunConfig = parse_config(raw, "benchmark")
    context = Context(config, str(root), workers.device, workers.threads)
    return context, speech_tasks(config, find_recordings(inputs), {})
