"""Training of the compressed index: what it learns from."""

import numpy as np

from seamlessalign.mining import faiss_search
from seamlessalign.mining.vectors import Vectors


def test_training_takes_a_seeded_sample_of_unit_rows() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((500, 6)).astype(np.float16)
    side = Vectors(rows, "tgt")
    sample = faiss_search._sample(side, 200)
    assert sample.shape == (200, 6) and np.allclose((sample**2).sum(1), 1, atol=1e-6)
    order = np.flatnonzero((side.all_unit()[:, None] == sample[None]).all(2).any(1))
    assert len(order) == 200 and (side.all_unit()[order] == sample).all() and order[-1] > 450
    assert (faiss_search._sample(side, 200) == sample).all()
    assert (faiss_search._sample(side, 500) == side.all_unit()).all()
