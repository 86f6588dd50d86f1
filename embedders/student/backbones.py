"""Backbones: Whisper's encoder and decoder, w2v-BERT 2.0, SONAR's conformer, and a small encoder from scratch.

Each hears a fragment by itself; one that is longer than the backbone takes is cut into equal pieces.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from seamlessalign.device_memory import do_batches
from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.sonar.features import FRAME_LENGTH, FRAME_SHIFT, NUM_BINS, STACKED, features, num_inputs
from seamlessalign.embedders.student.config import BackboneConfig
from seamlessalign.embedders.student.frames import Frames, Progress, joined
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import find_model, place_of
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.storage import sha256_of
from seamlessalign.whisper import MAX_SPEECH_SECONDS, SAMPLES_PER_FRAME, Task, Whisper, load_whisper

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_STEP = FRAME_SHIFT * STACKED  # samples from one input of a conformer to the next
_MIDDLE = (FRAME_LENGTH + (STACKED - 1) * FRAME_SHIFT) // 2  # of an input, from its first sample
_MOST_SECONDS = 40.0  # of a piece that a conformer hears; memory grows with the square of its length
_KERNEL = 31  # inputs that the convolution of a backbone from scratch reads: 0.6 s
_BATCH_INPUTS = 6000  # padded, at 50 a second: two minutes of speech


class SpeechBackbone(nn.Module, ABC):  # type: ignore[misc]
    """Base of all backbones: fragments are checked, cut and heard, and their frames put on the recording's time.

    A pretrained network stays in evaluation mode while it is trained: no dropout, statistics of batches not used.
    """

    name: str
    dim: int
    models: Mapping[str, str]
    most_seconds: float = _MOST_SECONDS
    still = True  # `train()` leaves it in evaluation mode

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)

    @abstractmethod
    def hear(self, pieces: Sequence[Float32], lang: str) -> list[Frames]:
        """Frames of each piece, with times from its own first sample. Gradients flow where they are wanted."""

    def frames(self, waveform: Float32, fragments: Int64, lang: str, progress: Progress | None = None) -> Frames:
        """As `Backbone.frames`. No gradients."""
        pieces, starts = cut_pieces(waveform, fragments, self.most_seconds)
        with torch.no_grad():
            parts = self.hear(pieces, lang)
        if progress is not None:
            progress(sum(len(piece) for piece in pieces) / SAMPLE_RATE)
        return joined([*parts, self.nothing()], [*starts, 0])

    def nothing(self) -> Frames:
        """Frames of no speech."""
        return Frames(torch.zeros((0, self.dim), device=self.device), np.zeros(0, np.int64))

    def train(self, mode: bool = True) -> "SpeechBackbone":
        super().train(mode and not self.still)
        return self


class WhisperEncoderBackbone(SpeechBackbone):
    """The frames of Whisper's encoder, 50 a second; those of the silence behind the speech are left out."""

    name = "whisper"
    most_seconds = MAX_SPEECH_SECONDS

    def __init__(self, whisper: Whisper) -> None:
        super().__init__(str(whisper.device))
        self.models = {whisper.files.name: whisper.files.sha256}
        self._whisper = whisper
        self.network = whisper.model.model.encoder
        self.dim = int(whisper.model.config.d_model)

    def hear(self, pieces: Sequence[Float32], lang: str) -> list[Frames]:
        encoded = self._whisper.encode(pieces)
        return [Frames(values, _times(len(values), SAMPLES_PER_FRAME, SAMPLES_PER_FRAME // 2)) for values in encoded]


class WhisperDecoderBackbone(SpeechBackbone):
    """The states of Whisper's decoder that wrote each token, spread evenly over the fragment."""

    name = "whisper-decoder"
    most_seconds = MAX_SPEECH_SECONDS

    def __init__(self, whisper: Whisper, task: Task) -> None:
        super().__init__(str(whisper.device))
        self.models = {whisper.files.name: whisper.files.sha256}
        self._whisper = whisper
        self._task: Task = task
        self.dim = int(whisper.model.config.d_model)

    def hear(self, pieces: Sequence[Float32], lang: str) -> list[Frames]:
        heard = self._whisper.hear_states(pieces, lang, self._task)
        return [
            Frames(item.states, _spread(len(item.tokens), len(piece)), item.tokens)
            for item, piece in zip(heard, pieces, strict=True)
        ]

    def nothing(self) -> Frames:
        return Frames(torch.zeros((0, self.dim), device=self.device), np.zeros(0, np.int64), np.zeros(0, np.int64))


class FilterBankBackbone(SpeechBackbone):
    """A network over standardised filter banks, two frames in one: 50 frames a second."""

    @abstractmethod
    def encode(self, inputs: Any, mask: Any) -> Any:
        """Frames `(batch, length, dim)` of inputs `(batch, length, 160)` with a mask of real ones."""

    def hear(self, pieces: Sequence[Float32], lang: str) -> list[Frames]:
        lengths = [num_inputs(len(piece)) for piece in pieces]
        made = [self.nothing() for _ in pieces]
        there = [i for i, length in enumerate(lengths) if length]

        def hear(batch: list[int]) -> None:
            members = [there[i] for i in batch]
            inputs = [features(torch.as_tensor(pieces[i], device=self.device)) for i in members]
            padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True)
            places = torch.arange(padded.shape[1], device=self.device)
            mask = places < torch.tensor([lengths[i] for i in members], device=self.device)[:, None]
            for i, values in zip(members, self.encode(padded, mask), strict=True):
                made[i] = Frames(values[: lengths[i]].float(), _times(lengths[i], _STEP, _MIDDLE))

        do_batches(batches([lengths[i] for i in there], _BATCH_INPUTS), hear)
        return made


class SonarBackbone(FilterBankBackbone):
    """The conformer of one of SONAR's speech encoders."""

    name = "sonar"

    def __init__(self, network: Any, models: Mapping[str, str], device: str) -> None:
        super().__init__(device)
        self.models = models
        self.projection, self.network = network.feature_projection, network.encoder
        self.dim = int(self.projection.projection.out_features)
        self.to(self.device)

    def encode(self, inputs: Any, mask: Any) -> Any:
        return self.network(self.projection(inputs), attention_mask=mask)


class W2vBertBackbone(FilterBankBackbone):
    """w2v-BERT 2.0, or any other Wav2Vec2BertModel of transformers without an adapter."""

    name = "w2v-bert"

    def __init__(self, directory: str, device: str) -> None:
        super().__init__(device)
        from transformers import Wav2Vec2BertModel

        try:
            self.network, loaded = Wav2Vec2BertModel.from_pretrained(
                directory, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        except Exception as error:
            raise ModelError(f"{directory}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
        config = self.network.config
        if loaded["missing_keys"]:
            lacking = sorted(loaded["missing_keys"])
            raise ModelError(f"{directory}: its weights lack {', '.join(lacking[:3])}")
        if config.model_type != "wav2vec2-bert" or config.feature_projection_input_dim != STACKED * NUM_BINS:
            raise ModelError(f"{directory}: is no w2v-BERT 2.0, but {config.model_type}")
        if config.add_adapter:
            raise ModelError(f"{directory}: has an adapter, which makes fewer frames; save the model without it")
        self.models = {"w2v-bert": sha256_of(next(iter(sorted(Path(directory).glob("*.safetensors")))))}
        self.dim = int(config.hidden_size)
        self.network.masked_spec_embed.requires_grad_(False)  # only its own pre-training uses it
        self.to(self.device).eval()

    def encode(self, inputs: Any, mask: Any) -> Any:
        return self.network(inputs, attention_mask=mask.long()).last_hidden_state


class ScratchBackbone(FilterBankBackbone):
    """A small Transformer over filter banks, with random weights; a convolution tells it what is near (`_KERNEL`)."""

    name = "scratch"
    still = False

    def __init__(self, config: BackboneConfig, device: str) -> None:
        super().__init__(device)
        self.models: Mapping[str, str] = {}
        self.dim = config.width
        self.enter = nn.Linear(STACKED * NUM_BINS, self.dim)
        self.place = nn.Conv1d(self.dim, self.dim, _KERNEL, padding=_KERNEL // 2, groups=self.dim)
        layer = nn.TransformerEncoderLayer(
            self.dim, config.heads, config.ffn, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(self.dim), enable_nested_tensor=False)
        self.to(self.device)

    def encode(self, inputs: Any, mask: Any) -> Any:
        values = self.enter(inputs) * mask[..., None]
        values = values + nn.functional.gelu(self.place(values.transpose(1, 2)).transpose(1, 2))
        return self.layers(values, src_key_padding_mask=~mask)


def build_backbone(
    config: BackboneConfig, device: str = "cpu", models: Mapping[str, str] | None = None, *, trained: bool = False
) -> SpeechBackbone:
    """Load a backbone, or make one from scratch.

    Args:
        config: which one.
        device: torch device name.
        models: model name → directory, for models that lie in one.
        trained: load one of its own in float32, whatever the device, whose weights may change.

    Raises:
        ModelError: a model that cannot be found, is damaged, or is not what its name says.
    """
    name, places = config.model_name, models or {}
    if config.kind == "scratch":
        return ScratchBackbone(config, device)
    if config.kind == "w2v-bert":
        return W2vBertBackbone(str(config.directory), device)
    if config.kind == "sonar":
        from seamlessalign.embedders.sonar.speech import SonarSpeechEncoder

        files = find_model(name, place_of(name, places))
        encoder = SonarSpeechEncoder(files.weights[0], device=device, dtype="float32")
        return SonarBackbone(encoder.model, {name: files.sha256}, device)
    if config.kind == "whisper-decoder":
        return WhisperDecoderBackbone(load_whisper(name, places.get(name), device), config.task)
    if not trained:
        return WhisperEncoderBackbone(load_whisper(name, places.get(name), device))
    whisper = Whisper(find_model(name, places.get(name)), device)
    whisper.model.float()
    whisper.dtype = torch.float32
    return WhisperEncoderBackbone(whisper)


def cut_pieces(waveform: Float32, fragments: Int64, most_seconds: float) -> tuple[list[Float32], list[int]]:
    """The samples of fragments, those beyond so many seconds in equal pieces, and the first sample of each piece.

    Raises InputError for a fragment that is empty, outside the recording, or overlaps the one before, and for samples
    that are not finite.
    """
    pieces: list[Float32] = []
    starts: list[int] = []
    before = 0
    for start, end in np.asarray(fragments, np.int64).reshape(-1, 2).tolist():
        if not before <= start < end <= len(waveform):
            raise InputError(
                f"fragment [{start}, {end}) is empty, overlaps the one before, or is outside the recording's "
                f"{len(waveform)} samples"
            )
        before = end
        samples = np.ascontiguousarray(waveform[start:end], np.float32)
        if not np.isfinite(samples).all():
            raise InputError(f"samples {start}-{end} are not all finite numbers")
        for piece in np.array_split(samples, -(-len(samples) // int(most_seconds * SAMPLE_RATE))):
            pieces.append(piece)
            starts.append(start)
            start += len(piece)
    return pieces, starts


def _times(count: int, step: int, middle: int) -> Int64:
    return np.arange(count, dtype=np.int64) * step + middle


def _spread(count: int, num_samples: int) -> Int64:
    """The middles of so many equal parts of a piece."""
    return np.asarray((2 * np.arange(count, dtype=np.int64) + 1) * num_samples // (2 * max(count, 1)), np.int64)
