"""Nearest neighbours both ways: our certain backends against the plain use of faiss, which is the field's usual way.

The peer normalises both sides, builds a flat inner-product index on each, and searches both with the k wanted. It gives
no defined order among ties. Every method runs in a process of its own on the same vectors; methods take turns, and
medians are compared. Printed are seconds, ratios, memory beside the inputs, whether any neighbour found is further away
than the peer's, and where the exact search's time goes, beside bare products in float32. How fast faiss is depends on
the kernels that its OpenBLAS takes, often not the best ones of the processor: --kernels measures with others too. Run
it as

    python -m benchmarks.knn 16384 16384 1024
    python -m benchmarks.knn 16384 16384 1024 --kernels SkylakeX
    python -m benchmarks.knn 16384 16384 1024 --hurt
"""

import argparse
import dataclasses
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.made import HURTFUL, KINDS, load, places_lower, save
from benchmarks.measured import (
    Clock,
    Measured,
    by_turns,
    conditions,
    exact_parts,
    measure,
    part_of,
    peak_of,
    print_parts,
    seconds_of,
    watch_exact,
    with_kernels,
)

PEER = "faiss, both ways"
BARE = "exact, products alone"
GEMM = "float32 products (torch)"
METHODS = (PEER, "exact", "faiss-flat")
_GEMM_TILE = 2048
Indices = npt.NDArray[np.int64]


def main() -> None:
    """Print the comparison, or with --hurt what hurtful data cost."""
    parser = argparse.ArgumentParser(description="neighbours against plain faiss, in one run")
    parser.add_argument("num_src", type=int)
    parser.add_argument("num_tgt", type=int)
    parser.add_argument("dim", type=int)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--kind", choices=list(KINDS), default="paired")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--kernels", nargs="+", default=[], help="values of OPENBLAS_CORETYPE to measure faiss with too"
    )
    parser.add_argument("--no-parts", action="store_true", help="leave out where the time of `exact` goes")
    parser.add_argument("--hurt", nargs="*", choices=list(KINDS), help="`exact` on hurtful data against random rows")
    options = parser.parse_args()
    sizes = (options.num_src, options.num_tgt, options.dim)
    print(f"{sizes[0]} × {sizes[1]} × {sizes[2]} {options.dtype}, k {options.k}, medians of {options.rounds}")
    print(conditions(), flush=True)
    if options.hurt is None:
        others = with_kernels([method for method in options.methods if method != "exact"], options.kernels)
        methods = list(dict.fromkeys([*options.methods, *others]))
        compare(sizes, options.kind, options.dtype, options.k, options.rounds, methods, not options.no_parts)
    else:
        hurt(sizes, options.hurt or list(HURTFUL), options.dtype, options.k, options.rounds)


def compare(
    sizes: tuple[int, int, int], kind: str, dtype: str, k: int, rounds: int, methods: list[str], parts: bool
) -> None:
    """Print all methods on one kind of data."""
    with tempfile.TemporaryDirectory() as folder:
        src, tgt = save(folder, kind, *sizes, dtype)
        names = [*methods, *((BARE, GEMM) if parts and "exact" in methods else ())]
        runs = by_turns(names, rounds, measure_one, folder, k)
        first = methods[0]
        print(f"\n{kind + ' rows':<28} {'median s':>9} {'least':>8} {'most':>8} {'ratio':>7} {'MiB':>7} {'lower':>6}")
        for method in methods:
            done = runs[method]
            each = [run.seconds for run in done]
            lower = places_below(src, tgt, done[0].result, runs[first][0].result)
            print(
                f"{method:<28} {seconds_of(done):>9.2f} {min(each):>8.2f} {max(each):>8.2f} "
                f"{seconds_of(runs[first]) / seconds_of(done):>6.2f}× {peak_of(done):>7.0f} {lower:>6}"
            )
    print(f"ratio: {first} takes so many times as long; MiB: at most, beside the inputs; lower: places below {first}")
    for other in [method for method in methods if "exact" in methods and method != "exact"]:
        rate = 4 * sizes[0] * sizes[1] * sizes[2] / seconds_of(runs[other]) / 1e9
        print(f"exact against {other}, {rate:.0f} GFLOP/s: {seconds_of(runs[other]) / seconds_of(runs['exact']):.2f}×")
    if GEMM in runs:
        print_exact_parts(runs)


def print_exact_parts(runs: dict[str, list[Measured]]) -> None:
    """Print where the time of `exact` goes, and what its scan costs beyond products."""
    whole, bare, gemm = seconds_of(runs["exact"]), part_of(runs[BARE], "scan"), part_of(runs[GEMM], "products")
    found = exact_parts(runs["exact"])
    scan = found["scan"]
    parts: dict[str, float] = {}
    for name, seconds in found.items():
        if name == "scan":
            parts |= {"bare products": bare, "scores and heaps: rest of the scan": seconds - bare}
        else:
            parts[name] = seconds
    print_parts("where the time of exact goes", parts, whole)
    print(f"scan over bare products: {100 * (scan / bare - 1):+.1f} %, or {100 * (scan - bare) / gemm:.1f} % of {GEMM}")
    print(f"{GEMM} of the same size: {gemm:.2f} s, {gemm / bare:.2f}× our bare products, {gemm / whole:.2f}× exact")


