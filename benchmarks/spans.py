"""One pass for all spans against encoding each span: the same recordings, the same candidates, one run.

Candidates are those of a run over the demo: speech detected and over-segmented as the configuration's defaults say.
An embedder over Whisper hears each span twice more: padded to 30 s, which is how Whisper is run everywhere else, and
in our windows, which end 2 s behind the speech. So the ratio has two parts, what windows save and what one pass saves.
Each way is a process of its own; ways take turns, and medians are compared. `hearing` is what an embedder does to sound
(Whisper's encoder and decoder, a student's backbone), `encoder` the part of it in Whisper's encoder, `pooling` what it
does for each span (embedding transcripts, pooling frames). A way's memory is its highest beside what model and sound
took before.

P@1 is over spans that are a prompt's, within 80 % of both: the best of each prompt against all English sentences of the
demo, those that nobody says among them. Run it as

    python -m benchmarks.spans --demo runs/demo --minutes 3
    python -m benchmarks.spans --demo runs/demo --minutes 3 --student runs/student
    python -m benchmarks.spans --demo runs/demo --mine --embedder whisper-e5

With `--mine` the whole demo is mined both ways, with its own settings, in place of all else: F1 of each direction, at
the default threshold and the best. Runs are kept below the demo's folder, and go on where they were stopped.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measured import Clock, Measured, by_turns, cores, measure, part_of, peak_of, seconds_of
from seamlessalign import whisper
from seamlessalign.audio import decode
from seamlessalign.config import SpeechConfig, load_config
from seamlessalign.embedders import SpeechEmbedder, load_speech_embedder, load_text_embedder
from seamlessalign.pipelines.demo import evaluate
from seamlessalign.pipelines.demo_data import MIN_OVERLAP, TEXT_LANGUAGE, DemoTruth, load_truth
from seamlessalign.pipelines.demo_sources import normalise
from seamlessalign.pipelines.run import run as mine
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import detect_speech, over_segment

USUAL = "each, 30 s"
EACH = "each span"
ONE_PASS = "one pass"
FULL_WINDOW = 30 * SAMPLE_RATE
PARTS = ("encoder", "hearing", "pooling")
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """The first minutes of a recording of one language, and what is embedded of it."""

    lang: str
    uri: str  # below the demo's folder
    waveform: Float32
    fragments: Int64
    spans: Int64


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="one pass for all spans against encoding each span, in one run")
    parser.add_argument("--demo", type=Path, required=True, help="a demo's folder, or the `data` in it")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each language's recording")
    parser.add_argument("--embedder", default="transcribe-e5")
    parser.add_argument("--student", type=Path, help="a student's directory, in place of --embedder")
    parser.add_argument("--mine", action="store_true", help="mine the whole demo both ways, and print F1")
    parser.add_argument("--text", default="e5-small", help="text embedder in whose space spans are")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    demo = options.demo / "data" if (options.demo / "data").is_dir() else options.demo
    name = "student" if options.student else options.embedder
    models = {"student": str(options.student)} if options.student else {}
    if options.mine:
        print_mined(options.demo, name, models, options.threads)
        return

    ways = (USUAL, EACH, ONE_PASS) if hears_by_whisper(name, models) else (EACH, ONE_PASS)
    runs = by_turns(ways, options.rounds, run, demo, options.minutes, name, models, options.threads)
    sides = load_sides(demo, options.minutes)
    num_spans = sum(len(side.spans) for side in sides)
    print(f"{name}, {options.threads} threads of {cores()} cores, {options.rounds} rounds; {len(sides)} languages")
    spans = sum(_seconds(side.spans) for side in sides)
    speech = sum(_seconds(side.fragments) for side in sides)
    print(f"{num_spans} spans of {spans / 3600:.3f} h in all, made of {speech / 3600:.3f} h of speech", end="")
    print(f": {spans / speech:.2f} times over\n")
    print(f"{'seconds':<12}" + "".join(f"{part:>10}" for part in PARTS) + f"{'together':>10}{'peak MiB':>10}")
    for way, done in runs.items():
        parts = "".join(f"{part_of(done, part):>10.1f}" for part in PARTS)
        print(f"{way:<12}{parts}{seconds_of(done):>10.1f}{peak_of(done):>10.0f}")
    print("one pass is cheaper by")
    for way in ways[:-1]:
        shown = "".join(_ratio(part_of(runs[way], part), part_of(runs[ONE_PASS], part)) for part in PARTS)
        print(f"{way:<12}{shown}{_ratio(seconds_of(runs[way]), seconds_of(runs[ONE_PASS]))}")
    print()
    print_precision(demo, sides, {way: done[0].result for way, done in runs.items()}, options.text)


def load_sides(demo: Path, minutes: float) -> list[Side]:
    """The demo's recordings in other languages than its texts', each as far as so many minutes."""
    config, sides = SpeechConfig(), []
    truth = load_truth(demo)
    for lang, uri in sorted({(row["lang"], row["uri"]) for row in truth.placed.to_pylist()}):
        if lang == TEXT_LANGUAGE:
            continue
        waveform = decode(demo / uri).samples[: int(minutes * 60 * SAMPLE_RATE)]
        fragments = detect_speech(waveform, **config.vad.model_dump(exclude={"keep_probabilities"}))
        found = over_segment(fragments, **config.spans.model_dump())
        if not len(found):
            continue
        used = np.unique(np.concatenate([np.arange(first, last) for first, last in found.fragments]))
        sides.append(Side(lang, uri, np.array(waveform), fragments[used], found.spans))
    return sides


def run(way: str, demo: Path, minutes: float, name: str, models: dict[str, str], threads: int) -> Measured:
    """Embed all spans one way; the result is a language's rows after the other's."""
    import torch

    torch.set_num_threads(threads)
    sides, clock = load_sides(demo, minutes), Clock()
    if way == USUAL:
        whisper.window_samples = lambda num_samples: FULL_WINDOW  # of this process alone
    embedder = load_speech_embedder(name, models, threads=threads)
    for side in sides:  # what happens once is not counted
        embedder.embed(side.waveform, side.fragments[:1], side.lang, side.fragments)
    watch(embedder, clock)

    def work() -> list[Float32]:
        return [
            embedder.embed(side.waveform, side.spans, side.lang, side.fragments if way == ONE_PASS else None)
            for side in sides
        ]

    return measure(work, clock)


def hears_by_whisper(name: str, models: dict[str, str]) -> bool:
    """Whether an embedder's sound goes through Whisper's encoder."""
    if name != "student":
        return True
    config = json.loads((Path(models["student"]) / "config.json").read_text(encoding="utf-8"))
    return str(config["student"]["backbone"]["kind"]).startswith("whisper")


def watch(embedder: SpeechEmbedder, clock: Clock) -> None:
    """Count what an embedder does with sound and with spans; the encoder's part lies inside `hearing`."""
    from seamlessalign.embedders.speech import TranscribingEmbedder

    clock.watch(whisper.Whisper, "_encode", "encoder")
    if isinstance(embedder, TranscribingEmbedder):
        clock.watch(embedder, "hear", "hearing")
        clock.watch(embedder, "_embed_texts", "pooling")
        return
    from seamlessalign.embedders.student.embedder import StudentEmbedder

    if not isinstance(embedder, StudentEmbedder):
        raise SystemExit(f"{embedder.name}: neither transcribes nor is a student")
    clock.watch(embedder.student.backbone, "frames", "hearing")
    clock.watch(embedder.student, "pool", "pooling")


