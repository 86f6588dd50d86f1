"""The smallest UnitY that there can be, with its vocabularies, and batches of made rows."""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from seamlessalign.training.data.examples import Example, Item, Task, UnityBatch, collate
from seamlessalign.training.unity.model import UnitY, make_unity
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary

SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "please enter your conference number followed by the pound key",
    "press one to hear the message again or two to go on",
    "le vif renard brun saute par-dessus le chien paresseux",
    "veuillez composez votre numéro de conférence suivi du dièse",
    "appuyez sur un pour écouter le message ou deux pour continuer",
)
NUM_UNITS = 20


@cache
def pieces() -> bytes:
    """A SentencePiece model of a few sentences."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=made,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return made.getvalue()


def text_vocabulary() -> TextVocabulary:
    return TextVocabulary(pieces(), ["eng", "fra"])


def unit_vocabulary() -> UnitVocabulary:
    return UnitVocabulary(NUM_UNITS, ["eng", "fra"])


def tiny_unity(seed: int = 0, **changes: Any) -> UnitY:
    """Of one layer in each stack, 16 numbers wide, without dropout."""
    sizes = {f"{stack}_layers": 1 for stack in ("speech_encoder", "encoder", "decoder", "t2u_encoder", "t2u_decoder")}
    widths = ("encoder_ffn_dim", "decoder_ffn_dim", "t2u_encoder_ffn_dim", "t2u_decoder_ffn_dim")
    heads = ("encoder", "decoder", "t2u_encoder", "t2u_decoder", "speech_encoder")
    keys: dict[str, Any] = sizes | dict.fromkeys((*widths, "speech_encoder_intermediate_size"), 24)
    keys |= {f"{name}_attention_heads": 2 for name in heads}
    keys |= {"hidden_size": 16, "unit_embed_dim": 8, "upsample_initial_channel": 32, "spkr_embed_dim": 4}
    keys |= dict.fromkeys(("dropout", "attention_dropout", "adaptor_dropout", "speech_encoder_dropout"), 0.0)
    torch.manual_seed(seed)
    return make_unity("tiny", text_vocabulary(), unit_vocabulary(), **(keys | {"lang_embed_dim": 4} | changes))


def item(task: Task, number: int, *, source_text: bool = True) -> Item:
    """A row of made speech, a sentence and units, all of which follow from its number."""
    rng = np.random.default_rng(number)
    spoken = task in ("asr", "s2tt", "s2st")
    lang: Literal["eng", "fra"] = "fra" if task != "asr" else "eng"
    source = " ".join(SENTENCES[3 + number % 3].split()[: 2 + number % 4])
    target = " ".join(SENTENCES[number % 3].split()[: 2 + number % 5])
    if task == "asr":
        source = target
    example = Example(
        key=f"{number:08x}",
        place=f"made row {number}",
        src_lang=lang,
        tgt_lang="eng",
        src_text=source if source_text or not spoken else None,
        tgt_text=target,
        src_sound=None,
        src_seconds=0.0,
        tgt_sound=None,
        tgt_units=rng.integers(0, NUM_UNITS, 3 + number % 7).astype(np.int32),
        margin=None,
        human=True,
        source=0,
    )
    frames = rng.normal(size=(12 + 5 * (number % 6), 160)).astype(np.float32)
    return Item(example, task, frames if spoken else None)


def batch_of(items: Sequence[Item]) -> UnityBatch:
    return collate(items, text_vocabulary(), unit_vocabulary())
