"""What tests of segmentation share."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def silero_package() -> Iterator[Any]:
    """The package silero_vad, which sets torch to one thread when it is imported."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield pytest.importorskip("silero_vad")
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def silero_file() -> Path:
    """The file of the network that is in use."""
    package = importlib.util.find_spec("silero_vad")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
