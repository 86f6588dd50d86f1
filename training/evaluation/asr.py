"""Speech that systems made, as text: by a recogniser that is part of every score's signature.

What was heard is kept by the SHA-256 of the samples, the language and the recogniser, so that nothing is heard twice,
whoever asks again. A sound that cannot be read, or that the recogniser fails on, has no text and a reason.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError, UnreadableError
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.evaluation.recognisers import Float32, Recogniser
from seamlessalign.training.evaluation.rows import writable
from seamlessalign.whisper_files import first_line

_TOGETHER = 64  # sounds that are read and heard at a time


@dataclass(frozen=True)
class HeardSounds:
    """Texts of sounds, and those of which there is none: place → reason."""

    texts: list[str | None]
    failed: dict[int, str]
    trouble: str = ""  # what the recogniser said when it first failed


def hear_sounds(
    sounds: Sequence[Sound | None],
    lang: str,
    recogniser: Recogniser,
    kept: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> HeardSounds:
    """What is said in sounds, each by itself.

    kept: folder (local or any fsspec uri) of what was heard before. progress: called with how many more are done. A
    sound that cannot be read, and one on which the recogniser fails, has no text, and a reason: one of `load_sound`,
    `no_sound`, or `asr_failed`.
    Raises what says that a recogniser cannot work at all: ModelError, ConfigError, InputError for its language.
    """
    hearing = _Hearing(recogniser, lang, kept)
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
            except (pa.ArrowException, OSError):  # of a damaged Parquet file
                failed[place] = "unreadable"
        for place, text in hearing.hear(wanted).items():
            texts[place] = text
            if text is None:
                failed[place] = "asr_failed"
        if progress is not None:
            progress(min(_TOGETHER, len(sounds) - start))
    return HeardSounds(texts, failed, hearing.trouble)


class _Hearing:
    """A recogniser that hears one language, and does not hear a sound again."""

    def __init__(self, recogniser: Recogniser, lang: str, kept: str | None) -> None:
        self._recogniser, self._lang, self._folder = recogniser, lang, kept
        # elsewhere than on this machine files are asked for once, not one by one
        self._there = None if kept is None or storage.is_local(kept) else set(storage.list_files(kept, ".json"))
        self.trouble = ""

    def hear(self, sounds: dict[int, Float32]) -> dict[int, str | None]:
        """Texts of the samples of places; None where the recogniser failed."""
        found: dict[int, str | None] = {}
        keys = {place: self._key(samples) for place, samples in sounds.items()}
        first: dict[str, int] = {}  # of those that are new
        for place, key in keys.items():
            text = self._kept(key)
            if text is not None:
                found[place] = text
            else:
                first.setdefault(key, place)
        texts = dict(zip(first, self._each([sounds[place] for place in first.values()]), strict=True))
        for key, text in texts.items():
            self._keep(key, text)
        return found | {place: texts[key] for place, key in keys.items() if place not in found}

    def _each(self, waveforms: Sequence[Float32]) -> list[str | None]:
        """All at once; where that fails one by one, so that only those fail that do by themselves."""
        if not waveforms:
            return []
        try:
            return [self._text(text) for text in self._recogniser.hear(waveforms, self._lang)]
        except SeamlessAlignError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything
            if len(waveforms) == 1:
                self.trouble = self.trouble or f"{type(error).__name__}: {first_line(error)}"
                return [None]
            return [text for one in waveforms for text in self._each([one])]

    def _text(self, text: Any) -> str | None:
        if isinstance(text, str):
            return writable(text)
        if text is not None:
            self.trouble = self.trouble or f"gave {str(text)[:80]!r}, of type {type(text).__name__}, for a text"
        return None

    def _key(self, samples: Float32) -> str:
        about: Any = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes())
        about.update(f"|{self._lang}|{self._recogniser.signature}".encode())
        return str(about.hexdigest())

    def _kept(self, key: str) -> str | None:
        if self._folder is None:
            return None
        file = storage.join(self._folder, f"{key}.json")
        if not (storage.local_path(file).is_file() if self._there is None else file in self._there):
            return None
        try:
            text = json.loads(storage.read_bytes(file))["text"]
        except (ValueError, KeyError, TypeError, OSError):  # not one of ours, or cut off: it is heard again
            return None
        return text if isinstance(text, str) else None

    def _keep(self, key: str, text: str | None) -> None:
        if self._folder is not None and text is not None:
            told = {"text": text, "lang": self._lang, "signature": self._recogniser.signature}
            place = storage.join(self._folder, f"{key}.json")
            storage.write_bytes_atomic(place, json.dumps(told, ensure_ascii=False).encode())