def print_precision(demo: Path, sides: list[Side], rows: dict[str, list[Float32]], text: str) -> None:
    """Print for each language how many right spans find their sentence, and how alike a span's two rows are."""
    truth = load_truth(demo)
    sentences = list(dict.fromkeys(normalise(row["text"]) for row in truth.texts.to_pylist()))
    texts = load_text_embedder(text).embed(sentences, TEXT_LANGUAGE)
    found: dict[str, list[Any]] = {way: [] for way in rows}
    print(f"{'P@1':<12}" + "".join(f"{way:>12}" for way in rows) + f"{'right spans':>14}{'cosine of both':>16}")
    for i, side in enumerate(sides):
        places, english = right_spans(truth, side)
        wanted = np.array([sentences.index(sentence) for sentence in english], np.int64)
        cosines = np.nanmean((rows[EACH][i] * rows[ONE_PASS][i]).sum(1))
        if not len(places):
            continue
        for way in rows:
            best = np.nan_to_num(rows[way][i][places], nan=0.0) @ texts.T
            found[way].append(best.argmax(1) == wanted)
        shares = "".join(f"{found[way][-1].mean():>12.3f}" for way in rows)
        print(f"{side.lang:<12}{shares}{len(places):>14}{cosines:>16.4f}")
    if not found[EACH]:
        print("no span is a prompt's: take more minutes")
        return
    shares = "".join(f"{np.concatenate(found[way]).mean():>12.3f}" for way in rows)
    print(f"{'all':<12}{shares}{sum(len(part) for part in found[EACH]):>14}")


