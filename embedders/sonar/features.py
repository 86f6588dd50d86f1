"""Speech as SONAR's encoders take it: Kaldi filter banks, standardised over the utterance, two frames in one.

Computed here with torch alone, on any device: the same numbers, in float32, as Kaldi's `compute-fbank-feats` with 80
bins, no dither and its other defaults.
"""

import math
from functools import cache
from typing import Any

from seamlessalign.rows import SAMPLE_RATE

NUM_BINS = 80
STACKED = 2  # frames side by side in one input of the encoder
FRAME_LENGTH = SAMPLE_RATE * 25 // 1000  # samples
FRAME_SHIFT = SAMPLE_RATE * 10 // 1000
MIN_SAMPLES = FRAME_LENGTH + (STACKED - 1) * FRAME_SHIFT  # of which one input can be made
_FFT = 512  # the power of two that a frame fits into
_SCALE = 2.0**15  # samples as 16-bit integers
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20.0
_FLOOR = 2.0**-23  # of energies, before the logarithm
_VARIANCE_FLOOR = 1e-7  # a bin that never changes becomes 0, not NaN


def num_inputs(num_samples: int) -> int:
    """How many inputs the encoder gets for so many samples; a frame without a partner is left out."""
    if num_samples < FRAME_LENGTH:
        return 0
    return (1 + (num_samples - FRAME_LENGTH) // FRAME_SHIFT) // STACKED


def fbank(waveform: Any) -> Any:
    """Log mel energies of a float tensor of samples within ±1 at 16 kHz; float32 `(num_frames, 80)`."""
    import torch

    frames = waveform.float().mul(_SCALE).unfold(0, FRAME_LENGTH, FRAME_SHIFT)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    frames = (frames - _PREEMPHASIS * before) * _window().to(frames.device)
    power = torch.fft.rfft(frames, n=_FFT).abs().square()[:, : _FFT // 2]
    return (power @ _mel_filters().to(frames.device)).clamp(min=_FLOOR).log()


def standardise(frames: Any) -> Any:
    """Each bin less its mean over the utterance, divided by its standard deviation (of a sample: n - 1)."""
    deviation = (frames.var(0, keepdim=True, correction=1) + _VARIANCE_FLOOR).sqrt()
    return (frames - frames.mean(0, keepdim=True)) / deviation


def features(waveform: Any) -> Any:
    """A waveform of at least `MIN_SAMPLES` as inputs of the encoder, float32 `(num_inputs, 160)`.

    The mean and deviation are those of all frames, also of a last one that has no partner.
    """
    frames = standardise(fbank(waveform))
    count = len(frames) // STACKED
    return frames[: count * STACKED].reshape(count, STACKED * NUM_BINS)


@cache
def _window() -> Any:
    """Kaldi's own window (Povey): Hann, raised to 0.85."""
    import torch

    return torch.hann_window(FRAME_LENGTH, periodic=False).pow(0.85)


@cache
def _mel_filters() -> Any:
    """Triangles of equal width in mel, `(256, 80)`, whose flanks are straight in mel, not in hertz."""
    import torch

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    lowest, highest = mel(_LOWEST_HZ), mel(SAMPLE_RATE / 2)
    width = (highest - lowest) / (NUM_BINS + 1)
    places = 1127.0 * (1.0 + torch.arange(_FFT // 2) * (SAMPLE_RATE / _FFT) / 700.0).log()[:, None]
    left, centre, right = (lowest + (torch.arange(NUM_BINS) + i) * width for i in range(3))
    return torch.minimum((places - left) / (centre - left), (right - places) / (right - centre)).clamp(min=0.0)
