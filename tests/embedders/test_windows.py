"""Windows hold all speech within their limits, and their frames, stitched, are those of the recording itself."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.embedders.windows import Waiting, cut_windows, parts_of, stitch, stretches
from seamlessalign.errors import InputError

Int64 = NDArray[np.int64]
STRIDE, OFFSET, FRAME = 320, 280, 560  # SONAR's: a frame is FRAME samples long


def _count(window: Int64) -> int:
    return max(0, int(window[1] - window[0]) - FRAME) // STRIDE + 1 if window[1] - window[0] >= FRAME else 0


def _windows(speech: list[tuple[float, float]], seconds: float, **limits: float) -> list[list[float]]:
    """In seconds, speech too; a stride of 10 ms."""
    fragments = (np.array(speech) * 16_000).round().astype(np.int64)
    given = {"max_seconds": 10.0, "context_seconds": 2.0} | limits
    return (cut_windows(fragments, int(seconds * 16_000), stride=160, **given) / 16_000).tolist()  # type: ignore[arg-type,no-any-return]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Int64, int]:
    """Fragments of up to 12 s, some touching, in a recording."""
    steps = draw(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 192_000)), min_size=1, max_size=12))
    speech, now = [], 0
    for gap, length in steps:
        start = now + gap * draw(st.booleans())
        now = start + length
        speech.append((start, now))
    return np.array(speech, np.int64), now + draw(st.integers(0, 20_000))


class TestCut:
    def test_a_window_has_context_on_both_sides(self) -> None:
        assert _windows([(5, 6), (6.5, 8)], 20) == [[3, 10]]

    def test_context_ends_with_the_recording(self) -> None:
        assert _windows([(1, 6)], 7) == [[0, 7]]

    def test_windows_part_between_fragments(self) -> None:
        assert _windows([(5, 8), (8, 10), (10.5, 12)], 20) == [[3, 12], [8.5, 14]]

    def test_a_long_pause_is_not_encoded(self) -> None:
        assert _windows([(5, 6), (7.5, 8)], 20) == [[3, 8], [5.5, 10]]
        assert _windows([(5, 6), (7.5, 8)], 20, max_gap_seconds=2) == [[3, 10]]

    def test_a_fragment_that_fills_a_window_has_less_context(self) -> None:
        assert _windows([(5, 13)], 20) == [[4, 14]]

    def test_only_what_no_window_holds_is_cut(self) -> None:
        assert _windows([(5, 17), (17, 18)], 30) == [[3, 13], [9, 19], [15, 20]]

    @pytest.mark.parametrize(
        "speech", [[(3, 3)], [(2, 1)], [(0, 2), (1, 3)], [(2, 3), (0, 1)], [(-1, 2)], [(0, 21)], [3.0]]
    )
    def test_what_is_no_speech_is_refused(self, speech: list[tuple[float, float]]) -> None:
        with pytest.raises(InputError, match=r"fragment|shape"):
            _windows(speech, 20)

    @pytest.mark.parametrize(("longest", "context"), [(4, 2), (1, 2), (10, -1)])
    def test_limits_that_leave_no_room_are_refused(self, longest: float, context: float) -> None:
        with pytest.raises(InputError, match="have no room"):
            _windows([(1, 2)], 20, max_seconds=longest, context_seconds=context)

    def test_no_speech(self) -> None:
        windows = cut_windows(np.zeros((0, 2), np.int64), 100, max_seconds=9, context_seconds=1, stride=10)
        assert windows.shape == (0, 2)
        stitched = stitch(windows, np.zeros((0, 2), np.int64), [], 100, stride=10, offset=5)
        assert len(stitched.time) == len(stitched.window) == len(stitched.place) == 0


@given(recordings(), st.floats(0.5, 15), st.floats(0, 0.4), st.floats(0, 3))
@settings(max_examples=200, deadline=None)
def test_each_frame_of_speech_comes_once_and_in_order(
    recording: tuple[Int64, int], longest: float, share: float, max_gap: float
) -> None:
    speech, num_samples = recording
    windows = cut_windows(
        speech,
        num_samples,
        max_seconds=longest,
        context_seconds=share * longest,
        max_gap_seconds=max_gap,
        stride=STRIDE,
    )
    starts, ends = windows.T
    assert (starts % STRIDE == 0).all() and (starts >= 0).all() and (ends <= num_samples).all()
    assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()
    assert (ends - starts <= longest * 16_000).all()
    for start, end in speech:
        if end - start + 3 * STRIDE <= longest * 16_000 // STRIDE * STRIDE:
            assert ((starts <= start) & (end <= ends)).any()  # a fragment that can stay whole does

    counts = [_count(window) for window in windows]
    stitched = stitch(windows, speech, counts, num_samples, stride=STRIDE, offset=OFFSET)
    grid = np.arange(_count(np.array([0, num_samples]))) * STRIDE + OFFSET
    wanted = [time for time in grid.tolist() if any(start <= time < end for start, end in speech.tolist())]
    assert stitched.time.tolist() == wanted
    assert (np.diff(stitched.window) >= 0).all()
    np.testing.assert_array_equal(starts[stitched.window] + stitched.place * STRIDE + OFFSET, stitched.time)
    for window, place, time in zip(stitched.window, stitched.place, stitched.time, strict=True):
        assert 0 <= place < counts[window]
        contexts = [_context(other, time, num_samples) for other in windows]
        assert _context(windows[window], time, num_samples) == max(contexts)


def _context(window: Int64, time: int, num_samples: int) -> float:
    """Samples from a time to the nearer end of a window that is not the recording's; below 0 outside the window."""
    start, end = window.tolist()
    if not start <= time < end:
        return -1
    sides = [time - start] * (start > 0) + [end - time] * (end < num_samples)
    return min(sides, default=num_samples)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12))
