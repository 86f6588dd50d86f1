"""Precision at one against a slow count, and against what is known of simple sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.embedders import measures
from seamlessalign.embedders.measures import retrieval
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
