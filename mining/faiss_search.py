"""The compressed index of faiss: which one fits a size, its training, and the GPUs it may use."""

import functools
import logging
from typing import Any

import numpy as np

from seamlessalign.mining.vectors import Floats, Vectors

log = logging.getLogger(__name__)

MIN_ROWS_FOR_CODES = 39 * 256  # faiss asks for 39 training vectors per centroid, and a PQ code of one byte has 256
_TRAINING_ROWS = 1 << 19  # at most
_ROWS_PER_LIST = 64  # of them; faiss asks for 39
# Codes only choose which candidates are ranked exactly. Of 20,000 rows of 384 dimensions they found .9957 of the
# neighbours after 7 s of training, .9958 after 25 s with what stands here, .9959 after 55 s.
_ROTATION_ROUNDS = 4  # faiss's are 50
_ROTATION_FIRST_ROUND = 4  # iterations of k-means in the first of them; faiss's are 40
_CODE_ROUNDS = 10  # of k-means; faiss's are 25
_ROWS_PER_CENTROID = 64  # of codes and in the rotation; faiss's are 256
_SEED = 20230822


def index_description(rows: int, dim: int) -> tuple[str, int]:
    """The faiss index_factory string for so many rows, and the number of inverted lists to search for each query.

    Codes of up to 64 bytes with two or more dimensions each; about 4 √rows lists, of which 39 rows train each. One list
    in 16 is searched: of true pairs among 100,000 × 100,000 rows, 3 in 1,000 were then out of reach from both sides,
    and 1.4 with twice the lists and the time.
    """
    pieces = max(piece for piece in range(1, 65) if dim % piece == 0 and (piece == 1 or dim // piece >= 2))
    lists = 1 << int(np.log2(min(4 * np.sqrt(rows), rows / 39, _TRAINING_ROWS / 39)))
    return f"OPQ{pieces},IVF{lists},PQ{pieces}np", min(lists, max(32, lists // 16))


def train(other: Vectors, description: str) -> Any:
    """A faiss index of `description` without rows: rotation, centres of the lists and codes learnt from a sample.

    The sample is drawn with a fixed seed. The same rows, processor and number of threads give the same index; another
    number of threads sums in another order, so tasks that are to agree share one trained index.
    """
    import faiss

    index: Any = faiss.index_factory(other.dim, description, faiss.METRIC_INNER_PRODUCT)
    rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
    rotation.niter, rotation.niter_pq_0 = _ROTATION_ROUNDS, _ROTATION_FIRST_ROUND
    rotation.max_train_points = 256 * _ROWS_PER_CENTROID
    ivf: Any = faiss.downcast_index(index.index)
    codes = ivf.pq.cp
    codes.niter, codes.max_points_per_centroid = _CODE_ROUNDS, _ROWS_PER_CENTROID
    sample = _sample(other, max(ivf.nlist * _ROWS_PER_LIST, 256 * _ROWS_PER_CENTROID))
    if gpus():
        clustering: Any = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(other.dim))
        ivf.clustering_index = clustering
        index.train(sample)
        ivf.clustering_index = None
    else:
        index.train(sample)
    return index


@functools.cache
def gpus() -> int:
    """How many GPUs this build of faiss can use; 0 for a build without them. Says once which it is."""
    import faiss

    # A build for processors alone has other GPU names too, which fail when called: this one it does not have.
    found = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    log.info("faiss %s: %s", faiss.__version__, f"{found} GPUs" if found else "processor only")
    return found


def on_gpu(ivf: Any) -> Any:
    """A copy of an inverted-file index with its rows on the first GPU."""
    import faiss

    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # lookup tables of 64 codes do not fit a block's memory in float32
    return faiss.index_cpu_to_gpu(_gpu_memory(), 0, ivf, options)


@functools.cache
def _gpu_memory() -> Any:
    import faiss

    return faiss.StandardGpuResources()


def _sample(side: Vectors, rows: int) -> Floats:
    """Training rows, drawn with a fixed seed and read in order."""
    rows = min(rows, _TRAINING_ROWS)
    if len(side) <= rows:
        return side.all_unit()
    return side.unit_of(np.sort(np.random.default_rng(_SEED).choice(len(side), rows, replace=False)))
