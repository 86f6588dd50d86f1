"""Clips to learn languages from, and crops of them: batches that follow from the seed, the step and the place alone."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign import sound_changes
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.lid.training_config import LidAugment, LidData, LidSource
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import SetAside, SpeechRow, parallel_lines, recorded_rows, spoken_row, usable, voices_of
from seamlessalign.speech_sources import Sound, load_sound, text_lines

Float32 = npt.NDArray[np.float32]

_CROP, _HELD_OUT = range(2)  # streams of random numbers
_TRIES = 20  # clips that may be unreadable before a crop is given up


@dataclass(frozen=True)
class Clip:
    """One stretch of speech in one language."""

    key: str  # hex digits that change with its sound
    place: str  # file and row, for people
    lang: str  # ISO 639-3
    group: str  # its speaker where it is known; else empty
    text: str  # what a voice says; empty for a recording
    seconds: float  # by its header; guessed from the text where the speech is synthetic
    sound: Sound
    source: int  # number of its source


def read_clips(sources: Sequence[LidSource], data: LidData, rejects: Counter[str] | None = None) -> list[Clip]:
    """All usable clips of some sources, in order; what is not usable is counted in `rejects` by reason.

    Raises InputError for a source that is not there, lacks a column, or has nothing that is usable.
    """
    found: list[Clip] = []
    for number, source in enumerate(sources):
        aside, taken = SetAside(rejects), Counter[str]()
        for row, text in _rows(source):
            try:
                one = usable(row, text, data)
            except UnreadableError as error:
                aside.add(error.reason, error.detail)
                continue
            if source.languages is not None and one.lang not in source.languages:
                aside.add("language_not_wanted", row.place)
            elif source.max_items is None or taken[one.lang] < source.max_items:
                taken[one.lang] += 1
                speaker = str(row.values.get(source.speaker_column) or "")
                found.append(Clip(one.key, row.place, one.lang, speaker, text, one.seconds, row.sound, number))
        if not taken:
            raise aside.nothing_usable([source.path])
    return found


def split_clips(clips: Sequence[Clip], share: float) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from and clips that are held out: about `share` of the speakers, or of the clips, of a language.

    Whether a clip is held out follows from its speaker, else from what it says or its sound, so that more data moves
    nothing. A language always has both kinds, where it has two clips or speakers.
    """
    groups: dict[str, dict[str, float]] = {}
    for clip in clips:
        groups.setdefault(clip.lang, {})[_group(clip)] = _place(_group(clip))
    held: dict[str, set[str]] = {}
    for lang, places in groups.items():
        order = sorted(places, key=lambda name: (places[name], name))
        chosen = {name for name in order if places[name] < share}
        held[lang] = chosen or set(order[:1])
        if len(held[lang]) == len(order):
            held[lang].discard(order[-1])
    learnt = [clip for clip in clips if _group(clip) not in held[clip.lang]]
    return learnt, [clip for clip in clips if _group(clip) in held[clip.lang]]


def _group(clip: Clip) -> str:
    return clip.group or clip.text or clip.key


