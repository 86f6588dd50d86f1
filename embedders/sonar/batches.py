"""Batches of like length, and the precision and the threads that a model runs with."""

from collections.abc import Sequence
from typing import Any

from seamlessalign.errors import ModelError

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


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads of the processor; None leaves it as it is."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
