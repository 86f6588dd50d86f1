"""Each loss against loops over numbers."""

import math

import pytest
import torch

from seamlessalign.training.vocoder.losses import (
    adversarial_loss,
    discriminator_loss,
    duration_loss,
    feature_loss,
    mel_loss,
)

SHAPES = [(3, 1, 7), (3, 1, 4, 2), (3, 2, 5)]  # three rows, as of three layers


def _drawn(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def _numbers(row: torch.Tensor) -> list[float]:
    return [float(value) for value in row.flatten()]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def test_discriminators_should_tell_what_is_true() -> None:
    true, made = _drawn(0), _drawn(1)
    expected = math.fsum(
        _mean([(1 - x) ** 2 for x in _numbers(real[row])]) + _mean([x**2 for x in _numbers(fake[row])])
        for real, fake in zip(true, made, strict=True)
        for row in range(3)
    )
    assert float(discriminator_loss(true, made)) == pytest.approx(expected, rel=1e-5)
    perfect = [torch.ones(2, 5)], [torch.zeros(2, 5)]
    assert float(discriminator_loss(*perfect)) == 0 and float(discriminator_loss(*perfect[::-1])) == 4


def test_the_generator_should_not_be_told() -> None:
    made = _drawn(2)
    expected = math.fsum(_mean([(1 - x) ** 2 for x in _numbers(score[row])]) for score in made for row in range(3))
    assert float(adversarial_loss(made)) == pytest.approx(expected, rel=1e-5)
    assert float(adversarial_loss([torch.ones(2, 5)])) == 0


def test_features_should_be_those_of_true_speech() -> None:
    true, made = [_drawn(3), _drawn(4)[:1]], [_drawn(5), _drawn(6)[:1]]
    expected = math.fsum(
        _mean([abs(x - y) for x, y in zip(_numbers(real[row]), _numbers(fake[row]), strict=True)])
        for reals, fakes in zip(true, made, strict=True)
        for real, fake in zip(reals, fakes, strict=True)
        for row in range(3)
    )
    assert float(feature_loss(true, made)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_loss(true, true)) == 0


def test_spectrograms() -> None:
    true, made = _drawn(7)[2], _drawn(8)[2]
    rows = [
        _mean([abs(x - y) for x, y in zip(_numbers(true[row]), _numbers(made[row]), strict=True)]) for row in range(3)
    ]
    assert float(mel_loss(true, made)) == pytest.approx(math.fsum(rows), rel=1e-5)


def test_durations_are_learnt_by_their_logarithms_and_padding_is_not() -> None:
    durations = torch.tensor([[1, 7, 0, 0], [2, 1, 30, 4]])
    found = torch.randn(2, 4, generator=torch.Generator().manual_seed(9))
    expected = math.fsum(
        (float(found[row, place]) - math.log(int(durations[row, place]) + 1)) ** 2
        for row in range(2)
        for place in range(4)
        if durations[row, place]
    )
    assert float(duration_loss(found, durations)) == pytest.approx(expected, rel=1e-5)
    found[0, 2:] = 100.0
    assert float(duration_loss(found, durations)) == pytest.approx(expected, rel=1e-5)


def test_rows_can_be_shared_out() -> None:
    """The losses of a batch are the sums of those of its parts."""
    true, made = _drawn(10), _drawn(11)
    parts = [([x[row] for x in true], [x[row] for x in made]) for row in (slice(0, 1), slice(1, 3))]
    for loss in (discriminator_loss, lambda a, b: feature_loss([a], [b]), lambda a, b: mel_loss(a[0], b[0])):
        assert float(sum(loss(*part) for part in parts)) == pytest.approx(float(loss(true, made)), rel=1e-5)
