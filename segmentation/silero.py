"""Silero's detector: the network of the package silero-vad 6 as it is, and the same as matrix products.

The package's sequence model spends two thirds of its time in convolutions over frames of four columns, which
onnxruntime does slowly. Written as products of matrices, with the padding of a frame folded into the weights, the same
network is about three times faster and says the same to 1e-6. It is made when it is loaded, out of the weights in the
package's file, and held against the package's own network on a piece of made sound; where the two differ, or the file
is built otherwise than is known here, the package's own network runs in its place.
"""

import hashlib
import importlib.util
import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamlessalign.errors import ModelError
from seamlessalign.segmentation.onnx_messages import Node, read_network, write_network

FRAME = 512  # samples: 32 ms
CONTEXT = 64  # samples of the frame before that the network also sees

_FRAMES_PER_CALL = 512  # 16.4 s: more gains nothing and costs memory
_BINS = 129  # of the spectrum
_OPS = {"Pad": 1, "Conv": 6, "Relu": 5, "LSTM": 1, "Sigmoid": 1, "Sqrt": 1}  # what makes the network that is known
_SHAPES = {
    "stft.forward_basis_buffer": (258, 1, 256),
    "encoder.0.weight": (128, 129, 3),
    "encoder.1.weight": (64, 128, 3),
    "encoder.2.weight": (64, 64, 3),
    "encoder.3.weight": (128, 64, 3),
    "output.weight": (1, 128, 1),
}
_AGREEMENT = 1e-5  # of probabilities, between the two networks

log = logging.getLogger(__name__)


