"""From candidates found in float32 to the neighbours that float64 would give, proven row by row.

A search in float32 returns more candidates than wanted. They are scored again exactly; a row is certain when its k-th
exact score is above whatever a row that the search left out could reach. The others are computed again in full.
"""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from seamlessalign.mining.vectors import Floats, Indices, Vectors, blocks, cosines

log = logging.getLogger(__name__)

_UNIT_ROUNDOFF = 2.0**-24  # of float32
_TIE = 3e-7  # two float64 scores at least this far apart differ in float32 too, whatever the order of summation
_SCORES = 1 << 23  # float64 scores held at once while rows are computed again: 64 MiB


@dataclass(frozen=True)
class Found:
    """What a search returned for one side: candidates of each row, best first.

    score (num_rows, width) float32 as the search computed it; index (num_rows, width) int64, -1 where there was none.
    """

    score: Floats
    index: Indices


def best_certain(query: Vectors, other: Vectors, found: Found, k: int) -> tuple[Floats, Indices]:
    """The k nearest rows of the other side, exactly, from candidates scored in float32 by any order of summation.

    Returns cosine (num_rows, k) float32 and index (num_rows, k) int64, by cosine descending, then index ascending.
    `found` must hold k or more candidates per row, and no row that it leaves out may have scored above its last.
    """
    cosine, index = best_of(query, other, found.index, k)
    width = found.index.shape[1]
    if width == len(other):
        return cosine, index
    reach = found.score[:, -1].astype(np.float64) + search_error(query.dim)
    uncertain = np.flatnonzero(~(cosine[:, -1] > reach))
    if len(uncertain):
        log.info("%s: %d of %d rows have near ties and are computed again", query.side, len(uncertain), len(query))
        cosine[uncertain], index[uncertain] = best_in_full(query, other, uncertain, k)
    return cosine, index


def best_of(query: Vectors, other: Vectors, candidates: Indices, k: int) -> tuple[Floats, Indices]:
    """The k best of each row's candidates (num_rows, width), -1 for none, by exact cosine; both (num_rows, k).

    A row with fewer than k candidates is computed in full.
    """
    cosine = cosines(query, other, np.arange(len(query)), np.maximum(candidates, 0))
    cosine[candidates < 0] = -np.inf
    order = np.lexsort((candidates, -cosine), axis=1)[:, :k]
    cosine, index = np.take_along_axis(cosine, order, 1), np.take_along_axis(candidates, order, 1)
    short = np.flatnonzero(index[:, -1] < 0)
    if len(short):
        log.info("%s: the index gave fewer than %d neighbours for %d rows; computed in full", query.side, k, len(short))
        cosine[short], index[short] = best_in_full(query, other, short, k)
    return cosine, index


def search_error(dim: int) -> float:
    """How far a float32 inner product of unit rows can be from their exact cosine, for any order of summation.

    Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1: |error| ≤ γ_dim |x|·|y| ≤ γ_dim. Both
    rows' entries and the final score are each rounded once more.
    """
    return (dim + 4) * _UNIT_ROUNDOFF / (1 - (dim + 4) * _UNIT_ROUNDOFF)


def best_in_full(query: Vectors, other: Vectors, rows: Indices, k: int) -> tuple[Floats, Indices]:
    """The k nearest of some query rows, all scores computed in float64; both (len(rows), k).

    Rows that are the same byte for byte, which is what most often makes ties, are computed once on either side.
    """
    classes = _Classes(other)
    ours, back = _distinct(query, rows)
    cosine, index = np.empty((len(ours), k), np.float32), np.empty((len(ours), k), np.int64)
    for start, stop in _spans(len(ours), max(1, _SCORES // len(classes.first))):
        unit = query.rows[ours[start:stop]] * query.scale[ours[start:stop], None]
        scores = np.empty((stop - start, len(classes.first)))
        for left, right in blocks(len(classes.first), query.dim):
            members = classes.first[left:right]
            scores[:, left:right] = unit @ (other.rows[members] * other.scale[members, None]).T
        width = min(k, scores.shape[1])
        worst = np.partition(scores, -width, axis=1)[:, -width] - _TIE
        for row in range(stop - start):
            near = np.flatnonzero(scores[row] >= worst[row])
            exact = cosines(query, other, ours[start + row : start + row + 1], classes.first[None, near])[0]
            cosine[start + row], index[start + row] = _spread(exact, classes, near, k)
    return cosine[back], index[back]


class _Classes:
    """Rows of a side grouped by their bytes: `first` has the lowest row of each, `members` all by group."""

    def __init__(self, side: Vectors) -> None:
        self.first, group = _distinct(side, np.arange(len(side)))
        self.members = np.argsort(group, kind="stable")
        self.begin = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(self.first)))])


def _spread(exact: Floats, classes: _Classes, near: Indices, k: int) -> tuple[Floats, Indices]:
    """The k best rows out of groups `near` whose rows all score `exact`; at most k of a group can be among them."""
    begin = classes.begin[near]
    size = np.minimum(classes.begin[near + 1] - begin, k)
    place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    index = classes.members[np.repeat(begin, size) + place]
    cosine = np.repeat(exact, size)
    order = np.lexsort((index, -cosine))[:k]
    return cosine[order], index[order]


def _distinct(side: Vectors, rows: Indices) -> tuple[Indices, npt.NDArray[np.intp]]:
    """The first of each group of identical rows, and for every row the place of its group in that list."""
    number: dict[bytes, int] = {}
    first: list[int] = []
    group = np.empty(len(rows), np.intp)
    for place, row in enumerate(rows):
        digest = xxhash.xxh3_128_digest(side.rows[row].tobytes())
        if digest not in number:
            number[digest] = len(first)
            first.append(int(row))
        group[place] = number[digest]
    return np.asarray(first, np.int64), group


def _spans(count: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, count)) for start in range(0, count, step)]
