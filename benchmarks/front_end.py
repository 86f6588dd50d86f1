"""The speech front end on one core: decode, find speech, identify the language, over-segment; hours per core-hour.

    python -m benchmarks.front_end --cache .cache [--hours 0.17 1 10] [--rounds 3] [--no-lid] [--json FILE]

Recordings are Asterisk prompts of five speakers with pauses in quiet noise, over and over until they are as long as
wanted: FLAC at 16 kHz of each length, and an hour in each of several formats. Each is done in a process of its own, all
by turns; printed are medians of processor seconds of the process and of the ffmpeg that it starts, as hours of audio
per core-hour, and the most memory resident beyond what the loaded models take.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from benchmarks.measured import Clock, Measured, by_turns, measure, peak_of
from benchmarks.noisy_speech import Float32, conditions_of, prompt_waveforms, with_pauses
from seamlessalign.audio import decode, release
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import over_segment
from seamlessalign.segmentation.vad import Engine, detect_speech

_T = TypeVar("_T")
ENGINES: tuple[Engine, ...] = ("silero", "cascade")
LID = "whisper-base"
FORMATS = {  # name → (suffix, Hz, channels, how it is written)
    "wav 44.1 kHz stereo": ("wav", 44_100, 2, "WAV/PCM_16"),
    "mp3 44.1 kHz stereo": ("mp3", 44_100, 2, "MP3/MPEG_LAYER_III"),
    "opus 48 kHz mono": ("opus", 48_000, 1, "OGG/OPUS"),
    "m4a 44.1 kHz stereo, by ffmpeg": ("m4a", 44_100, 2, "ffmpeg"),
}


def main() -> None:
    """Make the recordings, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that Debian packages are fetched into")
    parser.add_argument("--hours", type=float, nargs="+", default=[1 / 6, 1, 10])
    parser.add_argument("--format-hours", type=float, default=1.0, help="length in each format; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-lid", action="store_true", help="do without the identifier, which needs Whisper")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    lid = None if options.no_lid else LID
    with tempfile.TemporaryDirectory(prefix="front-end-") as folder:
        named = make_recordings(options.cache, Path(folder), options.hours, options.format_hours)
        names = [f"{name}, {engine}" for name in named for engine in ENGINES]
        places = {name: str(path) for name, (path, _) in named.items()}
        runs = by_turns(names, options.rounds, one, places, lid)
    lengths = {f"{name}, {engine}": hours for name, (_, hours) in named.items() for engine in ENGINES}
    print(f"one core, load {os.getloadavg()[0]:.1f}; hours of audio per core-hour\n")
    print(table(runs, lengths))
    if options.json:
        found = {name: [{**run.parts, "peak_mib": run.peak_mib} for run in of] for name, of in runs.items()}
        options.json.write_text(json.dumps({"hours": lengths, "runs": found}, indent=1), encoding="utf-8")


def make_recordings(
    cache: Path, folder: Path, hours: list[float], format_hours: float
) -> dict[str, tuple[Path, float]]:
    """Write the recordings; path and hours of each by name."""
    speech = dict(conditions_of(with_pauses(prompt_waveforms(cache, 12))))["white noise, 30 dB"]
    speech = speech / max(1.0, float(np.abs(speech).max()))
    made = {}
    for length in hours:
        path = folder / f"{length:g}.flac"
        _repeated(path, speech, SAMPLE_RATE, 1, length, "FLAC/PCM_16")
        made[f"flac 16 kHz mono, {length:.3g} h"] = (path, length)
    for name, (suffix, rate, channels, kind) in FORMATS.items() if format_hours else ():
        path = folder / f"format.{suffix}"
        if kind == "ffmpeg":
            if shutil.which("ffmpeg") is None:
                continue
            command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(folder / "format.wav"), "-c:a", "aac", str(path)]
            subprocess.run(command, check=True)
        else:
            _repeated(path, speech, rate, channels, format_hours, kind)
        made[f"{name}, {format_hours:.3g} h"] = (path, format_hours)
    return made


def _repeated(path: Path, speech: Float32, rate: int, channels: int, hours: float, kind: str) -> None:
    container, _, subtype = kind.partition("/")
    sound = speech if rate == SAMPLE_RATE else soxr.resample(speech, SAMPLE_RATE, rate)
    frames = np.repeat(np.clip(sound, -1, 1)[:, None], channels, axis=1)
    left = round(hours * 3600 * rate)
    with soundfile.SoundFile(path, "w", rate, channels, format=container, subtype=subtype) as file:
        while left > 0:
            for first in range(0, min(left, len(frames)), rate):  # libvorbis and opus want short writes
                file.write(frames[first : min(first + rate, left, len(frames))])
            left -= min(left, len(frames))


def one(name: str, places: dict[str, str], lid: str | None) -> Measured:
    """One recording through the front end, in this process; the parts are processor seconds."""
    recording, _, engine = name.rpartition(", ")
    path = Path(places[recording])
    identifier = None
    if lid is not None:
        import torch

        from seamlessalign.lid import load_speech_lid

        torch.set_num_threads(1)
        identifier = load_speech_lid(lid)
    warm = 0.01 * np.random.default_rng(0).standard_normal(SAMPLE_RATE * 30).astype(np.float32)
    detect_speech(warm, engine=engine)  # type: ignore[arg-type]
    if identifier is not None:
        identifier.identify(warm)
    parts: dict[str, float] = {}

    def step(stage: str, work: Callable[[], _T]) -> _T:
        begun = _processor_seconds()
        result = work()
        parts[stage] = _processor_seconds() - begun
        return result

    def work() -> int:
        samples = step("decode", lambda: decode(path)).samples
        fragments = step("vad", lambda: detect_speech(samples, engine=engine))  # type: ignore[arg-type]
        if identifier is not None:
            step("lid", lambda: identifier.identify(samples, fragments))
        spans = step("spans", lambda: over_segment(fragments))
        release(samples)
        return len(spans)

    measured = measure(work, Clock())
    return Measured(measured.seconds, measured.peak_mib, parts, measured.result)


def _processor_seconds() -> float:
    """Of this process and of its children that have ended, all threads."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def table(runs: dict[str, list[Measured]], hours: dict[str, float]) -> str:
    """A Markdown table: one line for each recording and engine."""
    stages = list(next(iter(runs.values()))[0].parts)
    lines = [f"| recording, engine | {' | '.join(stages)} | together | MiB | spans |", "|---" * (len(stages) + 4) + "|"]
    for name, of in runs.items():
        length = hours[name] * 3600
        cells = [f"{length / max(statistics.median(run.parts[stage] for run in of), 1e-4):.0f}" for stage in stages]
        whole = statistics.median(sum(run.parts.values()) for run in of)
        cells += [f"{length / whole:.0f}", f"{peak_of(of):.0f}", f"{of[0].result}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
