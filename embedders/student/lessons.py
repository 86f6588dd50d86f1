"""What a training goes through: batches that one process makes rows of, and what these rows mean.

Lessons in sound are in `sound_lessons.py`, those from text alone in `text_lessons.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from seamlessalign.embedders.student.backbones import SpeechBackbone
from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.model import Student
from seamlessalign.embedders.student.targets import Meaning, Teacher
from seamlessalign.embedders.student.training_config import TrainingConfig
from seamlessalign.embedders.student.validation import Said
from seamlessalign.training_steps import Batches


@dataclass(frozen=True)
class Lesson:
    """What one process made of its part of a batch.

    Where it has no rows of its own, `meanings` are empty and there is one row of zeros, through which every parameter
    has a gradient.
    """

    rows: Any  # (num_rows, dim), not of unit length
    langs: Sequence[str]  # of each row
    meanings: Sequence[Meaning | None]  # of each row; None where no text is of it
    bank: Any = None  # unit rows (num_bank, dim) of the teacher, what else the rows must not find
    rejects: Mapping[str, str] = field(default_factory=dict)  # what could not be used → reason


@dataclass(frozen=True)
class Classroom:
    """What lessons are given with."""

    config: TrainingConfig
    accelerator: Any  # of the package accelerate
    student: Student
    backbone: SpeechBackbone
    teacher: Teacher
    say: Callable[[str], None]  # to people


class Lessons(Protocol):
    """The data of a training: what is learnt and what is held out."""

    spoken: bool  # whether held out is speech
    set_aside: dict[str, int]  # reason → how many were not usable
    languages: list[str]  # of everything that is said
    translations: list[str]  # languages of translations

    @property
    def held_out(self) -> Sequence[Said]: ...

    @property
    def loader(self) -> Batches: ...

    def enter(self, room: Classroom) -> Any:
        """Get ready, and give the module that a process calls in `teach`. Raises ConfigError where it cannot."""

    def content(self) -> object:
        """What the data's digest is of."""

    def summary(self) -> str:
        """How much there is, in a few words."""

    def num_utterances(self, batch: Any) -> int:
        """How many there are in a process's part of a batch."""

    def teach(self, learner: Any, batch: Any, epoch: int, position: int) -> Lesson:
        """The rows of a batch, with gradients, and what they mean."""

    def held_out_rows(self) -> Float32:
        """Unit rows `(len(held_out), dim)`, NaN where there is none; each process makes some, all have all."""

    def sample_rows(self) -> tuple[Float32, list[str], str]:
        """Unit rows of some of what was learnt, their languages, and what they are of: for means."""
