"""Stand-ins for the two models of transcribe-then-embed, that keep what they were asked."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seamlessalign.model_files import ModelFiles
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import Task, Transcript, Whisper

Float32 = NDArray[np.float32]
DIM = 16


def text_row(text: str) -> Float32:
    """A row of any length that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(DIM), np.float32)


class RecordingEncoder:
    """Encodes each text to `text_row`."""

    dim = DIM
    truncated = 0

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Float32:
        self.asked.append(list(texts))
        return np.array([text_row(text) for text in texts], np.float32).reshape(-1, DIM)


class RecordingWhisper(Whisper):
    """Hears `word<n>` (translated: `english<n>`) in samples of the value n, and nothing where n is negative."""

    def __init__(self) -> None:
        self.files = ModelFiles("whisper-base", "directory", "nowhere", (), Path(), "1" * 64)
        self.heard: list[tuple[int, int, str]] = []  # value and number of samples, language
        self.tasks: list[Task] = []

    def hear(
        self,
        waveforms: Sequence[Float32],
        lang: str,
        tasks: Sequence[Task],
        progress: Callable[[float], None] | None = None,
    ) -> list[tuple[Transcript, ...]]:
        self.tasks = list(tasks)
        results = []
        for waveform in waveforms:
            number = int(waveform[0])
            self.heard.append((number, len(waveform), lang))
            words = {"transcribe": f"word{number}", "translate": f"english{number}"}
            results.append(tuple(Transcript("" if number < 0 else words[task], number == 7) for task in tasks))
            if progress is not None:
                progress(len(waveform) / SAMPLE_RATE)
        return results
