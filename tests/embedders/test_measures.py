"""Precision at one against a slow count, and against what is known of simple sides."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seamlessalign.embedders import measures
from seamlessalign.embedders.measures import best_of_each, mine_best, retrieval
from seamlessalign.errors import InputError


def _slow(src: np.ndarray, tgt: np.ndarray, k: int, labels: list[int]) -> list[float]:
    """Row by row in Python."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))

    shares = []
    for one, two in ((src, tgt), (tgt, src)):
        near = [sum(sorted((cosine(a, b) for b in two), reverse=True)[:k]) / k for a in one]
        back = [sum(sorted((cosine(a, b) for a in one), reverse=True)[:k]) / k for b in two]
        plain = margin = 0
        for i, a in enumerate(one):
            scores = [cosine(a, b) for b in two]
            margins = [score / ((near[i] + back[j]) / 2) for j, score in enumerate(scores)]
            plain += labels[int(np.argmax(scores))] == labels[i]
            margin += labels[int(np.argmax(margins))] == labels[i]
        shares += [plain / len(one), margin / len(one)]
    return shares


@given(st.integers(1, 25), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_it_is_what_a_slow_count_gives(num: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    src = (rng.standard_normal((num, 8)) + 2).astype(np.float32)  # positive cosines, so that margins have one order
    tgt = (src + 0.8 * rng.standard_normal((num, 8))).astype(np.float32)
    labels = rng.integers(0, num, num).tolist()
    found = retrieval(src, tgt, k, labels)
    wanted = _slow(src.astype(np.float64), tgt.astype(np.float64), min(k, num), labels)
    assert [found.forward, found.forward_margin, found.backward, found.backward_margin] == pytest.approx(wanted)
    assert found.num_rows == num and found.xsim == pytest.approx(1 - wanted[1])


def test_margins_undo_hubs() -> None:
    """A target near to every source is the best by cosine, and not by margin."""
    rng = np.random.default_rng(0)
    src = rng.standard_normal((200, 32)).astype(np.float32) + 1
    tgt = src + rng.standard_normal((200, 32)).astype(np.float32)
    tgt[:5] = src.mean(0) + 0.02 * tgt[:5]
    found = retrieval(src, tgt)
    assert found.forward_margin > found.forward + 0.1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    src = rng.standard_normal((50, 16)).astype(np.float32)
    tgt = src + 0.9 * rng.standard_normal((50, 16)).astype(np.float32)
    whole = retrieval(src, tgt)
    monkeypatch.setattr(measures, "_SCORES", 120)
    assert retrieval(src, tgt) == whole
    turned = retrieval(tgt, src)
    assert (turned.forward, turned.backward_margin) == (whole.backward, whole.forward_margin)


def test_what_cannot_be_compared_is_told() -> None:
    rows = np.ones((3, 4), np.float32)
    with pytest.raises(InputError, match=r"shapes \(3, 4\) and \(2, 4\)"):
        retrieval(rows, rows[:2])
    with pytest.raises(InputError, match="shapes"):
        retrieval(rows[:0], rows[:0])
    for bad in (0, np.nan, np.inf):
        wrong = rows.copy()
        wrong[1] = bad
        with pytest.raises(InputError, match="target row 1 is zero or not finite"):
            retrieval(rows, wrong)


def _slow_best(src: np.ndarray, tgt: np.ndarray, k: int, among: int) -> list[tuple[int, int, float]]:
    """Row by row as LASER's xsim does it: by cosine, by margin among the nearest, and that margin.

    Sides in which two come within what 32 bit can tell apart are passed over: which of them is better is not defined.
    """
    unit = [[row / np.linalg.norm(row) for row in side.astype(np.float64)] for side in (src, tgt)]
    around = [
        [np.mean(sorted((a @ b for b in other), reverse=True)[:k]) for a in one] for one, other in (unit, unit[::-1])
    ]
    found = []
    for i, a in enumerate(unit[0]):
        order = sorted(range(len(unit[1])), key=lambda j: -(a @ unit[1][j]))
        near = order[:among]
        assume(_is_apart([a @ unit[1][j] for j in order], 1) and _is_apart([a @ unit[1][j] for j in order], among))
        margin = {j: (a @ unit[1][j]) / max((around[0][i] + around[1][j]) / 2, 1e-6) for j in near}
        best = max(near, key=lambda j: margin[j])
        assume(_is_apart(sorted(margin.values(), reverse=True), 1))
        found.append((near[0], best, margin[best]))
    return found


def _is_apart(falling: list[float], count: int) -> bool:
    """Whether the first so many values are clear of those behind them."""
    return len(falling) <= count or falling[count - 1] - falling[count] > 1e-5 * max(1, abs(falling[count - 1]))


@given(st.integers(1, 15), st.integers(1, 25), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_best_of_each_among_the_nearest_is_what_a_slow_search_finds(
    num_src: int, num_tgt: int, k: int, among: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    src = (rng.standard_normal((num_src, 6)) + 1).astype(np.float32)
    tgt = (rng.standard_normal((num_tgt, 6)) + 1).astype(np.float32)
    for (one, other), found in zip(((src, tgt), (tgt, src)), best_of_each(src, tgt, k, among), strict=True):
        wanted = _slow_best(one, other, k, among)
        assert list(zip(found.cosine.tolist(), found.margin.tolist(), strict=True)) == [row[:2] for row in wanted]
        for score, (*_, margin) in zip(found.score, wanted, strict=True):
            assert score == pytest.approx(margin, rel=1e-3, abs=1e-6) or abs(margin) > 100  # over next to nothing


def test_rows_that_are_nothing_find_nothing_and_change_nothing() -> None:
    rng = np.random.default_rng(2)
    src, tgt = (rng.standard_normal((20, 8)).astype(np.float32) + 1 for _ in range(2))
    whole = best_of_each(src, tgt, among=4)
    wider = [np.insert(side, [0, 5, 5], np.array([[0], [np.nan], [np.inf]]), axis=0) for side in (src, tgt)]
    for found, before in zip(best_of_each(wider[0], wider[1], among=4), whole, strict=True):
        there = np.delete(np.arange(23), [0, 6, 7])  # where the rows of before are now
        for now, then in ((found.cosine, before.cosine), (found.margin, before.margin)):
            assert now[there].tolist() == there[then].tolist()
            assert now[[0, 6, 7]].tolist() == [-1, -1, -1]
    nothing = np.zeros((3, 8), np.float32)
    assert best_of_each(src, nothing)[0].margin.tolist() == [-1] * 20
    assert mine_best(src, nothing)[0].tolist() == []
    with pytest.raises(InputError, match="same dimensions"):
        best_of_each(src, tgt[:, :4])
    with pytest.raises(InputError, match="it must be 1 or more"):
        best_of_each(src, tgt, k=0)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_mined_pairs_are_what_a_slow_walk_takes(num_src: int, num_tgt: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    src = (rng.standard_normal((num_src, 6)) + 1).astype(np.float32)
    tgt = (rng.standard_normal((num_tgt, 6)) + 1).astype(np.float32)
    forward = {(i, j): score for i, (_, j, score) in enumerate(_slow_best(src, tgt, 4, 4))}
    backward = {(i, j): score for j, (_, i, score) in enumerate(_slow_best(tgt, src, 4, 4))}
    both = sorted((forward | backward).items(), key=lambda pair: -pair[1])
    taken: list[tuple[int, int]] = []
    for (i, j), _ in both:
        if all(i != a and j != b for a, b in taken):
            taken.append((i, j))
    for how, wanted in (
        ("forward", set(forward)),
        ("backward", set(backward)),
        ("intersect", set(forward) & set(backward)),
        ("max", set(taken)),
    ):
        rows, others, margins = mine_best(src, tgt, how=how)  # type: ignore[arg-type]
        pairs = list(zip(rows.tolist(), others.tolist(), strict=True))
        assert set(pairs) == wanted and len(pairs) == len(wanted)
        assert margins == pytest.approx([(forward | backward)[pair] for pair in pairs], rel=1e-4)
        assert np.all(np.diff(margins) <= 0)


def test_where_neighbours_point_the_other_way_the_nearer_row_stays_the_better_one() -> None:
    src = np.array([[1, 0.1], [-1, 0]], np.float32)
    tgt = np.array([[-1, 0.2], [0.1, 1], [-1, -0.3]], np.float32)
    best, back = best_of_each(src, tgt)
    assert best.margin[0] == best.cosine[0] == 1  # the mean cosine around them is below 0
    assert back.margin.tolist() == [1, 0, 1]
    assert np.isfinite(best.score).all() and np.isfinite(back.score).all()
