"""Over-segmentation: every run of neighbouring speech fragments that may be a sentence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE


@dataclass(frozen=True, eq=False)
class Spans:
    """Candidate spans of one recording, sorted by (start, end)."""

    spans: NDArray[np.int64]  # (num_spans, 2): [start, end) in samples
    fragments: NDArray[np.int64]  # (num_spans, 2): index of the first fragment and one past the last

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def num_fragments(self) -> NDArray[np.int64]:
        """Number of fragments in each span, (num_spans,)."""
        return self.fragments[:, 1] - self.fragments[:, 0]

    def speech_ratio(self, fragments: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of each span that lies inside `fragments`, those that the spans were made of; (num_spans,) in (0, 1].

        Raises InputError when the spans refer to fragments that are not there.
        """
        checked = _checked(fragments)
        if len(self) and int(self.fragments.max()) > len(checked):
            raise InputError(
                f"spans refer to fragment {int(self.fragments.max()) - 1} of {len(checked)}: "
                "pass the fragments that were over-segmented"
            )
        before = np.concatenate(([0], np.cumsum(checked[:, 1] - checked[:, 0])))
        speech = before[self.fragments[:, 1]] - before[self.fragments[:, 0]]
        length = self.spans[:, 1] - self.spans[:, 0]
        return np.asarray(speech / np.maximum(length, 1), dtype=np.float64)


def over_segment(
    fragments: NDArray[np.int64],
    *,
    min_seconds: float = 1.0,
    max_seconds: float = 20.0,
    max_gap_seconds: float = 1.0,
    max_fragments: int | None = None,
) -> Spans:
    """All runs of contiguous fragments i … j that last from min to max seconds and hold no gap longer than max_gap.

    `max_fragments` caps the fragments of a run, and so the spans: no fragment begins more than so many.

    `fragments` is int64 (num_fragments, 2), `[start, end)` in samples at 16 kHz, sorted and disjoint. The length of a
    run is counted from the start of its first to the end of its last fragment (Duquenne et al. 2021, "Multimodal and
    multilingual embeddings for large-scale speech mining", section 4). The bounds themselves are allowed, rounded to
    whole samples. Work and memory grow with the number of spans that come out. Raises InputError for fragments that are
    not sorted, disjoint and non-empty, and for bounds that contradict each other.
    """
    if not 0 <= min_seconds <= max_seconds < np.inf:
        raise InputError(f"spans of {min_seconds} to {max_seconds} seconds: 0 <= min <= max < infinity is needed")
    if not max_gap_seconds >= 0:
        raise InputError(f"max_gap_seconds is {max_gap_seconds}: it must not be negative")
    if max_fragments is not None and max_fragments < 1:
        raise InputError(f"max_fragments is {max_fragments}: a span has one at least")
    checked = _checked(fragments)
    starts, ends = np.ascontiguousarray(checked[:, 0]), np.ascontiguousarray(checked[:, 1])
    index = np.arange(len(checked), dtype=np.int64)

    # Starts and ends both grow, so for each i the allowed j are one interval [first, stop).
    first = np.maximum(np.searchsorted(ends, starts + round(min_seconds * SAMPLE_RATE), side="left"), index)
    stop = np.searchsorted(ends, starts + round(max_seconds * SAMPLE_RATE), side="right")
    breaks = np.flatnonzero((starts[1:] - ends[:-1]) / SAMPLE_RATE > max_gap_seconds) + 1  # a run cannot cross these
    stop = np.minimum(stop, np.append(breaks, len(checked))[np.searchsorted(breaks, index, side="right")])
    if max_fragments is not None:
        stop = np.minimum(stop, index + max_fragments)

    counts = np.maximum(stop - first, 0)
    left = np.repeat(index, counts)
    within = np.arange(len(left), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    right = np.repeat(first, counts) + within
    return Spans(np.stack((starts[left], ends[right]), axis=1), np.stack((left, right + 1), axis=1))


def _checked(fragments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fragments as int64, when they are sorted, disjoint and non-empty."""
    if fragments.ndim != 2 or fragments.shape[1] != 2 or fragments.dtype.kind not in "iu":
        raise InputError(f"fragments are {fragments.dtype} {fragments.shape}: integers (num_fragments, 2) are needed")
    checked = fragments.astype(np.int64, copy=False)
    edges = checked.reshape(-1)
    wrong = np.flatnonzero(checked[:, 0] >= checked[:, 1])
    if len(wrong):
        raise InputError(f"fragment {wrong[0]} is {checked[wrong[0]].tolist()}: start < end is needed")
    wrong = np.flatnonzero(checked[1:, 0] < checked[:-1, 1])
    if len(wrong):
        at = int(wrong[0])
        raise InputError(
            f"fragments {at} and {at + 1} are {checked[at].tolist()} and {checked[at + 1].tolist()}: "
            "fragments must be sorted and disjoint"
        )
    if len(edges) and edges[0] < 0:
        raise InputError(f"fragment 0 is {checked[0].tolist()}: it starts before the recording")
    return checked
