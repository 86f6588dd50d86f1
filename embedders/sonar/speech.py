"""SONAR's speech encoders, one for each language: spans of a recording → rows in the space of SONAR's texts."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from seamlessalign.device_memory import do_batches
from seamlessalign.embedders.batches import batches, check_finite, torch_dtype, use_threads
from seamlessalign.embedders.card import Card, load_card
from seamlessalign.embedders.sonar.checkpoints import SPEECH_ENCODER, Checkpoint, save_tensors
from seamlessalign.embedders.sonar.features import MIN_SAMPLES, features, num_inputs
from seamlessalign.embedders.sonar.shared import encode_shared
from seamlessalign.embedders.speech import SpanFrames, check_spans, is_silent, scaled, speech_seconds
from seamlessalign.embedders.windows import stretches
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import KNOWN_MODELS, find_model, place_of
from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Progress = Callable[[float], None]

FAMILY = "sonar-speech"  # names are sonar-speech-eng, …
_KEPT = 2  # encoders in memory at a time, of 2.5 to 3 GB each in float32
_BATCH_INPUTS = 6000  # padded, at 50 a second: two minutes of speech
_loading = threading.Lock()  # threads that want one encoder load it once
_MOST_SECONDS = 60  # of a span; memory grows with the square of its length


class SonarSpeechEncoder:
    """Waveforms → SONAR's own rows."""

    def __init__(self, weights: Path, *, device: str = "cpu", dtype: str = "auto") -> None:
        """Load a checkpoint in any of the known styles.

        Args:
            weights: the file.
            device: torch device name.
            dtype: float32, float16, bfloat16, or auto: float16 on a GPU, else float32. Features are in float32.

        Raises:
            ModelError: a file that is missing, unsafe, damaged, or not a speech encoder of SONAR.
        """
        import torch

        from seamlessalign.embedders.sonar.conformer import build

        self.device = torch.device(device)
        self.dtype = torch_dtype(dtype, self.device)
        checkpoint = Checkpoint(weights, SPEECH_ENCODER)
        self.model: Any = build(checkpoint)
        checkpoint.load_into(self.model)
        self.model.to(self.device, self.dtype).eval()
        self.dim = int(checkpoint.shape("pooler.projection.weight")[0])

    def encode(self, waveforms: Sequence[Float32], progress: Progress | None = None) -> Float32:
        """Rows of utterances, `(len(waveforms), dim)`, in their order, not of unit length.

        Args:
            waveforms: float32 samples at 16 kHz, finite, each with `MIN_SAMPLES` at least.
            progress: called with the seconds of speech done since the last call.

        Raises:
            ModelError: rows that are not finite in this precision.
        """
        import torch

        rows = np.empty((len(waveforms), self.dim), np.float32)

        def encode(batch: list[int]) -> None:
            with torch.inference_mode():
                rows[batch] = self.model(*self._padded(waveforms, batch)).float().cpu().numpy()
            if progress is not None:
                progress(sum(len(waveforms[i]) for i in batch) / SAMPLE_RATE)

        do_batches(_batches(waveforms), encode)
        return check_finite(rows, self.dtype)

    def outputs(self, waveforms: Sequence[Float32]) -> list[Any]:
        """What the conformer makes of waveforms as `encode` takes them: tensors `(num_inputs, dim)`, in their order."""
        import torch

        made: list[Any] = [None] * len(waveforms)

        def encode(batch: list[int]) -> None:
            inputs, mask = self._padded(waveforms, batch)
            with torch.inference_mode():
                outputs = self.model.outputs(inputs, mask)
            for i, values, real in zip(batch, outputs, mask, strict=True):
                made[i] = values[real]

        do_batches(_batches(waveforms), encode)
        return made

    def pool_spans(self, outputs: Any, ranges: Int64) -> Float32:
        """Rows of ranges of outputs in common, `(num_spans, dim)`, not of unit length.

        outputs: tensor `(num_outputs, dim)`, in order of time. ranges: int64 `(num_spans, 2)`, `[first, last)`.
        """
        import torch

        if not len(ranges):
            return np.zeros((0, self.dim), np.float32)
        with torch.inference_mode():
            return np.asarray(self.model.pooler.pool_spans(outputs, ranges).float().cpu().numpy())

    def _padded(self, waveforms: Sequence[Float32], batch: list[int]) -> tuple[Any, Any]:
        """The inputs of a batch `(batch, length, 160)` and a mask of real ones."""
        import torch

        inputs = [features(torch.tensor(waveforms[i], device=self.device)) for i in batch]
        padded = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(self.dtype)
        places = torch.arange(padded.shape[1], device=self.device)
        lengths = torch.tensor([num_inputs(len(waveforms[i])) for i in batch], device=self.device)
        return padded, places < lengths[:, None]

    def save(self, path: Path) -> None:
        """Write the weights as .safetensors, in the precision they are held in; they load as a checkpoint does."""
        save_tensors(self.model, path)


