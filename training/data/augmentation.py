"""What is done to speech that is learnt, and to its features. All randomness comes from the generator given."""

import numpy as np
import numpy.typing as npt

from seamlessalign import sound_changes
from seamlessalign.embedders.sonar.features import NUM_BINS
from seamlessalign.training.data.settings import AugmentSettings

Float32 = npt.NDArray[np.float32]


def slowest_speed(settings: AugmentSettings) -> float:
    """The least speed at which speech is heard, in the hundredths that `change_speed` goes by."""
    return round((1 - settings.speed) * 100) / 100


def changed(waveform: Float32, settings: AugmentSettings, rng: np.random.Generator) -> Float32:
    """A waveform with its changes: speed, a room, noise, gain.

    All choices are drawn, whether they are used or not, so that one share does not move the others.
    """
    speed = float(1 + rng.uniform(-settings.speed, settings.speed))
    reverb, noise = rng.random(2)
    seconds = float(rng.uniform(0.1, max(0.1, settings.max_reverb_seconds)))
    direct = float(rng.uniform(0, 12))
    snr = float(rng.uniform(settings.min_snr_db, settings.max_snr_db))
    tilt, gain = float(rng.uniform(0, 2)), float(rng.uniform(-settings.gain_db, settings.gain_db))
    samples = sound_changes.change_speed(waveform, speed)
    if reverb < settings.reverb:
        samples = sound_changes.convolved(samples, sound_changes.room_response(seconds, direct, rng))
    if noise < settings.noise:
        samples = sound_changes.add_noise(samples, snr, tilt, rng)
    return sound_changes.change_gain(samples, gain) if gain else samples


def masked(features: Float32, settings: AugmentSettings, rng: np.random.Generator) -> Float32:
    """Features `(num_frames, 160)`, two frames of 80 bins each, with stretches of bins and of frames at 0, their mean.

    SpecAugment (Park et al. 2019, arXiv 1904.08779, section 2): a mask of frequencies is f bins wide, f uniform over
    [0, F], from a bin that is uniform over [0, 80 - f); one of time t frames, t uniform over [0, T] and at most a share
    p of all frames. Time is not warped.
    """
    frames = features.reshape(-1, NUM_BINS).copy()
    for _ in range(settings.frequency_masks):
        width = int(rng.integers(0, min(settings.frequency_width, NUM_BINS - 1) + 1))
        start = int(rng.integers(0, NUM_BINS - width))
        frames[:, start : start + width] = 0
    for _ in range(settings.time_masks):
        width = int(rng.integers(0, min(settings.time_width, int(settings.time_share * len(frames))) + 1))
        start = int(rng.integers(0, len(frames) - width + 1))
        frames[start : start + width] = 0
    return frames.reshape(features.shape)
