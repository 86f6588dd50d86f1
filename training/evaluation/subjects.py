"""What is measured: the outputs of one system in one direction, with what the measures share."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from seamlessalign import storage
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.asr import HeardSounds, hear_sounds
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.measures import Measure, Measured, num_references
from seamlessalign.training.evaluation.recognisers import Recogniser, load_recogniser
from seamlessalign.training.evaluation.rows import Output, SystemOutputs, TestRow

Thing = TypeVar("Thing")


@dataclass
class Tools:
    """What all measures of an evaluation share: its configuration, one recogniser, and what is loaded once."""

    config: EvaluationConfig
    say: Callable[[str], None] = lambda _: None  # is told how far it is
    _things: dict[Hashable, Any] = field(default_factory=dict)

    @cached_property
    def recogniser(self) -> Recogniser:
        """What hears the speech that systems made. Raises ModelError, ConfigError where there is no such thing."""
        return load_recogniser(self.config.measures.asr)

    def hear(self, sounds: Sequence[Sound | None], lang: str, what: str) -> HeardSounds:
        """What is said in sounds of a language (ISO 639-3), kept for the next time. what: for people."""
        asr, done = self.config.measures.asr, 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            self.say(f"{what}: {done} of {len(sounds)} sounds heard")

        kept = asr.kept or storage.join(self.config.output, "asr")
        return hear_sounds(sounds, lang, self.recogniser, kept, progress)

    def once(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """What `make` gave the first time that it was asked for by this key, such as a model or embeddings."""
        if key not in self._things:
            self._things[key] = make()
        return cast("Thing", self._things[key])

    def has(self, key: Hashable) -> bool:
        """Whether that was asked for."""
        return key in self._things


@dataclass(frozen=True)
class Translations:
    """Rows of a test set, what systems made of them, and what was heard in that."""

    rows: Sequence[TestRow]
    systems: Mapping[str, SystemOutputs]
    heard: dict[str, dict[str, str | None]] = field(default_factory=dict)  # system → id → text
    data_set: Mapping[str, Any] = field(default_factory=dict)  # what of a published test set became rows
    noise: Mapping[str, str] = field(default_factory=dict)  # condition → signature of the noise
    unreadable_noise: Mapping[str, str] = field(default_factory=dict)  # recording of noise → what is wrong with it


@dataclass(frozen=True)
class Subject:
    """What one system made of the rows of one direction, under one condition."""

    system: str
    rows: Sequence[TestRow]
    outputs: Sequence[Output]  # of each row
    wrote: bool  # whether the system wrote anything, in any direction
    spoke: bool
    tools: Tools
    condition: str = ""

    @property
    def direction(self) -> str:
        return self.rows[0].direction

    @property
    def src_lang(self) -> str:
        return self.rows[0].src_lang

    @property
    def tgt_lang(self) -> str:
        return self.rows[0].tgt_lang

    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    def texts(self) -> list[str | None]:
        """What was written, None where nothing."""
        return [one.text for one in self.outputs]

    def sounds(self) -> list[Sound | None]:
        return [one.sound for one in self.outputs]

    def heard(self) -> HeardSounds:
        """What the recogniser hears in the outputs."""
        what = ", ".join(part for part in self._key[1:] if part)
        return self.tools.once(self._key, lambda: self.tools.hear(self.sounds(), self.tgt_lang, what))

    @property
    def was_heard(self) -> bool:
        """Whether a measure asked for it."""
        return self.tools.has(self._key)

    @property
    def _key(self) -> tuple[str, ...]:
        return ("heard", self.system, self.direction, self.condition)

    def reasons(self, texts: Sequence[str | None]) -> dict[str, int]:
        """Why a system that was run has no text, reason → rows."""
        none = (one.reason for one, text in zip(self.outputs, texts, strict=True) if text is None)
        return dict(Counter(reason for reason in none if reason is not None))

    def measured(
        self, kind: str, measure: Measure, texts: Sequence[str | None], failed: dict[str, int] | None = None
    ) -> Measured:
        """A measure of texts against the references of the rows. failed: of outputs without a text, reason → count."""
        references = [row.references for row in self.rows]
        failed = self.reasons(texts) if failed is None else failed
        count = num_references(references)
        of_rows = measure.row_signature(count)
        return Measured(
            kind,
            measure.name,
            measure.signature(count),
            measure.higher_is_better,
            self.ids(),
            measure.statistics([text or "" for text in texts], references),
            measure.score,
            measure.row_score,
            row_signature="" if of_rows == measure.signature(count) else of_rows,
            condition=self.condition,
            missing=sum(text is None for text in texts),
            details={"failed": failed} if failed else {},
        )