def hurt(sizes: tuple[int, int, int], kinds: list[str], dtype: str, k: int, rounds: int) -> None:
    """Print what `exact` takes on each kind of data as a ratio to random rows, and whether it is right."""
    with tempfile.TemporaryDirectory() as folder:
        names = list(dict.fromkeys(["random", *kinds]))
        folders = {name: tempfile.mkdtemp(dir=folder) for name in names}
        sides = {name: save(folders[name], name, *sizes, dtype) for name in names}
        runs = by_turns(names, rounds, measure_kind, folders, "exact", k)
        peers = by_turns(names, 1, measure_kind, folders, PEER, k)
        columns = ("exact s", "to random", "MiB", "faiss s", "lower", "equal to faiss")
        print(f"\n{'rows':<12}" + "".join(f"{column:>15}" for column in columns))
        for name in names:
            ours, theirs = runs[name], peers[name]
            lower = places_below(*sides[name], ours[0].result, theirs[0].result)
            above = places_below(*sides[name], theirs[0].result, ours[0].result)
            equal = "NO" if lower else f"{above} nearer" if above else "up to ties"
            figures = (
                f"{seconds_of(ours):.2f}",
                f"{seconds_of(ours) / seconds_of(runs['random']):.2f}×",
                f"{peak_of(ours):.0f}",
                f"{seconds_of(theirs):.2f}",
                str(lower),
                equal,
            )
            print(f"{name:<12}" + "".join(f"{figure:>15}" for figure in figures), flush=True)
    print("lower: places where exact has a lower cosine than faiss; nearer: places where faiss has the lower one")


def places_below(src: Any, tgt: Any, found: tuple[Indices, Indices], than: tuple[Indices, Indices]) -> int:
    """At how many places of both directions neighbours have lower cosines than others found."""
    return places_lower(src, tgt, found[0], than[0]) + places_lower(tgt, src, found[1], than[1])


def measure_kind(kind: str, folders: dict[str, str], method: str, k: int) -> Measured:
    """Measure a method on one of several kinds of data."""
    return measure_one(method, folders[kind], k)


def measure_one(method: str, folder: str, k: int) -> Measured:
    """Measure a method on the vectors in a folder; the result is the neighbours' indices of both directions."""
    src, tgt = load(folder)
    clock = Clock()
    if method in ("exact", BARE):
        watch_exact(clock)
    run(method, src[:100], tgt[:100], k, clock)  # imports and thread pools
    return measure(lambda: run(method, src, tgt, k, clock), clock)


def run(method: str, src: Any, tgt: Any, k: int, clock: Clock) -> tuple[Indices, Indices] | None:
    """Find neighbours both ways: (num_src, k) and (num_tgt, k). Bare products find nothing."""
    if method == PEER:
        return plain_faiss(src, tgt, k)
    if method == GEMM:
        plain_products(src, tgt, clock)
        return None
    if method == BARE:
        bare_products(src, tgt, k)
        return None
    from seamlessalign.mining import neighbours

    forward, backward = neighbours(src, tgt, k, method)
    return forward.index, backward.index


def plain_faiss(src: Any, tgt: Any, k: int) -> tuple[Indices, Indices]:
    """The peer."""
    import faiss

    sides = [np.array(side, np.float32, order="C") for side in (src, tgt)]
    for side in sides:
        faiss.normalize_L2(side)
    found: list[Indices] = []
    for query, other in (sides, sides[::-1]):
        index = faiss.IndexFlatIP(other.shape[1])
        index.add(other)
        found.append(index.search(query, k)[1])
    return found[0], found[1]


def plain_products(src: Any, tgt: Any, clock: Clock) -> None:
    """Every product once, in float32, by tiles, and nothing done with them."""
    import torch

    x, y = (torch.from_numpy(np.ascontiguousarray(side, np.float32)) for side in (src, tgt))
    tile = torch.empty(_GEMM_TILE, _GEMM_TILE)
    with clock.part("products"):
        for rows in x.split(_GEMM_TILE):
            for columns in y.split(_GEMM_TILE):
                torch.mm(rows, columns.T, out=tile[: len(rows), : len(columns)])


def bare_products(src: Any, tgt: Any, k: int) -> None:
    """The pass of `exact` with floors that no bound reaches: codes are multiplied, and nothing is ever scored."""
    from seamlessalign.mining import distinct, exact, native
    from seamlessalign.mining.vectors import Vectors

    scan = native.scan
    high = np.full(max(len(src), len(tgt)) + native.TILE_ROWS * native.TILE_COLUMNS, np.inf, np.float32)

    def products(x: native.ScanSide, y: native.ScanSide, *more: Any, **options: Any) -> int:
        x, y = (dataclasses.replace(side, floor=high[: len(side.floor)]) for side in (x, y))
        return scan(x, y, *more, **options)

    one, two = Vectors(src, "src"), Vectors(tgt, "tgt")
    ours, theirs = distinct.classes_of(one).first, distinct.classes_of(two).first
    native.scan, guess_from = products, exact._GUESS_FROM
    exact._GUESS_FROM = 0  # a sample of products more
    try:
        exact.one_pass(one, two, min(k, len(theirs)), min(k, len(ours)), src_rows=ours, tgt_rows=theirs)
    finally:
        native.scan, exact._GUESS_FROM = scan, guess_from


if __name__ == "__main__":
    main()
