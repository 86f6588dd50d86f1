"""Generator and discriminators as one module, which one optimiser teaches.

HiFi-GAN alternates: a step of the discriminators, then one of the generator, against the discriminators as they then
are. Here both gradients are taken at once, from the same weights, and then both steps. They are the gradients of the
same two losses; only that the generator's comes from the discriminators as they were before their step. So one forward,
one backward and one optimiser are enough, and accumulation, clipping, schedule and checkpoint are those of all
trainings. Neither loss can move the other's network: discriminators hear speech that is detached, and judge it for the
generator with weights that are.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn

from seamlessalign.training.vocoder import losses
from seamlessalign.training.vocoder.discriminators import Discriminators, without_learning
from seamlessalign.training.vocoder.generator import log_durations, speech_of
from seamlessalign.training.vocoder.mel import LogMel


@dataclass(frozen=True)
class VocoderBatch:
    """A process's segments of a batch, and all units of their utterances, from which durations are learnt."""

    frames: Any  # int64 (rows, segment): a unit for every 20 ms
    speech: Any  # float32 (rows, 320 · segment)
    languages: Any  # int64 (rows, 1)
    speakers: Any  # int64 (rows, 1)
    units: Any  # int64 (rows, num_units), without repetitions
    durations: Any  # int64 (rows, num_units); 0 is padding
    seeds: list[int]  # of each row, for dropout
    places: list[str]  # of the utterances, for people
    rejects: dict[str, str]  # utterances that were wanted and could not be read → reason

    def to(self, device: Any) -> Self:
        names = ("frames", "speech", "languages", "speakers", "units", "durations")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class VocoderLearner(nn.Module):  # type: ignore[misc]
    """All losses of a batch, as sums over its rows."""

    def __init__(self, generator: Any, discriminators: Discriminators) -> None:
        super().__init__()
        self.generator, self.discriminators, self.mel = generator, discriminators, LogMel()

    def forward(self, batch: VocoderBatch, *, adversarial: bool) -> dict[str, Any]:
        """Scalars: `mel` and `duration`, and where it is `adversarial` `discriminator`, `adversarial`, `features`."""
        made = speech_of(self.generator, batch.frames, batch.languages, batch.speakers)
        logarithms = log_durations(self.generator, batch.units, batch.durations > 0, batch.seeds)
        found = {
            "mel": losses.mel_loss(self.mel(batch.speech), self.mel(made)),
            "duration": losses.duration_loss(logarithms, batch.durations),
        }
        if not adversarial:
            return found
        rows = len(made)
        judged = self.discriminators(torch.cat([batch.speech, made.detach().to(batch.speech.dtype)]))
        passed = without_learning(self.discriminators, made)
        true = [[layer[:rows].detach() for layer in one] for one in judged]
        return found | {
            "discriminator": losses.discriminator_loss(
                [score[:rows] for score in _scores(judged)], [score[rows:] for score in _scores(judged)]
            ),
            "adversarial": losses.adversarial_loss(_scores(passed)),
            "features": losses.feature_loss(true, passed),
        }


def _scores(found: list[list[Any]]) -> list[Any]:
    return [one[-1] for one in found]
