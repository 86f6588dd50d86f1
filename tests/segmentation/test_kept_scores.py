"""Scores that were kept: the same decisions, for thresholds that are tried later."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.segmentation.kept_scores import FRAMES, to_row, to_scores
from seamlessalign.segmentation.vad import FrameScores, cascade_scores, fragments_of
from tests.segmentation.voice import silence, voice


def _through(scores: FrameScores) -> FrameScores:
    table = pa.Table.from_pylist([to_row("0" * 16, "a.wav", scores)], schema=FRAMES)
    return to_scores(table.to_pylist()[0])


@given(
    st.lists(st.floats(0, 1, width=32), max_size=200),
    st.integers(1, 255).map(lambda step: step / 256),
    st.sampled_from([480, 512]),
)
@settings(max_examples=100, deadline=None)
def test_a_frame_is_above_a_threshold_as_it_was(probabilities: list[float], threshold: float, frame: int) -> None:
    levels = np.linspace(0, 1, len(probabilities), dtype=np.float32)
    scores = FrameScores(np.array(probabilities, np.float32), levels, frame, len(probabilities) * frame)
    kept = _through(scores)
    assert (kept.frame_samples, kept.num_samples) == (scores.frame_samples, scores.num_samples)
    np.testing.assert_array_equal(kept.probabilities >= threshold, scores.probabilities >= threshold)
    np.testing.assert_allclose(kept.probabilities, scores.probabilities, rtol=0, atol=1 / 65536)
    before, after = (10 * np.log10(each.levels.astype(float) + 1e-12) for each in (scores, kept))
    np.testing.assert_allclose(after, before, rtol=0, atol=0.51)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_fragments_are_as_they_were(threshold: float) -> None:
    scores = cascade_scores(np.concatenate([silence(1), voice(4), silence(2), voice(3, 210), silence(1)]))
    expected = fragments_of(scores, threshold=threshold)
    assert len(expected)
    assert fragments_of(_through(scores), threshold=threshold).tolist() == expected.tolist()
