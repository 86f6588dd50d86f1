"""The losses of a unit vocoder, each summed over rows, so that processes can share a batch.

HiFi-GAN's (arXiv 2010.05646, section 2.3): equations 1 and 2 (least squares), 4 (mel spectrogram) and 5 (features).
"""

from collections.abc import Sequence
from typing import Any


def discriminator_loss(true: Sequence[Any], made: Sequence[Any]) -> Any:
    """Scores `(rows, …)` of each discriminator should be 1 of true speech and 0 of what was made."""
    return sum(
        _rows_mean((1 - real).square()) + _rows_mean(fake.square()) for real, fake in zip(true, made, strict=True)
    )


def adversarial_loss(made: Sequence[Any]) -> Any:
    """What was made should have scores of 1."""
    return sum(_rows_mean((1 - score).square()) for score in made)


def feature_loss(true: Sequence[Sequence[Any]], made: Sequence[Sequence[Any]]) -> Any:
    """The mean difference of what each layer of each discriminator finds, scores included as in its authors' code."""
    return sum(
        _rows_mean((real - fake).abs())
        for reals, fakes in zip(true, made, strict=True)
        for real, fake in zip(reals, fakes, strict=True)
    )


def mel_loss(true: Any, made: Any) -> Any:
    """The mean difference of log-mel spectrograms `(rows, mels, frames)`."""
    return _rows_mean((true - made).abs())


def duration_loss(logarithms: Any, durations: Any) -> Any:
    """Squared errors of log(d + 1), `(rows, units)`, summed; units whose duration is 0 are padding."""
    there = durations > 0
    return (logarithms.float() - (durations.float() + 1).log()).square().mul(there).sum()


def _rows_mean(values: Any) -> Any:
    """The mean of each row, summed over rows."""
    return values.float().flatten(1).mean(1).sum()
