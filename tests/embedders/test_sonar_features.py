"""SONAR's speech features against Kaldi's in torchaudio, and against the definition in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders.sonar.features import MIN_SAMPLES, fbank, features, num_inputs, standardise

Float32 = NDArray[np.float32]


def _voice(seconds: float, seed: int = 0) -> Float32:
    """A glottal buzz whose pitch and loudness move, in a little noise."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(5 * t)) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 50))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return np.asarray(0.1 * buzz * np.abs(np.sin(3 * t)) + 1e-3 * noise, np.float32)


def _noise(seconds: float) -> Float32:
    return np.asarray(0.1 * np.random.default_rng(1).standard_normal(int(seconds * 16_000)), np.float32)


def _slow_fbank(waveform: Float32) -> NDArray[np.float64]:
    """Frame by frame, in float64, from Kaldi's definitions."""
    samples = waveform.astype(np.float64) * 32_768
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85

    def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(1127 * np.log(1 + np.asarray(hertz) / 700))

    edges = np.linspace(mel(20.0), mel(8000.0), 82)
    places = mel(np.arange(257) * 16_000 / 512)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400] - samples[start : start + 400].mean()
        frame = frame - 0.97 * np.r_[frame[0], frame[:-1]]
        power = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        row = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            rising, falling = (places - left) / (centre - left), (right - places) / (right - centre)
            row.append(power @ np.clip(np.minimum(rising, falling), 0, None))
        rows.append(np.log(np.maximum(row, np.finfo(np.float32).eps)))
    return np.asarray(rows)


@pytest.mark.parametrize("waveform", [_voice(2.0), _noise(1.5), _voice(0.035)], ids=["voice", "noise", "35 ms"])
def test_energies_are_those_of_the_definition(waveform: Float32) -> None:
    """As near as Kaldi's own float32 comes to it in quiet bins."""
    np.testing.assert_allclose(fbank(torch.from_numpy(waveform)).numpy(), _slow_fbank(waveform), atol=5e-4)


@pytest.mark.parametrize("waveform", [_voice(2.0), _voice(9.37, 2), _noise(1.5)], ids=["voice", "long", "noise"])
def test_features_are_kaldis_standardised(waveform: Float32) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="needs torchaudio of torch's build")
    frames = kaldi.fbank(torch.from_numpy(waveform)[None] * 2**15, num_mel_bins=80, sample_frequency=16_000)
    frames = frames.double().numpy()
    wanted = (frames - frames.mean(0)) / frames.std(0, ddof=1)
    wanted = wanted[: len(wanted) // 2 * 2].reshape(-1, 160)
    np.testing.assert_allclose(features(torch.from_numpy(waveform)).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("num_samples", [0, 399, 400, 559, MIN_SAMPLES, 719, 720, 16_000, 16_079, 16_080, 16_240])
def test_lengths_are_known_beforehand(num_samples: int) -> None:
    if num_samples < MIN_SAMPLES:
        assert num_inputs(num_samples) == 0
    else:
        assert features(torch.from_numpy(_noise(2)[:num_samples])).shape == (num_inputs(num_samples), 160)


def test_a_last_frame_without_partner_counts_for_the_mean_only() -> None:
    waveform = torch.from_numpy(_voice(1.0)[: 400 + 4 * 160])
    made = features(waveform)
    assert made.shape == (2, 160)
    torch.testing.assert_close(made, standardise(fbank(waveform))[:4].reshape(2, 160))
    assert standardise(fbank(waveform)).mean(0).abs().max() < 1e-5


def test_what_never_changes_is_nothing_and_not_nan() -> None:
    frames = torch.full((10, 80), -15.9)
    frames[:, 3] = torch.arange(10)
    made = standardise(frames)
    assert made[:, 3].std() == pytest.approx(1.0, abs=1e-4)
    assert not made[:, [0, 79]].any()
