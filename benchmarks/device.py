"""Exact neighbours both ways on a device: ours against plain tiles of torch, and against faiss on the GPU.

Plain tiles multiply in half precision and keep the k best of each tile with torch.topk: once for both directions, or,
which is the usual way, in one search for each. Nothing about their order is certain. Every method takes rows in memory
and gives rows back there, in a process of its own; methods take turns, and medians are compared. The floor is the time
that 2 · sources · targets · dimensions operations take at the device's rate, each product computed once. Run it as

    python -m benchmarks.device 1000000 1000000 1024
    python -m benchmarks.device 4000 4000 256 --device cpu
"""

import argparse
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.made import KINDS, load, places_lower, save
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
)

TILES = "torch tiles, both ways"
TILES_ONCE = "torch tiles, one pass"
FAISS = "faiss on the GPU"
OURS = "exact"
METHODS = (TILES, TILES_ONCE, FAISS, OURS)
PEAKS = {"H100": 790e12, "H200": 790e12, "A100": 280e12}  # operations per second that dense half precision reaches
_TILE = {"cuda": 16_384, "cpu": 2048}
_COMPARED = 2000  # rows of each side whose neighbours are compared
Indices = npt.NDArray[np.int64]


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="neighbours on a device against plain tiles, in one run")
    parser.add_argument(
        "sizes", type=int, nargs="*", metavar="NUM_SRC NUM_TGT DIM", default=[1_000_000, 1_000_000, 1024]
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=list(KINDS), default="paired")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--peak", type=float, help="operations per second of the device; measured where not known")
    options = parser.parse_args()
    if len(options.sizes) != 3:
        parser.error("give rows of both sides and dimensions")
    num_src, num_tgt, dim = options.sizes
    methods = [method for method in options.methods if method != FAISS or faiss_has(options.device)]
    if FAISS in options.methods and FAISS not in methods:
        print(f"{FAISS}: not here")
    print(f"{num_src} × {num_tgt} × {dim} {options.kind} float16, k {options.k}, medians of {options.rounds}")
    rates = by_turns(("rate",), 1, measure_rate, options.device, dim)["rate"][0].result
    name, measured = rates
    known = options.peak or next((rate for model, rate in PEAKS.items() if model in name), None)
    peak = known or measured
    floor = 2.0 * num_src * num_tgt * dim / peak
    print(f"{options.device}: {name}; {conditions()}")
    print(
        f"floor {floor:.2f} s at {peak / 1e12:.2f} TFLOP/s{'' if known else ', as measured'}; "
        f"products alone reach {measured / 1e12:.2f} TFLOP/s in tiles",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        src, tgt = save(folder, options.kind, num_src, num_tgt, dim, "float16")
        runs = by_turns(methods, options.rounds, measure_one, folder, options.k, options.device)
        first = methods[0]
        columns = ("median s", "least", "most", "ratio", "of floor", "device MiB", "host MiB", "lower", "higher")
        print(f"\n{'':<24}" + "".join(f"{column:>11}" for column in columns))
        for method, done in runs.items():
            each = [run.seconds for run in done]
            figures = [
                f"{seconds_of(done):.2f}",
                f"{min(each):.2f}",
                f"{max(each):.2f}",
                f"{seconds_of(runs[first]) / seconds_of(done):.2f}×",
                f"{100 * floor / seconds_of(done):.1f} %",
                f"{part_of(done, 'device MiB'):.0f}",
                f"{peak_of(done):.0f}",
            ]
            if OURS in runs:
                ours = runs[OURS][0].result
                figures.append(str(places_below(src, tgt, done[0].result, ours)))
                figures.append(str(places_below(src, tgt, ours, done[0].result)))
            print(f"{method:<24}" + "".join(f"{figure:>11}" for figure in figures), flush=True)
    print(f"ratio: {first} takes so many times as long; of floor: the floor as a share of the seconds;")
    print(f"lower, higher: places with a lower or higher cosine than ours, of {_COMPARED} rows of each side at most")
    if OURS in runs:
        print_ours(runs[OURS])


def print_ours(runs: list[Measured]) -> None:
    """Print where our time goes."""
    parts = exact_parts(runs)
    del parts["codes"], parts["scan"], parts["rest of the pass: samples, order"]
    print_parts("where the time of exact goes", {"on the device": part_of(runs, "pass"), **parts}, seconds_of(runs))


def places_below(src: Any, tgt: Any, found: tuple[Indices, Indices], than: tuple[Indices, Indices]) -> int:
    """At how many places neighbours of some rows have lower cosines than others found."""
    lower = 0
    for query, other, one, two in ((src, tgt, found[0], than[0]), (tgt, src, found[1], than[1])):
        rows = np.unique(np.linspace(0, len(query) - 1, min(len(query), _COMPARED)).astype(np.int64))
        lower += places_lower(query[rows], other, one[rows], two[rows])
    return lower


def faiss_has(device: str) -> bool:
    """Whether faiss can use the device."""
    import faiss

    return device.startswith("cuda") and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def measure_rate(_: str, device: str, dim: int) -> Measured:
    """A device's name, and the operations per second of products of tiles alone, in what plain tiles are made of."""
    import torch

    tile = _TILE[torch.device(device).type]
    x = torch.randn(tile, dim, device=device).to(kind_of(device))
    out = torch.empty(tile, tile, device=device, dtype=kind_of(device))
    best = np.inf
    for _round in range(5):
        wait(device)
        start = time.perf_counter()
        for _product in range(4):
            torch.mm(x, x.T, out=out)
        wait(device)
        best = min(best, (time.perf_counter() - start) / 4)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "processor"
    return Measured(best, 0.0, {}, (name, 2.0 * tile * tile * dim / best))


def measure_one(method: str, folder: str, k: int, device: str) -> Measured:
    """Measure a method on the vectors in a folder; the result is the neighbours' indices of both directions."""
    import torch

    src, tgt = load(folder)
    clock = Clock()
    if method == OURS:
        watch_exact(clock)
    run(method, src[:4000], tgt[:4000], k, device)  # imports, thread pools, kernels
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    measured = measure(lambda: run(method, src, tgt, k, device), clock)
    if device.startswith("cuda"):
        measured.parts["device MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return measured


def run(method: str, src: Any, tgt: Any, k: int, device: str) -> tuple[Indices, Indices]:
    """Find neighbours both ways: (num_src, k) and (num_tgt, k)."""
    if method == OURS:
        from seamlessalign.mining import neighbours

        forward, backward = neighbours(src, tgt, k, "exact", device)
        return forward.index, backward.index
    if method == FAISS:
        return faiss_on_gpu(src, tgt, k), faiss_on_gpu(tgt, src, k)
    if method == TILES:
        return plain_tiles(src, tgt, k, device, both=False)[0], plain_tiles(tgt, src, k, device, both=False)[0]
    return plain_tiles(src, tgt, k, device, both=True)


def plain_tiles(src: Any, tgt: Any, k: int, device: str, both: bool) -> tuple[Indices, Indices]:
    """The k best of each row, and with `both` of each column, from tiles in half precision."""
    import torch

    tile = _TILE[torch.device(device).type]
    with torch.inference_mode():
        x, y = (unit_on(side, device) for side in (src, tgt))
        columns: list[Any] = [None] * len(range(0, len(y), tile))
        found: list[Any] = []
        for top in range(0, len(x), tile):
            rows: Any = None
            for number, left in enumerate(range(0, len(y), tile)):
                scores = x[top : top + tile] @ y[left : left + tile].T
                rows = best_of(rows, scores, k, left)
                if both:
                    columns[number] = best_of(columns[number], scores.T, k, top)
            found.append(rows[1])
        backward = torch.cat([best[1] for best in columns]).cpu().numpy() if both else np.empty((0, k), np.int64)
        return torch.cat(found).cpu().numpy(), backward


def unit_on(side: Any, device: str) -> Any:
    """Unit rows on the device, in what plain tiles are made of."""
    import torch

    step = 1 << 16
    parts = [torch.from_numpy(side[start : start + step]).to(device).float() for start in range(0, len(side), step)]
    return torch.cat([torch.nn.functional.normalize(part, dim=1).to(kind_of(device)) for part in parts])


def best_of(kept: Any, scores: Any, k: int, offset: int) -> Any:
    """The k best scores and their numbers of every row of a tile and what was kept before."""
    import torch

    value, place = torch.topk(scores, min(k, scores.shape[1]), dim=1)
    place += offset
    if kept is None:
        return value, place
    value, place = torch.cat([kept[0], value], 1), torch.cat([kept[1], place], 1)
    value, order = torch.topk(value, min(k, value.shape[1]), dim=1)
    return value, place.gather(1, order)


def faiss_on_gpu(query: Any, other: Any, k: int) -> Indices:
    """The k nearest of each row by a flat index of faiss on the first GPU, vectors kept in half precision."""
    import faiss

    one, two = (np.array(side, np.float32, order="C") for side in (query, other))
    for side in (one, two):
        faiss.normalize_L2(side)
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), other.shape[1], config)
    index.add(two)
    found: Indices = index.search(one, k)[1]
    return found


def kind_of(device: str) -> Any:
    """What plain tiles are made of: float16 on CUDA; float32 on the processor, where half precision gains nothing."""
    import torch

    return torch.float16 if device.startswith("cuda") else torch.float32


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
