"""ONNX files: weights read back as onnxruntime reads them, networks that onnxruntime runs, and damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.segmentation.onnx_messages import Node, read_network, write_network


def _network(rows: int, columns: int, seed: int) -> tuple[bytes, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    weights = {
        "weight": rng.standard_normal((rows, columns)).astype(np.float32),
        "bias": rng.standard_normal(columns).astype(np.float32),
        "flat": np.array([-1]),  # a negative number of 64 bits
    }
    nodes = [
        Node("Gemm", ["x", "weight", "bias"], ["product"], {}),
        Node("Concat", ["product", "product"], ["twice"], {"axis": 1}),
        Node("Reshape", ["twice", "flat"], ["y"], {}),
    ]
    return write_network(nodes, weights, {"x": ("n", rows)}, {"y": ("m",)}), weights


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_onnxruntime_runs_what_is_written(rows: int, columns: int, seed: int) -> None:
    import onnxruntime

    data, weights = _network(rows, columns, seed)
    x = np.random.default_rng(seed + 1).standard_normal((3, rows)).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": x})
    product = x.astype(np.float64) @ weights["weight"] + weights["bias"]
    np.testing.assert_allclose(y, np.concatenate([product, product], axis=1).ravel(), rtol=1e-4, atol=1e-4)
    ops, read = read_network(data)
    assert ops == ["Gemm", "Concat", "Reshape"]
    assert read.keys() == {"weight", "bias"}  # whole numbers are not weights
    for name, array in read.items():
        np.testing.assert_array_equal(array, weights[name])


def test_a_file_that_ends_early_is_told() -> None:
    data, _ = _network(5, 7, 0)
    for size in (1, 2, 10, len(data) // 2, len(data) - 12):
        with pytest.raises(ValueError, match=r"ends inside|graphs"):
            read_network(data[:size])
    with pytest.raises(ValueError, match="wire type"):
        read_network(b"\x07\x00")
    with pytest.raises(ValueError, match="0 graphs"):
        read_network(b"")
