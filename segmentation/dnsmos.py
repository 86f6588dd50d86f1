"""DNSMOS P.835: what listeners would say of speech, its background and both together, from 1 (bad) to 5 (excellent).

The network of the package speechmos, on onnxruntime: Reddy, Gopal, Cutler 2022, "DNSMOS P.835: a non-intrusive
perceptual objective speech quality metric to evaluate noise suppressors". It hears 9.01 s of samples at 16 kHz. Its
answers are put through the package's polynomials, which map them to what listeners said.
"""

import os
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamlessalign.errors import ModelError
from seamlessalign.model_files import find_model, read_weights
from seamlessalign.rows import SAMPLE_RATE

MODEL = "dnsmos"
RATINGS = ("sig", "bak", "ovrl")  # of the speech, of the background, overall
WINDOW = 144_160  # samples: 9.01 s
_POLYNOMIALS = (  # highest power first, of each rating
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


class Dnsmos:
    """The network, ready to rate."""

    def __init__(self, directory: str | None = None, num_threads: int = 1) -> None:
        """From a directory with `sig_bak_ovr.onnx`, or from the package. Raises ModelError where there is neither."""
        files = find_model(MODEL, directory)
        self.sha256 = files.sha256
        self._session = _session(read_weights(files), num_threads, os.getpid())

    def rate(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """`RATINGS` of a stretch of speech (num_samples,) at 16 kHz: (3,), by windows as the package's.

        In a longer stretch a window begins with every second but the last nine, and the mean of all is taken. A shorter
        one is repeated until it fills a window, and heard once. The package hears it up to nine times, each time from
        another of its seconds on, which takes as much longer and changes little; and of 16 s or more it leaves out the
        windows that begin with seconds 7 to 23, whose length its arithmetic rounds down. Raises ValueError where there
        are no samples.
        """
        if not len(samples):
            raise ValueError("there are no samples to rate")
        windows = np.resize(samples, (1, WINDOW))
        if len(samples) > WINDOW:
            count = max(1, len(samples) // SAMPLE_RATE - 9)
            windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::SAMPLE_RATE][:count]
        heard = [np.clip(window, -1, 1, dtype=np.float32)[None] for window in windows]  # batches are no faster
        raw = np.concatenate([self._session.run(None, {"input_1": window})[0] for window in heard]).astype(np.float64)
        rated = [np.polyval(polynomial, raw[:, number]) for number, polynomial in enumerate(_POLYNOMIALS)]
        return np.asarray(np.mean(rated, axis=1))


@lru_cache(maxsize=1)
def _session(weights: bytes, num_threads: int, process: int) -> Any:
    """A session of onnxruntime is not shared with a forked process."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("DNSMOS needs the package onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = num_threads
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
