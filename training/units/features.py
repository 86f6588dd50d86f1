"""Frames of speech, 50 a second, that units are made of: filter banks, or what a layer of an encoder makes.

A frame never depends on what else is in its batch but for the rounding of sums. Speech that is longer than a window is
heard in windows that overlap, and each frame is taken from the one in which it is farthest from a cut. Filter banks are
the same however they are cut. An encoder attends to all it is given, so its frames of windows are near those of one
piece, not equal: the same speech must always be cut alike, which it is, and not be shorter than it has to be.

Waveforms and filter banks are standardised over the whole utterance, before windows are cut.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seamlessalign.device_memory import do_batches
from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.sonar.features import FRAME_LENGTH, FRAME_SHIFT, NUM_BINS, STACKED, features, num_inputs
from seamlessalign.embedders.windows import cut_windows, stitch
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.model_files import ModelFiles, find_model, place_of
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units.config import FeatureChoice

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

STRIDE = 320  # samples from frame to frame: 50 a second
_BATCH_FRAMES = 6000  # padded: two minutes of speech
_EPSILON = 1e-5  # added to the variance of a waveform, as where wav2vec 2.0's models are trained


class FrameFeatures(ABC):
    """Base of all: windows, batches, and the joining of what was made of windows."""

    dim: int  # of a frame
    models: Mapping[str, str]  # SHA-256 by name of what touches frames
    offset: int  # samples from the beginning to the middle of the first frame

    def __init__(self, choice: FeatureChoice, device: str) -> None:
        self.choice, self.device = choice, torch.device(device)
        self._window_seconds: float | None = choice.seconds

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """How many frames so many samples have, in one piece or in windows."""

    @abstractmethod
    def _prepare(self, waveform: Float32) -> Any:
        """A whole utterance as windows are cut from it."""

    @abstractmethod
    def _piece(self, prepared: Any, start: int, end: int) -> Any:
        """The window `[start, end)`, samples of which `start` is a multiple of `STRIDE`."""

    @abstractmethod
    def _hear(self, pieces: list[Any]) -> list[Any]:
        """Frames of windows, tensors `(num_frames, dim)` in float32."""

    def frames(self, waveforms: Sequence[Float32]) -> list[Float32]:
        """Frames of each waveform (float32 `(num_samples,)`, 16 kHz), `(num_frames, dim)`; none of too short ones.

        Raises InputError for samples that are not finite.
        """
        return self.mapped(waveforms, lambda values: values.cpu().numpy())

    def mapped(self, waveforms: Sequence[Float32], function: Callable[[Any], npt.NDArray[Any]]) -> list[Any]:
        """What a function makes of each waveform's frames, a value a frame, without all frames in memory at a time.

        function: a tensor `(num_frames, dim)` of one window → an array of `num_frames` rows.
        """
        prepared: list[Any] = []
        pieces: list[tuple[int, int, int]] = []  # waveform, [start, end)
        windows: list[Int64] = []
        for i, waveform in enumerate(waveforms):
            samples = np.ascontiguousarray(waveform, np.float32)
            if samples.ndim != 1:
                raise InputError(f"a waveform has shape {samples.shape}: (num_samples,) is needed")
            if not np.isfinite(samples).all():
                raise InputError("samples are not all finite numbers")
            windows.append(self._windows(len(samples)))
            prepared.append(self._prepare(samples) if len(windows[i]) else None)
            pieces += [(i, start, end) for start, end in windows[i].tolist()]
        made: list[Any] = [None] * len(pieces)

        def hear(batch: list[int]) -> None:
            heard = self._hear([self._piece(prepared[i], start, end) for i, start, end in (pieces[n] for n in batch)])
            for n, values in zip(batch, heard, strict=True):
                made[n] = function(values)

        with torch.inference_mode():
            do_batches(batches([self.num_frames(end - start) for _, start, end in pieces], _BATCH_FRAMES), hear)
            nothing = function(torch.zeros((0, self.dim)))
        parts = iter(made)
        return [
            self._joined([next(parts) for _ in some], some, len(waveform)) if len(some) else nothing
            for some, waveform in zip(windows, waveforms, strict=True)
        ]

    def _windows(self, num_samples: int) -> Int64:
        """Windows `(num_windows, 2)`, samples; none where there is not one frame."""
        most = self._window_seconds
        if not self.num_frames(num_samples):
            return np.zeros((0, 2), np.int64)
        whole = np.array([[0, num_samples]], np.int64)
        if most is None or num_samples <= most * SAMPLE_RATE:
            return whole
        context = self.choice.context_seconds
        return cut_windows(whole, num_samples, max_seconds=most, context_seconds=context, stride=STRIDE)

    def _joined(self, parts: list[npt.NDArray[Any]], windows: Int64, num_samples: int) -> npt.NDArray[Any]:
        if len(parts) == 1:
            return parts[0]
        counts, whole = [len(part) for part in parts], np.array([[0, num_samples]], np.int64)
        taken = stitch(windows, whole, counts, num_samples, stride=STRIDE, offset=self.offset)
        return np.concatenate([part[taken.place[taken.window == i]] for i, part in enumerate(parts)])


class FilterBanks(FrameFeatures):
    """80 log mel energies of two frames of 10 ms side by side, each standardised over the utterance."""

    offset = (FRAME_LENGTH + (STACKED - 1) * FRAME_SHIFT) // 2
    dim = STACKED * NUM_BINS
    models: Mapping[str, str] = {}

    def __init__(self, choice: FeatureChoice, device: str) -> None:
        super().__init__(choice, device)
        self._window_seconds = None

    def num_frames(self, num_samples: int) -> int:
        return num_inputs(num_samples)

    def _prepare(self, waveform: Float32) -> Any:
        return features(torch.as_tensor(waveform, device=self.device))

    def _piece(self, prepared: Any, start: int, end: int) -> Any:
        first = start // STRIDE
        return prepared[first : first + num_inputs(end - start)]

    def _hear(self, pieces: list[Any]) -> list[Any]:
        return pieces


class ConformerFrames(FilterBanks):
    """A layer of w2v-BERT 2.0, or of the conformer of one of SONAR's speech encoders."""

    def __init__(self, choice: FeatureChoice, files: ModelFiles, device: str) -> None:
        from seamlessalign.embedders.student import BackboneConfig
        from seamlessalign.embedders.student.backbones import W2vBertBackbone, build_backbone

        super().__init__(choice, device)
        self._window_seconds = choice.seconds
        if choice.kind == "sonar":
            place = str(files.weights[0])
            self._backbone: Any = build_backbone(
                BackboneConfig(kind="sonar", model=files.name), device, {files.name: place}
            )
            layers = self._backbone.network
        else:
            self._backbone = W2vBertBackbone(str(files.directory), device)
            layers = self._backbone.network.encoder
        self._tap = _Tap(layers, choice)
        self._backbone.eval()
        self.models = {files.name: files.sha256}
        self.dim = self._backbone.dim

    def _hear(self, pieces: list[Any]) -> list[Any]:
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces], device=self.device)
        mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
        values = self._tap.of(self._backbone.encode(padded, mask))
        return [row[: len(piece)].float() for row, piece in zip(values, pieces, strict=True)]


