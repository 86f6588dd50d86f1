"""Margins against the formulas written out in loops."""

from typing import Any

import numpy as np
import pytest

from seamlessalign.errors import InputError
from seamlessalign.mining import neighbours
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.margin import margin, margins
from tests.mining import slow


def by_hand(kind: str, cosine: float, ours: list[float], theirs: list[float]) -> float:
    base = sum(ours) / len(ours) / 2 + sum(theirs) / len(theirs) / 2
    return {"ratio": cosine / base, "distance": cosine - base, "absolute": cosine}[kind]


@pytest.mark.parametrize("kind", ["ratio", "distance", "absolute"])
def test_formulas_on_both_sides(kind: str) -> None:
    rng = np.random.default_rng(0)
    src, tgt = (1 + rng.standard_normal((n, 7)).astype(np.float32) for n in (9, 12))
    scores = slow.cosine_matrix(src, tgt)
    k = 4
    near_src = [sorted(row, reverse=True)[:k] for row in scores.tolist()]
    near_tgt = [sorted(row, reverse=True)[:k] for row in scores.T.tolist()]
    forward, backward = neighbours(src, tgt, k, "exact")
    ahead, back = margins(forward, backward, kind)
    assert ahead.dtype == back.dtype == np.float32
    for x in range(9):
        for place, y in enumerate(forward.index[x]):
            assert ahead[x, place] == pytest.approx(
                by_hand(kind, scores[x, y], near_src[x], near_tgt[y]), rel=1e-6, abs=1e-6
            )
    for y in range(12):
        for place, x in enumerate(backward.index[y]):
            assert back[y, place] == pytest.approx(
                by_hand(kind, scores[x, y], near_src[x], near_tgt[y]), rel=1e-6, abs=1e-6
            )


def test_a_pair_has_the_same_margin_from_both_sides() -> None:
    rng = np.random.default_rng(1)
    src, tgt = rng.standard_normal((2, 30, 5)).astype(np.float32)
    forward, backward = neighbours(src, tgt, 30, "exact")
    ahead, back = margins(forward, backward)
    from_src = {(x, y): m for x in range(30) for y, m in zip(forward.index[x], ahead[x], strict=True)}
    from_tgt = {(x, y): m for y in range(30) for x, m in zip(backward.index[y], back[y], strict=True)}
    assert from_src == from_tgt


def test_hand_computed() -> None:
    forward = Neighbours(np.array([[0.8, 0.4]], np.float32), np.array([[1, 0]]))
    backward = Neighbours(np.array([[0.4], [0.8]], np.float32), np.array([[0], [0]]))
    ahead, back = margins(forward, backward, "ratio")
    assert ahead[0] == pytest.approx([0.8 / (0.3 + 0.4), 0.4 / (0.3 + 0.2)])
    assert back[:, 0] == pytest.approx([0.4 / (0.3 + 0.2), 0.8 / (0.3 + 0.4)])


def test_a_ratio_without_meaning_stays_finite_and_keeps_the_sign(caplog: pytest.LogCaptureFixture) -> None:
    cosine = np.array([0.5, -0.5, 0.25])
    base: Any = np.array([0.0, -0.3, -0.9])
    out = margin(cosine, base, base, "ratio")
    assert np.isfinite(out).all() and out[0] > out[2] > 1000 and out[1] < -1000
    assert "3 candidates have neighbours" in caplog.text


def test_unknown_margin() -> None:
    with pytest.raises(InputError, match="margin is 'cosine': choose one of ratio, distance, absolute"):
        margin(np.ones(1), np.ones(1), np.ones(1), "cosine")
