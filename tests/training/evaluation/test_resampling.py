"""Intervals and comparisons against sacrebleu, slow references, and what must not change them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation import resampling
from seamlessalign.training.evaluation.measures import RowMean, Score
from seamlessalign.training.evaluation.resampling import bootstrap, interval, paired_bootstrap, paired_randomisation
from seamlessalign.training.evaluation.text import text_measure

Float64 = npt.NDArray[np.float64]
MEAN = RowMean("mean", "version:1")


def _values(seed: int, rows: int = 40) -> Float64:
    return np.asarray(np.random.default_rng(seed).normal(size=rows))


@given(st.integers(2, 60), st.integers(1, 30), st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_draws_by_hand_whatever_the_block(rows: int, samples: int, block: int) -> None:
    values = _values(rows, rows)
    drawn = np.random.default_rng(7).choice(rows, size=(samples, rows), replace=True)  # as sacrebleu draws
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_BLOCK", block)
        found = bootstrap(MEAN.of(values), MEAN.score, samples, seed=7)
    assert np.allclose(found, values[drawn].mean(1))


def test_the_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    held = 0
    for seed in range(300):
        low, high = interval(bootstrap(MEAN.of(_values(seed, 60)), MEAN.score, 400, seed))
        held += low <= 0 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_the_interval_leaves_out_as_many_below_as_above() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert interval(scores) == (25, 974)
    assert interval(np.append(scores, np.nan)) == (25, 974)
    assert np.isnan(interval(np.append(scores, [np.nan] * 60))).all()  # more than one in twenty
    assert interval(scores[:39]) == (scores[:39].min(), scores[:39].max())


def test_rows_without_a_value_do_not_count() -> None:
    assert MEAN.score(MEAN.of([1.0, np.nan, 3.0]).sum(0)) == 2
    assert np.isnan(MEAN.score(MEAN.of([np.nan]).sum(0)))


class TestComparisons:
    made = {"first": [f"the cat {i} sat on a mat" for i in range(30)],
            "second": [f"the cat {i} sat on {'the' if i % 2 else 'a'} mat" for i in range(30)]}  # fmt: skip
    wanted = [f"the cat {i} sat on the mat" for i in range(30)]

    def _statistics(self) -> tuple[Float64, Float64]:
        measure = text_measure("bleu", "eng")
        wanted = [[text] for text in self.wanted]
        return measure.statistics(self.made["first"], wanted), measure.statistics(self.made["second"], wanted)

    @pytest.mark.parametrize("rows", [7, 61])
    @pytest.mark.parametrize("block", [50, 4_000_000])
    def test_p_is_that_of_sacrebleu(self, rows: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resampling, "_BLOCK", block)
        random = np.random.default_rng(rows)
        words = [f"w{i}" for i in range(40)]
        wanted = [" ".join(random.choice(words, 12)) for _ in range(rows)]
        made = {
            name: [
                " ".join(w if random.random() > q else str(random.choice(words)) for w in text.split())
                for text in wanted
            ]
            for name, q in (("first", 0.35), ("second", 0.32))
        }
        for kind, theirs in (("bleu", BLEU(force=True)), ("chrf++", CHRF(word_order=2))):
            measure = text_measure(kind, "eng")
            statistics = [measure.statistics(texts, [[text] for text in wanted]) for texts in made.values()]
            for test, name in ((paired_bootstrap, "bs"), (paired_randomisation, "ar")):
                ours = test(statistics[0], statistics[1], measure.score, samples=400)
                _, found = PairedTest(list(made.items()), {kind: theirs}, [wanted], name, 400)()
                results: Any = list(found.values())[-1]
                first, second = results
                if rows > 20 or name == "bs":
                    assert ours.p_value == second.p_value
                else:  # of few rows some exchanges leave the same difference, which sacrebleu does not count
                    assert 0 < ours.p_value - second.p_value < 0.1
                assert ours.difference == pytest.approx(second.score - first.score)
                assert 1 / 401 < ours.p_value < 1  # else little was compared

    def test_randomisation_agrees_with_every_exchange(self) -> None:
        first, second = MEAN.of(_values(1, 10)), MEAN.of(_values(2, 10) + 0.5)
        found = abs(MEAN.score(second.sum(0)) - MEAN.score(first.sum(0)))
        away = []
        for mask in range(1 << 10):
            exchanged = np.array([mask >> i & 1 for i in range(10)], bool)[:, None]
            a, b = np.where(exchanged, second, first).sum(0), np.where(exchanged, first, second).sum(0)
            away.append(abs(MEAN.score(b) - MEAN.score(a)))
        exact = np.mean(np.array(away) >= found - 1e-12)
        assert paired_randomisation(first, second, MEAN.score).p_value == pytest.approx(exact, abs=0.015)

    def test_a_system_and_itself(self) -> None:
        first, _ = self._statistics()
        for test in (paired_bootstrap, paired_randomisation):
            found = test(first, first, text_measure("bleu", "eng").score, samples=50)
            assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)

    def test_how_often_systems_that_do_not_differ_are_called_different(self) -> None:
        """As often as they should by exchanges, and about twice as often by bootstrap, as docs/evaluation.md says."""
        pairs = [(MEAN.of(_values(2 * i)), MEAN.of(_values(2 * i + 1))) for i in range(400)]
        found = {
            test: np.mean([test(*pair, MEAN.score, 200).p_value < 0.05 for pair in pairs])
            for test in (paired_randomisation, paired_bootstrap)
        }
        assert 0.03 <= found[paired_randomisation] <= 0.07
        assert 0.07 <= found[paired_bootstrap] <= 0.13

    def test_draws_without_a_score_are_against_a_difference(self) -> None:
        first, second = MEAN.of([1.0, *[np.nan] * 5]), MEAN.of([2.0, *[np.nan] * 5])
        found = paired_bootstrap(first, second, MEAN.score, samples=200)
        drawn = np.random.default_rng(12345).choice(6, size=(200, 6), replace=True)
        without = int((~(drawn == 0).any(1)).sum())
        assert without > 20
        assert found.difference == 1 and np.isnan([found.low, found.high]).all()
        assert found.p_value == (without + 1) / 201
        nothing = paired_bootstrap(MEAN.of([np.nan]), MEAN.of([1.0]), MEAN.score, samples=20)
        assert np.isnan([nothing.difference, nothing.low, nothing.high, nothing.p_value]).all()

    def test_one_row_tells_nothing_of_others(self) -> None:
        first, second = MEAN.of([1.0]), MEAN.of([2.0])
        assert np.isnan(interval(bootstrap(second, MEAN.score, 50))).all()
        found = paired_bootstrap(first, second, MEAN.score, samples=50)
        assert (found.difference, found.p_value) == (1, 1) and np.isnan([found.low, found.high]).all()
        assert paired_randomisation(first, second, MEAN.score, samples=50).p_value == 1

    def test_systems_that_differ_in_few_rows(self) -> None:
        for rows, exact in ((3, 1 / 4), (4, 1 / 8), (5, 1 / 16)):
            second = np.zeros(50)
            second[:rows] = 1
            found = paired_randomisation(MEAN.of(np.zeros(50)), MEAN.of(second), MEAN.score, samples=2000)
            assert found.p_value == pytest.approx(exact, abs=0.02)

    def test_other_rows(self) -> None:
        with pytest.raises(InputError, match="have 3 and 4 rows"):
            paired_bootstrap(MEAN.of([1.0] * 3), MEAN.of([1.0] * 4), MEAN.score)


@given(st.permutations(list(range(12))))
@settings(max_examples=20, deadline=None)
def test_the_score_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    values = _values(3, 12)
    assert MEAN.score(MEAN.of(values[order]).sum(0)) == pytest.approx(MEAN.score(MEAN.of(values).sum(0)))


def test_a_score_as_text_and_json() -> None:
    score = Score("BLEU", 12.345, "nrefs:1", rows=9, missing=2, low=10.0, high=14.0)
    assert str(score) == "BLEU 12.35 (10.00 to 14.00), 9 rows (2 without an output), nrefs:1"
    assert score.to_json()["low"] == 10.0
    assert Score("WER", float("nan"), "x", rows=1).to_json()["score"] is None
