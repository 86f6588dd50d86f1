"""The pass that devices run, on the processor: half precision, certification, several devices, any tile."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.mining import neighbours
from seamlessalign.mining.certify import best_certain, best_in_full
from seamlessalign.mining.tiles import PRECISIONS, low_error, one_pass
from seamlessalign.mining.vectors import Vectors

Array = npt.NDArray[Any]


def sides(num_src: int, num_tgt: int, dim: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    rng = np.random.default_rng(seed)
    return tuple(Vectors(rng.standard_normal((n, dim)).astype(np.float32), "") for n in (num_src, num_tgt))  # type: ignore[return-value]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tile", [7, 100, 1000])
@pytest.mark.parametrize("device", ["cpu", "cpu,cpu,cpu"])
def test_nothing_better_is_left_out_than_it_says(tile: int, precision: str, device: str) -> None:
    src, tgt = sides(333, 418, 6)
    scores = src.unit(0, 333, np.float64) @ tgt.unit(0, 418, np.float64).T
    both = one_pass(src, tgt, 3, 5, device=device, tile=tile, precision=precision)
    for found, of_side, k in zip(both, (scores, scores.T), (3, 5), strict=True):
        assert found.index.shape == (len(of_side), k + 4)
        assert np.abs(np.take_along_axis(of_side, found.index, 1) - found.score).max() < 1e-6
        left = of_side.copy()
        np.put_along_axis(left, found.index, -np.inf, 1)
        assert (left.max(1) <= found.reach).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_error_of_the_first_look_is_within_its_bound(precision: str, seed: int, dim: int, size: float) -> None:
    import torch

    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((2, 40, dim)) * rng.choice([size, 1, 1e-4], (2, 40, dim))
    one, two = (Vectors(side.astype(np.float32), "") for side in rows)
    kind = getattr(torch, precision)
    low = torch.from_numpy(one.all_unit()).to(kind) @ torch.from_numpy(two.all_unit()).to(kind).T
    true = one.unit(0, 40, np.float64) @ two.unit(0, 40, np.float64).T
    assert np.abs(low.float().numpy() - true).max() <= low_error(dim, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_certified_rows_equal_those_computed_in_full(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    # groups of rows that half precision cannot tell apart
    middle = rng.standard_normal((10, 64))
    src, tgt = (
        Vectors((np.repeat(middle, 60, 0) + 2e-3 * rng.standard_normal((600, 64))).astype(np.float32), "side")
        for _ in range(2)
    )
    with caplog.at_level(logging.INFO, logger="seamlessalign"):
        forward, backward = one_pass(src, tgt, 8, 8, device="cpu", tile=150, precision=precision)
    assert ("searched again in float32" in caplog.text) == (precision != "float32")
    every = np.arange(600)
    for query, other, found in ((src, tgt, forward), (tgt, src, backward)):
        cosine, index = best_certain(query, other, every, every, found, 8)
        full, rows = best_in_full(query, other, every, every, 8)
        assert (index == rows).all() and (cosine == full).all()


def test_devices_give_the_bytes_of_the_compiled_scan() -> None:
    rng = np.random.default_rng(2)
    src, tgt = rng.standard_normal((2, 500, 48)).astype(np.float16)
    tgt[300:] = tgt[rng.integers(0, 300, 200)]
    wanted = neighbours(src, tgt, 12, "exact")
    for device in ("cpu", "cpu, cpu"):
        for one, two in zip(wanted, neighbours(src, tgt, 12, "exact", device=device), strict=True):
            assert one.index.tobytes() == two.index.tobytes() and one.cosine.tobytes() == two.cosine.tobytes()


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a CUDA device")
def test_cuda_gives_the_bytes_of_the_compiled_scan() -> None:
    rng = np.random.default_rng(3)
    src, tgt = rng.standard_normal((2, 20_000, 256)).astype(np.float16)
    for one, two in zip(neighbours(src, tgt), neighbours(src, tgt, device="cuda"), strict=True):
        assert one.index.tobytes() == two.index.tobytes() and one.cosine.tobytes() == two.cosine.tobytes()
