"""Folders of models that a UnitY can start from: what kinds there are, and their tensors as SeamlessM4T calls them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seamlessalign.errors import ModelError
from seamlessalign.training.unity.model import CONFIG_FILE, variant_of, weight_files
from seamlessalign.training.unity.sizes import SHAW, speech_kind
from seamlessalign.training.vocabulary import read_json

# part → how names of its tensors begin; the table of text goes with the decoder
PARTS: Mapping[str, tuple[str, ...]] = {
    "speech_encoder": ("speech_encoder.",),
    "text_encoder": ("text_encoder.",),
    "text_decoder": ("text_decoder.", "shared."),
    "t2u": ("t2u_model.",),
    "vocoder": ("vocoder.",),
}
_VOCODER_KEYS = (
    "unit_",
    "lang_embed",
    "spkr_embed",
    "vocoder_num",
    "upsample_",
    "resblock_",
    "leaky_",
    "variance_",
    "var_pred",
)


@dataclass(frozen=True)
class Source:
    """A folder: its tensors as SeamlessM4T calls them, and what its configuration says in SeamlessM4T's keys."""

    folder: Path
    kind: str
    config: Any
    tensors: Mapping[str, Any]
    keys: Mapping[str, dict[str, Any]]  # part → keys

    def has(self, part: str) -> bool:
        return any(name.startswith(PARTS[part]) for name in self.tensors)


def read_source(folder: Path) -> Source:
    from transformers import AutoConfig

    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{folder}: holds no model: there is no {CONFIG_FILE}")
    kind = str(read_json(folder / CONFIG_FILE).get("model_type"))
    if kind not in KINDS:
        raise ModelError(
            f"{folder}: is a model of type {kind!r}, which UnitY cannot start from; {', '.join(KINDS)} can"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    keys, rename = KINDS[kind](folder, config)
    tensors = {}
    for name, value in _tensors(folder, variant_of(config)).items():
        renamed = rename(name)
        if renamed is not None:
            tensors[renamed] = value
    return Source(folder, kind, config, tensors, keys)


def _tensors(folder: Path, variant: str | None) -> dict[str, Any]:
    """All tensors of a folder, in float32 where they are floating, mapped into memory."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in weight_files(folder, variant):
        try:
            if file.suffix == ".safetensors":
                found |= load_file(file)
            else:
                found |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise ModelError(f"{file}: cannot be read: {str(error).splitlines()[0][:200]}") from error
    return found


def _of_seamless(folder: Path, config: Any) -> tuple[dict[str, dict[str, Any]], Any]:
    """SeamlessM4T of both versions. Of the second one, whose T2U and vocoder are others, speech and text are taken."""
    second = config.model_type == "seamless_m4t_v2"
    values = config.to_dict()

    def keys(*beginnings: str) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key.startswith(beginnings)} | {
            "hidden_size": config.hidden_size
        }

    speech = keys("speech_encoder_", "adaptor_", "conv_depthwise_", "feature_projection_", "num_adapter_layers")
    if second or speech_kind(config) == "conformer-shaw":
        speech |= {"speech_encoder_kind": "conformer-shaw"} | keys("left_max_", "right_max_")
    for key in ("speech_encoder_chunk_size", "speech_encoder_left_chunk_num"):
        speech.pop(key, None)
    if speech["num_adapter_layers"] != 1 or (not second and config.position_embeddings_type != "relative"):
        raise ModelError(f"{folder}: its speech encoder is not that of a published SeamlessM4T")
    text = keys("encoder_", "decoder_layers", "decoder_ffn", "decoder_attention", "scale_embedding", "activation_fun")
    parts = {"speech_encoder": speech, "text_encoder": text, "text_decoder": text}
    if not second and config.t2u_decoder_layers:  # else it ends with text
        parts["t2u"] = keys("t2u_encoder_", "t2u_decoder_layers", "t2u_decoder_ffn", "t2u_decoder_attention")
        parts["vocoder"] = keys(*_VOCODER_KEYS)
        parts["vocoder"].pop("hidden_size")
    return parts, lambda name: name


def _of_w2v_bert(folder: Path, config: Any) -> tuple[dict[str, dict[str, Any]], Any]:
    if config.position_embeddings_type != SHAW:
        raise ModelError(
            f"{folder}: has positions {config.position_embeddings_type!r}; only Shaw's fit ({SHAW!r}), which w2v-BERT "
            "2.0 has"
        )
    keys = {
        "hidden_size": config.hidden_size,
        "speech_encoder_kind": "conformer-shaw",
        "speech_encoder_layers": config.num_hidden_layers,
        "speech_encoder_attention_heads": config.num_attention_heads,
        "speech_encoder_intermediate_size": config.intermediate_size,
        "speech_encoder_hidden_act": config.hidden_act,
        "conv_depthwise_kernel_size": config.conv_depthwise_kernel_size,
        "feature_projection_input_dim": config.feature_projection_input_dim,
        "left_max_position_embeddings": config.left_max_position_embeddings,
        "right_max_position_embeddings": config.right_max_position_embeddings,
    }

    def rename(name: str) -> str | None:
        name = name.removeprefix("wav2vec2_bert.")  # of models with a head
        return f"speech_encoder.{name}" if name.startswith(("feature_projection.", "encoder.layers.")) else None

    return {"speech_encoder": keys}, rename


_M2M_RULES = (
    (r"\bfc([12])\b", r"ffn.fc\1"),
    (r"\bfinal_layer_norm\b", "ffn_layer_norm"),
    (r"\bencoder_attn", "cross_attention"),
    (r"^encoder\.", "text_encoder."),
    (r"^decoder\.", "text_decoder."),
)


def _of_nllb(folder: Path, config: Any) -> tuple[dict[str, dict[str, Any]], Any]:
    keys = {
        "hidden_size": config.d_model,
        "activation_function": config.activation_function,
        "scale_embedding": config.scale_embedding,
    }
    for side in ("encoder", "decoder"):
        for what in ("layers", "ffn_dim", "attention_heads"):
            keys[f"{side}_{what}"] = getattr(config, f"{side}_{what}")

    def rename(name: str) -> str | None:
        name = name.removeprefix("model.")
        for pattern, ours in _M2M_RULES:
            name = re.sub(pattern, ours, name)
        return None if "embed_positions" in name else name

    return {"text_encoder": keys, "text_decoder": keys}, rename


KINDS = {
    "seamless_m4t": _of_seamless,
    "seamless_m4t_v2": _of_seamless,
    "wav2vec2-bert": _of_w2v_bert,
    "m2m_100": _of_nllb,
}
