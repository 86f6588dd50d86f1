"""What is done to speech so that a student hears more than there is. All randomness comes from the generator given."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.student.training_config import AugmentConfig
from seamlessalign.sound_changes import add_noise, change_gain, change_speed

__all__ = ["Changes", "add_noise", "change_gain", "change_speed", "draw_changes", "frame_mask"]


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


def frame_mask(num_frames: int, share: float, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which frames are hidden, `(num_frames,)`: about `share` of them, in stretches of `length` that may overlap."""
    hidden = np.zeros(num_frames, np.bool_)
    count = int(share * num_frames / length + rng.random())
    for start in rng.integers(0, max(num_frames, 1), count):
        hidden[start : start + length] = True
    return hidden
