"""Features against sounds of which they are known, their sums against a plain reckoning, and the shipped model."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.pipelines import made_sounds
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.music_or_noise import (
    FEATURES,
    FRAME_FEATURES,
    HOP,
    LogisticModel,
    features_of,
    fragment_sums,
    music_noise_prob,
    shipped_model,
)
from tests.segmentation.voice import voice

RATE = SAMPLE_RATE
Float32 = NDArray[np.float32]


def _features(samples: Float32, start: int = RATE, end: int | None = None) -> dict[str, float]:
    sums = fragment_sums(samples, start, end or len(samples) - RATE)
    return dict(zip(FEATURES, features_of(sums[None])[0].tolist(), strict=True))


def _tone(hertz: float, seconds: float = 6.0) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def _noise(seconds: float = 6.0, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(int(seconds * RATE))


@pytest.mark.parametrize("rate", [1, 2, 4, 8, 16])
def test_a_level_that_rises_and_falls_is_found_at_its_rate(rate: float) -> None:
    """Loudness (power to the 0.3) of 1 + 0.5 sin has a quarter of the mean's amplitude in the wave of its rate."""
    loudness = 1 + 0.5 * _tone(rate, 8)
    samples = (0.1 * _tone(1000, 8) * loudness ** (1 / 0.6)).astype(np.float32)
    found = {name: value for name, value in _features(samples).items() if name.startswith("rate_")}
    found = {name: value for name, value in found.items() if not name.endswith("deviation")}
    assert max(found, key=lambda name: found[name]) == f"rate_{rate:g}"
    if rate in (2, 4, 8):  # a window has one wave of a second only, and a frame of 64 ms smooths what is faster
        assert found[f"rate_{rate:g}"] == pytest.approx(20 * np.log10(0.25), abs=1.5)


def test_spectra_that_stay_and_spectra_that_do_not() -> None:
    tone = _features((0.1 * (_tone(220) + _tone(440) + _tone(660))).astype(np.float32))
    noise = _features((0.1 * _noise()).astype(np.float32))
    assert tone["steady"] > 0.99 and tone["pitch"] > 0.95 and tone["lines_200"] > 0.95 and tone["flux"] < 0.02
    assert noise["steady"] < 0.05 and noise["pitch"] < 0.3 and abs(noise["lines_80"]) < 0.02 and noise["flux"] > 0.4
    # powers of noise have an exponential distribution: their mean logarithm is Euler's constant below that of the mean
    assert noise["flatness"] == pytest.approx(-0.5772, abs=0.02)
    assert tone["flatness"] < -8


def test_a_gliding_pitch_is_not_steady() -> None:
    time = np.arange(6 * RATE) / RATE
    for octaves, low, high in ((0.2, 0.95, 1.0), (2.0, 0.0, 0.3)):  # a second; 0.02 octaves in 20 ms are a glide
        phase = np.cumsum(120 * 2 ** (octaves * np.abs(time % 1 - 0.5))) / RATE
        samples = np.sum([np.sin(2 * np.pi * order * phase) / order for order in range(1, 8)], axis=0)
        assert low <= _features((0.1 * samples).astype(np.float32))["steady"] <= high


@pytest.mark.parametrize("hertz", [60.0, 97.3, 150.0, 233.1, 390.0])
def test_a_pitch_is_a_peak_of_the_autocorrelation(hertz: float) -> None:
    """Steady over the whole range, which needs that the lag found is the right one in every frame."""
    samples = np.sum([_tone(hertz * order) / order for order in range(1, 12)], axis=0) + 0.01 * _noise()
    found = _features((0.1 * samples).astype(np.float32))
    assert found["pitch"] > 0.9 and found["steady"] > 0.95


def test_levels_do_not_matter_and_quiet_frames_are_counted() -> None:
    samples = voice(6.0)
    loud, faint = _features(samples), _features(samples * np.float32(0.01))
    for name in FEATURES:
        assert faint[name] == pytest.approx(loud[name], rel=0.02, abs=0.02), name
    switched = np.repeat(np.tile([1.0, 0.1], 15), 3200)[: 6 * RATE] * _noise()  # 0.2 s loud, 0.2 s soft
    # half of them, less those of whose window a part is loud; 0.4, of which a frame more or less is no fault
    assert 0.3 < _features(switched.astype(np.float32))["quiet"] < 0.55


def test_sums_add_up_and_do_not_depend_on_where_a_fragment_is_cut() -> None:
    """42 s are looked at in blocks of 30 s; sums of parts are those of the whole, at the ends of a recording too."""
    samples = np.concatenate((voice(21.0), (0.1 * _noise(21.0)).astype(np.float32)))
    whole = fragment_sums(samples, 0, len(samples))
    assert whole[0] == -(-(len(samples) - HOP // 2) // HOP)  # frames whose middle is in it
    cuts = [0, 12_345, 12_346, 20 * RATE + 7, len(samples)]
    parts = [fragment_sums(samples, start, end) for start, end in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-4, atol=1e-3)
    assert len(whole) == 3 * len(FRAME_FEATURES)


def test_means_and_deviations_are_those_of_the_frames() -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, len(FRAME_FEATURES)))
    sums = np.concatenate((np.full(len(FRAME_FEATURES), 50.0), values.sum(0), (values**2).sum(0)))
    np.testing.assert_allclose(features_of(sums[None])[0], np.concatenate((values.mean(0), values.std(0))), rtol=1e-9)


def test_a_model_is_a_logistic_function_that_is_not_led_astray() -> None:
    model = LogisticModel(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([1.0, -1.0]), 0.5)
    said = model.probability(np.array([[3.0, 0.0], [1.0, 0.5], [1e9, 0.0]]))
    np.testing.assert_allclose(said, 1 / (1 + np.exp(-np.array([1.5, 0.0, 6.5]))), rtol=1e-6)


@pytest.mark.parametrize("name", ["chords", "melody", "white", "gusts", "hum", "rain"])
def test_the_shipped_model_tells_made_sounds_from_a_voice(name: str) -> None:
    sound = getattr(made_sounds, name)(10 * RATE, np.random.default_rng(3))
    (made,) = music_noise_prob(fragment_sums(sound, RATE, 9 * RATE)[None]).tolist()
    assert made > 0.5, name


def test_the_shipped_model_has_a_weight_for_every_feature() -> None:
    model = shipped_model()
    assert model.weights.shape == (len(FEATURES),) and (model.scale > 0).all() and np.isfinite(model.weights).all()
    nothing = fragment_sums(np.zeros(2 * RATE, np.float32), 0, 2 * RATE)
    assert np.isfinite(music_noise_prob(nothing[None])).all()  # digital silence
