"""Nearest centroids against numpy in float64 and against faiss, also where float32 cannot tell them apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.errors import InputError, ModelError
from seamlessalign.training.units.nearest import Centroids


def _slow(frames: NDArray[np.float32], centroids: NDArray[np.float32]) -> list[int]:
    """The definition, one frame and one centroid after the other."""
    found = []
    for frame in frames.astype(np.float64):
        distances = [float(((frame - centroid) ** 2).sum()) for centroid in centroids.astype(np.float64)]
        found.append(distances.index(min(distances)))
    return found


def test_they_are_those_of_numpy_and_faiss() -> None:
    import faiss

    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(60, 24)).astype(np.float32)
    frames = rng.normal(size=(500, 24)).astype(np.float32)
    found = Centroids(centroids).nearest(frames)
    assert found.dtype == np.int32 and found.tolist() == _slow(frames, centroids)
    index = faiss.IndexFlatL2(24)
    index.add(centroids)
    assert found.tolist() == index.search(frames, 1)[1][:, 0].tolist()
    # the formula as it is written: ‖x‖² − 2xC + ‖C‖²
    x, c = frames.astype(np.float64), centroids.astype(np.float64)
    scores = (x**2).sum(1)[:, None] - 2 * x @ c.T + (c**2).sum(1)
    assert found.tolist() == scores.argmin(1).tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1e4), st.integers(1, 3))
def test_they_are_exact_where_float32_is_not(seed: int, offset: float, digits: int) -> None:
    """Far from the origin, on a coarse grid, where many centroids are as near, or the same."""
    rng = np.random.default_rng(seed)
    centroids = (rng.normal(size=(30, 8)).round(digits - 1) * 1e-3 + offset).astype(np.float32)
    frames = np.concatenate([centroids, (rng.normal(size=(30, 8)).round(digits) * 1e-3 + offset).astype(np.float32)])
    assert Centroids(centroids).nearest(frames).tolist() == _slow(frames, centroids)


def test_float32_alone_would_be_wrong() -> None:
    """The test above can fail: the formula in float32 names others."""
    rng = np.random.default_rng(1)
    centroids = (rng.normal(size=(30, 8)) * 1e-3 + 100).astype(np.float32)
    frames = (rng.normal(size=(30, 8)) * 1e-3 + 100).astype(np.float32)
    plain = (-2 * frames @ centroids.T + (centroids**2).sum(1)).argmin(1)
    assert plain.tolist() != _slow(frames, centroids)


def test_a_unit_does_not_depend_on_what_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    centroids, frames = rng.normal(size=(50, 16)).astype(np.float32), rng.normal(size=(97, 16)).astype(np.float32)
    made = Centroids(centroids)
    whole = made.nearest(frames).tolist()
    assert [int(made.nearest(frame[None])[0]) for frame in frames] == whole
    monkeypatch.setattr("seamlessalign.training.units.nearest._MOST_SCORES", 50 * 10)
    assert made.nearest(frames).tolist() == whole
    assert made.nearest(frames[:0]).shape == (0,)


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(InputError, match=r"\(num_units, dim\)"):
        Centroids(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="finite"):
        Centroids(np.full((2, 2), np.nan, np.float32))
    made = Centroids(np.zeros((2, 3), np.float32))
    with pytest.raises(ModelError, match="3 dimensions"):
        made.nearest(np.zeros((1, 2), np.float32))
    with pytest.raises(ModelError, match="not all finite"):
        made.nearest(np.array([[np.inf, 0, 0]], np.float32))
