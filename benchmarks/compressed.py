"""What compression costs: neighbours, pairs and F1 lost by the compressed index against exact search, in one run.

The peer is the usual way: an OPQ, IVF, PQ index of faiss whose scores are taken as they come from the codes. Ours ranks
more candidates exactly. Both use the same trained index and the same embeddings; exact search finds the truth about
neighbours, and where it is known which rows belong together F1 is against that too. Run it as

    python -m benchmarks.compressed 100000 100000 384
    python -m benchmarks.compressed --embeddings SRC.npy TGT.npy --threshold 1.1
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from seamlessalign.mining import Neighbours, Sweep, neighbours, score_pairs, sweep_thresholds
from seamlessalign.mining.choose import Chosen, choose
from seamlessalign.mining.compressed import CompressedIndex, fingerprint_of
from seamlessalign.mining.margin import margins
from seamlessalign.mining.vectors import Vectors

Rows = npt.NDArray[Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Measured:
    """One way of finding neighbours."""

    name: str
    both: tuple[Neighbours, Neighbours]
    seconds: float  # of searching both directions
    size: int  # bytes of both indexes, or of the rows themselves


def main() -> None:
    """Print a table of all ways to search."""
    parser = argparse.ArgumentParser(description="the compressed index against exact search, in one run")
    parser.add_argument("sizes", type=int, nargs="*", metavar="NUM_SRC NUM_TGT DIM", default=[20000, 20000, 384])
    parser.add_argument("--embeddings", nargs=2, metavar=("SRC.npy", "TGT.npy"))
    parser.add_argument("--aligned", action="store_true", help="row i of both files is known to be a pair")
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--probes", type=int, nargs="*", default=[])
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 80, 128])
    parser.add_argument("--threshold", type=float, help="of the margin; else the best for exact search, or 1.15")
    options = parser.parse_args()
    if options.embeddings:
        src, tgt = (np.load(path, mmap_mode="r", allow_pickle=False) for path in options.embeddings)
        num_true = min(len(src), len(tgt)) if options.aligned else 0
    else:
        src, tgt, num_true = synthetic(*options.sizes)
    ways = measure(Vectors(src, "src"), Vectors(tgt, "tgt"), options.k, options.probes, options.widths)
    report(ways, num_true, options.threshold)


def synthetic(num_src: int, num_tgt: int, dim: int) -> tuple[Rows, Rows, int]:
    """Seeded sentences in topics, half of the smaller side with a counterpart: src row i and tgt row i.

    Spectra decay like those of trained encoders, so that a fifth of the directions carries most of the variance.
    """
    rng = np.random.default_rng(0)
    spectrum = (1 + np.arange(dim)) ** -0.5
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32) * spectrum[:, None].astype(np.float32)

    def draw(rows: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal((rows, dim), dtype=np.float32) @ turn

    topics = draw(max(2, num_src // 200))
    num_true = min(num_src, num_tgt) // 2
    sides: list[Rows] = []
    shared = topics[rng.integers(0, len(topics), num_true)] + draw(num_true)
    for rows in (num_src, num_tgt):
        own = topics[rng.integers(0, len(topics), rows - num_true)] + draw(rows - num_true)
        sides.append((np.concatenate([shared, own]) + 0.7 * draw(rows)).astype(np.float16))
    return sides[0], sides[1], num_true


def measure(src: Vectors, tgt: Vectors, k: int, probes: list[int], widths: list[int]) -> Iterator[Measured]:
    """Exact search first, then the others."""
    print(f"{len(src)} × {len(tgt)} × {src.dim}, k {k}", flush=True)
    both, seconds = timed(lambda: neighbours(src.rows, tgt.rows, k, "exact"))
    yield Measured("exact", both, seconds, src.rows.nbytes + tgt.rows.nbytes)
    with tempfile.TemporaryDirectory() as folder:
        forward = CompressedIndex(tgt, f"{folder}/tgt", fingerprint_of(tgt))
        backward = CompressedIndex(src, f"{folder}/src", fingerprint_of(src))
        start = time.perf_counter()
        forward.train()
        backward.train()
        trained = time.perf_counter()
        forward.build()
        backward.build()
        training, adding = trained - start, time.perf_counter() - trained
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.faiss"))
        print(f"{forward.description}: {training:.1f} s to train both sides, {adding:.1f} s to add", flush=True)
        plain = plain_index(forward), plain_index(backward)
        for number in probes or [forward.probes]:

            def codes_alone(number: int = number) -> tuple[Neighbours, Neighbours]:
                return plain_search(plain[0], src, k, number), plain_search(plain[1], tgt, k, number)

            both, seconds = timed(codes_alone)
            yield Measured(f"codes alone, {number} lists", both, seconds, size)
            for width in widths:

                def ranked(number: int = number, width: int = width) -> tuple[Neighbours, Neighbours]:
                    return (
                        Neighbours(*forward.search(src, 0, len(src), k, probes=number, width=width)),
                        Neighbours(*backward.search(tgt, 0, len(tgt), k, probes=number, width=width)),
                    )

                both, seconds = timed(ranked)
                yield Measured(f"{width} ranked exactly, {number} lists", both, seconds, size)


def plain_index(index: CompressedIndex) -> Any:
    """What the peer makes of the same training: one faiss index of all rows."""
    import faiss

    peer = faiss.read_index(f"{index.folder}/trained.faiss")
    for start in range(0, len(index.other), 1 << 16):
        peer.add(index.other.unit(start, min(start + (1 << 16), len(index.other))))
    return peer


def plain_search(peer: Any, query: Vectors, k: int, probes: int) -> Neighbours:
    """Neighbours by the scores of the codes; places that the lists cannot fill repeat the last row found."""
    import faiss

    faiss.extract_index_ivf(peer).nprobe = probes
    score, index = peer.search(query.all_unit(), k)
    for place in range(1, k):
        none = index[:, place] < 0
        score[none, place], index[none, place] = score[none, place - 1], index[none, place - 1]
    return Neighbours(score, index)


def report(ways: Iterator[Measured], num_true: int, threshold: float | None) -> None:
    """One line per way, each compared with the first, which is exact."""
    exact = next(ways)
    truth = pairs_of(exact)
    if threshold is None:
        threshold = sweep(truth, num_true).threshold if num_true else 1.15
    wanted = kept(truth, threshold)
    best = f1_of_truth(truth, num_true, threshold)
    print(f"pairs with a margin of {threshold:.3f} or more: {len(wanted)}" + (f", F1 {best:.4f}" if num_true else ""))
    columns = ("recall@k", "pair recall", "pair F1 lost", "F1 lost", "seconds", "MiB")
    print(f"{'':<34}" + "".join(f"{column:>13}" for column in columns), flush=True)
    for way in itertools.chain([exact], ways):
        pairs = pairs_of(way)
        found = kept(pairs, threshold)
        same = len(wanted & found)
        figures = (
            f"{np.mean([recall(a.index, b.index) for a, b in zip(exact.both, way.both, strict=True)]):.4f}",
            f"{same / max(1, len(wanted)):.4f}",
            f"{1 - 2 * same / max(1, len(wanted) + len(found)):.4f}",
            f"{best - f1_of_truth(pairs, num_true, threshold):.4f}" if num_true else "",
            f"{way.seconds:.1f}",
            f"{way.size / 2**20:.1f}",
        )
        print(f"{way.name:<34}" + "".join(f"{figure:>13}" for figure in figures), flush=True)


def pairs_of(way: Measured) -> Chosen:
    """All pairs that the default strategy chooses."""
    return choose(*way.both, *margins(*way.both, "ratio"), "max")


def kept(pairs: Chosen, threshold: float) -> set[tuple[int, int]]:
    """The pairs with a margin of `threshold` or more."""
    good = pairs.margin >= np.float32(threshold)
    return set(zip(pairs.src[good].tolist(), pairs.tgt[good].tolist(), strict=True))


def sweep(pairs: Chosen, num_true: int) -> Sweep:
    """Scores over all thresholds, where rows of the same number below `num_true` belong together."""
    return sweep_thresholds(pairs.margin, (pairs.src == pairs.tgt) & (pairs.src < num_true), pairs.src, num_true)


def f1_of_truth(pairs: Chosen, num_true: int, threshold: float) -> float:
    """F1 against what is known to belong together; 0 where nothing is known."""
    good = pairs.margin >= np.float32(threshold)
    correct = (pairs.src == pairs.tgt) & (pairs.src < num_true)
    return score_pairs(correct[good], pairs.src[good], num_true).f1 if num_true else 0.0


def recall(exact: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    """Share of the exact neighbours (num_rows, k) that were found."""
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """What `work` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
