"""Voice activity: speech is found where it is by every engine, in any kind of array and from any thread."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.errors import InputError
from seamlessalign.segmentation import detect_speech, detect_speech_in, vad
from seamlessalign.segmentation.vad import cascade_scores, silero_scores, vad_fingerprint, webrtc_scores
from tests.segmentation.voice import silence, voice

RATE = 16_000
ENGINES = get_args(vad.Engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_speech_is_found_where_it_is(engine: vad.Engine) -> None:
    waveform = np.concatenate([silence(1), voice(2), silence(1), voice(1.5, 200), silence(0.5)])
    fragments = detect_speech(waveform, engine=engine)
    assert fragments.dtype == np.int64
    expected = np.array([[1.0, 3.0], [4.0, 5.5]])
    np.testing.assert_allclose(fragments / RATE, expected, atol=0.2)
    assert detect_speech(silence(3), engine=engine).shape == (0, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num_samples", [0, 1, 479, 513])
def test_short_recordings(engine: vad.Engine, num_samples: int) -> None:
    fragments = detect_speech(voice(1)[:num_samples], engine=engine)
    assert fragments.shape == (0, 2)
    assert fragments.dtype == np.int64


def test_long_speech_is_cut() -> None:
    fragments = detect_speech(voice(30), engine="webrtc", max_fragment_seconds=7.0)
    assert len(fragments) >= 5
    assert (fragments[:, 1] - fragments[:, 0]).max() <= 7 * RATE
    np.testing.assert_array_equal(fragments[1:, 0], fragments[:-1, 1])


def test_webrtc_equals_its_package_frame_by_frame() -> None:
    webrtcvad = pytest.importorskip("webrtcvad")
    waveform = np.concatenate([silence(1), voice(2), silence(1)])[:-100]
    for aggressiveness in range(4):
        detector = webrtcvad.Vad(aggressiveness)
        padded = np.concatenate([waveform, np.zeros(-len(waveform) % 480, np.float32)])
        pcm = (padded * 32768).astype("<i2").tobytes()
        expected = [detector.is_speech(pcm[at : at + 960], RATE) for at in range(0, len(pcm), 960)]
        scores = webrtc_scores(waveform, aggressiveness=aggressiveness)
        assert scores.probabilities.tolist() == expected
        assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("score", [silero_scores, cascade_scores, webrtc_scores])
def test_levels_are_mean_squares(score: Any) -> None:
    waveform = voice(2)[:-100]
    scores = score(waveform)
    for number in (0, 7, len(scores.levels) - 1):
        samples = waveform[number * scores.frame_samples : (number + 1) * scores.frame_samples]
        assert scores.levels[number] == pytest.approx(np.square(samples).sum() / scores.frame_samples, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_spooled_waveform_gives_the_same(engine: vad.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = np.concatenate([silence(58.5), voice(3), silence(60), voice(2, 200)])
    waveform.tofile(tmp_path / "spool")
    mapped = np.memmap(tmp_path / "spool", np.float32, mode="r")
    released: list[int] = []
    monkeypatch.setattr(vad, "release", lambda samples: released.append(len(samples)))
    np.testing.assert_array_equal(detect_speech(mapped, engine=engine), detect_speech(waveform, engine=engine))
    passes = 2 if engine == "cascade" else 1  # which looks at the levels first
    assert released == [len(waveform)] * 2 * 3 * passes  # once a minute, both times


def test_threads_agree() -> None:
    waveform = np.concatenate([silence(1), voice(8), silence(1)])
    expected = detect_speech(waveform).tolist()
    results: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: results.append(detect_speech(waveform).tolist())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
    assert detect_speech(waveform, num_threads=2).tolist() == expected


def test_recordings_side_by_side_are_as_one_by_one() -> None:
    waveforms = [np.concatenate([silence(1), voice(seconds, 100 + 30 * seconds)]) for seconds in (1, 2, 3)]
    alone = [detect_speech(waveform, engine="cascade", threshold=0.6).tolist() for waveform in waveforms]
    together = detect_speech_in(waveforms, num_threads=2, engine="cascade", threshold=0.6)
    assert [fragments.tolist() for fragments in together] == alone
    with pytest.raises(InputError, match="num_threads"):
        detect_speech_in(waveforms, num_threads=0)


def test_bad_input() -> None:
    wrong: list[NDArray[Any]] = [np.zeros(100), np.zeros((100, 1), np.float32), np.zeros(100, np.int16)]
    for bad in wrong:
        with pytest.raises(InputError, match="waveform"):
            detect_speech(bad)
    good = np.zeros(100, np.float32)
    with pytest.raises(InputError, match="'energy'"):
        detect_speech(good, engine="energy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="aggressiveness"):
        detect_speech(good, engine="webrtc", aggressiveness=4)
    with pytest.raises(InputError, match="num_threads"):
        detect_speech(good, num_threads=0)


def test_fingerprints(silero_file: Path) -> None:
    name, digest = vad_fingerprint("silero")
    assert name == "silero-vad"
    assert digest == hashlib.sha256(silero_file.read_bytes()).hexdigest()
    assert vad_fingerprint("webrtc")[0] == "webrtcvad"
    assert vad_fingerprint("cascade")[0] == "silero-vad-cascade"
    assert len({vad_fingerprint(engine)[1] for engine in ENGINES}) == len(ENGINES)
    with pytest.raises(InputError, match="'energy'"):
        vad_fingerprint("energy")  # type: ignore[arg-type]


def test_importing_is_light() -> None:
    program = (
        "import sys, seamlessalign.segmentation;"
        "sys.exit(bool({'torch', 'onnxruntime', 'webrtcvad', 'silero_vad'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
