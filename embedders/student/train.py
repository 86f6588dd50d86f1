"""Teaching a student: batches of recordings, the teacher's rows of what is said in them, steps, checkpoints.

Several processes (`torchrun`, or accelerate's launcher) take the recordings of each batch in turn; rows are gathered,
so that every process computes the loss of the whole batch, and the gradient is the one that a single process has.
"""

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seamlessalign import storage
from seamlessalign.config import digest
from seamlessalign.embedders.card import Card, fit_mean, save_card
from seamlessalign.embedders.student.backbones import SpeechBackbone, build_backbone
from seamlessalign.embedders.student.cache import FrameCache
from seamlessalign.embedders.student.checkpoint import TrainingFolder
from seamlessalign.embedders.student.config import StudentConfig
from seamlessalign.embedders.student.hearing import Places
from seamlessalign.embedders.student.learner import batch_loss, gather
from seamlessalign.embedders.student.lessons import Classroom, Lessons
from seamlessalign.embedders.student.model import WEIGHTS_FILE, Student, fill, read_weights_of
from seamlessalign.embedders.student.sound_lessons import SoundLessons
from seamlessalign.embedders.student.targets import Teacher, labels
from seamlessalign.embedders.student.text_lessons import TextLessons
from seamlessalign.embedders.student.training_config import TrainingConfig
from seamlessalign.embedders.student.validation import measure
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.errors import InputError, MissingPackageError, ModelError
from seamlessalign.training_curve import curve
from seamlessalign.training_steps import StopSignal, rate_factor

_SILENT_SECONDS = 30  # after which the program says where it is


@dataclass
class Progress:
    """Where a training is; all of it is part of the checkpoint."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # of the next batch in the epoch
    best: float = -1.0
    best_step: int = 0
    worse: int = 0  # validations since the best
    finished: str = ""  # why, once it is
    sums: dict[str, float] = field(default_factory=dict)  # since the last line of metrics
    rejects: dict[str, str] = field(default_factory=dict)  # utterance → reason


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training."""

    folder: Path
    steps: int
    best_step: int
    p_at_1: float
    finished: str  # why it ended; empty where it was told to stop, and the same command goes on


