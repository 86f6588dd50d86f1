"""How likely a span is music or noise rather than speech, from simple features of the sound and a logistic model.

Speech is told from other sounds by what its levels and spectra do over time. Syllables make its bands rise and fall
about four times a second and leave many quiet frames, its spectrum jumps between voiced and unvoiced sounds, and its
pitch glides, where music holds tones and noise has none (Saunders 1996, "Real-time discrimination of broadcast
speech/music"; Scheirer and Slaney 1997, "Construction and evaluation of a robust multifeature speech/music
discriminator"). Features are relative to the sound around a frame, so that levels do not matter, and use the band of a
telephone only, so that bandwidth does not. No network.

Frames are every 20 ms. Of a fragment sums of features are kept, of a span their means and deviations, which are what
the model looks at. The weights are in `music_or_noise.yaml`; `seamlessalign.pipelines.fit_music_or_noise` makes them.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from seamlessalign.errors import ModelError
from seamlessalign.rows import SAMPLE_RATE

HOP = 320  # samples between frames: 20 ms
_WINDOW = 1024  # samples of a frame's spectrum: 64 ms
_AROUND = 25  # frames to either side that are heard with a frame: 0.5 s
_BLOCK = 1500  # frames looked at in one go: 30 s
_LOW, _HIGH = 7, 243  # bins of a spectrum that are used: 110 to 3800 Hz
_BANDS = 12  # equally wide on the mel scale
_RATES = (1.0, 2.0, 4.0, 8.0, 16.0)  # Hz, of the rise and fall of levels
_LAGS = (20, 160)  # samples at 8 kHz; pitch from 400 down to 50 Hz
_VOICED = 0.5  # of the autocorrelation, from which a frame has a pitch
_STEADY = 1 / 96  # octaves in 20 ms; less is a held tone
_SMOOTH = 17  # bins
_PERSIST = (4, 10)  # frames back with which a spectrum is compared: 80 and 200 ms
_LEAST = 1e-12
_SPREAD = 6.0  # standard deviations of the recordings it was fitted on, beyond which the model looks no further

# of every frame
_ANYWHERE = ("quiet", "level", *(f"rate_{rate:g}" for rate in _RATES))
# of the frames that are not quiet only: of others the background would be described
_LOUD = ("flux", "flatness", "centroid", "pitch", "steady", "lines_80", "lines_200", "bands_80", "bands_200")
FRAME_FEATURES = (*_ANYWHERE, *_LOUD)
FEATURES = (*FRAME_FEATURES, *(f"{name}_deviation" for name in FRAME_FEATURES))
NUM_SUMS = 3 * len(FRAME_FEATURES)  # of a fragment: weights, weighted values, weighted squares

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LogisticModel:
    """Probability = 1 / (1 + exp(-(bias + weights · (features - mean) / scale)))."""

    mean: Float64  # (num_features,), in the order of FEATURES
    scale: Float64  # (num_features,)
    weights: Float64  # (num_features,)
    bias: float

    def probability(self, features: Float64) -> Float32:
        """Of music or noise, (num_spans,), of features (num_spans, num_features)."""
        return np.asarray(1 / (1 + np.exp(-(self.bias + self.standard(features) @ self.weights))), np.float32)

    def standard(self, features: Float64) -> Float64:
        """(features - mean) / scale, no more than 6 away from 0."""
        return np.clip((features - self.mean) / self.scale, -_SPREAD, _SPREAD)


def music_noise_prob(sums: Float64, model: LogisticModel | None = None) -> Float32:
    """Probability that spans are music or noise, (num_spans,), from the sums of their fragments (num_spans, NUM_SUMS).

    `model` is the shipped one unless another is given.
    """
    return (model or shipped_model()).probability(features_of(sums))


def features_of(sums: Float64) -> Float64:
    """`FEATURES` of spans (num_spans, num_features) from the sums of their fragments (num_spans, NUM_SUMS)."""
    count, total, squares = np.split(sums, 3, axis=1)
    count = np.maximum(count, 1)
    mean = total / count
    return np.concatenate((mean, np.sqrt(np.maximum(squares / count - mean**2, 0))), axis=1)


def fragment_sums(samples: Float32, start: int, end: int) -> Float64:
    """Sums of features over the frames whose middle is in a fragment `[start, end)` in samples: (NUM_SUMS,).

    `samples` is a recording (num_samples,) at 16 kHz, of which half a second around the fragment is heard too.
    """
    first, last = (start + HOP // 2 - 1) // HOP, (end + HOP // 2 - 1) // HOP
    sums = np.zeros(NUM_SUMS)
    for low in range(first, last, _BLOCK):
        values, weights = _frame_features(samples, low, min(low + _BLOCK, last))
        weighted = weights * values
        sums += np.concatenate((weights.sum(axis=0), weighted.sum(axis=0), (weighted * values).sum(axis=0)))
    return sums


def model_text() -> str:
    """The file of the shipped model."""
    return resources.files("seamlessalign.segmentation").joinpath("music_or_noise.yaml").read_text(encoding="utf-8")


def model_sha256() -> str:
    """SHA-256 of the file of the shipped model."""
    return hashlib.sha256(model_text().encode()).hexdigest()


@lru_cache(maxsize=1)
def shipped_model() -> LogisticModel:
    """The model that comes with the package. Raises ModelError where its file is for other features."""
    content: dict[str, Any] = yaml.safe_load(model_text())
    rows = content["features"]
    if tuple(rows) != FEATURES:
        raise ModelError("music_or_noise.yaml is of other features than this version has; install the package again")
    mean, scale, weights = np.array([rows[name] for name in FEATURES], np.float64).T
    return LogisticModel(mean, scale, weights, float(content["bias"]))


def _frame_features(samples: Float32, first: int, last: int) -> tuple[Float64, Float64]:
    """`FRAME_FEATURES` of frames `[first, last)` and how much each counts, both (num_frames, num_frame_features)."""
    frames = _windows(samples, first - _AROUND, last + _AROUND)
    inside = slice(_AROUND, _AROUND + last - first)
    spectra = np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32))
    power = np.square(np.abs(spectra[:, _LOW:_HIGH])) + np.float32(_LEAST)
    bands = power @ _mel_bands()
    level = np.sqrt(power.sum(axis=1, dtype=np.float64))
    around = _moving(level[:, None])[:, 0, 0].real
    ratio = level[inside] / around
    loud = ratio >= 0.5
    pitch, lags = _pitch(power[_AROUND - 1 : _AROUND + last - first])
    glide = np.abs(np.log2(lags[1:] / lags[:-1]))
    voiced = pitch >= _VOICED
    lines = _lines(power)
    steady = voiced[1:] & voiced[:-1] & (glide < _STEADY)
    values = np.stack(
        (
            ~loud,
            np.log(np.maximum(ratio, 1e-3)),
            *_rises(bands).T,
            _flux(power)[inside],
            (np.log(power).mean(axis=1) - np.log(power.mean(axis=1)))[inside],
            np.log2(power @ np.arange(_LOW, _HIGH, dtype=np.float32) / power.sum(axis=1))[inside],
            pitch[1:],
            steady,
            *(_alike(lines, back)[inside] for back in _PERSIST),
            *(_apart(bands, back)[inside] for back in _PERSIST),
        ),
        axis=1,
        dtype=np.float64,
    )
    weights = np.ones_like(values)
    weights[:, len(_ANYWHERE) :] = loud[:, None]
    return values, weights


def _windows(samples: Float32, first: int, last: int) -> Float32:
    """The 64 ms around the middle of each frame, (num_frames, 1024), zeros beyond the recording."""
    start = first * HOP + HOP // 2 - _WINDOW // 2
    end = (last - 1) * HOP + HOP // 2 + _WINDOW // 2
    piece = np.asarray(samples[max(start, 0) : max(end, 0)], np.float32)
    before = max(-start, 0)
    padded = np.pad(piece, (before, end - start - before - len(piece)))
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP]


@lru_cache(maxsize=1)
def _mel_bands() -> Float32:
    """Which bins are in which of 12 bands, (num_bins, num_bands)."""
    frequency = np.arange(_LOW, _HIGH) * SAMPLE_RATE / _WINDOW
    mel = np.log(1 + frequency / 700)
    number = (mel - mel[0]) / (mel[-1] - mel[0]) * _BANDS
    return np.asarray(np.minimum(number, _BANDS - 1).astype(np.int64)[:, None] == np.arange(_BANDS), np.float32)


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.complex128]:
    """Windows of 1 s, (num_rates + 1, 51): a mean, and waves of each rate that no constant level passes."""
    window = np.hanning(2 * _AROUND + 3)[1:-1]
    window /= window.sum()
    time = np.arange(-_AROUND, _AROUND + 1) * HOP / SAMPLE_RATE
    waves = np.exp(2j * np.pi * np.array(_RATES)[:, None] * time)
    waves = (waves - (waves * window).sum(axis=1, keepdims=True)) * window
    return np.concatenate((window[None], waves))


def _moving(levels: Float64) -> NDArray[np.complex128]:
    """Levels (num_frames, n) under each of `_waves`, for all frames but those at either end: (…, n, num_rates + 1)."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(levels, 2 * _AROUND + 1, axis=0) @ _waves().T)


