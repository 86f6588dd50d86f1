"""What settings of speech detection and over-segmentation are worth: spans they make, and F1 of the demo with them.

Each setting is a run like the demo's own but for what it sets, from speech to pairs; what was made of texts is taken
over from the demo's run. All are done by one process, one after the other, and a fragment that several settings share
is heard once. Printed are spans, spans and hours of spans for each hour of speech, F1 of each direction at the default
threshold, and means over directions of F1 at the default threshold and at the best. Runs are kept below `--work` and go
on where they were stopped. Run it as

    python -m benchmarks.span_settings --demo runs/demo --work runs/span-settings
    python -m benchmarks.span_settings --demo runs/demo --work runs/span-settings --only "as it is" cascade
"""

import argparse
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measured import cores
from seamlessalign import storage
from seamlessalign.config import load_config
from seamlessalign.embedders.student.backbones import SpeechBackbone, cut_pieces
from seamlessalign.embedders.student.frames import Frames, joined
from seamlessalign.pipelines import decoys_stage
from seamlessalign.pipelines import run as runs
from seamlessalign.pipelines.context import Context, set_progress
from seamlessalign.pipelines.demo import evaluate
from seamlessalign.pipelines.demo_data import load_truth
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.worker_process import do_group
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE, segments_schema

VAD, SPANS = "speech.vad", "speech.spans"
SETTINGS: dict[str, list[str]] = {
    "as it is": [],
    "cascade": [f"{VAD}.engine=cascade"],
    "webrtc": [f"{VAD}.engine=webrtc"],
    "threshold 0.3": [f"{VAD}.threshold=0.3"],
    "threshold 0.7": [f"{VAD}.threshold=0.7"],
    "silences from 50 ms": [f"{VAD}.min_silence_ms=50"],
    "silences from 100 ms": [f"{VAD}.min_silence_ms=100"],
    "silences from 400 ms": [f"{VAD}.min_silence_ms=400"],
    "0.5 s or more": [f"{SPANS}.min_seconds=0.5"],
    "2 s or more": [f"{SPANS}.min_seconds=2"],
    "10 s at most": [f"{SPANS}.max_seconds=10"],
    "15 s at most": [f"{SPANS}.max_seconds=15"],
    "25 s at most": [f"{SPANS}.max_seconds=25"],
    "gaps to 0.5 s": [f"{SPANS}.max_gap_seconds=0.5"],
    "gaps to 2 s": [f"{SPANS}.max_gap_seconds=2"],
    "2 fragments at most": [f"{SPANS}.max_fragments=2"],
    "4 fragments at most": [f"{SPANS}.max_fragments=4"],
    "fragments alone": [f"{SPANS}.max_fragments=1"],
}
_FROM_TEXTS = ("sentences", decoys_stage.TABLE, "state/done/text", "state/done/decoys")
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class InThisProcess:
    """An executor without processes of its own, so that what was heard is there for the next run."""

    in_shards = False

    def __init__(self, workers: Any, shards_per_group: int) -> None:
        """As the executor whose place it takes; each shard is a group."""
        self.workers = workers

    def prepare(self, stage: str, tasks: list[ShardTask], context: Context) -> None:
        """Nothing to prepare."""

    def execute(self, stage: str, tasks: list[ShardTask], context: Context, progress: Callable[[float], None]) -> None:
        """Do all shards of a stage, one after the other."""
        set_progress(lambda _, amount: progress(amount))
        for task in tasks:
            do_group(stage, [task], context)

    def close(self) -> None:
        """Nothing has to end."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="F1 of the demo by settings of speech detection and over-segmentation")
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    truth = load_truth(options.demo / "data")
    remember_what_is_heard()
    setattr(runs, "LocalExecutor", InThisProcess)  # noqa: B010 - the type is another
    rows: list[list[str]] = []
    for name in options.only:
        output = options.work / name.replace(" ", "-")
        take_texts(options.demo / "run", output)
        settings = [*SETTINGS[name], "resources.workers=1", f"resources.threads={options.threads}"]
        config = load_config(str(options.demo / "config.yaml"), settings, output=str(output))
        runs.run(config)
        rows.append([name, *spans_made(output), *quality(evaluate(truth, config, str(output)))])
        print(f"{name}: {rows[-1][-2]}", file=sys.stderr)
    directions = list(config.directions)
    head = ["setting", "spans", "per h of speech", "× speech", *directions, "mean F1", "mean best F1"]
    print("\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]))


def take_texts(done: Path, output: Path) -> None:
    """Copy what a run made of texts, unless it is there; marks say what it was made from, and are checked."""
    for part in _FROM_TEXTS:
        if (done / part).exists() and not (output / part).exists():
            shutil.copytree(done / part, output / part)


def remember_what_is_heard() -> None:
    """From now on a backbone of this process hears a piece of sound once."""
    heard: dict[tuple[str, bytes], Frames] = {}

    def frames(self: SpeechBackbone, waveform: Float32, fragments: Int64, lang: str, progress: Any = None) -> Frames:
        pieces, starts = cut_pieces(waveform, fragments, self.most_seconds)
        keys = [(lang, hashlib.sha256(piece.tobytes()).digest()) for piece in pieces]
        new = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in heard}
        if new:
            import torch

            with torch.no_grad():
                heard.update(zip(new, self.hear(list(new.values()), lang), strict=True))
        if progress is not None:
            progress(sum(len(piece) for piece in pieces) / SAMPLE_RATE)
        return joined([*(heard[key] for key in keys), self.nothing()], [*starts, 0])

    SpeechBackbone.frames = frames  # type: ignore[method-assign]


def spans_made(output: Path) -> list[str]:
    """Spans of a run, for each hour of speech, and their hours for each hour of speech."""
    recordings = storage.read_tables(str(output / "recordings"), RECORDINGS, ["speech_samples", "drop_reason"])
    segments = storage.read_tables(str(output / "segments"), segments_schema(1), ["start", "end"])
    used = [row["speech_samples"] for row in recordings.to_pylist() if row["drop_reason"] is None]
    speech = sum(used) / SAMPLE_RATE / 3600
    length = segments["end"].to_numpy() - segments["start"].to_numpy()
    return [str(len(segments)), f"{len(segments) / speech:.0f}", f"{length.sum() / SAMPLE_RATE / 3600 / speech:.2f}"]


def quality(evaluation: dict[str, Any]) -> list[str]:
    """F1 of each direction, and the means of F1 and of the best F1."""
    found = evaluation["directions"]
    means = [float(np.mean([row[key] for row in found])) for key in ("f1", "best_f1")]
    return [f"{value:.3f}" for value in [*(row["f1"] for row in found), *means]]


if __name__ == "__main__":
    main()
