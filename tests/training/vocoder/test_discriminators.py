"""The discriminators: their shapes as published, what each hears, and judging without learning."""

import pytest
import torch

from seamlessalign.training.vocoder.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
    without_learning,
)
from seamlessalign.training.vocoder.sizes import DiscriminatorSizes

SMALL = DiscriminatorSizes(channels=2, periods=[2, 3], scales=2)


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return torch.randn(3, 1600, generator=torch.Generator().manual_seed(0)) * 0.3


def _published_weights() -> int:
    """Weights and biases of HiFi-GAN's, by the layers of its appendix: (into, out of, kernel, groups)."""
    period = [(1, 32, 5, 1), (32, 128, 5, 1), (128, 512, 5, 1), (512, 1024, 5, 1), (1024, 1024, 5, 1), (1024, 1, 3, 1)]
    scale = [(1, 128, 15, 1), (128, 128, 41, 4), (128, 256, 41, 16), (256, 512, 41, 16), (512, 1024, 41, 16),
             (1024, 1024, 41, 16), (1024, 1024, 5, 1), (1024, 1, 3, 1)]  # fmt: skip
    count = sum(a // groups * b * kernel + b for a, b, kernel, groups in period) * 5
    return count + sum(a // groups * b * kernel + b for a, b, kernel, groups in scale) * 3


def test_they_are_as_large_as_published() -> None:
    with torch.device("meta"):
        made = Discriminators(DiscriminatorSizes())
    found = sum(
        module.weight.numel() + module.bias.numel()
        for module in made.modules()
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d)
    )
    assert found == _published_weights()


def test_each_gives_what_its_layers_find_and_a_score(speech: torch.Tensor) -> None:
    found = Discriminators(SMALL)(speech)
    assert [len(one) for one in found] == [6, 6, 8, 8]
    assert found[0][-1].shape == (3, 1, 10, 2) and found[1][-1].shape == (3, 1, 7, 3)  # 800 and 534 over 3^4
    assert found[2][-1].shape == (3, 1, 25) and found[3][-1].shape == (3, 1, 13)  # 1600 and 801 over 2 · 2 · 4 · 4


def test_a_column_hears_samples_that_are_a_period_apart(speech: torch.Tensor) -> None:
    one = PeriodDiscriminator(5, 2)
    other = speech.clone()
    other[:, 3::5] += 0.1
    for before, after in zip(one(speech[:, None]), one(other[:, None]), strict=True):
        unlike = (before != after).any(0).any(0).any(0)
        assert unlike.tolist() == [False, False, False, True, False]


def test_the_end_is_mirrored_to_whole_periods(speech: torch.Tensor) -> None:
    one, cut = PeriodDiscriminator(7, 2), speech[:, None, :1000]  # 6 of 7 in its last period
    whole = torch.cat([cut, cut[..., -2:-1]], 2)
    for before, after in zip(one(cut), one(whole), strict=True):
        assert torch.equal(before, after)


def test_scales_hear_lower_rates(speech: torch.Tensor) -> None:
    made = Discriminators(DiscriminatorSizes(channels=2, periods=[2], scales=3)).eval()
    padded = torch.nn.functional.pad(speech, (2, 2))
    half = torch.stack([padded[:, start : start + 4].mean(1) for start in range(0, 1601, 2)], 1)
    again = torch.nn.functional.pad(half, (2, 2))
    quarter = torch.stack([again[:, start : start + 4].mean(1) for start in range(0, 802, 2)], 1)
    for number, state in enumerate((speech, half, quarter)):
        expected = made.scales[number](state[:, None])
        torch.testing.assert_close(made(speech)[1 + number], expected, atol=1e-5, rtol=1e-4)


def test_groups_fit_any_number_of_channels(speech: torch.Tensor) -> None:
    found = ScaleDiscriminator(1, torch.nn.utils.parametrizations.weight_norm)(speech[:, None])
    assert found[-1].shape == (3, 1, 25)


def test_they_can_judge_without_learning(speech: torch.Tensor) -> None:
    made = Discriminators(SMALL)
    learning = made(speech)
    heard = speech.clone().requires_grad_()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = without_learning(made, heard)
    for ours, theirs in zip(found, learning, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)  # spectral normalisation included
    sum(one[-1].sum() for one in found).backward()
    assert heard.grad is not None and heard.grad.abs().sum() > 0
    assert all(value.grad is None for value in made.parameters()) and made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
