"""The precision estimate against slow integration and known mixtures, and what is kept by it against brute force."""

import itertools
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import precision
from seamlessalign.mining.precision import estimate_precision, keep_fdr, keep_precision
from seamlessalign.mining.truth import reliability

Hits = list[tuple[int, bool]]
HITS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60)
ESTIMATES = st.lists(st.one_of(st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0, np.nan]), st.floats(0, 1, width=32)))


def of(
    hits: Hits, num_targets: int = 40, num_decoys: int = 20, once: bool = True, weight: float = 1.0
) -> npt.NDArray[np.float32]:
    score = np.array([value for value, _ in hits], np.float32)
    return estimate_precision(
        score, np.array([is_decoy for _, is_decoy in hits]), num_targets, num_decoys, once, weight
    )


def integrated(place: list[float], targets: list[int], decoys: list[int], odds: float) -> npt.NDArray[np.float64]:
    """Posterior mean of each bin's share of right hits, by sums over a grid of log-odds and over all stiffnesses."""
    axis = np.linspace(-14, 22, 61)
    a, slope = precision._PRIOR_MEAN
    sd_a, sd_slope = precision._PRIOR_SD
    curves = np.array(list(itertools.product(axis, repeat=len(place))))
    share = 1 / (1 + np.exp(-curves))
    at_decoy = odds * (1 - share) / (1 + odds * (1 - share))
    likelihood = (np.array(decoys) * np.log(at_decoy) + np.array(targets) * np.log1p(-at_decoy)).sum(1)
    x = np.array(place) - place[0]  # with so few bins the prior is anchored at the first
    slopes = ((x - x.mean()) * curves).sum(1) / ((x - x.mean()) ** 2).sum()
    starts = curves.mean(1) - slopes * x.mean()
    line = -(((starts - a) / sd_a) ** 2 + ((slopes - slope) / sd_slope) ** 2) / 2
    total, weights = np.zeros(len(place)), 0.0
    for stiffness in precision._STIFFNESS if len(place) == 3 else (1.0,):
        bend, norm = np.zeros(len(curves)), 1.0
        if len(place) == 3:
            first, second = np.diff(place)
            turn = (curves[:, 2] - curves[:, 1]) / second - (curves[:, 1] - curves[:, 0]) / first
            bend, norm = -stiffness * turn**2 / ((first + second) / 2) / 2, float(np.sqrt(stiffness))
        density = norm * np.exp(likelihood + line + bend)
        total += density @ share
        weights += float(density.sum())
    return total / weights


@pytest.mark.parametrize(
    ("targets", "decoys"),
    [([30, 25], [18, 2]), ([40, 30], [30, 1]), ([30, 20, 30], [25, 8, 1]), ([60, 30, 60], [40, 9, 2])],
)
def test_estimate_is_the_posterior_mean(targets: list[int], decoys: list[int]) -> None:
    values = np.repeat(np.arange(len(targets)), [t + d for t, d in zip(targets, decoys, strict=True)])
    is_decoy = np.concatenate([np.arange(t + d) >= t for t, d in zip(targets, decoys, strict=True)])
    place = ((np.arange(len(targets)) - values.mean()) / values.std()).tolist()
    found = estimate_precision(values.astype(np.float32), is_decoy, 100, 100, once_per_target=False)
    expected = integrated(place, targets, decoys, 1.0)
    first = [int(np.argmax(values == value)) for value in range(len(targets))]
    assert found[first] == pytest.approx(expected, abs=0.025)  # 2000 draws, and the grid's step


@settings(max_examples=50, deadline=None)
@given(HITS, st.booleans(), st.randoms(use_true_random=False))
def test_shape_of_the_estimate(hits: Hits, once: bool, shuffled: random.Random) -> None:
    found = of(hits, once=once)
    assert found.dtype == np.float32 and ((found >= 0) & (found <= 1)).all()
    score = np.array([value for value, _ in hits])
    order = np.argsort(score, kind="stable")
    rises = np.diff(found[order])
    assert (rises >= 0).all() and (rises[np.diff(score[order]) == 0] == 0).all()
    mixed = list(range(len(hits)))
    shuffled.shuffle(mixed)
    assert of([hits[i] for i in mixed], once=once) == pytest.approx(found[mixed], abs=1e-3)  # sums in another order


