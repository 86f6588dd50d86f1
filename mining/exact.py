"""One pass over all pairs on the processor that serves both directions, most of it in 8-bit products, and all exact.

With m and m' the means of both sides, and H a rotation, every row is a code times a step of its own and a remainder:
H(x − m) = s·q + e. Then, for unit rows x and y,

    cos(x, y) = x·m' + m·y − m·m' + s s' q·q' + s q·e' + e·H(y − m')
              ≤ s s' q·q' + x·m' + (m·y − m·m') + |e| |H(y − m')| + |s q| |e'|

by Cauchy and Schwarz: an integer product, and what is known of either row alone. Where the lengths of the other row are
replaced by the largest of all, each row has one step and one term, and that bound is compared, in registers, with the
worst of the neighbours that x and y already have; what is left is compared with the bound itself. The few pairs that
remain are scored in float32, and the best of those, a few more than wanted, are what `certify.py` takes.

A row that has no neighbours yet takes whatever comes, and most of it is pushed out again. So a guess comes first: of a
sample of the other side the row's r-th best, with r such that it hardly ever is among the best that are wanted of all.
Only pairs at least as good are of interest to the row; where there turn out to be fewer than wanted, the row is scanned
again without a guess.

The rotation (random signs, then Walsh–Hadamard by blocks) spreads every row evenly over the dimensions, which is what
steps of one size need; subtracting the means takes away what all rows share, so that steps are as small as they can be.
"""

import logging
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.mining import native
from seamlessalign.mining.native import Rotation, ScanSide
from seamlessalign.mining.vectors import Floats, Indices, Vectors, blocks

log = logging.getLogger(__name__)

DEFAULT_MEMORY = 1 << 30  # bytes of codes and terms, beside the rows and the result
_COLUMNS = 8192  # rows of the other side scanned at a time: their codes stay in the cache that cores share
_ROWS = 240  # rows that one thread takes at a time: their codes stay in its own cache
_RUN = 32  # rows in order that are kept together when the order is shuffled: a disk reads them at once
_SAMPLE = 1 << 12  # rows that means are taken from
_GUESS_FROM = 1024  # rows that guesses come from
_WRONG_GUESSES = 0.02  # share of guesses that may be too high
_SLACK = 1e-5  # for the rounding of means, rotation, bounds and float32 scores
_SEED = 20230822


@dataclass(frozen=True)
class Found:
    """What a search returned for one side: candidates of each row, best first.

    score (num_rows, width) float32 as the search computed it; index (num_rows, width) int64, -1 where there was none;
    reach (num_rows,) float64: no row that was left out has a cosine above it.
    """

    score: Floats
    index: Indices
    reach: npt.NDArray[np.float64]


def one_pass(
    src: Vectors,
    tgt: Vectors,
    src_width: int,
    tgt_width: int,
    *,
    src_rows: Indices | None = None,
    tgt_rows: Indices | None = None,
    memory: int = DEFAULT_MEMORY,
    threads: int | None = None,
    isa: int | None = None,
) -> tuple[Found, Found]:
    """Candidates of both sides: src_width targets for each source, tgt_width sources for each target.

    src_rows, tgt_rows: numbers of the rows that take part, all by default; results have one line for each, and their
    indices are places in these lists. Sides may be memory-mapped: rows are read in runs, each once or, where the codes
    of one side exceed half of `memory` (bytes), once for each part of the other. Widths are at most the other's rows.
    """
    pass_ = _Pass(src, tgt, src_rows, tgt_rows, (src_width, tgt_width), memory, threads, isa)
    return pass_.run()


def score_error(dim: int) -> float:
    """How far a score in float32 is from the cosine at most: 64 partial sums (Higham 2002, section 3.1), and slack."""
    return (dim / 64 + 16) * 2.0**-24


