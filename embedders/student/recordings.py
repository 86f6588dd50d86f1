"""Utterances joined to recordings, the spans of these that are taught, and the batches they come in.

All of it follows from the seed, the epoch and the recording's number, so that any process can make any recording at any
time and it is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seamlessalign.embedders.student import augment
from seamlessalign.embedders.student.data import Utterance, load_speech
from seamlessalign.embedders.student.frames import Float32, Frames, Int64
from seamlessalign.embedders.student.training_config import AugmentConfig, SpansConfig
from seamlessalign.errors import UnreadableError
from seamlessalign.rows import SAMPLE_RATE

_POOL = 64  # batches' worth of recordings, in random order, that are sorted by length
_ONE_PIECE_SECONDS = 24.0  # longer recordings are not heard in one piece
_CUT = (0.3, 0.7)  # how much of an utterance is left of one that is cut off
_PLAN, _SOUND, _SPANS, _ORDER, _MASK = range(5)  # streams of random numbers


@dataclass(frozen=True)
class Plan:
    """A recording to be made of utterances of one language."""

    number: int
    members: tuple[int, ...]  # numbers of its utterances
    gaps: tuple[int, ...]  # samples of silence behind each of them but the last
    one_piece: bool  # the backbone hears it at once
    seconds: float  # about


@dataclass
class Recording:
    """A recording that was made. Frames are there where they were kept from an earlier epoch; the sound then is not."""

    plan: Plan
    lang: str
    members: list[int]  # places in the plan of utterances that could be used
    bounds: Int64  # (num_members, 2), samples
    fragments: Int64  # (num_fragments, 2): what the backbone hears at once
    rejects: list[tuple[int, str]]  # places of those that could not, and why
    waveform: Float32 | None = None
    frames: Frames | None = None
    key: str = ""  # of its frames in the cache


@dataclass(frozen=True)
class Spans:
    """What is taught of one recording."""

    ranges: Int64  # (num_spans, 2), samples
    members: tuple[tuple[int, int], ...]  # members `[first, last)` of the recording that each span is of
    cut_off: Int64  # (num_cut, 2): utterances cut off in the middle


def random(seed: int, stream: int, *numbers: int) -> np.random.Generator:
    """A generator of its own for each purpose, epoch and recording."""
    return np.random.default_rng([seed, stream, *numbers])


def plan_recordings(utterances: Sequence[Utterance], config: SpansConfig, seed: int) -> list[Plan]:
    """Join utterances of one language, in random order; the plans are the same in every epoch."""
    rng = random(seed, _PLAN)
    by_lang: dict[str, list[int]] = {}
    for number, utterance in enumerate(utterances):
        by_lang.setdefault(utterance.lang, []).append(number)
    plans: list[Plan] = []
    for _, numbers in sorted(by_lang.items()):
        order = [numbers[i] for i in rng.permutation(len(numbers))]
        for start in range(0, len(order), config.utterances):
            members = order[start : start + config.utterances]
            low, high = (round(s * SAMPLE_RATE) for s in (config.min_gap_seconds, config.max_gap_seconds))
            gaps = tuple(int(gap) for gap in rng.integers(low, high + 1, len(members) - 1))
            seconds = sum(utterances[i].seconds for i in members) + sum(gaps) / SAMPLE_RATE
            one_piece = bool(rng.random() < config.one_piece) and len(members) > 1 and seconds <= _ONE_PIECE_SECONDS
            plans.append(Plan(len(plans), tuple(members), gaps, one_piece, seconds))
    return plans


def single_plans(numbers: Sequence[int], utterances: Sequence[Utterance]) -> list[Plan]:
    """Each utterance as a recording of its own."""
    return [Plan(place, (number,), (), False, utterances[number].seconds) for place, number in enumerate(numbers)]


def make_recording(
    plan: Plan, utterances: Sequence[Utterance], config: AugmentConfig, seed: int, variant: int
) -> Recording:
    """Load, change and join the utterances of a plan."""
    rng = random(seed, _SOUND, variant, plan.number)
    changes = augment.draw_changes(config, len(plan.members), rng)
    lang = utterances[plan.members[0]].lang
    made = Recording(plan, lang, [], np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64), [])
    parts: list[Float32] = []
    bounds: list[tuple[int, int]] = []
    position = 0
    for place, number in enumerate(plan.members):
        try:
            samples = augment.change_speed(load_speech(utterances[number]), changes.speeds[place])
        except UnreadableError as error:
            made.rejects.append((place, error.reason))
            continue
        if parts:
            gap = plan.gaps[place - 1]
            parts.append(np.zeros(gap, np.float32))
            position += gap
        made.members.append(place)
        bounds.append((position, position + len(samples)))
        parts.append(samples)
        position += len(samples)
    if not parts:
        return made
    waveform = augment.change_gain(np.concatenate(parts), changes.gain_db)
    if changes.snr_db is not None:
        waveform = augment.add_noise(waveform, changes.snr_db, changes.colour, rng)
    made.waveform = waveform
    made.bounds = np.array(bounds, np.int64)
    made.fragments = np.array([[0, position]], np.int64) if plan.one_piece else made.bounds
    return made


def draw_spans(recording: Recording, config: SpansConfig, seed: int, epoch: int) -> Spans:
    """Every utterance of a recording, runs of several neighbouring ones, and some that are cut off."""
    rng = random(seed, _SPANS, epoch, recording.plan.number)
    bounds, count = recording.bounds, len(recording.members)
    members = [(i, i + 1) for i in range(count)]
    for _ in range(config.runs if count > 1 else 0):
        length = int(rng.integers(2, min(config.max_run, count) + 1))
        first = int(rng.integers(0, count - length + 1))
        members.append((first, first + length))
    members = list(dict.fromkeys(members))
    ranges = np.array([(bounds[a, 0], bounds[b - 1, 1]) for a, b in members], np.int64).reshape(-1, 2)
    cut_off: list[tuple[int, int]] = []
    for start, end in bounds.tolist():
        length = int((end - start) * rng.uniform(*_CUT))
        at_front, chosen = rng.random(2)
        if chosen < config.cut_off:
            cut_off.append((start, start + length) if at_front < 0.5 else (end - length, end))
    return Spans(ranges, tuple(members), np.array(cut_off, np.int64).reshape(-1, 2))


def hidden_frames(config: AugmentConfig, seed: int, epoch: int, number: int, num_frames: int) -> Float32 | None:
    """1 for frames that are seen and 0 for those that are not, `(num_frames,)`; None where none is hidden."""
    if not config.mask:
        return None
    hidden = augment.frame_mask(num_frames, config.mask, config.mask_frames, random(seed, _MASK, epoch, number))
    return np.asarray(~hidden, np.float32)


def epoch_batches(plans: Sequence[Plan], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Numbers of recordings in batches of `batch` utterances or a few less, of like length, in random order."""
    rng = random(seed, _ORDER, epoch)
    order = rng.permutation(len(plans))
    pool = max(1, _POOL * batch // max(len(plan.members) for plan in plans))
    made: list[list[int]] = []
    for start in range(0, len(order), pool):
        near = sorted((int(i) for i in order[start : start + pool]), key=lambda i: (plans[i].seconds, i))
        made.append([])
        filled = 0
        for number in near:
            size = len(plans[number].members)
            if made[-1] and filled + size > batch:
                made.append([])
                filled = 0
            made[-1].append(number)
            filled += size
    return [made[i] for i in rng.permutation(len(made))]


def joined_meaning(utterances: Sequence[Utterance]) -> tuple[str, str, Mapping[str, str]]:
    """Language, text and translations of neighbouring utterances; a translation that one of them lacks is left out."""
    views = [dict(utterance.translations) for utterance in utterances]
    shared = set.intersection(*(set(view) for view in views))
    return (
        utterances[0].lang,
        " ".join(utterance.text for utterance in utterances),
        {lang: " ".join(view[lang] for view in views) for lang in sorted(shared)},
    )
