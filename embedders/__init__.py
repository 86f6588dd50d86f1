"""A shared space of speech and text: encoders of sentences and of spans of recordings."""

from seamlessalign.embedders.card import Card, load_card
from seamlessalign.embedders.speech import (
    SpeechEmbedder,
    default_frames,
    load_speech_embedder,
    speech_card,
    speech_digest,
    speech_models,
    speech_rows_digest,
    speech_space,
)
from seamlessalign.embedders.text import TextEmbedder, load_text_embedder

__all__ = [
    "Card",
    "SpeechEmbedder",
    "TextEmbedder",
    "default_frames",
    "load_card",
    "load_speech_embedder",
    "load_text_embedder",
    "speech_card",
    "speech_digest",
    "speech_models",
    "speech_rows_digest",
    "speech_space",
]