class _Pass:
    """The state of one pass. "x" is the side whose rows are walked in parts, "y" is walked once for each part."""

    def __init__(
        self,
        src: Vectors,
        tgt: Vectors,
        src_rows: Indices | None,
        tgt_rows: Indices | None,
        widths: tuple[int, int],
        memory: int,
        threads: int | None,
        isa: int | None,
    ) -> None:
        self.scored = 0  # pairs that were scored in float32
        self.again = 0  # rows whose guess was too high
        self.isa = native.best_isa() if isa is None else isa
        self.threads = threads or len(os.sched_getaffinity(0))
        self.padded = -(-src.dim // 64) * 64
        rng = np.random.default_rng(_SEED)
        signs = rng.choice(np.array([-1, 1], np.float32), src.dim)
        means = [_mean(side, rows, rng) for side, rows in ((src, src_rows), (tgt, tgt_rows))]
        # vpmaddubsw, all that AVX2 has, sums two products in 16 bits: 7-bit codes on one side
        levels = (127, 127 if self.isa == native.VNNI else 63)
        self.both_means = float(means[0].astype(np.float64) @ means[1].astype(np.float64))
        self.x, self.y = (
            _Side(
                side,
                np.arange(len(side)) if rows is None else rows,
                width,
                Rotation(mean, other.astype(np.float64), signs, self.padded, most, packed),
                rng,
            )
            for side, rows, width, mean, other, most, packed in (
                (src, src_rows, widths[0], means[0], means[1], levels[0], False),
                (tgt, tgt_rows, widths[1], means[1], means[0], levels[1], True),
            )
        )
        self.keep_y = len(self.y.order) * self.padded <= memory // 2
        part = max(_ROWS, memory // 4 // (self.padded + 64)) // _ROWS * _ROWS
        self.part = min(part, -(-len(self.x.order) // native.TILE_ROWS) * native.TILE_ROWS)
        self.x_places, self.y_places = self.y.guess_from(self.x, rng), self.x.guess_from(self.y, rng)

    def run(self) -> tuple[Found, Found]:
        x, y = self.x, self.y
        with ThreadPoolExecutor(self.threads) as self.pool:
            kept = list(self._parts(y)) if self.keep_y else None
            x_sample, y_sample = (
                self._coded(side, side.order[places], 0) for side, places in ((x, self.x_places), (y, self.y_places))
            )
            for rows in self._parts(x):
                if len(y_sample):
                    self._scan(rows, y_sample, x.guesses, None)
                for columns in kept or self._parts(y):
                    if len(x_sample) and rows.begin == 0:
                        self._scan(x_sample, columns, None, y.guesses)
                    self._scan(rows, columns, x.best, y.best)
            self._again([rows] if len(rows) == len(x.order) else None, kept)
        pairs = len(x.order) * len(y.order)
        log.info("%d of %d pairs (%.3f %%) scored in float32", self.scored, pairs, 100 * self.scored / pairs)
        log.info("%d of %d rows scanned again", self.again, len(x.order) + len(y.order))
        return x.found(y.order_of), y.found(x.order_of)

    def _again(self, x_kept: "list[_Coded] | None", y_kept: "list[_Coded] | None") -> None:
        """Scan once more the rows whose guess was too high, with no guess."""
        for side, other, kept in ((self.x, self.y, y_kept), (self.y, self.x, x_kept)):
            wrong = side.guessed_too_high()
            best = _Best.of(len(wrong), side.best.width)
            for some in self._parts(side, wrong):
                for others in kept or self._parts(other):
                    if side is self.x:
                        self._scan(some, others, best, None)
                    else:
                        self._scan(others, some, None, best)
            side.best.replace(wrong, best)
            self.again += len(wrong)

    def _parts(self, side: "_Side", places: Indices | None = None) -> "Iterator[_Coded]":
        """Codes of rows at some places of a side's order, all by default, as many at a time as memory holds."""
        order = side.order if places is None else side.order[places]
        step = self.part if side is self.x else _COLUMNS
        for begin in range(0, len(order), step):
            yield self._coded(side, order[begin : begin + step], begin)

    def _coded(self, side: "_Side", rows: Indices, begin: int) -> "_Coded":
        tile = native.TILE_COLUMNS if side.how.packed else native.TILE_ROWS
        codes = np.zeros(-(-len(rows) // tile) * tile * self.padded, np.uint8)
        if not len(rows):
            return _Coded(begin, rows, codes, np.empty(0, np.int32), *np.empty((4, 0)))

        def work(first: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
            row = rows[first : first + share]
            return native.encode(side.side.rows, row, side.side.scale, side.how, codes, first, self.isa)

        share = -(-len(rows) // (4 * self.threads))
        done = list(self.pool.map(work, range(0, len(rows), share)))
        sums, about = (np.concatenate(parts) for parts in zip(*done, strict=True))
        return _Coded(begin, rows, codes, sums, *about.T)

    def _scan(self, rows: "_Coded", columns: "_Coded", x_best: "_Best | None", y_best: "_Best | None") -> None:
        """Scan all pairs of some rows; those of a side without `best` look for no neighbours."""
        x_size, y_size = rows.size, columns.size + columns.lost
        most = float(x_size.max()), float(y_size.max())
        x_term = rows.towards + rows.lost * most[1] + _SLACK
        y_term = columns.towards - self.both_means + columns.lost * most[0]
        start = rows.sums * np.int32(-self.y.how.zero)
        x = self.x.scan_side(rows, start, x_term, most[0] - x_size, x_best)
        y = self.y.scan_side(columns, start[:0], y_term, most[1] - y_size, y_best)
        locks = np.zeros(len(columns), np.uint8)
        tiles = -(-len(rows) // (native.TILE_ROWS * self.threads))
        step = min(_ROWS, tiles * native.TILE_ROWS)

        def work(begin: int) -> int:
            end = min(begin + step, len(rows))
            return native.scan(x, y, begin, end, len(columns), padded=self.padded, locks=locks, isa=self.isa)

        self.scored += sum(self.pool.map(work, range(0, len(rows), step)))


@dataclass(frozen=True)
class _Coded:
    """Codes of some rows of a side, and what the bound needs to know of each."""

    begin: int  # place of the first of them among those that are scanned
    rows: Indices  # numbers
    codes: npt.NDArray[np.uint8]
    sums: npt.NDArray[np.int32]
    towards: npt.NDArray[np.float64]  # inner product with the other side's mean
    lost: npt.NDArray[np.float64]  # |e|
    size: npt.NDArray[np.float64]  # |s q|
    step: npt.NDArray[np.float64]  # s

    def __len__(self) -> int:
        return len(self.sums)


@dataclass(frozen=True)
class _Best:
    """The best so far of n rows, as heaps, and from what bound on a pair is of interest to each."""

    floor: Floats  # (n and more,)
    score: Floats  # (n, width)
    index: Indices

    @classmethod
    def of(cls, num: int, width: int, floor: Floats | None = None) -> "_Best":
        """Heaps that are empty. `floor`: to share with other heaps of the same rows."""
        if floor is None:
            padded = -(-num // native.TILE_COLUMNS) * native.TILE_COLUMNS + native.TILE_ROWS
            floor = np.full(padded, -np.inf if width else np.inf, np.float32)
        return cls(floor, np.full((num, width), -np.inf, np.float32), np.full((num, width), -1, np.int64))

    @property
    def width(self) -> int:
        return int(self.score.shape[1])

    def replace(self, places: Indices, best: "_Best") -> None:
        self.score[places], self.index[places] = best.score, best.index


class _Side:
    """One side: the order in which its rows are scanned, and the best of each."""

    def __init__(self, side: Vectors, rows: Indices, width: int, how: Rotation, rng: np.random.Generator) -> None:
        self.side, self.how = side, how
        # Rows that follow each other are often alike; a shuffled order makes the first ones stand for all.
        runs = rng.permutation(-(-len(rows) // _RUN))
        places = (runs[:, None] * _RUN + np.arange(_RUN)).ravel()
        self.order_of: Indices = places[places < len(rows)]  # place in the list of rows, by place in the scan
        self.order: Indices = np.ascontiguousarray(rows[self.order_of], np.int64)  # row number, by place in the scan
        self.best = _Best.of(len(rows), width)
        self.guesses = _Best.of(len(rows), 0, self.best.floor)
        self.rows, self.scale = side.scored_rows()

    def guess_from(self, other: "_Side", rng: np.random.Generator) -> Indices:
        """Places of the other side's rows that guesses for this side's come from: none where there are few rows."""
        num = len(other.order)
        sample = min(_GUESS_FROM, num // 32)
        rank = guess_rank(self.best.width * sample / num) if sample else 0
        if not 0 < rank < self.best.width:
            return np.empty(0, np.int64)
        self.guesses = _Best.of(len(self.order), rank, self.best.floor)
        return np.sort(rng.choice(num, sample, replace=False))

    def guessed_too_high(self) -> Indices:
        """Places of rows that have not found as many above their guess as are wanted."""
        if not self.guesses.width:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.best.score[:, 0] < self.guesses.score[:, 0])

    def scan_side(
        self,
        coded: _Coded,
        start: npt.NDArray[np.int32],
        term: npt.NDArray[np.float64],
        spare: npt.NDArray[np.float64],
        best: _Best | None,
    ) -> ScanSide:
        begin, end = coded.begin, coded.begin + len(coded)
        if best is None:
            best, begin, end = _Best.of(len(coded), 0), 0, len(coded)
        tile = native.TILE_COLUMNS if self.how.packed else native.TILE_ROWS
        padded = -(-len(coded) // tile) * tile
        starts, steps, terms = np.zeros(padded, np.int32), *np.zeros((2, padded), np.float32)
        starts[: len(start)], steps[: len(coded)], terms[: len(coded)] = start, coded.step, term
        return ScanSide(
            self.rows, coded.rows, self.scale[coded.rows], coded.codes, starts, steps, terms, best.floor[begin:],
            coded.lost.astype(np.float32), spare.astype(np.float32), best.score[begin:end], best.index[begin:end],
            coded.begin,
        )  # fmt: skip

    def found(self, other_order_of: Indices) -> Found:
        best = self.best
        score, index = np.empty_like(best.score), np.empty_like(best.index)
        for start, stop in blocks(len(self.order), score.shape[1]):
            place = other_order_of[best.index[start:stop]]
            order = np.lexsort((place, -best.score[start:stop]), axis=1)
            rows = self.order_of[start:stop]
            score[rows] = np.take_along_axis(best.score[start:stop], order, 1)
            index[rows] = np.take_along_axis(place, order, 1)
        return Found(score, index, score[:, -1].astype(np.float64) + score_error(self.side.dim))


def guess_rank(expected: float) -> int:
    """The lowest rank in a sample that is not among the best of all, but for a share of `_WRONG_GUESSES`.

    expected: how many of the best of all are in the sample on average; their number is next to Poisson.
    """
    rank, chance, below = 0, math.exp(-expected), 0.0
    while 1 - below > _WRONG_GUESSES:
        below += chance
        rank += 1
        chance *= expected / rank
    return rank


def _mean(side: Vectors, rows: Indices | None, rng: np.random.Generator) -> Floats:
    """About the mean of unit rows (dim,): of a sample of them."""
    count = len(side) if rows is None else len(rows)
    chosen = np.arange(count) if count <= _SAMPLE else np.sort(rng.choice(count, _SAMPLE, replace=False))
    sample = side.unit_of(chosen if rows is None else rows[chosen])
    return np.asarray(sample.mean(0, dtype=np.float64), np.float32)
