"""What hears speech: Whisper through transformers or faster-whisper, or a function of the user's.

Whisper is greedy unless told otherwise, of temperature 0, and given nothing of what it wrote before, so that what is
heard in a sound depends on that sound alone. All that an answer depends on is in a recogniser's signature: the SHA-256
of weights and of the files beside them, the engine with its version, the kind of device and of numbers, the search.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import ConfigError, InputError, MissingPackageError, ModelError
from seamlessalign.languages import to_model_code
from seamlessalign.model_files import ModelFiles, find_model, packaged_model, read_weights
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.config import Asr
from seamlessalign.training.evaluation.functions import load_function
from seamlessalign.whisper import MAX_SPEECH_SECONDS, TAIL_SECONDS, Whisper, load_whisper
from seamlessalign.whisper_files import first_line

Float32 = npt.NDArray[np.float32]

WHISPER = "whisper-base"  # where a configuration names none
_WINDOW_SECONDS = 30.0  # what Whisper hears at once
_BATCH = 16  # windows that faster-whisper hears together
# of a model's directory, beside the weights: what an answer depends on
_BESIDE = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.json",
    "vocabulary.txt",
)  # fmt: skip


class Recogniser(Protocol):
    """What hears speech."""

    @property
    def signature(self) -> str:
        """Its name and all that its answer depends on, `key:value` between bars."""

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        """The words of each waveform (float32, 16 kHz) in a language (ISO 639-3); None where it failed."""


def load_recogniser(asr: Asr) -> Recogniser:
    """The recogniser of a configuration; the models of Whisper are loaded when they are first needed.

    Raises ConfigError for a function that there is not.
    """
    if asr.function is not None:
        return FunctionRecogniser(asr.function)
    if asr.engine == "faster-whisper":
        return FasterWhisperRecogniser(
            asr.whisper, asr.directory, asr.device, asr.compute_type, asr.beam or 1, asr.batch or _BATCH
        )
    return WhisperRecogniser(asr.whisper, asr.directory, asr.device)


class WhisperRecogniser:
    """Whisper as this project runs it on transformers: greedy, 28 s at a time, what is longer in equal pieces.

    A window ends two seconds after its speech, and words that go round in a circle are cut off.
    """

    def __init__(self, name: str = WHISPER, directory: str | None = None, device: str = "cpu") -> None:
        self._name, self._directory, self._device = name, directory, device

    @cached_property
    def _whisper(self) -> Whisper:
        _check_device(self._device)
        return load_whisper(self._name, self._directory, self._device)

    @cached_property
    def signature(self) -> str:
        """Raises ModelError where there is no such model, ConfigError where there is no such device."""
        told = _model_told(_label(self._name, self._directory), self._whisper.files)
        dtype = str(self._whisper.dtype).removeprefix("torch.")
        return (
            f"{told}|engine:transformers-{version('transformers')}|device:{self._whisper.device.type}|compute:{dtype}"
            f"|beam:1|temperature:0|pieces:{MAX_SPEECH_SECONDS:g}s|silence:{TAIL_SECONDS:g}s|loops:cut"
        )

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        """Raises InputError for a language that the model does not know."""
        if lang not in self._whisper.languages:
            raise InputError(f"language {lang!r} is not one that {self._whisper.files.place} knows")
        pieces = [pieces_of(waveform, MAX_SPEECH_SECONDS) for waveform in waveforms]
        heard = self._whisper.hear([piece for some in pieces for piece in some], lang, ["transcribe"])
        texts = iter(transcript.text.strip() for (transcript,) in heard)
        return _joined(pieces, texts)


class FasterWhisperRecogniser:
    """Whisper through the package faster-whisper, as it transcribes each file by itself without timestamps.

    Windows of several sounds are heard together, 30 s each; what is longer in equal pieces.
    """

    def __init__(
        self,
        name: str = WHISPER,
        directory: str | None = None,
        device: str = "cpu",
        compute_type: str | None = None,
        beam: int = 1,
        batch: int = _BATCH,
    ) -> None:
        """compute_type: CTranslate2's name of the numbers, by default float32 on the processor and float16 elsewhere.
        batch: windows heard together."""
        self._name, self._directory, self._device = name, directory, device
        self._compute_type = compute_type or ("float32" if device == "cpu" else "float16")
        self._beam, self._batch = beam, batch

    @cached_property
    def _files(self) -> ModelFiles:
        if self._directory is not None:
            return find_model("whisper-ctranslate2", self._directory)
        packaged = packaged_model(self._name)
        if packaged is None:
            raise ModelError(
                f"faster-whisper has no {self._name}: name a directory under asr.directory, such as is written by "
                "ct2-transformers-converter --model MODEL --copy_files tokenizer.json --output_dir DIRECTORY"
            )
        return packaged

    @cached_property
    def model(self) -> Any:
        """`WhisperModel`. Raises MissingPackageError, ModelError, ConfigError."""
        module = _faster_whisper()
        files, device, _, index = self._files, *self._device.partition(":")
        more: dict[str, Any] = {"device_index": int(index)} if index else {}
        place = str(files.directory)
        if files.origin == "package":  # its weights are in parts
            beside = {path.name: path.read_bytes() for path in _beside(files)}
            more["files"] = {"model.bin": read_weights(files), **beside}
            place = files.name
        try:
            return module.WhisperModel(
                place, device=device, compute_type=self._compute_type, local_files_only=True, **more
            )
        except (RuntimeError, ValueError) as error:
            told = first_line(error)
            if any(word in told.lower() for word in ("device", "compute type", "cuda")):
                raise ConfigError(f"asr: device {self._device}, compute_type {self._compute_type}: {told}") from error
            raise ModelError(f"{files.place}: faster-whisper cannot load it: {told}") from error
        except Exception as error:  # of tokenizers, of no class of its own
            raise ModelError(f"{files.place}: faster-whisper cannot load it: {first_line(error)}") from error

    @cached_property
    def signature(self) -> str:
        """Raises what loading the model does."""
        told = _model_told(_label(self._name, self._directory), self._files)
        model = self.model.model
        return (
            f"{told}|engine:faster-whisper-{version('faster-whisper')}|ctranslate2:{version('ctranslate2')}"
            f"|device:{model.device}|compute:{model.compute_type}|beam:{self._beam}|temperature:0"
            f"|pieces:{_WINDOW_SECONDS:g}s"
        )

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        """Raises InputError for a language that the model does not know."""
        code = self._code(lang)
        pieces = [pieces_of(waveform, _WINDOW_SECONDS) for waveform in waveforms]
        if not pieces:
            return []
        # one array of all windows, each from a whole second on, by which its text is known again
        starts, clips, parts, second = [], [], [], 0
        for piece in (piece for some in pieces for piece in some):
            seconds = -(-len(piece) // SAMPLE_RATE)
            starts.append(second)
            # half a sample more, so that as many come out when it is multiplied and cut to a whole number
            clips.append({"start": second, "end": (second * SAMPLE_RATE + len(piece) + 0.5) / SAMPLE_RATE})
            parts.append(np.pad(piece, (0, seconds * SAMPLE_RATE - len(piece))))
            second += seconds
        segments, _ = (
            _faster_whisper()
            .BatchedInferencePipeline(self.model)
            .transcribe(
                np.concatenate(parts),
                language=code,
                task="transcribe",
                beam_size=self._beam,
                temperature=0.0,
                without_timestamps=True,
                vad_filter=False,
                clip_timestamps=clips,
                batch_size=self._batch,
            )
        )
        written: dict[int, str] = {}
        for segment in segments:
            start = segment.seek // self.model.frames_per_second
            written[start] = written.get(start, "") + segment.text
        return _joined(pieces, iter([written.get(start, "").strip() for start in starts]))

    def _code(self, lang: str) -> str:
        code = to_model_code(lang, "whisper")
        known = self.model.supported_languages
        if code is None or code not in known or self.model.hf_tokenizer.token_to_id(f"<|{code}|>") is None:
            raise InputError(f"language {lang!r} is not one that {self._files.place} knows")
        return code


class FunctionRecogniser:
    """A user's function of waveforms and a language, `module:name`.

    Its signature is what it says of itself in its attribute `signature`; else its name with the SHA-256 of its file, so
    that nothing that an older one heard is taken for its answer.
    """

    def __init__(self, place: str) -> None:
        """Raises ConfigError where there is no such function."""
        self._function: Callable[[Sequence[Float32], str], Sequence[str | None]] = load_function(place, "asr")
        self.signature = f"asr:{getattr(self._function, 'signature', None) or f'{place}{_version_of(self._function)}'}"

    def hear(self, waveforms: Sequence[Float32], lang: str) -> list[str | None]:
        """Raises what the function does, and ValueError where it does not give one text, or None, for each sound."""
        found = self._function(waveforms, lang)
        if isinstance(found, str | bytes):
            raise ValueError(f"gave {type(found).__name__} for {len(waveforms)} sounds, not a list of texts")
        texts = list(found)
        if len(texts) != len(waveforms):
            raise ValueError(f"gave {len(texts)} texts for {len(waveforms)} sounds")
        return texts


def _version_of(function: Any) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        return "" if file is None else f"-{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:8]}"
    except (TypeError, ValueError, OSError):  # built in, or an object that can be called
        return ""


# Models


def _faster_whisper() -> Any:
    try:
        return importlib.import_module("faster_whisper")
    except ModuleNotFoundError as error:
        raise MissingPackageError("faster-whisper", "evaluate", "this recogniser") from error


def _label(name: str, directory: str | None) -> str:
    """What a signature calls a model; one of a directory is not Whisper base only because nobody named it."""
    return "whisper" if directory is not None and name == WHISPER else name


def _model_told(label: str, files: ModelFiles) -> str:
    beside = hashlib.sha256()
    for path in _beside(files):
        content = path.read_bytes()
        beside.update(f"{path.name} {len(content)}\n".encode() + content)
    return f"asr:{label}-{files.sha256[:8]}|files:{beside.hexdigest()[:8]}"


def _beside(files: ModelFiles) -> list[Path]:
    return [path for name in _BESIDE if (path := files.directory / name).is_file()]


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"asr.device {device!r}: torch has no such device here: {first_line(error)}") from error


# Windows


def pieces_of(waveform: Float32, most_seconds: float) -> list[Float32]:
    """A waveform at 16 kHz in as few equal pieces as there can be of at most so many seconds."""
    most = int(most_seconds * SAMPLE_RATE)
    return list(np.array_split(waveform, max(1, -(-len(waveform) // most))))


def _joined(pieces: Sequence[Sequence[Float32]], texts: Iterator[str]) -> list[str | None]:
    return [" ".join(text for _ in some if (text := next(texts))) for some in pieces]
