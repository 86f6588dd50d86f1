"""Nearest neighbours both ways: our certain backends against the plain use of faiss, which is the field's usual way.

The peer normalises both sides, builds a flat inner-product index on each, and searches both with the k wanted. It gives
no defined order among ties. Every method runs in a process of its own on the same vectors; methods take turns, and the
best of the rounds counts, which is the least disturbed one. Run it as

    python -m benchmarks.knn 20000 20000 384 --rounds 3
"""

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PEER = "faiss, both ways"
OURS = ("exact", "faiss-flat")


@dataclass(frozen=True)
class Measured:
    """One run of one method."""

    seconds: float
    peak_mib: float  # resident memory at its highest, less what there was before the search
    index: npt.NDArray[np.int64]  # the forward neighbours found


def main() -> None:
    """Print seconds, ratio to the peer, peak memory and agreement with the peer of every method."""
    parser = argparse.ArgumentParser(description="neighbours against plain faiss, in one run")
    parser.add_argument("num_src", type=int)
    parser.add_argument("num_tgt", type=int)
    parser.add_argument("dim", type=int)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[Measured]] = {method: [] for method in (PEER, *OURS)}
    for _ in range(options.rounds):
        for method, measured in runs.items():
            measured.append(in_own_process(method, options.num_src, options.num_tgt, options.dim, options.k))
    peer = min(runs[PEER], key=lambda run: run.seconds)
    print(f"{options.num_src} × {options.num_tgt} × {options.dim}, k {options.k}, best of {options.rounds}")
    print(f"{'method':<18} {'seconds':>8} {'ratio':>6} {'peak MiB':>9} {'same as peer':>13}")
    for method, measured in runs.items():
        best = min(measured, key=lambda run: run.seconds)
        ratio, same = peer.seconds / best.seconds, (best.index == peer.index).mean()
        print(f"{method:<18} {best.seconds:>8.2f} {ratio:>5.2f}× {best.peak_mib:>9.0f} {same:>13.5%}")


def in_own_process(method: str, num_src: int, num_tgt: int, dim: int, k: int) -> Measured:
    """Run a method in a fresh process, so that memory and thread pools are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (method, num_src, num_tgt, dim, k))


def measure(method: str, num_src: int, num_tgt: int, dim: int, k: int) -> Measured:
    """Time a method on seeded vectors of which each target is a disturbed source where there is one of its number."""
    rng = np.random.default_rng(0)
    src, tgt = (rng.standard_normal((rows, dim), dtype=np.float32) for rows in (num_src, num_tgt))
    both = min(num_src, num_tgt)
    tgt[:both] = src[:both] + 0.7 * tgt[:both]
    run(method, src[:100], tgt[:100], k)  # imports and thread pools
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    start = time.perf_counter()
    index = run(method, src, tgt, k)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(seconds, peak - pages * resource.getpagesize() / 2**20, index)


def run(method: str, src: npt.NDArray[np.float32], tgt: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Find neighbours both ways; the forward ones come back, (num_src, k)."""
    if method != PEER:
        from seamlessalign.mining import neighbours

        return neighbours(src, tgt, k, method)[0].index
    import faiss

    sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (src, tgt)]
    found: list[Any] = []
    for query, other in (sides, sides[::-1]):
        index = faiss.IndexFlatIP(other.shape[1])
        index.add(other)
        found.append(index.search(query, k)[1])
    forward: npt.NDArray[np.int64] = found[0]
    return forward


if __name__ == "__main__":
    main()
