"""Segments of utterances to learn from: batches that follow from the seed, the place of the batch and that in it."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.vocoder.learner import VocoderBatch
from seamlessalign.training.vocoder.sizes import UNIT_SAMPLES
from seamlessalign.training.vocoder.sources import Utterance

Float32 = npt.NDArray[np.float32]

_TRIES = 20  # utterances that may be unreadable before a segment is given up


def sound_of(utterance: Utterance) -> Float32:
    """Its samples, `(320 · num_frames,)`: a little silence is added, or what no unit stands for left out.

    Raises UnreadableError where it cannot be read, or is much shorter or longer than its header says.
    """
    samples = load_sound(utterance.sound, "", utterance.place)
    length = utterance.num_frames * UNIT_SAMPLES
    if abs(len(samples) - length) > 4 * UNIT_SAMPLES:
        told = f"{utterance.place}: {len(samples)} samples for {utterance.num_frames} units"
        raise UnreadableError("units_do_not_fit", told)
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


class SegmentBatches:
    """One process's segments of each batch. Utterances are drawn by their length, so that any 20 ms is as likely."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        languages: Mapping[str, int],
        speakers: Mapping[str, int],
        *,
        segment: int,
        batch: int,
        seed: int,
        rank: int,
        world: int,
    ) -> None:
        """`languages` and `speakers`: name → row of the model's table."""
        self._utterances, self._languages, self._speakers = list(utterances), languages, speakers
        self._segment, self._seed, self._places = segment, seed, list(range(rank, batch, world))
        self._until = np.cumsum([one.num_frames - segment + 1 for one in utterances])

    def num_batches(self, epoch: int) -> None:
        """There are no epochs: segments are drawn."""

    def __getitem__(self, where: tuple[int, int]) -> VocoderBatch:
        rejects: dict[str, str] = {}
        drawn = [self._draw(where[1], place, rejects) for place in self._places]
        chosen = [utterance for utterance, *_ in drawn]
        longest = max(len(one.units) for one in chosen)
        padded = [np.pad([one.units, one.durations], ((0, 0), (0, longest - len(one.units)))) for one in chosen]
        units = torch.from_numpy(np.stack(padded)).long()
        return VocoderBatch(
            frames=torch.from_numpy(np.stack([frames for _, frames, _, _ in drawn])).long(),
            speech=torch.from_numpy(np.stack([speech for _, _, speech, _ in drawn])),
            languages=torch.tensor([[self._languages[one.lang]] for one in chosen]),
            speakers=torch.tensor([[self._speakers[one.speaker]] for one in chosen]),
            units=units[:, 0],
            durations=units[:, 1],
            seeds=[seed for *_, seed in drawn],
            places=[one.place for one in chosen],
            rejects=rejects,
        )

    def _draw(
        self, batch: int, place: int, rejects: dict[str, str]
    ) -> tuple[Utterance, npt.NDArray[np.int32], Float32, int]:
        """An utterance, the units at 50 Hz of a segment of it, its samples, and a seed for what else is drawn."""
        rng = np.random.default_rng([self._seed, batch, place])
        for _ in range(_TRIES):
            number = int(rng.integers(self._until[-1]))
            chosen = int(np.searchsorted(self._until, number, side="right"))
            one, start = self._utterances[chosen], number - int(self._until[chosen - 1] if chosen else 0)
            try:
                speech = sound_of(one)
            except UnreadableError as error:
                rejects[one.place] = error.reason
                continue
            frames = np.repeat(one.units, one.durations)[start : start + self._segment]
            samples = speech[start * UNIT_SAMPLES : (start + self._segment) * UNIT_SAMPLES]
            return one, frames, samples, int(rng.integers(2**62))
        raise InputError(f"{one.place}: {_TRIES} utterances in turn are unusable: {rejects[one.place]}")