def _place(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8


def _rows(source: LidSource) -> Iterator[tuple[SpeechRow, str]]:
    """Rows of a source, and what a voice says in each; empty for recordings."""
    if source.kind != "espeak":
        for row in recorded_rows(source, optional=[source.speaker_column]):
            yield row, ""
        return
    voices: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for number, texts in enumerate(_texts(source)):
        for lang, text in texts.items():
            if source.languages is not None and lang not in source.languages:
                continue
            if source.max_items is not None and counts[lang] >= source.max_items:
                continue
            if lang not in voices:
                named = source.voices.get(lang)
                asked = named is not None or source.lang is not None or source.languages is not None
                voices[lang] = voices_of(lang, named, source.variants, source.path, asked=asked)
            if voices[lang]:
                yield spoken_row(source, number, lang, voices[lang], counts[lang]), " ".join(text.split())
                counts[lang] += 1


def _texts(source: LidSource) -> Iterator[dict[str, str]]:
    """Texts by language, of each line."""
    if source.path.endswith(".jsonl"):
        return (texts for _, texts in parallel_lines(source.path))
    return ({str(source.lang): line} for line in text_lines(source.path))


class Crops:
    """Crops of a training, made one by one: each follows from the seed, the step and its place in the batch."""

    def __init__(
        self, clips: Sequence[Clip], weights: Sequence[float], data: LidData, augment: LidAugment | None, seed: int
    ) -> None:
        """`weights` are those of sources. Without `augment` nothing is changed, and crops are those of validation."""
        self._data, self._augment, self._seed = data, augment, seed
        self.languages = sorted({clip.lang for clip in clips})
        by_lang: dict[str, dict[int, list[Clip]]] = {lang: {} for lang in self.languages}
        for clip in clips:
            by_lang[clip.lang].setdefault(clip.source, []).append(clip)
        sizes = np.array([sum(map(len, by_lang[lang].values())) for lang in self.languages], np.float64)
        self._shares = sizes**data.balance / np.sum(sizes**data.balance)
        self._pools = []
        for lang in self.languages:
            pools = [pool for _, pool in sorted(by_lang[lang].items())]
            chance = np.array([weights[source] for source in sorted(by_lang[lang])])
            self._pools.append((pools, chance / chance.sum()))

    def seconds(self, step: int) -> float:
        """Length of the crops of a step."""
        low = self._data.min_crop_seconds or self._data.crop_seconds
        rng = np.random.default_rng([self._seed, _CROP, step])
        return float(rng.uniform(low, self._data.crop_seconds))

    def crop(self, step: int, place: int) -> tuple[Float32, int]:
        """Samples `(seconds(step) · 16000,)` and the number of their language."""
        rng = np.random.default_rng([self._seed, _CROP, step, place])
        number = int(rng.choice(len(self.languages), p=self._shares))
        return self._make(number, int(self.seconds(step) * SAMPLE_RATE), rng), number

    def held_out(self, lang: int, place: int, seconds: float) -> Float32:
        """The crop of a language at a place, always the same."""
        rng = np.random.default_rng([self._seed, _HELD_OUT, lang, place, round(seconds * 1000)])
        return self._make(lang, int(seconds * SAMPLE_RATE), rng)

    def _make(self, lang: int, length: int, rng: np.random.Generator) -> Float32:
        augment = self._augment
        speed = 1.0 if augment is None else float(1 + rng.uniform(-augment.speed, augment.speed))
        pools, chance = self._pools[lang]
        pool = pools[int(rng.choice(len(pools), p=chance))]
        samples = self._joined(pool, int(length * speed) + SAMPLE_RATE // 20, rng)
        samples = sound_changes.change_speed(samples, speed)[:length]
        samples = np.pad(samples, (0, length - len(samples)))
        return samples if augment is None else _changed(samples, augment, rng)

    def _joined(self, pool: Sequence[Clip], length: int, rng: np.random.Generator) -> Float32:
        """A random crop of a clip; where it is too short, others by its speaker, or of its source, follow it."""
        first = pool[int(rng.integers(len(pool)))]
        near = [clip for clip in pool if clip.group == first.group]
        parts: list[Float32] = []
        there, clip, failed = 0, first, 0
        while there < length:
            try:
                samples = trimmed(load_sound(clip.sound, clip.text, clip.place))
            except UnreadableError as error:
                failed += 1
                if failed == _TRIES:
                    raise InputError(f"{clip.place}: {_TRIES} clips in turn are unusable: {error}") from error
                samples = np.zeros(0, np.float32)
            if not parts and len(samples) > length:
                start = int(rng.integers(len(samples) - length + 1))
                return samples[start : start + length]
            if len(samples):
                gap = int(rng.uniform(0, self._data.max_gap_seconds) * SAMPLE_RATE) if parts else 0
                parts += [np.zeros(gap, np.float32), samples]
                there += gap + len(samples)
            clip = near[int(rng.integers(len(near)))]
        return np.concatenate(parts)[:length]


def trimmed(samples: Float32, margin_seconds: float = 0.05) -> Float32:
    """Samples without the silence before and behind: what is 40 dB below the loudest 20 ms."""
    size = SAMPLE_RATE // 50
    count = len(samples) // size
    if not count:
        return samples
    power = np.mean(np.square(samples[: count * size].reshape(count, size), dtype=np.float64), axis=1)
    loud = np.flatnonzero(power > power.max() * 1e-4)
    if not len(loud):
        return samples
    margin = int(margin_seconds * SAMPLE_RATE)
    start, end = int(loud[0]) * size - margin, (int(loud[-1]) + 1) * size + margin
    return samples[max(0, start) : end]


def _changed(samples: Float32, augment: LidAugment, rng: np.random.Generator) -> Float32:
    """All choices are drawn, whether they are used or not, so that one share does not move the others."""
    reverb, colour, noise = rng.random(3)
    seconds = float(rng.uniform(0.1, max(0.1, augment.max_reverb_seconds)))
    direct = float(rng.uniform(0, 12))
    gains = rng.uniform(-12, 6, 8)
    snr = float(rng.uniform(augment.min_snr_db, augment.max_snr_db))
    tilt, gain = float(rng.uniform(0, 2)), float(rng.uniform(-augment.gain_db, augment.gain_db))
    if reverb < augment.reverb:
        samples = sound_changes.convolved(samples, sound_changes.room_response(seconds, direct, rng))
    if noise < augment.noise:
        samples = sound_changes.add_noise(samples, snr, tilt, rng)
    if colour < augment.colour:
        samples = sound_changes.coloured(samples, gains)
    return sound_changes.change_gain(samples, gain)
