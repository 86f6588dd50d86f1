"""From candidates that a fast search found to the neighbours that float64 would give, proven row by row.

A search in low precision returns more candidates than wanted, and for each row how high a cosine could be that it left
out. The candidates are scored again exactly; a row is certain when its k-th exact cosine is above that. The others are
computed again in full.
"""

import logging

import numpy as np

from seamlessalign.mining.exact import Found
from seamlessalign.mining.vectors import Floats, Indices, Vectors, blocks, cosines

log = logging.getLogger(__name__)

_TIE = 3e-7  # two float64 scores at least this far apart differ in float32 too, whatever the order of summation
_SCORES = 1 << 23  # float64 scores held at once while rows are computed again: 64 MiB
_ROUNDED = 2.0**-24  # half a step of float32 below 1: what rounding may add to a cosine that was left out


def best_certain(
    query: Vectors, other: Vectors, query_rows: Indices, other_rows: Indices, found: Found, k: int
) -> tuple[Floats, Indices]:
    """The k nearest rows of the other side, exactly.

    query_rows (n,) and other_rows (m,): numbers of the rows that take part, ascending; `found` has a line for each
    query row, its indices are places in other_rows, and it holds k or more candidates per line. Returns cosine (n, k)
    float32 and index (n, k) int64 into other_rows, by cosine descending, then index ascending.
    """
    cosine, index = best_of(query, other, query_rows, other_rows, found.index, k)
    if found.index.shape[1] == len(other_rows):
        return cosine, index
    uncertain = np.flatnonzero(~(cosine[:, -1] > found.reach + _ROUNDED))
    if len(uncertain):
        log.info("%s: %d of %d rows have near ties and are computed again", query.side, len(uncertain), len(cosine))
        cosine[uncertain], index[uncertain] = best_in_full(query, other, query_rows[uncertain], other_rows, k)
    return cosine, index


def best_of(
    query: Vectors, other: Vectors, query_rows: Indices, other_rows: Indices, candidates: Indices, k: int
) -> tuple[Floats, Indices]:
    """The k best of each row's candidates (n, width), places in other_rows, by exact cosine; both (n, k)."""
    cosine = cosines(query, other, query_rows, other_rows[candidates])
    order = np.lexsort((candidates, -cosine), axis=1)[:, :k]
    return np.take_along_axis(cosine, order, 1), np.take_along_axis(candidates, order, 1)


def best_in_full(
    query: Vectors, other: Vectors, query_rows: Indices, other_rows: Indices, k: int
) -> tuple[Floats, Indices]:
    """The k nearest of some query rows, all scores computed in float64; both (len(query_rows), k)."""
    cosine, index = np.empty((len(query_rows), k), np.float32), np.empty((len(query_rows), k), np.int64)
    step = max(1, _SCORES // max(len(other_rows), query.dim))
    for start in range(0, len(query_rows), step):
        rows = query_rows[start : start + step]
        unit = query.rows[rows] * query.scale[rows, None]
        scores = np.empty((len(rows), len(other_rows)))
        for left, right in blocks(len(other_rows), query.dim):
            columns = other_rows[left:right]
            scores[:, left:right] = unit @ (other.rows[columns] * other.scale[columns, None]).T
        worst = np.partition(scores, -k, axis=1)[:, -k] - _TIE
        for line in range(len(rows)):
            near = np.flatnonzero(scores[line] >= worst[line])
            exact = cosines(query, other, rows[line : line + 1], other_rows[None, near])[0]
            order = np.lexsort((near, -exact))[:k]
            cosine[start + line], index[start + line] = exact[order], near[order]
    return cosine, index
