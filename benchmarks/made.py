"""Vectors to measure with: some like sentence embeddings, some made to hurt a search that prunes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
_LOWER = 1e-6  # cosines that are apart by less are a tie: float32 sums cannot tell them apart


def vectors(kind: str, num_src: int, num_tgt: int, dim: int, dtype: str) -> tuple[Rows, Rows]:
    """Both sides, (num_src, dim) and (num_tgt, dim); the same ones every time."""
    src, tgt = KINDS[kind](np.random.default_rng(20), num_src, num_tgt, dim)
    return src.astype(dtype), tgt.astype(dtype)


def save(folder: str, kind: str, num_src: int, num_tgt: int, dim: int, dtype: str) -> tuple[Rows, Rows]:
    """Write both sides into a folder and return them as memmaps."""
    for name, rows in zip(("src", "tgt"), vectors(kind, num_src, num_tgt, dim, dtype), strict=True):
        np.save(f"{folder}/{name}.npy", rows)
    return load(folder, mmap=True)


def load(folder: str, mmap: bool = False) -> tuple[Rows, Rows]:
    """Both sides that `save` wrote."""
    src, tgt = (
        np.load(Path(folder, f"{name}.npy"), "r" if mmap else None, allow_pickle=False) for name in ("src", "tgt")
    )
    return src, tgt


def _random(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    return _normal(rng, num_src, dim), _normal(rng, num_tgt, dim)


def _paired(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """Each target is a disturbed source where there is one of its number."""
    src, tgt = _random(rng, num_src, num_tgt, dim)
    both = min(num_src, num_tgt)
    tgt[:both] *= 0.7
    tgt[:both] += src[:both]
    return src, tgt


def _embeddings(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """Sentences in topics, half of the smaller side with a counterpart; spectra decay as those of trained encoders."""
    spectrum = ((1 + np.arange(dim)) ** -0.5).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32) * spectrum[:, None]
    paired = min(num_src, num_tgt) // 2
    topics = _normal(rng, max(2, num_src // 100), dim)
    shared = topics[rng.integers(0, len(topics), paired)] + _normal(rng, paired, dim)
    sides: list[Float32] = []
    for rows in (num_src, num_tgt):
        own = topics[rng.integers(0, len(topics), rows - paired)] + _normal(rng, rows - paired, dim)
        side = np.concatenate([shared, own])
        side += 0.7 * _normal(rng, rows, dim)
        sides.append((side @ turn)[rng.permutation(rows)])
    return sides[0], sides[1]


def _sorted(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """The further down a row, the more it has of what all share: in order, every row beats those before it."""
    sides = _random(rng, num_src, num_tgt, dim)
    common = _normal(rng, 1, dim)
    for side in sides:
        side += np.linspace(0, 2, len(side), dtype=np.float32)[:, None] * common
    return sides


def _equal(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    row = _normal(rng, 1, dim)
    return np.repeat(row, num_src, 0), np.repeat(row, num_tgt, 0)


def _alike(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """All rows next to equal, no two the same."""
    sides = _random(rng, num_src, num_tgt, dim)
    common = _normal(rng, 1, dim)
    for side in sides:
        side *= 3e-3
        side += common
    return sides


def _documents(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """Documents of 50 rows that are alike, in the same order on both sides: what is near comes all at once."""
    src, tgt = _paired(rng, num_src, num_tgt, dim)
    topics = _normal(rng, -(-max(num_src, num_tgt) // 50), dim)
    for side in (src, tgt):
        side += 1.5 * np.repeat(topics, 50, 0)[: len(side)]
    return src, tgt


def _hubs(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """One row in a hundred is near to all rows of the other side."""
    sides = _random(rng, num_src, num_tgt, dim)
    common = _normal(rng, 1, dim)
    for side in sides:
        side[rng.random(len(side)) < 0.01] *= 0.3
        side += 0.7 * common
    return sides


def _duplicates(rng: np.random.Generator, num_src: int, num_tgt: int, dim: int) -> tuple[Float32, Float32]:
    """Three rows in ten are copies of one of the first hundredth of their side."""
    sides = _paired(rng, num_src, num_tgt, dim)
    for side in sides:
        copies = np.flatnonzero(rng.random(len(side)) < 0.3)
        side[copies] = side[rng.integers(0, max(1, len(side) // 100), len(copies))]
    return sides


def _normal(rng: np.random.Generator, rows: int, dim: int) -> Float32:
    return rng.standard_normal((rows, dim), dtype=np.float32)


KINDS: dict[str, Callable[[np.random.Generator, int, int, int], tuple[Float32, Float32]]] = {
    "random": _random,
    "paired": _paired,
    "embeddings": _embeddings,
    "sorted": _sorted,
    "equal": _equal,
    "alike": _alike,
    "documents": _documents,
    "hubs": _hubs,
    "duplicates": _duplicates,
}
HURTFUL = ("sorted", "equal", "documents", "hubs", "duplicates")


def places_lower(query: Rows, other: Rows, found: npt.NDArray[np.int64], than: npt.NDArray[np.int64]) -> int:
    """At how many places of two lists of neighbours (num_rows, k) the first has a lower cosine, ties aside.

    Cosines are computed here, in float64. A row that is listed twice counts as one place lower.
    """
    lower = 0
    rows = np.flatnonzero((found != than).any(1))
    repeated = np.sort(found, 1)
    lower += int(np.count_nonzero(repeated[:, 1:] == repeated[:, :-1]))
    step = max(1, (1 << 22) // (found.shape[1] * query.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        ours, theirs = (-np.sort(-_cosines(query[some], other, index[some]), axis=1) for index in (found, than))
        lower += int(np.count_nonzero(ours < theirs - _LOWER))
    return lower


def _cosines(query: Rows, other: Rows, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    one, two = query.astype(np.float64), other[index].astype(np.float64)
    sums = np.matmul(two, one[:, :, None])[:, :, 0]
    cosines: npt.NDArray[np.float64] = sums / (
        np.linalg.norm(one, axis=1)[:, None] * np.sqrt(np.einsum("nkd,nkd->nk", two, two))
    )
    return cosines
