"""What every training loop needs: batches in order, how the learning rate goes, and a stop between two steps."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

Schedule = Literal["cosine", "linear", "inverse_sqrt", "constant"]
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # of schedulers


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
    """Whether a scheduler has said that it takes the machine away: the step is ended and saved.

    It says so by SIGTERM, or by SIGUSR1 or SIGUSR2 as it was asked to, some time before. The second signal of one kind
    ends the program at once. Only the main thread can hear signals; elsewhere nothing is changed.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.told = False
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _hear(self, number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if not self.told:
            self.told = True
            self._say("told to stop: this step is ended and saved first")


def rate_factor(step: int, steps: int, warmup: int, schedule: Schedule, last: float = 0.0) -> float:
    """The factor on the learning rate at a step, the first of which is 0.

    It rises in a line over `warmup` steps to 1 at step `warmup`. Then it falls as half a cosine's period or a line
    does, to `last` at step `steps`; or as the inverse square root of the step's number from 1 ("Attention is all you
    need", section 5.3), never below `last`; or it stays.
    """
    number, risen = step + 1, warmup + 1
    if number < risen:
        return number / risen
    if schedule == "constant":
        return 1.0
    if schedule == "inverse_sqrt":
        return max(math.sqrt(risen / number), last)
    share = min((step - warmup) / max(1, steps - warmup), 1.0)
    fall = 1.0 - share if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return last + (1.0 - last) * fall
