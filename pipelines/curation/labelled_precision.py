"""How many of the chosen pairs are right, from labels, with an interval.

Only pairs that were drawn at random say something of those that nobody looked at, so only they count. Each draw was
from a range of margins (its frame), where every pair had the same chance; draws may overlap. A pair of margin m was
therefore drawn with the probability π(m) = 1 − Π (1 − n/N) over the frames that m lies in, with n pairs labelled of N,
and stands for 1/π pairs.

What is chosen is split into bands of margins (post-stratification: Cochran 1977, "Sampling Techniques", 5A.9), whose
numbers of pairs are known. In each band the share that is right is the mean of the labels, weighted by 1/π (Hájek
1971), and its interval is Wilson's (1927), with as many labels as the weights are worth (Kish 1965: (Σw)² / Σw²) and
with the correction for a finite number of pairs, so that it closes when all are labelled. Bands are put together by the
recovery of variances (MOVER; Zou and Donner 2008, "Construction of confidence limits about effect measures", equation
7): the sum's bounds lie √Σ(W·(p − l))² below and √Σ(W·(u − p))² above it, W being a band's share of the pairs. Bands
whose few labels all say the same have no reach to one side, by which this is too narrow where nearly all pairs are
right; so the bounds are at least as wide as Wilson's of all labels together, worth 1 / Σ(W²/n). How often they hold,
`benchmarks/curation_precision.py` prints.

Pairs with margins that no draw covered may all be wrong, or all be right: the bounds allow for both. Pairs that one is
not sure of are left out and told.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.pipelines.curation.direction_view import DirectionView, filters_key
from seamlessalign.pipelines.curation.labels import How, Labelled
from seamlessalign.pipelines.curation.margin_curve import MarginCurve
from seamlessalign.pipelines.selection import Filter

CONFIDENCE = 0.95
_BANDS = 6  # at most
_LABELS_PER_BAND = 10  # at least, as far as there are so many
_QUANTILES = 24  # of the pairs' margins, between which bands begin

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """What random draws were from: all pairs with margins in [low, high) that pass the filters."""

    low: float  # minus infinity: no end
    high: float
    labelled: int
    pairs: int  # that there are

    def holds(self, margins: Array) -> npt.NDArray[np.bool_]:
        """Which margins lie in it."""
        return (margins >= self.low) & (margins < self.high)


@dataclass(frozen=True)
class RandomLabels:
    """The labels of pairs that were drawn at random, among pairs that pass the same filters."""

    margins: Array  # (num_labels,)
    right: Array  # (num_labels,) 1 or 0; NaN where one is not sure
    frames: tuple[Frame, ...]
    unused: int  # labels of this direction that say nothing here: not drawn at random, of other filters, or gone

    @property
    def chance(self) -> Array:
        """The probability with which each was drawn, (num_labels,)."""
        missed = np.ones(len(self.margins))
        for frame in self.frames:
            share = min(frame.labelled / frame.pairs, 1.0) if frame.pairs else 0.0
            missed[frame.holds(self.margins)] *= 1 - share
        return 1 - missed


@dataclass(frozen=True)
class Precision:
    """The share of some pairs that is right."""

    estimate: float | None  # of the margins that draws covered; None without labels
    low: float  # bounds for all pairs
    high: float
    right: int  # labels that it comes from
    wrong: int
    unsure: int
    covered: float  # share of the pairs with margins that draws covered
    pairs: int


@dataclass(frozen=True)
class Advice:
    """What to label next."""

    how: How
    low: float | None  # margins [low, high) that tell most; None has no end
    high: float | None
    labels: int  # how many more would do, or 0
    reason: str  # for people


def random_labels(
    view: DirectionView, labelled: Mapping[str, Labelled], filters: Sequence[Filter] = ()
) -> RandomLabels:
    """What labels tell about the pairs of a direction that pass filters.

    A draw counts that was made under these filters, or under some of them: what of it passes the others is a random
    draw of those that do.
    """
    wanted = _conditions(filters_key(filters))
    own = [pair for pair in labelled.values() if pair.direction == view.direction and pair.label is not None]
    fit = {
        pair.pair_id: (pair, draws)
        for pair in own
        if (draws := {(d.low, d.high, d.among) for d in pair.draws if _conditions(d.among) <= wanted})
    }
    there = view.margins_of({name: pair.margin for name, (pair, _) in fit.items()}, filters)
    curve = view.curve(filters)
    counts: dict[tuple[float, float, str], int] = {}
    margins, right = [], []
    for name, (pair, draws) in fit.items():
        if name not in there:
            continue
        frames = [(_end(low, -math.inf), _end(high, math.inf), among) for low, high, among in draws]
        frames = [frame for frame in frames if frame[0] <= there[name] < frame[1]]  # unless it was mined again
        if not frames:
            continue
        for frame in frames:
            counts[frame] = counts.get(frame, 0) + 1
        margins.append(there[name])
        right.append({"right": 1.0, "wrong": 0.0}.get(str(pair.label), math.nan))
    found = tuple(
        Frame(low, high, count, curve.pairs_between(low, high)) for (low, high, _), count in sorted(counts.items())
    )
    return RandomLabels(np.array(margins), np.array(right), found, len(own) - len(margins))


def precision_above(
    labels: RandomLabels, curve: MarginCurve, threshold: float | None, confidence: float = CONFIDENCE
) -> Precision:
    """The share that is right of the pairs that are chosen at a threshold; None: of all that could be chosen."""
    low = _low(threshold)
    pairs = curve.pairs_between(low, None)
    bands = _bands(labels, curve, low)
    covered = sum(band.pairs for band in bands)
    inside = labels.margins >= low
    kinds = labels.right == 1, labels.right == 0, np.isnan(labels.right)
    right, wrong, unsure = (int(np.sum(kind & inside)) for kind in kinds)
    if not pairs or not covered or not right + wrong:
        return Precision(None, 0.0, 1.0, right, wrong, unsure, covered / pairs if pairs else 0.0, pairs)
    estimate, low_bound, high_bound = _together(bands, confidence)
    part = covered / pairs
    high_bound += (1 - part) * (1 - high_bound)
    return Precision(estimate, low_bound * part, high_bound, right, wrong, unsure, part, pairs)


def precision_curve(
    labels: RandomLabels, curve: MarginCurve, points: int = 40, confidence: float = CONFIDENCE
) -> pa.Table:
    """The same at thresholds over all margins, beside the estimate without labels.

    Columns: `threshold`, `pairs`, `estimated` (mean estimated precision), `precision`, `low`, `high`, `labels` (right
    or wrong), `covered`. Nulls where nothing is known.
    """
    shown = curve.curve(points)
    rows = [precision_above(labels, curve, threshold, confidence) for threshold in shown["threshold"].to_pylist()]
    columns: dict[str, Any] = {
        "threshold": shown["threshold"],
        "pairs": shown["pairs"],
        "estimated": shown["precision"],
    }
    columns["precision"] = pa.array([row.estimate for row in rows], pa.float64())
    known = [row.estimate is not None for row in rows]
    for name in ("low", "high"):
        bounds = [getattr(row, name) if is_known else None for row, is_known in zip(rows, known, strict=True)]
        columns[name] = pa.array(bounds, pa.float64())
    columns["labels"] = pa.array([row.right + row.wrong for row in rows], pa.int64())
    columns["covered"] = pa.array([row.covered for row in rows], pa.float64())
    return pa.table(columns)


def lowest_threshold(labelled_curve: pa.Table, precision: float) -> float | None:
    """The lowest threshold of a `precision_curve` whose lower bound reaches a precision; None where none does.

    The bounds hold at each threshold for itself. To look for the lowest of many makes it more likely to take one too
    low; the simulation in `benchmarks/curation_precision.py` says how much.
    """
    pairs = zip(labelled_curve["threshold"].to_pylist(), labelled_curve["low"].to_pylist(), strict=True)
    return next((threshold for threshold, low in pairs if low is not None and low >= precision), None)


def advise(
    labels: RandomLabels,
    curve: MarginCurve,
    threshold: float | None,
    width: float = 0.05,
    confidence: float = CONFIDENCE,
) -> Advice:
    """Where labels would narrow the interval at a threshold (None: none) most, and how many until it is ± `width`.

    Margins that no draw covered come first, then the band that adds most to the interval.
    """
    low = _low(threshold)
    found = precision_above(labels, curve, threshold, confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    guess = found.estimate if found.estimate is not None else curve.at(low).precision or 0.8
    share = (guess * (found.right + found.wrong) + 2) / (found.right + found.wrong + 4)  # never quite 0 or 1
    enough = math.ceil(z * z * share * (1 - share) / width**2)
    enough = math.ceil(enough / (1 + enough / max(found.pairs, 1)))
    if found.covered < 0.995:
        reason = "nothing is known of some of these pairs: draw at random above the threshold"
        return Advice("random above the threshold", _bound(low), None, min(enough, found.pairs), reason)
    more = max(enough - found.right - found.wrong, 0)
    if (found.high - found.low) / 2 <= width:
        return Advice("random above the threshold", _bound(low), None, 0, f"the interval is ± {width:g} or narrower")
    bands = _bands(labels, curve, low)
    reach = [band.pairs * np.ptp(wilson(band.share, band.worth, confidence)) for band in bands]
    worst = bands[int(np.argmax(reach))]
    upwards = "up" if math.isinf(worst.high) else f"to {worst.high:.4g}"
    start = "below" if math.isinf(worst.low) else f"{worst.low:.4g}"
    reason = f"the band of margins from {start} {upwards} leaves most open"
    return Advice("random above the threshold", _bound(worst.low), _bound(worst.high), max(more, 1), reason)


@dataclass(frozen=True)
class _Band:
    low: float
    high: float
    pairs: int  # that draws covered
    right: Array  # (num_labels,) 1 or 0
    weight: Array  # (num_labels,)

    @property
    def share(self) -> float:
        """The share of its pairs that is right."""
        return float(self.weight @ self.right / self.weight.sum()) if len(self.right) else 0.5

    @property
    def worth(self) -> float:
        """How many draws of equal chance from ever so many pairs would tell as much."""
        if not len(self.right):
            return 0.0
        if len(self.right) >= self.pairs:
            return math.inf
        drawn = float(self.weight.sum() ** 2 / (self.weight @ self.weight))
        return drawn * (self.pairs - 1) / (self.pairs - len(self.right))


def _together(bands: Sequence[_Band], confidence: float) -> tuple[float, float, float]:
    """The share that is right of the pairs of all bands, and its bounds."""
    weights = np.array([band.pairs for band in bands], np.float64) / sum(band.pairs for band in bands)
    shares, worths = (np.array([getattr(band, name) for band in bands]) for name in ("share", "worth"))
    bounds = np.array([wilson(band.share, band.worth, confidence) for band in bands])
    estimate = float(weights @ shares)
    below, above = (math.sqrt(float(np.sum((weights * (shares - bound)) ** 2))) for bound in bounds.T)
    spread = float(np.sum(weights**2 / np.maximum(worths, 1e-9)))
    low, high = wilson(estimate, 1 / spread if spread else math.inf, confidence)
    return estimate, max(min(estimate - below, low), 0.0), min(max(estimate + above, high), 1.0)


def wilson(share: float, number: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's (1927) score interval for a share seen among so many draws."""
    if number <= 0:
        return 0.0, 1.0
    if math.isinf(number):
        return share, share
    square = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    middle = (share + square / (2 * number)) / (1 + square / number)
    reach = math.sqrt(square * (share * (1 - share) / number + square / (4 * number**2))) / (1 + square / number)
    return min(max(middle - reach, 0.0), share), max(min(middle + reach, 1.0), share)


