"""The loop of every training: batches, steps of the optimiser, validations, checkpoints, and an end that can be told.

A trainer is a subclass of `Trainer`, which brings its data, its model, its loss and its measure. Several processes
(`torchrun`, or accelerate's launcher) each take their part of a batch, and together compute what one process does.

A checkpoint is everything that the next step depends on, in one file. So a training that was killed goes on from the
newest and ends with the same weights and lines of metrics, bit for bit, on the same machine. On SIGTERM, to any of its
processes, the step is ended and saved by all of them. A loss or gradient that is not finite ends all of them too.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, NotFiniteError, SeamlessAlignError
from seamlessalign.training_faults import Taken, not_finite
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loading import load, told_in_one_line
from seamlessalign.training_log import Sums, TrainingLog
from seamlessalign.training_random import go_on_from, random_state, seed_others
from seamlessalign.training_settings import TrainingResources, TrainingSettings
from seamlessalign.training_speed import Speed
from seamlessalign.training_steps import Batches, StopSignal, place_after


@dataclass
class Progress:
    """Where a training is; all of it is part of the checkpoint."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # of the next batch in the epoch
    best: float | None = None  # that validations have found, or of the model that is kept for another reason
    best_step: int = 0
    worse: int = 0  # validations since the best
    finished: str = ""  # why, once it is
    # since the last line of metrics
    sums: dict[str, list[float]] = field(default_factory=dict)
    empty_batches: int = 0
    skipped_steps: int = 0  # whose gradients were too large for fp16
    rejects: dict[str, str] = field(default_factory=dict)  # what could not be used when it was wanted → reason


@dataclass(frozen=True)
class Counts:
    """How many there are of what losses are means over, by name, in the parts of all processes."""

    batch: Mapping[str, int]
    step: Mapping[str, int]  # in all batches whose gradients make the step, this one among them

    def share(self, name: str) -> float:
        """The batch's share of the step."""
        return self.batch[name] / max(1, self.step[name])


