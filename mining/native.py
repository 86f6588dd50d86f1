"""The compiled core (`scan.cpp`) as Python functions on arrays. Calls let go of the interpreter."""

import ctypes
import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import SeamlessAlignError

PORTABLE, AVX2, VNNI = 0, 1, 2  # instruction sets, each a part of the next
ISA_NAMES = ("portable", "avx2", "avx512-vnni")
TILE_ROWS, TILE_COLUMNS = 12, 32
_WALKED = 1 << 20  # pairs that are walked over at a time
MAX_DIM = 32_768  # dimensions whose sums of products of codes fit 32 bits

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


class _Side(ctypes.Structure):
    _fields_: ClassVar[Sequence[Any]] = [
        ("rows", _POINTER),
        ("half", _LONG),
        ("row", _POINTER),
        ("scale", _POINTER),
        ("start", _POINTER),
        ("step", _POINTER),
        ("term", _POINTER),
        ("floor", _POINTER),
        ("lost", _POINTER),
        ("spare", _POINTER),
        ("score", _POINTER),
        ("index", _POINTER),
        ("width", _LONG),
        ("first", _LONG),
    ]


@dataclass(frozen=True)
class ScanSide:
    """One side of a scan over n rows. Arrays are C-contiguous.

    rows (any, dim) float16 or float32: where the rows are; row (n,) int64: their numbers there; scale (n,) float32: one
    over their norms; codes uint8 from `encode`. By row and padded to whole tiles: start int32, with which its sums of
    products of codes begin (the rows' side only), step float32, term float32, what belongs to the row in the bound of a
    cosine, and floor float32, what the bound must reach to be of interest to it. The bound of a pair is less than these
    say by the `lost` (n,) of either times the `spare` (n,) of the other, float32. score (n, width) float32 and index
    (n, width) int64: heaps of the best so far, -inf and -1 at first; first: the number that the first row is given in
    the other side's `index`.
    """

    rows: npt.NDArray[Any]
    row: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int32]
    step: npt.NDArray[np.float32]
    term: npt.NDArray[np.float32]
    floor: npt.NDArray[np.float32]
    lost: npt.NDArray[np.float32]
    spare: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    first: int

    def _struct(self) -> _Side:
        return _Side(
            self.rows.ctypes.data,
            self.rows.dtype == np.float16,
            self.row.ctypes.data,
            self.scale.ctypes.data,
            self.start.ctypes.data,
            self.step.ctypes.data,
            self.term.ctypes.data,
            self.floor.ctypes.data,
            self.lost.ctypes.data,
            self.spare.ctypes.data,
            self.score.ctypes.data,
            self.index.ctypes.data,
            self.score.shape[1],
            self.first,
        )


