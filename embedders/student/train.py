"""Teaching a student: batches of recordings, the teacher's rows of what is said in them, steps, checkpoints.

Several processes (`torchrun`, or accelerate's launcher) take the recordings of each batch in turn; rows are gathered,
so that every process computes the loss of the whole batch, and the gradient is the one that a single process has.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
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
from seamlessalign.embedders.student.data import Utterance, read_sources
from seamlessalign.embedders.student.frames import Float32, Frames
from seamlessalign.embedders.student.hearing import Loader, Places, backbone_digest, hear, hear_frozen
from seamlessalign.embedders.student.learner import Learner, Taught, batch_loss, gather
from seamlessalign.embedders.student.model import Student, fill, unit
from seamlessalign.embedders.student.picture import curve
from seamlessalign.embedders.student.recordings import (
    Recording,
    draw_spans,
    hidden_frames,
    joined_meaning,
    plan_recordings,
    single_plans,
)
from seamlessalign.embedders.student.targets import Meaning, Teacher, labels
from seamlessalign.embedders.student.training_config import AugmentConfig, TrainingConfig
from seamlessalign.embedders.student.validation import first_of_each_language, hold_out, measure
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.errors import InputError, MissingPackageError, ModelError

_MEANS_OF = 500  # utterances of a language
_SILENT_SECONDS = 30  # after which the program says where it is
_HEARD_TOGETHER = 16  # recordings, where nothing is learnt


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
    finished: str


class Training:
    """One training in one process, of several where they were launched together."""

    def __init__(self, config: TrainingConfig) -> None:
        """Read the data and load the models. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise MissingPackageError("accelerate", "train", "training") from error

        self.config = config
        self.folder = TrainingFolder(config.output)
        resources = config.resources
        if resources.threads:
            torch.set_num_threads(resources.threads)
        if resources.device == "cuda" and not torch.cuda.is_available():
            raise InputError("resources.device is cuda, but torch sees no CUDA device")
        self.accelerator = Accelerator(mixed_precision=resources.precision, cpu=resources.device == "cpu")
        device = str(self.accelerator.device)
        self._read_data()
        torch.manual_seed(config.seed)
        choice = config.student
        embedder = load_text_embedder(choice.teacher, config.models.get(choice.teacher), device, resources.threads)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.teacher = Teacher(embedder, config.targets, self.folder.rows(config.cache, rank, world))
        self.backbone: SpeechBackbone = build_backbone(
            choice.backbone, device, config.models, trained=choice.train_backbone
        )
        self.student = Student(StudentConfig(**choice.model_dump(), dim=self.teacher.dim), self.backbone, config.models)
        self.plans = plan_recordings(self.learnt, config.spans, config.seed)
        tag = backbone_digest(self.backbone, config)
        self.loader = Loader(self.learnt, self.plans, config, tag, rank, world)
        self.quiet = Loader(self.held_out, [], config, tag)  # as they are, for validation
        self.cache = FrameCache(config.cache) if config.cache else None
        self._held_frames: dict[int, Frames] = {}
        self.data_digest = digest(
            [(u.key, u.lang, u.text, u.translations) for u in (*self.learnt, *self.held_out)],
            sorted(self.backbone.models.items()),
            sorted(embedder.models.items()),
        )
        self.at = Progress()
        self._prepare()
        self._say(
            f"{len(self.learnt)} utterances ({sum(u.seconds for u in self.learnt) / 3600:.2f} h) in {len(self.plans)} "
            f"recordings; {len(self.held_out)} held out; set aside: {self.set_aside or 'none'}"
        )

    def run(self) -> TrainingResult:
        """Train from where the folder's checkpoint is, or from the beginning, to the end."""
        if self.accelerator.is_main_process:
            self.folder.open(self.config, self.data_digest)
            if self.cache is not None:
                self.cache.recover()
        self.accelerator.wait_for_everyone()
        self._resume()
        if not self.at.finished:
            self._loop()
            self._finish()
        return TrainingResult(
            self.folder.root, self.at.step, self.at.best_step, max(self.at.best, 0.0), self.at.finished
        )

    # Before the first step

    def _read_data(self) -> None:
        data, counted = self.config.data, Counter[str]()
        found = read_sources(data.train, data, counted)
        if data.validation:
            self.learnt, self.held_out = found, read_sources(data.validation, data, counted)
        else:
            self.learnt, self.held_out = hold_out(found, data.validation_share)
        kept = first_of_each_language(self.held_out, self.config.validation.max_items)
        self.held_out = [self.held_out[i] for i in kept]
        self.set_aside = dict(sorted(counted.items()))
        everyone = (*self.learnt, *self.held_out)
        self.translations = sorted({lang for u in everyone for lang, _ in u.translations})
        self.languages = sorted({u.lang for u in everyone} | set(self.translations))

    def _prepare(self) -> None:
        optimiser, config = self.config.optimiser, self.config
        own = [p for name, p in self.student.named_parameters() if not name.startswith("backbone.")]
        heard = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": own, "lr": optimiser.lr}]
        if heard:
            groups.append({"params": heard, "lr": optimiser.backbone_lr or optimiser.lr})
        adam = torch.optim.AdamW(groups, weight_decay=optimiser.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: learning_rate(config, step))
        self.learner, self.adam = self.accelerator.prepare(Learner(self.student, self.backbone), adam)

    # Steps

    def _loop(self) -> None:
        config, at = self.config, self.at
        loading = torch.utils.data.DataLoader(
            self.loader,
            batch_size=None,
            sampler=Places(self.loader, at.epoch, at.position),
            num_workers=config.resources.workers,
            generator=torch.Generator(),  # it draws a number when it begins, which must not be one of ours
            multiprocessing_context="spawn" if config.resources.workers else None,
        )
        self.learner.train()
        began, done = time.monotonic(), at.step
        places = iter(Places(self.loader, at.epoch, at.position))
        for recordings, (epoch, position) in zip(loading, places, strict=False):
            self._step(recordings, epoch)
            at.step += 1
            last = position + 1 == len(self.loader.batches(epoch))
            at.epoch, at.position = (epoch + 1, 0) if last else (epoch, position + 1)
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
            if at.step % config.checkpoint_every == 0 or at.finished:
                self._checkpoint()
            if at.finished:
                return

    def _step(self, recordings: list[Recording], epoch: int) -> None:
        config = self.config
        for recording in recordings:
            for place, reason in recording.rejects:
                self.at.rejects[self.learnt[recording.plan.members[place]].place] = reason
        recordings = [recording for recording in recordings if recording.members]
        spans = [draw_spans(recording, config.spans, config.seed, epoch) for recording in recordings]
        frames: list[Frames | None] = [None for _ in recordings]
        if not config.student.train_backbone:
            frames = list(hear_frozen(self.backbone, recordings, self.cache))
        taught = [
            Taught(
                recording,
                found,
                np.concatenate([span.ranges, span.cut_off]),
                partial(hidden_frames, config.augment, config.seed, epoch, recording.plan.number),
            )
            for recording, found, span in zip(recordings, frames, spans, strict=True)
        ]
        rows, filled = self.learner(taught)
        # of each span what it means, None where it is cut off
        meanings: list[Meaning | None] = []
        for recording, span in zip(recordings, spans, strict=True):
            said = [self.learnt[recording.plan.members[place]] for place in recording.members]
            meanings += [Meaning(*joined_meaning(said[first:last])) for first, last in span.members]
            meanings += [None for _ in span.cut_off]
        there = [meaning for meaning, has_frames in zip(meanings, filled, strict=True) if has_frames]
        right = [meaning for meaning in there if meaning is not None]
        whole = torch.tensor([meaning is not None for meaning in there], dtype=torch.bool, device=rows.device)
        languages = self.translations if config.targets.translations != "none" else []
        terms = self.teacher.terms(right, languages)
        numbers = labels(right, self.languages)
        ours, wrong = (rows[whole], rows[~whole]) if there else (rows[:0], rows[:0])
        loss, parts = batch_loss(self.accelerator, config.losses, ours, wrong, terms, numbers)
        if not there:
            loss = loss + rows.sum()  # zeros, through every parameter
        self.adam.zero_grad()
        norm = 0.0
        if parts:
            self.accelerator.backward(loss * self.accelerator.num_processes)
            norm = float(self.accelerator.clip_grad_norm_(self.learner.parameters(), config.optimiser.clip))
            self.adam.step()
            self.schedule.step()
        self._sum(parts, loss, norm)

    def _sum(self, parts: dict[str, Any], loss: Any, norm: float) -> None:
        sums = self.at.sums
        if not parts:
            sums["empty_steps"] = sums.get("empty_steps", 0.0) + 1
            return
        values = {name: float(value.detach()) for name, value in (*parts.items(), ("loss", loss))} | {"grad_norm": norm}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        sums["count"] = sums.get("count", 0.0) + 1
        if not np.isfinite(values["loss"]):
            raise ModelError(f"step {self.at.step + 1}: the loss is {values['loss']}; lower optimiser.lr")

    def _log(self, began: float, done: int) -> None:
        at = self.at
        count = at.sums.pop("count", 0.0)
        empty = at.sums.pop("empty_steps", 0.0)
        line: dict[str, Any] = {"step": at.step, "epoch": at.epoch}
        line |= {name: value / count for name, value in at.sums.items()}
        line["lr"] = self.schedule.get_last_lr()[0]
        line["steps_per_second"] = round((at.step - done) / max(time.monotonic() - began, 1e-9), 3)
        if empty:
            line["empty_steps"] = int(empty)
        at.sums = {}
        self._write(line)

    # Validation

    def _validate(self) -> None:
        at = self.at
        rows = self._rows_as_they_are(self.held_out, self.quiet, self._held_frames)
        found = measure(self.held_out, rows, self.teacher)
        self._write({"step": at.step, "epoch": at.epoch, **found.line()})
        if found.p_at_1 > at.best:
            at.best, at.best_step, at.worse = found.p_at_1, at.step, 0
            if self.accelerator.is_main_process:
                self.student.save(self.folder.student, half=self.config.half_weights)
        else:
            at.worse += 1
        self.learner.train()

    def _rows_as_they_are(
        self, utterances: Sequence[Utterance], loader: Loader, frames: dict[int, Frames] | None = None
    ) -> Float32:
        """Unit rows of utterances by themselves, not augmented; each process makes some, all have all."""
        self.student.eval()
        plans = single_plans(range(len(utterances)), utterances)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = plans[rank::world]
        rows = torch.full((len(utterances), self.student.config.dim), torch.nan, device=self.backbone.device)
        trained = self.config.student.train_backbone
        with torch.no_grad():
            for start in range(0, len(mine), _HEARD_TOGETHER):
                part = mine[start : start + _HEARD_TOGETHER]
                known = frames is not None and all(plan.number in frames for plan in part) and not trained
                if known and frames is not None:
                    heard = [frames[plan.number] for plan in part]
                else:
                    made = [loader.recording(plan, AugmentConfig(), 0) for plan in part]
                    heard = hear(self.backbone, made) if trained else hear_frozen(self.backbone, made, self.cache)
                    if frames is not None and not trained:
                        frames |= {plan.number: found for plan, found in zip(part, heard, strict=True)}
                for plan, found in zip(part, heard, strict=True):
                    rows[plan.number] = self.student.pool_raw(found, np.array([[0, len(found)]], np.int64))[0]
        numbers = torch.tensor([plan.number for plan in mine], device=rows.device, dtype=torch.long)
        numbers_of_all = gather(self.accelerator, numbers)
        rows[numbers_of_all] = gather(self.accelerator, rows[numbers])
        return unit(rows)

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
        from safetensors.torch import load_file

        fill(self.student, load_file(self.folder.student / "model.safetensors"), str(self.folder.student))
        chosen = [self.learnt[i] for i in first_of_each_language(self.learnt, _MEANS_OF)]
        loader = Loader(chosen, [], self.config, backbone_digest(self.backbone, self.config))
        rows = self._rows_as_they_are(chosen, loader)
        there = [bool(np.isfinite(row).all()) for row in rows]
        means = {}
        for lang in sorted({utterance.lang for utterance in chosen}):
            numbers = [i for i, utterance in enumerate(chosen) if utterance.lang == lang and there[i]]
            if numbers:
                means[lang] = fit_mean(rows[numbers])
        at = self.at
        reasons: dict[str, int] = dict(self.set_aside)
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
            recipe = {"means": f"of at most {_MEANS_OF} utterances of each language, from those learnt"}
            save_card(Card("card", self.teacher.dim, means), self.folder.student, recipe)
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
    """The factor on the learning rate at a step: a linear rise, then a quarter of a cosine's period or none."""
    optimiser = config.optimiser
    if step < optimiser.warmup:
        return (step + 1) / (optimiser.warmup + 1)
    if optimiser.schedule == "constant":
        return 1.0
    share = (step - optimiser.warmup) / max(1, optimiser.steps - optimiser.warmup)
    return float(0.5 * (1 + np.cos(np.pi * min(share, 1.0))))


def train(config: TrainingConfig) -> TrainingResult:
    """Train a speech encoder as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where a model cannot be found or the loss is not finite.
    """
    return Training(config).run()