def _rises(bands: Float32) -> Float64:
    """How much of the loudness of bands (num_frames, num_bands) rises and falls at each rate: (…, num_rates), dB."""
    heard = _moving(np.power(bands, 0.3, dtype=np.float64))
    power = np.square(np.abs(heard)).sum(axis=1)
    return np.asarray(10 * np.log10(power[:, 1:] / power[:, :1] + 1e-4))


def _flux(power: Float32) -> Float64:
    """Length of the difference of two neighbouring spectra of length 1."""
    lengths = np.sqrt(power.sum(axis=1, keepdims=True))
    unit = np.sqrt(power) / lengths
    change = np.square(np.diff(unit, axis=0, prepend=unit[:1]), dtype=np.float64)
    return np.asarray(np.sqrt(change.sum(axis=1)))


def _lines(power: Float32) -> Float64:
    """What stands out of log spectra smoothed over 17 bins (266 Hz), of length 1: partials do, formants do not."""
    log = np.log(power.astype(np.float64))
    padded = np.pad(log, ((0, 0), (_SMOOTH // 2 + 1, _SMOOTH // 2)), mode="edge")
    padded[:, 0] = 0
    sums = np.cumsum(padded, axis=1)
    fine = log - (sums[:, _SMOOTH:] - sums[:, :-_SMOOTH]) / _SMOOTH
    return np.asarray(fine / np.sqrt(np.square(fine).sum(axis=1, keepdims=True) + _LEAST))


def _alike(rows: Float64, back: int) -> Float64:
    """Cosine of each row of length 1 with the one so many frames before."""
    cosine = np.einsum("fb,fb->f", rows[back:], rows[:-back])
    return np.concatenate((np.zeros(back), cosine))


def _apart(bands: Float32, back: int) -> Float64:
    """Mean difference in dB between the bands of each frame and of the one so many frames before."""
    decibels = 10 * np.log10(bands.astype(np.float64) + _LEAST)
    return np.concatenate((np.zeros(back), np.abs(decibels[back:] - decibels[:-back]).mean(axis=1)))


def _pitch(power: Float32) -> tuple[Float64, Float64]:
    """Height and lag (in samples at 8 kHz) of the highest peak of each frame's autocorrelation, both (num_frames,).

    The autocorrelation is that of what is below 3.8 kHz, by that of the window (Boersma 1993, "Accurate short-term
    analysis of the fundamental frequency"), and a little is taken off for each octave down, which has the same peaks.
    """
    whole = np.zeros((len(power), _WINDOW // 4 + 1), np.float32)
    whole[:, _LOW:_HIGH] = power
    window = np.hanning(_WINDOW)
    shape = np.correlate(window, window, "full")[_WINDOW - 1 :: 2]  # at 8 kHz
    low, high = _LAGS
    same = np.fft.irfft(whole)[:, low - 1 : high + 2].astype(np.float64)
    same *= shape[0] / shape[low - 1 : high + 2]
    same /= whole.sum(axis=1, keepdims=True) * (2 / 512)
    cost = 0.02 * np.log2(np.arange(low, high + 1) / low)
    best = np.argmax(same[:, 1:-1] - cost, axis=1) + 1
    rows = np.arange(len(same))
    before, peak, after = same[rows, best - 1], same[rows, best], same[rows, best + 1]
    bend = before - 2 * peak + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.minimum(bend, -_LEAST), 0)
    return np.clip(peak, 0, 1), low - 1 + best + np.clip(shift, -0.5, 0.5)