def test_stretches_are_what_spans_cover(drawn: list[tuple[int, int]]) -> None:
    spans = np.array([(start, start + length) for start, length in drawn], np.int64).reshape(-1, 2)
    covered = np.zeros(80, bool)
    for start, end in spans:
        covered[start:end] = True
    found = stretches(spans)
    again = np.zeros(80, bool)
    for start, end in found:
        again[start:end] = True
    np.testing.assert_array_equal(again, covered)
    assert (found[1:, 0] > found[:-1, 1]).all()


def test_stretches_part_in_the_middle_of_pauses() -> None:
    covered = np.array([[10, 50], [70, 90]])
    fragments = np.array([[0, 5], [10, 20], [24, 40], [40, 50], [70, 90], [100, 120]])
    assert parts_of(covered, fragments).tolist() == [[10, 22], [22, 40], [40, 50], [70, 90]]
    assert parts_of(covered, np.zeros((0, 2), np.int64)).tolist() == covered.tolist()


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30)), max_size=20),
    st.lists(st.integers(0, 120), max_size=60).map(sorted),
    st.lists(st.integers(0, 120), max_size=6).map(sorted),
)
def test_each_span_is_ready_once_with_its_frames(
    drawn: list[tuple[int, int]], times: list[int], parts: list[int]
) -> None:
    spans = np.array([(start, start + length) for start, length in drawn], np.int64).reshape(-1, 2)
    time = np.array(times, np.int64)
    waiting, held, found = Waiting(spans), np.zeros(0, np.int64), dict[int, list[int]]()
    edges = [0, *parts, 1000]
    for begin, reached in itertools.pairwise(edges):
        now = time[(begin <= time) & (time < reached)]
        held = np.r_[held, now]
        ready, ranges, done = waiting.arrived(now, reached)
        for i, (first, last) in zip(ready.tolist(), ranges, strict=True):
            assert i not in found and spans[i, 1] <= reached
            found[i] = held[first:last].tolist()
        held = held[done:]
        wanted = [start for i, (start, _) in enumerate(spans.tolist()) if i not in found]
        assert (held >= min(wanted, default=reached)).all()  # nothing is held for nobody
    assert found == {i: [t for t in times if start <= t < end] for i, (start, end) in enumerate(spans.tolist())}
