"""A synthetic voice that detectors take for speech, for a few seconds: glottal pulses through changing formants."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from seamlessalign.rows import SAMPLE_RATE

_VOWELS = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]  # Hz


def voice(seconds: float, pitch: float = 120.0) -> NDArray[np.float32]:
    """Five vowels a second, float32 (num_samples,) at 16 kHz."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))) / SAMPLE_RATE
    pulses = np.diff(np.floor(phase), prepend=0)
    vowels = []
    for number, vowel in enumerate(np.array_split(pulses, max(1, round(seconds * 5)))):
        for formant in _VOWELS[number % len(_VOWELS)]:
            radius = np.exp(-np.pi * 80 / SAMPLE_RATE)
            vowel = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * formant / SAMPLE_RATE), radius**2], vowel)
        vowels.append(vowel * np.hanning(len(vowel)) ** 0.5)
    sound = np.concatenate(vowels)
    return np.asarray(0.3 * sound / np.abs(sound).max(), dtype=np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    """Faint noise, float32 (num_samples,) at 16 kHz."""
    return (1e-4 * np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)
