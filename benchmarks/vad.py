"""Voice activity engines beside the package silero-vad: how fast on one core, and how many frames they decide alike.

    python -m benchmarks.vad --cache .cache [--prompts 8] [--rounds 3] [--json FILE]

Recordings are Asterisk prompts of five speakers with pauses, under noise, hum, tones and chords. Each engine goes from
samples to fragments. `package, …` are the package's own ways for Python: `get_speech_timestamps` with its default model
(TorchScript) and with its ONNX model, and `VADIterator` over frames of 512 samples with that. All run by turns on one
core; printed are medians of processor time over rounds, as multiples of real time, and the share of 32 ms frames whose
decision at 0.5 is that of silero's sequence model.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.noisy_speech import conditions_of, prompt_waveforms, with_pauses
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import detect_speech
from seamlessalign.segmentation.vad import Engine, cascade_scores, possible_speech, silero_scores

Float32 = npt.NDArray[np.float32]
PEERS = ("package, TorchScript", "package, ONNX", "package, VADIterator")
OURS: tuple[Engine, ...] = ("silero", "cascade", "webrtc")
THRESHOLD = 0.5


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that Debian packages are fetched into")
    parser.add_argument("--prompts", type=int, default=8, help="prompts of each of the five speakers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    speech = with_pauses(prompt_waveforms(options.cache, options.prompts))
    recordings = dict(conditions_of(speech))
    minutes = len(speech) / SAMPLE_RATE / 60
    alike = {name: frames_alike(waveform) for name, waveform in recordings.items()}
    seconds = measure(recordings, options.rounds)
    print(f"{len(recordings)} recordings of {minutes:.1f} minutes, one core, load {os.getloadavg()[0]:.1f}\n")
    print(table(alike, seconds, minutes * 60))
    if options.json:
        options.json.write_text(json.dumps({"alike": alike, "seconds": seconds}, indent=1), encoding="utf-8")


def engines() -> dict[str, Callable[[Float32], Any]]:
    """Each way from samples to fragments, by name, its model loaded."""
    import silero_vad
    import torch

    torch.set_num_threads(1)
    script, onnx = silero_vad.load_silero_vad(), silero_vad.load_silero_vad(onnx=True)

    def iterate(waveform: Float32) -> list[Any]:
        iterator, sound = silero_vad.VADIterator(onnx), torch.from_numpy(waveform)
        whole = len(waveform) // 512 * 512
        return [found for at in range(0, whole, 512) if (found := iterator(sound[at : at + 512]))]

    return {
        PEERS[0]: lambda waveform: silero_vad.get_speech_timestamps(torch.from_numpy(waveform), script),
        PEERS[1]: lambda waveform: silero_vad.get_speech_timestamps(torch.from_numpy(waveform), onnx),
        PEERS[2]: iterate,
        **{name: partial(detect_speech, engine=name) for name in OURS},
    }


def measure(recordings: dict[str, Float32], rounds: int) -> dict[str, dict[str, float]]:
    """Median processor seconds of each engine on each recording, all by turns: by engine, then by recording."""
    ways = engines()
    taken: dict[str, dict[str, list[float]]] = {way: {name: [] for name in recordings} for way in ways}
    for detect in ways.values():
        detect(next(iter(recordings.values()))[: 10 * SAMPLE_RATE])  # what the first call does once
    for _ in range(rounds):
        for name, waveform in recordings.items():
            for way, detect in ways.items():
                begun = time.process_time()
                detect(waveform)
                taken[way][name].append(time.process_time() - begun)
    return {way: {name: statistics.median(values) for name, values in of.items()} for way, of in taken.items()}


def frames_alike(waveform: Float32) -> dict[str, float]:
    """Shares of frames: decided as the sequence model by the cascade and by the package's streaming model, and more."""
    import silero_vad
    import torch

    sequence = silero_vad.load_silero_vad(sequence=True).audio_forward(waveform)
    whole = len(waveform) // 512 * 512
    streaming = silero_vad.load_silero_vad(onnx=True).audio_forward(torch.from_numpy(waveform[:whole]), SAMPLE_RATE)
    levels = silero_scores(waveform).levels
    decided = sequence >= THRESHOLD
    return {
        "cascade": float(((cascade_scores(waveform).probabilities >= THRESHOLD) == decided).mean()),
        "streaming": float(((streaming.numpy()[0] >= THRESHOLD) == decided[: whole // 512]).mean()),
        "speech": float(decided.mean()),
        "looked at": float(possible_speech(levels).mean()),
    }


def table(alike: dict[str, dict[str, float]], seconds: dict[str, dict[str, float]], length: float) -> str:
    """Two Markdown tables: recordings, and engines over all of them."""
    lines = [
        "| recording | speech | looked at | cascade alike | streaming alike | cascade, × real time |",
        "|---" * 6 + "|",
    ]
    for name, of in alike.items():
        shares = " | ".join(f"{100 * of[key]:.2f} %" for key in ("speech", "looked at", "cascade", "streaming"))
        lines.append(f"| {name} | {shares} | {length / seconds['cascade'][name]:.0f} |")
    lines += ["", "| engine | × real time | cascade is faster by |", "|---|---|---|"]
    whole = {way: sum(of.values()) for way, of in seconds.items()}
    for way, total in whole.items():
        lines.append(f"| {way} | {length * len(alike) / total:.0f} | {total / whole['cascade']:.1f} × |")
    worst = min(alike, key=lambda name: alike[name]["cascade"])
    lines += ["", f"fewest frames alike: {100 * alike[worst]['cascade']:.2f} % ({worst})"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
