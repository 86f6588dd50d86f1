"""Embeddings in 4 bit: rows by the definition, in the precision of the module."""

import struct

import numpy as np
import pytest

ROWS, WIDTH = 7, 64


def packed_bytes() -> tuple[bytes, "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]:
    """A table in its bytes, and its values `(ROWS, WIDTH)`, weight by weight."""
    draws = np.random.default_rng(0)
    stored, values = b"", np.zeros((ROWS, WIDTH), np.float32)
    for row in range(ROWS):
        for begin in range(0, WIDTH, 32):
            scale = np.float16(draws.normal() / 50)
            weights = [int(weight) for weight in draws.integers(-8, 8, 32)]
            stored += struct.pack("<e", scale)
            stored += bytes(low + 8 | (high + 8) << 4 for low, high in zip(weights[:16], weights[16:], strict=True))
            for place, weight in enumerate(weights):
                values[row, begin + place] = weight * float(scale)
    return stored, values


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_rows_are_the_weights_times_the_scales_of_their_blocks(precision: str) -> None:
    import torch

    from seamlessalign.embedders.packed_embedding import BLOCK_BYTES, PackedEmbedding

    stored, values = packed_bytes()
    table = PackedEmbedding(np.frombuffer(stored, np.uint8).reshape(-1, BLOCK_BYTES), WIDTH)
    table.half().to(getattr(torch, precision))  # nothing is lost on the way
    ids = torch.tensor([[3, 0], [6, 3]])
    rows = table(ids)
    assert rows.dtype is getattr(torch, precision)
    assert torch.equal(rows, torch.from_numpy(values)[ids].to(rows.dtype))


def test_nothing_of_it_is_trained_or_saved() -> None:
    from seamlessalign.embedders.packed_embedding import BLOCK_BYTES, PackedEmbedding

    table = PackedEmbedding(np.frombuffer(packed_bytes()[0], np.uint8).reshape(-1, BLOCK_BYTES), WIDTH)
    assert list(table.parameters()) == [] and table.state_dict() == {}