class WaveFrames(FrameFeatures):
    """A layer of wav2vec 2.0, XLS-R or HuBERT.

    The waveform is normalised where the model was trained so: as its `preprocessor_config.json` says, else where its
    convolutions have layer normalisation. Models with group normalisation, which sees the padding, hear one window at
    a time.
    """

    def __init__(self, choice: FeatureChoice, files: ModelFiles, device: str) -> None:
        import transformers

        super().__init__(choice, device)
        kind = transformers.HubertModel if choice.kind == "hubert" else transformers.Wav2Vec2Model
        self._model = _load(kind, files, self.device)
        config = self._model.config
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        if int(np.prod(config.conv_stride)) != STRIDE or getattr(config, "add_adapter", False):
            raise ModelError(f"{files.directory}: does not make 50 frames a second")
        field = 1
        for kernel, stride in reversed(self._convolutions):
            field = (field - 1) * stride + kernel
        self.offset = field // 2
        self._alone = config.feat_extract_norm == "group"
        self._normalised = _normalises(files, not self._alone)
        self._tap = _Tap(self._model.encoder, choice)
        self.models = {files.name: files.sha256}
        self.dim = int(config.hidden_size)

    def num_frames(self, num_samples: int) -> int:
        for kernel, stride in self._convolutions:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    def _prepare(self, waveform: Float32) -> Any:
        values = torch.as_tensor(waveform, device=self.device)
        return torch.nn.functional.layer_norm(values, values.shape, eps=_EPSILON) if self._normalised else values

    def _piece(self, prepared: Any, start: int, end: int) -> Any:
        return prepared[start:end]

    def _hear(self, pieces: list[Any]) -> list[Any]:
        if self._alone:
            return [self._values(piece[None], None)[0] for piece in pieces]
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces], device=self.device)
        mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
        values = self._values(padded, mask.long())
        return [row[: self.num_frames(len(piece))] for row, piece in zip(values, pieces, strict=True)]

    def _values(self, waveforms: Any, mask: Any) -> Any:
        return self._tap.of(self._model(waveforms, attention_mask=mask).last_hidden_state).float()