def print_mined(root: Path, name: str, models: dict[str, str], threads: int) -> None:
    """Mine a demo with each span heard by itself and with one pass, and print how good both are."""
    truth = load_truth(root / "data")
    found: dict[str, dict[str, Any]] = {}
    for way, frames in ((ONE_PASS, "shared"), (EACH, "each")):
        output = str(root / f"spans-{name}-{frames}")
        settings = [f"speech.embedder={name}", f"speech.frames={frames}", f"resources.threads={threads}"]
        settings += [f"models.{model}={Path(folder).absolute()}" for model, folder in models.items()]
        config = load_config(str(root / "config.yaml"), [*settings, "resources.workers=1"], output=output)
        mine(config)
        found[way] = {row["direction"]: row for row in evaluate(truth, config, output)["directions"]}
    print(f"{'':<10}" + "".join(f"{way:>30}" for way in found))
    columns = f"{'spans':>8}{'F1':>8}{'best':>8}{'kept':>6}"
    print(f"{'direction':<10}" + columns * len(found))
    for direction in found[EACH]:
        rows = [found[way][direction] for way in found]
        print(
            f"{direction:<10}"
            + "".join(f"{row['spans']:>8}{row['f1']:>8.3f}{row['best_f1']:>8.3f}{row['kept']:>6}" for row in rows)
        )
    means = [
        [float(np.mean([row[key] for row in rows.values()])) for key in ("f1", "best_f1")] for rows in found.values()
    ]
    print(f"{'mean':<10}" + "".join(f"{'':>8}{f1:>8.3f}{best:>8.3f}{'':>6}" for f1, best in means))


def right_spans(truth: DemoTruth, side: Side) -> tuple[Int64, list[str]]:
    """Of each prompt the span that overlaps it most, where they count as the same, and the prompt's English text."""
    places, english = [], []
    starts, ends = side.spans.T
    for row in truth.placed.to_pylist():
        if row["uri"] != side.uri or row["lang"] != side.lang:
            continue
        common = np.minimum(ends, row["end"]) - np.maximum(starts, row["start"])
        either = np.maximum(ends, row["end"]) - np.minimum(starts, row["start"])
        best = int(np.argmax(common / either))
        if common[best] / either[best] >= MIN_OVERLAP:
            places.append(best)
            english.append(normalise(row["english"]))
    return np.array(places, np.int64), english


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:>10.2f}" if theirs else f"{'':>10}"


def _seconds(stretches: Int64) -> float:
    return float((stretches[:, 1] - stretches[:, 0]).sum()) / SAMPLE_RATE


if __name__ == "__main__":
    main()
