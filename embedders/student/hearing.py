"""From plans of recordings to their frames: loaded by worker processes, heard by the backbone, kept in a cache."""

from collections.abc import Sequence

import numpy as np
import torch

from seamlessalign.embedders.student.backbones import SpeechBackbone, cut_pieces
from seamlessalign.embedders.student.cache import FrameCache
from seamlessalign.embedders.student.data import Utterance
from seamlessalign.embedders.student.frames import Frames, joined
from seamlessalign.embedders.student.recordings import Plan, Recording, epoch_batches, make_recording
from seamlessalign.embedders.student.training_config import AugmentConfig, TrainingConfig
from seamlessalign.typed_config import digest


class Loader(torch.utils.data.Dataset):  # type: ignore[misc]
    """The recordings of a batch that one process takes, by epoch and place of the batch in it."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        plans: Sequence[Plan],
        config: TrainingConfig,
        backbone_digest: str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._utterances = utterances
        self._plans = plans
        self._config = config
        self._digest = backbone_digest
        self._share = (rank, world)
        self._cache = FrameCache(config.cache) if config.cache else None
        self._epoch = (-1, [[0]])

    def batches(self, epoch: int) -> list[list[int]]:
        """Numbers of recordings of each batch of an epoch, over all processes."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, epoch_batches(self._plans, self._config.optimiser.batch, self._config.seed, epoch))
        return self._epoch[1]

    def num_batches(self, epoch: int) -> int:
        return len(self.batches(epoch))

    def __getitem__(self, where: tuple[int, int]) -> list[Recording]:
        epoch, position = where
        rank, world = self._share
        variants = self._config.augment.variants
        variant = epoch % variants if variants else epoch
        numbers = self.batches(epoch)[position][rank::world]
        return [self.recording(self._plans[number], self._config.augment, variant) for number in numbers]

    def recording(self, plan: Plan, augment: AugmentConfig, variant: int) -> Recording:
        """A recording with its sound, or with its frames where the cache has them."""
        key = self._key(plan, augment, variant) if self._cache else ""
        kept = self._cache.load(key, plan) if self._cache else None
        if kept is not None:
            return kept
        made = make_recording(plan, self._utterances, augment, self._config.seed, variant)
        made.key = key
        return made

    def _key(self, plan: Plan, augment: AugmentConfig, variant: int) -> str:
        members = [(self._utterances[i].key, self._utterances[i].lang) for i in plan.members]
        changes = (
            [self._config.seed, variant, plan.number, augment.model_dump(exclude={"variants", "mask", "mask_frames"})]
            if augment.changes_sound
            else None
        )
        return digest(self._digest, members, plan.gaps, plan.one_piece, changes) + digest(members, "utterances")


def hear(backbone: SpeechBackbone, recordings: Sequence[Recording]) -> list[Frames]:
    """The frames of recordings that have their sound, heard together. Gradients flow where they are wanted."""
    made = [backbone.nothing() for _ in recordings]
    for lang in sorted({recording.lang for recording in recordings}):
        numbers = [i for i, recording in enumerate(recordings) if recording.lang == lang]
        pieces, starts, owners = [], [], []
        for i in numbers:
            waveform = recordings[i].waveform
            if waveform is not None:
                cut, begin = cut_pieces(waveform, recordings[i].fragments, backbone.most_seconds)
                pieces += cut
                starts += begin
                owners += [i] * len(cut)
        heard = backbone.hear(pieces, lang) if pieces else []
        for i in set(owners):
            mine = [place for place, owner in enumerate(owners) if owner == i]
            made[i] = joined([heard[place] for place in mine], [starts[place] for place in mine])
    return made


def hear_frozen(backbone: SpeechBackbone, recordings: Sequence[Recording], cache: FrameCache | None) -> list[Frames]:
    """The frames of recordings, without gradients: those from the cache, and those that are heard now and kept."""
    unheard = [recording for recording in recordings if recording.frames is None]
    with torch.no_grad():
        heard = hear(backbone, unheard)
    if cache is not None and unheard:
        heard = cache.save(unheard, heard)
    new = iter(heard)
    made: list[Frames] = []
    for recording in recordings:
        found = next(new) if recording.frames is None else recording.frames
        made.append(Frames(found.values.to(backbone.device), found.time, found.token))
    return made


def backbone_digest(backbone: SpeechBackbone, config: TrainingConfig) -> str:
    """What the frames of a frozen backbone depend on besides the sound."""
    return digest(config.student.backbone, sorted(backbone.models.items()), np.dtype(np.float16).name)
