"""Candidates from faiss's flat index, which scores everything in float32."""

import numpy as np

from seamlessalign.mining.exact import Found
from seamlessalign.mining.vectors import Floats

_UNIT_ROUNDOFF = 2.0**-24  # of float32


def flat(query: Floats, other: Floats, width: int) -> Found:
    """The `width` best inner products of every unit query row (num_rows, dim) with all other rows."""
    import faiss

    index = faiss.IndexFlatIP(other.shape[1])
    index.add(other)
    score, found = index.search(query, width)
    return Found(score, found, score[:, -1].astype(np.float64) + search_error(other.shape[1]))


def search_error(dim: int) -> float:
    """How far a float32 inner product of unit rows can be from their exact cosine, for any order of summation.

    Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1: |error| ≤ γ_dim |x|·|y| ≤ γ_dim. Both
    rows' entries and the final score are each rounded once more.
    """
    return (dim + 4) * _UNIT_ROUNDOFF / (1 - (dim + 4) * _UNIT_ROUNDOFF)
