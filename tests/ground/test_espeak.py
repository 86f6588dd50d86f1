"""espeak-ng: the same words are the same samples, whatever was said before."""

import os
import subprocess
import sys

import numpy as np
import pytest

from seamlessalign import espeak
from seamlessalign.errors import InputError, MissingPackageError

pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")


def test_it_forgets_what_it_said() -> None:
    first, rate = espeak.speak_afresh("Bonjour tout le monde.", "fr+f2")
    espeak.speak_afresh("She sells sea shells.", "en-us")
    again, _ = espeak.speak_afresh("Bonjour tout le monde.", "fr+f2")
    assert np.array_equal(first, again) and 0.8 < len(first) / rate < 4
    assert first.dtype == np.float32 and 0.05 < np.abs(first).max() <= 1


def test_another_process_says_the_same() -> None:
    script = (  # memory that was never written is filled otherwise each time
        "import hashlib, time; time.sleep(1 - time.time() % 1);"  # nor is the second of the clock the same
        "from seamlessalign.espeak import speak_afresh; speak_afresh('One two.', 'en-us');"
        "print(hashlib.sha256(speak_afresh('Bonjour tout le monde.', 'fr+f2')[0].tobytes()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={**os.environ, "MALLOC_PERTURB_": fill},
        ).stdout
        for fill in ("0", "85", "165")
    }  # fmt: skip
    assert len(told) == 1


def test_speed_and_pitch_are_heard() -> None:
    slow, _ = espeak.speak_afresh("One two three four five.", "en-us", 120)
    fast, _ = espeak.speak_afresh("One two three four five.", "en-us", 240)
    assert len(fast) < 0.7 * len(slow)
    low, high = (espeak.speak_afresh("Aaa.", "en-us", 150, pitch)[0] for pitch in (10, 90))
    tops = [np.abs(np.fft.rfft(wave, 1 << 16))[:2000].argmax() for wave in (low, high)]
    assert tops[1] > tops[0]


def test_what_cannot_be_said() -> None:
    with pytest.raises(InputError, match="has no voice 'klingon-x'"):
        espeak.speak_afresh("One", "klingon-x")
    assert len(espeak.speak_afresh("One", "en-us")[0])  # and works again


def test_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    espeak.find_espeak.cache_clear()
    with pytest.raises(MissingPackageError, match=r"espeakng-loader: pip install 'seamlessalign\[train\]'"):
        espeak.find_espeak()
    espeak.find_espeak.cache_clear()
