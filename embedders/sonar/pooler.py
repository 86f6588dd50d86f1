"""Pooling: the outputs of an encoder → one row for each utterance, with its padding left out.

`hidden` is `(batch, length, dim)`, `mask` `(batch, length)`: true where an output is of the utterance itself. Each
utterance has at least one such output.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

Int64 = npt.NDArray[np.int64]

_BLOCK_SPANS = 64  # pooled together
_BLOCK_SCORES = 1 << 18  # of a block, spans by outputs, and of each head


def mean_pool(hidden: Any, mask: Any) -> Any:
    """The mean over the utterance's outputs, `(batch, dim)`."""
    weights = mask.to(hidden.dtype)
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def max_pool(hidden: Any, mask: Any) -> Any:
    """The largest value of each dimension over the utterance's outputs, `(batch, dim)`."""
    return hidden.masked_fill(~mask[..., None], float("-inf")).amax(1)


class AttentionPooler(nn.Module):  # type: ignore[misc]
    """Learned queries that read an encoder's outputs through the layers of a Transformer decoder.

    Layers are normalised behind each part (post-norm) and use ReLU, as SONAR's are (Duquenne et al. 2023, section 4).
    Rows of several queries are averaged.
    """

    def __init__(self, dim: int, num_layers: int, num_heads: int, ffn_dim: int, num_queries: int = 1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(num_queries, dim))
        self.layers = nn.ModuleList(_Layer(dim, num_heads, ffn_dim) for _ in range(num_layers))
        self.projection = nn.Linear(dim, dim, bias=False)

    def forward(self, hidden: Any, mask: Any) -> Any:
        """Rows `(batch, dim)`."""
        rows = self.query.expand(len(hidden), -1, -1)
        for layer in self.layers:
            rows = layer(rows, hidden, mask)
        return self.projection(rows).mean(1)

    def pool_spans(self, outputs: Any, ranges: Int64) -> Any:
        """Rows of spans that share outputs, as `forward` makes them of each span's own.

        What each layer reads of an output is computed once, in however many spans the output is. Spans that begin near
        each other are pooled together.

        Args:
            outputs: `(num_outputs, dim)`, in order of time.
            ranges: int64 `(num_spans, 2)`, the outputs `[first, last)` of each span, one at least.

        Returns:
            `(num_spans, dim)`, in the order of `ranges`.
        """
        order = np.lexsort((ranges[:, 1], ranges[:, 0]))
        ranges = ranges[order]
        blocks = [(block, *_seen(ranges[block], outputs.device)) for block in _blocks(ranges)]
        rows = self.query.expand(len(ranges), -1, -1)
        for layer in self.layers:
            read = layer.encoder_attn.read(outputs[None])
            parts = [
                layer.over_spans(rows[block], [values[:, :, within] for values in read], seen)
                for block, within, seen in blocks
            ]
            rows = torch.cat(parts)
        return self.projection(rows).mean(1)[torch.as_tensor(np.argsort(order), device=outputs.device)]


def _blocks(ranges: Int64) -> list[slice]:
    """Spans, sorted by where they begin, in blocks of which each span sees about the same outputs."""
    blocks: list[slice] = []
    begun = reach = 0
    for i, last in enumerate(ranges[:, 1].tolist()):
        seen = max(reach, last) - int(ranges[begun, 0])
        if i - begun == _BLOCK_SPANS or (i > begun and (i + 1 - begun) * seen > _BLOCK_SCORES):
            blocks.append(slice(begun, i))
            begun, reach = i, 0
        reach = max(reach, last)
    return [*blocks, slice(begun, len(ranges))]


def _seen(ranges: Int64, device: Any) -> tuple[slice, Any]:
    """The outputs that any of a block's spans sees, and which of them each one sees, `(num_spans, num_outputs)`."""
    within = slice(int(ranges[0, 0]), int(ranges[:, 1].max()))
    places = torch.arange(within.start, within.stop, device=device)
    first, last = torch.as_tensor(ranges, device=device).T[..., None]
    return within, (first <= places) & (places < last)


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = _Attention(dim, num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = _Attention(dim, num_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, rows: Any, hidden: Any, mask: Any) -> Any:
        rows = self.self_attn_layer_norm(rows + self.self_attn(rows, rows, None))
        return self._finish(rows, self.encoder_attn(rows, hidden, mask))

    def over_spans(self, rows: Any, read: Any, seen: Any) -> Any:
        """Rows `(num_spans, num_queries, dim)` that see their own part of what is `read` of outputs in common."""
        rows = self.self_attn_layer_norm(rows + self.self_attn(rows, rows, None))
        queries = rows.shape[1]
        flat = rows.reshape(1, -1, rows.shape[2])
        mixed = self.encoder_attn.mix(flat, read, seen.repeat_interleave(queries, 0)[None, None])
        return self._finish(rows, mixed.reshape(rows.shape))

    def _finish(self, rows: Any, heard: Any) -> Any:
        rows = self.encoder_attn_layer_norm(rows + heard)
        return self.final_layer_norm(rows + self.fc2(functional.relu(self.fc1(rows))))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, rows: Any, source: Any, mask: Any | None) -> Any:
        return self.mix(rows, self.read(source), None if mask is None else mask[:, None, None, :])

    def read(self, source: Any) -> list[Any]:
        """Keys and values of what is attended to, each `(batch, heads, length, dim / heads)`."""
        return [self._heads(self.k_proj(source)), self._heads(self.v_proj(source))]

    def mix(self, rows: Any, read: Any, seen: Any | None) -> Any:
        keys, values = read
        mixed = functional.scaled_dot_product_attention(self._heads(self.q_proj(rows)), keys, values, attn_mask=seen)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, values: Any) -> Any:
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
