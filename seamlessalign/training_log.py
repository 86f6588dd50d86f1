"""What a training says: lines of metrics, on disk, for TensorBoard and to people, and means of what steps measured."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

from seamlessalign import storage
from seamlessalign.training_curve import curve
from seamlessalign.training_folder import TrainingFolder

_SILENT_SECONDS = 30.0  # after which the program says where it is
_RENEW_SECONDS = 0.2  # of the line on a terminal
_CLEAR = "\r\x1b[2K"  # to the line's beginning, and all of it away


class TrainingLog:
    """The lines of one training. Of several processes only the main one writes and speaks.

    On a terminal one line that renews itself says where the training is; elsewhere the lines of metrics do.
    """

    def __init__(self, folder: TrainingFolder, *, main: bool, steps: int, events: bool = True) -> None:
        """events: whether there are files for TensorBoard."""
        self._folder, self._main, self._steps = folder, main, steps
        self._events = _Events(folder) if main and events else None
        self._said = self._began = time.monotonic()
        self._from = 0
        self._terminal = main and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._renewed = ""

    def begin(self, step: int | None) -> None:
        """Go on from a checkpoint, or (None) begin; what TensorBoard had of later steps is forgotten."""
        self._began, self._from = time.monotonic(), step or 0
        if self._events is not None:
            self._events.first = 0 if step is None else step + 1

    def close(self) -> None:
        """End the line on the terminal, and the file for TensorBoard."""
        self._clear()
        if self._events is not None:
            self._events.close()

    def say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._main:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def progress(self, step: int, loss: float | None) -> None:
        """Tell of a step: on a terminal, or where nothing has been said for long."""
        silent = time.monotonic() - self._said
        if self._terminal and (silent > _RENEW_SECONDS or step == self._steps):
            self._said = time.monotonic()
            told = f"step {step} of {self._steps}" + (f", loss {loss:.4g}" if loss is not None else "")
            self._renewed = f"{told}, {self._rate(step):.3g} steps/s, {self._left(step)} left"
            columns = shutil.get_terminal_size().columns
            print(_CLEAR + self._renewed[: columns - 1], end="", file=sys.stderr, flush=True)
        elif not self._terminal and silent > _SILENT_SECONDS:
            self.say(f"step {step} of {self._steps}, {self._left(step)} left")

    def write(self, line: dict[str, Any], kind: Literal["train", "validation", "end"]) -> None:
        """Add a line of metrics, and say it, but for what is nested deeper.

        Those of steps are not said on a terminal, where a line tells of every step.
        """
        if not self._main:
            return
        self._folder.add(line)
        if self._events is not None:
            self._events.add(line, kind, self.say)
        if kind == "train" and self._terminal:
            return
        shown = {key: value for key, value in line.items() if not _is_deep(value)}
        left = f", {self._left(line['step'])} left" if kind == "train" else ""
        self.say(", ".join(f"{key} {_short(value)}" for key, value in shown.items()) + left)

    def draw(self, measure: str, label: str, *, lower_is_better: bool = False) -> None:
        """Write the picture of all lines so far."""
        if self._main:
            title = f"Training of {self._folder.root.name}"
            picture = curve(self._folder.lines(), title, measure, label, lower_is_better=lower_is_better)
            storage.write_bytes_atomic(str(self._folder.curve), picture.encode())

    def _rate(self, step: int) -> float:
        return (step - self._from) / max(time.monotonic() - self._began, 1e-9)

    def _left(self, step: int) -> str:
        """The time until the last step, at the pace since the start, as h:mm:ss."""
        return str(timedelta(seconds=round((self._steps - step) / max(self._rate(step), 1e-9))))

    def _clear(self) -> None:
        if self._renewed:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._renewed = ""


class _Events:
    """A file of events for TensorBoard, from the first line on; each start of a training has one of its own."""

    def __init__(self, folder: TrainingFolder) -> None:
        self.first = 0  # step: what earlier files have from it on is forgotten
        self._folder = str(folder.events)
        self._writer: Any = None
        self._missing = False

    def add(self, line: dict[str, Any], kind: str, say: Callable[[str], None]) -> None:
        """Add the numbers of a line of metrics."""
        if self._writer is None and not self._missing:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._missing = True
                say("no files for TensorBoard, which is not installed: pip install 'seamlessalign[train]'")
            else:
                self._writer = SummaryWriter(self._folder, purge_step=self.first)
        if self._writer is None:
            return
        for name, value in _numbers(line):
            self._writer.add_scalar(f"{kind}/{name}", value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _numbers(line: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line, those in inner dictionaries too, by name."""
    for key, value in line.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key not in ("step", "best_step"):
            yield f"{prefix}{key}", float(value)


def _is_deep(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


class Sums:
    """Sums of what batches and steps measured since the last line of metrics; `state` is part of the checkpoint."""

    def __init__(self, state: dict[str, list[float]]) -> None:
        self.state = state  # name → [sum, how many]

    def add(self, **values: float) -> None:
        self.add_sums({name: (value, 1) for name, value in values.items()})

    def add_sums(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Add sums of some number of things each; those of nothing are left out."""
        for name, (value, number) in sums.items():
            if number:
                total, count = self.state.get(name, (0.0, 0))
                self.state[name] = [total + value, count + number]

    def means(self) -> dict[str, float]:
        """The mean of each; the sums begin anew."""
        found = {name: total / count for name, (total, count) in self.state.items()}
        self.state.clear()
        return found
