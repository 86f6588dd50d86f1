"""A pooler that reads what Whisper's decoder wrote with multilingual E5: words, and the states that wrote them.

The tokens of a span are put back into text, fragment by fragment, and cut into E5's pieces; the first token of a
fragment holds the space before its word in languages that have spaces. To the embedding of each piece a linear map
adds the mean of the decoder's states of the tokens that the piece overlaps, which tell how sure the decoder was and
what else it may have heard; and E5's layers, themselves frozen, have low-rank adapters (Hu et al. 2021, LoRA). Map and
adapters begin at zero: untrained, a row is E5's of the transcript.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from seamlessalign.embedders.e5_model import E5, Pieces, load_e5
from seamlessalign.embedders.student.pooler import Pooler
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import ModelError
from seamlessalign.model_files import find_model

Float32 = npt.NDArray[np.float32]

_LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class LowRank(nn.Module):  # type: ignore[misc]
    """What is added to the output of a frozen linear layer: a linear map of low rank, zero at first."""

    def __init__(self, layer: Any, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, inputs: Any) -> Any:
        """Of inputs `(…, in_features)`: `(…, out_features)`."""
        down, up = self.down.to(inputs.dtype), self.up.to(inputs.dtype)
        return nn.functional.linear(nn.functional.linear(inputs, down), up)


class LexicalPooler(Pooler):
    """Decoder states and their tokens → rows of E5. E5's own weights are no part of its state."""

    def __init__(self, in_dim: int, rank: int, e5: E5 | None = None, places: Mapping[str, str] | None = None) -> None:
        """With an E5 that nobody else uses, by default the one that is found; places: model name → directory.

        Raises ModelError where E5 or Whisper's tokenizer cannot be found or are damaged.
        """
        super().__init__()
        places = places or {}
        e5 = e5 or load_e5(places.get("e5-small"))
        self.dim = e5.dim
        self.models = e5.models
        self._e5 = (e5,)  # in a tuple it is not registered: its weights are neither saved nor trained
        self._whisper = _whisper_tokenizer(places.get("whisper-base"))
        self._end = self._whisper.token_to_id("<|endoftext|>")
        e5.network.requires_grad_(False)
        self.norm = nn.LayerNorm(in_dim)
        self.enter = nn.Linear(in_dim, e5.dim, bias=False)
        nn.init.zeros_(self.enter.weight)
        self.adapters = nn.ModuleDict()
        for number, layer in enumerate(e5.network.encoder.layer):
            for name in _LINEAR:
                linear = layer.get_submodule(name)
                adapter = LowRank(linear, rank)
                self.adapters[f"{number}-{name.replace('.', '-')}"] = adapter
                linear.register_forward_hook(_adding(adapter))

    def forward(self, values: Any, mask: Any, token: Any = None) -> Any:
        """Rows `(batch, dim)`; outside training, NaN where the tokens hold no words."""
        if token is None:
            raise ModelError("a pooler of kind 'e5' reads tokens: its backbone must be whisper-decoder")
        own = [row[keep] for row, keep in zip(token.cpu().numpy(), mask.cpu().numpy(), strict=True)]
        texts, spans = zip(*map(self.written, own), strict=True)
        pieces = [self._e5[0].pieces(spoken_form(text) if text.strip() else "") for text in texts]
        longest = max(len(piece.ids) for piece in pieces)
        weights = np.zeros((len(pieces), longest, values.shape[1]), np.float32)
        for i, (piece, span, keep) in enumerate(zip(pieces, spans, mask.cpu().numpy(), strict=True)):
            weights[i, : len(piece.ids), np.flatnonzero(keep)] = overlaps(piece, span).T
        shares = torch.as_tensor(weights, device=values.device)
        heard = self.enter(self.norm(shares @ values.float())) * (shares.sum(2, keepdim=True) > 0)
        rows = self._rows(pieces, heard)
        if self.training:
            return rows
        silent = torch.tensor([not any(c.isalnum() for c in text) for text in texts], device=rows.device)
        return rows.masked_fill(silent[:, None], torch.nan)

    def embed_texts(self, texts: Sequence[str]) -> Any:
        """Rows `(len(texts), dim)` of texts that nobody spoke, no states added: for lessons from text alone."""
        return self._rows([self._e5[0].pieces(spoken_form(text)) for text in texts], None)

    def written(self, tokens: npt.NDArray[np.int64]) -> tuple[str, Float32]:
        """The text of Whisper's tokens, and where each one begins and ends in it, in spoken words `(num_tokens, 2)`."""
        plain = [int(token) if token < self._end else None for token in tokens]
        text = self._whisper.decode([token for token in plain if token is not None])
        # a character of a token's name stands for one byte of the text
        sizes = [0 if token is None else len(self._whisper.id_to_token(token)) for token in plain]
        ends = np.cumsum(sizes, dtype=np.int64)
        axis = _byte_axis(text)
        if len(ends) and ends[-1] != len(axis) - 1:  # characters that were cut in two
            ends = ends * (len(axis) - 1) // max(1, int(ends[-1]))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        return text, np.stack([axis[starts], axis[ends]], 1) if len(ends) else np.zeros((0, 2), np.float32)

    def _rows(self, pieces: Sequence[Pieces], heard: Any) -> Any:
        """The mean of E5's last layer over all pieces, `heard` `(batch, longest, dim)` added to their embeddings."""
        network = self._e5[0].network
        device = next(network.parameters()).device
        longest = max(len(piece.ids) for piece in pieces)
        ids = torch.full((len(pieces), longest), self._e5[0].padding)
        mask = torch.zeros((len(pieces), longest))
        for i, piece in enumerate(pieces):
            ids[i, : len(piece.ids)] = torch.tensor(piece.ids)
            mask[i, : len(piece.ids)] = 1
        ids, mask = ids.to(device), mask.to(device)
        inputs = network.embeddings.word_embeddings(ids)
        if heard is not None:
            inputs = inputs + heard.to(inputs.dtype)
        hidden = network(inputs_embeds=inputs, attention_mask=mask).last_hidden_state.float()
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def _apply(self, fn: Any, recurse: bool = True) -> "LexicalPooler":
        super()._apply(fn, recurse)
        self._e5[0].network._apply(fn, recurse)  # goes along to a device, or into another precision
        return self


