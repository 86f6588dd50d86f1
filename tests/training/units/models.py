"""Speech encoders of a few numbers, random, as directories of transformers; and speech to hear with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]

LAYERS = 3
_SIZES = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}


def sound(seconds: float, seed: int = 0) -> Float32:
    """Tones that come and go, in noise: frames that differ."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = np.sin(
        2 * np.pi * np.cumsum(rng.uniform(80, 3000, len(time) // 1600 + 1).repeat(1600)[: len(time)]) / SAMPLE_RATE
    )
    return np.asarray(0.1 * tones * (1 + np.sin(2 * np.pi * 3 * time)) + 0.01 * rng.normal(size=len(time)), np.float32)


def save_wave_model(folder: Path, kind: str = "wav2vec2", *, grouped: bool = False, stable: bool = True) -> Any:
    """Write a Wav2Vec2Model or HubertModel, and return it."""
    import torch
    import transformers

    made: dict[str, Callable[..., Any]] = {"wav2vec2": transformers.Wav2Vec2Model, "hubert": transformers.HubertModel}
    configs: dict[str, Any] = {"wav2vec2": transformers.Wav2Vec2Config, "hubert": transformers.HubertConfig}
    torch.manual_seed(0)
    config = configs[kind](
        **_SIZES,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="group" if grouped else "layer",
        do_stable_layer_norm=stable,
    )
    model = made[kind](config).eval()
    model.save_pretrained(folder)
    return model


def save_w2v_bert(folder: Path) -> Any:
    """Write a Wav2Vec2BertModel, and return it."""
    import torch
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    model = Wav2Vec2BertModel(Wav2Vec2BertConfig(**_SIZES, conv_depthwise_kernel_size=7)).eval()
    model.save_pretrained(folder)
    return model
