"""From scores of frames to fragments of speech: against a slow state machine, and against silero's package."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.segmentation.vad import FrameScores, fragments_of

RATE = 16_000


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


@pytest.mark.parametrize("seed", range(50))
def test_fragments_equal_those_of_the_silero_package(silero_package: Any, seed: int) -> None:
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
    stamps = silero_package.get_speech_timestamps_from_probs(
        scores.probabilities.tolist(),
        threshold=chosen["threshold"],
        min_speech_duration_ms=chosen["min_speech_ms"],
        min_silence_duration_ms=chosen["min_silence_ms"],
        speech_pad_ms=chosen["speech_pad_ms"],
    )
    assert len(stamps) > 3
    result = fragments_of(scores, max_fragment_seconds=float("inf"), **chosen)  # type: ignore[arg-type]
    assert result.tolist() == [[stamp["start"], stamp["end"]] for stamp in stamps]
