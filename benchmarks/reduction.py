"""What fewer dimensions and whitening cost and save: retrieval, mining and search time, each against rows as they are.

    python -m benchmarks.reduction --cache .cache

Sentences are the parallel ones of `benchmarks.calibration`, embedded by multilingual-e5-small. Rows of each language
are centred, and one map for all of them is fitted on their own rows, as `mining.reduce` of a run does it. Printed for
each number of dimensions and power of whitening, as means over the directions:

- P@1 of all sentences both ways, by cosine and by ratio margin over 4 neighbours;
- the best F1 of mining where half of the rows of each side have no counterpart, and the threshold that gives it;
- the share of right pairs kept at the threshold that was best for rows as they are;
- processor time of a search of real rows on both sides, as a share of that for rows as they are: medians of rounds by
  turns.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.calibration import DIRECTIONS, aligned_sentences, embedded
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.measures import retrieval
from seamlessalign.embedders.reduction import Reduction, fit_reduction
from seamlessalign.mining import mine_candidates, neighbours
from seamlessalign.mining.truth import score_pairs, sweep_thresholds

Float32 = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]

DIMS = (384, 256, 128, 64)
POWERS = (0.0, 0.5, 1.0)
NEIGHBOURS = 16


@dataclass(frozen=True)
class Quality:
    """Of one direction."""

    cosine: float  # P@1, mean of both ways
    margin: float
    f1: float  # at its own best threshold
    threshold: float
    f1_there: float  # at the threshold that is best for rows as they are


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where packages and embeddings are kept")
    parser.add_argument("--rounds", type=int, default=7, help="of the searches that are timed")
    options = parser.parse_args(arguments)
    directions = [(src, tgt) for src, tgt in (name.split("-") for name in DIRECTIONS)]
    texts = aligned_sentences(options.cache)
    langs = sorted({lang for pair in directions for lang in pair})
    rows = {lang: centred(embedded(texts[lang], lang, options.cache)) for lang in langs}
    count, dim = next(iter(rows.values())).shape
    print(f"{count} sentences in each of {', '.join(langs)}; {', '.join(DIRECTIONS)}")
    whole = {pair: quality(*as_mined(rows, pair)) for pair in directions}
    maps = [fit_reduction(rows.values(), kept, power) for kept in DIMS if kept <= dim for power in POWERS]
    shown = [("as they are", 1.0, list(whole.values()))]
    for reduction in maps:
        found = [quality(*as_mined(rows, pair, reduction), whole[pair].threshold) for pair in directions]
        shown.append((name_of(reduction), reduction.explained, found))
    ratios = time_ratios(rows, [None, *maps], options.rounds)
    print("| rows | variance | P@1 cosine | P@1 margin | best F1 | at | F1 at the old threshold | search time |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, explained, found), ratio in zip(shown, ratios, strict=True):
        print(line_of(name, explained, found, ratio))


def centred(rows: Float32) -> Float32:
    """Unit rows of one language less their mean, of unit length, as a run centres its own."""
    return unit_rows(unit_rows(rows) - fit_mean(rows))


def as_mined(rows: dict[str, Float32], pair: tuple[str, str], reduction: Reduction | None = None) -> tuple[Half, Half]:
    """Both sides of a direction as a run writes them."""
    src, tgt = (rows[lang] if reduction is None else reduction.apply(rows[lang]) for lang in pair)
    return src.astype(np.float16), tgt.astype(np.float16)


def quality(src: Half, tgt: Half, threshold: float | None = None) -> Quality:
    """Measure one direction; row i of one side says the same as row i of the other.

    Of three parts of the sentences the first is on both sides when they are mined, and each of the others on one.
    threshold: that of the rows as they are; by default its own is.
    """
    found = retrieval(src.astype(np.float32), tgt.astype(np.float32))
    part = len(src) // 3
    mined = mine_candidates(src[: 2 * part], np.concatenate([tgt[:part], tgt[2 * part : 3 * part]]), k=NEIGHBOURS)
    source, target = mined["src"].to_numpy(), mined["tgt"].to_numpy()
    margin, correct = mined["margin"].to_numpy(), (source == target) & (source < part)
    sweep = sweep_thresholds(margin, correct, source, part)
    threshold = sweep.threshold if threshold is None else threshold
    there = margin >= np.float32(threshold)
    return Quality(
        (found.forward + found.backward) / 2,
        (found.forward_margin + found.backward_margin) / 2,
        sweep.best.f1,
        sweep.threshold,
        score_pairs(correct[there], source[there], part).f1,
    )


def time_ratios(rows: dict[str, Float32], maps: Sequence[Reduction | None], rounds: int) -> list[float]:
    """Time of a search under each map as a share of that under the first: real rows of some languages and of others."""
    langs = sorted(rows)
    sides = []
    for reduction in maps:
        both = (np.concatenate([rows[lang] for lang in some]) for some in (langs[::2], langs[1::2]))
        src, tgt = (side if reduction is None else reduction.apply(side) for side in both)
        sides.append((src.astype(np.float16), tgt.astype(np.float16)))
    seconds: list[list[float]] = [[] for _ in maps]
    for _ in range(rounds):
        for kept, (src, tgt) in zip(seconds, sides, strict=True):
            begun = time.process_time()  # of all threads, whatever else the machine does
            neighbours(src, tgt, k=NEIGHBOURS, backend="exact")
            kept.append(time.process_time() - begun)
    medians = [statistics.median(kept) for kept in seconds]
    print(f"search of {len(sides[0][0])} × {len(sides[0][1])} rows as they are: {medians[0]:.3f} s of processor time")
    return [median / medians[0] for median in medians]


def name_of(reduction: Reduction) -> str:
    """What a map does, for people."""
    whitened = f", whiten {reduction.whiten:g}" if reduction.whiten else ""
    return f"{reduction.dims[1]}{whitened}"


def line_of(name: str, explained: float, found: Sequence[Quality], ratio: float) -> str:
    """A line of the table: means over directions."""

    def mean(value: str) -> Any:
        return statistics.mean(getattr(one, value) for one in found)

    return (
        f"| {name} | {explained:.0%} | {mean('cosine'):.3f} | {mean('margin'):.3f} | {mean('f1'):.3f} | "
        f"{mean('threshold'):.2f} | {mean('f1_there'):.3f} | {ratio:.2f} |"
    )


if __name__ == "__main__":
    main()
