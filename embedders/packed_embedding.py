"""Rows of embeddings that stay in 4 bit: a table of a quarter of a million pieces, of which a text has a few."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

BLOCK = 32  # weights that share a scale: float16, then 16 bytes with two weights each, the first 16 in the low halves
BLOCK_BYTES = 2 + BLOCK // 2


class PackedEmbedding(nn.Module):  # type: ignore[misc]
    """Frozen embeddings, unpacked row by row as they are asked for, in the precision of the module."""

    def __init__(self, blocks: npt.NDArray[np.uint8], width: int) -> None:
        """Of the bytes `(rows * width / BLOCK, BLOCK_BYTES)` of a table `(rows, width)`, which are copied."""
        super().__init__()
        by_row = blocks.reshape(-1, width // BLOCK, BLOCK_BYTES)
        # as whole numbers, which `half` and `to` leave as they are; a precision is followed by what has no values
        self.register_buffer("packed", torch.from_numpy(by_row[..., 2:].copy()), persistent=False)
        scales = np.ascontiguousarray(by_row[..., :2]).view("<i2")
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.int16)), persistent=False)
        self.register_buffer("precision", torch.empty(0), persistent=False)

    def forward(self, ids: Any) -> Any:
        """Rows `(…, width)` of ids `(…)`: each weight, from -8 to 7, times its block's scale."""
        packed = self.packed[ids]
        weights = torch.cat([packed & 15, packed >> 4], -1).float() - 8
        return (weights * self.scales[ids].view(torch.float16).float()).flatten(-2).to(self.precision.dtype)
