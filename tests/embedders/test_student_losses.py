"""Losses against slow sums over pairs; what means the same is no negative."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.embedders.student.losses import Term, contrastive, cosine, mse, total_loss
from seamlessalign.embedders.student.targets import Meaning, labels, same_meaning
from seamlessalign.embedders.student.training_config import LossesConfig


def _rows(count: int, seed: int, dim: int = 5) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, dim)))


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def _slow_contrastive(rows: Any, targets: Any, same: Any, temperature: float, wrong: Any) -> float:
    """Term by term, over exponentials, both ways."""
    x, y, z = rows.tolist(), targets.tolist(), wrong.tolist()
    total = 0.0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j == i or not same[i][j]]
        right = math.exp(_cosine(x[i], y[i]) / temperature)
        forward = sum(math.exp(_cosine(x[i], y[j]) / temperature) for j in others)
        backward = sum(math.exp(_cosine(x[j], y[i]) / temperature) for j in others)
        backward += sum(math.exp(_cosine(w, y[i]) / temperature) for w in z)
        total -= math.log(right / forward) / 2 + math.log(right / backward) / 2
    return total / len(x)


@given(st.integers(1, 7), st.integers(0, 3), st.integers(0, 2**31), st.floats(0.05, 2))
@settings(max_examples=30, deadline=None)
def test_contrastive_is_the_slow_sum(count: int, num_wrong: int, seed: int, temperature: float) -> None:
    kinds = np.random.default_rng(seed).integers(0, 4, count)
    same = torch.from_numpy(kinds[:, None] == kinds[None])
    rows, targets, wrong = _rows(count, seed), _rows(count, seed + 1), _rows(num_wrong, seed + 2)
    made = float(contrastive(rows, targets, same, temperature, wrong))
    assert made == pytest.approx(_slow_contrastive(rows, targets, same.tolist(), temperature, wrong), rel=1e-8)


def test_mse_and_cosine_are_the_slow_sums() -> None:
    rows, targets = _rows(6, 0), _rows(6, 1)
    pairs = list(zip(rows.tolist(), targets.tolist(), strict=True))
    assert float(mse(rows, targets)) == pytest.approx(
        sum(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in pairs) / 6
    )
    assert float(cosine(rows, targets)) == pytest.approx(sum(1 - _cosine(a, b) for a, b in pairs) / 6)


def test_a_duplicate_pushes_nothing_away() -> None:
    """The row of an item has no gradient from the target of another that says the same."""
    rows, targets = _rows(3, 0).requires_grad_(), _rows(3, 1).requires_grad_()
    alike = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    contrastive(rows[:1], targets[:1], alike[:1, :1], 0.1).backward()
    assert torch.equal(rows.grad, torch.zeros_like(rows))  # one item alone is always found
    contrastive(rows[:2], targets[:2], alike[:2, :2], 0.1).backward()
    assert float(rows.grad.abs().max()) < 1e-12  # and so are two of the same
    contrastive(rows[:2], targets[:2], torch.eye(2, dtype=torch.bool), 0.1).backward()
    assert float(rows.grad.abs().max()) > 1e-3


def test_the_same_is_what_shares_a_text_in_any_language() -> None:
    meanings = [
        Meaning("fra", "Bonjour !", {"eng": "Hello."}),
        Meaning("spa", "Hola", {"eng": "hello"}),
        Meaning("eng", "HELLO", {}),
        Meaning("fra", "bonjour", {}),
        Meaning("spa", "adiós", {"eng": "Good-bye"}),
        Meaning("deu", "Hallo", {}),
    ]
    same = same_meaning(torch.from_numpy(labels(meanings, ["deu", "eng", "fra", "spa"])))
    pairs = {(0, 1), (0, 2), (1, 2), (0, 3)}
    for i in range(len(meanings)):
        for j in range(len(meanings)):
            assert bool(same[i, j]) == (i == j or (min(i, j), max(i, j)) in pairs), (i, j)


def test_terms_count_by_weight_and_by_how_many_have_them() -> None:
    rows = _rows(4, 0)
    first, second = _rows(4, 1), _rows(4, 2)
    there = torch.tensor([True, False, False, True])
    every = torch.ones(4, dtype=torch.bool)
    losses = LossesConfig(mse=2.0, cosine=0.5)
    total, parts = total_loss(losses, rows, [Term(first, every, 1.0), Term(second, there, 3.0)], torch.eye(4).bool())
    share = 1 / (1 + 3 * 0.5)
    wanted = share * mse(rows, first) + (1 - share) * mse(rows[there], second[there])
    assert float(parts["mse"]) == pytest.approx(float(wanted))
    assert float(total) == pytest.approx(float(2 * parts["mse"] + 0.5 * parts["cosine"]))
    assert "contrastive" not in parts
    alone, _ = total_loss(losses, rows, [Term(first, every, 1.0), Term(second, ~every, 3.0)], torch.eye(4).bool())
    assert float(alone) == pytest.approx(float(2 * mse(rows, first) + 0.5 * cosine(rows, first)))
