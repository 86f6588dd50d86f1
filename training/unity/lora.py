"""Low-rank adapters (LoRA, arXiv 2106.09685) on chosen layers of a UnitY, by the package peft.

The model's own weights stay as they are, bit for bit. Adapters are saved by themselves, in files that peft's own
`PeftModel` reads for transformers' `SeamlessM4TModel`, and can be worked into the weights for those who only use the
model.
"""

import difflib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from seamlessalign import storage
from seamlessalign.errors import ConfigError, MissingPackageError, ModelError
from seamlessalign.training.unity.lora_settings import LoraSettings
from seamlessalign.training.unity.model import UnitY
from seamlessalign.training.vocabulary import read_json

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Adapters:
    """The adapters in a model, which is changed by them: parameters that are not theirs no longer learn."""

    def __init__(self, unity: UnitY, settings: LoraSettings) -> None:
        """Put new adapters in, which change nothing yet: the matrix behind is zero.

        Raises ConfigError where a pattern names no linear layer, MissingPackageError without peft.
        """
        try:
            from peft import LoraConfig, LoraModel
        except ImportError as error:
            raise MissingPackageError("peft", "train", "training adapters") from error
        self.unity, self.settings = unity, settings
        self.config: Any = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=layers_named(unity, settings.layers),
        )
        self._tuner: Any = LoraModel(unity.model, {_NAME: self.config}, _NAME)

    def parameters(self) -> dict[str, Any]:
        """The adapters' own parameters by name, those that learn."""
        return {name: value for name, value in self.unity.model.named_parameters() if f".{_NAME}." in name}

    def save(self, directory: str | Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`, each whole or not at all.

        Raises StorageError.
        """
        from safetensors.torch import save

        tensors = {_saved(name): value.detach().cpu().contiguous() for name, value in self.parameters().items()}
        about = {key: _plain(value) for key, value in self.config.to_dict().items()}
        folder = Path(directory)
        storage.write_bytes_atomic(str(folder / ADAPTER_WEIGHTS), save(tensors, metadata={"format": "pt"}))
        storage.write_bytes_atomic(str(folder / ADAPTER_CONFIG), f"{json.dumps(about, indent=1)}\n".encode())

    def merge(self) -> UnitY:
        """Work the adapters into the weights and take them out; the model computes what it computed with them."""
        self._tuner.merge_and_unload()
        for value in self.unity.parameters():
            value.requires_grad_(True)
        return self.unity


_NAME = "default"  # peft's name of an adapter where there is one


def load_adapters(unity: UnitY, directory: str | Path) -> Adapters:
    """Put adapters that were saved into the model that they were made for. Raises ModelError where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(directory)
    try:
        about = read_json(folder / ADAPTER_CONFIG)
        settings = LoraSettings(
            rank=about["r"], alpha=about["lora_alpha"], dropout=about["lora_dropout"], layers=about["target_modules"]
        )
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: holds no adapters: {' '.join(str(error).split())[:200]}") from error
    adapters = Adapters(unity, settings)
    own = {_saved(name): value for name, value in adapters.parameters().items()}
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
        raise ModelError(f"{folder}: its adapters are those of a model of other sizes")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    return adapters


def layers_named(unity: UnitY, patterns: list[str]) -> list[str]:
    """Names of the linear layers that any pattern matches. Raises ConfigError for one that matches none."""
    linear = [name for name, module in unity.model.named_modules() if isinstance(module, torch.nn.Linear)]
    found: list[str] = []
    for pattern in patterns:
        matching = [name for name in linear if fnmatchcase(name, pattern)]
        if not matching:
            near = difflib.get_close_matches(pattern, linear, n=3, cutoff=0.0)
            raise ConfigError(f"lora.layers: {pattern!r} is no linear layer; near are {', '.join(near)}")
        found += matching
    return list(dict.fromkeys(found))


def _saved(name: str) -> str:
    """A parameter's name in a file, as peft writes it: without the adapter's name."""
    return f"base_model.model.{name.replace(f'.{_NAME}.', '.')}"


def _plain(value: Any) -> Any:
    """As JSON has it; peft keeps names in sets."""
    return sorted(value) if isinstance(value, set) else getattr(value, "value", value)
