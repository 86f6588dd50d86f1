"""How encoders run: in batches of like length, in a precision, on so many threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import ModelError

Float32 = npt.NDArray[np.float32]

DTYPES = ("float32", "float16", "bfloat16")


def batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices in batches, the longest first; each takes at most `most` places with its padding, or is one alone."""
    made: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not made or (len(made[-1]) + 1) * lengths[made[-1][0]] > most:
            made.append([])
        made[-1].append(i)
    return made


def torch_dtype(dtype: str, device: Any) -> Any:
    """torch's dtype of this name; `auto` is float16 on a GPU, else float32."""
    import torch

    if dtype == "auto":
        dtype = "float16" if device.type == "cuda" else "float32"
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}: choose one of auto, {', '.join(DTYPES)}")
    return getattr(torch, dtype)


def check_finite(rows: Float32, dtype: Any) -> Float32:
    """The rows. Raises ModelError where one is not finite, as when numbers grow out of float16."""
    if not np.isfinite(rows).all():
        raise ModelError(f"the model's rows are not finite in {str(dtype).removeprefix('torch.')}; load it in float32")
    return rows


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads of the processor; None leaves it as it is."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
