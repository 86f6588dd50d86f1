"""ECAPA-TDNN (Desplanques et al. 2020) as a language identifier, with SpeechBrain's features and modules.

The structure is made of sizes alone, so no class named in a checkpoint is ever created, and weights are read without
unpickling objects. Two formats: the three files of SpeechBrain's VoxLingua107 checkpoint, and a directory of our own
with `config.json` (sizes and languages) and `model.safetensors`, as `seamlessalign train lid` writes it.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from seamlessalign import storage
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.languages import from_model_code, get_language
from seamlessalign.model_files import ModelFiles
from seamlessalign.typed_config import Section, checked

Float32 = npt.NDArray[np.float32]

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


class EcapaSizes(Section):
    """Sizes of the network; those of VoxLingua107's where nothing is given."""

    n_mels: PositiveInt = 60  # mel bins of a frame
    # of the first convolution, of the blocks, and of what their outputs are joined to
    channels: list[PositiveInt] = Field(default=[1024, 1024, 1024, 1024, 3072], min_length=3)
    kernel_sizes: list[PositiveInt] = Field(default=[5, 3, 3, 3, 1])  # of the same layers, odd
    dilations: list[PositiveInt] = Field(default=[1, 2, 3, 4, 1])  # of the same layers
    attention_channels: PositiveInt = 128  # of the pooling over time
    res2net_scale: PositiveInt = 8  # parts that the channels of a block are cut into
    se_channels: PositiveInt = 128  # of the squeeze and excitation of a block
    embedding: PositiveInt = 256  # dimensions of an utterance
    classifier: PositiveInt = 512  # hidden units between it and the languages

    @model_validator(mode="after")
    def _fitting(self) -> "EcapaSizes":
        if not len(self.channels) == len(self.kernel_sizes) == len(self.dilations):
            raise ValueError("channels, kernel_sizes and dilations must be equally many")
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError("kernel_sizes must be odd")
        uneven = [size for size in self.channels[1:-1] if size % self.res2net_scale]
        if uneven:
            raise ValueError(f"channels of {uneven[0]} cannot be cut into res2net_scale {self.res2net_scale} parts")
        if len(set(self.channels[:-1])) > 1:
            raise ValueError("all channels but the last must be equal, because blocks add their input")
        return self


