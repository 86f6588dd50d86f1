"""Vocabularies and models that are small enough for tests."""

import io
from functools import cache
from typing import Any

import torch

from seamlessalign.training.unity.model import UnitY, make_unity
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary

SENTENCES = (
    "the cat sat on the mat",
    "a dog runs in the garden",
    "please enter your number",
    "le chat dort sur le lit",
    "un chien court dans le jardin",
    "entrez votre numéro",
)


@cache
def pieces(model: str = "bpe", size: int = 60) -> bytes:
    """A SentencePiece model of a few sentences."""
    from sentencepiece import SentencePieceTrainer

    made = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(SENTENCES * 4), model_writer=made, model_type=model, vocab_size=size, minloglevel=2
    )
    return made.getvalue()


def tiny_text(*languages: str) -> TextVocabulary:
    return TextVocabulary(pieces(), languages or ("eng", "fra"))


def tiny_units(*languages: str) -> UnitVocabulary:
    return UnitVocabulary(12, languages or ("eng", "fra"))


def tiny_unity(text: TextVocabulary, units: UnitVocabulary | None, seed: int = 0, **changes: Any) -> UnitY:
    """One layer in each stack, 16 dimensions, weights large enough to make a difference; in evaluation mode."""
    torch.manual_seed(seed)
    ffn = {f"{stack}_ffn_dim": 24 for stack in ("encoder", "decoder", "t2u_encoder", "t2u_decoder")}
    layers = {f"{stack}_layers": 1 for stack in ("encoder", "decoder", "speech_encoder")}
    layers |= {f"t2u_{stack}_layers": 1 for stack in ("encoder", "decoder")} if units else {}
    vocoder = {"unit_embed_dim": 8, "lang_embed_dim": 4, "spkr_embed_dim": 4, "upsample_initial_channel": 32}
    sizes = {"hidden_size": 16, "speech_encoder_intermediate_size": 24, "initializer_range": 0.2}
    made = make_unity("tiny", text, units, **(sizes | ffn | layers | vocoder | changes))
    for module in made.modules():
        if isinstance(module, torch.nn.LayerNorm):  # so that what is padded does not happen to be zero behind them
            torch.nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
    made.eval()
    return made


def speech(rows: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features of rows of these lengths, padded with what must not matter, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(rows), max(rows), 160, generator=generator)
    mask = (torch.arange(max(rows)) < torch.tensor(rows)[:, None]).long()
    return features, mask


def padded(rows: list[list[int]], pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return tokens, (torch.arange(longest) < lengths[:, None]).long()
