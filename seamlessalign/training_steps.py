"""What every training loop needs: batches in order, how the learning rate goes, and a stop between two steps."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

Schedule = Literal["cosine", "linear", "constant"]


class Batches(Protocol):
    """What there is to learn, by epoch and place of a batch in it; worker processes get copies of it."""

    def num_batches(self, epoch: int) -> int | None:
        """How many batches an epoch has, the same in every process; None where the first epoch never ends."""

    def __getitem__(self, where: tuple[int, int]) -> Any:
        """This process's part of the batch at (epoch, place)."""


class Places:
    """Epoch and place of each batch from a given one on, without end."""

    def __init__(self, batches: Batches, epoch: int, position: int) -> None:
        self._batches, self._from = batches, (epoch, position)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        place = self._from
        while True:
            yield place
            place = place_after(self._batches, *place)


def place_after(batches: Batches, epoch: int, position: int) -> tuple[int, int]:
    """Epoch and place of the batch behind one."""
    count = batches.num_batches(epoch)
    return (epoch, position + 1) if count is None or position + 1 < count else (epoch + 1, 0)


class StopSignal:
    """Whether SIGTERM has come, as a scheduler sends it before it takes a machine away: the step is ended and saved.

    A second one ends the program at once. Only the main thread can hear signals; elsewhere nothing is changed.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.told = False
        self._say = say
        self._before: Any = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: object) -> None:
        self.told = True
        signal.signal(number, signal.SIG_DFL)
        self._say("told to stop: this step is ended and saved first")


def rate_factor(step: int, steps: int, warmup: int, schedule: Schedule, last: float = 0.0) -> float:
    """The factor on the learning rate at a step: a rise over `warmup` steps, then half a cosine's period, a line,
    or none, from 1 down to `last` at step `steps`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    share = min((step - warmup) / max(1, steps - warmup), 1.0)
    fall = 1.0 - share if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return last + (1.0 - last) * fall
