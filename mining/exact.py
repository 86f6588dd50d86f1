"""One pass over all pairs on the processor that serves both directions, most of it in 8-bit products, and all exact.

With m and m' the means of both sides, and H a rotation, every row is a code times a step and a remainder:
H(x − m) = s·q + e. Then, for unit rows x and y,

    cos(x, y) = x·m' + m·y − m·m' + s s' q·q' + s q·e' + e·H(y − m')
              ≤ s s' q·q' + [x·m' + |e| max|y − m'|] + [m·y − m·m' + |e'| max|s q|]

by Cauchy and Schwarz: an integer product, a term of x alone, and a term of y alone. In whole steps s s' it is compared,
in registers, with the worst of the neighbours that x and y already have; a pair beyond both is done with. The few that
are left are scored in float32, and the best of those, a few more than wanted, are what `certify.py` takes.

The rotation (random signs, then Walsh–Hadamard by blocks) spreads every row evenly over the dimensions, which is what
steps of one size need; subtracting the means takes away what all rows share, so that steps are as small as they can be.
"""

import logging
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
_SAMPLE = 1 << 12  # rows that means and steps are taken from
_CLIP = 4.0  # standard deviations that the largest code stands for; what is beyond is a remainder like any other
_SLACK = 1e-5  # for the rounding of means, rotation and float32 scores
_LEAST_STEPS = 2.0**-28  # of a product of steps, so that a bound in steps fits 32 bits
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
        self.isa = native.best_isa() if isa is None else isa
        self.threads = threads or len(os.sched_getaffinity(0))
        self.padded = -(-src.dim // 64) * 64
        rng = np.random.default_rng(_SEED)
        signs = rng.choice(np.array([-1, 1], np.float32), src.dim)
        samples = [_sample(side, rows, rng) for side, rows in ((src, src_rows), (tgt, tgt_rows))]
        means = [sample.mean(0, dtype=np.float64).astype(np.float32) for sample in samples]
        # vpmaddubsw, all that AVX2 has, sums two products in 16 bits: 7-bit codes on one side
        levels = (127, 127 if self.isa == native.VNNI else 63)
        steps = [
            _CLIP * np.sqrt(np.mean(np.square(sample - mean, dtype=np.float64))) / most
            for sample, mean, most in zip(samples, means, levels, strict=True)
        ]
        steps = [max(step, np.sqrt(_LEAST_STEPS)) for step in steps]
        self.both_means = float(means[0].astype(np.float64) @ means[1].astype(np.float64))
        self.x, self.y = (
            _Side(
                side,
                np.arange(len(side)) if rows is None else rows,
                width,
                Rotation(mean, other.astype(np.float64), signs, self.padded, float(step), most, packed),
                rng,
            )
            for side, rows, width, mean, other, step, most, packed in (
                (src, src_rows, widths[0], means[0], means[1], steps[0], levels[0], False),
                (tgt, tgt_rows, widths[1], means[1], means[0], steps[1], levels[1], True),
            )
        )
        self.steps = 1 / (float(np.float32(steps[0])) * float(np.float32(steps[1])))
        self.keep_y = len(self.y.order) * self.padded <= memory // 2
        part = max(_ROWS, memory // 4 // (self.padded + 64)) // _ROWS * _ROWS
        self.part = min(part, -(-len(self.x.order) // native.TILE_ROWS) * native.TILE_ROWS)

    def run(self) -> tuple[Found, Found]:
        with ThreadPoolExecutor(self.threads) as pool:
            kept: list[_Coded] = list(self._coded_columns(pool)) if self.keep_y else []
            for begin in range(0, len(self.x.order), self.part):
                rows = self.x.coded(begin, min(begin + self.part, len(self.x.order)), pool, self.threads, self.isa)
                for columns in kept or self._coded_columns(pool):
                    self._scan(pool, rows, columns)
        pairs = len(self.x.order) * len(self.y.order)
        log.info("%d of %d pairs (%.3f %%) scored in float32", self.scored, pairs, 100 * self.scored / pairs)
        return self.x.found(self.y.order_of), self.y.found(self.x.order_of)

    def _coded_columns(self, pool: ThreadPoolExecutor) -> "Iterator[_Coded]":
        for begin in range(0, len(self.y.order), _COLUMNS):
            yield self.y.coded(begin, min(begin + _COLUMNS, len(self.y.order)), pool, self.threads, self.isa)

    def _scan(self, pool: ThreadPoolExecutor, rows: "_Coded", columns: "_Coded") -> None:
        y_size = float((columns.size + columns.lost).max())
        x_terms = _in_steps((rows.towards + rows.lost * y_size + _SLACK) * self.steps)
        x_terms -= np.int32(columns.zero) * rows.sums
        y_terms = _in_steps((columns.towards - self.both_means + columns.lost * float(rows.size.max())) * self.steps)
        x = self.x.scan_side(rows, x_terms, native.TILE_ROWS)
        y = self.y.scan_side(columns, y_terms, native.TILE_COLUMNS)
        locks = np.zeros(len(columns), np.uint8)

        def work(begin: int) -> int:
            end = min(begin + _ROWS, len(rows))
            return native.scan(
                x, y, begin, end, len(columns), padded=self.padded, steps=self.steps, locks=locks, isa=self.isa
            )

        self.scored += sum(pool.map(work, range(0, len(rows), _ROWS)))


@dataclass(frozen=True)
class _Coded:
    """Codes of a run of rows (begin … begin + len) of a side's order, and what the bound needs to know of each."""

    begin: int
    codes: npt.NDArray[np.uint8]
    sums: npt.NDArray[np.int32]
    towards: npt.NDArray[np.float64]  # inner product with the other side's mean
    lost: npt.NDArray[np.float64]  # |e|
    size: npt.NDArray[np.float64]  # |s q|
    zero: int

    def __len__(self) -> int:
        return len(self.sums)


class _Side:
    """One side: the order in which its rows are scanned, and the heaps of their best."""

    def __init__(self, side: Vectors, rows: Indices, width: int, how: Rotation, rng: np.random.Generator) -> None:
        self.side, self.how = side, how
        # Rows that follow each other are often alike; a shuffled order makes the first ones stand for all.
        runs = rng.permutation(-(-len(rows) // _RUN))
        places = (runs[:, None] * _RUN + np.arange(_RUN)).ravel()
        self.order_of: Indices = places[places < len(rows)]  # place in the list of rows, by place in the scan
        self.order: Indices = np.ascontiguousarray(rows[self.order_of], np.int64)  # row number, by place in the scan
        padded = -(-len(rows) // native.TILE_COLUMNS) * native.TILE_COLUMNS + native.TILE_ROWS
        self.floor = np.full(padded, np.iinfo(np.int32).min, np.int32)
        self.score = np.full((len(rows), width), -np.inf, np.float32)
        self.index = np.full((len(rows), width), -1, np.int64)
        self.rows, self.scale = side.scored_rows()

    def coded(self, begin: int, end: int, pool: ThreadPoolExecutor, threads: int, isa: int) -> _Coded:
        tile = native.TILE_COLUMNS if self.how.packed else native.TILE_ROWS
        codes = np.zeros(-(-(end - begin) // tile) * tile * self.how.padded, np.uint8)

        def work(first: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
            row = self.order[begin + first : min(begin + first + share, end)]
            return native.encode(self.side.rows, row, self.side.scale, self.how, codes, first, isa)

        share = -(-(end - begin) // (4 * threads))
        done = list(pool.map(work, range(0, end - begin, share)))
        sums = np.concatenate([part for part, _ in done])
        about = np.concatenate([part for _, part in done])
        return _Coded(begin, codes, sums, about[:, 0], about[:, 1], about[:, 2], self.how.zero)

    def scan_side(self, coded: _Coded, terms: npt.NDArray[np.int32], tile: int) -> ScanSide:
        begin, end = coded.begin, coded.begin + len(coded)
        term = np.zeros(-(-len(coded) // tile) * tile, np.int32)
        term[: len(coded)] = terms
        scale = self.scale[self.order[begin:end]]
        return ScanSide(
            self.rows, self.order[begin:end], scale, coded.codes, term, self.floor[begin:], self.score[begin:end],
            self.index[begin:end], begin,
        )  # fmt: skip

    def found(self, other_order_of: Indices) -> Found:
        score, index = np.empty_like(self.score), np.empty_like(self.index)
        for start, stop in blocks(len(self.order), score.shape[1]):
            place = other_order_of[self.index[start:stop]]
            order = np.lexsort((place, -self.score[start:stop]), axis=1)
            rows = self.order_of[start:stop]
            score[rows] = np.take_along_axis(self.score[start:stop], order, 1)
            index[rows] = np.take_along_axis(place, order, 1)
        return Found(score, index, score[:, -1].astype(np.float64) + score_error(self.side.dim))


def _in_steps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.ceil(values).astype(np.int32) + np.int32(1)


def _sample(side: Vectors, rows: Indices | None, rng: np.random.Generator) -> Floats:
    """Unit rows that stand for all, (at most _SAMPLE, dim)."""
    count = len(side) if rows is None else len(rows)
    chosen = np.arange(count) if count <= _SAMPLE else np.sort(rng.choice(count, _SAMPLE, replace=False))
    return side.unit_of(chosen if rows is None else rows[chosen])
