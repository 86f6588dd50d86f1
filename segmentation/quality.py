"""How good the sound of candidate spans is, from simple features: for curators to keep as columns and to filter by.

Every fragment is looked at once, however many spans contain it; a span's figures are sums over its fragments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seamlessalign.audio import release
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.spans import Spans
from seamlessalign.segmentation.vad import FrameScores

CLIPPED = 0.985  # of full scale; a recording that was clipped before it was resampled or encoded overshoots a little
_BAND = 250  # Hz
_NUM_BANDS = SAMPLE_RATE // 2 // _BAND
_WINDOW = 512  # samples of a spectrum
_BELOW_LOUDEST = 60.0  # dB; a band further below the loudest one has nothing in it
_AROUND = 5 * SAMPLE_RATE  # samples to either side of a fragment in which its noise is looked for
_NOISE_FRAMES = 5  # outside speech that make a noise level; with fewer, the quietest twentieth of all frames does
_LEAST = 1e-10  # mean square, -100 dB: digital silence is not infinitely quiet
SNR_RANGE = (-20.0, 80.0)  # dB


@dataclass(frozen=True, eq=False)
class Quality:
    """Figures of spans, each float32 (num_spans,)."""

    snr_db: NDArray[np.float32]  # power of speech over that of the noise around it
    clipping: NDArray[np.float32]  # share of the samples of speech at full scale
    bandwidth_hz: NDArray[np.float32]  # up to where the spectrum of the speech is within 60 dB of its loudest band
    speech_prob: NDArray[np.float32]  # mean of what the engine says of the frames of speech; low in music and noise

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Quality":
        """The figures of some spans."""
        return Quality(self.snr_db[chosen], self.clipping[chosen], self.bandwidth_hz[chosen], self.speech_prob[chosen])

    def rows(self) -> list[dict[str, float]]:
        """The figures of each span by name."""
        columns = {name: getattr(self, name).tolist() for name in COLUMNS}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


COLUMNS = tuple(Quality.__dataclass_fields__)


def span_quality(
    samples: NDArray[np.float32], fragments: NDArray[np.int64], spans: Spans, scores: FrameScores
) -> Quality:
    """Figures of the spans that were made of `fragments`, which were made of `scores`, of a recording `(num_samples,)`.

    Noise is the mean of the frames outside fragments within 5 s of a fragment, or, where these are fewer than five, of
    the quietest twentieth of all frames there.
    """
    frame = scores.frame_samples
    frames = np.stack((fragments[:, 0] // frame, -(-fragments[:, 1] // frame)), axis=1)
    outside = np.ones(len(scores.levels), dtype=np.bool_)
    for first, last in frames.tolist():
        outside[first:last] = False
    sums = np.zeros((len(fragments), 5 + _NUM_BANDS))
    for number, (start, end) in enumerate(fragments.tolist()):
        first, last = frames[number].tolist()
        piece = np.asarray(samples[start:end], np.float32)
        around = slice(max(0, (start - _AROUND) // frame), (end + _AROUND) // frame)
        noise = _noise(scores.levels[around], outside[around])
        length = end - start
        said = scores.probabilities[first:last]
        clipped = np.count_nonzero(np.abs(piece) >= CLIPPED)
        energy = float(np.square(piece, dtype=np.float64).sum())
        sums[number, :5] = length, energy, noise * length, clipped, float(said.mean()) * length
        sums[number, 5:] = _band_energies(piece)
        if not number % 256:
            release(samples)
    release(samples)
    before = np.concatenate((np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)))
    totals = before[spans.fragments[:, 1]] - before[spans.fragments[:, 0]]
    length = np.maximum(totals[:, 0], 1)
    power, noises = totals[:, 1] / length, np.maximum(totals[:, 2] / length, _LEAST)
    ratio = 10 * np.log10(np.maximum(power - noises, _LEAST) / noises)
    bands = totals[:, 5:]
    floor = bands.max(axis=1, initial=0, keepdims=True) * 10 ** (-_BELOW_LOUDEST / 10)
    filled = (bands > floor) & (bands > 0)
    highest = np.where(filled.any(axis=1), _NUM_BANDS - np.argmax(filled[:, ::-1], axis=1), 0)
    return Quality(
        np.clip(ratio, *SNR_RANGE).astype(np.float32),
        (totals[:, 3] / length).astype(np.float32),
        (highest * _BAND).astype(np.float32),
        np.clip(totals[:, 4] / length, 0, 1).astype(np.float32),
    )


def _noise(levels: NDArray[np.float32], outside: NDArray[np.bool_]) -> float:
    quiet = levels[outside]
    if len(quiet) < _NOISE_FRAMES:
        quiet = np.sort(levels)[: max(1, len(levels) // 20)]
    return float(quiet.mean(dtype=np.float64)) if len(quiet) else 0.0


def _band_energies(piece: NDArray[np.float32]) -> NDArray[np.float64]:
    """Energy in bands of 250 Hz over windows of 32 ms, (32,); what does not fill a window is left out."""
    whole = len(piece) // _WINDOW
    if not whole:
        return np.zeros(_NUM_BANDS)
    windows = piece[: whole * _WINDOW].reshape(whole, _WINDOW) * np.blackman(_WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windows)), dtype=np.float64).sum(axis=0)
    return np.asarray(power[1:].reshape(_NUM_BANDS, -1).sum(axis=1), np.float64)