@settings(max_examples=30, deadline=None)
@given(HITS, st.sampled_from([0.5, 2.0, 4.0]))
def test_a_weighted_decoy_is_as_many(hits: Hits, weight: float) -> None:
    """A decoy that stands for two is one of half as many that stand for one."""
    heavy = of(hits, num_decoys=40, once=False, weight=weight)
    assert heavy == pytest.approx(of(hits, num_decoys=int(40 / weight), once=False), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(HITS, st.sampled_from([0.001, 3.0]), st.sampled_from([-5.0, 100.0]))
def test_the_unit_of_the_score_does_not_matter(hits: Hits, scale: float, shift: float) -> None:
    score, is_decoy = (np.array(column) for column in zip(*hits, strict=True))
    found = estimate_precision((score * scale + shift).astype(np.float64), is_decoy, 40, 20, True)  # type: ignore[arg-type]
    assert found == pytest.approx(of(hits), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_fewer_free_targets_never_lower_the_estimate(seed: int, hits: int) -> None:
    rng = np.random.default_rng(seed)
    score = -np.sort(rng.integers(0, 40, hits)).astype(np.float32)
    decoy = rng.random(hits) < np.linspace(0, 0.8, hits)
    plain, refined = (estimate_precision(score, decoy, hits, 30, once_per_target=one) for one in (False, True))
    assert (refined >= plain - 0.06).all()  # the curves' stiffness may come out differently


def test_free_targets_are_counted() -> None:
    # 900 right pairs above, then 60 hits on targets and 60 on decoys mixed evenly. Of 1000 targets 100 are free there,
    # as many as decoys: none of the 60 is right. Were all 1000 free, ten times as many wrong hits would be expected.
    decoy = np.concatenate([np.zeros(900, bool), np.tile([True, False], 60)])
    score = -np.arange(len(decoy)).astype(np.float32)
    refined = estimate_precision(score, decoy, 1000, 100, once_per_target=True)
    assert refined[:850].min() > 0.9 and refined[930:].max() < 0.3
    # With 90 hits on targets among 60 on decoys, free targets fall from 100 to 10 and free decoys from 100 to 40. For
    # each decoy hit there are as many wrong ones as targets are free for a free decoy, 0.74 on average: 44 of the 90.
    decoy = np.concatenate([np.zeros(900, bool), np.tile([True, False, False, True, False], 30)])
    score = -np.arange(len(decoy)).astype(np.float32)
    refined, conservative = (estimate_precision(score, decoy, 1000, 100, once_per_target=one) for one in (True, False))
    assert refined[900:].mean() == pytest.approx(46 / 90, abs=0.1) and conservative[910:].mean() < 0.1


def test_rows_that_are_taken_in_turn() -> None:
    """Sources in the order of their scores take their own target, or any row that is free: most targets go rightly."""
    paired, alone, targets, decoys = 270, 300, 300, 150
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        score = np.concatenate([rng.normal(2, 1, paired), rng.normal(0, 1, alone)]).astype(np.float32)
        free, hits = np.ones(targets + decoys, bool), []
        for source in np.argsort(-score)[: targets + decoys]:
            row = source if source < paired and free[source] else rng.choice(np.flatnonzero(free))
            free[row] = False
            hits.append((score[source], row >= targets, row == source))
        taken, is_decoy, right = (np.array(column) for column in zip(*hits, strict=True))
        estimate = estimate_precision(taken, is_decoy, targets, decoys, once_per_target=True)[~is_decoy]
        found.append(estimate.mean() - right[~is_decoy].mean())
    assert abs(np.mean(found)) < 0.015


def test_no_decoy_hit_is_not_a_promise() -> None:
    few = estimate_precision(np.ones(5, np.float32), np.zeros(5, bool), 10, 10, once_per_target=True)
    many = estimate_precision(np.ones(500, np.float32), np.zeros(500, bool), 1000, 1000, once_per_target=True)
    assert few.max() < 0.9 < 0.98 < many.min()
    assert len(estimate_precision(np.empty(0, np.float32), np.empty(0, bool), 10, 10, once_per_target=True)) == 0


def test_where_nothing_is_right_nothing_is_promised() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        score, decoy = rng.normal(size=1000).astype(np.float32), rng.random(1000) < 0.5
        found = estimate_precision(score, decoy, 500, 500, once_per_target=True)
        assert found.mean() < 0.12 and found.max() < 0.5


@pytest.mark.parametrize(("count", "error"), [(60, 0.08), (400, 0.04), (4000, 0.012)])
def test_random_mixture_is_calibrated(count: int, error: float) -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        score = np.concatenate([rng.normal(3, 1, count), rng.normal(0, 1, 2 * count)]).astype(np.float32)
        kind = np.repeat([0, 1, 2], count)
        estimate = estimate_precision(score, kind == 2, count, count, once_per_target=False)
        truth = 1 / (1 + np.exp(4.5 - 3 * score))  # ratio of the two normal densities
        found.append((estimate - truth)[kind != 2])
    assert np.abs(found).mean() < error


def test_far_outliers_change_little() -> None:
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(3, 1, 400), rng.normal(0, 1, 800)]).astype(np.float32)
    is_decoy = np.arange(1200) >= 800
    plain = estimate_precision(score, is_decoy, 800, 400, once_per_target=False)
    score[:2] = 1e6
    assert np.abs(estimate_precision(score, is_decoy, 800, 400, once_per_target=False) - plain)[2:].max() < 0.03