class SileroState:
    """Silero going through one recording: what it remembers of the frames before."""

    def __init__(self, num_threads: int = 1, *, products: bool = False) -> None:
        """At the beginning of a recording; `products` chooses the fast form of the network.

        Raises ModelError where the package is not installed.
        """
        self._session = _session(num_threads, products)
        self._hidden = np.zeros((1, 1, 128), dtype=np.float32)
        self._cell = np.zeros((1, 1, 128), dtype=np.float32)

    def score(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of speech (num_frames,) of the frames that follow, each with its context before it.

        `frames` is (num_frames, 64 + 512); `with_context` makes it.
        """
        scored = [np.zeros(0, np.float32)]
        for first in range(0, len(frames), _FRAMES_PER_CALL):
            block = {"input": frames[first : first + _FRAMES_PER_CALL], "h": self._hidden, "c": self._cell}
            values, self._hidden, self._cell = self._session.run(["speech_probs", "hn", "cn"], block)
            scored.append(np.asarray(values, dtype=np.float32).reshape(-1))
        return np.concatenate(scored)


def with_context(frames: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Consecutive frames (num_frames, 512) each behind the last 64 samples of the one before: (num_frames, 576).

    `before` (64,) are those of the frame before the first; zeros at the beginning of a recording.
    """
    block = np.empty((len(frames), CONTEXT + FRAME), dtype=np.float32)
    block[:1, :CONTEXT] = before
    block[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
    block[:, CONTEXT:] = frames
    return block


def silero_sha256() -> str:
    """SHA-256 of the package's file, which all weights come from."""
    return hashlib.sha256(_path().read_bytes()).hexdigest()


def as_products(data: bytes) -> bytes:
    """The package's sequence network, an ONNX file, as one of matrix products with the same inputs and outputs.

    Raises ValueError for a network that is not the one known here.
    """
    ops, weights = read_network(data)
    counts = {op: ops.count(op) for op in _OPS}
    shapes = {name: weights[name].shape if name in weights else None for name in _SHAPES}
    if counts != _OPS or shapes != _SHAPES:
        raise ValueError("it is built otherwise")
    recurrent = [array for array in weights.values() if array.shape in ((1, 512, 128), (1, 1024))]
    if [array.shape for array in recurrent] != [(1, 512, 128), (1, 512, 128), (1, 1024)]:
        raise ValueError("its recurrent layer is built otherwise")
    net = _Network()
    columns = _spectra(net, weights["stft.forward_basis_buffer"][:, 0])
    for layer, places in enumerate(_TAPS):
        weight = weights[f"encoder.{layer}.weight"]
        bias = net.constant(f"bias.{layer}", weights[f"encoder.{layer}.bias"])
        columns = [_convolved(net, columns, taps, weight, bias) for taps in places]
    (encoded,) = columns
    sequence = net.add("Reshape", [encoded, net.constant("steps", np.array([-1, 1, 128]))])
    names = [net.constant(f"lstm.{number}", array) for number, array in enumerate(recurrent)]
    state = net.add("LSTM", [sequence, *names, "", "h", "c"], ["state", "hn", "cn"], hidden_size=128)
    heard = net.add("Relu", [net.add("Reshape", [state, net.constant("rows", np.array([-1, 128]))])])
    head = [net.constant("head", weights["output.weight"][0]), net.constant("head.bias", weights["output.bias"])]
    said = net.add("Sigmoid", [net.add("Gemm", [heard, *head])])
    net.add("Reshape", [said, net.constant("flat", np.array([-1]))], ["speech_probs"])
    memory: dict[str, Sequence[int | str]] = {"h": (1, 1, 128), "c": (1, 1, 128)}
    return write_network(
        net.nodes,
        net.weights,
        {"input": ("frames", CONTEXT + FRAME), **memory},
        {"speech_probs": ("frames",), "hn": (1, 1, 128), "cn": (1, 1, 128)},
    )


# Of each layer, for each place that it gives a column for: (place that a tap reads, number of the tap). Taps that
# would read beyond the four columns of a frame read zeros, and are left out.
_TAPS: tuple[list[list[tuple[int, int]]], ...] = (
    [[(0, 1), (1, 2)], [(0, 0), (1, 1), (2, 2)], [(1, 0), (2, 1), (3, 2)], [(2, 0), (3, 1)]],
    [[(0, 1), (1, 2)], [(1, 0), (2, 1), (3, 2)]],  # every second place
    [[(0, 1), (1, 2)]],
    [[(0, 1)]],
)


class _Network:
    """A network that is being written."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.weights.setdefault(name, array)
        return name

    def add(self, op: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: int) -> str:
        """Add an operation; returns the name of its first output."""
        outputs = outputs or [f"{op.lower()}.{len(self.nodes)}"]
        self.nodes.append(Node(op, inputs, outputs, attributes))
        return outputs[0]

    def columns(self, source: str, first: int, last: int) -> str:
        """Columns `[first, last)` of a matrix."""
        bounds = [self.constant(f"at.{value}", np.array([value])) for value in (first, last)]
        return self.add("Slice", [source, *bounds, self.constant("at.1", np.array([1]))])


def _spectra(net: _Network, basis: NDArray[np.float32]) -> list[str]:
    """Magnitudes of a frame's four windows of 256 samples, 128 apart, each (num_frames, 129).

    The last window reaches 64 samples past the frame, where the package mirrors the frame's end: a mirrored sample
    adds to the weight of the sample that it is a copy of.
    """
    whole = basis.T.copy()
    last = whole[:192].copy()
    last[np.arange(190, 126, -1)] += whole[192:]
    names = [net.constant("window", whole)] * 3 + [net.constant("window.last", last)]
    found = []
    for number, name in enumerate(names):
        window = net.columns("input", 128 * number, min(128 * number + 256, CONTEXT + FRAME))
        product = net.add("MatMul", [window, name])
        real, imaginary = net.columns(product, 0, _BINS), net.columns(product, _BINS, 2 * _BINS)
        squares = [net.add("Mul", [part, part]) for part in (real, imaginary)]
        found.append(net.add("Sqrt", [net.add("Add", squares)]))
    return found


def _convolved(
    net: _Network, columns: list[str], taps: list[tuple[int, int]], weight: NDArray[np.float32], bias: str
) -> str:
    """One column of a convolution's output, as one product."""
    read = [columns[place] for place, _ in taps]
    joined = net.add("Concat", read, axis=1) if len(read) > 1 else read[0]
    stacked = np.concatenate([weight[:, :, tap].T for _, tap in taps])
    name = net.constant(f"weight.{len(net.weights)}", stacked)
    return net.add("Relu", [net.add("Gemm", [joined, name, bias])])


# (process, threads, products) → session; a forked child must not share its threads
_sessions: dict[tuple[int, int, bool], Any] = {}
_sessions_lock = threading.Lock()


def _session(num_threads: int, products: bool) -> Any:
    key = (os.getpid(), num_threads, products)
    with _sessions_lock:
        if key not in _sessions:
            _sessions[key] = _loaded(_products() if products else _path().read_bytes(), num_threads)
        return _sessions[key]


def _loaded(network: bytes, num_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(network, sess_options=options, providers=["CPUExecutionProvider"])


@lru_cache
def _products() -> bytes:
    """The network of matrix products, or the package's own where these are not as good."""
    own = _path().read_bytes()
    try:
        made = as_products(own)
        difference = _difference(own, made)
    except (ValueError, RuntimeError) as error:  # onnxruntime's errors are RuntimeErrors
        log.warning("silero-vad has a network that is not known here (%s): it runs as it is, slower", error)
        return own
    if not difference <= _AGREEMENT:
        log.warning(
            "silero-vad's network differs by %.1g from what is known here: it runs as it is, slower", difference
        )
        return own
    return made


def _difference(own: bytes, made: bytes) -> float:
    """The most that two networks differ by on half a second of sound, and on what they remember of it."""
    time = np.arange(16 * (CONTEXT + FRAME), dtype=np.float64).reshape(16, -1) / 16_000
    sound = 0.1 * np.sin(2 * np.pi * 160 * time * (1 + time)) + 0.02 * np.sin(7e3 * time * time)
    memory = np.linspace(-0.5, 0.5, 128, dtype=np.float32).reshape(1, 1, 128)
    block = {"input": sound.astype(np.float32), "h": memory, "c": memory}
    said = [_loaded(network, 1).run(["speech_probs", "hn", "cn"], block) for network in (own, made)]
    return max(float(np.abs(a - b).max()) for a, b in zip(*said, strict=True))


def _path() -> Path:
    """The sequence model in the package silero-vad, which is not imported: that would load torch."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModelError("the voice activity engine silero is not installed: pip install 'silero-vad>=6.2'")
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        raise ModelError(f"{path} is not there, so silero-vad is too old: pip install 'silero-vad>=6.2'")
    return path
