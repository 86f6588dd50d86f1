"""A small random Whisper with a tokenizer of its own, as a transformers directory and as a CTranslate2 file."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamlessalign.model_files import ModelFiles
from seamlessalign.storage import sha256_of

WORDS = 60
LANGUAGES = ["en", "zh", "fr", "jw", "yue", "haw"]
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    "<|0.00|>",
    "<|0.02|>",
]
END = WORDS

# Standard deviations by part of a parameter's name, chosen so that tokens differ from step to step and from sound to
# sound, and that some transcripts turn in a circle.
_SPREAD = {
    "encoder_attn.out_proj.weight": 0.3,
    "encoder_attn.q_proj.weight": 0.3,
    "encoder_attn.k_proj.weight": 0.3,
    "bias": 0.02,
    "embed_positions": 0.3,
    "embed_tokens": 0.1,
}


def tiny_model(seed: int = 0, positions: int = 1500) -> Any:
    """Two layers of 128 dimensions, random."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=WORDS + len(SPECIAL),
            d_model=128,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=192,
            decoder_ffn_dim=192,
            max_source_positions=positions,
            max_target_positions=448,
            bos_token_id=END,
            eos_token_id=END,
            pad_token_id=END,
            decoder_start_token_id=END + 1,
        )
    )
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                value.uniform_(0.5, 1.5)
            else:
                value.normal_(std=next((std for part, std in _SPREAD.items() if part in name), 0.06))
    model.generation_config.suppress_tokens = [3, 5]
    model.generation_config.begin_suppress_tokens = [7, END]
    return model.eval()


def save_tokenizer(folder: Path, special: list[str] | None = None) -> None:
    """Write tokenizer.json: words w0, w1, … and then the special tokens."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special or SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))


def save_directory(folder: Path, model: Any) -> ModelFiles:
    """Write a transformers directory."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    weights = folder / "model.safetensors"
    return ModelFiles("whisper-base", "directory", str(folder), (weights,), folder, sha256_of(weights))


def save_package(folder: Path, data: bytes) -> ModelFiles:
    """Write a CTranslate2 file in two parts, as packages carry it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [3, 5], "suppress_ids_begin": [7, END]}))
    parts = (folder / "model.bin.part1", folder / "model.bin.part2")
    parts[0].write_bytes(data[: len(data) // 3])
    parts[1].write_bytes(data[len(data) // 3 :])
    return ModelFiles("whisper-base", "package", "tiny", parts, folder, "0" * 64)


def ctranslate2_variables(model: Any) -> dict[str, NDArray[np.float32]]:
    """The variables that CTranslate2's converter writes for a Whisper, read module by module."""

    def array(tensor: Any) -> NDArray[np.float32]:
        return np.asarray(tensor.detach().float().numpy(), np.float32)

    found: dict[str, NDArray[np.float32]] = {}

    def linear(name: str, *modules: Any) -> None:
        found[f"{name}/weight"] = np.concatenate([array(module.weight) for module in modules])
        found[f"{name}/bias"] = np.concatenate(
            [
                array(module.bias) if module.bias is not None else np.zeros(len(module.weight), np.float32)
                for module in modules
            ]
        )

    def norm(name: str, module: Any) -> None:
        found[f"{name}/gamma"], found[f"{name}/beta"] = array(module.weight), array(module.bias)

    for part, stack in (("encoder", model.model.encoder), ("decoder", model.model.decoder)):
        for number, layer in enumerate(stack.layers):
            name = f"{part}/layer_{number}"
            norm(f"{name}/self_attention/layer_norm", layer.self_attn_layer_norm)
            own = layer.self_attn
            linear(f"{name}/self_attention/linear_0", own.q_proj, own.k_proj, own.v_proj)
            linear(f"{name}/self_attention/linear_1", own.out_proj)
            if part == "decoder":
                norm(f"{name}/attention/layer_norm", layer.encoder_attn_layer_norm)
                cross = layer.encoder_attn
                linear(f"{name}/attention/linear_0", cross.q_proj)
                linear(f"{name}/attention/linear_1", cross.k_proj, cross.v_proj)
                linear(f"{name}/attention/linear_2", cross.out_proj)
            norm(f"{name}/ffn/layer_norm", layer.final_layer_norm)
            linear(f"{name}/ffn/linear_0", layer.fc1)
            linear(f"{name}/ffn/linear_1", layer.fc2)
        norm(f"{part}/layer_norm", stack.layer_norm)
        found[f"{part}/position_encodings/encodings"] = array(stack.embed_positions.weight)
    linear("encoder/conv1", model.model.encoder.conv1)
    linear("encoder/conv2", model.model.encoder.conv2)
    found["decoder/embeddings/weight"] = array(model.model.decoder.embed_tokens.weight)
    found["decoder/projection/weight"] = found["decoder/embeddings/weight"]
    return found


def ctranslate2_file(variables: Mapping[str, NDArray[Any]], specification: str = "WhisperSpec") -> bytes:
    """Bytes of a CTranslate2 file: 16-bit where the values are, a setting of one byte among the variables."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def text(value: str) -> bytes:
        data = value.encode() + b"\0"
        return struct.pack("<H", len(data)) + data

    settings: dict[str, NDArray[Any]] = {
        "encoder/num_heads": np.array(2, np.int16),
        "decoder/pre_norm": np.array(1, np.int8),
    }
    data = struct.pack("<I", 6) + text(specification) + struct.pack("<II", 3, len(variables) + len(settings))
    everything: dict[str, NDArray[Any]] = {**variables, **settings}
    for name, value in sorted(everything.items()):
        data += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        data += struct.pack("<BI", kinds[value.dtype.name], value.nbytes) + value.tobytes()
    return data + struct.pack("<I", 0)  # no aliases
