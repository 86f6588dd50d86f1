"""Multilingual E5 as a module of torch, to be built upon: layers that gradients can flow through, and its tokenizer.

The package that carries E5 in 4 bit has an engine of its own in C, which only makes rows. Here its file is read into
transformers' `BertModel`; a transformers directory of the true model serves as well.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.unigram import Unigram
from seamlessalign.errors import ModelError
from seamlessalign.model_files import ModelFiles, find_model, read_weights
from seamlessalign.unfilled_modules import unfilled

PREFIX = "query: "  # E5's own for comparing equals with equals
_MAGIC = 8  # bytes before the sizes

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pieces:
    """A text as E5 reads it.

    `places` `(num_pieces, 2)` say where each piece begins and ends, in words of the text: (3.5, 4.0) is the second half
    of its fourth word. Begin, end and prefix, which are no part of the text, have NaN.
    """

    ids: list[int]
    places: Float32
    num_words: int


class E5:
    """The network of E5 and its tokenizer. `models` are the names and SHA-256 of what touches the rows."""

    def __init__(self, files: ModelFiles) -> None:
        """Read a found `e5-small`, on the CPU, in float32, in evaluation mode.

        Raises ModelError for files that are damaged or hold something else.
        """
        self.models: Mapping[str, str] = {files.name: files.sha256}
        self._table: dict[int, str] | None
        if files.origin == "package":
            self.network, self._tokenizer, self._table, self._ends = _from_package(files)
        else:
            self.network, self._tokenizer, self._ends = _from_directory(files)
            self._table = None
        self.network.eval()
        self.dim = int(self.network.config.hidden_size)
        self.padding = int(self.network.config.pad_token_id)
        self._most = int(self.network.config.max_position_embeddings)

    def pieces(self, text: str) -> Pieces:
        """The pieces of a text, with E5's prefix, in at most as many as E5 takes."""
        written = self._written(PREFIX + text)
        encoding = self._tokenizer.encode(written, add_special_tokens=False)
        kept = slice(self._most - 2)
        axis, num_words = _word_axis(written)
        places = np.full((len(encoding.ids[kept]) + 2, 2), np.nan, np.float32)
        for row, (start, end) in zip(places[1:-1], encoding.offsets[kept], strict=True):
            row[:] = axis[start] - 1, axis[end] - 1  # the prefix is a word of its own
        places[places[:, 1] <= 0] = np.nan
        begin, final = self._ends
        return Pieces([begin, *encoding.ids[kept], final], places.clip(min=0), num_words - 1)

    def _written(self, text: str) -> str:
        """A text as its tokenizer takes it: that of a directory normalises by itself."""
        if self._table is None:
            return text
        words = text.translate(self._table).split(" ")
        return "".join(f"\u2581{word}" for word in words if word)


def load_e5(directory: str | None = None) -> E5:
    """E5 from a transformers directory, the hub's cache, or the package. Raises ModelError."""
    return E5(find_model("e5-small", directory))


def _word_axis(text: str) -> tuple[Float32, int]:
    """Where on the axis of words each character of a text begins, and one more for its end; and how many words."""
    axis = np.zeros(len(text) + 1, np.float32)
    words: list[list[int]] = []
    open_word = False
    for i, c in enumerate(text):
        gap = c in " \u2581"
        if not gap and not open_word:
            words.append([])
        if not gap:
            words[-1].append(i)
        open_word = not gap
        axis[i] = len(words) - (not gap)
    for number, members in enumerate(words):
        axis[members] = number + np.arange(len(members), dtype=np.float32) / len(members)
    axis[-1] = len(words)
    return axis, len(words)


