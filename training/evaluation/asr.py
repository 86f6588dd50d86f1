"""Speech that systems made, as text: by a recogniser that is part of every score's signature.

A recogniser is Whisper of any size, greedy and without sampling, or a function of the user's. What it heard is kept by
the SHA-256 of the samples, the language and the recogniser, so that nothing is heard twice, whoever asks again.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import ConfigError, SeamlessAlignError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.whisper import MAX_SPEECH_SECONDS, Whisper, load_whisper

Float32 = npt.NDArray[np.float32]

_TOGETHER = 64  # sounds that are read and heard at a time


class Recogniser(Protocol):
    """What hears speech."""

    @property
    def signature(self) -> str:
        """Its name and all that its answer depends on, `key:value` between bars."""

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        """The words of each waveform (float32, 16 kHz) in a language (ISO 639-3); None where it failed."""


class WhisperRecogniser:
    """Whisper as this project runs it: greedy, 28 s at a time, what is longer in equal pieces."""

    def __init__(self, name: str = "whisper-base", directory: str | None = None, device: str = "cpu") -> None:
        """Raises ModelError where there is no such model."""
        self._name, self._directory, self._device = name, directory, device

    @cached_property
    def _whisper(self) -> Whisper:
        return load_whisper(self._name, self._directory, self._device)

    @property
    def signature(self) -> str:
        return f"asr:{self._name}-{self._whisper.files.sha256[:8]}|beam:1|temperature:0"

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        pieces = [_pieces(waveform) for waveform in waveforms]
        heard = self._whisper.hear([piece for some in pieces for piece in some], lang, ["transcribe"])
        texts = iter(transcript.text.strip() for (transcript,) in heard)
        return [" ".join(text for _ in some if (text := next(texts))) for some in pieces]


class FunctionRecogniser:
    """A user's function of waveforms and a language, `module:name`; what it names itself is its signature."""

    def __init__(self, place: str) -> None:
        """Raises ConfigError where there is no such function."""
        module, _, name = place.partition(":")
        try:
            self._function: Callable[[Sequence[Float32], str], Sequence[str | None]] = getattr(
                importlib.import_module(module), name
            )
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"asr {place!r}: is no function that can be imported, as package.module:name: {error}"
            ) from error
        self.signature = f"asr:{getattr(self._function, 'signature', place)}"

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        found = list(self._function(waveforms, lang))
        if len(found) != len(waveforms):
            raise ConfigError(f"{self.signature}: gave {len(found)} texts for {len(waveforms)} sounds")
        return found


@dataclass(frozen=True)
class HeardSounds:
    """Texts of sounds, and those of which there is none: place → reason."""

    texts: list[str | None]
    failed: dict[int, str]


def hear_sounds(
    sounds: Sequence[Sound | None],
    lang: str,
    recogniser: Recogniser,
    kept: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> HeardSounds:
    """What is said in sounds, each by itself.

    kept: folder of what was heard before. progress: called with how many more are done. A sound that cannot be read,
    and one on which the recogniser fails, has no text, and a reason: one of `load_sound`, `no_sound`, or `asr_failed`.
    """
    texts: list[str | None] = [None] * len(sounds)
    failed: dict[int, str] = {}
    for start in range(0, len(sounds), _TOGETHER):
        wanted: dict[int, Float32] = {}
        for place in range(start, min(start + _TOGETHER, len(sounds))):
            sound = sounds[place]
            if sound is None:
                failed[place] = "no_sound"
                continue
            try:
                wanted[place] = load_sound(sound, "", f"{sound.path} row {sound.row}")
            except UnreadableError as error:
                failed[place] = error.reason
        for place, text in _heard(wanted, lang, recogniser, kept):
            texts[place] = text
            if text is None:
                failed[place] = "asr_failed"
        if progress is not None:
            progress(min(_TOGETHER, len(sounds) - start))
    return HeardSounds(texts, failed)


def _heard(
    sounds: dict[int, Float32], lang: str, recogniser: Recogniser, kept: Path | None
) -> Iterator[tuple[int, str | None]]:
    files, new = {}, []
    for place, samples in sounds.items():
        file = None if kept is None else kept / f"{_key(samples, lang, recogniser)}.json"
        text = _kept(file)
        if text is not None:
            yield place, text
            continue
        files[place] = file
        new.append(place)
    for place, text in zip(new, _each(recogniser, [sounds[place] for place in new], lang), strict=True):
        file = files[place]
        if file is not None and text is not None:
            told = {"text": text, "lang": lang, "signature": recogniser.signature}
            storage.write_bytes_atomic(str(file), json.dumps(told, ensure_ascii=False).encode())
        yield place, text


def _each(recogniser: Recogniser, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
    """All at once; where that fails one by one, so that only those fail that do by themselves."""
    if not waveforms:
        return []
    try:
        return recogniser.hear(waveforms, lang)
    except SeamlessAlignError:
        raise
    except Exception:  # noqa: BLE001 - a user's function may raise anything
        if len(waveforms) == 1:
            return [None]
        return [text for one in waveforms for text in _each(recogniser, [one], lang)]


def _kept(file: Path | None) -> str | None:
    if file is None or not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["text"])
    except (ValueError, KeyError, TypeError):  # not one of ours, or cut off: it is heard again
        return None


def _key(samples: Float32, lang: str, recogniser: Recogniser) -> str:
    about: Any = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes())
    about.update(f"|{lang}|{recogniser.signature}".encode())
    return str(about.hexdigest())


def _pieces(waveform: Float32) -> list[Float32]:
    most = int(MAX_SPEECH_SECONDS * SAMPLE_RATE)
    return list(np.array_split(waveform, max(1, -(-len(waveform) // most))))
