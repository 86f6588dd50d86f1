"""What is done to speech so that a student hears more than there is. All randomness comes from the generator given."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.training_config import AugmentConfig
from seamlessalign.rows import SAMPLE_RATE


@dataclass(frozen=True)
class Changes:
    """What is done to one recording; speeds are of its utterances."""

    speeds: tuple[float, ...]
    gain_db: float
    snr_db: float | None
    colour: float  # of the noise: its power falls with the frequency to this exponent


def draw_changes(config: AugmentConfig, num_utterances: int, rng: np.random.Generator) -> Changes:
    """Choose what is done. A generator in the same state chooses the same."""
    speeds = tuple(float(1 + x) for x in rng.uniform(-config.speed, config.speed, num_utterances))
    gain = float(rng.uniform(-config.gain_db, config.gain_db))
    noisy = bool(rng.random() < config.noise)
    snr = float(rng.uniform(config.min_snr_db, config.max_snr_db))
    return Changes(speeds, gain, snr if noisy else None, float(rng.uniform(0, 2)))


def change_speed(waveform: Float32, speed: float) -> Float32:
    """Speech played `speed` times as fast, in steps of a hundredth, with the pitch that this gives it."""
    import soxr

    hundredths = round(speed * 100)
    if hundredths == 100:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * hundredths, SAMPLE_RATE * 100), np.float32)


def add_noise(waveform: Float32, snr_db: float, colour: float, rng: np.random.Generator) -> Float32:
    """Speech with noise whose power is `snr_db` below that of the whole waveform.

    The noise's power falls with the frequency to the exponent `colour`: 0 is white, 1 pink, 2 brown.
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (colour / 2)
    noise = np.fft.irfft(spectrum, len(waveform))
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / 10 ** (snr_db / 10))
    power = np.sqrt(np.mean(np.square(noise)))
    return np.asarray(waveform + noise * (level / max(float(power), 1e-12)), np.float32)


def change_gain(waveform: Float32, gain_db: float) -> Float32:
    """Speech that many decibels louder."""
    return np.asarray(waveform * 10 ** (gain_db / 20), np.float32)


def frame_mask(num_frames: int, share: float, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which frames are hidden, `(num_frames,)`: about `share` of them, in stretches of `length` that may overlap."""
    hidden = np.zeros(num_frames, np.bool_)
    count = int(share * num_frames / length + rng.random())
    for start in rng.integers(0, max(num_frames, 1), count):
        hidden[start : start + length] = True
    return hidden
