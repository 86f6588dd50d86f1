"""What every training loop needs: a stop that is heard between two steps, and how the learning rate goes."""

import math
import signal
import threading
from collections.abc import Callable
from typing import Any, Literal

Schedule = Literal["cosine", "linear", "constant"]


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
