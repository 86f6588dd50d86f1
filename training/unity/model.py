"""UnitY (arXiv 2212.08055) by transformers' `SeamlessM4TModel`: its parts one by one, as losses and searches need them.

    speech → speech encoder, length adaptor ─┐
                                             ├→ text decoder → text
    text → text encoder ─────────────────────┘       └→ its hidden states → T2U encoder, decoder → units → vocoder

Parameters are called as transformers calls them, with `model.` before.
"""

import json
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seamlessalign import storage
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.unity.processor_files import save_processor
from seamlessalign.training.unity.sizes import speech_kind, unity_config
from seamlessalign.training.vocabulary import (
    TextVocabulary,
    UnitVocabulary,
    load_text_vocabulary,
    load_unit_vocabulary,
    read_json,
)

WEIGHTS_FILE, CONFIG_FILE, GENERATION_FILE = "model.safetensors", "config.json", "generation_config.json"
SHAW_VARIANT = "shaw"  # transformers' word for what stands in the name of the file of weights: model.shaw.safetensors
_MOST_NAMED = 3  # tensors named in an error


class UnitY(nn.Module):  # type: ignore[misc]
    """A `SeamlessM4TModel` (`self.model`), and the parts that a training or a search calls.

    What is padded changes nothing: a row of a batch is what it is by itself. For this the length adaptor is kept from
    seeing padded frames, which transformers' own class lets into a row's last state.
    """

    def __init__(self, model: Any, vocoder_languages: Mapping[str, int] | None = None) -> None:
        """Around a model; `vocoder_languages` are those of its vocoder: ISO 639-3 → number."""
        super().__init__()
        self.model = model
        self.vocoder_languages = dict(vocoder_languages or {})
        _keep_padding_out(model.speech_encoder.adapter)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def device(self) -> Any:
        return self.model.shared.weight.device

    # Parts by name; those that share the table of text (`model.shared`) do so

    @property
    def speech_encoder(self) -> Any:
        """With the length adaptor."""
        return self.model.speech_encoder

    @property
    def text_encoder(self) -> Any:
        return self.model.text_encoder

    @property
    def text_decoder(self) -> Any:
        return self.model.text_decoder

    @property
    def t2u(self) -> Any:
        """From the text decoder's hidden states to units; None where the model ends with text."""
        return self.model.t2u_model if self.config.t2u_decoder_layers else None

    @property
    def vocoder(self) -> Any:
        return self.model.vocoder

    # What they compute

    def encode_speech(self, features: Any, mask: Any) -> tuple[Any, Any]:
        """States of speech for the text decoder, eight frames in one.

        Args:
            features: float `(rows, frames, 160)` at 50 Hz.
            mask: int64 `(rows, frames)`, 1 for real frames, which come first.

        Returns:
            states `(rows, states, dim)` and their mask `(rows, states)`, of which a row has ⌊frames / 8⌋ + 1.
        """
        states = self.model.speech_encoder(input_features=features, attention_mask=mask).last_hidden_state
        return states, self.adapted_mask(mask, states.shape[1])

    def adapted_mask(self, mask: Any, num_states: int) -> Any:
        """A mask of frames `(rows, frames)` as one of what the adaptor makes of them, int64 `(rows, num_states)`."""
        kernel, stride = self.config.adaptor_kernel_size, self.config.adaptor_stride
        lengths = (mask.sum(1) + 2 * (stride // 2) - kernel) // stride + 1
        return (torch.arange(num_states, device=mask.device) < lengths[:, None]).long()

    def encode_text(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        """States of text `[tag] pieces </s>`, int64 `(rows, length)` with its mask, and that mask again."""
        return self.model.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state, mask

    def decode_text(self, tokens: Any, states: Any, states_mask: Any) -> Any:
        """Hidden states of text `</s> [tag] pieces` (each saw the tokens up to its own), `(rows, length, dim)`."""
        return self.model.text_decoder(
            input_ids=tokens, encoder_hidden_states=states, encoder_attention_mask=states_mask, use_cache=False
        ).last_hidden_state

    def logits(self, hidden: Any) -> Any:
        """Of the next token of text, by hidden states: `(…, dim)` → `(…, size of the text vocabulary)`."""
        return self.model.lm_head(hidden)

    def decode_units(self, hidden: Any, hidden_mask: Any, unit_tokens: Any) -> Any:
        """Logits of the next token of units.

        Args:
            hidden: the text decoder's hidden states of `</s> [tag] pieces`, `(rows, length, dim)`: without the one
                of the last `</s>`, which a training on labels does not have.
            hidden_mask: int64 `(rows, length)`.
            unit_tokens: `</s> [tag] units`, int64 `(rows, unit_length)`.

        Returns:
            `(rows, unit_length, size of the unit vocabulary)`.
        """
        seq2seq = self.model.t2u_model.model
        states = seq2seq.encoder(inputs_embeds=hidden, attention_mask=hidden_mask).last_hidden_state
        decoded = seq2seq.decoder(
            input_ids=unit_tokens, encoder_hidden_states=states, encoder_attention_mask=hidden_mask, use_cache=False
        )
        return self.model.t2u_model.lm_head(decoded.last_hidden_state)


def make_unity(size: Any, text: TextVocabulary, units: UnitVocabulary | None, **changes: Any) -> UnitY:
    """A new model, with random weights by torch's seed.

    Args:
        size: a name of `sizes.Size`, or a `SeamlessM4TConfig`, whose tables must be those of the vocabularies.
        text: the vocabulary of text.
        units: that of units; without, the model ends with text.
        changes: `speech`, the kind of speech encoder, and keys of the configuration, such as `dropout`; for a size
            only.

    Raises:
        ConfigError: a size or key that there is not, or vocabularies that do not fit.
    """
    config = unity_config(size, text, units, **changes) if isinstance(size, str) else size
    check_sizes(config, text, units)
    try:
        model = _class_of(config)(config)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"these sizes make no model: {' '.join(str(error).split())[:200]}") from error
    write_generation_config(model, text, units, _numbered(units))
    return UnitY(model, _numbered(units))


def load_unity(directory: str | Path, **changes: Any) -> tuple[UnitY, TextVocabulary, UnitVocabulary | None]:
    """A model in float32 with its vocabularies, from a folder of ours or one that `SeamlessM4TModel` loads.

    Args:
        directory: where it is.
        changes: of keys of the configuration that have no weights, such as `dropout`.

    Raises:
        ModelError: a folder that lacks something, or does not hold such a model.
        ConfigError: a key that there is not.
    """
    folder = Path(directory)
    config = load_config(folder, **changes)
    text, units = load_text_vocabulary(folder), load_unit_vocabulary(folder)
    check_sizes(config, text, units, folder)
    model = load_pretrained(_class_of(config), folder, config)
    about = json.loads(model.generation_config.to_json_string(use_diff=False))
    languages = {str(lang): int(i) for lang, i in (about.get("vocoder_lang_code_to_id") or {}).items()}
    return UnitY(model, languages), text, units


def save_unity(
    directory: str | Path, unity: UnitY, text: TextVocabulary, units: UnitVocabulary | None, *, half: bool = False
) -> None:
    """Write a model with its vocabularies into a folder, which transformers' `SeamlessM4TModel` loads as well, unless
    its speech encoder is of the other kind.

    The weights are one file, and each file is there whole or not at all; so a model of the same sizes may be written
    over another at any time. With `half` they are float16. Raises StorageError.
    """
    folder = Path(directory)
    write_generation_config(unity.model, text, units, unity.vocoder_languages)
    save_processor(folder, text)
    text.save(folder)
    if units is not None:
        units.save(folder)
    storage.write_bytes_atomic(str(folder / GENERATION_FILE), _generation_json(unity.model))
    save_weights(folder, unity.model, half=half)


def save_weights(folder: Path, model: Any, *, half: bool = False) -> None:
    """Write `config.json` and `model.safetensors` of a model of transformers, tied tensors once.

    Raises StorageError.
    """
    from safetensors.torch import save_file

    tied = set(getattr(model, "all_tied_weights_keys", {}))
    tensors = {}
    for name, value in model.state_dict().items():
        if name not in tied:
            tensor = value.detach().cpu().contiguous()
            tensors[name] = tensor.half() if half and tensor.is_floating_point() else tensor
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as made:  # to_json_file is the way that knows all keys
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(made)
        about = json.loads((Path(made) / CONFIG_FILE).read_text(encoding="utf-8"))
    about["dtype"] = "float16" if half else "float32"
    variant = variant_of(model.config)
    with storage.atomic_local(str(folder / (f"model.{variant}.safetensors" if variant else WEIGHTS_FILE))) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    storage.write_bytes_atomic(str(folder / CONFIG_FILE), (json.dumps(about, indent=1) + "\n").encode())


def load_config(folder: Path, **changes: Any) -> Any:
    """The configuration of a SeamlessM4T model, changed. Raises ModelError, ConfigError."""
    from transformers import SeamlessM4TConfig

    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ModelError(f"{folder}: holds no model: there is no {CONFIG_FILE}")
    try:
        config = SeamlessM4TConfig.from_pretrained(folder, local_files_only=True)
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if kind != "seamless_m4t":
        raise ModelError(f"{file}: is of a model of type {kind!r}, not 'seamless_m4t'")
    if config.num_adapter_layers != 1:
        raise ModelError(f"{file}: has {config.num_adapter_layers} layers in its length adaptor; UnitY has one")
    for key, value in changes.items():
        if not hasattr(config, key):
            raise ConfigError(f"{key!r} is no key of a SeamlessM4T model")
        setattr(config, key, value)
    return config


def load_pretrained(kind: Any, folder: Path, config: Any) -> Any:
    """A model of one of transformers' classes in float32, of which nothing may be missing. Raises ModelError."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, told = kind.from_pretrained(
            folder,
            config=config,
            variant=variant_of(config),
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(f"{folder}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    # not `missing_keys`: this class's parts have it pass over whatever is lacking of others
    names, tied = tensor_names(folder, variant_of(config)), model.all_tied_weights_keys
    names |= {tied[name] for name in names & set(tied)}  # a file has a shared table under any of its names
    wanted = {name for name in model.state_dict() if name not in tied and not name.endswith("num_batches_tracked")}
    missing = wanted - names
    wrong = missing | set(told["unexpected_keys"]) | {key[0] for key in told["mismatched_keys"]}
    if wrong:
        named = ", ".join(sorted(wrong)[:_MOST_NAMED])
        raise ModelError(f"{folder}: does not fit its {CONFIG_FILE}: {len(wrong)} tensors do not, such as {named}")
    return model


def variant_of(config: Any) -> str | None:
    """What the name of the file of weights says of a model's structure; None where it is SeamlessM4T's own."""
    return SHAW_VARIANT if speech_kind(config) == "conformer-shaw" else None


def tensor_names(folder: Path, variant: str | None = None) -> set[str]:
    """What the weights of a folder have, in one file or several, safetensors or not. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    names: set[str] = set()
    try:
        for file in weight_files(folder, variant):
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as tensors:
                    names |= set(tensors.keys())
            else:
                names |= set(torch.load(file, map_location="meta", weights_only=True, mmap=True))
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        raise ModelError(f"{folder}: its weights cannot be read: {str(error).splitlines()[0]}") from error
    return names


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files of a folder's weights, in the order that transformers looks for them. Raises ModelError."""
    if variant:
        return [folder / f"model.{variant}.safetensors"]
    for whole in (WEIGHTS_FILE, "pytorch_model.bin"):
        if (folder / whole).is_file():
            return [folder / whole]
        index = folder / f"{whole}.index.json"
        if index.is_file():
            return sorted({folder / str(name) for name in dict(read_json(index).get("weight_map", {})).values()})
    raise ModelError(f"{folder}: has no weights: there is no {WEIGHTS_FILE}")


def check_sizes(config: Any, text: TextVocabulary, units: UnitVocabulary | None, folder: Path | str = "model") -> None:
    """Check that a model's tables are those of its vocabularies. Raises ConfigError."""
    if config.vocab_size != text.size:
        raise ConfigError(f"{folder}: embeds {config.vocab_size} tokens of text, but its vocabulary has {text.size}")
    if units is not None and config.t2u_vocab_size != units.size:
        raise ConfigError(
            f"{folder}: embeds {config.t2u_vocab_size} tokens of units, but its vocabulary has {units.size}"
        )


def write_generation_config(
    model: Any, text: TextVocabulary, units: UnitVocabulary | None, vocoder_languages: Mapping[str, int]
) -> None:
    """Tell a model's `generate` which tokens mean which language."""
    config = model.generation_config
    config._from_model_config = False  # else transformers drops what it does not know when it loads the file
    config.text_decoder_lang_to_code_id = dict(text.languages)
    config.t2u_lang_code_to_id = dict(units.languages) if units else {}
    config.vocoder_lang_code_to_id = dict(vocoder_languages)


def _class_of(config: Any) -> Any:
    if speech_kind(config) == "conformer-shaw":
        from seamlessalign.training.unity.shaw import ShawUnityModel

        return ShawUnityModel
    from transformers import SeamlessM4TModel

    return SeamlessM4TModel


def _generation_json(model: Any) -> bytes:
    return f"{model.generation_config.to_json_string()}\n".encode()


def _numbered(units: UnitVocabulary | None) -> dict[str, int]:
    """Languages of a vocoder that is made new: those of the units, in their order."""
    return {lang: i for i, lang in enumerate(units.languages)} if units else {}


# Padding and the adaptor's convolutions: they would see what layer norms make of padded frames, which is not zero. For
# a row by itself, torch pads with zeros; so zeros it must be.


def _keep_padding_out(adapter: Any) -> None:
    for layer in adapter.layers:
        layer.register_forward_pre_hook(_tell_norms, with_kwargs=True)
        for norm in (layer.residual_layer_norm, layer.self_attn_layer_norm):
            norm.register_forward_hook(_zero_padding)


def _tell_norms(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    layer.residual_layer_norm.frames = layer.self_attn_layer_norm.frames = mask


def _zero_padding(norm: Any, args: tuple[Any, ...], output: Any) -> Any:
    mask, norm.frames = norm.frames, None
    return output if mask is None else output.masked_fill(~mask.bool()[..., None], 0.0)
