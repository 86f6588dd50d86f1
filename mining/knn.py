"""Nearest neighbours by cosine, both ways, with one defined order whatever finds them."""

import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.mining import native
from seamlessalign.mining.exact import DEFAULT_MEMORY, Found
from seamlessalign.mining.vectors import Floats, Indices, Vectors

log = logging.getLogger(__name__)

BACKENDS = ("auto", "exact", "faiss-flat", "faiss-ivfpq")
_SPARE = 4  # candidates beyond k that a search returns, so that most rows can be certified
_PATIENCE = 12 * 3600  # seconds that `auto` spends on exact results
_RATES = {
    native.PORTABLE: 3e9,
    native.AVX2: 4e10,
    native.VNNI: 1.5e11,
}  # products per second and core, at least
_CUDA_RATE = 1e14


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of the other side for every row of one, by cosine descending, then index ascending."""

    cosine: Floats  # (num_rows, k) float32
    index: Indices  # (num_rows, k) int64 into the other side


@dataclass(frozen=True)
class Choice:
    """A backend and why `auto` takes it."""

    backend: str
    why: str
    seconds: float  # about how long the exact search takes here


def neighbours(
    src: npt.NDArray[Any],
    tgt: npt.NDArray[Any],
    k: int | tuple[int, int] = 16,
    backend: str = "auto",
    device: str | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Neighbours, Neighbours]:
    """The k nearest targets of every source and the k nearest sources of every target.

    src (N, D) and tgt (M, D): float16 or float32 rows of any norm, arrays or memmaps. k: for both sides, or (targets of
    a source, sources of a target). Returns forward (N, min(k, M)) and backward (M, min(k, N)). Backends:

    - `exact`: one pass over all pairs. On the processor a compiled scan with 8-bit bounds, whose working memory is
      about `memory` bytes beside the sides and the result; on a `device` (`cuda`, `cuda:1`, several separated by
      commas, or `cpu`) tiles of products in half precision with torch.
    - `faiss-flat`: two searches of flat indexes; both sides in memory as float32, the indexed one twice.
    - `faiss-ivfpq`: compressed indexes, candidates ranked again by exact cosine; may miss neighbours. A side of under
      9,984 rows is too small to train codes on and gets a flat index.
    - `auto`: `exact` unless that would take more than twelve hours here, then `faiss-ivfpq`; the log says why.

    `faiss-flat` and `exact` give the same bytes on every device: cosines are float64 sums in a fixed order rounded once
    to float32, and rows where the fast search cannot prove the order are computed in full. Raises InputError naming the
    side and row of NaN, Inf or zero rows, for sides that are empty or of different dimensions, and for a k or backend
    that does not exist.
    """
    return between(Vectors(src, "src"), Vectors(tgt, "tgt"), k, backend, device, memory)


def between(
    src: Vectors,
    tgt: Vectors,
    k: int | tuple[int, int] = 16,
    backend: str = "auto",
    device: str | None = None,
    memory: int = DEFAULT_MEMORY,
    threads: int | None = None,
) -> tuple[Neighbours, Neighbours]:
    """`neighbours` of sides that are already checked, by so many threads, one for each core by default."""
    if src.dim != tgt.dim:
        raise InputError(f"src has {src.dim} dimensions and tgt {tgt.dim}: embed both sides with the same model")
    widths = check_k(k)
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}: choose one of {', '.join(BACKENDS)}")
    if device is not None and backend not in ("auto", "exact"):
        raise InputError(f"backend {backend} does not run on a device: leave device out, or choose exact")
    if backend == "auto":
        chosen = choose_backend(len(src), len(tgt), src.dim, device)
        backend = chosen.backend
        log.info("%d × %d rows: backend %s, because %s", len(src), len(tgt), backend, chosen.why)
    forward_k, backward_k = min(widths[0], len(tgt)), min(widths[1], len(src))
    if backend == "exact":
        return _exact(src, tgt, forward_k, backward_k, device, memory, threads)
    if backend == "faiss-flat":
        return _flat(src, tgt, forward_k, backward_k)
    return _compressed(src, tgt, forward_k), _compressed(tgt, src, backward_k)


def check_k(k: Any) -> tuple[int, int]:
    """Numbers of neighbours of sources and of targets; InputError unless they are whole numbers, 1 or more."""
    both = k if isinstance(k, tuple) and len(k) == 2 else (k, k)
    for one in both:
        if isinstance(one, bool) or not isinstance(one, int | np.integer) or one < 1:
            raise InputError(f"k is {k!r}: give a whole number of neighbours, 1 or more, or one for each side")
    return int(both[0]), int(both[1])


def choose_backend(num_src: int, num_tgt: int, dim: int, device: str | None = None, cores: int = 0) -> Choice:
    """What `auto` takes for sides of so many rows, and why. `cores`: of this machine where it is 0."""
    products = float(num_src) * num_tgt * (-(-dim // 64) * 64)
    if device is not None and device != "cpu":
        devices = device.count(",") + 1
        seconds = products / _CUDA_RATE / devices
        return Choice("exact", f"device {device} is named and computes all products in about {_time(seconds)}", seconds)
    cores = cores or len(os.sched_getaffinity(0))
    isa = native.best_isa()
    seconds = products / _RATES[isa] / cores
    how = f"all products take about {_time(seconds)} on {cores} cores ({native.ISA_NAMES[isa]})"
    if seconds <= _PATIENCE:
        return Choice("exact", f"{how}, and one pass over them serves both directions exactly", seconds)
    return Choice("faiss-ivfpq", f"{how}; name a device, or backend exact, for exact results", seconds)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.0f} h"


def _exact(
    src: Vectors,
    tgt: Vectors,
    forward_k: int,
    backward_k: int,
    device: str | None,
    memory: int,
    threads: int | None,
) -> tuple[Neighbours, Neighbours]:
    from seamlessalign.mining.certify import best_certain
    from seamlessalign.mining.distinct import classes_of, spread
    from seamlessalign.mining.exact import one_pass

    ours, theirs = classes_of(src), classes_of(tgt)
    for side, classes in ((src, ours), (tgt, theirs)):
        if not classes.all_distinct:
            log.info("%s: %d rows, %d of them distinct", side.side, len(side), len(classes.first))
    k = min(forward_k, len(theirs.first)), min(backward_k, len(ours.first))
    widths = min(k[0] + _SPARE, len(theirs.first)), min(k[1] + _SPARE, len(ours.first))
    forward: Found
    backward: Found
    if device is None and src.dim > native.MAX_DIM:
        device = "cpu"  # codes' products would leave 32 bits
    if device is None:
        forward, backward = one_pass(
            src, tgt, *widths, src_rows=ours.first, tgt_rows=theirs.first, memory=memory, threads=threads
        )
    else:
        from seamlessalign.mining.tiles import one_pass as on_device

        forward, backward = on_device(src, tgt, *k, device=device, src_rows=ours.first, tgt_rows=theirs.first)
    ahead = best_certain(src, tgt, ours.first, theirs.first, forward, k[0])
    back = best_certain(tgt, src, theirs.first, ours.first, backward, k[1])
    return (
        Neighbours(*spread(*ahead, ours, theirs, forward_k)),
        Neighbours(*spread(*back, theirs, ours, backward_k)),
    )


def _flat(src: Vectors, tgt: Vectors, forward_k: int, backward_k: int) -> tuple[Neighbours, Neighbours]:
    from seamlessalign.mining.certify import best_certain
    from seamlessalign.mining.distinct import classes_of, spread
    from seamlessalign.mining.flat import flat

    ours, theirs = classes_of(src), classes_of(tgt)
    one, two = src.unit_of(ours.first), tgt.unit_of(theirs.first)
    found: list[Neighbours] = []
    for query, other, mine, their, query_unit, other_unit, k in (
        (src, tgt, ours, theirs, one, two, forward_k),
        (tgt, src, theirs, ours, two, one, backward_k),
    ):
        width = min(k, len(their.first))
        candidates = flat(query_unit, other_unit, min(width + _SPARE, len(their.first)))
        best = best_certain(query, other, mine.first, their.first, candidates, width)
        found.append(Neighbours(*spread(*best, mine, their, k)))
    return found[0], found[1]


def _compressed(query: Vectors, other: Vectors, k: int) -> Neighbours:
    from seamlessalign.mining.compressed import compressed

    return Neighbours(*compressed(query, other, k))
