"""Which language is spoken: Whisper's language head, or an ECAPA-TDNN, SpeechBrain's or one that was trained here.

A recording is judged by several windows of its speech, spread over it, whose probabilities are averaged. A calibration
says from which score on a language is believed; below it the answer is `unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError, ModelError
from seamlessalign.lid.calibration import CALIBRATION_FILE, Calibration, Decision, decide, load_calibration
from seamlessalign.lid.changes import language_runs
from seamlessalign.model_files import ModelFiles, find_model
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import load_whisper

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_Heard = tuple[dict[str, float], list[dict[str, float]]]  # probabilities: the mean of windows, and each one's
_MAX_WINDOWS = 5  # of one fragment
_MIN_WINDOW_SECONDS = 0.5  # less speech than this says nothing about its language
_ECAPA = ("ecapa-voxlingua107", "ecapa")


class _WindowModel(Protocol):
    files: ModelFiles

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]: ...


@dataclass(frozen=True)
class Stretch:
    """Neighbouring fragments that were judged together, and the language they are in."""

    first: int  # number of the first fragment
    last: int  # of the one behind the last
    decision: Decision | None  # None where they hold too little speech


class SpeechLid:
    """A speech language identifier; `name` and `sha256` are its fingerprint, `calibration` when to believe it."""

    def __init__(self, model: _WindowModel, calibration: Calibration | None = None) -> None:
        self._model = model
        self.name = model.files.name
        self.sha256 = model.files.sha256
        self.calibration = calibration

    def identify(
        self,
        waveform: Float32,
        fragments: Int64 | None = None,
        *,
        window_seconds: float = 10.0,
        max_windows: int = 5,
    ) -> list[tuple[str, float]]:
        """Languages of a recording with their probabilities, best first.

        Args:
            waveform: float32 `(num_samples,)` at 16 kHz.
            fragments: int64 `(num_fragments, 2)`, the samples that are speech; by default all of it.
            window_seconds: speech heard at a time.
            max_windows: how many windows, spread over the recording, are averaged.

        Returns:
            (ISO 639-3, probability) of every language the model knows.

        Raises:
            InputError: there is less than half a second of speech, or a sample that is not finite.
        """
        mean, _ = self._heard(waveform, fragments, window_seconds, max_windows)
        return sorted(mean.items(), key=lambda item: (-item[1], item[0]))

    def decide(
        self,
        waveform: Float32,
        fragments: Int64 | None = None,
        *,
        window_seconds: float = 10.0,
        max_windows: int = 5,
        min_prob: float = 0.0,
    ) -> Decision:
        """The language of a recording, or `unknown`; whether windows that are sure disagree. As `identify`, and:

        min_prob: the score from which an answer is believed where there is no calibration.
        """
        return decide(*self._heard(waveform, fragments, window_seconds, max_windows), self.calibration, min_prob)

    def stretches(
        self, waveform: Float32, fragments: Int64, *, window_seconds: float = 10.0, min_prob: float = 0.0
    ) -> list[Stretch]:
        """The language of each part of a recording: fragments in turn, up to `window_seconds` of speech at a time.

        Each fragment is heard alone first, to find where the language changes: of a window with two languages in it, an
        identifier is often sure of one. Between two changes fragments are judged together, which is surer. A fragment
        is never cut; one that is longer than a window is a stretch by itself, judged by several windows.
        Arguments and errors as `decide`; stretches of too little speech have no decision.
        """

        def heard(first: int, last: int) -> _Heard | None:
            some = fragments[first:last]
            if int((some[:, 1] - some[:, 0]).sum()) < _MIN_WINDOW_SECONDS * SAMPLE_RATE:
                return None
            return self._heard(waveform, some, window_seconds, _MAX_WINDOWS)

        alone = [heard(number, number + 1) for number in range(len(fragments))]
        found = []
        for start, end in language_runs([one[0] if one else None for one in alone]):
            for low, high in stretches(fragments[start:end], window_seconds):
                first, last = start + low, start + high
                both = alone[first] if last - first == 1 else heard(first, last)
                decision = decide(*both, self.calibration, min_prob) if both else None
                found.append(Stretch(first, last, decision))
        return found

    def _heard(self, waveform: Float32, fragments: Int64 | None, window_seconds: float, max_windows: int) -> _Heard:
        """The mean of the windows' probabilities, weighted by their lengths, and each window's."""
        windows = speech_windows(waveform, fragments, window_seconds, max_windows)
        if not windows:
            raise InputError("there is too little speech to identify its language")
        if not all(bool(np.isfinite(window).all()) for window in windows):
            raise InputError("there are samples that are not finite: no language can be heard")
        heard = self._model.identify(windows)
        weights = np.array([len(window) for window in windows], np.float64)
        mean = {
            lang: float(np.average([probabilities[lang] for probabilities in heard], weights=weights))
            for lang in heard[0]
        }
        return mean, heard


@cache
def load_speech_lid(
    name: str = "whisper-base", directory: str | None = None, device: str = "cpu", calibration: str | None = None
) -> SpeechLid:
    """Load a speech language identifier.

    Args:
        name: `whisper-base`, `ecapa-voxlingua107`, or `ecapa`: any that `seamlessalign train lid` wrote.
        directory: where it is, when that is known.
        device: of torch.
        calibration: file with its thresholds; by default the one that lies beside the model, if there is one; `none`
            for none.

    Raises:
        ModelError: unknown name, or a model that is not found or damaged.
        ConfigError: a calibration that is damaged or of other weights.
    """
    model: _WindowModel
    if name == "whisper-base":
        model = load_whisper(name, directory, device)
    elif name in _ECAPA:
        from seamlessalign.lid.ecapa import Ecapa

        model = Ecapa(find_model(name, directory), device)
    else:
        known = ", ".join(("whisper-base", *_ECAPA))
        raise ModelError(f"speech language identifier {name!r} is not known; there are {known}")
    return SpeechLid(model, calibration_of(model.files, calibration))


def calibration_of(files: ModelFiles, chosen: str | None) -> Calibration | None:
    """The thresholds of a model: of the file that was chosen, or of the one beside it; None where there is neither.

    Raises ConfigError for a file that is not there, damaged, or of other weights.
    """
    if chosen == "none":
        return None
    beside = files.directory / CALIBRATION_FILE
    if chosen is None and not beside.is_file():
        return None
    return load_calibration(Path(chosen or beside), files.sha256)


def speech_windows(
    waveform: Float32, fragments: Int64 | None, window_seconds: float, max_windows: int
) -> list[Float32]:
    """Windows of speech with the silences between fragments cut out, at most `max_windows`, evenly spread."""
    if fragments is None:
        fragments = np.array([[0, len(waveform)]], np.int64)
    length = int(window_seconds * SAMPLE_RATE)
    ends = np.cumsum(fragments[:, 1] - fragments[:, 0])
    total = int(ends[-1]) if len(ends) else 0
    count = min(max_windows, max(1, total // length))
    windows = []
    for start in np.linspace(0, max(0, total - length), count).astype(np.int64):
        window = _speech_between(waveform, fragments, ends, int(start), min(int(start) + length, total))
        if len(window) >= _MIN_WINDOW_SECONDS * SAMPLE_RATE:
            windows.append(window)
    return windows


def stretches(fragments: Int64, window_seconds: float) -> list[tuple[int, int]]:
    """Ranges of neighbouring fragments with up to `window_seconds` of speech each, or of one that is longer."""
    lengths = (fragments[:, 1] - fragments[:, 0]).tolist()
    found, first, held = [], 0, 0
    for i, length in enumerate(lengths):
        if i > first and held + length > window_seconds * SAMPLE_RATE:
            found.append((first, i))
            first, held = i, 0
        held += length
    return [*found, (first, len(lengths))] if lengths else []


def _speech_between(waveform: Float32, fragments: Int64, ends: Int64, start: int, end: int) -> Float32:
    """Samples `[start, end)` of the speech, counted as if fragments lay one behind the other."""
    pieces = []
    for i in range(int(np.searchsorted(ends, start, "right")), len(fragments)):
        first = int(ends[i] - (fragments[i, 1] - fragments[i, 0]))
        if first >= end:
            break
        low, high = max(start, first) - first, min(end, int(ends[i])) - first
        pieces.append(waveform[fragments[i, 0] + low : fragments[i, 0] + high])
    return np.concatenate(pieces).astype(np.float32) if pieces else np.zeros(0, np.float32)
