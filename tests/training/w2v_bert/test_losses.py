"""The losses against slow definitions in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.training.w2v_bert.losses import contrastive, diversity, masked_prediction, perplexity

Float64 = NDArray[np.float64]


def _slow_contrastive(
    contexts: Float64, codes: Float64, chosen: NDArray[np.int64], distractors: NDArray[np.int64], temperature: float
) -> tuple[float, int]:
    """Target by target of one row, by the definition: (loss, how many are told right)."""

    def cosine(a: Float64, b: Float64) -> float:
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)) / temperature

    total, right = 0.0, 0
    for i, others in enumerate(distractors):
        own = cosine(contexts[i], codes[i])
        against = [cosine(contexts[i], codes[j]) for j in others if tuple(chosen[j]) != tuple(chosen[i])]
        total -= math.log(math.exp(own) / (math.exp(own) + sum(map(math.exp, against))))
        right += bool(against) and own > max(against)
    return total, right


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(2, 7), min_size=1, max_size=3),
    entries=st.integers(1, 4),
    distractors=st.integers(1, 6),
    seed=st.integers(0, 999),
)
def test_contrast_is_that_of_the_definition(counts: list[int], entries: int, distractors: int, seed: int) -> None:
    """Few entries, so that distractors often have the target's codes."""
    rng = np.random.default_rng(seed)
    book = rng.standard_normal((entries, entries, 5))
    chosen = rng.integers(0, entries, (sum(counts), 2))
    codes, contexts = book[chosen[:, 0], chosen[:, 1]], rng.standard_normal((sum(counts), 5))
    drawn = np.concatenate([rng.integers(0, count, (count, distractors)) for count in counts])
    as_tensor = torch.from_numpy
    found, right = contrastive(as_tensor(contexts), as_tensor(codes), as_tensor(chosen), as_tensor(drawn), counts, 0.1)
    wanted, told, start = 0.0, 0, 0
    for count in counts:
        row = slice(start, start + count)
        loss, some = _slow_contrastive(contexts[row], codes[row], chosen[row], drawn[row], 0.1)
        wanted, told, start = wanted + loss, told + some, start + count
    assert float(found) == pytest.approx(wanted, rel=1e-4, abs=1e-5) and int(right) == told


def test_half_precision_around_it_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    contexts, codes = (torch.randn(6, 12, generator=generator) for _ in range(2))
    given = contexts, codes, torch.arange(12).view(6, 2), torch.tensor([[1, 2]] + [[0, 0]] * 5), [6], 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within, _ = contrastive(*given)
    assert within.dtype == torch.float32 and torch.equal(within, contrastive(*given)[0])


def test_where_all_have_one_code_nothing_is_lost_and_nothing_told() -> None:
    """Gradients are zeros then, not NaN."""
    contexts = torch.randn(4, 3, requires_grad=True)
    loss, right = contrastive(
        contexts, torch.ones(4, 3), torch.zeros(4, 2), torch.tensor([[1, 2], [0, 3], [0, 1], [1, 2]]), [4], 0.1
    )
    loss.backward()
    assert float(loss) == 0 and int(right) == 0 and torch.equal(contexts.grad, torch.zeros(4, 3))


def test_a_distractor_with_the_targets_codes_has_no_part_in_the_gradient() -> None:
    codes = torch.tensor([[1.0, 0.2], [1.0, 0.2], [-0.3, 1.0]])
    chosen = torch.tensor([[0, 0], [0, 0], [1, 0]])
    gradients = []
    for drawn in ([[1, 2], [2, 2], [0, 1]], [[2], [2], [1]]):
        contexts = torch.tensor([[0.4, 1.0], [0.0, 1.0], [1.0, 1.0]], requires_grad=True)
        loss, _ = contrastive(contexts, codes, chosen, torch.tensor(drawn), [3], 0.1)
        gradients.append(torch.autograd.grad(loss, contexts)[0][0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


@settings(max_examples=30, deadline=None)
@given(targets=st.integers(1, 6), books=st.integers(1, 3), entries=st.integers(2, 6), seed=st.integers(0, 999))
def test_masked_prediction_is_cross_entropy(targets: int, books: int, entries: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, codes = rng.standard_normal((targets, books, entries)), rng.integers(0, entries, (targets, books))
    wanted, right = 0.0, [0] * books
    for i in range(targets):
        for b in range(books):
            total = sum(math.exp(value) for value in logits[i, b])
            wanted -= math.log(math.exp(logits[i, b, codes[i, b]]) / total) / books
            right[b] += max(range(entries), key=lambda e: logits[i, b, e]) == codes[i, b]
    found, told = masked_prediction(torch.from_numpy(logits), torch.from_numpy(codes))
    assert float(found) == pytest.approx(wanted, rel=1e-5) and told.tolist() == right


@settings(max_examples=30, deadline=None)
@given(groups=st.integers(1, 3), entries=st.integers(2, 40), seed=st.integers(0, 999))
def test_perplexity_and_diversity_are_those_of_the_definition(groups: int, entries: int, seed: int) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.full(entries, 0.3), groups)
    wanted = [math.exp(-sum(p * math.log(p) for p in row if p > 0)) for row in shares]
    found = perplexity(torch.from_numpy(shares))
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)  # 1e-7 in the logarithm
    assert float(diversity(torch.from_numpy(shares))) == pytest.approx(
        (groups * entries - sum(wanted)) / (groups * entries), rel=1e-4, abs=1e-5
    )


def test_perplexity_of_even_shares_is_their_number_and_of_one_entry_is_one() -> None:
    shares = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]], requires_grad=True)
    found = perplexity(shares)
    assert found.tolist() == pytest.approx([4, 1], rel=1e-5)
    found.sum().backward()
    assert torch.isfinite(shares.grad).all()
