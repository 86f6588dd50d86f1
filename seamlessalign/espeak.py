"""espeak-ng through its shared library: speech of any text, made by rules, in a hundred languages.

The library comes from the package espeakng-loader, or from the system. Formant speech is far from human speech: what is
measured on it says little about recordings of people.
"""

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamlessalign.errors import InputError, MissingPackageError

Samples = NDArray[np.float32]

WORDS_PER_MINUTE = 155
PITCH = 50  # of 0 to 99, a voice's own

# espeak-ng's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3

_SEED = 1

_M_PERTURB = -6  # glibc's malloc.h


class Espeak:
    """espeak-ng as a library, started once for many sentences. One process can hold one at a time.

    What it says depends a little on what it said before; `speak_afresh` does not.
    """

    def __init__(self, library: str, data: str | None) -> None:
        """Start the engine from a shared library and its data folder (None: the one built in). Raises InputError."""
        try:
            self._engine: Any = ctypes.CDLL(library)
        except OSError as error:
            raise InputError(f"{library}: {error}; install espeak-ng or espeakng-loader") from error
        rate = self._engine.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode() if data else None, 0)
        if rate <= 0:
            raise InputError(f"{library}: espeak-ng does not start with the data in {data}; install espeak-ng")
        self._seed_noise()
        self.sample_rate = int(rate)
        self._heard: list[Samples] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(self._hear)  # kept: the engine holds only its address
        self._engine.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, words_per_minute: int = WORDS_PER_MINUTE, pitch: int = PITCH) -> Samples:
        """Speech of a text, shape (num_samples,), float32 in [-1, 1) at `sample_rate`. Raises InputError.

        voice: a name of espeak-ng's, with a variant behind `+` where one is wanted: `fr`, `en-us+f2`.
        """
        if self._engine.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}; install a complete espeak-ng")
        self._engine.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        self._engine.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        self._heard = []
        data = text.encode("utf-8") + b"\0"
        size = ctypes.c_size_t(len(data))
        status = self._engine.espeak_Synth(data, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        if status != 0 or not self._heard:
            raise InputError(f"espeak-ng says nothing for {text!r} with voice {voice} (status {status})")
        return np.concatenate(self._heard)

    def _seed_noise(self) -> None:
        """Give the noise of breath a seed of our own: the engine takes it from the clock."""
        seed = getattr(self._engine, "espeak_ng_SetRandSeed", None)
        if seed is None:  # before 1.52 the noise is of C's own generator
            ctypes.CDLL(None).srand(_SEED)
        else:
            seed(ctypes.c_long(_SEED))

    def close(self) -> None:
        """Free the engine and unload its library, with all that it remembers of what it said."""
        import _ctypes

        self._engine.espeak_Terminate()
        _ctypes.dlclose(self._engine._handle)

    def _hear(self, wav: Any, num_samples: int, events: int | None) -> int:
        if wav and num_samples > 0:
            pcm = np.ctypeslib.as_array(wav, shape=(num_samples,))
            self._heard.append(pcm.astype(np.float32) / np.float32(32768))
        return 0


@cache
def find_espeak() -> tuple[str, str | None]:
    """The library and its data folder (None: the one built in). Raises MissingPackageError where there is none."""
    try:
        import espeakng_loader
    except ImportError as error:
        system = ctypes.util.find_library("espeak-ng")
        if system is None:
            raise MissingPackageError("espeakng-loader", "train", "synthetic speech") from error
        return system, None
    # the engine wants the folder that holds espeak-ng-data
    return str(espeakng_loader.get_library_path()), str(Path(espeakng_loader.get_data_path()).parent)


def speak_afresh(
    text: str, voice: str, words_per_minute: int = WORDS_PER_MINUTE, pitch: int = PITCH
) -> tuple[Samples, int]:
    """Speech of a text from an engine that has said nothing yet, and its sample rate: always the same samples.

    Loading the engine anew takes about 5 ms. Raises InputError as `Espeak.speak` does.
    """
    with _zeroed_memory():
        espeak = Espeak(*find_espeak())
        try:
            return espeak.speak(text, voice, words_per_minute, pitch), espeak.sample_rate
        finally:
            espeak.close()


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """Have glibc hand out zeros: the engine reads memory that it never wrote, and some of that can be heard."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another library of C
        yield
        return
    mallopt(_M_PERTURB, 0xFF)  # what is handed out is filled with the complement
    try:
        yield
    finally:
        mallopt(_M_PERTURB, 0)
