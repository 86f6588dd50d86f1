"""Candidates from faiss: the flat index, which scores everything, and OPQ + IVF + PQ, which scores a promising part."""

import logging
from typing import Any

import numpy as np

from seamlessalign.mining.certify import Found
from seamlessalign.mining.vectors import Floats, Vectors

log = logging.getLogger(__name__)

MIN_ROWS_FOR_CODES = 39 * 256  # faiss asks for 39 training vectors per centroid, and a PQ code of one byte has 256
_TRAINING_ROWS = 1 << 19
_ROTATION_ROUNDS = 8  # faiss's 50 take most of the training and change next to nothing
_SEED = 20230822


def flat(query: Floats, other: Floats, width: int) -> Found:
    """The `width` best inner products of every query row (num_rows, dim float32) with all other rows."""
    import faiss

    index = faiss.IndexFlatIP(other.shape[1])
    index.add(other)
    return Found(*index.search(query, width))


def compressed(query: Vectors, other: Vectors, width: int) -> Found:
    """About the `width` best of every query row by an index of one-byte codes; -1 where the searched lists ran out.

    The other side must have MIN_ROWS_FOR_CODES rows or more. Scores are those of the codes: rank again before use.
    """
    import faiss

    description, probes = index_description(len(other), other.dim)
    log.info("%s: index %s, %d lists searched per row", other.side, description, probes)
    index: Any = faiss.index_factory(other.dim, description, faiss.METRIC_INNER_PRODUCT)
    rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
    rotation.niter = _ROTATION_ROUNDS
    index.train(_sample(other))
    for start, stop in _batches(len(other)):
        index.add(other.unit(start, stop))
    faiss.extract_index_ivf(index).nprobe = probes
    parts: list[tuple[Any, Any]] = [
        index.search(query.unit(start, stop), width) for start, stop in _batches(len(query))
    ]
    return Found(np.concatenate([score for score, _ in parts]), np.concatenate([rows for _, rows in parts]))


def index_description(rows: int, dim: int) -> tuple[str, int]:
    """The faiss index_factory string for so many rows, and the number of inverted lists to search for each query.

    Codes of up to 64 bytes with two or more dimensions each; about 4 √rows lists, of which 39 rows train each.
    """
    pieces = max(piece for piece in range(1, 65) if dim % piece == 0 and (piece == 1 or dim // piece >= 2))
    lists = 1 << int(np.log2(min(4 * np.sqrt(rows), rows / 39, _TRAINING_ROWS / 39)))
    return f"OPQ{pieces},IVF{lists},PQ{pieces}np", min(lists, max(32, lists // 16))


def _sample(side: Vectors) -> Floats:
    """Training rows, drawn with a fixed seed and read in order."""
    if len(side) <= _TRAINING_ROWS:
        return side.all_unit()
    rows = np.sort(np.random.default_rng(_SEED).choice(len(side), _TRAINING_ROWS, replace=False))
    return (side.rows[rows] * side.scale[rows, None]).astype(np.float32)


def _batches(rows: int, step: int = 1 << 16) -> list[tuple[int, int]]:
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