@dataclass(frozen=True)
class Rotation:
    """How a side's rows become codes: less a mean, signs flipped, Walsh-Hadamard by blocks, in steps of each row's own.

    mean (dim,) float32, other_mean (dim,) float64: that of the other side; signs (dim,) float32 of 1 and -1.
    """

    mean: npt.NDArray[np.float32]
    other_mean: npt.NDArray[np.float64]
    signs: npt.NDArray[np.float32]
    padded: int  # dimensions of a code, a multiple of 64
    levels: int  # codes are -levels … levels
    packed: bool  # the columns' side: unsigned, with `levels + 1` added, four dimensions of 32 rows side by side

    @property
    def zero(self) -> int:
        """What is added to the codes."""
        return self.levels + 1 if self.packed else 0


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled core. Raises SeamlessAlignError where it was not built."""
    spec = importlib.util.find_spec("seamlessalign.mining._scan")
    if spec is None or spec.origin is None:
        raise SeamlessAlignError("mining's compiled core was not built: install a C++ compiler, then the package again")
    try:
        loaded = ctypes.CDLL(spec.origin)
    except OSError as error:
        raise SeamlessAlignError(f"{spec.origin}: cannot be loaded: {error}; install the package again") from error
    loaded.scan_rows.argtypes = [
        _INT, _LONG, _LONG, _POINTER, _POINTER, ctypes.POINTER(_Side), ctypes.POINTER(_Side), _LONG, _LONG, _LONG,
        _POINTER,
    ]  # fmt: skip
    loaded.scan_rows.restype = _LONG
    loaded.encode_rows.argtypes = [
        _INT, _POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _POINTER, _LONG,
        ctypes.c_int32, ctypes.c_int32, _LONG, _POINTER, _LONG, _POINTER, _POINTER, _POINTER,
    ]  # fmt: skip
    loaded.encode_rows.restype = None
    loaded.exact_cosines.argtypes = [
        _INT, _POINTER, _LONG, _POINTER, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _POINTER,
    ]  # fmt: skip
    loaded.exact_cosines.restype = None
    loaded.hash_rows.argtypes = [_POINTER, _LONG, _LONG, _POINTER]
    loaded.hash_rows.restype = None
    loaded.first_different.argtypes = [_POINTER, _LONG, _POINTER, _POINTER, _LONG]
    loaded.first_different.restype = _LONG
    loaded.walk_one_to_one.argtypes = [_POINTER, _POINTER, _LONG, _POINTER, _POINTER, _POINTER]
    loaded.walk_one_to_one.restype = _LONG
    return loaded


@functools.cache
def best_isa() -> int:
    """The best instruction set that this processor has."""
    return int(library().best_isa())


def scan(
    x: ScanSide,
    y: ScanSide,
    begin: int,
    end: int,
    columns: int,
    *,
    padded: int,
    locks: npt.NDArray[np.uint8],
    isa: int,
) -> int:
    """Scan rows begin … end of x against `columns` rows of y; both sides' heaps and floors change in place.

    begin is a multiple of TILE_ROWS. locks (columns,) uint8, zeros, let several threads scan different rows against the
    same columns. Returns how many inner products were computed in float32.
    """
    one, two = x._struct(), y._struct()
    return int(
        library().scan_rows(
            isa, x.rows.shape[1], padded, x.codes.ctypes.data, y.codes.ctypes.data, one, two, begin, end,
            columns, locks.ctypes.data,
        )
    )  # fmt: skip


def encode(
    rows: npt.NDArray[Any],
    row: npt.NDArray[np.int64],
    scale: npt.NDArray[np.float64],
    how: Rotation,
    codes: npt.NDArray[np.uint8],
    first: int,
    isa: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Write the codes of rows (numbers `row`) to places `first` and on of `codes` (whole tiles of places × padded).

    scale has one over the norm of every row in `rows`. Returns the sum of each code (n,) and, (n, 4), each row's inner
    product with the other side's mean, the length of what the code loses, the length of what it keeps, and its step.
    """
    block = how.padded & -how.padded
    sums, about = np.empty(len(row), np.int32), np.empty((len(row), 4), np.float64)
    scratch = np.empty(how.padded + 16, np.float32)
    library().encode_rows(
        isa, rows.ctypes.data, rows.dtype == np.float16, rows.shape[1], how.padded, row.ctypes.data, scale.ctypes.data,
        len(row), how.mean.ctypes.data, how.other_mean.ctypes.data, how.signs.ctypes.data, block, how.levels,
        how.zero, how.packed, codes.ctypes.data, first, sums.ctypes.data, about.ctypes.data, scratch.ctypes.data,
    )  # fmt: skip
    return sums, about


def exact_cosines(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    x_row: npt.NDArray[np.int64],
    y_row: npt.NDArray[np.int64],
    x_scale: npt.NDArray[np.float64],
    y_scale: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
    isa: int,
) -> None:
    """Cosines of rows x_row (n,) of x with rows y_row (n, each) of y, into out (n, each)."""
    library().exact_cosines(
        isa, x.ctypes.data, x.dtype == np.float16, y.ctypes.data, y.dtype == np.float16, x.shape[1], x_row.ctypes.data,
        x_scale.ctypes.data, y_scale.ctypes.data, y_row.ctypes.data, *y_row.shape, out.ctypes.data,
    )  # fmt: skip


def hash_rows(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of the bytes of every row of a C-contiguous array."""
    out = np.empty(len(rows), np.uint64)
    library().hash_rows(rows.ctypes.data, _row_bytes(rows), len(rows), out.ctypes.data)
    return out


def first_different(rows: npt.NDArray[Any], one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]) -> int:
    """The first place where rows one[place] and two[place] of an array differ in their bytes; -1 for none."""
    return int(
        library().first_different(rows.ctypes.data, _row_bytes(rows), one.ctypes.data, two.ctypes.data, len(one))
    )


def _row_bytes(rows: npt.NDArray[Any]) -> int:
    return int(rows.shape[1]) * rows.itemsize  # not its stride, which for a single row may be anything


def walk_one_to_one(
    src: npt.NDArray[np.integer[Any]], tgt: npt.NDArray[np.integer[Any]], num_src: int, num_tgt: int
) -> npt.NDArray[np.int64]:
    """Positions, ascending, that a walk over pairs takes when no row of either side may be in two pairs."""
    taken, other = np.zeros(num_src, np.uint8), np.zeros(num_tgt, np.uint8)
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(src), _WALKED):
        rows, others = (np.ascontiguousarray(side[begin : begin + _WALKED], np.int64) for side in (src, tgt))
        out = np.empty(len(rows), np.int64)
        count = library().walk_one_to_one(
            rows.ctypes.data, others.ctypes.data, len(rows), taken.ctypes.data, other.ctypes.data, out.ctypes.data
        )
        found.append(out[:count] + begin)
    return np.concatenate(found)
