"""How good the sound of candidate spans is: for curators to keep as columns and to filter by.

Every fragment is looked at once, however many spans contain it; a span's figures come from sums over its fragments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seamlessalign.audio import release
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.dnsmos import RATINGS, Dnsmos
from seamlessalign.segmentation.music_or_noise import NUM_SUMS, fragment_sums, music_noise_prob
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

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Quality:
    """Figures of spans, each float32 (num_spans,); those of DNSMOS only where it was asked for."""

    snr_db: Float32  # power of speech over that of the noise around it
    clipping: Float32  # share of the samples of speech at full scale
    bandwidth_hz: Float32  # up to where the spectrum of the speech is within 60 dB of its loudest band
    speech_prob: Float32  # mean of what the engine says of the frames of speech; low in music and noise
    music_noise_prob: Float32  # that it is music or noise, by simple features of the sound
    dnsmos_sig: Float32 | None = None  # 1 to 5, what listeners would say of the speech itself
    dnsmos_bak: Float32 | None = None  # of the background; 5 is a quiet one
    dnsmos_ovrl: Float32 | None = None  # of both together

    def __len__(self) -> int:
        return len(self.snr_db)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Quality":
        """The figures of some spans."""
        return Quality(**{name: values[chosen] for name, values in self.columns().items()})

    def columns(self) -> dict[str, Float32]:
        """The figures by name, without those that were not asked for."""
        named = {name: getattr(self, name) for name in (*COLUMNS, *DNSMOS_COLUMNS)}
        return {name: values for name, values in named.items() if values is not None}

    def rows(self) -> list[dict[str, float]]:
        """The figures of each span by name."""
        columns = {name: values.tolist() for name, values in self.columns().items()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


DNSMOS_COLUMNS = tuple(f"dnsmos_{rating}" for rating in RATINGS)
COLUMNS = tuple(name for name in Quality.__dataclass_fields__ if name not in DNSMOS_COLUMNS)


@dataclass(frozen=True, eq=False)
class FragmentSums:
    """What was measured of fragments, as sums, so that any span of them has its figures."""

    levels: Float64  # (num_fragments, 5 + num_bands): samples, energy, noise, clipped, said, energy in bands
    sound: Float64  # (num_fragments, NUM_SUMS), see music_or_noise
    rated: Float64 | None  # (num_fragments, 3), ratings of DNSMOS × samples

    def of(self, spans: Spans) -> Quality:
        """Figures of spans of these fragments, which must all have been measured."""
        levels = span_totals(self.levels, spans)
        length = np.maximum(levels[:, 0], 1)
        power, noises = levels[:, 1] / length, np.maximum(levels[:, 2] / length, _LEAST)
        ratio = 10 * np.log10(np.maximum(power - noises, _LEAST) / noises)
        bands = levels[:, 5:]
        floor = bands.max(axis=1, initial=0, keepdims=True) * 10 ** (-_BELOW_LOUDEST / 10)
        filled = (bands > floor) & (bands > 0)
        highest = np.where(filled.any(axis=1), _NUM_BANDS - np.argmax(filled[:, ::-1], axis=1), 0)
        ratings: dict[str, Float32] = {}
        if self.rated is not None:
            mean = (span_totals(self.rated, spans) / length[:, None]).astype(np.float32)
            ratings = dict(zip(DNSMOS_COLUMNS, mean.T, strict=True))
        return Quality(
            np.clip(ratio, *SNR_RANGE).astype(np.float32),
            (levels[:, 3] / length).astype(np.float32),
            (highest * _BAND).astype(np.float32),
            np.clip(levels[:, 4] / length, 0, 1).astype(np.float32),
            music_noise_prob(span_totals(self.sound, spans)),
            **ratings,
        )


def measure_fragments(
    samples: Float32,
    fragments: NDArray[np.int64],
    spans: Spans,
    scores: FrameScores,
    dnsmos: Dnsmos | None = None,
) -> FragmentSums:
    """Sums of the `fragments` that are in any of `spans`, zeros of others, of a recording `(num_samples,)`.

    `fragments` were made of `scores`. Noise is the mean of the frames outside fragments within 5 s of a fragment, or,
    where these are fewer than five, of the quietest twentieth of all frames there. DNSMOS rates each fragment by
    itself.
    """
    frame = scores.frame_samples
    frames = np.stack((fragments[:, 0] // frame, -(-fragments[:, 1] // frame)), axis=1)
    outside = np.ones(len(scores.levels), dtype=np.bool_)
    for first, last in frames.tolist():
        outside[first:last] = False
    levels = np.zeros((len(fragments), 5 + _NUM_BANDS))
    sound = np.zeros((len(fragments), NUM_SUMS))
    rated = None if dnsmos is None else np.zeros((len(fragments), len(RATINGS)))
    for done, number in enumerate(_used(len(fragments), spans).tolist()):
        start, end = fragments[number].tolist()
        first, last = frames[number].tolist()
        piece = np.asarray(samples[start:end], np.float32)
        around = slice(max(0, (start - _AROUND) // frame), (end + _AROUND) // frame)
        noise = _noise(scores.levels[around], outside[around])
        length = end - start
        said = scores.probabilities[first:last]
        clipped = np.count_nonzero(np.abs(piece) >= CLIPPED)
        energy = float(np.square(piece, dtype=np.float64).sum())
        levels[number, :5] = length, energy, noise * length, clipped, float(said.mean()) * length
        levels[number, 5:] = _band_energies(piece)
        sound[number] = fragment_sums(samples, start, end)
        if dnsmos is not None and rated is not None:
            rated[number] = dnsmos.rate(piece) * length
        if not done % 256:
            release(samples)
    release(samples)
    return FragmentSums(levels, sound, rated)


def _used(num_fragments: int, spans: Spans) -> NDArray[np.int64]:
    """Which fragments are in a span."""
    opened = np.bincount(spans.fragments[:, 0], minlength=num_fragments + 1)
    closed = np.bincount(spans.fragments[:, 1], minlength=num_fragments + 1)
    return np.flatnonzero(np.cumsum(opened - closed)[:num_fragments]).astype(np.int64)


def span_totals(sums: Float64, spans: Spans) -> Float64:
    """Sums over the fragments of each span, (num_spans, n), of sums of fragments (num_fragments, n)."""
    before = np.concatenate((np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)))
    return np.asarray(before[spans.fragments[:, 1]] - before[spans.fragments[:, 0]])


def _noise(levels: Float32, outside: NDArray[np.bool_]) -> float:
    quiet = levels[outside]
    if len(quiet) < _NOISE_FRAMES:
        quiet = np.sort(levels)[: max(1, len(levels) // 20)]
    return float(quiet.mean(dtype=np.float64)) if len(quiet) else 0.0


def _band_energies(piece: Float32) -> Float64:
    """Energy in bands of 250 Hz over windows of 32 ms, (32,); what does not fill a window is left out."""
    whole = len(piece) // _WINDOW
    if not whole:
        return np.zeros(_NUM_BANDS)
    windows = piece[: whole * _WINDOW].reshape(whole, _WINDOW) * np.blackman(_WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windows)), dtype=np.float64).sum(axis=0)
    return np.asarray(power[1:].reshape(_NUM_BANDS, -1).sum(axis=1), np.float64)
