"""Voice activity: engines against their packages, and scores to fragments against a slow state machine."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign import espeak
from seamlessalign.errors import InputError, ModelError
from seamlessalign.segmentation import detect_speech, detect_speech_in, silero, vad
from seamlessalign.segmentation.onnx_messages import read_network
from seamlessalign.segmentation.vad import (
    FrameScores,
    cascade_scores,
    fragments_of,
    possible_speech,
    silero_scores,
    vad_fingerprint,
    webrtc_scores,
)
from tests.segmentation.voice import silence, voice

RATE = 16_000
ENGINES = get_args(vad.Engine)


# --- scores to fragments


def _slow_fragments(
    scores: FrameScores, threshold: float, min_speech: int, min_silence: int, pad: int, longest: float
) -> list[list[int]]:
    """Frame by frame, times in samples."""
    frame, total = scores.frame_samples, scores.num_samples
    probabilities = scores.probabilities.tolist()
    lower = min(threshold, max(threshold - 0.15, 0.01))
    found: list[list[int]] = []
    start: int | None = None
    silence_from: int | None = None
    for number, probability in enumerate(probabilities):
        now = number * frame
        if np.float32(probability) >= np.float32(threshold):
            silence_from = None
            if start is None:
                start = now
        elif np.float32(probability) < np.float32(lower) and start is not None:
            if silence_from is None:
                silence_from = now
            if now - silence_from >= min_silence:
                found.append([start, silence_from])
                start = silence_from = None
    if start is not None:
        found.append([start, total])
    found = [[begin, end] for begin, end in found if end - begin > min_speech]

    padded = [list(span) for span in found]
    for number, (begin, end) in enumerate(found):
        before = begin - found[number - 1][1] if number else None
        after = found[number + 1][0] - end if number + 1 < len(found) else None
        padded[number][0] = max(0, begin - (pad if before is None or before >= 2 * pad else before // 2))
        padded[number][1] = min(total, end + (pad if after is None or after >= 2 * pad else after // 2))

    pieces: list[list[int]] = []
    for begin, end in padded:
        while end - begin > longest:
            earliest, latest = begin + int(longest) // 2, min(begin + int(longest), end - max(min_speech, 1))
            best = None
            for number, (probability, level) in enumerate(zip(probabilities, scores.levels.tolist(), strict=True)):
                middle = number * frame + frame // 2
                if earliest <= middle <= latest and (best is None or (probability, level) <= best[:2]):
                    best = (probability, level, middle)
            assert best is not None
            pieces.append([begin, best[2]])
            begin = best[2]
        pieces.append([begin, end])
    return pieces


_probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.02, 0.3, 0.34, 0.36, 0.5, 0.6, 0.99]), st.integers(1, 40)), max_size=12
).map(lambda runs: [probability for probability, count in runs for _ in range(count)])


@given(
    _probabilities,
    st.sampled_from([480, 512]),
    st.integers(0, 511),
    st.sampled_from([0.1, 0.35, 0.5, 0.9]),
    st.sampled_from([0, 90, 250]),
    st.sampled_from([0, 64, 100, 500]),
    st.sampled_from([0, 30, 200]),
    st.sampled_from([0.75, 1.0, 2.5, float("inf")]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=300, deadline=None)
def test_fragments_equal_the_slow_machine(
    probabilities: list[float],
    frame: int,
    missing: int,
    threshold: float,
    min_speech_ms: int,
    min_silence_ms: int,
    pad_ms: int,
    longest: float,
    seed: int,
) -> None:
    num_samples = max(0, len(probabilities) * frame - missing % frame)
    levels = np.random.default_rng(seed).integers(0, 4, len(probabilities)).astype(np.float32)
    scores = FrameScores(np.array(probabilities, np.float32), levels, frame, num_samples)
    fragments = fragments_of(
        scores,
        threshold=threshold,
        min_speech_ms=min_speech_ms,
        min_silence_ms=min_silence_ms,
        speech_pad_ms=pad_ms,
        max_fragment_seconds=longest,
    )
    expected = _slow_fragments(scores, threshold, min_speech_ms * 16, min_silence_ms * 16, pad_ms * 16, longest * RATE)
    assert fragments.tolist() == expected
    assert fragments.dtype == np.int64
    assert fragments.shape[1] == 2
    assert (fragments[:, 1] > fragments[:, 0]).all()
    assert (fragments[1:, 0] >= fragments[:-1, 1]).all()
    assert (fragments >= 0).all()
    assert (fragments <= num_samples).all()
    assert (fragments[:, 1] - fragments[:, 0] <= longest * RATE).all()


def _scores(probabilities: list[float], levels: list[float] | None = None) -> FrameScores:
    quiet = np.zeros(len(probabilities)) if levels is None else np.array(levels)
    return FrameScores(np.array(probabilities, np.float32), quiet.astype(np.float32), 512, len(probabilities) * 512)


def test_by_hand() -> None:
    scores = _scores([0.0] * 10 + [0.9] * 20 + [0.0] * 10)
    assert fragments_of(scores).tolist() == [[10 * 512 - 480, 30 * 512 + 480]]
    assert fragments_of(scores, speech_pad_ms=0).tolist() == [[10 * 512, 30 * 512]]
    assert fragments_of(scores, min_speech_ms=640).tolist() == []  # longer than, not as long as


def test_frames_between_the_thresholds_do_not_change_the_state() -> None:
    assert fragments_of(_scores([0.4] * 20)).tolist() == []
    assert fragments_of(_scores([0.9] + [0.4] * 19), speech_pad_ms=0).tolist() == [[0, 20 * 512]]


def test_cut_at_the_least_probable_and_quietest_place() -> None:
    probabilities = [0.9] * 100
    probabilities[40] = 0.6  # inside the second half of 50 frames
    probabilities[10] = 0.5  # less probable, but it would leave a short piece
    scores = _scores(probabilities)
    expected = [[0, 40 * 512 + 256], [40 * 512 + 256, 100 * 512]]
    assert fragments_of(scores, max_fragment_seconds=62 * 512 / RATE).tolist() == expected
    levels = [1.0] * 100
    levels[45] = 0.5
    scores = _scores([1.0] * 100, levels)  # nothing but the level tells frames apart
    assert fragments_of(scores, max_fragment_seconds=62 * 512 / RATE)[0].tolist() == [0, 45 * 512 + 256]


@pytest.mark.parametrize(
    "settings_",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"threshold": float("nan")},
        {"min_speech_ms": -1},
        {"min_silence_ms": -1},
        {"speech_pad_ms": -1},
        {"max_fragment_seconds": 0.5},
        {"max_fragment_seconds": float("nan")},
    ],
)
def test_bad_settings(settings_: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        fragments_of(_scores([0.9] * 100), **settings_)


# --- engines


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


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package silero_vad, which sets torch to one thread when it is imported."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield pytest.importorskip("silero_vad")
    torch.set_num_threads(threads)


def test_silero_equals_its_package(package: Any) -> None:
    # More than one walk, speech across their border, and a last frame that is not full.
    parts = [silence(58.5), voice(2), silence(1), voice(1.5, 200), silence(2), voice(2, 160)]
    waveform = np.concatenate(parts)[:-100]
    model = package.load_silero_vad(sequence=True)
    scores = silero_scores(waveform)
    np.testing.assert_array_equal(scores.probabilities, model.audio_forward(waveform))
    expected = [[s["start"], s["end"]] for s in package.get_speech_timestamps_sequence(waveform, model)]
    assert len(expected) >= 2
    assert detect_speech(waveform, max_fragment_seconds=float("inf")).tolist() == expected


@pytest.mark.parametrize("seed", range(50))
def test_fragments_equal_those_of_the_silero_package(package: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = rng.integers(1, 30, 60)
    probabilities = np.repeat(rng.random(60), runs) + rng.normal(0, 0.1, runs.sum())
    scores = _scores(probabilities.clip(0, 1).tolist())
    chosen = {
        "threshold": float(rng.choice([0.3, 0.5, 0.7])),
        "min_speech_ms": int(rng.choice([0, 64, 250])),
        "min_silence_ms": int(rng.choice([0, 100, 160, 400])),
        "speech_pad_ms": int(rng.choice([0, 30, 100])),
    }
    stamps = package.get_speech_timestamps_from_probs(
        scores.probabilities.tolist(),
        threshold=chosen["threshold"],
        min_speech_duration_ms=chosen["min_speech_ms"],
        min_silence_duration_ms=chosen["min_silence_ms"],
        speech_pad_ms=chosen["speech_pad_ms"],
    )
    assert len(stamps) > 3
    result = fragments_of(scores, max_fragment_seconds=float("inf"), **chosen)  # type: ignore[arg-type]
    assert result.tolist() == [[stamp["start"], stamp["end"]] for stamp in stamps]


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


# --- the cascade


def _slow_possible(levels: list[float]) -> list[bool]:
    """The rule of `possible_speech`, frame by frame."""
    decibels = [10 * np.log10(np.float32(level) + np.float32(1e-12)) for level in levels]
    blocks = []
    for first in range(0, len(levels), 16):
        block = [np.float32(level) for level in levels[first : first + 16]]
        block += [block[-1]] * (16 - len(block))
        mean = 10 * np.log10(np.mean(block, dtype=np.float32) + np.float32(1e-12))
        blocks.append((mean, 10 * np.log10(sorted(block)[-3] + np.float32(1e-12))))
    loud = []
    for number, level in enumerate(decibels):
        near = blocks[max(number // 16 - 15, 0) : number // 16 + 16]
        floor, peak = min(mean for mean, _ in near), max(peak for _, peak in near)
        loud.append(level > -90 and (level > floor + 3 or peak - floor < 12))
    return [any(loud[max(number - 31, 0) : number + 95]) for number in range(len(levels))]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1e-10, 1e-8, 2.5e-8, 1e-6, 1e-3, 0.04]), st.integers(1, 300)), max_size=8),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_possible_speech_equals_the_slow_rule(runs: list[tuple[float, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.array([level for level, count in runs for _ in range(count)], np.float32)
    levels *= rng.choice(np.array([1.0, 1.7], np.float32), len(levels))
    assert possible_speech(levels).tolist() == _slow_possible(levels.tolist())


def test_speech_is_not_possible_in_silence_and_is_everywhere_in_noise_alone() -> None:
    assert not possible_speech(np.zeros(1000, np.float32)).any()
    assert possible_speech(np.full(1000, 1e-4, np.float32)).all()
    pause = np.array([1e-3] * 200 + [1e-6] * 400 + [1e-3] * 200, np.float32)
    assert np.flatnonzero(~possible_speech(pause)).tolist() == list(range(231, 506))


def test_the_fast_form_of_the_network_says_the_same(package: Any) -> None:
    """Along a whole recording, so that what the networks remember must agree as well."""
    waveform = np.concatenate([silence(2), voice(6), 20 * silence(4), voice(3, 210), 1000 * silence(3)])
    frames = waveform[: len(waveform) // 512 * 512].reshape(-1, 512)
    fast = silero.SileroState(products=True).score(silero.with_context(frames, np.zeros(64, np.float32)))
    slow = package.load_silero_vad(sequence=True).audio_forward(waveform)[: len(frames)]
    assert slow.min() < 0.1 and slow.max() > 0.9
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-6)


def test_a_network_that_is_not_known_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = _model_file().read_bytes()
    with pytest.raises(ValueError, match="built otherwise"):
        silero.as_products((_model_file().parent / "silero_vad_16k_op15.onnx").read_bytes())
    with pytest.raises(ValueError, match="ends"):
        silero.as_products(own[:-1000])
    numbers = read_network(own)[1]["encoder.1.bias"].tobytes()
    assert own.count(numbers) == 1
    made = silero.as_products(own.replace(numbers, np.full(64, 0.5, "<f4").tobytes()))  # one layer is another
    monkeypatch.setattr(silero, "as_products", lambda _: made)
    assert silero._products.__wrapped__() == own
    assert "runs as it is" in caplog.text


_SAYINGS = (
    ("en-us", "Please enter your conference number, followed by the pound key."),
    ("fr", "Veuillez composez votre numéro de conférence, suivi du dièse."),
    ("es", "Por favor, introduzca el número de la persona a la que desea llamar."),
    ("it", "La persona alla estensione non è disponibile in questo momento."),
)


def _awkward(kind: str) -> NDArray[np.float32]:
    """Sentences with pauses of 6 s. (Of `voice` silero is not sure: there, what it heard before tells.)"""
    pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")
    parts = [np.zeros(RATE, np.float32)]
    for lang, text in _SAYINGS:
        sound, rate = espeak.speak_afresh(text, lang)
        parts += [soxr.resample(sound, rate, RATE), np.zeros(6 * RATE, np.float32)]
    speech = np.concatenate(parts)
    time, rng = np.arange(len(speech)) / RATE, np.random.default_rng(1)
    added = {
        "quiet": lambda: 1e-4 * rng.standard_normal(len(speech)),
        "noise": lambda: 0.01 * rng.standard_normal(len(speech)),
        "hum": lambda: 0.01 * np.sin(2 * np.pi * 50 * time),
        "tones": lambda: 0.1 * np.sin(2 * np.pi * 440 * time) * (time % 2 < 1),
    }
    return (speech + added[kind]()).astype(np.float32)


@pytest.mark.parametrize(("kind", "most"), [("quiet", 0.9), ("noise", 0.9), ("hum", 0.9), ("tones", 1.0)])
def test_the_cascade_keeps_what_silero_decides(kind: str, most: float) -> None:
    waveform = _awkward(kind)
    decided = silero_scores(waveform).probabilities >= 0.5
    scores = cascade_scores(waveform)
    assert ((scores.probabilities >= 0.5) == decided).mean() >= 0.995
    assert 0.1 < decided.mean() < 0.8
    looked_at = possible_speech(scores.levels)
    assert looked_at.mean() <= most
    assert not scores.probabilities[~looked_at].any()


@pytest.mark.slow
@pytest.mark.speech
def test_the_cascade_keeps_what_silero_decides_on_human_speech(tmp_path: Path) -> None:
    from benchmarks.noisy_speech import conditions_of, prompt_waveforms, with_pauses
    from seamlessalign.errors import SeamlessAlignError

    try:
        prompts = prompt_waveforms(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path)), 6, seed=11)
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    shares = {}
    for name, waveform in conditions_of(with_pauses(prompts, seed=11), seed=11):
        decided = silero_scores(waveform).probabilities >= 0.5
        shares[name] = ((cascade_scores(waveform).probabilities >= 0.5) == decided).mean()
    assert len(shares) == 14
    assert min(shares.values()) >= 0.995, shares


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


def _model_file() -> Path:
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx"


def test_fingerprints() -> None:
    name, digest = vad_fingerprint("silero")
    assert name == "silero-vad"
    assert digest == hashlib.sha256(_model_file().read_bytes()).hexdigest()
    assert vad_fingerprint("webrtc")[0] == "webrtcvad"
    assert vad_fingerprint("cascade")[0] == "silero-vad-cascade"
    assert len({vad_fingerprint(engine)[1] for engine in ENGINES}) == len(ENGINES)
    with pytest.raises(InputError, match="'energy'"):
        vad_fingerprint("energy")  # type: ignore[arg-type]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_sessions", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install 'silero-vad"):
        detect_speech(voice(0.5))


def test_importing_is_light() -> None:
    program = (
        "import sys, seamlessalign.segmentation;"
        "sys.exit(bool({'torch', 'onnxruntime', 'webrtcvad', 'silero_vad'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_silero_does_not_import_torch() -> None:
    program = (
        "import sys, numpy as np; from seamlessalign.segmentation import detect_speech;"
        "detect_speech(np.zeros(16000, np.float32)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