@dataclass(frozen=True)
class BatchLoss:
    """What a process makes of its part of a batch."""

    # Scalar, through every parameter that any process uses. Its gradient, summed over processes and over the batches
    # of a step, is that of what the step makes smaller: each of its losses a mean over the whole step.
    loss: Any
    items: int  # that are learnt in the parts of all processes; 0: there is nothing to learn
    # For the metrics, of the whole batch, the same in every process; `loss` among them, the part that the batch has in
    # what the step makes smaller: those of its batches are added, where means are taken of the others.
    measures: Mapping[str, Any]
    rejects: Mapping[str, str] = field(default_factory=dict)  # of this process: what could not be used → reason
    # of this process: names of its items for people, or what gives them; told where a loss is not finite
    names: Sequence[str] | Callable[[], Sequence[str]] = ()
    frames: int = 0  # of this process's part: what its speed is told in beside items, such as frames of speech
    # more for the metrics, likewise: name → (a sum, of how many); what is told is the mean over all batches since
    sums: Mapping[str, tuple[float, float]] = field(default_factory=dict)


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

    measure: str  # key of what `validate` finds
    label: str  # its name for people
    lower_is_better: bool = False
    counted: Sequence[str]  # names of what `count` counts

    # what a subclass sets when it is made
    batches: Batches  # this process's part of what there is to learn
    set_aside: Mapping[str, int]  # reason → how many were not usable, before the first step
    learner: Any  # the module that batches go through; `prepare` sets it

    def __init__(self, settings: TrainingSettings, folder: TrainingFolder, *, all_used: bool = True) -> None:
        """Find the device and the other processes, and begin the random numbers that are not torch's.

        all_used: every parameter has a part in every batch; else processes must ask each other which ones have none.

        Raises MissingPackageError without accelerate, InputError where the device that is named is not there.
        """
        self._settings, self.folder, self._all_used = settings, folder, all_used
        self.accelerator = _accelerator(settings.resources, all_used)
        seed_others(settings.seed, self.accelerator.process_index)
        main, steps = self.accelerator.is_main_process, settings.optimiser.steps
        self.log = TrainingLog(folder, main=main, steps=steps, events=settings.tensorboard)
        self.at = Progress()
        self._held = ExitStack()  # the folder, of the main process
        self._speed = Speed(self.accelerator)
        self._taken: list[Taken] = []  # batches of the step that is being taken
        self._loss: float | None = None  # of the last step that had any items

    # What a trainer brings

    @abstractmethod
    def count(self, batch: Any) -> Sequence[int]:
        """How many there are in this process's part of a batch of each of `counted`, over which losses are means.

        Nothing that a batch holds may change it: it is known of all batches of a step before the first loss.
        """

    @abstractmethod
    def batch_loss(self, batch: Any, epoch: int, position: int, counts: Counts) -> BatchLoss:
        """The loss of a batch, whose tensors are on the device, by `learner`. All processes call it at a time."""

    @abstractmethod
    def validate(self) -> dict[str, Any]:
        """A line of metrics with `measure`, which must be the same in all processes; all of them call it."""

    def keeps(self, value: float) -> bool:
        """Whether the model of which a validation found this is the one to keep: by default, of those so far the best.

        All processes ask it.
        """
        best = self.at.best
        return best is None or (value < best if self.lower_is_better else value > best)

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
        """Train from where the folder's newest whole checkpoint is, or from the beginning, to the end.

        Raises ConfigError where the folder holds another training, NotFiniteError where a loss or gradient is NaN or
        infinite, StorageError where no checkpoint is whole or none can be written.
        """
        try:
            return self._run()
        except BaseException as error:
            # Where one process alone has an error, those of a GPU cannot be parted from: their launcher ends them.
            if self.accelerator.device.type == "cpu" or isinstance(error, NotFiniteError):
                with suppress(Exception):
                    self.accelerator.end_training()
            raise
        finally:
            self.log.close()
            self._held.close()

    def _run(self) -> Trained:
        accelerator = self.accelerator
        self.log.say(f"{self.summary()}; set aside: {dict(self.set_aside) or 'none'}")
        self._resume()
        at = self.at
        if not at.finished:
            with StopSignal(self.log.say) as stop, told_in_one_line():
                self._loop(stop)
        complete = self.folder.is_complete
        accelerator.wait_for_everyone()  # all have looked before the last line is written
        if at.finished and not complete:
            self.finish()
            self.log.write(self._last_line(), "end")
            self._draw()
        accelerator.wait_for_everyone()
        accelerator.end_training()  # threads of a group of processes that is left standing abort the program
        return Trained(self.folder.root, at.step, at.best_step, at.best or 0.0, at.finished)

    def _loop(self, stop: StopSignal) -> None:
        settings, at, batches = self._settings, self.at, self.batches
        optimiser, validation = settings.optimiser, settings.validation
        if validation.at_start and not at.step:
            self._validate()
        self.learner.train()
        coming = load(batches, at.epoch, at.position, settings.resources, self.accelerator.device)
        self._speed.begin()
        together: list[Any] = []  # batches of the next step
        for batch in self._speed.timed(coming):
            together.append(batch)
            if len(together) < optimiser.accumulate:
                continue
            self._step(together)
            together.clear()
            at.step += 1
            self._speed.step()
            self.log.progress(at.step, self._loss)
            if at.step % settings.log_every == 0:
                self._log()
            if at.step % validation.every == 0 or at.step == optimiser.steps:
                self._validate()
                self._speed.begin()
            if at.step == optimiser.steps:
                at.finished = "steps"
            elif validation.patience and at.worse >= validation.patience:
                at.finished = "patience"
            stopped = self._everyone_stops(stop.told)
            if at.step % settings.checkpoint_every == 0 or at.finished or stopped:
                self._checkpoint()
            if at.finished or stopped:
                return

    def _step(self, batches: Sequence[Any]) -> None:
        """One step of the optimiser, by the gradients of some batches."""
        at, settings = self.at, self._settings.optimiser
        self._optimiser.zero_grad()
        self._taken.clear()
        items, losses = 0, 0.0
        for number, (batch, counts) in enumerate(zip(batches, self.counts(batches), strict=True), 1):
            with self._speed.counting():
                found = self._add_gradients(batch, counts, last=number == len(batches))
            at.epoch, at.position = place_after(self.batches, at.epoch, at.position)
            items, losses = items + found.items, losses + found.measures["loss"]
        if not items:
            return
        self._loss = losses
        Sums(at.sums).add(loss=losses)
        norm = float(self.accelerator.clip_grad_norm_(self.learner.parameters(), settings.clip))
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            self._end("gradient", norm)
        self._optimiser.step()
        self._schedule.step()
        if self._optimiser.step_was_skipped:
            at.skipped_steps += 1
        else:
            Sums(at.sums).add(grad_norm=norm)

    def counts(self, batches: Sequence[Any]) -> list[Counts]:
        """How many there are of each of `counted` in batches that make a step; all processes call it."""
        mine = torch.tensor([self.count(batch) for batch in batches], dtype=torch.float64)
        everyones = self.accelerator.reduce(mine.to(self.accelerator.device), "sum").long()
        whole = dict(zip(self.counted, everyones.sum(0).tolist(), strict=True))
        return [Counts(dict(zip(self.counted, row, strict=True)), whole) for row in everyones.tolist()]

    def _add_gradients(self, batch: Any, counts: Counts, *, last: bool) -> BatchLoss:
        """Add the gradients of a batch to those of its step."""
        at, accelerator = self.at, self.accelerator
        # Gradients are averaged over processes once a step. Where a parameter may be without, it must be every time:
        # one that has none in the last batch would keep what this process alone has.
        together = last or not self._all_used
        with nullcontext() if together else accelerator.no_sync(self.learner):
            found = self.batch_loss(batch, at.epoch, at.position, counts)
            accelerator.backward(found.loss * accelerator.num_processes)
        at.rejects |= found.rejects
        self._taken.append(Taken(at.epoch, at.position, found.loss.detach(), found.names))
        self._speed.add(found.items, found.frames)
        measures = {name: float(torch.as_tensor(value).detach()) for name, value in found.measures.items()}
        found = replace(found, measures=measures)
        if not found.items:
            at.empty_batches += 1
            return found
        if not math.isfinite(measures["loss"]):
            self._end("loss", measures["loss"])
        Sums(at.sums).add(**{name: value for name, value in measures.items() if name != "loss"})
        Sums(at.sums).add_sums(found.sums)
        return found

    def _end(self, what: str, value: float) -> NoReturn:
        """Raise the error of a loss or gradient that is not finite; all processes call it."""
        raise not_finite(self.accelerator, self.folder.bad_batch, self.at.step + 1, what, value, self._taken)

    def _everyone_stops(self, told: bool) -> bool:
        """Whether any process was told to: all of them must save the same step."""
        if self.accelerator.num_processes == 1:
            return told
        flags = self.accelerator.gather(torch.tensor([int(told)], device=self.accelerator.device))
        return bool(flags.any())

    def _where(self) -> dict[str, Any]:
        endless = self.batches.num_batches(self.at.epoch) is None
        return {"step": self.at.step} | ({} if endless else {"epoch": self.at.epoch})

    def _log(self) -> None:
        at = self.at
        line = self._where() | Sums(at.sums).means()
        line["lr"] = self._schedule.get_last_lr()[0]
        line |= self._speed.line()
        for name in ("empty_batches", "skipped_steps"):
            if getattr(at, name):
                line[name] = getattr(at, name)
                setattr(at, name, 0)
        self.log.write(line, "train")

    def _validate(self) -> None:
        at, found = self.at, self.validate()
        self.log.write(self._where() | found, "validation")
        value = float(found[self.measure])
        if not math.isfinite(value):
            raise NotFiniteError(f"step {at.step}: {self.label} of what is held out is {value}; lower optimiser.lr")
        if self.keeps(value):
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
        everyone, rejects = [random_state(accelerator.device)], [at.rejects]
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            everyone, rejects = gather_object(everyone), gather_object(rejects)
        at.rejects = dict(sorted(pair for some in rejects for pair in some.items()))
        if accelerator.is_main_process:
            state = {
                "progress": dict(vars(at)),
                "model": self.own_state(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                "random": everyone,
            }
            self.folder.checkpoints.save(at.step, state, self._settings.keep_checkpoints)
            self._draw()
        accelerator.wait_for_everyone()

    def _resume(self) -> None:
        """Go on from the newest whole checkpoint, which the main process finds for all."""
        accelerator, checkpoints = self.accelerator, self.folder.checkpoints
        found: tuple[int, dict[str, Any]] | None = None
        told: list[Any] = [None, None]  # the step of the checkpoint, or the error that all shall raise
        if accelerator.is_main_process:
            try:
                self._held.enter_context(self.folder.held())
                self.folder.open(self._settings.plan() | self.content())
                self.recover()
                found = checkpoints.newest(self.log.say)
                self.folder.forget_after(found[0] if found else -1)
                self.log.begin(found[0] if found else None)
            except SeamlessAlignError as error:
                told[1] = error
            told[0] = found[0] if found else None
        if accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(told)
        step, failed = told
        if failed is not None:
            raise failed
        if step is None:
            return
        state = found[1] if found else checkpoints.load(step)
        self.at = at = Progress(**state["progress"])
        self.fill(state["model"], str(checkpoints.file(step)))
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        go_on_from(state["random"][min(accelerator.process_index, len(state["random"]) - 1)], accelerator.device)
        self.log.say(f"going on from step {at.step}" + (f"; finished: {at.finished}" if at.finished else ""))


def _accelerator(resources: TrainingResources, all_used: bool) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingPackageError("accelerate", "train", "training") from error

    if resources.threads:
        torch.set_num_threads(resources.threads)
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise InputError("resources.device is cuda, but torch sees no CUDA device")
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != resources.precision:
        AcceleratorState._reset_state()  # of a training that this process did before; it has room for one precision
    parallel = DistributedDataParallelKwargs(find_unused_parameters=not all_used)
    made = Accelerator(mixed_precision=resources.precision, cpu=resources.device == "cpu", kwargs_handlers=[parallel])
    if resources.precision == "fp16" and made.device.type == "cpu":  # which accelerate would take for float32
        raise InputError("resources.precision is fp16, which needs a GPU; on processors there are bf16 and no")
    return made