class WhisperFrames(FrameFeatures):
    """A layer of Whisper's encoder; the last is normalised, as transformers has it."""

    offset = STRIDE // 2

    def __init__(self, choice: FeatureChoice, place: str | None, device: str) -> None:
        from seamlessalign.whisper import load_whisper

        super().__init__(choice, device)
        self._whisper = load_whisper(choice.model_name, place, device)
        _check_layer(choice, len(self._whisper.model.model.encoder.layers))
        self.models = {self._whisper.files.name: self._whisper.files.sha256}
        self.dim = int(self._whisper.model.config.d_model)

    def num_frames(self, num_samples: int) -> int:
        return (num_samples + STRIDE // 2 - 1) // STRIDE

    def _prepare(self, waveform: Float32) -> Any:
        return waveform

    def _piece(self, prepared: Any, start: int, end: int) -> Any:
        return prepared[start:end]

    def _hear(self, pieces: list[Any]) -> list[Any]:
        return self._whisper.encode(pieces, layer=self.choice.layer)


class StudentFrames(FrameFeatures):
    """The frames of a speech encoder that was trained here, before they are pooled."""

    def __init__(self, choice: FeatureChoice, files: ModelFiles, places: Mapping[str, str], device: str) -> None:
        from seamlessalign.embedders.student import Student

        super().__init__(choice, device)
        student = Student.load(files.directory, device, places).eval()
        self._backbone: Any = student.backbone
        kind = student.config.backbone.kind
        if kind == "whisper-decoder":
            raise ModelError(f"{files.directory}: its frames are states of a decoder, not 50 a second")
        self._is_whisper = kind == "whisper"
        self._window_seconds = min(choice.seconds, self._backbone.most_seconds)
        self.offset = STRIDE // 2 if self._is_whisper else FilterBanks.offset
        self.models = {**self._backbone.models, files.name: files.sha256}
        self.dim = int(self._backbone.dim)

    def num_frames(self, num_samples: int) -> int:
        return (num_samples + STRIDE // 2 - 1) // STRIDE if self._is_whisper else num_inputs(num_samples)

    def _prepare(self, waveform: Float32) -> Any:
        return waveform

    def _piece(self, prepared: Any, start: int, end: int) -> Any:
        return prepared[start:end]

    def _hear(self, pieces: list[Any]) -> list[Any]:
        return [frames.values for frames in self._backbone.hear(pieces, "eng")]  # no such backbone asks the language


def open_features(choice: FeatureChoice, models: Mapping[str, str] | None = None, device: str = "cpu") -> FrameFeatures:
    """Load what makes frames.

    models: model name → directory, before `$SEAMLESSALIGN_MODELS`, the hub and packages.

    Raises ModelError where the model is not found, damaged or of another kind; ConfigError for a layer it has not.
    """
    places, name = models or {}, choice.model_name
    if choice.kind == "fbank":
        return FilterBanks(choice, device)
    place = place_of(name, places)
    if choice.kind == "whisper":
        return WhisperFrames(choice, place, device)
    files = find_model(name, place)
    if choice.kind == "student":
        return StudentFrames(choice, files, places, device)
    return (
        ConformerFrames(choice, files, device)
        if choice.kind in ("sonar", "w2v-bert")
        else WaveFrames(choice, files, device)
    )


class _Tap:
    """What one layer of a stack makes; those behind it are cut off."""

    def __init__(self, stack: Any, choice: FeatureChoice) -> None:
        self._is_open = choice.layer is not None
        self._value: Any = None
        if choice.layer is None:
            return
        _check_layer(choice, len(stack.layers))
        stack.layers = stack.layers[: max(choice.layer, 1)]
        if choice.layer:
            stack.layers[-1].register_forward_hook(self._keep)
        else:
            stack.layers[0].register_forward_pre_hook(self._keep_input, with_kwargs=True)

    def of(self, output: Any) -> Any:
        """The layer's own, where one was chosen; else the output."""
        return self._value if self._is_open else output

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        self._value = output[0] if isinstance(output, tuple) else output

    def _keep_input(self, module: Any, inputs: Any, named: Any) -> None:
        self._value = inputs[0] if inputs else named["hidden_states"]


def _check_layer(choice: FeatureChoice, count: int) -> None:
    if choice.layer is not None and choice.layer > count:
        raise ConfigError(f"features.layer {choice.layer}: model {choice.model_name!r} has {count} layers")


def _load(kind: Any, files: ModelFiles, device: Any) -> Any:
    """A model of transformers in float32. Raises ModelError where it is damaged, of another kind, or lacks weights."""
    try:
        model, loaded = kind.from_pretrained(
            files.directory, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{files.directory}: cannot be loaded: {line}") from error
    lacking = sorted(set(loaded["missing_keys"]) - {"masked_spec_embed"})  # that one is for its own training only
    if lacking:
        raise ModelError(f"{files.directory}: its weights lack {', '.join(lacking[:3])}")
    return model.to(device).eval()


def _normalises(files: ModelFiles, default: bool) -> bool:
    import json

    path = files.directory / "preprocessor_config.json"
    if not path.is_file():
        return default
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", default))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
