"""The random numbers of a process, as plain values and tensors that a checkpoint can hold.

torch's, and those of numpy and Python too: models of transformers draw masks from numpy.
"""

import random
from typing import Any

import numpy as np
import torch


def seed_others(seed: int, process: int) -> None:
    """Begin numpy's and Python's numbers; torch's are begun by whoever makes a model."""
    random.seed(f"{seed} {process}")
    np.random.seed(np.random.SeedSequence((seed, process)).generate_state(4))


def random_state(device: Any) -> dict[str, Any]:
    """Where the numbers are; `device` is the one that is trained on."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "cpu": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def go_on_from(state: dict[str, Any], device: Any) -> None:
    """Set the numbers to where they were."""
    torch.set_rng_state(state["cpu"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
