"""From embeddings in Parquet to a table of pairs: ours against the same algorithm written the usual way.

The usual way reads the same files, normalises, builds a flat index of faiss on each side and searches both, computes
ratio margins with numpy, and walks the candidates from the best margin in Python, taking a pair where neither of its
rows is taken. Each way runs in a process of its own; ways take turns, and medians are compared. Printed are seconds,
the ratio, memory beside what was there before, where the time goes on both sides, and whether the pairs are the same.
How fast faiss is depends on the kernels that its OpenBLAS takes: --kernels measures with others too. Run it as

    python -m benchmarks.end_to_end 100000 100000 384
    python -m benchmarks.end_to_end 100000 100000 384 --kernels SkylakeX
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.made import KINDS, vectors
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

PEER = "usual way"
OURS = "ours"
PEER_PARTS = ("load", "normalise", "search forward", "search backward", "margins", "walk", "table")
_ROW_GROUP = 10_000
_TIE = 1e-5  # margins that are apart by less are a tie: a float32 cosine is right to about a tenth of it
Indices = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Parquet to pairs against the usual way, in one run")
    parser.add_argument("sizes", type=int, nargs="*", metavar="NUM_SRC NUM_TGT DIM", default=[100_000, 100_000, 384])
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=list(KINDS), default="embeddings")
    parser.add_argument(
        "--kernels", nargs="+", default=[], help="values of OPENBLAS_CORETYPE to measure faiss with too"
    )
    parser.add_argument("--threshold", type=float, help="least margin; every chosen pair by default")
    options = parser.parse_args()
    if len(options.sizes) != 3:
        parser.error("give rows of both sides and dimensions")
    num_src, num_tgt, dim = options.sizes
    print(f"{num_src} × {num_tgt} × {dim} {options.kind} float16, k {options.k}, medians of {options.rounds}")
    print(conditions(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        src, tgt = vectors(options.kind, num_src, num_tgt, dim, "float16")
        copies = copies_in(src), copies_in(tgt)
        write(Path(folder, "src.parquet"), src)
        write(Path(folder, "tgt.parquet"), tgt)
        del src, tgt
        names = dict.fromkeys([PEER, OURS, *with_kernels([PEER], options.kernels)])
        runs = by_turns(names, options.rounds, measure_one, folder, options.k, options.threshold)
    usual, own = runs[PEER], runs[OURS]
    print(f"\n{'':<22} {'median s':>9} {'least':>8} {'most':>8} {'ratio':>7} {'MiB':>7} {'pairs':>8}")
    for name, done in runs.items():
        each = [run.seconds for run in done]
        print(
            f"{name:<22} {seconds_of(done):>9.2f} {min(each):>8.2f} {max(each):>8.2f} "
            f"{seconds_of(done) / seconds_of(own):>6.2f}× {peak_of(done):>7.0f} {len(done[0].result):>8}"
        )
    print("ratio: so many times as long as ours; MiB: at most, with the embeddings, which each way loads itself")
    print_difference(own[0].result, usual[0].result, copies, options.threshold)
    print_parts(f"where the time goes: {PEER}", {name: part_of(usual, name) for name in PEER_PARTS}, seconds_of(usual))
    print_parts(
        f"where the time goes: {OURS}",
        {"load": part_of(own, "load"), **exact_parts(own)}
        | {name: part_of(own, name) for name in ("margins", "choice")},
        seconds_of(own),
    )


def write(path: Path, rows: npt.NDArray[Any]) -> None:
    """Write rows (num_rows, dim) as the column `embedding`, fixed_size_list<float16>, beside an id."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float16()), rows.shape[1])
    table = pa.table({"id": pa.array(np.arange(len(rows))), "embedding": values})
    pq.write_table(table, path, row_group_size=_ROW_GROUP)


def measure_one(way: str, folder: str, k: int, threshold: float | None) -> Measured:
    """Measure one way on the files in a folder; the result is its table of pairs."""
    clock = Clock()
    if way == OURS:
        from seamlessalign.mining import mine

        watch_exact(clock)
        clock.watch(mine, "neighbourhoods", "margins")
        clock.watch(mine, "_offers", "margins")
        clock.watch(mine, "choose_among", "choice")
    run = ours if way == OURS else usual_way
    with tempfile.TemporaryDirectory() as small:
        for name in ("src", "tgt"):
            few = next(pq.ParquetFile(f"{folder}/{name}.parquet").iter_batches(100))
            pq.write_table(pa.Table.from_batches([few]), f"{small}/{name}.parquet")
        run(small, k, threshold, clock)  # imports and thread pools
    return measure(lambda: run(folder, k, threshold, clock), clock)


def ours(folder: str, k: int, threshold: float | None, clock: Clock) -> pa.Table:
    """Our way, with its defaults."""
    from seamlessalign import storage
    from seamlessalign.mining import mine_pairs

    with clock.part("load"):
        src, tgt = (
            storage.embeddings_of(storage.read_table(f"{folder}/{name}.parquet", ["embedding"]))
            for name in ("src", "tgt")
        )
    return mine_pairs(src, tgt, k=k, threshold=threshold, backend="exact")


