"""Identical untranslated audio: pairs whose two speech sides are one and the same sound.

An advertisement, a song or a passage left in the original lies in the recordings of both languages, and mining finds
it with a high score. The two copies went through other codecs, levels and resamplers, so their samples cannot be
compared; their log-mel filterbanks can. Durations that differ by less than 0.1 s and close filterbanks are the two
signs that Speech Vecalign (EMNLP 2025) goes by; how close is measured here in decibels, and the threshold was
chosen on human speech.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.rows import SAMPLE_RATE

IDENTICAL_AUDIO = "identical_audio"

MAX_DIFFERENCE_SECONDS = 0.1  # of durations; a pair that differs by as much is not compared

# Of `distance_db`, measured on 267 clips of human speech, five languages with one speaker each. Copies through Opus,
# MP3, Vorbis, G.722, mu-law and GSM at 8 kHz, at other levels, with noise at 20 dB, each with another begin: at most
# 5.9 dB, medians 1.6 to 4.3. Clipped at half the peak: 1 % are further than 7 dB; at a third: 13 %. The 1,187 pairs of
# clips of equal length, among them one speaker saying the same words twice: at least 10.2 dB. A clip with 0.35 s of
# other speech of its speaker put in, as prompts are spliced from one carrier phrase: at least 7.9 dB (1 % below 10.1).
# Synthetic voices that differ in little but pitch and say the same words at the same time do come closer.
MAX_DISTANCE_DB = 7.0

Samples = npt.NDArray[np.float32]
Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
SideName = Literal["src", "tgt"]
Fetch = Callable[[SideName, Rows], Iterable[tuple[int, Samples]]]

_WINDOW = 400  # samples, 25 ms
_HOP = 160  # samples, 10 ms
_FFT = 512
_BANDS = 32
_LOW_HZ, _HIGH_HZ = 100.0, 3_600.0  # inside the band of a telephone, so that a copy at 8 kHz stays a copy
_LOUD_PERCENTILE = 95.0  # the level of a clip is that of its loud cells: pauses and codec noise do not move it
_RANGE_DB = 35.0  # cells further below the level count as that far below: there codecs make their own noise
_MIN_SPREAD_DB = 1.0  # of a clip's cells: less is silence or a steady tone, which resembles any other
_MAX_SHIFT = 12  # frames: where the two spans begin differs by up to 0.1 s, and codecs add a little
_STRETCH = 30  # frames, 0.3 s: a word; one other word is enough to make other audio
_BATCH = 1024  # pairs whose filterbanks are in memory together: 2 sides × 12.8 kB for each second of each


def identical_audio(
    src_start: Any, src_end: Any, tgt_start: Any, tgt_end: Any, rows: Rows, fetch: Fetch, *, batch: int = _BATCH
) -> Any:
    """`identical_audio` where both sides are the same sound; a reason or null for every row of the columns.

    src_start … tgt_end: spans in samples at 16 kHz. Only `rows` are looked at, and of these only those whose durations
    differ by less than 0.1 s; neighbours in `rows` share a batch, so rows of the same recordings belong together.
    `fetch(side, rows)` yields (row, samples `(num_samples,)` at 16 kHz) for the rows it is asked for, in any order; a
    row that it leaves out, because its audio cannot be read any more, passes.
    """
    columns = (src_start, src_end, tgt_start, tgt_end)
    spans = [np.asarray(column.to_numpy(zero_copy_only=False), np.float64) for column in columns]
    difference = np.abs((spans[1] - spans[0]) - (spans[3] - spans[2]))
    alike = rows[difference[rows] < MAX_DIFFERENCE_SECONDS * SAMPLE_RATE]  # NaN, a missing time, is not less
    reasons: list[str | None] = [None] * len(difference)
    for begin in range(0, len(alike), batch):
        part = alike[begin : begin + batch]
        src = {row: filterbanks(samples) for row, samples in fetch("src", part)}
        for row, samples in fetch("tgt", np.array([row for row in part.tolist() if row in src], np.int64)):
            if distance_db(src[row], filterbanks(samples)) <= MAX_DISTANCE_DB:
                reasons[row] = IDENTICAL_AUDIO
    return pa.array(reasons, pa.string())


def filterbanks(samples: Samples) -> Float32:
    """Log-mel filterbanks `(num_frames, 32)` in dB relative to the clip's own level, at least -35; 100 frames a second.

    samples: `(num_samples,)` at 16 kHz, any level. Frames of 25 ms, Hann window, mel bands from 100 to 3,600 Hz.
    """
    samples = np.asarray(samples, np.float32)
    if len(samples) < _WINDOW:
        return np.zeros((0, _BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    energy = np.square(np.abs(np.fft.rfft(frames, _FFT))).astype(np.float32) @ _mel_bands()
    decibels = 10.0 * np.log10(np.maximum(energy, np.finfo(np.float32).tiny))
    level = np.percentile(decibels, _LOUD_PERCENTILE)
    return np.asarray(np.maximum(decibels - level, -_RANGE_DB), np.float32)


def distance_db(one: Float32, two: Float32) -> float:
    """How far apart two clips' `filterbanks` are in dB: root mean square difference in the 0.3 s that differ most.

    One clip is shifted by up to 0.12 s to where the difference over all frames is least. The mean over the clip would
    not do: one other word in a long sentence hardly moves it. Infinite where a clip is shorter than 0.45 s, or is
    silence or a steady tone.
    """
    if min(len(one), len(two)) < _STRETCH + _MAX_SHIFT or min(one.std(), two.std()) < _MIN_SPREAD_DB:
        return float("inf")
    shifted = (_squares(one, two, shift) for shift in range(-_MAX_SHIFT, _MAX_SHIFT + 1))
    squares = min(shifted, key=lambda frames: float(frames.mean()))
    return float(np.sqrt(np.lib.stride_tricks.sliding_window_view(squares, _STRETCH).mean(axis=1).max()))


def _squares(one: Float32, two: Float32, shift: int) -> Float32:
    """Mean square difference of each frame that both clips have when `one` begins `shift` frames later."""
    a, b = one[max(0, shift) :], two[max(0, -shift) :]
    common = min(len(a), len(b))
    return np.asarray(np.square(a[:common] - b[:common]).mean(axis=1), np.float32)


@cache
def _mel_bands() -> Float32:
    """Triangles that overlap by half, equally wide in mel (2595 log10(1 + f / 700)); `(257, 32)`."""

    def mel(hertz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hertz / 700.0))

    edges = 700.0 * (10.0 ** (np.linspace(mel(_LOW_HZ), mel(_HIGH_HZ), _BANDS + 2) / 2595.0) - 1.0)
    hertz = np.arange(_FFT // 2 + 1)[:, None] * (SAMPLE_RATE / _FFT)
    rising = (hertz - edges[:-2]) / np.diff(edges[:-1])
    falling = (edges[2:] - hertz) / np.diff(edges[1:])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
