"""Lessons in sound: recordings that are heard, and spans of them."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from seamlessalign.embedders.student.cache import FrameCache
from seamlessalign.embedders.student.data import Utterance, read_sources
from seamlessalign.embedders.student.frames import Float32, Frames
from seamlessalign.embedders.student.hearing import Loader, backbone_digest, hear, hear_frozen
from seamlessalign.embedders.student.learner import Learner, Taught, gather
from seamlessalign.embedders.student.lessons import Classroom, Lesson
from seamlessalign.embedders.student.model import unit
from seamlessalign.embedders.student.recordings import (
    Recording,
    draw_spans,
    hidden_frames,
    joined_meaning,
    plan_recordings,
    single_plans,
)
from seamlessalign.embedders.student.targets import Meaning
from seamlessalign.embedders.student.training_config import AugmentConfig, TrainingConfig
from seamlessalign.embedders.student.validation import first_of_each_language, hold_out

_MEANS_OF = 500  # utterances of a language
_HEARD_TOGETHER = 16  # recordings, where nothing is learnt


class SoundLessons:
    """Utterances joined to recordings."""

    spoken = True

    def __init__(self, config: TrainingConfig) -> None:
        """Read the sources. Raises InputError where there is not enough that can be used."""
        data, counted = config.data, Counter[str]()
        found = read_sources(data.train, data, counted)
        if data.validation:
            self.learnt, held_out = found, read_sources(data.validation, data, counted)
        else:
            self.learnt, held_out = hold_out(found, data.validation_share)
        self.held_out = [held_out[i] for i in first_of_each_language(held_out, config.validation.max_items)]
        self.set_aside = dict(sorted(counted.items()))
        everyone = (*self.learnt, *self.held_out)
        self.translations = sorted({lang for u in everyone for lang, _ in u.translations})
        self.languages = sorted({u.lang for u in everyone} | set(self.translations))

    def enter(self, room: Classroom) -> Learner:
        self._room = room
        config = room.config
        self.plans = plan_recordings(self.learnt, config.spans, config.seed)
        self._tag = backbone_digest(room.backbone, config)
        rank, world = room.accelerator.process_index, room.accelerator.num_processes
        self.loader = Loader(self.learnt, self.plans, config, self._tag, rank, world)
        self._quiet = Loader(self.held_out, [], config, self._tag)  # as they are, for validation
        self._cache = FrameCache(config.cache) if config.cache else None
        self._held_frames: dict[int, Frames] = {}
        return Learner(room.student, room.backbone)

    def content(self) -> object:
        return [(u.key, u.lang, u.text, u.translations) for u in (*self.learnt, *self.held_out)]

    def summary(self) -> str:
        hours = sum(utterance.seconds for utterance in self.learnt) / 3600
        return (
            f"{len(self.learnt)} utterances ({hours:.2f} h) in {len(self.plans)} recordings; "
            f"{len(self.held_out)} held out"
        )

    def num_utterances(self, batch: list[Recording]) -> int:
        return sum(len(recording.members) for recording in batch)

    def teach(self, learner: Learner, batch: list[Recording], epoch: int, position: int) -> Lesson:
        config = self._room.config
        rejects = {
            self.learnt[recording.plan.members[place]].place: reason
            for recording in batch
            for place, reason in recording.rejects
        }
        recordings = [recording for recording in batch if recording.members]
        spans = [draw_spans(recording, config.spans, config.seed, epoch) for recording in recordings]
        frames: list[Frames | None] = [None for _ in recordings]
        if not config.student.train_backbone:
            frames = list(hear_frozen(self._room.backbone, recordings, self._cache))
        taught = [
            Taught(
                recording,
                found,
                np.concatenate([span.ranges, span.cut_off]),
                partial(hidden_frames, config.augment, config.seed, epoch, recording.plan.number),
            )
            for recording, found, span in zip(recordings, frames, spans, strict=True)
        ]
        rows, filled = learner(taught)
        # of each span what it means, None where it is cut off
        meanings: list[Meaning | None] = []
        langs: list[str] = []
        for recording, span in zip(recordings, spans, strict=True):
            said = [self.learnt[recording.plan.members[place]] for place in recording.members]
            meanings += [Meaning(*joined_meaning(said[first:last])) for first, last in span.members]
            meanings += [None for _ in span.cut_off]
            langs += [recording.lang] * (len(span.members) + len(span.cut_off))
        there = [i for i, has_frames in enumerate(filled) if has_frames]
        return Lesson(rows, [langs[i] for i in there], [meanings[i] for i in there], rejects=rejects)

    def held_out_rows(self) -> Float32:
        return self._rows_as_they_are(self.held_out, self._quiet, self._held_frames)

    def sample_rows(self) -> tuple[Float32, list[str], str]:
        chosen = [self.learnt[i] for i in first_of_each_language(self.learnt, _MEANS_OF)]
        rows = self._rows_as_they_are(chosen, Loader(chosen, [], self._room.config, self._tag))
        return rows, [utterance.lang for utterance in chosen], f"at most {_MEANS_OF} utterances"

    def _rows_as_they_are(
        self, utterances: Sequence[Utterance], loader: Loader, frames: dict[int, Frames] | None = None
    ) -> Float32:
        """Unit rows of utterances by themselves, not augmented; each process makes some, all have all."""
        student, backbone, accelerator = self._room.student, self._room.backbone, self._room.accelerator
        student.eval()
        plans = single_plans(range(len(utterances)), utterances)
        mine = plans[accelerator.process_index :: accelerator.num_processes]
        rows = torch.full((len(utterances), student.config.dim), torch.nan, device=backbone.device)
        trained = self._room.config.student.train_backbone
        with torch.no_grad():
            for start in range(0, len(mine), _HEARD_TOGETHER):
                part = mine[start : start + _HEARD_TOGETHER]
                known = frames is not None and all(plan.number in frames for plan in part) and not trained
                if known and frames is not None:
                    heard = [frames[plan.number] for plan in part]
                else:
                    made = [loader.recording(plan, AugmentConfig(), 0) for plan in part]
                    heard = hear(backbone, made) if trained else hear_frozen(backbone, made, self._cache)
                    if frames is not None and not trained:
                        frames |= {plan.number: found for plan, found in zip(part, heard, strict=True)}
                for plan, found in zip(part, heard, strict=True):
                    rows[plan.number] = student.pool_raw(found, np.array([[0, len(found)]], np.int64))[0]
        numbers = torch.tensor([plan.number for plan in mine], device=rows.device, dtype=torch.long)
        numbers_of_all = gather(accelerator, numbers)
        rows[numbers_of_all] = gather(accelerator, rows[numbers])
        return unit(rows)