def test_caution_weighs_where_little_is_known() -> None:
    less = {}
    for count in (40, 4000):
        rng = np.random.default_rng(0)
        score = np.concatenate([rng.normal(3, 1, count), rng.normal(0, 1, 2 * count)]).astype(np.float32)
        plain, careful = (
            estimate_precision(score, np.arange(3 * count) >= 2 * count, count, count, once_per_target=False, caution=c)
            for c in (0.0, 1.0)
        )
        assert (careful <= plain + 1e-6).all() and careful.min() >= 0
        assert (np.diff(careful[np.argsort(score)]) >= 0).all()
        less[count] = float((plain - careful).mean())
    assert 0.02 < less[40] < 0.15 and 0 < less[4000] < 0.02


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": np.ones(2)}, r"score has shape \(2,\) and is_decoy \(3,\)"),
        ({"score": np.array([1, np.nan, 2])}, "score of hit 1 is not a number"),
        ({"num_decoys": 0}, "0 decoys among 5 targets"),
        ({"num_targets": 0}, "4 decoys among 0 targets"),
        ({"weight": np.array([1, 1, 0])}, "weight of hit 2 is not positive"),
        ({"caution": -0.5}, "caution is -0.5"),
    ],
)
def test_what_cannot_be_counted(changed: dict[str, object], message: str) -> None:
    given_: dict[str, object] = {"score": np.ones(3), "is_decoy": np.zeros(3, bool), "num_targets": 5, "num_decoys": 4}
    with pytest.raises(InputError, match=message):
        estimate_precision(**given_ | changed, once_per_target=True)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(ESTIMATES, st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]))
def test_keep_fdr_against_all_sets_of_best_pairs(values: list[float], fdr: float) -> None:
    estimate = np.array(values, np.float32)
    best: set[int] = set()
    for least in set(estimate[~np.isnan(estimate)].tolist()):
        chosen = {i for i, value in enumerate(estimate.tolist()) if value >= least}
        if sum(1 - estimate.tolist()[i] for i in chosen) / len(chosen) <= fdr + 1e-6 and len(chosen) > len(best):
            best = chosen
    assert set(np.flatnonzero(keep_fdr(estimate, fdr)).tolist()) == best


@given(ESTIMATES, st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
def test_keep_precision_against_a_loop(values: list[float], least: float) -> None:
    kept = keep_precision(np.array(values, np.float32), least)
    assert kept.tolist() == [not np.isnan(value) and np.float32(value) >= np.float32(least) for value in values]


def test_keeping_by_hand() -> None:
    estimate = np.array([0.5, 1.0, np.nan, 0.95, 0.95, 0.9, 0.9], np.float32)
    assert keep_precision(estimate, 0.95).tolist() == [False, True, False, True, True, False, False]
    assert keep_fdr(estimate, 0.05).tolist() == [False, True, False, True, True, False, False]  # with both 0.9: 0.06
    assert keep_fdr(estimate, 0.06).tolist() == [False, True, False, True, True, True, True]
    assert not keep_fdr(estimate[2:3], 1.0).any() and not keep_fdr(np.empty(0), 1.0).any()
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(InputError, match="fdr is"):
            keep_fdr(estimate, wrong)
        with pytest.raises(InputError, match="min_precision is"):
            keep_precision(estimate, wrong)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), st.booleans())), st.integers(1, 7))
def test_reliability_against_a_loop(pairs: list[tuple[float, bool]], bins: int) -> None:
    estimate, correct = np.array([e for e, _ in pairs]), np.array([c for _, c in pairs], bool)
    edges = np.linspace(0, 1, bins + 1)
    rows = reliability(estimate, correct, bins).to_pylist()
    assert len(rows) == bins and sum(row["pairs"] for row in rows) == len(pairs)
    for number, row in enumerate(rows):
        last = number == bins - 1
        inside = [(e, c) for e, c in pairs if edges[number] <= e and (e < edges[number + 1] or last)]
        assert (row["low"], row["high"], row["pairs"]) == (edges[number], edges[number + 1], len(inside))
        if inside:
            assert row["mean_estimate"] == pytest.approx(sum(e for e, _ in inside) / len(inside))
            assert row["precision"] == pytest.approx(sum(c for _, c in inside) / len(inside))
            assert row["precision_low"] >= -1e-9 and row["precision_high"] <= 1 + 1e-9
            # Wilson's bounds are the shares that lie 1.96 of their own standard errors from what was seen
            for bound in (row["precision_low"], row["precision_high"]):
                error = np.sqrt(max(bound * (1 - bound), 0) / len(inside))
                assert abs(row["precision"] - bound) == pytest.approx(1.959964 * error, abs=1e-6)
        else:
            assert row["mean_estimate"] is row["precision"] is row["precision_low"] is row["precision_high"] is None


def test_reliability_with_edges() -> None:
    table = reliability(np.array([0.4, 0.5, 0.9, 1.0]), np.array([1, 0, 1, 1]), np.array([0.5, 0.9, 1.0]))
    assert table.select(["low", "pairs", "precision"]).to_pydict() == {
        "low": [0.5, 0.9],
        "pairs": [1, 2],
        "precision": [0.0, 1.0],
    }
    for bins, message in ((0, "bins is 0"), (np.array([0.5, 0.5]), "bins is")):
        with pytest.raises(InputError, match=message):
            reliability(np.ones(1), np.ones(1), bins)
    with pytest.raises(InputError, match="estimate of pair 1 is not a number"):
        reliability(np.array([1, np.nan]), np.ones(2))
    with pytest.raises(InputError, match="one of each per pair"):
        reliability(np.ones(1), np.ones(2))
