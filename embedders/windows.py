"""A recording's speech → windows that an encoder can take, and the frames of windows → one row of frames.

An encoder sees so many seconds at a time, and hears a frame best with something on both sides of it. So speech is cut
into windows, between fragments where there is a way, that overlap by their context; each frame of speech is then taken
from the window in which it is farthest from a cut. Times are samples at 16 kHz, half-open. Windows begin at multiples
of the frames' stride, so that the frames of all windows lie on one grid.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stitched:
    """Where each frame of speech comes from, in order of time; windows never fall, so they can be read one by one."""

    window: Int64  # (num_frames,)
    place: Int64  # (num_frames,): which of its window's frames
    time: Int64  # (num_frames,): sample of the recording at the frame's middle


def stretches(spans: Int64) -> Int64:
    """What spans `(num_spans, 2)` cover, in any order and overlapping or not: sorted, no two that touch."""
    if not len(spans):
        return np.zeros((0, 2), np.int64)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.r_[True, spans[1:, 0] > reach[:-1]])
    return np.stack([spans[first, 0], reach[np.r_[first[1:] - 1, len(spans) - 1]]], 1)


def parts_of(covered: Int64, fragments: Int64) -> Int64:
    """`stretches`, cut in the middle of each pause between `fragments`: between parts a window does least harm."""
    pauses = (fragments[:-1, 1] + fragments[1:, 0]) // 2
    cover = np.searchsorted(covered[:, 0], pauses, side="right") - 1
    pauses = pauses[(cover >= 0) & (pauses > covered[cover, 0]) & (pauses < covered[cover, 1])]
    starts, ends = np.sort(np.r_[covered[:, 0], pauses]), np.sort(np.r_[covered[:, 1], pauses])
    return np.stack([starts, ends], 1).astype(np.int64)


def cut_windows(
    speech: Int64,
    num_samples: int,
    *,
    max_seconds: float,
    context_seconds: float,
    stride: int,
    max_gap_seconds: float = 1.0,
) -> Int64:
    """Windows over speech: int64 `(num_windows, 2)`, samples, starts and ends growing.

    Args:
        speech: int64 `(num_fragments, 2)`, sorted and disjoint; fragments may touch.
        num_samples: of the recording, beyond which no window reaches.
        max_seconds: of a window, its context included.
        context_seconds: on both sides of a window's speech, at least one stride. A fragment that fills a window gets
            less; one that no window holds, and only such a one, is cut, into pieces of like length.
        stride: samples from frame to frame; windows begin at its multiples.
        max_gap_seconds: a longer pause is not encoded, but for its context.

    Raises:
        InputError: fragments that are not sorted, disjoint, not empty and inside the recording, or limits that leave
            no room for speech.
    """
    _check(speech, num_samples)
    most = int(max_seconds * SAMPLE_RATE) // stride * stride
    context = max(1, -(-int(context_seconds * SAMPLE_RATE) // stride)) * stride
    room = most - 2 * context
    if context_seconds < 0 or room < 2 * stride:
        raise InputError(f"windows of {max_seconds} s with {context_seconds} s of context on both sides have no room")
    windows: list[tuple[int, int]] = []

    def close(start: int, end: int) -> None:
        free = most - (end - start)
        before = min(context, free // 2 // stride * stride)
        windows.append((max(0, start - before), min(num_samples, end + min(context, free - before))))

    first = last = -1  # of the window that is being filled
    for fragment_start, end in speech.tolist():
        start = fragment_start // stride * stride
        if first >= 0 and fragment_start - last <= max_gap_seconds * SAMPLE_RATE and end - first <= room:
            last = end
            continue
        if first >= 0:
            close(first, last)
            first = -1
        if end - start <= room:
            first, last = start, end
        elif end - start <= most - 2 * stride:
            close(start, end)
        else:
            edges = _edges(start, end, room, stride)
            for piece_start, piece_end in itertools.pairwise(edges):
                close(piece_start, piece_end)
    if first >= 0:
        close(first, last)
    return np.array(windows, np.int64).reshape(-1, 2)


def stitch(
    windows: Int64, speech: Int64, counts: Sequence[int], num_samples: int, *, stride: int, offset: int
) -> Stitched:
    """Take each frame of speech once, from the window where it has most context.

    Its context is what lies between it and the nearer end of the window; where the recording itself begins or ends
    nothing is missing. Of two windows that are as good, the earlier one counts.

    Args:
        windows: int64 `(num_windows, 2)`, as `cut_windows` makes them.
        speech: int64 `(num_fragments, 2)`, sorted and disjoint. A frame is of a fragment with start <= time < end.
        counts: frames of each window.
        num_samples: of the recording.
        stride: samples from frame to frame.
        offset: from a window's start to the middle of its first frame.
    """
    lengths = np.asarray(counts, np.int64)
    window = np.repeat(np.arange(len(windows)), lengths)
    place = np.arange(len(window)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    time = windows[window, 0] + place * stride + offset
    fragment = np.searchsorted(speech[:, 0], time, side="right") - 1
    inside = np.flatnonzero((fragment >= 0) & (time < speech[fragment, 1])) if len(speech) else np.zeros(0, np.int64)
    window, place, time = window[inside], place[inside], time[inside]
    start, end = windows[window, 0], windows[window, 1]
    before = np.where(start == 0, num_samples, time - start)
    behind = np.where(end == num_samples, num_samples, end - time)
    order = np.lexsort((window, -np.minimum(before, behind), time))
    best = order[np.flatnonzero(np.diff(time[order], prepend=-1))]
    return Stitched(window[best], place[best], time[best])


class Waiting:
    """Spans that wait for their frames, which arrive in order of time and are held only while a span wants them."""

    def __init__(self, spans: Int64) -> None:
        """spans: int64 `(num_spans, 2)`, in any order; they may overlap."""
        self._spans = spans
        self._left = np.argsort(spans[:, 0], kind="stable")
        self._time = np.zeros(0, np.int64)

    def arrived(self, time: Int64, reached: int) -> tuple[Int64, Int64, int]:
        """Say which frames have come, and what can be done with all that are held now.

        Args:
            time: samples at the middle of frames, none before those that came earlier.
            reached: no later frame is before this sample.

        Returns:
            Indices of spans whose frames are all here, `(num_ready,)`; of each of these the range `[first, last)` of
            held frames with `start <= time < end`, `(num_ready, 2)`; and how many of the first held frames no other
            span wants: the caller drops them, and this object has forgotten them.
        """
        self._time = np.r_[self._time, time]
        complete = self._spans[self._left, 1] <= reached
        ready, self._left = self._left[complete], self._left[~complete]
        ranges = np.asarray(np.searchsorted(self._time, self._spans[ready]), np.int64)
        wanted = self._spans[self._left[0], 0] if len(self._left) else reached
        done = int(np.searchsorted(self._time, wanted))
        self._time = self._time[done:]
        return ready, ranges, done


def _edges(start: int, end: int, room: int, stride: int) -> list[int]:
    """Where a fragment that no window holds is cut: multiples of the stride, at most `room` apart."""
    steps = -(-(end - start) // stride)
    pieces = -(-steps // (room // stride))
    return [*(start + steps * i // pieces * stride for i in range(pieces)), end]


def _check(speech: Int64, num_samples: int) -> None:
    if speech.ndim != 2 or speech.shape[1:] != (2,):
        raise InputError(f"speech has shape {speech.shape}: (num_fragments, 2) is needed")
    before = np.r_[0, speech[:-1, 1]]
    wrong = np.flatnonzero((speech[:, 0] < before) | (speech[:, 0] >= speech[:, 1]) | (speech[:, 1] > num_samples))
    if len(wrong):
        start, end = speech[wrong[0]]
        raise InputError(
            f"fragment {wrong[0]} [{start}, {end}) is empty, before the end of the one before it, or outside the "
            f"recording's {num_samples} samples"
        )
