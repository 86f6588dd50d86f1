"""Figures of sound quality against signals of which they are known, and sums against a span by itself."""

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.dnsmos import Dnsmos
from seamlessalign.segmentation.music_or_noise import fragment_sums, music_noise_prob
from seamlessalign.segmentation.quality import COLUMNS, DNSMOS_COLUMNS, Quality, measure_fragments
from seamlessalign.segmentation.spans import Spans, over_segment
from seamlessalign.segmentation.vad import FrameScores

RATE = SAMPLE_RATE
FRAGMENTS = np.array([[2, 4], [5, 6], [8, 11]], np.int64) * RATE


def _burst(seed: int = 0) -> NDArray[np.float32]:
    """Noise of -20 dB over the whole band in the fragments, silence elsewhere: (12 s)."""
    sound = np.zeros(12 * RATE, np.float32)
    for start, end in FRAGMENTS:
        sound[start:end] = 0.1 * np.random.default_rng(seed).standard_normal(end - start)
    return sound


def _scores(samples: NDArray[np.float32], frame: int = 512) -> FrameScores:
    count = -(-len(samples) // frame)
    padded = np.pad(samples, (0, count * frame - len(samples))).reshape(count, frame)
    levels = np.square(padded).mean(axis=1)
    return FrameScores((levels > 1e-3).astype(np.float32) * np.float32(0.9), levels, frame, len(samples))


def _quality(samples: NDArray[np.float32], frame: int = 512) -> Quality:
    spans = over_segment(FRAGMENTS, max_gap_seconds=3)
    return measure_fragments(samples, FRAGMENTS, spans, _scores(samples, frame)).of(spans)


@pytest.mark.parametrize("frame", [480, 512])
@pytest.mark.parametrize("ratio", [0.0, 10.0, 20.0, 30.0])
def test_the_ratio_of_speech_and_noise_is_found(ratio: float, frame: int) -> None:
    noise = 0.1 * 10 ** (-ratio / 20) * np.random.default_rng(1).standard_normal(12 * RATE)
    quality = _quality((_burst() + noise).astype(np.float32), frame)
    assert len(quality.snr_db) == 6
    np.testing.assert_allclose(quality.snr_db, ratio, atol=1.0)


def test_silence_around_and_speech_without_end() -> None:
    assert (_quality(_burst()).snr_db > 60).all()
    constant = np.full(12 * RATE, 0.1, np.float32)
    whole = np.array([[0, 12]], np.int64) * RATE
    spans = over_segment(whole)
    (ratio,) = measure_fragments(constant, whole, spans, _scores(constant)).of(spans).snr_db.tolist()
    assert ratio < 0  # nothing stands out of it


def test_clipping_is_a_share_of_samples() -> None:
    loud = _burst() * 100
    assert loud.max() > 5
    share = [np.mean(np.abs(loud[start:end]) >= 1) for start, end in FRAGMENTS]
    quality = _quality(np.clip(loud, -1, 1))
    alone = np.flatnonzero(over_segment(FRAGMENTS, max_gap_seconds=3).num_fragments == 1)
    np.testing.assert_allclose(quality.clipping[alone], share, atol=2e-3)
    assert not _quality(_burst()).clipping.any()


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 16_000])
def test_bandwidth_is_that_of_the_recording_it_came_from(rate: int) -> None:
    sound = _burst()
    narrow = soxr.resample(soxr.resample(sound, RATE, rate), rate, RATE) if rate != RATE else sound
    narrow = np.pad(narrow, (0, max(0, len(sound) - len(narrow))))[: len(sound)]
    np.testing.assert_allclose(_quality(narrow.astype(np.float32)).bandwidth_hz, rate / 2, atol=0.08 * rate / 2 + 250)


def test_a_span_has_the_figures_that_it_has_by_itself() -> None:
    noise = 0.01 * np.random.default_rng(1).standard_normal(12 * RATE)
    samples = np.clip(30 * (_burst() + noise), -1, 1).astype(np.float32)
    spans, scores = over_segment(FRAGMENTS, max_gap_seconds=3), _scores(samples)
    together = measure_fragments(samples, FRAGMENTS, spans, scores).of(spans)
    for number in range(len(spans)):
        one = Spans(spans.spans[[number]], spans.fragments[[number]])
        alone = measure_fragments(samples, FRAGMENTS, one, scores).of(one)
        for name in COLUMNS:
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[number], rtol=1e-5)
    chosen = together[spans.num_fragments == 1]
    assert len(chosen.rows()) == 3 and set(chosen.rows()[0]) == set(COLUMNS)


def test_what_the_engine_said_is_averaged_and_nothing_is_nothing() -> None:
    np.testing.assert_allclose(_quality(_burst()).speech_prob, 0.9, atol=0.03)
    none = np.zeros((0, 2), np.int64)
    spans = over_segment(none)
    empty = measure_fragments(_burst(), none, spans, _scores(_burst())).of(spans)
    assert empty.rows() == []


def test_the_probability_of_music_is_that_of_the_fragments_together() -> None:
    samples = _burst()
    sums = np.stack([fragment_sums(samples, start, end) for start, end in FRAGMENTS.tolist()])
    expected = music_noise_prob(np.stack((sums[0], sums[0] + sums[1], sums.sum(axis=0))))
    np.testing.assert_allclose(_quality(samples).music_noise_prob[:3], expected, rtol=1e-5)


def test_ratings_of_dnsmos_are_those_of_the_fragments_by_their_length_and_only_where_asked_for() -> None:
    pytest.importorskip("speechmos", reason="needs speechmos of the extra 'quality'")
    samples, dnsmos, spans = _burst(), Dnsmos(), over_segment(FRAGMENTS, max_gap_seconds=3)
    samples[8 * RATE :] *= np.float32(0.01)
    rated = measure_fragments(samples, FRAGMENTS, spans, _scores(samples), dnsmos).of(spans)
    each = np.array([dnsmos.rate(samples[start:end]) for start, end in FRAGMENTS])
    assert np.ptp(each, axis=0).min() > 0.05
    expected = {1: each[0], 2: (2 * each[0] + each[1]) / 3, 3: (2 * each[0] + each[1] + 3 * each[2]) / 6}
    for number, row in enumerate(rated.rows()[:3]):
        np.testing.assert_allclose([row[name] for name in DNSMOS_COLUMNS], expected[number + 1], rtol=1e-5)
    chosen = rated[np.arange(len(rated)) < 2].columns()
    assert set(chosen) == {*COLUMNS, *DNSMOS_COLUMNS} and all(len(values) == 2 for values in chosen.values())
    assert set(_quality(samples).columns()) == set(COLUMNS)
