"""SONAR's text encoder: a Transformer whose outputs are averaged over a sentence's tokens (Duquenne et al. 2023)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import batches, check_finite, torch_dtype, use_threads
from seamlessalign.embedders.card import load_card
from seamlessalign.embedders.sonar.checkpoints import NUM_HEADS, TEXT_ENCODER, Checkpoint, save_tensors
from seamlessalign.embedders.sonar.tokenizer import EOS, PAD, Tokenizer
from seamlessalign.embedders.text import TextEmbedder, check_sentences
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import find_model

Float32 = npt.NDArray[np.float32]

MAX_TOKENS = 512  # of a sentence, with its tag; what it was trained with
_BATCH_TOKENS = 8192  # padded tokens of a batch


class SonarTextEncoder:
    """Sentences → SONAR's own rows. `truncated` counts the sentences so far whose end was cut off."""

    def __init__(self, weights: Path, *, device: str = "cpu", dtype: str = "auto") -> None:
        """Load a checkpoint in any of the known styles, with the tokenizer that lies beside it.

        Args:
            weights: the file.
            device: torch device name.
            dtype: float32, float16, bfloat16, or auto: float16 on a GPU, else float32. Outputs are averaged in float32.

        Raises:
            ModelError: a file that is missing, unsafe, damaged, or not a text encoder of SONAR.
        """
        import torch
        from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

        self.device = torch.device(device)
        self.truncated = 0
        self.tokenizer = Tokenizer(weights.parent)
        checkpoint = Checkpoint(weights, TEXT_ENCODER)
        self.model: Any = M2M100Encoder(m2m_config(checkpoint, "encoder"))
        checkpoint.load_into(self.model)
        self.tokenizer.check_table(self.model.config.vocab_size, weights)
        self.model.to(self.device, torch_dtype(dtype, self.device)).eval()
        self.dim = int(self.model.config.d_model)

    def encode(self, texts: Sequence[str], lang: str | None = None) -> Float32:
        """Rows of sentences in one language, `(len(texts), dim)`, in their order, not of unit length.

        Args:
            texts: sentences.
            lang: ISO 639-3; it must be given.

        Raises:
            InputError: no language, one that SONAR does not know, or a sentence of which its tokenizer leaves nothing.
            ModelError: rows that are not finite in this precision.
        """
        import torch

        if lang is None:
            raise InputError("SONAR must be told the language of its sentences")
        tokens = self.tokenizer.encode(texts, lang)
        self.truncated += sum(len(ids) > MAX_TOKENS for ids in tokens)
        tokens = [ids[:MAX_TOKENS] for ids in tokens]
        rows = np.empty((len(texts), self.dim), np.float32)
        for batch in batches([len(ids) for ids in tokens], _BATCH_TOKENS):
            padded = torch.full((len(batch), len(tokens[batch[0]])), PAD)
            for place, i in enumerate(batch):
                padded[place, : len(tokens[i])] = torch.tensor(tokens[i])
            rows[batch] = self._rows(padded.to(self.device)).cpu().numpy()
        return check_finite(rows, self.model.dtype)

    def save(self, path: Path) -> None:
        """Write the weights as .safetensors, in the precision they are held in; they load as a checkpoint does."""
        save_tensors(self.model, path)

    def _rows(self, tokens: Any) -> Any:
        import torch

        from seamlessalign.embedders.sonar.pooler import mean_pool

        mask = tokens != PAD
        with torch.inference_mode():
            hidden = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
            return mean_pool(hidden.float(), mask)


class SonarTextEmbedder(TextEmbedder):
    """SONAR reads sentences as they are written, case and punctuation with them, and is told their language."""

    _encoder: SonarTextEncoder

    def encode_uncentred(self, texts: Sequence[str], lang: str | None = None) -> Float32:
        """SONAR's own rows `(len(texts), dim)`; repeated sentences cost nothing."""
        check_sentences(texts)
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return self._encoder.encode(list(distinct), lang)[[distinct[text] for text in texts]]


def load_text(name: str, directory: str | None, device: str, threads: int | None, dtype: str) -> SonarTextEmbedder:
    """Load SONAR's text embedder; its card has no means, so that rows are SONAR's own, made to unit length."""
    use_threads(threads)
    files = find_model(name, directory)
    return SonarTextEmbedder(
        name, files, SonarTextEncoder(files.weights[0], device=device, dtype=dtype), load_card(name)
    )


def m2m_config(checkpoint: Checkpoint, side: str) -> Any:
    """transformers' description of a text encoder or decoder, its sizes read off the checkpoint.

    Raises:
        ModelError: sizes that no such model has.
    """
    from transformers import M2M100Config

    vocab_size, dim = checkpoint.shape("embed_tokens.weight")
    layers, ffn_dim = checkpoint.num_layers("layers"), checkpoint.shape("layers.0.fc1.weight")[0]
    heads = num_heads(checkpoint.path, f"{side}_attention_heads")
    if heads < 1 or dim % heads:
        raise ModelError(f"{checkpoint.path}: {heads} heads cannot share {dim} dimensions; say how many in config.json")
    return M2M100Config(
        vocab_size=vocab_size,
        d_model=dim,
        encoder_layers=layers if side == "encoder" else 0,
        decoder_layers=layers if side == "decoder" else 0,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=1024,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
    )


def num_heads(weights: Path, key: str) -> int:
    """Attention heads as `config.json` beside a checkpoint says, or as every published model has them."""
    config = weights.parent / "config.json"
    if not config.is_file():
        return NUM_HEADS
    try:
        return int(json.loads(config.read_text(encoding="utf-8")).get(key, NUM_HEADS))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{config}: cannot be read as JSON: {error}") from error
