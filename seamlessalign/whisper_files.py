"""The model of a Whisper from its files: a directory of transformers, or the CTranslate2 file of a package."""

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import ModelError
from seamlessalign.model_files import ModelFiles, read_weights
from seamlessalign.unfilled_modules import unfilled

Stored = npt.NDArray[Any]  # of the file's bytes, in its own precision


def load_model(files: ModelFiles) -> Any:
    """`WhisperForConditionalGeneration`, on the processor. Raises ModelError where files are damaged or lack a part."""
    return _from_ctranslate2(files) if files.origin == "package" else _from_directory(files)


def _from_directory(files: ModelFiles) -> Any:
    """The model of a transformers directory. Raises ModelError where it is damaged or lacks a tensor."""
    import torch
    from transformers import WhisperForConditionalGeneration

    try:
        model, loaded = WhisperForConditionalGeneration.from_pretrained(
            str(files.directory), use_safetensors=True, local_files_only=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:
        raise ModelError(f"{files.directory}: cannot be loaded: {first_line(error)}") from error
    lacking = sorted(loaded["missing_keys"])  # which transformers would make up at random
    if lacking:
        more = f" and {len(lacking) - 3} more" if lacking[3:] else ""
        raise ModelError(f"{files.directory}: its weights lack {', '.join(lacking[:3])}{more}")
    return model


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _from_ctranslate2(files: ModelFiles) -> Any:
    """Whisper of transformers with the weights of a CTranslate2 file.

    The file: version u32, name of the specification (u16 length, bytes with a final NUL), revision u32, number of
    variables u32; then for each its name (as before), rank u8, dimensions u32 each, type u8, bytes u32, data.
    Query, key and value are fused in `self_attention/linear_0`, key and value in `attention/linear_1`.
    """
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    variables = _ctranslate2_variables(read_weights(files), files.name)
    try:
        vocabulary, dim = variables["decoder/embeddings/weight"].shape
        layers = {
            part: len({name.split("/")[1] for name in variables if name.startswith(f"{part}/layer_")} - {"layer_norm"})
            for part in ("encoder", "decoder")
        }
        config = WhisperConfig(
            vocab_size=vocabulary,
            num_mel_bins=variables["encoder/conv1/weight"].shape[1],
            d_model=dim,
            encoder_layers=layers["encoder"],
            decoder_layers=layers["decoder"],
            encoder_attention_heads=dim // 64,
            decoder_attention_heads=dim // 64,
            encoder_ffn_dim=variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
            decoder_ffn_dim=variables["decoder/layer_0/ffn/linear_0/weight"].shape[0],
            max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
            max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
            pad_token_id=None,  # by default one of Whisper's own vocabulary, which this file need not have
        )
        state = _transformers_names(variables, dim)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"model {files.name!r} in {files.place}: not a Whisper, or one of another kind: {error}"
        ) from error
    with unfilled():
        model = WhisperForConditionalGeneration(config)

    def tensor(value: Stored) -> Any:
        made = torch.empty(value.shape)  # memory of torch, placed as it wants it, which becomes the network's own
        made.numpy()[...] = value
        return made

    try:
        filled = {name: tensor(value) for name, value in state.items()}
        wrong = model.load_state_dict(filled, strict=False, assign=True)
    except RuntimeError as error:  # shapes
        raise ModelError(f"model {files.name!r} in {files.place}: {' '.join(str(error).split())[:300]}") from error
    missing = [name for name in wrong.missing_keys if name != "proj_out.weight"]
    if missing or wrong.unexpected_keys:
        raise ModelError(
            f"model {files.name!r} in {files.place}: lacks {missing}, has {wrong.unexpected_keys} too much"
        )
    model.tie_weights()
    try:
        own = json.loads((files.directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {files.name!r} in {files.place}: its config.json cannot be read: {error}") from error
    model.generation_config.suppress_tokens = own.get("suppress_ids", [])
    model.generation_config.begin_suppress_tokens = own.get("suppress_ids_begin", [])
    return model


def _ctranslate2_variables(data: bytes, name: str) -> dict[str, Stored]:
    types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    position, view = 0, memoryview(data)

    def take(layout: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from(f"<{layout}", data, position)
        position += struct.calcsize(layout)
        return int(value)

    def take_bytes(count: int) -> memoryview:
        nonlocal position
        position += count
        return view[position - count : position]

    def take_name() -> str:
        return bytes(take_bytes(take("H"))).rstrip(b"\0").decode()

    try:
        take("I")
        specification = take_name()
        if specification != "WhisperSpec":
            raise ModelError(f"model {name!r}: its CTranslate2 file holds a {specification!r}, not a WhisperSpec")
        take("I")
        variables = {}
        for _ in range(take("I")):
            variable = take_name()
            shape = [take("I") for _ in range(take("B"))]
            dtype = types[take("B")]
            variables[variable] = np.frombuffer(take_bytes(take("I")), dtype).reshape(shape)
        return variables
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"model {name!r}: its CTranslate2 file is damaged near byte {position}") from error


_PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_FUSED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_TOP = {
    "layer_norm": "layer_norm",
    "conv1": "conv1",
    "conv2": "conv2",
    "position_encodings": "embed_positions",
    "embeddings": "embed_tokens",
}
_LEAVES = {"gamma": "weight", "beta": "bias", "encodings": "weight", "weight": "weight", "bias": "bias"}


def _transformers_names(variables: dict[str, Stored], dim: int) -> dict[str, Stored]:
    state: dict[str, Stored] = {}
    for variable, value in variables.items():
        if value.ndim == 0 or variable.startswith(("decoder/projection/", "config/")):
            continue  # settings, and the projection, which is tied to the embeddings
        part, *path, leaf = variable.split("/")
        if leaf not in _LEAVES:
            continue
        if path[0].startswith("layer_") and path[0] != "layer_norm":
            prefix, inner = f"model.{part}.layers.{path[0][6:]}.", "/".join(path[1:])
            if inner in _FUSED:
                for place, target in enumerate(_FUSED[inner]):
                    piece = value[place * dim : (place + 1) * dim]
                    if not (leaf == "bias" and target.endswith("k_proj")):  # Whisper's keys have none: zeros here
                        state[f"{prefix}{target}.{_LEAVES[leaf]}"] = piece
                continue
            name = prefix + _PARTS[inner]
        else:
            name = f"model.{part}.{_TOP[path[0]]}"
        state[f"{name}.{_LEAVES[leaf]}"] = value
    return state
