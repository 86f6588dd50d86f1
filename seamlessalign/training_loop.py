"""The loop of every training: batches, steps of the optimiser, validations, checkpoints, and an end that can be told.

A trainer is a subclass of `Trainer`, which brings its data, its model, its loss and its measure. Several processes
(`torchrun`, or accelerate's launcher) each take their part of a batch, and together compute what one process does.

A checkpoint is everything that the next step depends on, in one file. So a training that was killed goes on from it
and ends with the same weights and lines of metrics, bit for bit, on the same machine. On SIGTERM, to any of its
processes, the step is ended and saved by all of them.
"""

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, ModelError
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_log import Sums, TrainingLog
from seamlessalign.training_settings import TrainingResources, TrainingSettings
from seamlessalign.training_steps import Batches, Places, StopSignal, place_after


@dataclass
class Progress:
    """Where a training is; all of it is part of the checkpoint."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # of the next batch in the epoch
    best: float | None = None  # that validations have found
    best_step: int = 0
    worse: int = 0  # validations since the best
    finished: str = ""  # why, once it is
    # since the last line of metrics
    sums: dict[str, list[float]] = field(default_factory=dict)
    empty_batches: int = 0
    skipped_steps: int = 0  # whose gradients were too large for fp16
    rejects: dict[str, str] = field(default_factory=dict)  # what could not be used when it was wanted → reason


@dataclass(frozen=True)
class BatchLoss:
    """What a process makes of its part of a batch."""

    # Scalar, through every parameter that any process uses. Its gradient, summed over processes, is that of the mean
    # over all items of the batch, of which there may be none.
    loss: Any
    weight: int  # items in the parts of all processes; 0: there is nothing to learn
    measures: Mapping[str, Any]  # for the metrics, `loss` among them: of the whole batch, the same in every process
    # more for the metrics, likewise: name → (a sum, of how many); what is told is the mean over all batches since
    sums: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rejects: Mapping[str, str] = field(default_factory=dict)  # of this process: what could not be used → reason
    # of this process: names of its items for people, or what gives them; told where a loss is not finite
    names: Sequence[str] | Callable[[], Sequence[str]] = ()
    frames: int = 0  # of this process's part: what its speed is told in beside items, such as frames of speech


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    folder: Path
    steps: int
    best_step: int
    best: float  # that validations found; 0 where there was none
    finished: str  # why it ended; empty where it was told to stop, and the same command goes on


class Trainer(ABC):
    """One training in one process, of several where they were launched together.

    A subclass makes its data and model when it is made itself, and ends with `prepare`; then `run` does the rest.
    """

    measure: ClassVar[str]  # key of what `validate` finds
    label: ClassVar[str]  # its name for people
    lower_is_better: ClassVar[bool] = False

    # what a subclass sets when it is made
    batches: Batches  # this process's part of what there is to learn
    set_aside: Mapping[str, int]  # reason → how many were not usable, before the first step
    learner: Any  # the module that batches go through; `prepare` sets it

    def __init__(self, settings: TrainingSettings, folder: TrainingFolder, *, all_used: bool = True) -> None:
        """Find the device and the other processes.

        all_used: every parameter has a part in every batch; else processes must ask each other which ones have none.

        Raises MissingPackageError without accelerate, InputError where the device that is named is not there.
        """
        self._settings, self.folder, self._all_used = settings, folder, all_used
        self.accelerator = _accelerator(settings.resources, all_used)
        self.log = TrainingLog(folder, main=self.accelerator.is_main_process)
        self.at = Progress()

    # What a trainer brings

    @abstractmethod
    def batch_loss(self, batch: Any, epoch: int, position: int) -> BatchLoss:
        """The loss of a batch, by `learner`. All processes call it at a time."""

    @abstractmethod
    def validate(self) -> dict[str, Any]:
        """A line of metrics with `measure`, which must be the same in all processes; all of them call it."""

    @abstractmethod
    def save_best(self) -> None:
        """Write the model for its users; only the main process calls it."""

    @abstractmethod
    def finish(self) -> None:
        """What is done with the best model once training has ended; all processes call it, once or again."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """Tensors of the model, for a checkpoint."""

    @abstractmethod
    def fill(self, state: dict[str, Any], origin: str) -> None:
        """Put the tensors of a checkpoint into the model. Raises ModelError where they do not fit."""

    @abstractmethod
    def content(self) -> dict[str, str]:
        """Digests, by what they are of: a training goes on only with the same data and models."""

    @abstractmethod
    def summary(self) -> str:
        """How much there is to learn, in a few words."""

    def recover(self) -> None:
        """Clear away what a killed process left; only the main process calls it, before all others go on."""
        storage.remove_unfinished(str(self.folder.root))

    # The loop

    def prepare(self, learner: Any, optimiser: Any) -> None:
        """Take the module that batches go through, and its optimiser of torch, to the device and to all processes."""
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._settings.optimiser.rate)
        self.learner, self._optimiser = self.accelerator.prepare(learner, optimiser)

    def run(self) -> Trained:
        """Train from where the folder's checkpoint is, or from the beginning, to the end.

        Raises ConfigError where the folder holds another training, ModelError where the loss is not finite.
        """
        accelerator = self.accelerator
        self.log.say(f"{self.summary()}; set aside: {dict(self.set_aside) or 'none'}")
        if accelerator.is_main_process:
            self.folder.open(self._settings.plan() | self.content())
            self.recover()
        accelerator.wait_for_everyone()
        self._resume()
        at = self.at
        if not at.finished:
            with StopSignal(self.log.say) as stop:
                self._loop(stop)
        complete = self.folder.is_complete
        accelerator.wait_for_everyone()  # all have looked before the last line is written
        if at.finished and not complete:
            self.finish()
            self.log.write(self._last_line())
            self._draw()
        accelerator.wait_for_everyone()
        accelerator.end_training()  # threads of a group of processes that is left standing abort the program
        return Trained(self.folder.root, at.step, at.best_step, at.best or 0.0, at.finished)

    def _loop(self, stop: StopSignal) -> None:
        settings, at, batches = self._settings, self.at, self.batches
        optimiser, validation = settings.optimiser, settings.validation
        if validation.at_start and not at.step:
            self._validate()
        workers = settings.resources.workers
        loading = torch.utils.data.DataLoader(
            batches,
            batch_size=None,
            sampler=Places(batches, at.epoch, at.position),
            num_workers=workers,
            generator=torch.Generator(),  # it draws a number when it begins, which must not be one of ours
            multiprocessing_context="spawn" if workers else None,
        )
        self.learner.train()
        began, done = time.monotonic(), at.step
        waiting = weight = 0  # batches of the step that is being taken, and their items
        for batch in loading:
            waiting += 1
            weight += self._add_gradients(batch, first=waiting == 1, last=waiting == optimiser.accumulate)
            at.epoch, at.position = place_after(batches, at.epoch, at.position)
            if waiting < optimiser.accumulate:
                continue
            self._step(weight)
            waiting = weight = 0
            at.step += 1
            self.log.say_where(at.step)
            if at.step % settings.log_every == 0:
                self._log(began, done)
                began, done = time.monotonic(), at.step
            if at.step % validation.every == 0 or at.step == optimiser.steps:
                self._validate()
                began, done = time.monotonic(), at.step
            if at.step == optimiser.steps:
                at.finished = "steps"
            elif validation.patience and at.worse >= validation.patience:
                at.finished = "patience"
            stopped = self._everyone_stops(stop.told)
            if at.step % settings.checkpoint_every == 0 or at.finished or stopped:
                self._checkpoint()
            if at.finished or stopped:
                return

    def _add_gradients(self, batch: Any, *, first: bool, last: bool) -> int:
        """Add the gradients of a batch to those of its step; how many items it has, over all processes."""
        at, accelerator = self.at, self.accelerator
        if first:
            self._optimiser.zero_grad()
        # Gradients are averaged over processes once a step. Where a parameter may be without, it must be every time:
        # one that has none in the last batch would keep what this process alone has.
        together = last or not self._all_used
        with nullcontext() if together else accelerator.no_sync(self.learner):
            found = self.batch_loss(batch, at.epoch, at.position)
            alone = first and last
            accelerator.backward(found.loss * accelerator.num_processes * (1 if alone else found.weight))
        at.rejects |= found.rejects
        if not found.weight:
            at.empty_batches += 1
            return 0
        measures = {name: float(torch.as_tensor(value).detach()) for name, value in found.measures.items()}
        if not math.isfinite(measures["loss"]):
            raise ModelError(f"step {at.step + 1}: the loss is {measures['loss']}; lower optimiser.lr")
        Sums(at.sums).add(**measures)
        Sums(at.sums).add_sums(found.sums)
        return found.weight

    def _step(self, weight: int) -> None:
        """One step of the optimiser, by gradients of so many items, each of which counts alike."""
        if not weight:
            return
        settings = self._settings.optimiser
        if settings.accumulate > 1:
            for parameter in self.learner.parameters():
                if parameter.grad is not None:
                    parameter.grad /= weight
        norm = float(self.accelerator.clip_grad_norm_(self.learner.parameters(), settings.clip))
        self._optimiser.step()
        self._schedule.step()
        if self._optimiser.step_was_skipped:
            self.at.skipped_steps += 1
        else:
            Sums(self.at.sums).add(grad_norm=norm)

    def _everyone_stops(self, told: bool) -> bool:
        """Whether any process was told to: all of them must save the same step."""
        if self.accelerator.num_processes == 1:
            return told
        flags = self.accelerator.gather(torch.tensor([int(told)], device=self.accelerator.device))
        return bool(flags.any())

    def _where(self) -> dict[str, Any]:
        endless = self.batches.num_batches(self.at.epoch) is None
        return {"step": self.at.step} | ({} if endless else {"epoch": self.at.epoch})

    def _log(self, began: float, done: int) -> None:
        at = self.at
        line = self._where() | Sums(at.sums).means()
        line["lr"] = self._schedule.get_last_lr()[0]
        line["steps_per_second"] = round((at.step - done) / max(time.monotonic() - began, 1e-9), 3)
        for name in ("empty_batches", "skipped_steps"):
            if getattr(at, name):
                line[name] = getattr(at, name)
                setattr(at, name, 0)
        self.log.write(line)

    def _validate(self) -> None:
        at, found = self.at, self.validate()
        self.log.write(self._where() | found)
        value = float(found[self.measure])
        if not math.isfinite(value):
            raise ModelError(f"step {at.step}: {self.label} of what is held out is {value}; lower optimiser.lr")
        if at.best is None or (value < at.best if self.lower_is_better else value > at.best):
            at.best, at.best_step, at.worse = value, at.step, 0
            if self.accelerator.is_main_process:
                self.save_best()
        else:
            at.worse += 1
        self.learner.train()

    def _last_line(self) -> dict[str, Any]:
        at = self.at
        reasons = Counter(self.set_aside) + Counter(at.rejects.values())
        return {
            "step": at.step,
            "finished": at.finished,
            "best_step": at.best_step,
            "best": at.best,
            "set_aside": dict(sorted(reasons.items())),
        }

    def _draw(self) -> None:
        self.log.draw(self.measure, self.label, lower_is_better=self.lower_is_better)

    # Checkpoints

    def _checkpoint(self) -> None:
        accelerator, at = self.accelerator, self.at
        random: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if accelerator.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        everyone, rejects = [random], [at.rejects]
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            everyone, rejects = gather_object(everyone), gather_object(rejects)
        at.rejects = dict(sorted(pair for some in rejects for pair in some.items()))
        if accelerator.is_main_process:
            self.folder.save(
                {
                    "progress": dict(vars(at)),
                    "model": self.own_state(),
                    "optimiser": self._optimiser.state_dict(),
                    "schedule": self._schedule.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                    "random": everyone,
                }
            )
            self._draw()
        accelerator.wait_for_everyone()

    def _resume(self) -> None:
        accelerator, state = self.accelerator, self.folder.load()
        if accelerator.is_main_process:
            self.folder.forget_after(state["progress"]["step"] if state else -1)
        if state is None:
            return
        self.at = at = Progress(**state["progress"])
        self.fill(state["model"], str(self.folder.state))
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        mine = state["random"][min(accelerator.process_index, len(state["random"]) - 1)]
        torch.set_rng_state(mine["cpu"])
        if accelerator.device.type == "cuda" and "cuda" in mine:
            torch.cuda.set_rng_state(mine["cuda"])
        self.log.say(f"going on from step {at.step}" + (f"; finished: {at.finished}" if at.finished else ""))


def _accelerator(resources: TrainingResources, all_used: bool) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingPackageError("accelerate", "train", "training") from error

    if resources.threads:
        torch.set_num_threads(resources.threads)
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise InputError("resources.device is cuda, but torch sees no CUDA device")
    parallel = DistributedDataParallelKwargs(find_unused_parameters=not all_used)
    return Accelerator(mixed_precision=resources.precision, cpu=resources.device == "cpu", kwargs_handlers=[parallel])
