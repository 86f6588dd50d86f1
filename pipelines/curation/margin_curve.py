"""What is kept at any threshold of the margin: counts that are cumulated once and looked up as the threshold moves.

Pairs are counted in fine bins of the margin. Their edges are the thresholds of a slider, at which everything is exact:
an edge is compared as the float32 that margins are. Between two edges the rest of one bin is asked for, once.

Hours are those of spans: audio that lies in two chosen pairs counts twice. Among the pairs that a run kept there is no
such (`mining.max_overlap`); below the run's cut there is, since overlaps were resolved among kept pairs only.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.rows import SAMPLE_RATE

KEPT = "kept"  # the outcome of pairs without a reason
_BINS = 2000  # at most
_PER_UNIT = 1000  # bins of a margin of 1 where that is fine enough
_SERIES = (1, 2, 5)

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """What a choice of pairs comes to. Samples at 16 kHz, 0 of a side that is text; overlapping spans count each."""

    pairs: int = 0
    src_samples: int = 0
    tgt_samples: int = 0
    estimated: int = 0  # pairs with an estimated precision
    estimate: float = 0.0  # the sum of these

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def src_hours(self) -> float:
        """Hours of speech of the source side."""
        return self.src_samples / SAMPLE_RATE / 3600

    @property
    def tgt_hours(self) -> float:
        """Hours of speech of the target side."""
        return self.tgt_samples / SAMPLE_RATE / 3600

    @property
    def hours(self) -> float:
        """Hours of speech of both sides."""
        return self.src_hours + self.tgt_hours

    @property
    def precision(self) -> float | None:
        """Mean estimated precision of the pairs that have one; None where none has."""
        return self.estimate / self.estimated if self.estimated else None


# what is asked of each group of pairs, in the order of the fields of Kept
SUMS = (
    "count(*) as pairs, coalesce(sum(src_end - src_start), 0)::bigint as src_samples, "
    "coalesce(sum(tgt_end - tgt_start), 0)::bigint as tgt_samples, count(precision_estimate) as estimated, "
    "coalesce(sum(precision_estimate), 0)::double as estimate"
)
_SUMS = tuple(Kept.__dataclass_fields__)


@dataclass(frozen=True)
class Grid:
    """Bins of equal width: bin i has margins in [edge(first + i), edge(first + i + 1))."""

    first: int
    bins: int
    per_unit: float

    @staticmethod
    def of(low: float, high: float) -> "Grid":
        """Bins of a width of 1, 2 or 5 times a power of ten, of which both margins lie in some."""
        finest = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6) / (_BINS - 2)  # as far as float32 tells
        width = min(
            step * 10.0**power
            for power in range(math.floor(math.log10(finest)) - 1, math.ceil(math.log10(finest)) + 2)
            for step in _SERIES
            if step * 10.0**power >= finest
        )
        if finest * (_BINS - 2) * _PER_UNIT >= _BINS / 10:
            width = max(width, 1 / _PER_UNIT)
        per_unit = float(f"{1 / width:.6g}")
        first = math.floor(low * per_unit) - 1
        return Grid(first, math.floor(high * per_unit) + 2 - first, per_unit)

    @property
    def thresholds(self) -> list[float]:
        """The edges as numbers to be shown, rising; (bins + 1)."""
        return [(self.first + number) / self.per_unit for number in range(self.bins + 1)]

    @property
    def edges(self) -> Float32:
        """The edges as margins are compared with them, (bins + 1)."""
        return np.asarray(self.thresholds, np.float64).astype(np.float32)

    @property
    def sql(self) -> str:
        """The number of a margin's bin, from 0, exactly as `edges` has it.

        An edge may be a little less as float32 than as double, never a little more without the next margin below being
        less than both: so only a margin that is an edge can be put too low.
        """
        rough = f"floor(margin::double * {self.per_unit!r})::bigint"
        up = f"(margin >= (({rough} + 1) / {self.per_unit!r})::float)::int"
        return f"({rough} + {up} - ({self.first}))::int"


class MarginCurve:
    """What is kept at any threshold, among pairs that pass the same filters. Safe to be shared by threads.

    Chosen at a threshold are those pairs with at least that margin which the run kept or only its cut rejected.
    """

    def __init__(
        self,
        grid: Grid,
        groups: pa.Table,
        between: Callable[[float, float], Kept],
        not_finite: int = 0,
    ) -> None:
        """groups: `bin`, `outcome` (`kept`, or the reason) and the columns of `SUMS`; between: what is chosen of
        margins in [low, high); not_finite: pairs whose margin is no number, which are never chosen.
        """
        self.grid, self.not_finite = grid, not_finite
        self.edges = grid.edges
        self._between, self._found, self._lock = between, dict[float, Kept](), threading.Lock()
        self._pairs: dict[str, npt.NDArray[np.int64]] = {}
        kinds: dict[str, Any] = {"estimate": np.float64}
        sums: dict[str, npt.NDArray[Any]] = {name: np.zeros(grid.bins, kinds.get(name, np.int64)) for name in _SUMS}
        bins = groups["bin"].to_numpy()
        outcomes = np.asarray(groups["outcome"].to_pylist(), object)
        for outcome in sorted(set(outcomes.tolist())):
            mask = outcomes == outcome
            counted = np.zeros(grid.bins, np.int64)
            np.add.at(counted, bins[mask], groups["pairs"].to_numpy()[mask])
            self._pairs[outcome] = counted
        self.own = _total(groups, outcomes == KEPT)
        eligible = np.asarray([outcome == KEPT or outcome in ONLY_THE_CUT for outcome in outcomes], bool)
        for name, counted in sums.items():
            np.add.at(counted, bins[eligible], groups[name].to_numpy()[eligible])
        self._above = {name: np.append(np.cumsum(counted[::-1])[::-1], 0) for name, counted in sums.items()}

    @property
    def pairs_above(self) -> npt.NDArray[np.int64]:
        """Pairs that are chosen at each edge, (bins + 1,)."""
        return self._above["pairs"]

    @property
    def total(self) -> int:
        """All pairs that pass the filters, whatever became of them."""
        return sum(int(counted.sum()) for counted in self._pairs.values()) + self.not_finite

    @property
    def outcomes(self) -> dict[str, int]:
        """Pairs by what the run did with them, most first."""
        counted = {outcome: int(found.sum()) for outcome, found in self._pairs.items()}
        return dict(sorted(counted.items(), key=lambda item: -item[1]))

    def at(self, threshold: float) -> Kept:
        """What is chosen at a threshold."""
        cut = np.float32(threshold)
        place = int(np.searchsorted(self.edges, cut, side="left"))  # the first edge that is not below
        if place > self.grid.bins or np.isnan(cut):
            return Kept()
        whole = Kept(*(self._above[name][place].item() for name in _SUMS))
        if place == 0 or self.edges[place] == cut or not self._has(place - 1):
            return whole
        with self._lock:
            if float(cut) not in self._found:
                self._found[float(cut)] = self._between(float(cut), float(self.edges[place]))
            return whole + self._found[float(cut)]

    def pairs_between(self, low: float | None, high: float | None) -> int:
        """Pairs that may be chosen with margins in [low, high); None has no end."""
        above = self.at(-math.inf if low is None else low).pairs
        return above - (0 if high is None else self.at(high).pairs)

    def best(self, number: int, outcomes: Callable[[str], bool]) -> float | None:
        """The highest edge above which there are so many pairs of some outcomes, or None where there are not."""
        counted = sum((n for name, n in self._pairs.items() if outcomes(name)), np.zeros(self.grid.bins, np.int64))
        enough = np.flatnonzero(np.cumsum(counted[::-1])[::-1] >= number)
        return float(self.edges[enough[-1]]) if len(enough) else None

    def nearest(self, threshold: float) -> float:
        """The threshold of the grid that is nearest."""
        thresholds = self.grid.thresholds
        place = round(threshold * self.grid.per_unit) - self.grid.first
        return thresholds[min(max(place, 0), self.grid.bins)]

    def lowest_threshold(self, precision: float) -> float | None:
        """The lowest edge above which pairs are right with this mean estimated precision, or None."""
        estimated = self._above["estimated"]
        mean = np.divide(self._above["estimate"], estimated, out=np.zeros(len(estimated)), where=estimated > 0)
        good = np.flatnonzero((mean >= precision) & (estimated > 0))
        return self.grid.thresholds[int(good[0])] if len(good) else None

    def curve(self, points: int = 100) -> pa.Table:
        """What is chosen at some edges: `threshold`, `pairs`, `src_hours`, `tgt_hours`, `precision` (may be null)."""
        populated = np.flatnonzero(np.diff(self._above["pairs"]) != 0)
        first, last = (int(populated[0]), int(populated[-1])) if len(populated) else (0, 0)
        places = sorted(set(np.linspace(first, last, points).round().astype(int).tolist()))
        thresholds = self.grid.thresholds
        found = [self.at(thresholds[place]) for place in places]
        columns: dict[str, list[float | None]] = {"threshold": [thresholds[place] for place in places]}
        for name in ("pairs", "src_hours", "tgt_hours", "precision"):
            columns[name] = [getattr(kept, name) for kept in found]
        kinds = {"pairs": pa.int64()}
        return pa.table({name: pa.array(values, kinds.get(name, pa.float64())) for name, values in columns.items()})

    def histogram(self, bins: int = 80, outcomes: Iterable[str] | None = None) -> pa.Table:
        """Pairs by margin and what the run did with them: `low`, `high`, `outcome`, `pairs`; empty bars left out.

        At most so many bars, each some whole bins of the grid, over the margins that there are.
        """
        wanted = {name: counted for name, counted in self._pairs.items() if outcomes is None or name in set(outcomes)}
        return _bars(wanted, self.grid.thresholds, bins)

    def _has(self, place: int) -> bool:
        return bool(self._above["pairs"][place] != self._above["pairs"][place + 1])


def _total(groups: pa.Table, mask: npt.NDArray[np.bool_]) -> Kept:
    return Kept(*(groups[name].to_numpy()[mask].sum().item() for name in _SUMS))


def _bars(counts: Mapping[str, npt.NDArray[np.int64]], edges: list[float], bins: int) -> pa.Table:
    whole = sum(counts.values(), np.zeros(len(edges) - 1, np.int64))
    there = np.flatnonzero(whole)
    first, last = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0)
    wide = next(
        step * 10**power for power in range(9) for step in _SERIES if (last - first) / (step * 10**power) <= bins
    )
    rows = []
    for name, counted in counts.items():
        for begin in range(first, last, wide):
            pairs = int(counted[begin : min(begin + wide, last)].sum())
            if pairs:
                rows.append((edges[begin], edges[min(begin + wide, len(edges) - 1)], name, pairs))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kinds = {"low": pa.float64(), "high": pa.float64(), "outcome": pa.string(), "pairs": pa.int64()}
    return pa.table({name: pa.array(values, of) for (name, of), values in zip(kinds.items(), columns, strict=True)})
