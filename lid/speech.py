"""Which language is spoken: Whisper's language head, or SpeechBrain's ECAPA-TDNN trained on VoxLingua107.

A recording is judged by several windows of its speech, spread over it, whose probabilities are averaged.
"""

import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import from_model_code
from seamlessalign.model_files import ModelFiles, find_model
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import load_whisper

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_MIN_WINDOW_SECONDS = 0.5  # less speech than this says nothing about its language


class _WindowModel(Protocol):
    files: ModelFiles

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]: ...


class SpeechLid:
    """A speech language identifier; `name` and `sha256` are its fingerprint."""

    def __init__(self, model: _WindowModel) -> None:
        self._model = model
        self.name = model.files.name
        self.sha256 = model.files.sha256

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
            InputError: there is less than half a second of speech.
        """
        windows = speech_windows(waveform, fragments, window_seconds, max_windows)
        if not windows:
            raise InputError("there is too little speech to identify its language")
        heard = self._model.identify(windows)
        weights = np.array([len(window) for window in windows], np.float64)
        mean = {
            lang: float(np.average([probabilities[lang] for probabilities in heard], weights=weights))
            for lang in heard[0]
        }
        return sorted(mean.items(), key=lambda item: (-item[1], item[0]))


@cache
def load_speech_lid(name: str = "whisper-base", directory: str | None = None, device: str = "cpu") -> SpeechLid:
    """Load a speech language identifier: `whisper-base` or `ecapa-voxlingua107`."""
    if name == "whisper-base":
        return SpeechLid(load_whisper(name, directory, device))
    if name == "ecapa-voxlingua107":
        return SpeechLid(Ecapa(find_model(name, directory), device))
    raise ModelError(f"speech language identifier {name!r} is not known; there are whisper-base, ecapa-voxlingua107")


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


class Ecapa:
    """SpeechBrain's ECAPA-TDNN language identifier, from the three files of its checkpoint.

    The structure is fixed here (Desplanques et al. 2020, with VoxLingua107's sizes), so no class named in a
    checkpoint's YAML is ever created, and the weights are read without unpickling objects.
    """

    def __init__(self, files: ModelFiles, device: str = "cpu") -> None:
        try:
            import torch
            from speechbrain.lobes.features import Fbank
            from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
            from speechbrain.lobes.models.Xvector import Classifier
            from speechbrain.processing.features import InputNormalization
        except (ImportError, RuntimeError) as error:
            raise ModelError(
                f"model {files.name!r}: SpeechBrain cannot be imported ({str(error).splitlines()[0]}); "
                "torch and torchaudio must be built for the same CUDA version"
            ) from error
        _forget_redirects()
        self.files = files
        self.device = torch.device(device)
        self.languages = _read_labels(files.directory / "label_encoder.txt", files.name)
        self.features = Fbank(n_mels=60).to(self.device)
        self.normalise = InputNormalization(norm_type="sentence", std_norm=False).to(self.device)
        self.encoder = ECAPA_TDNN(
            60,
            channels=[1024, 1024, 1024, 1024, 3072],
            kernel_sizes=[5, 3, 3, 3, 1],
            dilations=[1, 2, 3, 4, 1],
            attention_channels=128,
            lin_neurons=256,
        )
        self.classifier = Classifier(
            [None, None, 256],
            activation=torch.nn.LeakyReLU,
            lin_blocks=1,
            lin_neurons=512,
            out_neurons=len(self.languages),
        )
        for module, file in zip((self.encoder, self.classifier), files.weights, strict=True):
            _load_checkpoint(module, file, files.name)
            module.to(self.device).eval()

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]:
        """Probabilities of the languages (ISO 639-3) of each waveform (float32 at 16 kHz)."""
        import torch

        results = []
        with torch.inference_mode():
            for waveform in waveforms:
                batch = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None].to(self.device)
                lengths = torch.ones(1, device=self.device)
                features = self.normalise(self.features(batch), lengths)
                # the classifier ends in a log-softmax
                scores = self.classifier(self.encoder(features, lengths)).exp()[0, 0].cpu().numpy()
                known: dict[str, float] = {}
                for lang, score in zip(self.languages, scores, strict=True):
                    if lang is not None:
                        known[lang] = known.get(lang, 0.0) + float(score)
                results.append(known)
        return results


def _forget_redirects() -> None:
    """Remove SpeechBrain's stand-ins for its old module names, which nobody here uses, from the table of modules.

    They raise ImportError at any look where an optional package is missing, and pickle looks at every module.
    """
    from speechbrain.utils.importutils import LazyModule

    for name, module in list(sys.modules.items()):
        if isinstance(module, LazyModule):
            del sys.modules[name]


def _load_checkpoint(module: Any, file: Path, model: str) -> None:
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the reader into any kind of error
        seen = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"model {model!r}: {file} is not a plain checkpoint: {seen}") from error
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"model {model!r}: {file}: {' '.join(str(error).split())[:300]}") from error


def _read_labels(file: Path, model: str) -> list[str | None]:
    """ISO 639-3 code of each output, from lines such as `'en: English' => 20`; None for one outside our table."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"'([A-Za-z-]+)(?::[^']*)?' => (\d+)", line.strip())
        if match:
            found[int(match[2])] = from_model_code(match[1], "voxlingua")
    if sorted(found) != list(range(len(found))) or not found:
        raise ModelError(f"model {model!r}: {file} does not list its labels as 'code: Name' => number from 0 on")
    return [found[i] for i in range(len(found))]
