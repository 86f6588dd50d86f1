"""The network of silero: as in its package, in its fast form, and loaded once and without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.errors import ModelError
from seamlessalign.segmentation import detect_speech, silero
from seamlessalign.segmentation.onnx_messages import read_network
from seamlessalign.segmentation.vad import silero_scores
from tests.segmentation.voice import silence, voice

RATE = 16_000


def test_silero_equals_its_package(silero_package: Any) -> None:
    # More than one walk, speech across their border, and a last frame that is not full.
    parts = [silence(58.5), voice(2), silence(1), voice(1.5, 200), silence(2), voice(2, 160)]
    waveform = np.concatenate(parts)[:-100]
    model = silero_package.load_silero_vad(sequence=True)
    scores = silero_scores(waveform)
    np.testing.assert_array_equal(scores.probabilities, model.audio_forward(waveform))
    expected = [[s["start"], s["end"]] for s in silero_package.get_speech_timestamps_sequence(waveform, model)]
    assert len(expected) >= 2
    assert detect_speech(waveform, max_fragment_seconds=float("inf")).tolist() == expected


def test_the_fast_form_of_the_network_says_the_same(silero_package: Any) -> None:
    """Along a whole recording, so that what the networks remember must agree as well."""
    waveform = np.concatenate([silence(2), voice(6), 20 * silence(4), voice(3, 210), 1000 * silence(3)])
    frames = waveform[: len(waveform) // 512 * 512].reshape(-1, 512)
    fast = silero.SileroState(products=True).score(silero.with_context(frames, np.zeros(64, np.float32)))
    slow = silero_package.load_silero_vad(sequence=True).audio_forward(waveform)[: len(frames)]
    assert slow.min() < 0.1 and slow.max() > 0.9
    # rounding, which differs by processor, and less than a step in which scores are kept, 1/65536
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-5)


def test_a_network_that_is_not_known_runs_as_it_is(
    silero_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = silero_file.read_bytes()
    with pytest.raises(ValueError, match="built otherwise"):
        silero.as_products((silero_file.parent / "silero_vad_16k_op15.onnx").read_bytes())
    with pytest.raises(ValueError, match="ends"):
        silero.as_products(own[:-1000])
    numbers = read_network(own)[1]["encoder.1.bias"].tobytes()
    assert own.count(numbers) == 1
    made = silero.as_products(own.replace(numbers, np.full(64, 0.5, "<f4").tobytes()))  # one layer is another
    monkeypatch.setattr(silero, "as_products", lambda _: made)
    assert silero._products.__wrapped__() == own
    assert "runs as it is" in caplog.text


def test_the_session_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    made = []
    original = onnxruntime.InferenceSession

    def counted(*arguments: Any, **named: Any) -> Any:
        made.append(named["sess_options"].intra_op_num_threads)
        return original(*arguments, **named)

    monkeypatch.setattr(silero, "_sessions", {})
    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    for num_threads in (1, 2, 1, 2):
        detect_speech(voice(0.5), num_threads=num_threads)
    assert made == [1, 2]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_sessions", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install 'silero-vad"):
        detect_speech(voice(0.5))


def test_silero_does_not_import_torch() -> None:
    program = (
        "import sys, numpy as np; from seamlessalign.segmentation import detect_speech;"
        "detect_speech(np.zeros(16000, np.float32)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
