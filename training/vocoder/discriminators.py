"""HiFi-GAN's discriminators (arXiv 2010.05646, section 2.2): of periods, and of scales.

Each gives what its layers find, the last of which is its score: high for true speech, low for what is made.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from seamlessalign.training.vocoder.sizes import DiscriminatorSizes

_SLOPE = 0.1  # of the leaky ReLUs


class PeriodDiscriminator(nn.Module):  # type: ignore[misc]
    """Speech folded to rows of a period, so that each column has samples that are a period apart."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        sizes = [1, channels, 4 * channels, 16 * channels, 32 * channels]
        layers = [nn.Conv2d(before, after, (5, 1), (3, 1), padding=(2, 0)) for before, after in pairwise(sizes)]
        layers.append(nn.Conv2d(sizes[-1], sizes[-1], (5, 1), padding=(2, 0)))
        self.layers = nn.ModuleList([weight_norm(layer) for layer in layers])
        self.score = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, speech: Any) -> list[Any]:
        """Speech `(rows, 1, num_samples)`, which is mirrored at its end to whole periods."""
        rows, _, length = speech.shape
        lacking = -length % self.period
        state = nn.functional.pad(speech, (0, lacking), mode="reflect") if lacking else speech
        state = state.view(rows, 1, -1, self.period)
        return _through(self.layers, self.score, state)


class ScaleDiscriminator(nn.Module):  # type: ignore[misc]
    """Speech as it is, or of a lower rate."""

    def __init__(self, channels: int, norm: Any) -> None:
        super().__init__()
        c = channels
        # channels before and after, kernel, stride, groups
        shapes = [
            (1, 4 * c, 15, 1, 1),
            (4 * c, 4 * c, 41, 2, 4),
            (4 * c, 8 * c, 41, 2, 16),
            (8 * c, 16 * c, 41, 4, 16),
            (16 * c, 32 * c, 41, 4, 16),
            (32 * c, 32 * c, 41, 1, 16),
            (32 * c, 32 * c, 5, 1, 1),
        ]
        self.layers = nn.ModuleList(
            [
                norm(nn.Conv1d(before, after, kernel, stride, kernel // 2, groups=math.gcd(groups, before, after)))
                for before, after, kernel, stride, groups in shapes
            ]
        )
        self.score = norm(nn.Conv1d(32 * c, 1, 3, padding=1))

    def forward(self, speech: Any) -> list[Any]:
        """Speech `(rows, 1, num_samples)`."""
        return _through(self.layers, self.score, speech)


class Discriminators(nn.Module):  # type: ignore[misc]
    """All of them: speech `(rows, num_samples)` → for each one what its layers find, `(rows, …)`, its score last."""

    def __init__(self, sizes: DiscriminatorSizes) -> None:
        super().__init__()
        self.periods = nn.ModuleList([PeriodDiscriminator(period, sizes.channels) for period in sizes.periods])
        # the one that hears the speech as it is has spectral normalisation, all others weight normalisation
        norms = [spectral_norm, *[weight_norm] * (sizes.scales - 1)]
        self.scales = nn.ModuleList([ScaleDiscriminator(sizes.channels, norm) for norm in norms])
        self.lower = nn.AvgPool1d(4, 2, padding=2)

    def forward(self, speech: Any) -> list[list[Any]]:
        state = speech[:, None]
        found = [one(state) for one in self.periods]
        for number, one in enumerate(self.scales):
            state = self.lower(state) if number else state
            found.append(one(state))
        return found


def _through(layers: Any, score: Any, state: Any) -> list[Any]:
    found = []
    for layer in layers:
        state = nn.functional.leaky_relu(layer(state), _SLOPE)
        found.append(state)
    return [*found, score(state)]


def without_learning(discriminators: Any, speech: Any) -> list[list[Any]]:
    """What discriminators find in speech, where only the speech is to learn from it: their weights get no gradient.

    Spectral normalisation goes no step on, so the weights are those with which they were last learning.
    """
    fixed = {name: value.detach() for name, value in discriminators.named_parameters()}
    learning = discriminators.training
    discriminators.eval()
    try:
        return list(torch.func.functional_call(discriminators, fixed, (speech,)))
    finally:
        discriminators.train(learning)
