"""The cascade: where speech is possible against a slow rule, and that it decides as the whole network does."""

import os
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign import espeak
from seamlessalign.segmentation.vad import cascade_scores, possible_speech, silero_scores

RATE = 16_000


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
