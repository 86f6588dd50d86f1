"""Windows of speech against a slow reading of their definition, and how windows make a recording's language."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.errors import InputError, ModelError
from seamlessalign.lid import SpeechLid, load_speech_lid
from seamlessalign.lid.speech import speech_windows, stretches
from seamlessalign.model_files import ModelFiles
from seamlessalign.rows import SAMPLE_RATE

Float32 = NDArray[np.float32]
HALF = SAMPLE_RATE // 2


def _slow_windows(waveform: Float32, fragments: list[tuple[int, int]], window: int, most: int) -> list[list[float]]:
    """Sample by sample: lay the speech end to end, and cut windows whose starts are evenly spread."""
    speech = [float(waveform[i]) for start, end in fragments for i in range(start, end)]
    count = max(1, min(most, len(speech) // window))
    last = max(0, len(speech) - window)
    starts = [0] if count == 1 else [int(last * i / (count - 1) + 1e-9) for i in range(count)]
    windows = [speech[start : start + window] for start in starts]
    return [found for found in windows if len(found) >= HALF]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Float32, list[tuple[int, int]]]:
    """A ramp, so that every sample is told apart, and sorted disjoint fragments."""
    edges = draw(st.lists(st.integers(0, 5 * SAMPLE_RATE), max_size=12, unique=True).map(sorted))
    fragments = list(zip(edges[::2], edges[1::2], strict=False))
    return np.arange(5 * SAMPLE_RATE, dtype=np.float32), fragments


@given(recordings(), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_windows_are_those_of_the_slow_reference(
    recording: tuple[Float32, list[tuple[int, int]]], quarters: int, most: int
) -> None:
    waveform, fragments = recording
    found = speech_windows(waveform, np.array(fragments, np.int64).reshape(-1, 2), quarters / 4, most)
    wanted = _slow_windows(waveform, fragments, quarters * SAMPLE_RATE // 4, most)
    assert [window.tolist() for window in found] == wanted
    assert all(window.dtype == np.float32 for window in found)


def test_without_fragments_the_whole_recording_is_speech() -> None:
    waveform = np.arange(3 * SAMPLE_RATE, dtype=np.float32)
    whole = speech_windows(waveform, np.array([[0, len(waveform)]], np.int64), 1.0, 2)
    for found, wanted in zip(speech_windows(waveform, None, 1.0, 2), whole, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_windows_reach_from_the_first_to_the_last_sample() -> None:
    waveform = np.arange(20 * SAMPLE_RATE, dtype=np.float32)
    windows = speech_windows(waveform, None, 3.0, 5)
    assert len(windows) == 5 and windows[0][0] == 0 and windows[-1][-1] == len(waveform) - 1


class FakeModel:
    """Says of a window the languages that its first sample stands for, and keeps what it was given."""

    files = ModelFiles("fake", "directory", "here", (), Path(), "0" * 64)

    def __init__(self, answers: dict[float, dict[str, float]]) -> None:
        self.answers = answers
        self.seen: list[int] = []

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]:
        self.seen += [len(waveform) for waveform in waveforms]
        return [self.answers[float(waveform[0])] for waveform in waveforms]


def test_probabilities_are_averaged_over_windows() -> None:
    waveform = np.repeat(np.array([1, 2, 3], np.float32), SAMPLE_RATE)
    model = FakeModel(
        {
            1: {"eng": 0.9, "fra": 0.1, "ita": 0},
            2: {"eng": 0.3, "fra": 0.3, "ita": 0.4},
            3: {"eng": 0, "fra": 1, "ita": 0},
        }
    )
    found = SpeechLid(model).identify(waveform, window_seconds=1.0, max_windows=3)
    assert [lang for lang, _ in found] == ["fra", "eng", "ita"]
    assert dict(found) == pytest.approx({"fra": 1.4 / 3, "eng": 0.4, "ita": 0.4 / 3})
    assert model.seen == [SAMPLE_RATE] * 3


def test_equal_probabilities_have_a_fixed_order() -> None:
    found = SpeechLid(FakeModel({0: {"ita": 0.5, "eng": 0.5}})).identify(np.zeros(SAMPLE_RATE, np.float32))
    assert found == [("eng", 0.5), ("ita", 0.5)]


def test_samples_that_are_not_finite_are_refused() -> None:
    waveform = np.ones(3 * SAMPLE_RATE, np.float32)
    waveform[SAMPLE_RATE] = np.nan
    with pytest.raises(InputError, match="not finite"):
        SpeechLid(FakeModel({})).identify(waveform)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 20))
def test_stretches_hold_every_fragment_once_and_are_as_long_as_may_be(lengths: list[int], tenths: int) -> None:
    ends = np.cumsum([length + 1 for length in lengths]) * SAMPLE_RATE // 10
    starts = ends - np.array(lengths) * SAMPLE_RATE // 10
    found = stretches(np.stack([starts, ends], axis=1), tenths / 10)
    assert [i for first, last in found for i in range(first, last)] == list(range(len(lengths)))
    for number, (first, last) in enumerate(found):
        assert last - first == 1 or sum(lengths[first:last]) <= tenths
        if number + 1 < len(found):  # the next fragment would have been too much
            assert sum(lengths[first : last + 1]) > tenths
    assert stretches(np.zeros((0, 2), np.int64), 1.0) == []


def test_each_stretch_is_decided_by_its_own_speech() -> None:
    fragments = np.array([[0, SAMPLE_RATE], [2 * SAMPLE_RATE, 3 * SAMPLE_RATE], [4 * SAMPLE_RATE, 4 * SAMPLE_RATE + 9]])
    waveform = np.repeat(np.array([1, 0, 2, 0, 1], np.float32), SAMPLE_RATE)
    lid = SpeechLid(FakeModel({1: {"eng": 0.9, "fra": 0.1}, 2: {"eng": 0.4, "fra": 0.6}}))
    first, second, third = lid.stretches(waveform, fragments, window_seconds=1.0, min_prob=0.7)
    assert first.decision is not None and (first.decision.answer, first.decision.lang) == ("eng", "eng")
    assert second.decision is not None and (second.decision.answer, second.decision.lang) == ("unknown", "fra")
    assert third.decision is None and (third.first, third.last) == (2, 3)


def test_no_stretch_goes_across_a_change_that_its_window_hides() -> None:
    """Of anything with English in it, this identifier says that it is English."""

    class Deaf(FakeModel):
        def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]:
            return [{"eng": 0.99, "fra": 0.01} if 1 in found else {"eng": 0.01, "fra": 0.99} for found in waveforms]

    starts = np.arange(9) * 2 * SAMPLE_RATE
    fragments = np.stack([starts, starts + SAMPLE_RATE], axis=1)
    waveform = np.repeat(np.array([1, 2, 2, 1, 1, 2, 1, 2, 2], np.float32), 2 * SAMPLE_RATE)
    found = SpeechLid(Deaf({})).stretches(waveform, fragments, window_seconds=10.0, min_prob=0.7)
    answers = [(one.first, one.last, one.decision.answer) for one in found if one.decision]
    assert answers == [(0, 1, "eng"), (1, 3, "fra"), (3, 5, "eng"), (5, 6, "fra"), (6, 7, "eng"), (7, 9, "fra")]


@pytest.mark.parametrize("fragments", [None, np.zeros((0, 2), np.int64), np.array([[0, 100], [200, 300]])])
def test_too_little_speech_is_refused(fragments: NDArray[np.int64] | None) -> None:
    waveform = np.zeros(HALF - 1 if fragments is None else SAMPLE_RATE, np.float32)
    with pytest.raises(InputError, match="too little speech"):
        SpeechLid(FakeModel({})).identify(waveform, fragments)


def test_an_unknown_identifier_lists_those_that_are_known() -> None:
    with pytest.raises(ModelError, match="whisper-base, ecapa-voxlingua107, ecapa"):
        load_speech_lid("ecapa-tiny")
