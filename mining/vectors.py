"""Embeddings of one side, checked once, and the one definition of cosine that every backend's results carry."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining import native

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_SAFE_SCALE = (1e-12, 1e12)  # of one over a norm: products of such rows and their sums stay inside float32's range
_BLOCK_ELEMENTS = 1 << 21  # elements of one block in float64: 16 MiB


class Vectors:
    """The rows of one side with their norms; a memmap stays on disk, blocks are read as they are needed.

    `rows` (num_rows, dim) float16 or float32, `scale` (num_rows,) float64: one over each row's Euclidean norm.
    """

    def __init__(self, rows: npt.NDArray[Any], side: str) -> None:
        """Check a side. `side` names it in errors: InputError for a wrong shape or type, NaN, Inf or zero rows."""
        if not isinstance(rows, np.ndarray) or rows.ndim != 2:
            raise InputError(f"{side}: expected a two-dimensional array (rows, dim), got {_describe(rows)}")
        if rows.dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
            raise InputError(f"{side}: expected float16 or float32 rows, got {rows.dtype}: convert them first")
        if rows.shape[0] == 0 or rows.shape[1] == 0:
            raise InputError(f"{side}: has no {'rows' if rows.shape[0] == 0 else 'dimensions'}: nothing to mine")
        # what is compiled walks rows that lie one after the other
        self.rows = rows if rows.flags.c_contiguous else np.ascontiguousarray(rows)
        rows = self.rows
        self.side = side
        self.scale = np.empty(len(rows), np.float64)
        for start, stop in blocks(len(rows), rows.shape[1]):
            block = rows[start:stop].astype(np.float64)  # a square of float32 does not overflow here
            norms = np.sqrt(np.einsum("nd,nd->n", block, block))
            bad = ~np.isfinite(norms) | (norms == 0)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                what = "is all zeros" if norms[row] == 0 else "holds NaN or Inf"
                raise InputError(f"{side}: row {start + row} {what}: leave it out or embed it again")
            self.scale[start:stop] = 1 / norms

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return int(self.rows.shape[1])

    def unit(self, start: int, stop: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Rows start … stop divided by their norms, (stop - start, dim), C-contiguous."""
        scale = self.scale[start:stop, None]
        unit: npt.NDArray[Any] = np.multiply(self.rows[start:stop], scale, dtype=np.float64)
        return unit.astype(dtype, copy=False)

    def unit_of(self, rows: Indices) -> Floats:
        """Some rows divided by their norms, (len(rows), dim) float32, made block by block."""
        out = np.empty((len(rows), self.dim), np.float32)
        for start, stop in blocks(len(rows), self.dim):
            some = rows[start:stop]
            out[start:stop] = np.multiply(self.rows[some], self.scale[some, None], dtype=np.float64)
        return out

    def all_unit(self) -> Floats:
        """Every row divided by its norm, (num_rows, dim) float32, made block by block."""
        out = np.empty((len(self), self.dim), np.float32)
        for start, stop in blocks(len(self), self.dim):
            out[start:stop] = self.unit(start, stop)
        return out

    def scored_rows(self) -> tuple[npt.NDArray[Any], Floats]:
        """Rows whose inner products float32 can hold, and one over their norms (num_rows,) float32.

        They are the rows as they are, but for norms so large or small that squares would leave float32's range: then a
        copy of unit length.
        """
        if _SAFE_SCALE[0] <= self.scale.min() and self.scale.max() <= _SAFE_SCALE[1]:
            return self.rows, self.scale.astype(np.float32)
        return self.all_unit(), np.ones(len(self), np.float32)


def cosines(query: Vectors, other: Vectors, query_rows: Indices, index: Indices) -> Floats:
    """Cosine of each query row with the rows of the other side listed for it.

    query_rows (n,), index (n, k) → (n, k) float32, in [-1, 1]. Products and sums are float64, always in the same order,
    and rounded once: the value depends on the two rows alone and is the same in both directions, on any processor.
    """
    query_rows, index = np.ascontiguousarray(query_rows, np.int64), np.ascontiguousarray(index, np.int64)
    out = np.empty(index.shape, np.float32)

    def score(start: int, stop: int) -> None:
        native.exact_cosines(
            query.rows, other.rows, query_rows[start:stop], index[start:stop], query.scale, other.scale,
            out[start:stop], native.best_isa(),
        )  # fmt: skip

    in_threads(score, blocks(len(index), index.shape[1] * query.dim))
    return out


def in_threads(work: Callable[[int, int], None], spans: list[tuple[int, int]]) -> None:
    """Call work(start, stop) for every span on all cores (numpy and the compiled core let go of the interpreter)."""
    if len(spans) == 1:
        work(*spans[0])
        return
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(lambda span: work(*span), spans):
            pass


def blocks(num_rows: int, row_elements: int) -> list[tuple[int, int]]:
    """Half-open spans of rows that hold about 2 M elements each, in order."""
    step = max(1, _BLOCK_ELEMENTS // max(1, row_elements))
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def _describe(rows: object) -> str:
    return f"shape {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
