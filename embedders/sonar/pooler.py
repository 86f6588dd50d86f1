"""Pooling: the outputs of an encoder → one row for each utterance, with its padding left out.

`hidden` is `(batch, length, dim)`, `mask` `(batch, length)`: true where an output is of the utterance itself. Each
utterance has at least one such output.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


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
        rows = self.encoder_attn_layer_norm(rows + self.encoder_attn(rows, hidden, mask))
        return self.final_layer_norm(rows + self.fc2(functional.relu(self.fc1(rows))))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, rows: Any, source: Any, mask: Any | None) -> Any:
        q, k, v = (
            values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for values in (self.q_proj(rows), self.k_proj(source), self.v_proj(source))
        )
        seen = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
