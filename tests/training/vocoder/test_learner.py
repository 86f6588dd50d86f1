"""Generator and discriminators in one forward: the gradients of two networks that are taught one after the other."""

from typing import Any

import pytest
import torch

from seamlessalign.training.vocoder.discriminators import Discriminators
from seamlessalign.training.vocoder.generator import make_generator, speech_of
from seamlessalign.training.vocoder.learner import VocoderBatch, VocoderLearner
from seamlessalign.training.vocoder.sizes import DiscriminatorSizes
from tests.training.vocoder.tone_world import parsed, vocoder_config

ROWS, SEGMENT = 3, 8


@pytest.fixture
def learner(tmp_path: Any) -> VocoderLearner:
    torch.manual_seed(0)
    sizes = parsed(vocoder_config(tmp_path)).model
    return VocoderLearner(make_generator(sizes, 2, 2), Discriminators(DiscriminatorSizes(channels=2, periods=[2, 3])))


@pytest.fixture
def batch() -> VocoderBatch:
    generator = torch.Generator().manual_seed(1)

    def draw(most: int, *shape: int) -> Any:
        return torch.randint(0, most, shape, generator=generator)

    durations = draw(5, ROWS, 6) + 1
    durations[1, 4:] = 0
    return VocoderBatch(
        frames=draw(6, ROWS, SEGMENT),
        speech=torch.randn(ROWS, SEGMENT * 320, generator=generator) * 0.2,
        languages=draw(2, ROWS, 1),
        speakers=draw(2, ROWS, 1),
        units=draw(6, ROWS, 6),
        durations=durations,
        seeds=[5, 6, 7],
        places=["a", "b", "c"],
        rejects={},
    )


def _gradients(loss: Any, module: Any) -> list[Any]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True))


def test_neither_loss_moves_the_other_network(learner: VocoderLearner, batch: VocoderBatch) -> None:
    found = learner(batch, adversarial=True)
    assert all(value is None for value in _gradients(found["discriminator"], learner.generator))
    own = found["adversarial"] + found["features"] + found["mel"] + found["duration"]
    assert all(value is None for value in _gradients(own, learner.discriminators))
    # and what is missing above is there where it should be
    assert all(value is not None for value in _gradients(found["discriminator"], learner.discriminators))
    assert all(value is not None for value in _gradients(own, learner.generator))


def test_gradients_are_those_of_one_after_the_other(learner: VocoderLearner, batch: VocoderBatch) -> None:
    """As two optimisers would have them, with nothing of how the learner keeps the networks apart."""
    found = learner(batch, adversarial=True)
    generator, discriminators = learner.generator, learner.discriminators
    own = found["adversarial"] + 2 * found["features"] + 45 * found["mel"]
    ours = _gradients(found["discriminator"], discriminators), _gradients(own, generator)
    discriminators.eval()  # spectral normalisation stays where it was
    made = speech_of(generator, batch.frames, batch.languages, batch.speakers)
    loss: Any = 0
    for true, fake in zip(discriminators(batch.speech), discriminators(made.detach()), strict=True):
        for row in range(ROWS):
            loss = loss + ((true[-1][row] - 1) ** 2).mean() + (fake[-1][row] ** 2).mean()
    assert float(loss.detach()) == pytest.approx(float(found["discriminator"].detach()), rel=1e-5)
    theirs = _gradients(loss, discriminators)
    for parameter in discriminators.parameters():
        parameter.requires_grad_(False)
    loss = 45 * (learner.mel(made) - learner.mel(batch.speech)).abs().mean() * ROWS
    for true, fake in zip(discriminators(batch.speech), discriminators(made), strict=True):
        loss = loss + ((fake[-1] - 1) ** 2).mean() * ROWS
        loss = loss + 2 * sum((a - b).abs().mean() for a, b in zip(true, fake, strict=True)) * ROWS
    assert float(loss.detach()) == pytest.approx(float(own.detach()), rel=1e-4)
    for mine, other in zip(ours[0], theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3)
    for mine, other in zip(ours[1], _gradients(loss, generator), strict=True):
        assert (mine is None) == (other is None)  # durations have no part in these
        if mine is not None:
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)


def test_without_discriminators_they_have_no_part(learner: VocoderLearner, batch: VocoderBatch) -> None:
    found = learner(batch, adversarial=False)
    assert set(found) == {"mel", "duration"}
    assert all(value is None for value in _gradients(found["mel"] + found["duration"], learner.discriminators))
    again = learner(batch, adversarial=True)
    assert torch.equal(again["mel"], found["mel"]) and len(again) == 5
