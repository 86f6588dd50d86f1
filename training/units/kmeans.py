"""k-means (Lloyd's algorithm) over a sample of frames: faiss finds the nearest centroids, on GPUs where it has them.

An iteration is a function of the frames and the centroids alone, so that it can be stopped after any and gone on with.
Sums are in float64 and in the order of the frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.training.units.sampling import FrameSample

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_BLOCK = 1 << 14  # frames that are in memory at a time


@dataclass(frozen=True, eq=False)
class Assigned:
    """Which centroid is nearest to each frame."""

    nearest: Int64  # (num_frames,)
    distances: Float32  # (num_frames,) squared
    counts: Int64  # (num_units,) frames of each unit

    @property
    def objective(self) -> float:
        """Mean squared distance."""
        return float(self.distances.sum(dtype=np.float64) / max(len(self.distances), 1))

    @property
    def empty(self) -> int:
        """Units that no frame has."""
        return int((self.counts == 0).sum())


def first_centroids(sample: FrameSample, units: int, seed: int) -> Float32:
    """Distinct frames of the sample, drawn by a seed, `(units, dim)`.

    Raises InputError where the sample has not as many: silence, for one, is the same again and again.
    """
    order = np.random.default_rng([seed, units]).permutation(len(sample))
    chosen: dict[bytes, None] = {}  # in the order in which they are drawn
    for start in range(0, len(order), max(units, 1)):
        for row in sample.take(order[start : start + units]):
            chosen.setdefault(row.tobytes())
            if len(chosen) == units:
                return np.frombuffer(b"".join(chosen), np.float32).reshape(units, sample.dim).copy()
    raise InputError(
        f"kmeans.units is {units}, but the {len(sample)} frames of the sample have {len(chosen)} different values; "
        "give more speech, or fewer units"
    )


def assign(sample: FrameSample, centroids: Float32, threads: int | None = None) -> Assigned:
    """The nearest centroid of every frame of the sample, as faiss finds it in float32."""
    search = _search(centroids, threads)
    nearest, distances = np.empty(len(sample), np.int64), np.empty(len(sample), np.float32)
    for start, rows in sample.blocks(_BLOCK):
        found, labels = search(rows)
        nearest[start : start + len(rows)] = labels[:, 0]
        distances[start : start + len(rows)] = np.maximum(found[:, 0], 0)  # rounding may leave less than nothing
    return Assigned(nearest, distances, np.bincount(nearest, minlength=len(centroids)).astype(np.int64))


def moved(sample: FrameSample, assigned: Assigned, centroids: Float32) -> Float32:
    """Every centroid in the middle of its frames, `(num_units, dim)`.

    One that has none takes a frame that is farthest from its own centroid, which loses it: so the objective falls, and
    no unit is left without a frame while there are frames to be given. Of frames as far, the first is taken.
    """
    sums = np.zeros(centroids.shape, np.float64)
    counts = assigned.counts.copy()
    for start, rows in sample.blocks(_BLOCK):
        labels = assigned.nearest[start : start + len(rows)]
        order = np.argsort(labels, kind="stable")
        first = np.flatnonzero(np.diff(labels[order], prepend=-1))
        sums[labels[order[first]]] += np.add.reduceat(rows[order].astype(np.float64), first, axis=0)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        _fill(empty, sample, assigned, sums, counts)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids).astype(np.float32)


def _fill(empty: Int64, sample: FrameSample, assigned: Assigned, sums: Any, counts: Int64) -> None:
    waiting = empty.tolist()[::-1]
    order = np.argsort(-assigned.distances, kind="stable")
    for start in range(0, len(order), _BLOCK):
        some = order[start : start + _BLOCK]
        rows = sample.take(some)
        for number, row in zip(some.tolist(), rows, strict=True):
            if not waiting or not assigned.distances[number]:
                return
            old = int(assigned.nearest[number])
            if counts[old] > 1:
                counts[old] -= 1
                sums[old] -= row
                unit = waiting.pop()
                counts[unit], sums[unit] = 1, row


def _search(centroids: Float32, threads: int | None) -> Callable[[Float32], tuple[Any, Any]]:
    """A function from frames to squared distances and numbers of their nearest centroids, `(num_frames, 1)` each."""
    import faiss

    if threads is not None:
        faiss.omp_set_num_threads(threads)
    index: Any = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))
    # a build for processors alone has other names of GPUs too, which fail when called: this one it does not have
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    return lambda rows: index.search(np.ascontiguousarray(rows), 1)
