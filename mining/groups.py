"""Which rows of one side say the same, so that near-duplicates count once among somebody's neighbours.

A sentence that is there in five spellings, or a stretch of speech that is there as seven overlapping spans, fills the
neighbourhoods of its counterpart with itself. The mean cosine in the margin's denominator rises, and the right pair
falls under the threshold although nothing competes with it. Neighbours that are alike are therefore counted once, by
the nearest of them (see `margin.margins`). And of two rows whose best is the same, the one that loses it may fall back
on what is alike its best, which may be its own counterpart (see `choose.choose`).

Rows can be alike by their embeddings (`Near`), by a number that equal texts share (`Labels`), or by the speech that
spans share (`Spans`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.errors import InputError
from seamlessalign.mining.text_filters import fold
from seamlessalign.mining.vectors import Floats, Indices, Vectors, blocks, cosines

Bools = npt.NDArray[np.bool_]

NEAR = 0.7  # cosine of centred rows of one side from which they count as the same
SHARED = 0.5  # of the shorter span, from which two spans count as the same speech
_PAIRS = 1 << 21  # of rows in lists that are looked at together


@dataclass(frozen=True)
class Labels:
    """Rows with equal numbers are alike."""

    group: Indices  # (num_rows,)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.group)

    def might(self, index: Indices) -> Bools:
        """Which lists (num_lists, width) may have rows that are alike, (num_lists,)."""
        return _repeats(self.group[index])

    def couples(self, index: Indices) -> Bools:
        """Which rows of each list are alike, (num_lists, width, width)."""
        group = self.group[index]
        return np.asarray(group[:, :, None] == group[:, None, :])


@dataclass(frozen=True)
class Spans:
    """Spans of one recording are alike when they share `shared` of the shorter one's length or more."""

    recording: Indices  # (num_rows,) numbers
    start: Indices  # (num_rows,) samples
    end: Indices  # (num_rows,) samples, after start
    shared: float = SHARED

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    def might(self, index: Indices) -> Bools:
        """Which lists (num_lists, width) may have rows that are alike, (num_lists,)."""
        return _repeats(self.recording[index])

    def couples(self, index: Indices) -> Bools:
        """Which rows of each list are alike, (num_lists, width, width)."""
        recording, start, end = self.recording[index], self.start[index], self.end[index]
        length = end - start
        shared = np.minimum(end[:, :, None], end[:, None, :])
        shared -= np.maximum(start[:, :, None], start[:, None, :])
        enough = shared >= self.shared * np.minimum(length[:, :, None], length[:, None, :])
        return np.asarray(enough & (shared > 0) & (recording[:, :, None] == recording[:, None, :]))


@dataclass(frozen=True)
class Near:
    """Rows are alike when their cosine is `cosine` or more; cosines are exact, so that every machine says the same."""

    rows: npt.NDArray[Any]  # (num_rows, dim) float16 or float32, of any norm but zero
    cosine: float = NEAR

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @cached_property
    def _side(self) -> Vectors:
        return Vectors(self.rows, "rows that may be alike")

    @cached_property
    def _scored(self) -> tuple[npt.NDArray[Any], Floats]:
        return self._side.scored_rows()

    def might(self, index: Indices) -> Bools:
        """Which lists (num_lists, width) may have rows that are alike, (num_lists,)."""
        return np.ones(len(index), bool)

    def couples(self, index: Indices) -> Bools:
        """Which rows of each list are alike, (num_lists, width, width)."""
        same = np.empty((*index.shape, index.shape[1]), bool)
        for begin, end in blocks(len(index), index.shape[1] * self._side.dim):
            same[begin:end] = self._near(index[begin:end])
        return same

    def _near(self, index: Indices) -> Bools:
        """`couples` of some lists. What float32 leaves open, which is little, is computed exactly."""
        rows, scale = self._scored
        some = rows[index].astype(np.float32, copy=False)
        about = np.matmul(some, some.transpose(0, 2, 1))
        about *= scale[index][:, :, None]
        about *= scale[index][:, None, :]
        near: Bools = about >= np.float32(self.cosine)
        slack = (2 * self._side.dim + 16) * 2.0**-24  # n products and sums of float32 are off by less than n roundings
        lists, one, other = np.nonzero(np.abs(about - np.float32(self.cosine)) <= slack)
        open_ = one > other
        lists, one, other = lists[open_], one[open_], other[open_]
        exact = cosines(self._side, self._side, index[lists, one], index[lists, other][:, None])[:, 0]
        near[lists, one, other] = near[lists, other, one] = exact >= np.float32(self.cosine)
        near[:, range(index.shape[1]), range(index.shape[1])] = True
        return near


