"""A training's files: its checkpoints, its lines of metrics, and what it was begun with.

A checkpoint has parameters, optimiser, schedule, random numbers and place in the data. What is written after it
(metrics, a better model) is written again, and equal, when a training that was killed goes on.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.training_checkpoints import Checkpoints


class TrainingFolder:
    """The files of a training, and their names."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.metrics = self.root / "metrics.jsonl"
        self.curve = self.root / "curve.svg"
        self.events = self.root / "tensorboard"
        self.bad_batch = self.root / "bad_batch.json"  # where a loss or gradient was not finite
        self.checkpoints = Checkpoints(self.root / "checkpoints")
        self.plan = self.root / "training.json"
        self.lock = self.root / "lock"

    @property
    def is_complete(self) -> bool:
        """Whether the last thing that a training writes, the line that says why it ended, is there."""
        return any("finished" in line for line in self.lines())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings out of the folder, until this one has ended or its process has, however it does.

        Raises StorageError where another one is at work there.
        """
        with storage.writing(str(self.lock)):
            self.root.mkdir(parents=True, exist_ok=True)
            file = self.lock.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(f"{self.root}: another training is at work there; name another output") from None
            except OSError:
                pass  # a disk that knows no locks
            yield

    def open(self, wanted: dict[str, Any]) -> None:
        """Note what is trained, or check that the checkpoints that are there are of the same plan.

        Args:
            wanted: the keys that change what is computed, and digests of the data, as plain values.

        Raises:
            ConfigError: names what is not the same.
        """
        if self.plan.is_file() and self.checkpoints.steps():
            try:
                kept = dict(json.loads(self.plan.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise StorageError(f"{self.plan}: is damaged: {error}; name another output") from error
            check_same(kept, wanted, str(self.root))
            return
        if (self.root / "checkpoint" / "state.pt").is_file():
            raise ConfigError(f"{self.root} holds a training of an earlier version; name another output")
        storage.write_bytes_atomic(str(self.plan), (json.dumps(wanted, indent=1) + "\n").encode())

    def add(self, line: dict[str, Any]) -> None:
        """Append a line of metrics."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics; one that was being written when the program was killed is left out."""
        if not self.metrics.is_file():
            return []
        found = []
        for line in self.metrics.read_text(encoding="utf-8").split("\n"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def forget_after(self, step: int) -> None:
        """Remove what is of later steps than that of the checkpoint: lines of metrics, and word of a bad batch."""
        self.bad_batch.unlink(missing_ok=True)
        kept = [line for line in self.lines() if line["step"] <= step]
        if self.metrics.is_file():
            storage.write_bytes_atomic(str(self.metrics), "".join(json.dumps(line) + "\n" for line in kept).encode())


def check_same(kept: dict[str, Any], plan: dict[str, Any], folder: str) -> None:
    """Raise ConfigError, naming the first key that differs, unless a training was begun with this plan."""
    ours, theirs = _flat(plan), _flat(kept)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{folder} holds a training with {key} = {theirs.get(key)!r}, not {ours.get(key)!r}; "
                "go on with the same configuration, or name another output"
            )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            k: v for name, inner in value.items() for k, v in _flat(inner, f"{key}.{name}" if key else name).items()
        }
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in _flat(inner, f"{key}.{i}").items()} | {
            key: len(value)
        }
    return {key: value}
