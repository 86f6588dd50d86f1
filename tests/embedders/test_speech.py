"""Transcribe-then-embed: what is transcribed, how texts are joined, and which spans are refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.embedders import Card, TextEmbedder, load_speech_embedder
from seamlessalign.embedders.speech import TranscribingEmbedder
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import ModelFiles
from seamlessalign.rows import SAMPLE_RATE
from tests.embedders.fakes import DIM, RecordingEncoder, RecordingWhisper, text_row

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

MEANS = {
    "eng": np.linspace(-0.1, 0.2, DIM).astype(np.float32),
    "fra": np.linspace(0.3, -0.2, DIM).astype(np.float32),
}
FRAGMENTS = np.array([[100, 200], [250, 400], [400, 450], [600, 900]], np.int64)


class Parts:
    """An embedder and its two recording models."""

    def __init__(self) -> None:
        self.whisper, self.encoder = RecordingWhisper(), RecordingEncoder()
        files = ModelFiles("e5-small", "directory", "nowhere", (), Path(), "2" * 64)
        text = TextEmbedder("e5-small", files, self.encoder, Card("e5-small", DIM, MEANS))
        self.embedder = TranscribingEmbedder("transcribe-e5", self.whisper, text, Card("transcribe-e5", DIM))


@pytest.fixture
def parts() -> Parts:
    return Parts()


def _recording(fragments: Int64, values: list[int], length: int = 1000) -> Float32:
    """Samples whose value says which fragment they are of."""
    waveform = _sound(-9, length)
    for (start, end), value in zip(fragments, values, strict=True):
        waveform[start:end] = _sound(value, end - start)
    return waveform


def _sound(value: int, length: int) -> Float32:
    """What is not silent, and begins with a value."""
    return np.asarray(value + 0.25 * (np.arange(length) % 2), np.float32)


def _unit(row: Float32) -> Float32:
    return np.asarray(row / np.sqrt((row.astype(np.float64) ** 2).sum()), np.float32)


def _expected(words: list[int], lang: str) -> Float32:
    """The row of a span whose fragments hold these words, each step written out."""
    views = [(" ".join(f"word{n}" for n in words), lang)]
    if lang != "eng":
        views.append((" ".join(f"english{n}" for n in words), "eng"))
    return _unit(np.asarray(sum(_unit(_unit(text_row(text)) - MEANS[view]) for text, view in views), np.float32))


def test_transcripts_of_a_spans_fragments_are_joined(parts: Parts) -> None:
    waveform = _recording(FRAGMENTS, [0, 1, 2, 3])
    spans = np.array([[100, 200], [100, 450], [250, 900], [600, 900]], np.int64)
    rows = parts.embedder.embed(waveform, spans, "fra", FRAGMENTS)
    assert rows.shape == (4, DIM) and rows.dtype == np.float32
    for row, words in zip(rows, ([0], [0, 1, 2], [1, 2, 3], [3]), strict=True):
        np.testing.assert_allclose(row, _expected(words, "fra"), atol=1e-5)


def test_nothing_is_put_between_in_a_script_without_spaces(parts: Parts) -> None:
    parts.embedder.embed(_recording(FRAGMENTS, [0, 1, 2, 3]), np.array([[100, 450]]), "jpn", FRAGMENTS)
    assert parts.encoder.asked == [["word0word1word2"], ["english0 english1 english2"]]


def test_english_is_heard_once(parts: Parts) -> None:
    rows = parts.embedder.embed(_recording(FRAGMENTS, [0, 1, 2, 3]), np.array([[100, 400]]), "eng", FRAGMENTS)
    assert parts.whisper.tasks == ["transcribe"]
    np.testing.assert_allclose(rows[0], _expected([0, 1], "eng"), atol=1e-5)


def test_a_fragment_is_transcribed_once_however_many_spans_it_is_part_of(parts: Parts) -> None:
    spans = np.array([[FRAGMENTS[i, 0], FRAGMENTS[j, 1]] for i in range(3) for j in range(i, 3)] * 3)
    rows = parts.embedder.embed(_recording(FRAGMENTS, [0, 1, 2, 3]), spans, "fra", FRAGMENTS)
    assert sorted(parts.whisper.heard) == [(0, 100, "fra"), (1, 150, "fra"), (2, 50, "fra")]  # and 3 is in no span
    assert len(rows) == 18 and [len(asked) for asked in parts.encoder.asked] == [6, 6]  # equal texts once
    np.testing.assert_array_equal(rows[:6], rows[6:12])


def test_without_fragments_a_span_is_one(parts: Parts) -> None:
    waveform = _recording(FRAGMENTS, [0, 1, 2, 3])
    spans = np.array([[600, 900], [100, 200], [600, 900]], np.int64)
    rows = parts.embedder.embed(waveform, spans, "fra")
    assert sorted(parts.whisper.heard) == [(0, 100, "fra"), (3, 300, "fra")]
    for row, words in zip(rows, ([3], [0], [3]), strict=True):
        np.testing.assert_allclose(row, _expected(words, "fra"), atol=1e-5)


def test_a_row_is_nan_where_nothing_is_heard(parts: Parts) -> None:
    waveform = _recording(FRAGMENTS, [0, -1, -2, 3])
    spans = np.array([[250, 400], [100, 400], [250, 450], [400, 900]], np.int64)
    rows = parts.embedder.embed(waveform, spans, "fra", FRAGMENTS)
    assert np.isnan(rows[[0, 2]]).all()
    np.testing.assert_allclose(rows[1], _expected([0], "fra"), atol=1e-5)  # no blank where nothing was said
    np.testing.assert_allclose(rows[3], _expected([3], "fra"), atol=1e-5)
    silent = parts.embedder.embed(_recording(FRAGMENTS, [-1] * 4), spans, "fra", FRAGMENTS)
    assert np.isnan(silent).all() and silent.shape == (4, DIM)


def test_no_spans_are_no_rows_and_no_work(parts: Parts) -> None:
    for fragments in (None, FRAGMENTS):
        rows = parts.embedder.embed(np.zeros(10, np.float32), np.zeros((0, 2), np.int64), "fra", fragments)
        assert rows.shape == (0, DIM)
    assert parts.whisper.heard == []


def test_what_is_too_long_to_be_heard_is_heard_in_pieces(parts: Parts) -> None:
    length = 60 * SAMPLE_RATE
    (row,) = parts.embedder.embed(_sound(5, length), np.array([[0, length]]), "fra")
    assert sum(samples for _, samples, _ in parts.whisper.heard) == length
    assert max(samples for _, samples, _ in parts.whisper.heard) <= 28 * SAMPLE_RATE
    np.testing.assert_allclose(row, _expected([5, 5, 5], "fra"), atol=1e-5)
    (transcripts,) = parts.embedder.hear(_sound(7, length), np.array([[0, length]]), "fra")
    assert [(t.text, t.looped) for t in transcripts] == [
        ("word7 word7 word7", True),
        ("english7 english7 english7", True),
    ]


def test_progress_reaches_the_seconds_of_speech(parts: Parts) -> None:
    seconds: list[float] = []
    spans = np.array([[100, 450], [250, 400]], np.int64)
    parts.embedder.embed(_recording(FRAGMENTS, [0, 1, 2, 3]), spans, "fra", FRAGMENTS, seconds.append)
    assert sum(seconds) == pytest.approx(300 / SAMPLE_RATE)


@pytest.mark.parametrize("span", [[-1, 100], [0, 1001], [100, 100], [200, 100], [1000, 1001]])
def test_a_span_outside_the_recording_is_refused(parts: Parts, span: list[int]) -> None:
    with pytest.raises(InputError, match=r"span 1 \[") as caught:
        parts.embedder.embed(np.zeros(1000, np.float32), np.array([[0, 10], span], np.int64), "fra")
    assert f"[{span[0]}, {span[1]})" in str(caught.value) and parts.whisper.heard == []


@pytest.mark.parametrize("span", [[101, 200], [100, 201], [250, 600], [900, 950], [0, 200], [450, 600], [400, 440]])
def test_a_span_that_is_no_run_of_fragments_is_refused(parts: Parts, span: list[int]) -> None:
    with pytest.raises(InputError, match=r"span 1 .* does not begin and end with a fragment"):
        parts.embedder.embed(np.zeros(1000, np.float32), np.array([[100, 200], span], np.int64), "fra", FRAGMENTS)
    assert parts.whisper.heard == []


def test_spans_of_no_fragments_are_refused(parts: Parts) -> None:
    with pytest.raises(InputError, match="does not begin and end with a fragment"):
        parts.embedder.embed(np.zeros(1000, np.float32), np.array([[1, 2]]), "fra", np.zeros((0, 2), np.int64))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(parts: Parts, value: float) -> None:
    waveform = _recording(FRAGMENTS, [0, 1, 2, 3])
    waveform[300] = value
    with pytest.raises(InputError, match="samples 250-400 are not all finite"):
        parts.embedder.embed(waveform, np.array([[100, 450]]), "fra", FRAGMENTS)
    parts.embedder.embed(waveform, np.array([[600, 900]]), "fra", FRAGMENTS)  # where it does not matter


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_runs_of_any_fragments(data: st.DataObject) -> None:
    edges = data.draw(st.lists(st.integers(0, 500), min_size=2, max_size=20, unique=True).map(sorted))
    fragments = np.array(list(zip(edges[::2], edges[1::2], strict=False)), np.int64)
    values = data.draw(st.lists(st.integers(-2, 9), min_size=len(fragments), max_size=len(fragments)))
    runs = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(fragments) - 1), st.integers(0, len(fragments) - 1)).map(sorted), max_size=8
        )
    )
    spans = np.array([[fragments[i, 0], fragments[j, 1]] for i, j in runs], np.int64).reshape(-1, 2)
    parts = Parts()
    rows = parts.embedder.embed(_recording(fragments, values, 501), spans, "fra", fragments)
    audible = fragments[:, 1] - fragments[:, 0] > 1  # one sample is no sound
    assert len(parts.whisper.heard) == len({n for i, j in runs for n in range(i, j + 1) if audible[n]})
    for row, (i, j) in zip(rows, runs, strict=True):
        words = [values[n] for n in range(i, j + 1) if values[n] >= 0 and audible[n]]
        if words:
            np.testing.assert_allclose(row, _expected(words, "fra"), atol=1e-5)
        else:
            assert np.isnan(row).all()


def test_models_and_dimensions(parts: Parts) -> None:
    assert dict(parts.embedder.models) == {"whisper-base": "1" * 64, "e5-small": "2" * 64}
    with pytest.raises(ModelError, match="its card has 3 dimensions, its text embedder 16"):
        TranscribingEmbedder("transcribe-e5", parts.whisper, parts.embedder._text, Card("x", 3))
    with pytest.raises(ModelError, match="transcribe-e5"):
        load_speech_embedder("sonor")
