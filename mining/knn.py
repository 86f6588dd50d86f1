"""Nearest neighbours by cosine, both ways, with one defined order whatever finds them."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining.vectors import Floats, Indices, Vectors

log = logging.getLogger(__name__)

BACKENDS = ("auto", "exact", "faiss-flat", "faiss-ivfpq")
_SPARE = 4  # candidates beyond k that a search in float32 returns, so that most rows can be certified
_RERANKED = 4  # candidates per neighbour that the compressed index returns for exact ranking
_FLAT_SCORES = 1 << 26  # up to 8,192 × 8,192 scores, where one pass over tiles gains nothing
_EXACT_SCORES = 1 << 42  # up to 2 M × 2 M scores on the processor: about a day of two cores, an hour of sixty-four


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of the other side for every row of one, by cosine descending, then index ascending."""

    cosine: Floats  # (num_rows, k) float32
    index: Indices  # (num_rows, k) int64 into the other side


def neighbours(
    src: npt.NDArray[Any], tgt: npt.NDArray[Any], k: int = 16, backend: str = "auto", device: str | None = None
) -> tuple[Neighbours, Neighbours]:
    """The k nearest targets of every source and the k nearest sources of every target.

    src (N, D) and tgt (M, D): float16 or float32 rows of any norm, arrays or memmaps. Returns forward (N, min(k, M))
    and backward (M, min(k, N)). Backends:

    - `faiss-flat`: two searches of flat indexes; both sides in memory as float32, the indexed one twice.
    - `exact`: one pass over tiles of the similarity matrix with torch, on `device` (default `cpu`, or `cuda`).
    - `faiss-ivfpq`: compressed indexes, candidates ranked again by exact cosine; may miss neighbours. A side of under
      9,984 rows is too small to train codes on and gets a flat index.
    - `auto`: `exact` where a device is named, else by size: flat, exact, compressed.

    `faiss-flat` and `exact` give the same bytes: cosines are float64 sums rounded once to float32, and rows where
    float32 products cannot prove the order are computed in full. Raises InputError naming the side and row of NaN, Inf
    or zero rows, for sides that are empty or of different dimensions, and for a k or backend that does not exist.
    """
    source, target = Vectors(src, "src"), Vectors(tgt, "tgt")
    return between(source, target, k, backend, device)


def between(
    src: Vectors, tgt: Vectors, k: int = 16, backend: str = "auto", device: str | None = None
) -> tuple[Neighbours, Neighbours]:
    """`neighbours` of sides that are already checked."""
    if src.dim != tgt.dim:
        raise InputError(f"src has {src.dim} dimensions and tgt {tgt.dim}: embed both sides with the same model")
    k = check_k(k)
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}: choose one of {', '.join(BACKENDS)}")
    if device is not None and backend not in ("auto", "exact"):
        raise InputError(f"backend {backend} does not run on a device: leave device out, or choose exact")
    if backend == "auto":
        backend = _choose(len(src), len(tgt), device)
    if backend == "exact":
        return _exact(src, tgt, k, device or "cpu")
    if backend == "faiss-flat":
        return _flat(src, tgt, k)
    return _compressed(src, tgt, k), _compressed(tgt, src, k)


def check_k(k: Any) -> int:
    """The number of neighbours as int; InputError unless it is a whole number, 1 or more."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}: give a whole number of neighbours, 1 or more")
    return int(k)


def _choose(num_src: int, num_tgt: int, device: str | None) -> str:
    scores = num_src * num_tgt
    if device is not None:
        backend, why = "exact", f"device {device} is named"
    elif scores <= _FLAT_SCORES:
        backend, why = "faiss-flat", "the sides are small"
    elif scores <= _EXACT_SCORES:
        backend, why = "exact", "one pass over the products serves both directions"
    else:
        backend, why = "faiss-ivfpq", "all products would take too long on a processor; name a device for exact results"
    log.info("%d × %d rows: backend %s, because %s", num_src, num_tgt, backend, why)
    return backend


def _exact(src: Vectors, tgt: Vectors, k: int, device: str) -> tuple[Neighbours, Neighbours]:
    from seamlessalign.mining.certify import best_certain
    from seamlessalign.mining.tiles import one_pass

    forward, backward = one_pass(src, tgt, _width(k, tgt), _width(k, src), device)
    return (
        Neighbours(*best_certain(src, tgt, forward, min(k, len(tgt)))),
        Neighbours(*best_certain(tgt, src, backward, min(k, len(src)))),
    )


def _flat(src: Vectors, tgt: Vectors, k: int) -> tuple[Neighbours, Neighbours]:
    from seamlessalign.mining.certify import best_certain
    from seamlessalign.mining.faiss_search import flat

    ours, theirs = src.all_unit(), tgt.all_unit()
    forward = best_certain(src, tgt, flat(ours, theirs, _width(k, tgt)), min(k, len(tgt)))
    backward = best_certain(tgt, src, flat(theirs, ours, _width(k, src)), min(k, len(src)))
    return Neighbours(*forward), Neighbours(*backward)


def _compressed(query: Vectors, other: Vectors, k: int) -> Neighbours:
    from seamlessalign.mining.certify import best_certain, best_of
    from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES, compressed, flat

    k = min(k, len(other))
    if len(other) < MIN_ROWS_FOR_CODES:
        log.info("%s: %d rows are too few to train codes on; flat index", other.side, len(other))
        return Neighbours(*best_certain(query, other, flat(query.all_unit(), other.all_unit(), _width(k, other)), k))
    found = compressed(query, other, min(max(_RERANKED * k, k + 64), len(other)))
    return Neighbours(*best_of(query, other, found.index, k))


def _width(k: int, other: Vectors) -> int:
    return min(k + _SPARE, len(other))
