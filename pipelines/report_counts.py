"""Rows counted in fine bins, by score, length or estimated precision, as they stream past."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.charts import Bin, Step

_FINE_BIN = 0.001  # width of the bins that scores are first counted in
_SHOWN_BINS = 48  # at most so many bars in a histogram
_FINE_EDGES = np.linspace(0, 1, 1001).astype(np.float32)  # of estimates; float32 as they are, so that 0.9 is 0.9
_SHOWN_STEPS = 100  # of the curve over estimated precision

ONLY_THE_CUT = frozenset({"below_threshold", "below_precision"})  # reasons of pairs that a lower cut would take


@dataclass
class FineCounts:
    """Rows by a value, in bins of width `fine` counted from `origin`, so that no bin has rows on both sides of it."""

    origin: float = 0.0
    fine: float = _FINE_BIN
    kept: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    not_finite: int = 0

    def add(self, values: npt.NDArray[np.floating[Any]], kept: npt.NDArray[np.bool_] | None = None) -> None:
        """Count rows: values and whether each was kept, both (rows,); without the latter all were."""
        values = values.astype(np.float64)
        kept = np.ones(len(values), np.bool_) if kept is None else kept
        finite = np.isfinite(values)
        self.not_finite += int((~finite).sum())
        # A margin of zero neighbours' similarity can be huge; beyond a million it is only ever a tail.
        numbers = np.floor((np.clip(values, -1e6, 1e6) - self.origin) / self.fine)
        for counts, wanted in ((self.kept, kept & finite), (self.rejected, ~kept & finite)):
            places, sizes = np.unique(numbers[wanted].astype(np.int64), return_counts=True)
            counts.update(dict(zip(places.tolist(), sizes.tolist(), strict=True)))

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Values below which these shares of the kept rows lie, to the width of a bin; none where there is no row."""
        if not self.kept:
            return []
        numbers = sorted(self.kept)
        sizes = np.cumsum([self.kept[number] for number in numbers])
        places = [int(np.searchsorted(sizes, max(share * sizes[-1], 1), side="left")) for share in shares]
        return [self.origin + (numbers[place] + 0.5) * self.fine for place in places]

    def bins(self, *, from_origin: bool = False) -> list[Bin]:
        """At most 49 bars that hold every finite row; a thousandth of the rows at each end is put into the end bars.

        With `from_origin`, only the rows at or above the origin.
        """
        numbers = sorted(n for n in self.kept.keys() | self.rejected.keys() if n >= 0 or not from_origin)
        if not numbers:
            return []
        sizes = np.cumsum([self.kept[n] + self.rejected[n] for n in numbers])
        low = numbers[int(np.searchsorted(sizes, sizes[-1] * 0.001, side="right"))]
        high = numbers[int(np.searchsorted(sizes, sizes[-1] * 0.999, side="left"))]
        # Wide bins are counted from the origin too: the threshold stays an edge.
        wide = max(1, -(-(high - low + 1) // _SHOWN_BINS))
        first, last = low // wide, high // wide
        kept, rejected = Counter[int](), Counter[int]()
        for number in numbers:
            place = min(max(number // wide, first), last)
            kept[place] += self.kept[number]
            rejected[place] += self.rejected[number]
        width = wide * self.fine
        return [
            Bin(self.origin + place * width, self.origin + (place + 1) * width, kept[place], rejected[place])
            for place in range(first, last + 1)
        ]


def _no_counts() -> npt.NDArray[np.float64]:
    return np.zeros((3, len(_FINE_EDGES)))


@dataclass
class PrecisionCounts:
    """Rows by estimated precision; arrays (3, num_bins): rows, samples of audio, and sum of the estimates."""

    kept: npt.NDArray[np.float64] = field(default_factory=_no_counts)
    cut: npt.NDArray[np.float64] = field(default_factory=_no_counts)  # rejected for being below the cut, nothing else
    lowest_kept: float | None = None
    estimated: int = 0  # rows that have an estimate, whatever became of them

    def add(
        self,
        estimates: npt.NDArray[np.float32],
        samples: npt.NDArray[np.int64],
        kept: npt.NDArray[np.bool_],
        cut: npt.NDArray[np.bool_],
    ) -> None:
        """Count rows; every array is (rows,). NaN is no estimate."""
        known = ~np.isnan(estimates)
        self.estimated += int(known.sum())
        places = np.clip(np.searchsorted(_FINE_EDGES, estimates, side="right") - 1, 0, len(_FINE_EDGES) - 1)
        weights: tuple[npt.NDArray[Any], ...] = (np.ones(len(samples)), samples, estimates)
        for counts, wanted in ((self.kept, kept & known), (self.cut, cut & known)):
            for row, weight in enumerate(weights):
                counts[row] += np.bincount(places[wanted], weights=weight[wanted], minlength=len(_FINE_EDGES))
        if (kept & known).any():
            lowest = float(estimates[kept & known].min())
            self.lowest_kept = lowest if self.lowest_kept is None else min(lowest, self.lowest_kept)

    @property
    def num_kept(self) -> int:
        """Kept rows that have an estimate."""
        return int(self.kept[0].sum())

    @property
    def expected_right(self) -> float:
        """How many of those are expected to be right."""
        return float(self.kept[2].sum())

    def at_least(self, minimum: float) -> tuple[int, int, float]:
        """Rows, samples and rows expected to be right if the cut were here: kept ones, and those only the cut rejects.

        `minimum` is taken to a thousandth.
        """
        rows, samples, right = (self.kept + self.cut)[:, round(minimum * (len(_FINE_EDGES) - 1)) :].sum(axis=1).tolist()
        return int(rows), int(samples), right

    def steps(self) -> list[Step]:
        """How many rows have at least so much estimated precision, from 0 to 1."""
        kept, cut = (counts[0, ::-1].cumsum()[::-1] for counts in (self.kept, self.cut))
        places = np.linspace(0, len(_FINE_EDGES) - 1, _SHOWN_STEPS + 1).round().astype(int).tolist()
        return [Step(place / (len(_FINE_EDGES) - 1), int(kept[place]), int(cut[place])) for place in places]
