"""Rows that are the same byte for byte: searched once, and given back as often as they occur.

Repeated sentences and silence make such rows in the thousands. Left in, every copy ties with every other, and no search
in less than full precision can tell which of them come first.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from seamlessalign.mining import native
from seamlessalign.mining.vectors import Floats, Indices, Vectors

_LINES = 1 << 16  # lines of neighbours that are spread at a time


@dataclass(frozen=True)
class Classes:
    """The rows of a side grouped by their bytes, groups in the order of their first rows."""

    first: Indices  # (num_classes,) lowest row of each
    of_row: Indices  # (num_rows,) class of each row
    members: Indices  # (num_rows,) rows by class, ascending in each
    begin: Indices  # (num_classes + 1,) where each class begins in `members`

    @property
    def all_distinct(self) -> bool:
        """Whether every class has one row."""
        return len(self.first) == len(self.of_row)


def classes_of(side: Vectors) -> Classes:
    """Group a side's rows by their bytes."""
    hashed = native.hash_rows(side.rows)
    _, first, of_row = np.unique(hashed, return_index=True, return_inverse=True)
    of_row = of_row.reshape(-1)
    if len(first) < len(hashed) and native.first_different(side.rows, np.arange(len(hashed)), first[of_row]) >= 0:
        wide = [xxhash.xxh3_128_digest(row.tobytes()) for row in side.rows]  # two rows that share a hash by chance
        _, first, of_row = np.unique(np.array(wide), return_index=True, return_inverse=True)
        of_row = of_row.reshape(-1)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return _grouped(first[order].astype(np.int64), place[of_row].astype(np.int64))


def spread(cosine: Floats, index: Indices, ours: Classes, theirs: Classes, k: int) -> tuple[Floats, Indices]:
    """Neighbours of all rows from those of classes, both (num_rows, k): by cosine descending, then row ascending.

    cosine and index (num_classes of ours, width): for each class the best classes of the other side by cosine, then
    first row, as many as k or as there are.
    """
    if theirs.all_distinct:
        best, rows = cosine, theirs.first[index]
    else:
        best = np.empty((len(cosine), k), np.float32)
        rows = np.empty((len(cosine), k), np.int64)
        for start in range(0, len(cosine), _LINES):
            part = slice(start, start + _LINES)
            best[part], rows[part] = _spread_lines(cosine[part], index[part], theirs, k)
    if ours.all_distinct:
        return best, rows
    return best[ours.of_row], rows[ours.of_row]


def _spread_lines(cosine: Floats, index: Indices, theirs: Classes, k: int) -> tuple[Floats, Indices]:
    lines, width = index.shape
    begin = theirs.begin[index].ravel()
    size = np.minimum(theirs.begin[index + 1].ravel() - begin, k)  # of one class at most k rows can be among the best
    entry = np.repeat(np.arange(lines * width), size)
    row = theirs.members[begin[entry] + np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)]
    line, score = entry // width, cosine.ravel()[entry]
    order = np.lexsort((row, -score, line))
    count = size.reshape(lines, width).sum(1)
    chosen = order[(np.cumsum(count) - count)[:, None] + np.arange(k)]
    return score[chosen], row[chosen]


def _grouped(first: Indices, of_row: Indices) -> Classes:
    members = np.argsort(of_row, kind="stable").astype(np.int64)
    sizes: npt.NDArray[np.int64] = np.bincount(of_row, minlength=len(first)).astype(np.int64)
    return Classes(first, of_row, members, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