class SonarSpeechEmbedder:
    """Spans → unit rows. `models` are the names and SHA-256 of the encoders that this object has used."""

    name = "sonar"

    def __init__(
        self, card: Card, places: Mapping[str, str], device: str, dtype: str, frames: SpanFrames = "each"
    ) -> None:
        if frames not in get_args(SpanFrames):
            raise ModelError(f"frames are {frames!r}: choose one of {', '.join(get_args(SpanFrames))}")
        self.dim = card.dim
        self.frames = frames
        self.card = card
        self.models: Mapping[str, str] = {}
        self._places = places
        self._device = device
        self._dtype = dtype

    def embed(
        self,
        waveform: Float32,
        spans: Int64,
        lang: str,
        fragments: Int64 | None = None,
        progress: Progress | None = None,
    ) -> Float32:
        """Embed spans of a recording with the pauses inside: each as it is, or, where `frames` is `shared`, from the
        conformer's outputs over the whole stretch that it lies in.

        Args:
            waveform: float32 `(num_samples,)` at 16 kHz.
            spans: int64 `(num_spans, 2)`, samples `[start, end)`; they may overlap.
            lang: ISO 639-3 of what is spoken; its encoder is loaded when it is first wanted.
            fragments: int64 `(num_fragments, 2)`, sorted: what the spans are made of. Rows of spans that are encoded
                each as it is do not depend on them; stretches are cut into windows between them.
            progress: called with the seconds done since the last call: in all, those of fragments that lie in spans,
                or those that spans cover.

        Returns:
            float32 `(num_spans, dim)`, rows of unit length; a row of NaN where nothing is heard: where samples do not
            differ by a step of 16 bits, or the span is shorter than 35 ms.

        Raises:
            InputError: a span that is empty or outside the recording, one longer than 60 s, samples that are not
                finite, or a language that has no encoder.
            ModelError: the language's encoder is missing or damaged, or its rows are not finite in this precision.
        """
        spans = np.asarray(spans, np.int64).reshape(-1, 2)
        check_spans(spans, len(waveform))
        if not len(spans):
            return np.zeros((0, self.dim), np.float32)
        encoder = self._encoder(lang)
        fragments = None if fragments is None else np.asarray(fragments, np.int64).reshape(-1, 2)
        distinct, where = np.unique(spans, axis=0, return_inverse=True)
        heard = self._heard(waveform, distinct)
        made = np.full((len(distinct), self.dim), np.nan, np.float32)
        if self.frames == "shared":
            tell = scaled(progress, speech_seconds(distinct, fragments), stretches(distinct[heard]))
            if len(heard):
                made[heard] = encode_shared(encoder, waveform, distinct[heard], fragments, tell)
        else:
            tell = scaled(progress, speech_seconds(distinct, fragments), distinct[heard])
            pieces = [np.ascontiguousarray(waveform[start:end], np.float32) for start, end in distinct[heard]]
            made[heard] = encoder.encode(pieces, tell)
        return self.card.centre(made[where.ravel()], lang)

    @staticmethod
    def _heard(waveform: Float32, spans: Int64) -> Int64:
        """Indices of spans in which there is something to hear. Raises InputError for those that cannot be read."""
        heard = []
        for i, (start, end) in enumerate(spans.tolist()):
            samples = waveform[start:end]
            if not np.isfinite(samples).all():
                raise InputError(f"samples {start}-{end} are not all finite numbers")
            if len(samples) > _MOST_SECONDS * SAMPLE_RATE:
                raise InputError(
                    f"span [{start}, {end}) is longer than the {_MOST_SECONDS} s that SONAR is given; "
                    "lower speech.spans.max_seconds"
                )
            if len(samples) >= MIN_SAMPLES and not is_silent(samples):
                heard.append(i)
        return np.array(heard, np.int64)

    def _encoder(self, lang: str) -> SonarSpeechEncoder:
        name = speech_model(lang)
        with _loading:
            encoder, sha256 = _load_encoder(name, place_of(name, self._places), self._device, self._dtype)
        if encoder.dim != self.dim:
            raise ModelError(f"model {name!r}: it has {encoder.dim} dimensions, SONAR's card {self.dim}")
        with _loading:
            self.models = {**self.models, name: sha256}
        return encoder


def speech_model(lang: str) -> str:
    """The name of a language's encoder. Raises InputError where none was published."""
    name = f"{FAMILY}-{lang}"
    if name not in KNOWN_MODELS:
        known = sorted(other.removeprefix(f"{FAMILY}-") for other in KNOWN_MODELS if other.startswith(f"{FAMILY}-"))
        raise InputError(f"language {lang!r}: SONAR has no speech encoder for it; there are {', '.join(known)}")
    return name


def load_speech(
    models: Mapping[str, str],
    device: str,
    threads: int | None = None,
    dtype: str = "auto",
    frames: SpanFrames = "each",
) -> SonarSpeechEmbedder:
    """SONAR's speech embedder.

    Args:
        models: a name (`sonar-speech-fra`, or `sonar` for all in one) to a directory.
        device: torch device name.
        threads: of torch.
        dtype: as of `SonarSpeechEncoder`.
        frames: `each`: every span is encoded by itself; `shared`: each stretch of speech once, for all its spans.

    Raises:
        ModelError: frames that are neither.
    """
    use_threads(threads)
    return SonarSpeechEmbedder(load_card("sonar"), models, device, dtype, frames)


def _batches(waveforms: Sequence[Float32]) -> list[list[int]]:
    """Indices of waveforms in batches of like length."""
    return batches([num_inputs(len(waveform)) for waveform in waveforms], _BATCH_INPUTS)


@lru_cache(maxsize=_KEPT)
def _load_encoder(name: str, directory: str | None, device: str, dtype: str) -> tuple[SonarSpeechEncoder, str]:
    files = find_model(name, directory)
    return SonarSpeechEncoder(files.weights[0], device=device, dtype=dtype), files.sha256
