"""Codebooks: hard choices and their soft gradients, noise by row, and nearest entries by loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.training.w2v_bert.codebooks import GumbelQuantiser, ProjectionQuantiser, gumbel_noise
from seamlessalign.training.w2v_bert.config import GumbelSettings, ProjectionSettings


def _quantiser(seed: int = 0) -> GumbelQuantiser:
    torch.manual_seed(seed)
    return GumbelQuantiser(6, GumbelSettings(groups=2, entries=5, dim=8))


class TestGumbel:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 999), temperature=st.floats(0.1, 2), noisy=st.booleans())
    def test_codes_are_those_of_a_loop(self, seed: int, temperature: float, noisy: bool) -> None:
        quantiser = _quantiser(seed)
        inputs = torch.randn(7, 6)
        noise = gumbel_noise([seed], [7], 2, 5, "cpu") if noisy else None
        codes = quantiser(inputs, noise, temperature)
        weight, book = quantiser.logits.weight.detach().numpy(), quantiser.codebook.detach().numpy()
        for i, row in enumerate(inputs.numpy()):
            vectors = []
            for g in range(2):
                logits = [float(weight[g * 5 + e] @ row) for e in range(5)]
                heard = [logits[e] + (float(noise[i, g, e]) if noise is not None else 0.0) for e in range(5)]
                best = max(range(5), key=lambda e: heard[e])
                assert int(codes.chosen[i, g]) == best
                vectors.append(book[g, best])
                total = sum(math.exp(value) for value in logits)
                wanted = [math.exp(value) / total for value in logits]
                assert codes.shares[i, g].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
            np.testing.assert_array_equal(codes.vectors[i].detach().numpy(), np.concatenate(vectors))

    def test_the_gradient_is_that_of_the_soft_choice(self) -> None:
        """Of a loss that is linear in the vectors, against a numerical derivative of the soft choice."""
        quantiser, temperature = _quantiser().double(), 0.7
        inputs, weights = torch.randn(3, 6).double(), torch.randn(3, 8).double()
        noise = gumbel_noise([4], [3], 2, 5, "cpu").double()

        def soft(weight: torch.Tensor) -> float:
            logits = (inputs @ weight.T).view(3, 2, 5)
            choice = ((logits + noise) / temperature).softmax(-1)
            return float((torch.einsum("nge,ged->ngd", choice, quantiser.codebook).flatten(1) * weights).sum())

        (quantiser(inputs, noise, temperature).vectors * weights).sum().backward()
        found, weight = quantiser.logits.weight.grad, quantiser.logits.weight.detach()
        for place in ((0, 0), (3, 5), (9, 2)):
            moved = torch.zeros_like(weight)
            moved[place] = 1e-5
            slope = (soft(weight + moved) - soft(weight - moved)) / 2e-5
            assert float(found[place]) == pytest.approx(slope, rel=1e-4, abs=1e-8)

    def test_only_entries_that_were_chosen_learn(self) -> None:
        quantiser = _quantiser()
        codes = quantiser(torch.randn(4, 6), gumbel_noise([1], [4], 2, 5, "cpu"), 1.0)
        codes.vectors.sum().backward()
        chosen = torch.zeros(2, 5, dtype=torch.bool)
        for g in range(2):
            chosen[g, codes.chosen[:, g]] = True
        learnt = quantiser.codebook.grad.abs().sum(-1) > 1e-6
        assert torch.equal(learnt, chosen)

    def test_the_temperature_falls_as_it_should(self) -> None:
        settings = GumbelSettings()
        assert settings.temperature(0) == 2.0
        assert settings.temperature(100_000) == pytest.approx(2 * math.exp(100_000 * math.log(0.999995)))
        assert settings.temperature(10_000_000) == 0.1


class TestNoise:
    def test_a_rows_noise_is_its_own(self) -> None:
        whole = gumbel_noise([7, 8, 9], [3, 1, 4], 2, 5, "cpu")
        assert whole.shape == (8, 2, 5)
        torch.testing.assert_close(whole[3:4], gumbel_noise([8], [1], 2, 5, "cpu"), rtol=0, atol=0)
        torch.testing.assert_close(whole[[0, 1, 2, 4, 5, 6, 7]], gumbel_noise([7, 9], [3, 4], 2, 5, "cpu"))
        assert gumbel_noise([], [], 2, 5, "cpu").shape == (0, 2, 5)

    def test_it_is_gumbels(self) -> None:
        """Mean: Euler's constant; variance: π² / 6. And nothing of torch's own generator is drawn."""
        before = torch.get_rng_state()
        noise = gumbel_noise([3], [200_000], 1, 1, "cpu")
        assert torch.equal(before, torch.get_rng_state()) and torch.isfinite(noise).all()
        assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
        assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)


class TestProjections:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
    def test_codes_are_the_nearest_entries(self, seed: int, scale: float) -> None:
        quantiser = ProjectionQuantiser(6, ProjectionSettings(codebooks=2, entries=9, dim=4), seed)
        inputs = scale * np.random.default_rng(seed).standard_normal((5, 6)).astype(np.float32)
        found = quantiser(torch.from_numpy(inputs))
        projections, entries = quantiser.projections.numpy(), quantiser.entry_vectors.numpy()
        for i, row in enumerate(inputs.astype(np.float64)):
            row = (row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).mean() + 1e-5)
            for b in range(2):
                projected = row @ projections[b]
                projected = projected / np.sqrt((projected**2).sum())
                distances = [float(((entry - projected) ** 2).sum()) for entry in entries[b]]
                assert distances[int(found[i, b])] == pytest.approx(min(distances), abs=1e-5)

    def test_they_are_drawn_by_the_seed_and_never_learn(self) -> None:
        settings = ProjectionSettings(codebooks=2, entries=400, dim=16)
        one, again, other = (ProjectionQuantiser(160, settings, seed) for seed in (1, 1, 2))
        assert torch.equal(one.projections, again.projections) and torch.equal(one.entry_vectors, again.entry_vectors)
        assert not torch.equal(one.projections, other.projections)
        assert not list(one.parameters()) and set(one.state_dict()) == {"projections", "entry_vectors"}
        torch.testing.assert_close(one.entry_vectors.norm(dim=-1), torch.ones(2, 400))
        # Xavier: even between ± √(6 / (160 + 16)), so a variance of 2 / (160 + 16)
        assert float(one.projections.abs().max()) <= math.sqrt(6 / 176)
        assert float(one.projections.var()) == pytest.approx(2 / 176, rel=0.05)
