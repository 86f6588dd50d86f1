"""Batches on their way to the loop: from worker processes where there are any, through pinned memory to the device.

Whatever the number of workers, the same batches come in the same order.
"""

import dataclasses
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import Any

import torch
from torch.utils.data import DataLoader, default_convert

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.training_settings import TrainingResources
from seamlessalign.training_steps import STOP_SIGNALS, Batches, Places

_DEATH = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.+)")


def load(batches: Batches, epoch: int, position: int, resources: TrainingResources, device: Any) -> Iterator[Any]:
    """The batches from a place on, without end, their tensors on the device.

    Tensors may lie in tuples, lists, dictionaries and dataclasses. Errors of ours come as they are from workers too.
    """
    workers = resources.workers
    loader = DataLoader(
        _Told(batches),
        batch_size=None,
        sampler=Places(batches, epoch, position),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        prefetch_factor=resources.prefetch if workers else None,
        generator=torch.Generator(),  # it draws a number when it begins, which must not be one of ours
        multiprocessing_context="spawn" if workers else None,
    )
    with _held_back() if workers else nullcontext():
        parcels = iter(loader)
    for parcel in parcels:
        if parcel.error is not None:
            raise parcel.error.again()
        yield _changed(parcel.batch, lambda tensor: tensor.to(device, non_blocking=True))


@contextmanager
def _held_back() -> Iterator[None]:
    """Begin processes that do not heed the signals of schedulers, which these send to all processes of a job.

    The process that trains heeds them, and ends the others once it has saved its step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # which the first of them would begin, and that lets SIGTERM through
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Make the death of a process that loads batches, of which torch tells at any moment, an error of ours."""
    try:
        yield
    except RuntimeError as error:
        found = _DEATH.search(str(error))
        if found is None:
            raise
        how = found[2].splitlines()[0].strip(" .")
        raise SeamlessAlignError(
            f"process {found[1]}, which loaded batches, {how}; if memory was short, set resources.workers or "
            "resources.prefetch lower; the same command goes on from the last checkpoint"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Error:
    """An error of ours, in a form that any of them can be sent in."""

    kind: type[SeamlessAlignError]
    text: str
    more: dict[str, Any]

    def again(self) -> SeamlessAlignError:
        error = self.kind.__new__(self.kind)
        Exception.__init__(error, self.text)
        error.__dict__.update(self.more)
        return error


@dataclasses.dataclass(frozen=True)
class _Parcel:
    """A batch, or why there is none."""

    batch: Any
    error: _Error | None = None

    def pin_memory(self) -> "_Parcel":
        """What DataLoader calls where batches go to a GPU."""
        return dataclasses.replace(self, batch=_changed(self.batch, lambda tensor: tensor.pin_memory()))


class _Told:
    """Batches as parcels."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, where: tuple[int, int]) -> _Parcel:
        try:
            return _Parcel(default_convert(self._batches[where]))
        except SeamlessAlignError as error:
            return _Parcel(None, _Error(type(error), str(error), dict(vars(error))))


def _as_it_is(parcel: _Parcel) -> _Parcel:
    return parcel


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value with its tensors changed; what holds none that did is the same object."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        old = value
    elif isinstance(value, list | tuple):
        old = dict(enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    else:
        return value
    new = {key: _changed(inner, change) for key, inner in old.items()}
    if all(new[key] is inner for key, inner in old.items()):
        return value
    if isinstance(value, dict):
        return new
    if isinstance(value, list | tuple):
        return type(value)(*new.values()) if hasattr(value, "_fields") else type(value)(new.values())
    return dataclasses.replace(value, **new)
