"""The precision estimate against slow counting and hand-computed cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.mining.precision import estimate_precision


def slow_rates(wrong: list[float], targets: list[float], extra: float) -> list[float]:
    """Rate of each group by max-min over ratios of sums: the textbook form of isotonic regression."""
    bad, good = [extra, *wrong], [0.0, *targets]
    count = len(bad)

    def ratio(left: int, right: int) -> float:
        total = sum(good[left : right + 1])
        return sum(bad[left : right + 1]) / total if total else (np.inf if sum(bad[left : right + 1]) else 0.0)

    return [
        max(min(ratio(left, right) for right in range(group, count)) for left in range(group + 1))
        for group in range(1, count)
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 30),
    st.integers(1, 9),
)
def test_conservative_form_equals_slow_isotonic_regression(
    hits: list[tuple[int, bool]], num_targets: int, num_decoys: int
) -> None:
    hits = sorted(hits, key=lambda hit: -hit[0])
    score = np.array([value for value, _ in hits], np.float32)
    decoy = np.array([is_decoy for _, is_decoy in hits])
    values = sorted(set(score.tolist()), reverse=True)
    each = num_targets / num_decoys
    wrong = [each * sum(d for v, d in hits if v == value) for value in values]
    targets = [float(sum(not d for v, d in hits if v == value)) for value in values]
    rates = dict(zip(values, slow_rates(wrong, targets, each), strict=True))
    estimate = estimate_precision(score, decoy, num_targets, num_decoys, once_per_target=False)
    assert estimate.dtype == np.float32
    for value, is_decoy, found in zip(score.tolist(), decoy, estimate, strict=True):
        if not is_decoy:
            assert found == pytest.approx(1 - min(1, rates[value]), abs=1e-6)
    assert (np.diff(estimate) <= 0).all()


def test_hand_computed() -> None:
    # 10 targets, a decoy, 2 targets, a decoy. |Y| = |Z|: one wrong hit for each decoy hit, and one to begin with.
    decoy = np.array([False] * 10 + [True] + [False] * 2 + [True])
    score = np.arange(14, 0, -1).astype(np.float32)
    estimate = estimate_precision(score, decoy, 100, 100, once_per_target=False)
    assert estimate[:10] == pytest.approx([0.9] * 10)
    assert estimate[11:13] == pytest.approx([0.5] * 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_fewer_free_targets_never_lower_the_estimate(seed: int, hits: int) -> None:
    rng = np.random.default_rng(seed)
    score = -np.sort(rng.integers(0, 40, hits)).astype(np.float32)
    decoy = rng.random(hits) < np.linspace(0, 0.8, hits)
    plain, refined = (estimate_precision(score, decoy, hits, 30, once_per_target=one) for one in (False, True))
    assert (refined >= plain - 1e-6).all() and (np.diff(refined) <= 0).all()
    assert ((refined >= 0) & (refined < 1)).all()


def test_refinement_settles_where_the_counts_agree() -> None:
    # 900 right pairs above, then 60 hits on free targets and 60 on decoys mixed evenly: all of the 60 are wrong.
    decoy = np.concatenate([np.zeros(900, bool), np.tile([True, False], 60)])
    score = -np.arange(len(decoy)).astype(np.float32)
    refined = estimate_precision(score, decoy, 1000, 100, once_per_target=True)
    conservative = estimate_precision(score, decoy, 1000, 100, once_per_target=False)
    assert refined[:900] == pytest.approx(1 - 10 / 900, abs=1e-6)  # one decoy hit more than was seen, 1000 / 100 each
    # 110 targets are expected to be free (900 - 10 right), so 1.1 wrong hits per decoy hit: none of the 60 is right
    assert refined[900:].max() == 0 and conservative[900:].max() == 0
    assert conservative[0] == refined[0]


def test_no_decoy_hit_is_not_a_promise() -> None:
    few = estimate_precision(np.ones(5, np.float32), np.zeros(5, bool), 10, 10, once_per_target=True)
    assert few == pytest.approx([0.8] * 5)
    assert len(estimate_precision(np.empty(0, np.float32), np.empty(0, bool), 10, 10, once_per_target=True)) == 0


def test_random_mixture_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    right, wrong, decoys = rng.normal(3, 1, 4000), rng.normal(0, 1, 4000), rng.normal(0, 1, 4000)
    score = np.concatenate([right, wrong, decoys]).astype(np.float32)
    order = np.argsort(-score)
    kind = np.repeat([0, 1, 2], 4000)[order]
    estimate = estimate_precision(score[order], kind == 2, 4000, 4000, once_per_target=False)
    truth = 1 / (1 + np.exp(4.5 - 3 * score[order]))  # ratio of the two normal densities
    assert np.abs(estimate - truth)[kind != 2].mean() < 0.02
