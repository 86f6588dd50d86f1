"""What a training says: lines of metrics, on disk and to people, and means of what its steps measured."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from seamlessalign import storage
from seamlessalign.training_curve import curve
from seamlessalign.training_folder import TrainingFolder

_SILENT_SECONDS = 30  # after which the program says where it is


class TrainingLog:
    """The lines of one training. Of several processes only the main one writes and speaks."""

    def __init__(self, folder: TrainingFolder, *, main: bool) -> None:
        self._folder, self._main = folder, main
        self._said = time.monotonic()

    def say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._main:
            print(text, file=sys.stderr, flush=True)

    def say_where(self, step: int) -> None:
        """Tell of a step, if nothing has been said for long: the first epoch of a large model may be slow."""
        if time.monotonic() - self._said > _SILENT_SECONDS:
            self.say(f"step {step}")

    def write(self, line: dict[str, Any]) -> None:
        """Add a line of metrics, and say it, but for what is nested deeper."""
        if not self._main:
            return
        self._folder.add(line)
        shown = {key: value for key, value in line.items() if not _is_deep(value)}
        self.say(", ".join(f"{key} {_short(value)}" for key, value in shown.items()))

    def draw(self, measure: str, label: str, *, lower_is_better: bool = False) -> None:
        """Write the picture of all lines so far."""
        if self._main:
            title = f"Training of {self._folder.root.name}"
            picture = curve(self._folder.lines(), title, measure, label, lower_is_better=lower_is_better)
            storage.write_bytes_atomic(str(self._folder.curve), picture.encode())


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
