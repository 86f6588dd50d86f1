"""Sounds that are not speech, made: what the model of music and noise learns from beside recordings, and is tried on.

Each function gives float32 (num_samples,) at 16 kHz, of about full scale; all randomness comes from the generator.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Sound = Callable[[int, np.random.Generator], Float32]

_SCALE = (0, 2, 4, 5, 7, 9, 11)  # half-tones of a major scale
_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))


def tones(num_samples: int, rng: np.random.Generator) -> Float32:
    """Pure tones of 0.3 to 3 s, some with silence between: signals of lines and devices."""
    parts: list[Float64] = []
    while sum(map(len, parts)) < num_samples:
        time = _time(rng.uniform(0.3, 3))
        parts.append(np.sin(2 * np.pi * rng.uniform(200, 2500) * time))
        parts.append(np.zeros(int(rng.choice((0, 0.2, 0.5)) * SAMPLE_RATE)))
    return _full_scale(np.concatenate(parts)[:num_samples])


def chords(num_samples: int, rng: np.random.Generator) -> Float32:
    """Chords of a major key, struck every 0.4 to 1.5 s and dying away, six partials to a note."""
    made, at, root = np.zeros(num_samples), 0, int(rng.integers(45, 60))
    while at < num_samples:
        length = rng.uniform(0.4, 1.5)
        for step in _CHORDS[rng.integers(len(_CHORDS))]:
            _add(made, at, _note(root + step, length, rng.uniform(0.5, 4)))
        at += int(length * SAMPLE_RATE)
    return _full_scale(made)


def melody(num_samples: int, rng: np.random.Generator) -> Float32:
    """A tune with vibrato over a bass, with drums: kick, snare and cymbal on a beat of 90 to 150 a minute."""
    made, root, beat = np.zeros(num_samples), int(rng.integers(48, 60)), 60 / rng.uniform(90, 150)
    step = int(beat / 2 * SAMPLE_RATE)
    place = 0
    for number, at in enumerate(range(0, num_samples, step)):
        if rng.random() < 0.7:
            place = int(np.clip(place + rng.integers(-2, 3), -4, 10))
            key = root + 12 + 12 * (place // 7) + _SCALE[place % 7]
            _add(made, at, _note(key, beat * rng.choice((0.5, 1)), 2.0, vibrato=0.005))
        if number % 2 == 0:
            _add(made, at, 0.8 * _note(root - 12 + _SCALE[int(rng.integers(5))], beat, 3.0))
        if number % 4 == 0:
            time = _time(0.2)
            _add(made, at, 1.5 * np.sin(2 * np.pi * (50 * time - 4 * np.exp(-30 * time))) * np.exp(-15 * time))
        if number % 4 == 2:
            _add(made, at, 0.8 * _hit(0.15, 25, rng))
        _add(made, at, 0.2 * np.diff(_hit(0.05, 80, rng), prepend=0))
    return _full_scale(made)


def white(num_samples: int, rng: np.random.Generator) -> Float32:
    """White noise."""
    return _full_scale(rng.standard_normal(num_samples))


def brown(num_samples: int, rng: np.random.Generator) -> Float32:
    """Noise that falls by 6 dB an octave above 80 Hz, as of wind and traffic."""
    return _shaped(num_samples, rng, lambda hertz: 1 / np.maximum(hertz, 80))


def gusts(num_samples: int, rng: np.random.Generator) -> Float32:
    """Noise around a frequency that wanders, at a level that does: wind, waves, machines."""
    made = np.zeros(num_samples)
    for _ in range(4):
        middle = rng.uniform(150, 3000)
        width = middle * rng.uniform(0.2, 1)
        band = _shaped(num_samples, rng, lambda hertz, m=middle, w=width: np.exp(-(((hertz - m) / w) ** 2)))  # type: ignore[misc]
        slow = _shaped(num_samples, rng, lambda hertz: (hertz < 0.7).astype(np.float64))
        made += band * 10**slow
    return _full_scale(made)


def hum(num_samples: int, rng: np.random.Generator) -> Float32:
    """Hum of the mains with its harmonics, and some noise."""
    time = np.arange(num_samples) / SAMPLE_RATE
    mains = rng.choice((50, 60))
    waves = [rng.random() / order * np.sin(2 * np.pi * mains * order * time + rng.random()) for order in range(1, 30)]
    return _full_scale(np.sum(waves, axis=0) + rng.uniform(0.003, 0.1) * rng.standard_normal(num_samples))


def clicks(num_samples: int, rng: np.random.Generator) -> Float32:
    """Clicks and knocks, at random or at a steady rate, in faint noise."""
    made = 0.003 * rng.standard_normal(num_samples)
    rate = rng.uniform(1, 12)
    gap = SAMPLE_RATE / rate
    steady = np.arange(0, num_samples, gap)
    places = steady if rng.random() < 0.5 else rng.uniform(0, num_samples, len(steady))
    for at in places.astype(np.int64).tolist():
        _add(made, at, np.asarray(rng.uniform(0.3, 1) * _hit(0.1, rng.uniform(40, 400), rng)))
    return _full_scale(made)


def rain(num_samples: int, rng: np.random.Generator) -> Float32:
    """Hundreds of drops a second."""
    made = np.zeros(num_samples)
    drops = _hit(0.02, 300, rng)
    for at in rng.uniform(0, num_samples, num_samples * 300 // SAMPLE_RATE).astype(np.int64).tolist():
        _add(made, at, rng.exponential() * drops)
    return _full_scale(made)


def babble(voices: Sequence[Float32], num_samples: int, rng: np.random.Generator) -> Float32:
    """All voices at once, each from a place of its own."""
    made = np.zeros(num_samples)
    for voice in voices:
        turned = np.roll(voice, int(rng.integers(len(voice))))
        made += np.resize(turned, num_samples) / max(float(np.sqrt(np.mean(np.square(voice)))), 1e-6)
    return _full_scale(made)


def _time(seconds: float) -> Float64:
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _note(key: float, seconds: float, decay: float, vibrato: float = 0.0) -> Float64:
    """A note by its MIDI number, of six partials, dying away at `decay` nepers a second."""
    time = _time(seconds)
    phase = 440 * 2 ** ((key - 69) / 12) * (time + vibrato / 5 * np.sin(2 * np.pi * 5 * time))
    partials = [np.sin(2 * np.pi * order * phase) / order for order in range(1, 7)]
    return np.asarray(np.sum(partials, axis=0) * np.exp(-decay * time) * np.minimum(time * 200, 1))


def _hit(seconds: float, decay: float, rng: np.random.Generator) -> Float64:
    time = _time(seconds)
    return np.asarray(rng.standard_normal(len(time)) * np.exp(-decay * time))


def _add(made: Float64, at: int, sound: Float64) -> None:
    room = made[at : at + len(sound)]
    room += sound[: len(room)]


def _shaped(num_samples: int, rng: np.random.Generator, gain: Callable[[Float64], Float64]) -> Float32:
    hertz = np.asarray(np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE), np.float64)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples)) * gain(hertz)
    return _full_scale(np.fft.irfft(spectrum, num_samples))


def _full_scale(made: Float64) -> Float32:
    return np.asarray(made / max(float(np.abs(made).max(initial=0)), 1e-9), np.float32)