Alike = Labels | Spans | Near


def alike_texts(texts: Any) -> Labels:
    """Texts that are equal but for case, punctuation and spaces; texts (num_rows,) strings, Arrow or any sequence."""
    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    folded = fold(column)
    if isinstance(folded, pa.ChunkedArray):
        folded = folded.combine_chunks()
    if folded.null_count:
        raise InputError(f"text of row {folded.is_null().to_pylist().index(True)} is null: only texts can be compared")
    numbers = folded.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return Labels(np.asarray(numbers, np.int64))


def alike_spans(
    recording: npt.NDArray[Any], start: npt.NDArray[Any], end: npt.NDArray[Any], shared: float = SHARED
) -> Spans:
    """Spans of speech that share most of their time; recording: integer or string ids, start and end: samples.

    Raises InputError for columns of different lengths, a span that is empty, or a share that is not in (0, 1].
    """
    recording, start, end = np.asarray(recording), np.asarray(start), np.asarray(end)
    if not len(recording) == len(start) == len(end):
        raise InputError(
            f"recording, start and end have {len(recording)}, {len(start)} and {len(end)} rows: give one each"
        )
    if not 0 < shared <= 1:
        raise InputError(f"shared is {shared}: give a share of the shorter span, above 0 and at most 1")
    if (end <= start).any():
        row = int(np.flatnonzero(end <= start)[0])
        raise InputError(f"span {row} is [{start[row]}, {end[row]}): its end must be after its start")
    numbers = np.unique(recording, return_inverse=True)[1].reshape(-1)
    return Spans(numbers.astype(np.int64), start.astype(np.int64), end.astype(np.int64), shared)


def unlike(index: Indices, alike: Alike) -> Bools:
    """Which neighbours count; index (num_rows, width), best first, gives a mask of the same shape.

    Down each list a neighbour counts when it is not alike any that counted before it.
    """
    counts = np.ones(index.shape, bool)
    step = _together(index)
    for begin in range(0, len(index), step):
        part = index[begin : begin + step]
        lines = np.flatnonzero(alike.might(part))
        couples = alike.couples(part[lines])
        mine = np.ones((len(lines), index.shape[1]), bool)
        for place in range(1, index.shape[1]):
            mine[:, place] = ~(couples[:, place, :place] & mine[:, :place]).any(1)
        counts[begin + lines] = mine
    return counts


def like_first(index: Indices, alike: Alike) -> Bools:
    """Which rows of each list are alike the first of it, the first included; index and result (num_rows, width)."""
    same = np.zeros(index.shape, bool)
    same[:, 0] = True
    step = _together(index)
    for begin in range(0, len(index), step):
        part = index[begin : begin + step]
        lines = np.flatnonzero(alike.might(part))
        same[begin + lines, 1:] = alike.couples(part[lines])[:, 0, 1:]
    return same


def _together(index: Indices) -> int:
    """How many lists are looked at together: few where they are long."""
    width = max(1, int(index.shape[1]))
    return max(1, _PAIRS // (width * width))


def _repeats(numbers: Indices) -> Bools:
    """Which lists have a number more than once."""
    ordered = np.sort(numbers, 1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(1))
