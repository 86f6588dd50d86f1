"""Lessons from text alone: texts through a pooler that reads them, the rows of their translations as targets."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.learner import gather
from seamlessalign.embedders.student.lessons import Classroom, Lesson
from seamlessalign.embedders.student.model import Student, unit
from seamlessalign.embedders.student.targets import Meaning
from seamlessalign.embedders.student.texts import TextLoader, Written, read_texts, written_in
from seamlessalign.embedders.student.training_config import TrainingConfig
from seamlessalign.embedders.student.validation import first_of_each_language, hold_out
from seamlessalign.errors import ConfigError, InputError

_MEANS_OF = 200  # texts of a language
_LETTERS_TOGETHER = 8192  # padded, of texts that are embedded at once, where nothing is learnt
_ROWS_TOGETHER = 2048  # of the teacher, kept as one file


class TextLearner(nn.Module):  # type: ignore[misc]
    """A student as one module from texts to rows, so that several processes can share its gradients."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, texts: Sequence[str]) -> Any:
        """Rows `(len(texts), dim)`; one row of zeros where there is no text."""
        pooler = self.student.pooler
        return pooler.embed_texts(texts) if texts else pooler.embed_texts(["a"]) * 0


class TextLessons:
    """Parallel texts, of which each epoch takes one of each item."""

    spoken = False

    def __init__(self, config: TrainingConfig) -> None:
        """Read the sources. Raises InputError where a line is wrong, or there is not enough that can be used."""
        data, counted, translation = config.data, Counter[str](), config.text.translation
        found = read_texts(data.train, data, config.text, counted)
        if data.validation:
            of_any_length = config.text.model_copy(update={"max_words": None})
            self.learnt, held_out = found, read_texts(data.validation, data, of_any_length, counted)
        else:
            self.learnt, held_out = hold_out(found, data.validation_share)
        self.set_aside = dict(sorted(counted.items()))
        self.translations = [translation]
        self.languages = sorted({lang for item in (*self.learnt, *held_out) for lang, _ in item.texts})
        measured = [lang for lang in self.languages if config.text.languages.get(lang) and lang != translation]
        measured = measured or [lang for lang in self.languages if lang != translation]
        written = written_in(held_out, measured, translation)
        self.held_out = [written[i] for i in first_of_each_language(written, config.validation.max_items)]
        if len(self.held_out) < 2:
            raise InputError(f"held out are {len(self.held_out)} texts in {', '.join(measured) or 'other languages'}")

    def enter(self, room: Classroom) -> TextLearner:
        kind = room.config.student.pooler.kind
        if not hasattr(room.student.pooler, "embed_texts"):
            raise ConfigError(f"data.train: a pooler of kind {kind!r} reads no texts, one of kind 'e5' does")
        self._room = room
        rank, world = room.accelerator.process_index, room.accelerator.num_processes
        self.loader = TextLoader(self.learnt, room.config, rank, world)
        return TextLearner(room.student)

    def content(self) -> object:
        return [item.texts for item in self.learnt], [(w.lang, w.text, w.translations) for w in self.held_out]

    def summary(self) -> str:
        texts = sum(len(item.texts) for item in self.learnt)
        return f"{len(self.learnt)} parallel texts ({texts} texts in all); {len(self.held_out)} texts held out"

    def num_utterances(self, batch: list[Written]) -> int:
        return len(batch)

    def teach(self, learner: TextLearner, batch: list[Written], epoch: int, position: int) -> Lesson:
        rows = learner([item.heard for item in batch])
        bank = None
        if self._room.config.losses.bank:
            bank = self._translated[self.loader.bank(epoch, position)]
        return Lesson(
            rows,
            [item.lang for item in batch],
            [Meaning(item.lang, item.text, dict(item.translations)) for item in batch],
            bank,
        )

    def held_out_rows(self) -> Float32:
        return self._rows_of(self.held_out)

    def sample_rows(self) -> tuple[Float32, list[str], str]:
        every = written_in(self.learnt, self.languages, self.translations[0])
        chosen = [every[i] for i in first_of_each_language(every, _MEANS_OF)]
        return self._rows_of(chosen), [item.lang for item in chosen], f"at most {_MEANS_OF} written texts"

    @cached_property
    def _translated(self) -> Any:
        """The teacher's rows `(num_learnt, dim)` of all translations, embedded the first time."""
        texts = [item.text for item in self.learnt]
        distinct = list(dict.fromkeys(texts))
        teacher, (lang,) = self._room.teacher, self.translations
        for start in range(0, len(distinct), _ROWS_TOGETHER):
            teacher.rows(distinct[start : start + _ROWS_TOGETHER], lang)
            self._room.say(f"the teacher's rows: {min(start + _ROWS_TOGETHER, len(distinct))} of {len(distinct)}")
        return torch.from_numpy(teacher.rows(texts, lang)).to(self._room.backbone.device)

    def _rows_of(self, written: Sequence[Written]) -> Float32:
        """Unit rows of texts, without noise; each process makes some, all have all."""
        student, accelerator = self._room.student, self._room.accelerator
        student.eval()
        mine = range(len(written))[accelerator.process_index :: accelerator.num_processes]
        rows = torch.full((len(written), student.config.dim), torch.nan, device=self._room.backbone.device)
        with torch.no_grad():
            for batch in batches([len(written[i].text) for i in mine], _LETTERS_TOGETHER):
                numbers = [mine[i] for i in batch]
                rows[numbers] = student.pooler.embed_texts([written[i].text for i in numbers]).to(rows)
        numbers_of_mine = torch.tensor(list(mine), device=rows.device, dtype=torch.long)
        numbers_of_all = gather(accelerator, numbers_of_mine)
        rows[numbers_of_all] = gather(accelerator, rows[numbers_of_mine])
        return unit(rows)