def _from_directory(files: ModelFiles) -> tuple[Any, Any, tuple[int, int]]:
    from tokenizers import Tokenizer
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        network, loaded = BertModel.from_pretrained(
            str(files.directory), local_files_only=True, add_pooling_layer=False, output_loading_info=True
        )
        tokenizer = Tokenizer.from_file(str(files.directory / "tokenizer.json"))
    except Exception as error:
        raise ModelError(f"{files.place}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if loaded["missing_keys"]:
        raise ModelError(f"{files.place}: its weights lack {', '.join(sorted(loaded['missing_keys'])[:3])}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    around = tokenizer.encode("").ids
    if len(around) != 2:
        raise ModelError(f"{files.place}: its tokenizer puts {len(around)} tokens around a text, not 2")
    return network.float(), tokenizer, (around[0], around[1])


def _from_package(files: ModelFiles) -> tuple[Any, Any, dict[int, str], tuple[int, int]]:
    try:
        return _read(_Bytes(read_weights(files)))
    except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise ModelError(f"model {files.name!r} in {files.place} is damaged: {error}") from error


class _Bytes:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = _MAGIC

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: Any, count: int) -> Any:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def _read(data: _Bytes) -> tuple[Any, Any, dict[int, str], tuple[int, int]]:
    """The file: 8 bytes; width, layers, heads, feed-forward width, vocabulary, positions, types (i32), epsilon (f32),
    kind (i32); the pieces, the ids of begin, end, padding and unknown (i32), bytes of text (u64), offsets (u32), scores
    (f32), text; a table of characters and what they become; then a directory of tensors: name, type, values, place.
    """
    import torch
    from transformers import BertConfig, BertModel

    from seamlessalign.embedders.packed_embedding import BLOCK, BLOCK_BYTES, PackedEmbedding

    width, layers, heads, inner, vocabulary, positions, types, epsilon, _ = data.take("7ifi")
    pieces, begin, end, padding, unknown, num_bytes = data.take("5iQ")
    offsets = data.array("<u4", pieces + 1).tolist()
    scores = data.array("<f4", pieces).tolist()
    text = bytes(data.array("u1", num_bytes))
    written = [text[start:stop].decode("utf-8", "replace") for start, stop in pairwise(offsets)]
    changed, num_bytes = data.take("iI")
    behind = data.at + num_bytes
    table = {}
    for _ in range(changed):
        character, count = data.take("IB")
        table[character] = "".join(map(chr, data.take(f"{count}I")))
    if data.at != behind:
        raise ValueError(f"its table of characters ends at byte {data.at}, not {behind}")
    stored: dict[str, tuple[int, int]] = {}
    for _ in range(*data.take("i")):
        name = bytes(data.array("u1", *data.take("H"))).decode()
        _, _, place, size = data.take("BIQQ")
        stored[name] = place, size

    def packed(name: str, count: int) -> Any:
        place, size = stored[name]
        if size * BLOCK != count * BLOCK_BYTES:
            return None
        return np.frombuffer(data.data, np.uint8, size, place).reshape(-1, BLOCK_BYTES)

    def tensor(name: str, *shape: int) -> Any:
        place, size = stored[name]
        count = math.prod(shape)
        made = torch.empty(shape)  # memory of torch, placed as it wants it, which becomes the network's own
        if size == 4 * count:
            made.numpy().reshape(-1)[:] = np.frombuffer(data.data, "<f4", count, place)
        elif (blocks := packed(name, count)) is not None:
            weights, values = blocks[:, 2:], made.numpy().reshape(-1, BLOCK)
            np.subtract(weights & 15, 8, out=values[:, : BLOCK // 2], dtype=np.float32)
            np.subtract(weights >> 4, 8, out=values[:, BLOCK // 2 :], dtype=np.float32)
            values *= blocks[:, :2].copy().view("<f2").astype(np.float32)
        else:
            raise ValueError(f"its tensor {name} has {size} bytes for {count} values")
        return made

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        hidden_act="gelu",
        pad_token_id=padding,
    )
    words = packed("emb.word", vocabulary * width) if width % BLOCK == 0 else None
    unpacked = {"embeddings.word_embeddings.weight": tensor("emb.word", vocabulary, width)} if words is None else {}
    state = {
        **unpacked,
        "embeddings.position_embeddings.weight": tensor("emb.pos", positions, width),
        "embeddings.token_type_embeddings.weight": tensor("emb.type", types, width),
        "embeddings.LayerNorm.weight": tensor("emb.ln.w", width),
        "embeddings.LayerNorm.bias": tensor("emb.ln.b", width),
    }
    shapes = {"fi": (inner, width), "fo": (width, inner)}
    for layer in range(layers):
        for short, name in _LINEAR.items():
            out, into = shapes.get(short, (width, width))
            state[f"encoder.layer.{layer}.{name}.weight"] = tensor(f"l{layer}.{short}.w", out, into)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensor(f"l{layer}.{short}.b", out)
        for short, name in _NORM.items():
            state[f"encoder.layer.{layer}.{name}.weight"] = tensor(f"l{layer}.{short}.w", width)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensor(f"l{layer}.{short}.b", width)
    with unfilled():
        network = BertModel(config, add_pooling_layer=False)
    if words is not None:  # four fifths of all weights; unpacked they have seven times the bytes
        network.embeddings.word_embeddings = PackedEmbedding(words, width)
    wrong = network.load_state_dict(state, strict=False, assign=True)
    if wrong.missing_keys or wrong.unexpected_keys:
        raise ValueError(f"lacks {wrong.missing_keys}, has too much {wrong.unexpected_keys}")
    return network, Unigram(written, scores, unknown), table, (begin, end)


_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
