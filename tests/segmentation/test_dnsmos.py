"""DNSMOS against the package's own function, and what noise does to what it says."""

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.audio import decode
from seamlessalign.errors import ModelError, SeamlessAlignError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.dnsmos import WINDOW, Dnsmos
from seamlessalign.sound_changes import add_noise
from tests.segmentation.voice import voice

RATE = SAMPLE_RATE
Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    pytest.importorskip("speechmos", reason="needs speechmos of the extra 'quality'")
    return Dnsmos()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's module. Where there is no librosa, its spectra, which only the rating by P.808 needs, are zeros."""
    pytest.importorskip("speechmos", reason="needs speechmos of the extra 'quality'")
    if importlib.util.find_spec("librosa") is None:
        librosa: Any = types.ModuleType("librosa")
        librosa.feature = types.SimpleNamespace(melspectrogram=lambda y, n_mels, **_: np.zeros((n_mels, 900)))
        librosa.power_to_db = lambda spectrum, ref: spectrum
        monkeypatch.setitem(sys.modules, "librosa", librosa)
    return importlib.import_module("speechmos.dnsmos")


def _said_by(package: Any, samples: Float32) -> list[float]:
    rated = package.run(samples, RATE)
    return [rated["sig_mos"], rated["bak_mos"], rated["ovrl_mos"]]


@pytest.mark.parametrize("seconds", [2.4, 9.01, 11.2])
def test_ratings_are_those_of_the_package(dnsmos: Dnsmos, package: Any, seconds: float) -> None:
    """The package hears that of 2.4 s once, too, and the last one in two windows."""
    samples = add_noise(voice(seconds), 15, 1.0, np.random.default_rng(0)).clip(-1, 1)
    np.testing.assert_allclose(dnsmos.rate(samples), _said_by(package, samples), atol=1e-5)


@pytest.mark.slow
@pytest.mark.speech
def test_ratings_of_human_speech_are_those_of_the_package_and_fall_with_noise(
    dnsmos: Dnsmos, package: Any, tmp_path: Path
) -> None:
    from seamlessalign.pipelines.demo_sources import fetch_prompts

    try:
        prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))).prompts
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    clean: list[NDArray[np.float64]] = []
    noisy: list[NDArray[np.float64]] = []
    for lang, key in (("eng", "conf-getconfno"), ("spa", "vm-options"), ("rus", "conf-getconfno")):
        samples = decode(prompts[lang][key].audio).samples[: 15 * RATE]  # from 16 s on the package skips windows
        worse = add_noise(samples, 5, 0.0, np.random.default_rng(0)).clip(-1, 1)
        for waveform, ratings in ((samples, clean), (worse, noisy)):
            ratings.append(dnsmos.rate(waveform))
            window = np.resize(waveform, max(len(waveform), WINDOW))  # shorter ones the package hears up to nine times
            np.testing.assert_allclose(ratings[-1], _said_by(package, window), atol=1e-5, err_msg=f"{lang} {key}")
            np.testing.assert_allclose(ratings[-1], _said_by(package, waveform), atol=0.25, err_msg=f"{lang} {key}")
    assert (np.array(noisy)[:, 1:] < np.array(clean)[:, 1:] - 0.5).all()  # the background, and overall


def test_what_cannot_be_rated(dnsmos: Dnsmos) -> None:
    with pytest.raises(ValueError, match="no samples"):
        dnsmos.rate(np.zeros(0, np.float32))
    assert np.isfinite(dnsmos.rate(np.zeros(RATE, np.float32))).all()
    loud = 3 * voice(9.1)
    np.testing.assert_array_equal(dnsmos.rate(loud), dnsmos.rate(loud.clip(-1, 1)))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "speechmos" else found(name))
    with pytest.raises(ModelError, match=r"'dnsmos' was not found: .*pip install 'seamlessalign\[quality\]'"):
        Dnsmos()
    with pytest.raises(ModelError, match=r"lacks sig_bak_ovr\.onnx"):
        Dnsmos(str(tmp_path))