class EcapaNetwork(nn.Module):  # type: ignore[misc]
    """Features → log-probabilities of languages."""

    def __init__(self, sizes: EcapaSizes, num_languages: int) -> None:
        """Random weights, drawn from torch's generator. Raises ModelError where SpeechBrain cannot be imported."""
        super().__init__()
        try:
            from speechbrain.lobes.features import Fbank
            from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
            from speechbrain.lobes.models.Xvector import Classifier
            from speechbrain.processing.features import InputNormalization
        except (ImportError, RuntimeError) as error:
            raise ModelError(
                f"ECAPA-TDNN: SpeechBrain cannot be imported ({str(error).splitlines()[0]}); "
                "torch and torchaudio must be built for the same CUDA version"
            ) from error
        _forget_redirects()
        self.fbank = Fbank(n_mels=sizes.n_mels)
        self.normalise = InputNormalization(norm_type="sentence", std_norm=False)
        self.encoder = ECAPA_TDNN(
            sizes.n_mels,
            channels=list(sizes.channels),
            kernel_sizes=list(sizes.kernel_sizes),
            dilations=list(sizes.dilations),
            attention_channels=sizes.attention_channels,
            res2net_scale=sizes.res2net_scale,
            se_channels=sizes.se_channels,
            lin_neurons=sizes.embedding,
        )
        self.classifier = Classifier(
            [None, None, sizes.embedding],
            activation=nn.LeakyReLU,
            lin_blocks=1,
            lin_neurons=sizes.classifier,
            out_neurons=num_languages,
        )

    def features(self, waveforms: Any) -> Any:
        """Log-mel energies less their mean over time, `(batch, num_frames, n_mels)` float32, 100 frames a second.

        waveforms: float32 `(batch, num_samples)` at 16 kHz, of one length.
        """
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            lengths = torch.ones(len(waveforms), device=waveforms.device)
            return self.normalise(self.fbank(waveforms.float()), lengths)

    def forward(self, features: Any) -> Any:
        """Log-probabilities `(batch, num_languages)`."""
        return self.classifier(self.encoder(features))[:, 0]

    def own_state(self) -> dict[str, Any]:
        """What is learnt; features and their normalisation have nothing that is."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(("encoder.", "classifier.")) and not name.endswith("num_batches_tracked")
        }

    def fill(self, tensors: dict[str, Any], origin: str) -> None:
        """Put saved tensors in. Raises ModelError that names what is missing, too much, misshapen or not finite."""
        own = self.own_state()
        for what, names in (("lacks", own.keys() - tensors.keys()), ("has too much:", tensors.keys() - own.keys())):
            if names:
                raise ModelError(f"{origin} {what} {', '.join(sorted(names)[:3])}")
        for name in sorted(own):
            if own[name].shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
                raise ModelError(f"{origin}: {name} has shape {shapes}")
            if not bool(torch.isfinite(tensors[name]).all()):
                raise ModelError(f"{origin}: {name} has values that are not finite")
        self.load_state_dict(tensors, strict=False)


class Ecapa:
    """A trained network that says the languages of waveforms. `languages` has None where the table lacks one."""

    def __init__(self, files: ModelFiles, device: str = "cpu") -> None:
        """Load either format. Raises ModelError for a file that is missing, damaged or does not fit."""
        self.files = files
        self.device = torch.device(device)
        if (files.directory / CONFIG_FILE).is_file() and files.weights[0].suffix == ".safetensors":
            self.network, self.languages = _own_format(files)
        else:
            self.languages = _read_labels(files.directory / "label_encoder.txt", files.name)
            self.network = EcapaNetwork(EcapaSizes(), len(self.languages))
            parts = (self.network.encoder, self.network.classifier)
            for module, file in zip(parts, files.weights, strict=True):
                _load_checkpoint(module, file, files.name)
        self.network.to(self.device).eval()

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]:
        """Probabilities of the languages (ISO 639-3) of each waveform (float32 at 16 kHz)."""
        results = []
        with torch.inference_mode():
            for waveform in waveforms:
                batch = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None].to(self.device)
                scores = self.network(self.network.features(batch)).exp()[0].cpu().numpy()
                known: dict[str, float] = {}
                for lang, score in zip(self.languages, scores, strict=True):
                    if lang is not None:
                        known[lang] = known.get(lang, 0.0) + float(score)
                results.append(known)
        return results


def save_ecapa(network: EcapaNetwork, sizes: EcapaSizes, languages: Sequence[str], folder: Path, half: bool) -> None:
    """Write `model.safetensors` (float16 where `half`) and `config.json`, each whole or not at all."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in network.own_state().items()}
    if half:
        tensors = {name: value.half() for name, value in tensors.items()}
    about = {"kind": "ecapa-tdnn", "languages": list(languages), "sizes": sizes.model_dump(mode="json")}
    storage.write_bytes_atomic(str(folder / WEIGHTS_FILE), save(tensors))
    storage.write_bytes_atomic(str(folder / CONFIG_FILE), (json.dumps(about, indent=1) + "\n").encode())


def _own_format(files: ModelFiles) -> tuple[EcapaNetwork, list[str | None]]:
    place = files.directory / CONFIG_FILE
    try:
        about = json.loads(place.read_text(encoding="utf-8"))
        languages = [get_language(str(lang)).iso639_3 for lang in about["languages"]]
        sizes = checked(EcapaSizes, dict(about["sizes"]), str(place))
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"model {files.name!r}: {place}: {' '.join(str(error).split())[:300]}") from error
    if not languages or len(set(languages)) < len(languages):
        raise ModelError(f"model {files.name!r}: {place}: languages must be at least one, and none of them twice")
    network = EcapaNetwork(sizes, len(languages))
    network.fill(read_tensors(files.weights[0], files.name), str(files.weights[0]))
    return network, list(languages)


def read_tensors(file: Path, model: str) -> dict[str, Any]:
    """Tensors of a .safetensors file in float32. Raises ModelError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: value.float() for name, value in load_file(file).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"model {model!r}: {file} is not readable: {str(error).splitlines()[0]}") from error


def _forget_redirects() -> None:
    """Remove SpeechBrain's stand-ins for its old module names, which nobody here uses, from the table of modules.

    They raise ImportError at any look where an optional package is missing, and pickle looks at every module.
    """
    from speechbrain.utils.importutils import LazyModule

    for name, module in list(sys.modules.items()):
        if isinstance(module, LazyModule):
            del sys.modules[name]


def _load_checkpoint(module: Any, file: Path, model: str) -> None:
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
