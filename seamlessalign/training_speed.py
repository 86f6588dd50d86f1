"""How fast a training goes, what it waits for, and how much memory it takes."""

import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from seamlessalign.training_flops import peak

_T = TypeVar("_T")
# keys of lines of metrics that tell of the clock and the machine, not of what was computed
BY_THE_CLOCK = frozenset(
    ("steps_per_second", "items_per_second", "frames_per_second", "loading_share", "memory_gb", "cuda_memory_gb",
     "flops_share")
)  # fmt: skip


class Speed:
    """Counts between two lines of metrics."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._peak = peak(accelerator.device, accelerator.mixed_precision)  # of a device; None: not known
        self._flops: float | None = None  # of a frame, forward and backward
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._began = time.monotonic()
        self._waited = 0.0
        self._steps = self._items = self._frames = 0

    def timed(self, batches: Iterator[_T]) -> Iterator[_T]:
        """The same batches; how long one waits for them is counted."""
        while True:
            began = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - began
            yield batch

    def counting(self) -> AbstractContextManager[Any]:
        """Counts the operations of the first batch that is gone through in it, where that will be of use."""
        return nullcontext() if self._peak is None or self._flops is not None else self._counting()

    @contextmanager
    def _counting(self) -> Iterator[None]:
        from torch.utils.flop_counter import FlopCounterMode

        before = self._frames
        with FlopCounterMode(display=False) as counter:
            yield
        if self._frames > before:
            self._flops = counter.get_total_flops() / (self._frames - before)

    def add(self, items: int, frames: int) -> None:
        """Count a batch: items of all processes, frames of this one."""
        self._items += items
        self._frames += frames

    def step(self) -> None:
        """Count a step of the optimiser."""
        self._steps += 1

    def line(self) -> dict[str, float]:
        """What was counted, by names for metrics; counting begins anew. All processes call it.

        Of several processes frames are added; of shares and memory the largest counts, since all wait for the slowest.
        """
        seconds = max(time.monotonic() - self._began, 1e-9)
        cuda = self._accelerator.device.type == "cuda"
        mine = [
            float(self._frames),
            min(self._waited / seconds, 1.0),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # KiB, on Linux
            torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0,
        ]
        everyone = torch.tensor([mine], dtype=torch.float64, device=self._accelerator.device)
        if self._accelerator.num_processes > 1:
            everyone = self._accelerator.gather(everyone)
        frames = float(everyone[:, 0].sum())
        _, waiting, memory, cuda_memory = everyone.amax(0).tolist()
        line = {
            "steps_per_second": round(self._steps / seconds, 3),
            "items_per_second": round(self._items / seconds, 3),
            "loading_share": round(waiting, 3),
            "memory_gb": round(memory, 3),
        }
        if frames:
            line["frames_per_second"] = round(frames / seconds, 1)
        if cuda:
            line["cuda_memory_gb"] = round(cuda_memory, 3)
        if self._flops is not None and self._peak is not None:
            share = self._flops * frames / seconds / (self._peak * self._accelerator.num_processes)
            line["flops_share"] = round(share, 4)
        self.begin()
        return line
