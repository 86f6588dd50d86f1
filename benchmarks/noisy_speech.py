"""Recordings to measure on, made of real prompts: pauses of any length, noise, hum, tones and chords."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seamlessalign.audio import decode
from seamlessalign.pipelines.demo_sources import LANGUAGES, fetch_prompts
from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def prompt_waveforms(cache: Path, per_language: int, seed: int = 0) -> list[Float32]:
    """Prompts of a second or more, so many in each of five languages, in an order that the seed chooses."""
    prompts = fetch_prompts(cache).prompts
    rng = np.random.default_rng(seed)
    found: list[Float32] = []
    for lang in LANGUAGES:
        keys = sorted(prompts[lang])
        chosen = (decode(prompts[lang][keys[i]].audio).samples for i in rng.permutation(len(keys)))
        long = (samples for samples in chosen if len(samples) >= SAMPLE_RATE)
        found += [samples for samples, _ in zip(long, range(per_language), strict=False)]
    return [found[i] for i in rng.permutation(len(found))]


def with_pauses(prompts: Sequence[Float32], seed: int = 0, pause_seconds: tuple[float, float] = (0.3, 6.0)) -> Float32:
    """Prompts one behind the other, each at a level of its own (down to -10 dB) and behind a pause."""
    rng = np.random.default_rng(seed)
    parts = []
    for samples in prompts:
        parts.append(np.zeros(int(rng.uniform(*pause_seconds) * SAMPLE_RATE), np.float32))
        parts.append(samples * np.float32(10 ** (rng.uniform(-10, 0) / 20)))
    return np.concatenate(parts, dtype=np.float32)


def conditions_of(speech: Float32, seed: int = 0) -> Iterator[tuple[str, Float32]]:
    """The recording under each condition, by name; a figure behind a name is the speech-to-noise ratio in dB."""
    yield "digital silence in pauses", speech
    yield "quiet room, 50 dB", _mixed(speech, _noise(seed), 50)
    for ratio in (30, 20, 10, 5, 0):
        yield f"white noise, {ratio} dB", _mixed(speech, _noise(seed), ratio)
    for ratio in (20, 10, 5):
        yield f"brown noise, {ratio} dB", _mixed(speech, _brown(seed), ratio)
    yield "mains hum, 15 dB", _mixed(speech, _hum, 15)
    yield "tones, 10 dB", _mixed(speech, _tones(seed), 10)
    yield "chords, 15 dB", _mixed(speech, _chords(seed), 15)
    yield "chords, 5 dB", _mixed(speech, _chords(seed), 5)


def _mixed(speech: Float32, sound: Callable[[int], Float64], ratio: float) -> Float32:
    """Speech and a sound that is so many dB below the mean level of what is not silent."""
    added = sound(len(speech))
    power = float(np.mean(np.square(speech[np.abs(speech) > 1e-4], dtype=np.float64)))
    gain = np.sqrt(power / np.mean(added**2)) * 10 ** (-ratio / 20)
    return np.asarray(speech + gain * added, np.float32)


def _noise(seed: int) -> Callable[[int], Float64]:
    return lambda length: np.asarray(np.random.default_rng(seed).standard_normal(length), np.float64)


def _brown(seed: int) -> Callable[[int], Float64]:
    """Noise that falls by 6 dB an octave above 80 Hz."""

    def sound(length: int) -> Float64:
        spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(length))
        frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
        return np.asarray(np.fft.irfft(spectrum / np.maximum(frequency, 80), length), np.float64)

    return sound


def _hum(length: int) -> Float64:
    time = np.arange(length) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * 50 * order * time) / order for order in range(1, 8)]
    return np.asarray(np.sum(waves, axis=0), np.float64)


def _tones(seed: int) -> Callable[[int], Float64]:
    """Steady tones of 0.3 to 3 s, with as long pauses between."""

    def sound(length: int) -> Float64:
        rng, made, at = np.random.default_rng(seed), np.zeros(length, np.float64), 0
        while at < length:
            time = np.arange(min(int(SAMPLE_RATE * rng.uniform(0.3, 3)), length - at)) / SAMPLE_RATE
            if rng.random() < 0.6:
                made[at : at + len(time)] = np.sin(2 * np.pi * rng.uniform(200, 2500) * time)
            at += len(time)
        return made

    return sound


def _chords(seed: int) -> Callable[[int], Float64]:
    """Major chords, struck every 0.4 to 1.5 s and dying away, four harmonics to a note."""

    def sound(length: int) -> Float64:
        rng, made, at = np.random.default_rng(seed), np.zeros(length, np.float64), 0
        while at < length:
            time = np.arange(min(int(SAMPLE_RATE * rng.uniform(0.4, 1.5)), length - at)) / SAMPLE_RATE
            root = 220 * 2 ** (rng.integers(0, 12) / 12)
            for note in (1, 5 / 4, 3 / 2, 2):
                for order in range(1, 5):
                    made[at : at + len(time)] += (
                        np.sin(2 * np.pi * root * note * order * time) * np.exp(-2.5 * time) / order
                    )
            at += len(time)
        return made

    return sound