def _bands(labels: RandomLabels, curve: MarginCurve, low: float) -> list[_Band]:
    """Bands of margins from `low` up, without those that no draw covered, lowest first.

    They begin where frames do, or at quantiles of the pairs' margins, and hold some labels each. Neighbours whose
    labels all say the same are one band: apart, each would be as open as few labels are.
    """
    frames = [frame for frame in labels.frames if frame.labelled and frame.high > low]
    ends = {end for frame in frames for end in (frame.low, frame.high)}
    ends |= set(_quantiles(curve, low))
    edges = [low, *sorted(end for end in ends if low < end < math.inf), math.inf]
    decided = ~np.isnan(labels.right) & (labels.margins >= low)
    margins, right, weight = labels.margins[decided], labels.right[decided], 1 / labels.chance[decided]
    wanted = max(_LABELS_PER_BAND, math.ceil(len(margins) / _BANDS))
    bands: list[_Band] = []
    open_from, pairs, mask = math.inf, 0, np.zeros(len(margins), bool)
    open_to = math.inf
    for begin, end in zip(edges[-2::-1], edges[:0:-1], strict=True):  # from the top
        if not any(frame.low <= begin and end <= frame.high for frame in frames):
            continue
        if not pairs:
            open_to = end
        pairs += curve.pairs_between(begin, end)
        mask |= (margins >= begin) & (margins < end)
        open_from = begin
        if mask.sum() >= wanted:
            bands.append(_Band(open_from, open_to, pairs, right[mask], weight[mask]))
            pairs, mask = 0, np.zeros(len(margins), bool)
    if pairs or mask.any():
        rest = _Band(open_from, open_to, pairs, right[mask], weight[mask])
        bands.append(_joined(bands.pop(), rest) if bands else rest)
    together: list[_Band] = []
    for band in bands:
        if together and len({*together[-1].right.tolist(), *band.right.tolist()}) == 1:
            together.append(_joined(together.pop(), band))
        else:
            together.append(band)
    return together[::-1]


def _joined(upper: _Band, lower: _Band) -> _Band:
    right, weight = (np.concatenate([getattr(lower, name), getattr(upper, name)]) for name in ("right", "weight"))
    return _Band(lower.low, upper.high, lower.pairs + upper.pairs, right, weight)


def _quantiles(curve: MarginCurve, low: float) -> list[float]:
    """Edges above `low` between which about equally many pairs lie."""
    above = curve.pairs_above
    edges = curve.edges.astype(np.float64)
    total = int(above[np.searchsorted(edges, low)]) if low <= edges[-1] else 0
    wanted = np.linspace(total, 0, _QUANTILES + 1)[1:-1]
    places = np.searchsorted(-above, -wanted)
    return sorted({float(edges[place]) for place in places if edges[place] > low})


def _conditions(among: str) -> frozenset[str]:
    if not among:
        return frozenset()
    try:
        return frozenset(json.dumps(one, sort_keys=True) for one in json.loads(among))
    except (ValueError, TypeError):
        return frozenset([among])  # of another version: fits no filters of this one


def _low(threshold: float | None) -> float:
    return -math.inf if threshold is None else float(np.float32(threshold))


def _end(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None