def usual_way(folder: str, k: int, threshold: float | None, clock: Clock) -> pa.Table:
    """The usual way."""
    import faiss

    with clock.part("load"):
        sides = [plain_rows(f"{folder}/{name}.parquet") for name in ("src", "tgt")]
    with clock.part("normalise"):
        for side in sides:
            faiss.normalize_L2(side)
    with clock.part("search forward"):
        forward_cosine, forward = plain_search(sides[0], sides[1], k)
    with clock.part("search backward"):
        backward_cosine, backward = plain_search(sides[1], sides[0], k)
    with clock.part("margins"):
        src_mean, tgt_mean = forward_cosine.mean(1), backward_cosine.mean(1)
        forward_margin = forward_cosine / ((src_mean[:, None] + tgt_mean[forward]) / 2)
        backward_margin = backward_cosine / ((tgt_mean[:, None] + src_mean[backward]) / 2)
    with clock.part("walk"):
        pairs = walk(forward, forward_margin, backward, backward_margin, threshold)
    with clock.part("table"):
        src, tgt, margin = zip(*pairs, strict=True) if pairs else ((), (), ())
        columns = {"src": pa.array(src, pa.int64()), "tgt": pa.array(tgt, pa.int64())}
        return pa.table({**columns, "margin": pa.array(margin, pa.float32())})


def plain_rows(path: str) -> npt.NDArray[np.float32]:
    """The column `embedding` of a file as float32 (num_rows, dim)."""
    column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values.reshape(-1, column.type.list_size), np.float32)


def plain_search(query: Any, other: Any, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Cosines and rows of the k nearest by a flat index."""
    import faiss

    index = faiss.IndexFlatIP(other.shape[1])
    index.add(other)
    cosine, found = index.search(query, k)
    return cosine, found


def walk(
    forward: Any, forward_margin: Any, backward: Any, backward_margin: Any, threshold: float | None
) -> list[tuple[Any, Any, Any]]:
    """Greedy one-to-one pairs of each row's best candidate, from the highest margin down."""
    best = forward_margin.argmax(1)
    rows = np.arange(len(forward))
    candidates = list(zip(rows, forward[rows, best], forward_margin[rows, best], strict=True))
    best = backward_margin.argmax(1)
    rows = np.arange(len(backward))
    candidates += zip(backward[rows, best], rows, backward_margin[rows, best], strict=True)
    candidates.sort(key=lambda pair: -pair[2])
    taken_src, taken_tgt = set(), set()
    pairs: list[tuple[Any, Any, Any]] = []
    for src, tgt, margin in candidates:
        if threshold is not None and margin < threshold:
            break
        if src not in taken_src and tgt not in taken_tgt:
            taken_src.add(src)
            taken_tgt.add(tgt)
            pairs.append((src, tgt, margin))
    return pairs


def print_difference(ours: pa.Table, usual: pa.Table, copies: tuple[Indices, Indices], threshold: float | None) -> None:
    """Print how many pairs both ways have, and whether ties explain the others."""
    merged = ours.select(["src", "tgt", "margin"]).join(
        usual.select(["src", "tgt", "margin"]), ["src", "tgt"], right_suffix="_usual", join_type="full outer"
    )
    src, tgt = merged["src"].to_numpy(), merged["tgt"].to_numpy()
    one, two = (merged[name].to_numpy().astype(np.float64) for name in ("margin", "margin_usual"))  # NaN: not a pair
    only = np.isnan(two), np.isnan(one)
    both = ~only[0] & ~only[1]
    least = -np.inf if threshold is None else threshold
    unexplained = sum(
        without_tie(copies[0][src], copies[1][tgt], np.where(mine, margin, np.nan), other, least)
        for mine, margin, other in ((only[0], one, two), (only[1], two, one))
    )
    apart = np.abs(one - two)[both].max(initial=0.0)
    verdict = "NOT THE SAME" if unexplained or apart > _TIE else "the same up to ties"
    print(
        f"pairs: {both.sum()} in both, margins apart by {apart:.1e} at most; {only[0].sum()} and {only[1].sum()} in "
        f"one, {unexplained} of them not for a tie: {verdict}"
    )


def without_tie(src: Indices, tgt: Indices, margin: Float64, other: Float64, least: float) -> int:
    """How many pairs of one way the other should have too.

    A greedy choice leaves a pair out for another, no worse, that has one of its rows. So where two ways differ by ties
    alone, each pair that one leaves out shares a row, or a copy of it, with one of its own whose margin is as high, a
    tie aside. All arrays (num_pairs,): margin is NaN where a pair is not looked at, `other` where the other has it not.
    """
    best: list[Float64] = []
    for rows in (src, tgt):
        highest = np.full(rows.max(initial=0) + 1, -np.inf)
        np.fmax.at(highest, rows, other)
        best.append(highest[rows])
    return int(np.count_nonzero((margin > least + _TIE) & (margin > np.maximum(*best) + _TIE)))


def copies_in(rows: npt.NDArray[Any]) -> Indices:
    """A number for each row (num_rows,), the same for rows that are the same."""
    as_bytes = np.ascontiguousarray(rows).view(f"V{rows.dtype.itemsize * rows.shape[1]}")[:, 0]
    return np.unique(as_bytes, return_inverse=True)[1].reshape(-1).astype(np.int64)


if __name__ == "__main__":
    main()