class Training:
    """One training in one process, of several where they were launched together."""

    def __init__(self, config: TrainingConfig) -> None:
        """Read the data and load the models. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs
        except ImportError as error:
            raise MissingPackageError("accelerate", "train", "training") from error

        self.config = config
        self.folder = TrainingFolder(config.output)
        resources = config.resources
        if resources.threads:
            torch.set_num_threads(resources.threads)
        if resources.device == "cuda" and not torch.cuda.is_available():
            raise InputError("resources.device is cuda, but torch sees no CUDA device")
        # what reads frames has no part in lessons from text
        parallel = DistributedDataParallelKwargs(find_unused_parameters=config.from_text)
        self.accelerator = Accelerator(
            mixed_precision=resources.precision, cpu=resources.device == "cpu", kwargs_handlers=[parallel]
        )
        device = str(self.accelerator.device)
        self.lessons: Lessons = TextLessons(config) if config.from_text else SoundLessons(config)
        choice = config.student
        embedder = load_text_embedder(choice.teacher, config.models.get(choice.teacher), device, resources.threads)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.teacher = Teacher(embedder, config.targets, self.folder.rows(config.cache, rank, world))
        torch.manual_seed(config.seed)  # only now: a teacher that is loaded already draws no numbers
        self.backbone: SpeechBackbone = build_backbone(
            choice.backbone, device, config.models, trained=choice.train_backbone
        )
        chosen = choice.model_dump(exclude={"init"})
        self.student = Student(StudentConfig(**chosen, dim=self.teacher.dim), self.backbone, config.models)
        began_as = self._fill_from(choice.init) if choice.init else None
        self.cache = FrameCache(config.cache) if config.cache else None
        learner = self.lessons.enter(
            Classroom(config, self.accelerator, self.student, self.backbone, self.teacher, self._say)
        )
        self.data_digest = digest(
            self.lessons.content(),
            sorted(self.backbone.models.items()),
            sorted(embedder.models.items()),
            *([began_as] if began_as else []),
        )
        self.at = Progress()
        self._prepare(learner)
        self._say(f"{self.lessons.summary()}; set aside: {self.lessons.set_aside or 'none'}")

    def run(self) -> TrainingResult:
        """Train from where the folder's checkpoint is, or from the beginning, to the end."""
        if self.accelerator.is_main_process:
            self.folder.open(self.config.plan() | {"digest of utterances and models": self.data_digest})
            if self.cache is not None:
                self.cache.recover()
        self.accelerator.wait_for_everyone()
        self._resume()
        if not self.at.finished:
            with StopSignal(self._say) as stop:
                self._loop(stop)
        if self.at.finished and not self.folder.is_complete:
            self._finish()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()  # threads of a group of processes that is left standing abort the program
        return TrainingResult(
            self.folder.root, self.at.step, self.at.best_step, max(self.at.best, 0.0), self.at.finished
        )

    # Before the first step

    def _fill_from(self, init: str) -> str:
        """Take the weights of another student; their SHA-256. Raises ModelError where they do not fit."""
        weights = Path(init) / WEIGHTS_FILE
        fill(self.student, read_weights_of(Path(init)), str(weights))
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def _prepare(self, learner: Any) -> None:
        optimiser, config = self.config.optimiser, self.config
        own = [p for name, p in self.student.named_parameters() if not name.startswith("backbone.")]
        heard = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": own, "lr": optimiser.lr}]
        if heard:
            groups.append({"params": heard, "lr": optimiser.backbone_lr or optimiser.lr})
        adam = torch.optim.AdamW(groups, betas=optimiser.betas, weight_decay=optimiser.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: learning_rate(config, step))
        self.learner, self.adam = self.accelerator.prepare(learner, adam)

    # Steps

    def _loop(self, stop: StopSignal) -> None:
        config, at, loader = self.config, self.at, self.lessons.loader
        if config.validation.at_start and not at.step:
            self._validate()
        loading = torch.utils.data.DataLoader(
            loader,
            batch_size=None,
            sampler=Places(loader, at.epoch, at.position),
            num_workers=config.resources.workers,
            generator=torch.Generator(),  # it draws a number when it begins, which must not be one of ours
            multiprocessing_context="spawn" if config.resources.workers else None,
        )
        self.learner.train()
        began, done = time.monotonic(), at.step
        places = iter(Places(loader, at.epoch, at.position))
        batches: list[tuple[list[Any], int, int]] = []  # of the step that is being taken
        for batch, (epoch, position) in zip(loading, places, strict=False):
            last = position + 1 == len(loader.batches(epoch))
            at.epoch, at.position = (epoch + 1, 0) if last else (epoch, position + 1)
            batches.append((batch, epoch, position))
            if len(batches) < config.optimiser.accumulate:
                continue
            self._step(batches)
            batches = []
            at.step += 1
            if time.monotonic() - self._said > _SILENT_SECONDS:  # as in the first epoch of a large backbone
                self._say(f"step {at.step}")
            if at.step % config.log_every == 0:
                self._log(began, done)
                began, done = time.monotonic(), at.step
            if at.step % config.validation.every == 0 or at.step == config.optimiser.steps:
                self._validate()
                began, done = time.monotonic(), at.step
            if at.step == config.optimiser.steps:
                at.finished = "steps"
            elif config.validation.patience and at.worse >= config.validation.patience:
                at.finished = "patience"
            stopped = self._everyone_stops(stop.told)
            if at.step % config.checkpoint_every == 0 or at.finished or stopped:
                self._checkpoint()
            if at.finished or stopped:
                return

    def _everyone_stops(self, told: bool) -> bool:
        """Whether any process was told to: all of them must save the same step."""
        if self.accelerator.num_processes == 1:
            return told
        flags = self.accelerator.gather(torch.tensor([int(told)], device=self.accelerator.device))
        return bool(flags.any())

    def _step(self, batches: list[tuple[list[Any], int, int]]) -> None:
        """One step of the optimiser, by the gradients of some batches, each weighted by the rows that it has."""
        self.adam.zero_grad()
        weight = sum(self._add_gradients(*batch) for batch in batches)
        if not weight:
            return
        if len(batches) > 1:
            for parameter in self.learner.parameters():
                if parameter.grad is not None:
                    parameter.grad /= weight
        norm = float(self.accelerator.clip_grad_norm_(self.learner.parameters(), self.config.optimiser.clip))
        self.adam.step()
        self.schedule.step()
        sums = self.at.sums
        sums["grad_norm"] = sums.get("grad_norm", 0.0) + norm
        sums["grad_norms"] = sums.get("grad_norms", 0.0) + 1

    def _add_gradients(self, batch: list[Any], epoch: int, position: int) -> int:
        """Add the gradients of a batch to those there are; how many rows it has, over all processes."""
        config = self.config
        lesson = self.lessons.teach(self.learner, batch, epoch, position)
        self.at.rejects |= lesson.rejects
        rows, right = lesson.rows, [meaning for meaning in lesson.meanings if meaning is not None]
        whole = torch.tensor([m is not None for m in lesson.meanings], dtype=torch.bool, device=rows.device)
        languages = self.lessons.translations if config.targets.translations != "none" else []
        terms = self.teacher.terms(right, languages)
        numbers = labels(right, self.lessons.languages)
        ours, wrong = rows[:0], rows[:0]
        if lesson.meanings:
            made = self._centred(rows, lesson.langs)
            ours, wrong = made[whole], made[~whole]
        loss, parts = batch_loss(self.accelerator, config.losses, ours, wrong, terms, numbers, lesson.bank)
        if not lesson.meanings:
            loss = loss + rows.sum()  # zeros, through every parameter
        self._sum(parts, loss)
        if not parts:
            return 0
        count = int(gather(self.accelerator, whole.sum()[None]).sum())
        alone = config.optimiser.accumulate == 1
        self.accelerator.backward(loss * self.accelerator.num_processes * (1 if alone else count))
        return count

    def _centred(self, rows: Any, langs: Sequence[str]) -> Any:
        """Rows `(num_rows, dim)`, less the mean of the language of each where the configuration says so."""
        if not self.config.targets.centre_student:
            return rows
        means = torch.from_numpy(np.stack([self.teacher.mean(lang) for lang in langs])).to(rows.device)
        normalize = torch.nn.functional.normalize
        return normalize(normalize(rows.float(), dim=1) - means, dim=1)

    def _sum(self, parts: dict[str, Any], loss: Any) -> None:
        sums = self.at.sums
        if not parts:
            sums["empty_batches"] = sums.get("empty_batches", 0.0) + 1
            return
        values = {name: float(value.detach()) for name, value in (*parts.items(), ("loss", loss))}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        sums["count"] = sums.get("count", 0.0) + 1
        if not np.isfinite(values["loss"]):
            raise ModelError(f"step {self.at.step + 1}: the loss is {values['loss']}; lower optimiser.lr")

    def _log(self, began: float, done: int) -> None:
        at = self.at
        count = at.sums.pop("count", 0.0)
        empty = at.sums.pop("empty_batches", 0.0)
        norm, norms = at.sums.pop("grad_norm", 0.0), at.sums.pop("grad_norms", 0.0)
        line: dict[str, Any] = {"step": at.step, "epoch": at.epoch}
        line |= {name: value / count for name, value in at.sums.items()}
        if norms:
            line["grad_norm"] = norm / norms
        line["lr"] = self.schedule.get_last_lr()[0]
        line["steps_per_second"] = round((at.step - done) / max(time.monotonic() - began, 1e-9), 3)
        if empty:
            line["empty_batches"] = int(empty)
        at.sums = {}
        self._write(line)

    # Validation

    def _validate(self) -> None:
        at = self.at
        held_out = self.lessons.held_out
        rows = torch.from_numpy(self.lessons.held_out_rows())
        rows = self._centred(rows, [said.lang for said in held_out]).numpy()
        found = measure(held_out, rows, self.teacher, spoken=self.lessons.spoken)
        self._write({"step": at.step, "epoch": at.epoch, **found.line()})
        if found.p_at_1 > at.best:
            at.best, at.best_step, at.worse = found.p_at_1, at.step, 0
            if self.accelerator.is_main_process:
                self.student.save(self.folder.student, half=self.config.half_weights)
        else:
            at.worse += 1
        self.learner.train()

    # Checkpoints and the end

    def _checkpoint(self) -> None:
        accelerator = self.accelerator
        random: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if accelerator.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        everyone, rejects = [random], [self.at.rejects]
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            everyone, rejects = gather_object(everyone), gather_object(rejects)
        self.at.rejects = dict(sorted(pair for some in rejects for pair in some.items()))
        if accelerator.is_main_process:
            self.folder.save(
                {
                    "progress": dict(vars(self.at)),
                    "student": self.student.own_state(),
                    "optimiser": self.adam.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                    "random": everyone,
                }
            )
            self._draw()
        accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = self.folder.load()
        if state is None:
            if self.accelerator.is_main_process:
                self.folder.forget_after(-1)
            return
        self.at = Progress(**state["progress"])
        fill(self.student, state["student"], str(self.folder.state))
        self.adam.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        mine = state["random"][min(self.accelerator.process_index, len(state["random"]) - 1)]
        torch.set_rng_state(mine["cpu"])
        if self.accelerator.device.type == "cuda" and "cuda" in mine:
            torch.cuda.set_rng_state(mine["cuda"])
        if self.accelerator.is_main_process:
            self.folder.forget_after(self.at.step)
            storage.remove_unfinished(str(self.folder.root))
        self._say(f"going on from step {self.at.step}" + (f"; finished: {self.at.finished}" * bool(self.at.finished)))

    def _finish(self) -> None:
        """Write the card of the best student, with the means of each language, and the last line of metrics."""
        self.accelerator.wait_for_everyone()
        fill(self.student, read_weights_of(self.folder.student), str(self.folder.student))
        rows, langs, sample = self.lessons.sample_rows()
        there = [bool(np.isfinite(row).all()) for row in rows]
        means = {}
        for lang in sorted(set(langs)):
            numbers = [i for i, other in enumerate(langs) if other == lang and there[i]]
            if numbers:
                means[lang] = fit_mean(rows[numbers])
        if self.accelerator.is_main_process:
            recipe = {"means": f"of {sample} of each language, from those learnt"}
            save_card(Card("card", self.teacher.dim, means), self.folder.student, recipe)
        at = self.at
        reasons: dict[str, int] = dict(self.lessons.set_aside)
        for reason in at.rejects.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        self._write(
            {
                "step": at.step,
                "finished": at.finished,
                "best_step": at.best_step,
                "best": at.best,
                "set_aside": dict(sorted(reasons.items())),
            }
        )
        if self.accelerator.is_main_process:
            self._draw()

    def _draw(self) -> None:
        lines = self.folder.lines()
        storage.write_bytes_atomic(
            str(self.folder.curve), curve(lines, f"Training of {self.folder.root.name}").encode()
        )

    def _write(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.folder.add(line)
            shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in line.items()}
            self._say(", ".join(f"{key} {value}" for key, value in shown.items() if key != "sides"))

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The factor on the learning rate at a step."""
    optimiser = config.optimiser
    return rate_factor(step, optimiser.steps, optimiser.warmup, optimiser.schedule)


def train(config: TrainingConfig) -> TrainingResult:
    """Train a speech encoder as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where a model cannot be found or the loss is not finite.
    """
    return Training(config).run()
