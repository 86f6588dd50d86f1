"""Teaching a student: batches of recordings or texts, and the teacher's rows of what is said in them.

Of several processes each takes some recordings of a batch; rows are gathered, so that every process computes the loss
of the whole batch, and the gradient is the one that a single process has.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seamlessalign.embedders.card import Card, fit_mean, save_card
from seamlessalign.embedders.student.backbones import SpeechBackbone, build_backbone
from seamlessalign.embedders.student.cache import FrameCache
from seamlessalign.embedders.student.checkpoint import StudentFolder
from seamlessalign.embedders.student.config import StudentConfig
from seamlessalign.embedders.student.learner import batch_loss, gather
from seamlessalign.embedders.student.lessons import Classroom, Lessons
from seamlessalign.embedders.student.model import WEIGHTS_FILE, Student, fill, read_weights_of
from seamlessalign.embedders.student.sound_lessons import SoundLessons
from seamlessalign.embedders.student.targets import Teacher, labels
from seamlessalign.embedders.student.text_lessons import TextLessons
from seamlessalign.embedders.student.training_config import TrainingConfig
from seamlessalign.embedders.student.validation import measure
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.typed_config import digest


class Training(Trainer):
    """One training in one process, of several where they were launched together."""

    measure = "p_at_1"
    label = "P@1"
    counted = ("utterances",)
    folder: StudentFolder

    def __init__(self, config: TrainingConfig) -> None:
        """Read the data and load the models. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        # what reads frames has no part in lessons from text
        super().__init__(config, StudentFolder(config.output), all_used=not config.from_text)
        self.config = config
        device, threads = str(self.accelerator.device), config.resources.threads
        self.lessons: Lessons = TextLessons(config) if config.from_text else SoundLessons(config)
        self.set_aside = self.lessons.set_aside
        choice = config.student
        embedder = load_text_embedder(choice.teacher, config.models.get(choice.teacher), device, threads)
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
            Classroom(config, self.accelerator, self.student, self.backbone, self.teacher, self.log.say)
        )
        self.batches = self.lessons.loader
        self._digest = digest(
            self.lessons.content(),
            sorted(self.backbone.models.items()),
            sorted(embedder.models.items()),
            *([began_as] if began_as else []),
        )
        self.prepare(learner, self._adam())

    def content(self) -> dict[str, str]:
        return {"digest of utterances and models": self._digest}

    def summary(self) -> str:
        return self.lessons.summary()

    def recover(self) -> None:
        super().recover()
        if self.cache is not None:
            self.cache.recover()

    # Before the first step

    def _fill_from(self, init: str) -> str:
        """Take the weights of another student; their SHA-256. Raises ModelError where they do not fit."""
        weights = Path(init) / WEIGHTS_FILE
        fill(self.student, read_weights_of(Path(init)), str(weights))
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def _adam(self) -> Any:
        optimiser = self.config.optimiser
        own = [p for name, p in self.student.named_parameters() if not name.startswith("backbone.")]
        heard = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": own, "lr": optimiser.lr}]
        if heard:
            groups.append({"params": heard, "lr": optimiser.backbone_lr or optimiser.lr})
        return torch.optim.AdamW(groups, **optimiser.adam())

    # Steps

    def count(self, batch: list[Any]) -> list[int]:
        return [self.lessons.num_utterances(batch)]

    def batch_loss(self, batch: list[Any], epoch: int, position: int, counts: Counts) -> BatchLoss:
        """Of the rows of all processes, each of which has gradients to its own."""
        config = self.config
        lesson = self.lessons.teach(self.learner, batch, epoch, position)
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
        loss = loss * counts.share("utterances")
        items = int(gather(self.accelerator, whole.sum()[None]).sum()) if parts else 0
        return BatchLoss(loss, items, {**parts, "loss": loss}, lesson.rejects)

    def _centred(self, rows: Any, langs: Sequence[str]) -> Any:
        """Rows `(num_rows, dim)`, less the mean of the language of each where the configuration says so."""
        if not self.config.targets.centre_student:
            return rows
        means = torch.from_numpy(np.stack([self.teacher.mean(lang) for lang in langs])).to(rows.device)
        normalize = torch.nn.functional.normalize
        return normalize(normalize(rows.float(), dim=1) - means, dim=1)

    # Validation and the end

    def validate(self) -> dict[str, Any]:
        held_out = self.lessons.held_out
        rows = torch.from_numpy(self.lessons.held_out_rows())
        rows = self._centred(rows, [said.lang for said in held_out]).numpy()
        return measure(held_out, rows, self.teacher, spoken=self.lessons.spoken).line()

    def save_best(self) -> None:
        self.student.save(self.folder.student, half=self.config.half_weights)

    def own_state(self) -> dict[str, Any]:
        return self.student.own_state()

    def fill(self, state: Mapping[str, Any], origin: str) -> None:
        fill(self.student, state, origin)

    def finish(self) -> None:
        """Write the card of the best student, with the means of each language."""
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


def train(config: TrainingConfig) -> Trained:
    """Train a speech encoder as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where a model cannot be found or the loss is not finite.
    """
    return Training(config).run()
