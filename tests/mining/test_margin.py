"""Margins against the formulas written out in loops."""

from typing import Any

import numpy as np
import pytest

from seamlessalign.errors import InputError
from seamlessalign.mining import neighbours
from seamlessalign.mining.groups import Labels
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.margin import margin, margins, nearest, neighbourhood
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


def test_lists_of_different_widths_and_means_over_fewer() -> None:
    rng = np.random.default_rng(2)
    src, tgt = rng.standard_normal((2, 20, 6)).astype(np.float32)
    forward, backward = neighbours(src, tgt, (3, 7), "exact")
    assert (forward.index.shape, backward.index.shape) == ((20, 3), (20, 7))
    ahead, back = margins(forward, backward)
    wide = neighbours(src, tgt, 12, "exact")
    fewer = margins(*wide, k=(3, 7))
    assert (fewer[0][:, :3] == ahead).all() and (fewer[1][:, :7] == back).all()
    scores = slow.cosine_matrix(src, tgt)
    x, y = 4, int(forward.index[4, 2])
    ours, theirs = sorted(scores[x], reverse=True)[:3], sorted(scores[:, y], reverse=True)[:7]
    assert ahead[4, 2] == pytest.approx(by_hand("ratio", scores[x, y], ours, theirs), rel=1e-6)


def test_near_duplicates_count_once() -> None:
    """Eight copies of the target change the margin of the right pair, but not where those that are alike count once."""
    rng = np.random.default_rng(3)
    src, tgt = rng.standard_normal((2, 40, 16)).astype(np.float32)
    src[0] = tgt[0] + 0.1 * src[0]
    copies = tgt[0] + 0.05 * rng.standard_normal((8, 16)).astype(np.float32)
    many = np.concatenate([tgt, copies])
    group = Labels(np.append(np.arange(40), np.zeros(8, np.int64)))
    plain, crowded = (margins(*neighbours(src, rows, 4, "exact"))[0] for rows in (tgt, many))
    forward, backward = neighbours(src, many, 12, "exact")
    once = margins(forward, backward, k=4, tgt_alike=group)[0]
    assert crowded[0, 0] < 0.8 * plain[0, 0]
    assert once[0, 0] == pytest.approx(plain[0, 0], rel=0.02)


def test_the_mean_is_over_the_nearest_of_those_that_are_alike() -> None:
    lists = Neighbours(np.array([[0.9, 0.8, 0.6, 0.4]], np.float32), np.array([[3, 0, 1, 2]]))
    alike = Labels(np.array([5, 7, 7, 5]))
    assert neighbourhood(lists, 2, alike) == pytest.approx([(0.9 + 0.6) / 2])
    assert neighbourhood(lists, 1, alike) == pytest.approx([0.9])
    assert neighbourhood(lists, 9, alike) == pytest.approx([(0.9 + 0.6) / 2])
    assert neighbourhood(lists, 3) == pytest.approx([(0.9 + 0.8 + 0.6) / 3])
    assert nearest(lists, 2).index.tolist() == [[3, 0]]


def test_lists_that_do_not_fit() -> None:
    one, none = Neighbours(np.ones((2, 1), np.float32), np.array([[0], [1]])), np.array([[0], [-1]])
    with pytest.raises(InputError, match="backward neighbours of row 1 are not among the 2 rows"):
        margins(one, Neighbours(one.cosine, none))
    with pytest.raises(InputError, match="forward neighbours are among 2 rows, and 3 are said to be alike or not"):
        margins(one, one, tgt_alike=Labels(np.zeros(3, np.int64)))


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
