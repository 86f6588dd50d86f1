"""Checkpoints of a training: one file each, whole or not at all, of which the last few are kept.

A file that was damaged later (a disk that lies, a copy that broke off) is found by the CRC-32 of its parts, which torch
writes but does not look at. It is set aside under another name, and the one before it is used.
"""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seamlessalign import storage
from seamlessalign.errors import StorageError

_NAME = re.compile(r"step-(\d{8,})\.pt")
_PARTS = {"progress", "model", "optimiser", "schedule", "scaler", "random"}
_DAMAGED = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


class Checkpoints:
    """The checkpoints in a folder, by their steps."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.root / f"step-{step:08}.pt"

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        names = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def save(self, step: int, state: dict[str, Any], keep: int) -> None:
        """Write a checkpoint, and only then remove all but the last `keep`. Raises StorageError."""
        file = self.file(step)
        with storage.atomic_local(str(file)) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # so torch tells a full disk
                raise StorageError(f"{file}: cannot be written: {_line(error)}") from error
        storage.remove_many([str(self.file(old)) for old in self.steps()[:-keep]])

    def load(self, step: int) -> dict[str, Any]:
        """The checkpoint of a step. Raises StorageError where it is damaged or cannot be read."""
        file = self.file(step)
        with storage.writing(str(file), "read"):
            try:
                return _read(file)
            except _DAMAGED as error:
                raise StorageError(f"{file}: is damaged: {_line(error)}") from error

    def newest(self, say: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that is whole, with its step; None where there has never been one.

        Newer ones are set aside as `.damaged`, and `say` is told of each. Raises StorageError where none is whole.
        """
        steps = self.steps()
        for step in reversed(steps):
            file = self.file(step)
            with storage.writing(str(file), "read"):  # what cannot be read now may be whole all the same
                try:
                    return step, _read(file)
                except _DAMAGED as error:
                    reason = _line(error)
                if step == steps[0]:
                    break
                aside = file.with_suffix(".damaged")
                file.replace(aside)
                say(f"{file}: is damaged ({reason}); it is {aside.name} now, and an older one is used")
        if not steps:
            return None
        raise StorageError(f"{file}: is damaged: {reason}; no checkpoint is whole: remove {self.root} to begin anew")


def _read(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as parts:
        broken = parts.testzip()
    if broken is not None:
        raise ValueError(f"its part {broken} has another checksum")
    state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state.keys() >= _PARTS:
        raise ValueError("it is not a checkpoint")
    return state


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
