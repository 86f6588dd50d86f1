"""Noisy versions of the speech of test rows: SeamlessM4T's robustness against noise.

Noise is made here, is other rows' speech that babbles, or comes from the user's folders. A row's noise follows from its
id, the kind and the seed, and not from other rows' order: at every SNR it is the same noise, louder or softer.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.sound_changes import mixed
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.data.augmentation import Noises
from seamlessalign.training.evaluation.robustness.robustness_settings import BABBLE, MADE_KINDS, Noise
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.typed_config import digest

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LOWEST_HERTZ = 20.0  # below, nobody hears anything, but most of the power of pink and brown noise would be
_FOLDERS = ("noise", "music")  # of MUSAN that SeamlessM4T mixes
_KEPT_SOUNDS = 64
_TRIES = 50  # stretches of recordings that are silent or unreadable, one after another


@dataclass(frozen=True)
class Condition:
    """A noise at a level."""

    kind: str
    snr: float  # dB

    def __str__(self) -> str:
        return f"{self.kind}:{self.snr:g}"


class NoiseMaker:
    """All noise of an evaluation."""

    def __init__(self, settings: Noise, rows: Sequence[TestRow], kept: str | None = None) -> None:
        """rows: those of the test set, whose speech babbles.

        kept: file in which `unreadable` stays for whoever goes on. Recordings that cannot be read are left out and
        in there; where they turn out so when they are wanted, another is drawn. Raises InputError where there is
        nothing to make noise of.
        """
        self.settings, self._kept = settings, kept
        self.unreadable: dict[str, str] = _read_kept(kept)  # file → what is wrong with it
        self._recorded: dict[str, Noises] = {}
        self.kinds = _kinds(settings)
        for kind in self.kinds:
            if kind not in MADE_KINDS and kind != BABBLE:
                folder = Path(settings.folder or "") / kind
                self._recorded[kind] = Noises(str(folder), "noise.folder", self.unreadable)
        self._voices = sorted((row for row in rows if row.src_sound is not None), key=lambda row: row.id)
        if not self._voices:
            raise InputError("noise is asked for, but the rows have no speech: none has src_audio")
        self._sound = lru_cache(_KEPT_SOUNDS)(self._read)

    def conditions(self) -> list[Condition]:
        return [Condition(kind, snr) for kind in self.kinds for snr in self.settings.snrs]

    def signature(self, condition: Condition) -> str:
        """All settings that a noisy version depends on, `key:value` between bars."""
        kind = condition.kind
        if kind == BABBLE:
            kind = f"babble-{self.settings.voices}"
        elif kind in self._recorded:
            kind = f"{kind}-{self._recorded[kind].digest[:8]}"
        return f"noise:{kind}|snr:{condition.snr:g}|noise_seed:{self.settings.seed}"

    def voices_digest(self) -> str:
        """Changes with who may babble with whom: speakers, groups, and which rows have the same references."""
        first: dict[tuple[str, ...], int] = {}
        words = [first.setdefault(row.references, number) for number, row in enumerate(self._voices)]
        return digest([(row.id, row.speaker, row.group, same) for row, same in zip(self._voices, words, strict=True)])

    def noisy(self, row: TestRow, condition: Condition, speech: Float32) -> Float32:
        """Speech of a row, `(num_samples,)` at 16 kHz, with noise whose power is `condition.snr` dB below its own.

        Both are measured over all samples. What would be beyond full scale is made softer as a whole, so that no file
        clips it, and the SNR stays. Raises UnreadableError `no_babble` or `no_noise`, or `silent` where speech has no
        power.
        """
        if not np.any(speech):
            raise UnreadableError("silent", f"row {row.id}: holds {len(speech)} zeros, and has no SNR")
        made = mixed(speech, self.noise(row, condition.kind, len(speech)), condition.snr)
        peak = float(np.max(np.abs(made)))
        return made if peak <= 1 else np.asarray(made / np.float32(peak), np.float32)

    def noise(self, row: TestRow, kind: str, length: int) -> Float64:
        """The noise of a row, `(length,)`, of whatever level. Errors as `noisy`."""
        random = _random(self.settings.seed, kind, row.id)
        if kind in MADE_KINDS:
            return coloured_noise(length, MADE_KINDS[kind], random)
        if kind == BABBLE:
            return self._babble(row, length, random)
        for _ in range(_TRIES):
            which, where = random.random(2)
            try:
                found = self._recorded[kind].stretch(length, which, where)
            except UnreadableError:
                self._keep_unreadable()
                continue
            if np.any(found):
                return np.asarray(found, np.float64)
        raise UnreadableError("no_noise", f"row {row.id}: {_TRIES} stretches of {kind} are silent or unreadable")

    def _keep_unreadable(self) -> None:
        if self._kept is not None:
            text = json.dumps(dict(sorted(self.unreadable.items())), indent=1, ensure_ascii=False)
            storage.write_bytes_atomic(self._kept, f"{text}\n".encode())

    def _babble(self, row: TestRow, length: int, random: np.random.Generator) -> Float64:
        """Voices of other rows, all as loud: of other speakers, where rows say who speaks, and of other words."""
        summed, count = np.zeros(length), 0
        for voice in self._others(row, random):
            try:
                samples = self._sound(voice)
            except UnreadableError:
                continue  # it is a row too, and told there
            found = np.resize(np.roll(samples, -int(random.integers(len(samples)))), length).astype(np.float64)
            power = np.sqrt(np.mean(np.square(found)))
            if power > 0:
                summed, count = summed + found / power, count + 1
            if count == self.settings.voices:
                break
        if not count or not np.any(summed):
            raise UnreadableError("no_babble", f"row {row.id}: no other row has another speaker's speech to babble")
        return summed

    def _others(self, row: TestRow, random: np.random.Generator) -> Iterator[int]:
        """Places of voices that may babble with a row, in an order drawn."""
        for place in random.permutation(len(self._voices)).tolist():
            other = self._voices[place]
            same_speaker = row.speaker is not None and row.speaker == other.speaker
            same_words = row.group is not None and row.group == other.group
            same_words |= bool(row.references) and row.references == other.references
            if other.id != row.id and not same_speaker and not same_words:
                yield place

    def _read(self, voice: int) -> Float32:
        row = self._voices[voice]
        assert row.src_sound is not None
        return load_sound(row.src_sound, "", f"row {row.id}")


def coloured_noise(length: int, colour: float, random: np.random.Generator) -> Float64:
    """Noise at 16 kHz, `(length,)`, whose power falls with the frequency to the exponent `colour` from 20 Hz on.

    There is none below, so that an SNR says the same of long and of short speech.
    """
    spectrum = np.fft.rfft(random.standard_normal(length))
    hertz = np.arange(len(spectrum)) * (SAMPLE_RATE / length)
    heard = hertz >= LOWEST_HERTZ
    spectrum[~heard] = 0
    spectrum[heard] *= (hertz[heard] / LOWEST_HERTZ) ** (-colour / 2)
    return np.asarray(np.fft.irfft(spectrum, length), np.float64)


def _kinds(settings: Noise) -> list[str]:
    if settings.kinds is not None:
        return settings.kinds
    if settings.folder is None:
        return ["pink", BABBLE]
    found = [kind for kind in _FOLDERS if (Path(settings.folder) / kind).is_dir()]
    if not found:
        raise InputError(f"noise.folder: {settings.folder} has none of {', '.join(_FOLDERS)}: give noise.kinds")
    return found


def _read_kept(kept: str | None) -> dict[str, str]:
    if kept is None or not storage.exists(kept):
        return {}
    try:
        return {str(file): str(wrong) for file, wrong in json.loads(storage.read_bytes(kept)).items()}
    except (ValueError, AttributeError) as error:
        raise StorageError(f"{kept}: is damaged: {error}; remove it") from error


def _random(seed: int, *names: str) -> np.random.Generator:
    """A generator that follows from a seed and names alone."""
    told = hashlib.sha256(digest(seed, *names).encode()).digest()
    return np.random.default_rng(list(np.frombuffer(told, "<u4").tolist()))
