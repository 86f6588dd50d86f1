"""Batches of speech: utterances of about one length, with their masks and distractors.

All that is drawn for a piece follows from the seed, the epoch and its key, so that it is the same in whichever process
the piece falls, and in training that went on after it was stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.sonar.features import NUM_BINS, STACKED, features, num_inputs
from seamlessalign.errors import UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.w2v_bert.config import INPUTS_PER_SECOND, W2vBertConfig
from seamlessalign.training.w2v_bert.masking import draw_distractors, draw_mask
from seamlessalign.training.w2v_bert.sources import Piece, load_piece

_ORDER, _PIECE, _HELD_OUT = range(3)  # streams of random numbers
_LIKE = 25  # inputs within which lengths count as the same, so that no two epochs have the same batches


@dataclass
class SpeechBatch:
    """This process's rows of a batch, padded on the right; there may be none. `targets` are its masked inputs, row by
    row.
    """

    features: Any  # float32 (rows, inputs, 160)
    feature_mask: Any  # int64 (rows, inputs): 1 is real
    masked: Any  # bool (rows, inputs)
    distractors: Any  # int64 (targets, distractors): places among the targets of the same row
    seeds: list[int]  # of each row, for what is drawn where the network runs
    places: list[str]  # of each row, for people
    rejects: dict[str, str] = field(default_factory=dict)  # place → reason: pieces that could not be used

    @property
    def rows(self) -> int:
        return len(self.seeds)

    def to(self, device: Any) -> "SpeechBatch":
        """The same on a device."""
        names = ("features", "feature_mask", "masked", "distractors")
        moved = {name: getattr(self, name).to(device) for name in names}
        return SpeechBatch(**(vars(self) | moved))


class SpeechBatches:
    """This process's rows of each batch of an epoch."""

    def __init__(
        self, pieces: Sequence[Piece], config: W2vBertConfig, rank: int, world: int, *, held_out: bool = False
    ) -> None:
        """held_out: batches come in one order, and what is drawn has random numbers of its own."""
        self.pieces = pieces
        self._mask, self._distractors = config.mask, config.contrastive.distractors
        self._max_samples = int(config.data.max_seconds * SAMPLE_RATE)
        self._most = int(config.optimiser.batch_seconds * INPUTS_PER_SECOND)
        self._seed, self._rank, self._world, self._held_out = config.seed, rank, world, held_out
        self._planned: tuple[int, list[list[int]]] = (-1, [])

    def num_batches(self, epoch: int) -> int:
        return len(self._plan(epoch))

    def __getitem__(self, where: tuple[int, int]) -> SpeechBatch:
        epoch, place = where
        numbers = self._plan(epoch)[place][self._rank :: self._world]
        made, rejects = [], {}
        for number in numbers:
            piece = self.pieces[number]
            try:
                made.append((piece, *self._row(piece, epoch)))
            except UnreadableError as error:
                rejects[piece.place] = error.reason
        return _padded(made, self._distractors, rejects)

    def _plan(self, epoch: int) -> list[list[int]]:
        """Numbers of pieces, by batch; the same in every process."""
        if self._planned[0] != epoch:
            longest = self._max_samples / SAMPLE_RATE
            rng = np.random.default_rng([self._seed, _ORDER, epoch])
            count = len(self.pieces)
            order = np.arange(count) if self._held_out else rng.permutation(count)
            inputs = [int(min(self.pieces[i].seconds, longest) * INPUTS_PER_SECOND) for i in order]
            like = [-(-length // _LIKE) * _LIKE for length in inputs]
            made = [[int(order[i]) for i in batch] for batch in batches(like, self._most)]
            if not self._held_out:
                made = [made[i] for i in rng.permutation(len(made))]
            self._planned = (epoch, made)
        return self._planned[1]

    def _row(self, piece: Piece, epoch: int) -> tuple[Any, Any, Any, int]:
        """Features `(inputs, 160)`, mask `(inputs,)`, distractors and a seed."""
        stream = _HELD_OUT if self._held_out else _PIECE
        rng = np.random.default_rng([self._seed, stream, epoch, int(piece.key, 16)])
        samples = load_piece(piece)
        if len(samples) > self._max_samples:  # a voice spoke slower than was guessed
            start = int(rng.integers(len(samples) - self._max_samples + 1))
            samples = samples[start : start + self._max_samples]
        if num_inputs(len(samples)) <= self._mask.span:
            raise UnreadableError("too_short", f"{piece.place} holds {len(samples)} samples")
        inputs = features(torch.from_numpy(np.ascontiguousarray(samples)))
        masked = draw_mask(len(inputs), self._mask, rng)
        distractors = draw_distractors(int(masked.sum()), self._distractors, rng)
        return inputs, torch.from_numpy(masked), torch.from_numpy(distractors), int(rng.integers(2**62))


def _padded(made: Sequence[tuple[Piece, Any, Any, Any, int]], distractors: int, rejects: dict[str, str]) -> SpeechBatch:
    if not made:
        empty = torch.zeros((0, 0, STACKED * NUM_BINS))
        nothing = torch.zeros((0, 0), dtype=torch.long)
        none_drawn = torch.zeros((0, distractors), dtype=torch.long)
        return SpeechBatch(empty, nothing, nothing.bool(), none_drawn, [], [], rejects)
    pad = torch.nn.utils.rnn.pad_sequence
    ones = [torch.ones(len(inputs), dtype=torch.long) for _, inputs, *_ in made]
    return SpeechBatch(
        pad([inputs for _, inputs, *_ in made], batch_first=True),
        pad(ones, batch_first=True),
        pad([masked for _, _, masked, _, _ in made], batch_first=True),
        torch.cat([some for _, _, _, some, _ in made]),
        [seed for *_, seed in made],
        [piece.place for piece, *_ in made],
        rejects,
    )
