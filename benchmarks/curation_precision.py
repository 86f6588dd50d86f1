"""How often the interval of labelled precision holds the truth, on pairs whose truth is known.

    python -m benchmarks.curation_precision [--repeats 2000] [--demo runs/demo]

For made pairs, whose chance of being right rises with the margin in several ways, and for the pairs of a demo, labels
are drawn as a curator draws them: above one threshold, around it, around thresholds that move. Printed is the share of
repeats whose 95 % interval has the precision of all pairs above the threshold, the mean width of the interval, and what
the mean of the labels without weights would have had (Wilson's interval of all labels above the threshold); last, how
often the lowest threshold that is suggested for a precision does not have it.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.pipelines.curation.labelled_precision import (
    Frame,
    RandomLabels,
    lowest_threshold,
    precision_above,
    precision_curve,
    wilson,
)
from seamlessalign.pipelines.curation.margin_curve import Grid, Kept, MarginCurve

Array = npt.NDArray[np.float64]
_Rng = np.random.Generator
Draws = list[tuple[float, float, int]]  # margins [low, high), pairs


@dataclass(frozen=True)
class Population:
    """Pairs whose truth is known, best margin first."""

    margins: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]

    def curve(self) -> MarginCurve:
        """Their counts at any threshold."""
        grid = Grid.of(float(self.margins.min()), float(self.margins.max()))
        counts = np.bincount(np.searchsorted(grid.edges, self.margins, side="right") - 1, minlength=grid.bins)
        there = np.flatnonzero(counts)
        zeros = pa.array(np.zeros(len(there), np.int64))
        columns = {"bin": there, "outcome": ["kept"] * len(there), "pairs": counts[there], "src_samples": zeros}
        columns |= {"tgt_samples": zeros, "estimated": zeros, "estimate": zeros.cast(pa.float64())}

        def between(low: float, high: float) -> Kept:
            return Kept(int(np.sum((self.margins >= np.float32(low)) & (self.margins < np.float32(high)))))

        return MarginCurve(grid, pa.table(columns), between)

    def precision(self, threshold: float) -> float:
        """The share of pairs above a threshold that is right."""
        return float(self.right[self.margins >= np.float32(threshold)].mean())

    def drawn(self, draws: Draws, curve: MarginCurve, rng: _Rng) -> RandomLabels:
        """Labels of pairs that are drawn as said; a pair may be drawn more than once and has one label."""
        seen: dict[int, None] = {}
        frames = []
        for low, high, number in draws:
            inside = np.flatnonzero((self.margins >= np.float32(low)) & (self.margins < np.float32(high)))
            picked = rng.choice(inside, min(number, len(inside)), replace=False)
            seen |= dict.fromkeys(picked.tolist())
            frames.append(Frame(float(np.float32(low)), high, len(picked), len(inside)))
        rows = np.array(list(seen))
        return RandomLabels(
            self.margins[rows].astype(np.float64), self.right[rows].astype(np.float64), tuple(frames), 0
        )


def made(pairs: int, rng: _Rng, chance: Callable[[Array], Array]) -> Population:
    """Margins as mining finds them, most of them low; each pair is right with a chance that its margin gives."""
    margins = np.sort((1.0 + rng.gamma(2.0, 0.06, pairs)).astype(np.float32))[::-1].copy()
    return Population(margins, rng.random(pairs) < chance(margins.astype(np.float64)))


def _rising(middle: float, slope: float, low: float, high: float) -> Callable[[Array], Array]:
    return lambda margin: low + (high - low) / (1 + np.exp(-slope * (margin - middle)))


CHANCES: dict[str, Callable[[Array], Array]] = {
    "steep, .05 to .98": _rising(1.15, 60, 0.05, 0.98),
    "slow, .3 to .95": _rising(1.15, 15, 0.3, 0.95),
    "all .97": lambda margin: np.full(len(margin), 0.97),
    "all .5": lambda margin: np.full(len(margin), 0.5),
    "step at 1.2": lambda margin: np.where(margin >= 1.2, 0.995, 0.2),
}


def _above(threshold: float, number: int) -> Draws:
    return [(threshold, math.inf, number)]


def _both(threshold: float, number: int) -> Draws:
    half = number // 2
    return [(threshold - 0.004, threshold + 0.004, half), (threshold, math.inf, number - half)]


def _moving(threshold: float, number: int) -> Draws:
    """A fifth each around and above thresholds that come nearer, the rest above the last."""
    fifth = number // 5
    draws: Draws = []
    for at in (threshold + 0.05, threshold - 0.03):
        draws += [(at, math.inf, fifth), (at - 0.004, at + 0.004, fifth)]
    return [*draws, (threshold, math.inf, number - 4 * fifth)]


def _lower(threshold: float, number: int) -> Draws:
    return [(threshold - 0.05, math.inf, number)]


WAYS: dict[str, Callable[[float, int], Draws]] = {
    "above": _above,
    "at and above": _both,
    "moving": _moving,
    "above a lower one": _lower,
}


@dataclass
class Covered:
    """What repeats of one case came to."""

    repeats: int = 0
    held: int = 0
    held_plainly: int = 0
    width: float = 0.0

    def add(self, population: Population, threshold: float, labels: RandomLabels, curve: MarginCurve) -> None:
        """One more."""
        truth = population.precision(threshold)
        found = precision_above(labels, curve, threshold)
        self.repeats += 1
        self.held += found.low - 1e-9 <= truth <= found.high + 1e-9
        self.width += found.high - found.low
        decided = labels.right[labels.margins >= np.float32(threshold)]
        low, high = wilson(float(decided.mean()), len(decided)) if len(decided) else (0.0, 1.0)
        self.held_plainly += low <= truth <= high


def cover(population: Population, threshold: float, draws: Draws, repeats: int, rng: _Rng) -> Covered:
    """Draw and measure so many times."""
    curve, covered = population.curve(), Covered()
    for _ in range(repeats):
        covered.add(population, threshold, population.drawn(draws, curve, rng), curve)
    return covered


def too_low(population: Population, draws: Draws, wanted: float, repeats: int, rng: _Rng) -> tuple[int, int]:
    """Of the thresholds suggested for a precision, how many there were and how many do not have it."""
    curve, found = population.curve(), []
    for _ in range(repeats):
        labels = population.drawn(draws, curve, rng)
        found.append(lowest_threshold(precision_curve(labels, curve), wanted))
    suggested = [threshold for threshold in found if threshold is not None]
    return len(suggested), sum(population.precision(threshold) < wanted for threshold in suggested)


def demo_populations(demo: Path) -> dict[str, Population]:
    """The pairs of each direction of a demo, judged by its truth, without those that a filter or overlap rejected."""
    from seamlessalign.pipelines.demo_data import judge, load_truth
    from seamlessalign.pipelines.run_tables import RunTables

    truth, found = load_truth(demo / "data"), {}
    with RunTables(str(demo / "run"), threads=1) as tables:
        for direction in tables.directions:
            query = "select * exclude (filename, file_row_number) from pairs where direction = ? and "
            query += "(kept or drop_reason in ('below_threshold', 'below_precision')) order by margin desc, pair_id"
            judged = judge(truth, tables.ask(query, [direction]), direction)
            right = judged["correct"].to_numpy(zero_copy_only=False).astype(bool)
            found[direction] = Population(judged["margin"].to_numpy(), right)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=50_000, help="made pairs")
    parser.add_argument("--demo", type=Path, help="the folder that `seamlessalign demo` wrote")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(11)
    populations = {name: made(options.pairs, rng, chance) for name, chance in CHANCES.items()}
    populations["few, .3 to .95"] = made(300, rng, CHANCES["slow, .3 to .95"])
    print(f"{'pairs':22}{'drawn':20}{'labels':>7}{'truth':>8}{'held':>8}{'± mean':>8}{'unweighted':>12}")
    worst = 1.0
    for name, population in populations.items():
        for way, draws in WAYS.items():
            for number in (20, 60, 200):
                found = cover(population, 1.15, draws(1.15, number), options.repeats, rng)
                share = found.held / found.repeats
                worst = min(worst, share)
                print(
                    f"{name:22}{way:20}{number:7}{population.precision(1.15):8.3f}{share:8.3f}"
                    f"{found.width / found.repeats / 2:8.3f}{found.held_plainly / found.repeats:12.3f}"
                )
    for name, population in demo_populations(options.demo).items() if options.demo else ():
        at = float(np.quantile(population.margins, 0.25))
        for way, number in (("above", 40), ("at and above", 40), ("above", len(population.margins))):
            found = cover(population, at, WAYS[way](at, number), options.repeats, rng)
            share = found.held / found.repeats
            worst = min(worst, share)
            print(
                f"{'demo ' + name:22}{way:20}{number:7}{population.precision(at):8.3f}{share:8.3f}"
                f"{found.width / found.repeats / 2:8.3f}{found.held_plainly / found.repeats:12.3f}"
            )
    print(f"least: {worst:.3f}")
    print(f"\n{'pairs':22}{'precision':>10}{'labels':>8}{'suggested':>11}{'too low':>9}")
    for name, wanted in (("steep, .05 to .98", 0.9), ("slow, .3 to .95", 0.7), ("step at 1.2", 0.9)):
        for number in (100, 300):
            few = max(options.repeats // 10, 10)
            suggested, wrong = too_low(populations[name], _above(1.05, number), wanted, few, rng)
            print(f"{name:22}{wanted:10.2f}{number:8}{suggested / few:11.3f}{wrong / few:9.3f}")


if __name__ == "__main__":
    main()
