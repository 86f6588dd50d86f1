"""Precision from labels: by hand, where the truth is known, and only from pairs that were drawn at random."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.curation_precision import CHANCES, WAYS, Population, cover, made
from seamlessalign.pipelines.curation.direction_view import DirectionView, filters_key
from seamlessalign.pipelines.curation.labelled_precision import (
    Frame,
    RandomLabels,
    advise,
    lowest_threshold,
    precision_above,
    precision_curve,
    random_labels,
    wilson,
)
from seamlessalign.pipelines.curation.labels import Drawn, How, Label, Labels, Said, fold
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut, Filter
from tests.pipelines.curation.made_pairs import make_run

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")

ABOVE: How = "random above the threshold"


def _labels(margins: list[float], right: list[float], *frames: Frame) -> RandomLabels:
    return RandomLabels(np.array(margins), np.array(right), frames, 0)


@pytest.fixture(scope="module")
def population() -> Population:
    """2,000 pairs, margins 1.000 to 2.999, those from 2 up right."""
    margins = (np.arange(2999, 999, -1) / 1000).astype(np.float32)
    return Population(margins, margins >= 2)


class TestWilson:
    def test_it_is_where_the_true_share_is_so_many_errors_away(self) -> None:
        low, high = wilson(0.8, 25)
        for bound in (low, high):
            assert abs(0.8 - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 25), rel=1e-6)
        assert wilson(1.0, 10)[1] == 1.0 and wilson(1.0, 10)[0] == pytest.approx(10 / (10 + 1.959964**2), rel=1e-6)
        assert wilson(0.3, 0) == (0.0, 1.0) and wilson(0.3, math.inf) == (0.3, 0.3)
        narrow, wide = wilson(0.5, 40, 0.5), wilson(0.5, 40, 0.99)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


class TestPrecision:
    def test_labels_of_all_pairs_leave_nothing_open(self, population: Population) -> None:
        curve = population.curve()
        labels = population.drawn([(1.5, math.inf, 10_000)], curve, np.random.default_rng(0))
        found = precision_above(labels, curve, 1.5)
        assert (found.estimate, found.low, found.high) == pytest.approx((1000 / 1500,) * 3)
        assert (found.right, found.wrong, found.unsure, found.covered, found.pairs) == (1000, 500, 0, 1.0, 1500)

    def test_bands_count_by_their_pairs_and_not_by_their_labels(self, population: Population) -> None:
        """Most labels are from a narrow band of wrong pairs, which are few."""
        curve = population.curve()
        near = Frame(1.9, 2.0, 50, 100)
        everywhere = Frame(1.9, math.inf, 55, 1100)
        margins = [1.9 + n / 500 for n in range(50)] + [1.9005 + n / 50 for n in range(55)]
        labels = _labels(margins, [float(margin >= 2) for margin in margins], near, everywhere)
        found = precision_above(labels, curve, 1.9)
        assert found.wrong == 55 and found.right == 50
        assert found.estimate == pytest.approx(1000 / 1100, abs=0.01)
        assert found.low < 1000 / 1100 < found.high

    def test_what_is_labelled_of_few_pairs_is_known(self, population: Population) -> None:
        """Half of 1,500 pairs: a sample without putting back is worth n (N - 1) / (N - n) draws (Cochran 1977, 2.8)."""
        labels = population.drawn([(1.5, math.inf, 750)], curve := population.curve(), np.random.default_rng(0))
        share = float(np.mean(labels.right))
        found = precision_above(labels, curve, 1.5)
        low, high = wilson(share, 750 * 1499 / 750)
        assert low - 0.01 < found.low < found.high < high + 0.01
        plain = wilson(share, 750)
        assert found.high - found.low < 0.8 * (plain[1] - plain[0])

    def test_a_label_stands_for_as_many_pairs_as_its_chance_was_small(self) -> None:
        labels = _labels([1.0, 2.0, 3.0], [1, 1, 0], Frame(0.5, 2.5, 10, 40), Frame(1.5, math.inf, 20, 100))
        assert labels.chance == pytest.approx([0.25, 1 - 0.75 * 0.8, 0.2])

    def test_margins_that_no_draw_covered_may_be_anything(self, population: Population) -> None:
        curve = population.curve()
        labels = population.drawn([(2.5, math.inf, 500)], curve, np.random.default_rng(0))
        found = precision_above(labels, curve, 1.5)
        assert (found.estimate, found.covered) == pytest.approx((1.0, 1 / 3))
        assert (found.low, found.high) == pytest.approx((1 / 3, 1.0))

    def test_without_labels_nothing_is_known(self, population: Population) -> None:
        curve = population.curve()
        for labels in (_labels([], []), _labels([1.7], [math.nan], Frame(1.5, math.inf, 1, 1500))):
            found = precision_above(labels, curve, 1.5)
            assert (found.estimate, found.low, found.high) == (None, 0.0, 1.0)
        assert found.unsure == 1
        assert precision_above(labels, curve, 99.0).pairs == 0
        assert precision_curve(labels, curve)["low"].null_count == len(precision_curve(labels, curve))

    def test_a_curve_tells_the_same_and_the_lowest_good_threshold(self, population: Population) -> None:
        curve = population.curve()
        labels = population.drawn([(1.0, math.inf, 400)], curve, np.random.default_rng(1))
        shown = precision_curve(labels, curve, 50)
        for row in shown.slice(5, 30).to_pylist():
            found = precision_above(labels, curve, row["threshold"])
            assert (row["precision"], row["low"], row["high"], row["pairs"]) == (
                found.estimate, found.low, found.high, found.pairs
            )  # fmt: skip
            assert row["labels"] == found.right + found.wrong
        at = lowest_threshold(shown, 0.9)
        assert at is not None and 1.85 < at < 2.1 and population.precision(at) >= 0.9
        assert lowest_threshold(shown, 1.0001) is None

    def test_advice(self, population: Population) -> None:
        curve, rng = population.curve(), np.random.default_rng(2)
        first = advise(_labels([], []), curve, 1.8)
        assert (
            (first.how, first.high) == (ABOVE, None) and 50 < first.labels < 400 and "nothing is known" in first.reason
        )
        few = population.drawn([(1.8, math.inf, 60)], curve, rng)
        told = advise(few, curve, 1.8)
        assert told.labels > 0 and "leaves most open" in told.reason
        assert told.low is not None and 1.8 <= told.low + 1e-6 <= 2.1  # where right turns to wrong, not far above
        assert told.high is not None and told.low < told.high < 2.5  # what is above is all right, and known to be
        assert f"from {told.low:.4g} to {told.high:.4g} leaves" in told.reason
        one = advise(population.drawn([(2.9, math.inf, 5)], curve, rng), curve, 2.9)
        assert one.high is None and "from 2.9 up leaves" in one.reason
        many = population.drawn([(1.8, math.inf, 1100)], curve, rng)
        assert advise(many, curve, 1.8).labels == 0

    def test_how_many_labels_are_advised(self, population: Population) -> None:
        """z² p (1 - p) / width² (Cochran 1977, 4.4), fewer where pairs are few; p as if two more were of each kind."""
        curve, rng, square = population.curve(), np.random.default_rng(2), 1.959964**2

        def enough(share: float, width: float, pairs: int) -> int:
            many = math.ceil(square * share * (1 - share) / width**2)
            return math.ceil(many / (1 + many / pairs))

        first = advise(_labels([], []), curve, 1.8)
        assert (first.labels, first.low) == (enough(0.5, 0.05, 1200), float(np.float32(1.8))) and first.labels == 292
        assert advise(_labels([], []), curve, None).low is None
        assert advise(_labels([], []), curve, 2.99).labels == 10  # which are all
        few = population.drawn([(1.8, math.inf, 60)], curve, rng)
        seen = precision_above(few, curve, 1.8)
        share = ((seen.estimate or 0) * 60 + 2) / 64
        for width in (0.02, 0.05):
            assert advise(few, curve, 1.8, width).labels == enough(share, width, 1200) - 60
        assert advise(few, curve, 1.8, (seen.high - seen.low) / 2 - 1e-9).labels >= 1
        closed = advise(few, curve, 1.8, (seen.high - seen.low) / 2 + 1e-9)
        assert closed.labels == 0 and "or narrower" in closed.reason
        most = population.drawn([(1.0, math.inf, 1990)], curve, rng)
        assert advise(most, curve, None, 1e-6).labels == 2000 - len(most.margins)

    @pytest.mark.parametrize("way", ["at and above", "moving"])
    @pytest.mark.parametrize(
        ("number", "chance"), [(7, "slow, .3 to .95"), (40, "slow, .3 to .95"), (180, "steep, .05 to .98")]
    )
    def test_it_is_what_its_words_say(self, way: str, number: int, chance: str) -> None:
        rng = np.random.default_rng(number)
        pairs = made(1201, rng, CHANCES[chance])
        curve = pairs.curve()
        labels = pairs.drawn(WAYS[way](1.15, number), curve, rng)
        labels.right[::9] = math.nan
        for threshold in (1.15, 1.1503, 1.2, 1.0, 1.35, curve.grid.thresholds[-1]):
            found = precision_above(labels, curve, threshold)
            wanted = _by_the_words(pairs, labels, threshold)
            if wanted is None:
                assert (found.estimate, found.low, found.high) == (None, 0.0, 1.0)
            else:
                assert (found.estimate, found.low, found.high, found.covered) == pytest.approx(wanted, abs=1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize("way", WAYS)
    def test_the_interval_holds_the_truth_nearly_as_often_as_it_says(self, way: str) -> None:
        self._check_coverage("all .97", way)

    @pytest.mark.slow
    @pytest.mark.thorough
    @pytest.mark.parametrize("chance", [name for name in CHANCES if name != "all .97"])
    @pytest.mark.parametrize("way", WAYS)
    def test_so_it_does_however_the_truth_goes(self, chance: str, way: str) -> None:
        self._check_coverage(chance, way)

    @staticmethod
    def _check_coverage(chance: str, way: str) -> None:
        rng = np.random.default_rng(5)
        pairs = made(20_000, rng, CHANCES[chance])
        found = cover(pairs, 1.15, WAYS[way](1.15, 60), 400, rng)
        assert found.held / found.repeats >= 0.93  # about three errors below what the benchmark prints


def _by_the_words(population: Population, labels: RandomLabels, threshold: float) -> tuple[float, ...] | None:
    """Estimate, bounds and covered share, one pair at a time, as the head of `labelled_precision.py` tells it."""
    low = float(np.float32(threshold))
    margins = sorted(float(margin) for margin in population.margins if margin >= low)
    edges = [float(edge) for edge in population.curve().edges]

    def above(edge: float) -> int:
        return len(margins) - bisect_left(margins, edge)

    total = above(next((edge for edge in edges if edge >= low), math.inf))
    begins = {next(edge for edge in edges if above(edge) <= total * (24 - n) / 24 + 1e-9) for n in range(1, 24)}
    begins |= {end for frame in labels.frames for end in (frame.low, frame.high)}
    starts = sorted({low} | {begin for begin in begins if low < begin < math.inf})
    known = []  # margin, right, weight
    for margin, right in zip(labels.margins.tolist(), labels.right.tolist(), strict=True):
        missed = math.prod(1 - f.labelled / f.pairs for f in labels.frames if f.low <= margin < f.high)
        if margin >= low and not math.isnan(right):
            known.append((margin, right, 1 / (1 - missed)))
    wanted = max(10, math.ceil(len(known) / 6))
    bands: list[tuple[int, list[tuple[float, float]]]] = []  # from the top: pairs; right and weight of each label
    pairs, inside, is_full = 0, list[tuple[float, float]](), True
    for begin, end in reversed(list(zip(starts, [*starts[1:], math.inf], strict=True))):
        if not any(frame.low <= begin and end <= frame.high for frame in labels.frames):
            continue
        pairs += above(begin) - above(end)
        inside += [(right, weight) for margin, right, weight in known if begin <= margin < end]
        is_full = len(inside) >= wanted
        if is_full:
            bands.append((pairs, inside))
            pairs, inside = 0, []
    if not is_full:  # what is left at the bottom
        last = bands.pop() if bands else (0, [])
        bands.append((last[0] + pairs, last[1] + inside))
    joined: list[tuple[int, list[tuple[float, float]]]] = []
    for band in bands:
        if joined and len({right for right, _ in joined[-1][1] + band[1]}) == 1:
            joined[-1] = (joined[-1][0] + band[0], joined[-1][1] + band[1])
        else:
            joined.append(band)
    covered = sum(count for count, _ in joined)
    if not known or not covered:
        return None
    estimate = below = beyond = spread = 0.0
    for count, those in joined:
        weight = sum(one for _, one in those)
        share = sum(right * one for right, one in those) / weight
        worth = math.inf if len(those) >= count else weight**2 / sum(one**2 for _, one in those)
        worth *= (count - 1) / (count - len(those)) if len(those) < count else 1
        left, right = _wilson(share, worth)
        part = count / covered
        estimate, spread = estimate + part * share, spread + part**2 / worth
        below, beyond = below + (part * (share - left)) ** 2, beyond + (part * (right - share)) ** 2
    left, right = _wilson(estimate, 1 / spread if spread else math.inf)
    left, right = min(estimate - math.sqrt(below), left), max(estimate + math.sqrt(beyond), right)
    part = covered / len(margins)
    return estimate, max(left, 0) * part, min(right, 1) * part + 1 - part, part


def _wilson(share: float, number: float) -> tuple[float, float]:
    """The roots p of (p̂ - p)² = z² p (1 - p) / n."""
    if math.isinf(number):
        return share, share
    square = 1.959963984540054**2
    found = np.roots([1 + square / number, -2 * share - square / number, share**2]).real
    return float(min(found)), float(max(found))


class TestWhichLabelsCount:
    @pytest.fixture
    def view(self, tmp_path: Path) -> Iterator[DirectionView]:
        make_run(tmp_path / "run", 400)
        with RunTables(str(tmp_path / "run"), threads=1) as tables:
            yield DirectionView(tables, "eng-frA")

    @staticmethod
    def _say(rows: list[dict[str, Any]], drawn: Drawn, label: Said = "right") -> list[Label]:
        return [Label(row["pair_id"], row["direction"], label, row["margin"], drawn) for row in rows]

    def _found(self, view: DirectionView, lines: list[Label], *filters: Filter) -> RandomLabels:
        labels = Labels(view.tables.root)
        labels.append(lines)
        return random_labels(view, fold(labels.read()), filters)

    def test_only_random_ones(self, view: DirectionView) -> None:
        cut = Cut(min_margin=1.15)
        rows, drawn = view.draw(cut, ABOVE, limit=30)
        best = view.rows(cut, limit=50).to_pylist()
        found = self._found(view, self._say(best, Drawn("in order")) + self._say(rows.to_pylist(), drawn, "wrong"))
        assert len(found.margins) == 30 and (found.right == 0).all()
        both = {row["pair_id"] for row in best} & set(rows["pair_id"].to_pylist())
        assert found.unused == 50 - len(both)
        (frame,) = found.frames
        assert (frame.low, frame.high, frame.labelled) == (float(np.float32(1.15)), math.inf, 30)
        assert frame.pairs == view.at(cut).pairs

    def test_a_pair_that_was_drawn_keeps_that_however_it_is_labelled_again(self, view: DirectionView) -> None:
        rows, drawn = view.draw(Cut(min_margin=1.15), ABOVE, limit=10)
        lines = self._say(rows.to_pylist(), drawn)
        lines += self._say(rows.to_pylist()[:4], Drawn("looked up"), "wrong")
        lines += self._say(rows.to_pylist()[3:5], Drawn("looked up"), "undo")
        found = self._found(view, lines)
        assert len(found.margins) == 9 and np.sum(found.right == 0) == 3 and found.frames[0].labelled == 9

    def test_draws_under_fewer_filters_count_and_those_under_others_do_not(self, view: DirectionView) -> None:
        long = Filter(column="tgt_seconds", op="at_least", value=2.0)
        other = Filter(column="cosine", op="at_least", value=0.5)
        plain, drawn = view.draw(Cut(min_margin=1.15), ABOVE, seed=1, limit=40)
        under, drawn_under = view.draw(Cut(min_margin=1.15, filters=[other]), ABOVE, seed=2, limit=20)
        assert drawn_under.among == filters_key([other])
        lines = self._say(plain.to_pylist(), drawn) + self._say(under.to_pylist(), drawn_under)
        passing = {row["pair_id"] for row in plain.to_pylist() if row["tgt_seconds"] >= 2}
        found = self._found(view, lines, long)
        assert len(found.margins) == len(passing) < 40
        (frame,) = found.frames
        assert frame.labelled == len(passing)
        assert frame.pairs == view.at(Cut(min_margin=1.15, filters=[long])).pairs
        assert len(self._found(view, [], long, other).frames) == 2

    def test_those_of_pairs_that_are_gone_or_cannot_be_chosen_do_not(self, view: DirectionView) -> None:
        everything = Drawn("random")
        rejected = [
            row for row in view.rows(Cut(min_margin=0.0), "not chosen", limit=5).to_pylist() if row["drop_reason"]
        ]
        assert len(rejected) == 5
        gone = [{"pair_id": "gone", "direction": "eng-frA", "margin": 1.2}]
        kept = view.rows(Cut(), limit=3).to_pylist()
        found = self._found(view, self._say([*rejected, *gone, *kept], everything))
        assert len(found.margins) == 3 and found.unused == 6
        again = self._found(view, self._say(view.rows(Cut(), limit=6).to_pylist(), everything))
        assert len(again.margins) == 6  # what is new is looked for, the rest remembered

    def test_a_pair_whose_margin_is_not_where_it_was_drawn_does_not(self, view: DirectionView) -> None:
        """As of a run that was mined again: a frame is [low, high)."""
        row = view.rows(Cut(), limit=1).to_pylist()
        at = row[0]["margin"]
        for low, high, counts in ((at - 0.2, at, 0), (at + 0.1, None, 0), (at, at + 0.1, 1), (None, at + 0.1, 1)):
            Path(view.tables.root, "labels.parquet").unlink(missing_ok=True)
            found = self._found(view, self._say(row, Drawn("random at the threshold", low, high)))
            assert (len(found.margins), found.unused, len(found.frames)) == (counts, 1 - counts, counts)