def overlaps(piece: Pieces, spans: Float32) -> Float32:
    """The share of each of Whisper's tokens in each piece, `(num_pieces, num_tokens)`.

    The tokens that a piece overlaps share equally, so that a row sums to one, or to zero where there are none.
    """
    stretch = piece.num_words / max(float(spans[:, 1].max(initial=0)), 1e-6)
    if abs(stretch - 1) < 1e-3:
        stretch = 1.0
    start, end = np.nan_to_num(piece.places, nan=-1.0).T[:, :, None]  # (num_pieces, 1) each
    shared = np.minimum(end, spans[:, 1] * stretch) - np.maximum(start, spans[:, 0] * stretch)
    there = (shared > 1e-4).astype(np.float32)
    return np.asarray(there / np.maximum(there.sum(1, keepdims=True), 1), np.float32)


def _adding(adapter: LowRank) -> Any:
    return lambda layer, inputs, output: output + adapter(inputs[0])


def _byte_axis(text: str) -> Float32:
    """For each byte of a text in UTF-8, and for its end, how many words of its spoken form are before it."""
    axis: list[float] = []
    words = 0
    for heard, group in groupby(text, _is_heard):
        characters = list(group)
        for number, c in enumerate(characters):
            axis += [words + number / len(characters) * heard] * len(c.encode())
        words += heard
    return np.array([*axis, words], np.float32)


@cache
def _is_heard(character: str) -> bool:
    return " " not in spoken_form(f"a{character}a")


def _whisper_tokenizer(directory: str | None) -> Any:
    from tokenizers import Tokenizer

    files = find_model("whisper-base", directory)
    try:
        return Tokenizer.from_file(str(files.directory / "tokenizer.json"))
    except Exception as error:
        raise ModelError(f"{files.place}: its tokenizer.json cannot be read: {error}") from error
