"""How fast `embed` is: hours of speech per core-hour, and sentences a second, of every embedder that is here.

Speech is that of a demo, with the candidate spans and fragments of a run over it; hours are of the fragments, however
many spans they are part of. Each embedder is a process of its own, with so many threads of torch; they take turns, and
medians are printed. Core-hours are those that the process really used, so that a busy machine counts less than by the
clock; loading is not counted. Run it as

    python -m benchmarks.embed --demo runs/demo --minutes 2
    python -m benchmarks.embed --demo runs/demo --student runs/student --device cuda
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measured import Clock, Measured, by_turns, cores, measure, peak_of, seconds_of
from benchmarks.spans import load_sides
from seamlessalign.embedders import load_speech_embedder, load_text_embedder, speech_models
from seamlessalign.embedders.text import TEXT_EMBEDDERS
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.model_files import find_model, place_of
from seamlessalign.pipelines.demo_data import TEXT_LANGUAGE, load_truth
from seamlessalign.rows import SAMPLE_RATE

SPEECH_EMBEDDERS = ("transcribe-e5", "transcribe-labse", "whisper-e5", "sonar")


def main() -> None:
    """Print a table of speech embedders and one of text embedders."""
    parser = argparse.ArgumentParser(description="throughput of embedders")
    parser.add_argument("--demo", type=Path, required=True, help="a demo's folder, or the `data` in it")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each language's recording")
    parser.add_argument("--sentences", type=int, default=1000, help="of the demo's English ones")
    parser.add_argument("--student", type=Path, help="a student's directory, to be measured too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    demo = options.demo / "data" if (options.demo / "data").is_dir() else options.demo
    models = {"student": str(options.student)} if options.student else {}
    print(f"{machine()}; {options.threads} threads, device {options.device}, medians of {options.rounds} rounds")

    languages = sorted({side.lang for side in load_sides(demo, options.minutes)})
    names = [name for name in (*SPEECH_EMBEDDERS, *models) if speech_is_here(name, languages, models)]
    given = (demo, options.minutes, models, options.threads, options.device)
    runs = by_turns(names, options.rounds, embed_speech, *given)
    print(f"\n{'speech':<24}{'spans':>8}{'hours':>8}{'× real time':>13}{'h / core-hour':>15}{'peak MiB':>10}")
    for name, done in runs.items():
        spans, speech, _ = done[0].result
        used = statistics.median(run.result[2] for run in done)
        fast, per_core = speech / seconds_of(done), speech / used
        print(f"{name:<24}{spans:>8}{speech / 3600:>8.3f}{fast:>13.1f}{per_core:>15.1f}{peak_of(done):>10.0f}")

    names = [name for name in TEXT_EMBEDDERS if is_here(name, [name], {})]
    runs = by_turns(names, options.rounds, embed_texts, demo, options.sentences, options.threads, options.device)
    print(f"\n{'text':<24}{'sentences':>10}{'a second':>11}{'a core-second':>15}{'peak MiB':>10}")
    for name, done in runs.items():
        count = done[0].result[0]
        used = statistics.median(run.result[1] for run in done)
        print(f"{name:<24}{count:>10}{count / seconds_of(done):>11.1f}{count / used:>15.1f}{peak_of(done):>10.0f}")


def embed_speech(
    name: str, demo: Path, minutes: float, models: Mapping[str, str], threads: int, device: str
) -> Measured:
    """Embed a demo's spans; the result is how many, of how many seconds of speech, and core-seconds."""
    import torch

    torch.set_num_threads(threads)
    sides = load_sides(demo, minutes)
    embedder = load_speech_embedder(name, models, device, threads)
    for side in sides:  # what happens once is not counted
        embedder.embed(side.waveform, side.fragments[:1], side.lang, side.fragments)

    def work() -> tuple[int, float, float]:
        begun = time.process_time()
        for side in sides:
            embedder.embed(side.waveform, side.spans, side.lang, side.fragments)
        used = time.process_time() - begun
        speech = sum(int((side.fragments[:, 1] - side.fragments[:, 0]).sum()) for side in sides) / SAMPLE_RATE
        return sum(len(side.spans) for side in sides), speech, used

    return measure(work, Clock())


def embed_texts(name: str, demo: Path, count: int, threads: int, device: str) -> Measured:
    """Embed a demo's sentences; the result is how many, and core-seconds."""
    sentences = load_truth(demo).texts["text"].to_pylist()[:count]
    embedder = load_text_embedder(name, device=device, threads=threads)
    embedder.embed(sentences[:1], TEXT_LANGUAGE)

    def work() -> tuple[int, float]:
        begun = time.process_time()
        embedder.embed(sentences, TEXT_LANGUAGE)
        return len(sentences), time.process_time() - begun

    return measure(work, Clock())


def speech_is_here(name: str, languages: list[str], models: Mapping[str, str]) -> bool:
    """As `is_here`, of a speech embedder in these languages."""
    try:
        needed = speech_models(name, languages, models)
    except SeamlessAlignError as error:
        print(f"{name}: left out: {error}")
        return False
    return is_here(name, needed, models)


def is_here(name: str, needed: list[str], models: Mapping[str, str]) -> bool:
    """Whether all models that an embedder needs can be found without a download; says so where not."""
    try:
        for model in needed:
            find_model(model, place_of(model, models), online=False)
    except SeamlessAlignError as error:
        print(f"{name}: left out: {error}")
        return False
    return True


def machine() -> str:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    named = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = named[0] if named else platform.machine()
    return f"{cores()} cores of {name}, {memory:.0f} GiB of memory, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
