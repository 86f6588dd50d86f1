"""Log-mel spectrograms against sums written out, with filters made from Slaney's formula."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from seamlessalign.training.vocoder.mel import LogMel

Float64 = NDArray[np.float64]


def _mel(hertz: float) -> float:
    """Slaney's scale: a line up to 1000 Hz, which is mel 15; then a logarithm, 27 steps to 6.4 times the frequency."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)


def _reference(speech: Float64) -> Float64:
    edges = [_hertz(_mel(8000.0) * i / 81) for i in range(82)]
    filters = np.zeros((80, 513))
    for i in range(80):
        low, middle, high = edges[i : i + 3]
        for j in range(513):
            hertz = j * 16000 / 1024
            inside = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            filters[i, j] = max(0.0, inside) * 2 / (high - low)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 1024) for n in range(1024)]
    mirrored = np.concatenate([speech[1:385][::-1], speech, speech[-385:-1][::-1]])
    waves = np.exp(-2j * np.pi * np.outer(np.arange(513), np.arange(1024)) / 1024)
    columns = []
    for start in range(0, len(mirrored) - 1023, 256):
        spectrum = waves @ (mirrored[start : start + 1024] * window)
        columns.append(np.log(np.maximum(filters @ np.sqrt(np.abs(spectrum) ** 2 + 1e-9), 1e-5)))
    return np.stack(columns, 1)


def test_they_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(8960) / 16000
    speech = 0.3 * np.sin(2 * np.pi * 440 * time) * (time > 0.2) + 0.01 * rng.standard_normal(8960)
    found = LogMel()(torch.tensor(speech[None], dtype=torch.float32))
    assert found.shape == (1, 80, 35)  # 8960 / 256
    np.testing.assert_allclose(found[0].numpy(), _reference(speech), atol=2e-3)


def test_silence_can_be_learnt_from() -> None:
    speech = torch.zeros(2, 4096, requires_grad=True)
    found = LogMel()(speech)
    found.sum().backward()
    assert found.shape == (2, 80, 16) and torch.isfinite(found).all() and torch.isfinite(speech.grad).all()


def test_half_precision_around_it_changes_nothing() -> None:
    speech = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0)) * 0.1
    mel = LogMel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = mel(speech)
    assert within.dtype == torch.float32 and torch.equal(within, mel(speech))
