"""Sections of an evaluation's configuration for encoders: parallel rows, and how well encoders find them."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from seamlessalign.errors import ConfigError
from seamlessalign.languages import Side, find_language
from seamlessalign.training.evaluation.datasets.settings import DataSet
from seamlessalign.training.evaluation.encoders.perturbations import KINDS, Kind, languages
from seamlessalign.training.evaluation.rows import Columns
from seamlessalign.typed_config import Once, Section, beside

EncoderMeasure = Literal["xsim", "xsim++", "p_at_1"]


class Encoder(Section):
    """Embedders into one space, of texts and of speech."""

    text: str | None = None  # e5-small, labse, sonar, sentence-transformers
    speech: str | None = None  # whisper-e5, transcribe-e5, sonar, student, …, into the same space
    directories: dict[str, str] = {}  # model name → where it lies
    device: str = "cpu"  # or cuda, cuda:1
    centre: Literal["card", "rows"] = "card"  # rows: also by the mean of the side's own rows, as runs do

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.text is None and self.speech is None:
            raise ValueError("give text, speech or both: names of embedders")
        return self

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        places = {name: beside(file, place) for name, place in self.directories.items()}
        return self.model_copy(update={"directories": places})


class ParallelRows(DataSet):
    """Rows that say the same on all sides: a wide table, with a column for each language; or the rows of a test set,
    a table or a published one, whose sources and references are the sides.
    """

    id: str = "id"  # of a wide table; where it has no such column, the number of the row
    texts: dict[str, str] = {}  # language → column of texts
    sounds: dict[str, str] = {}  # language → column of speech
    first: PositiveInt | None = None  # rows of a table that are read
    src_lang: str | None = None  # of all rows of a test set, where no column says
    tgt_lang: str | None = None  # likewise
    columns: Columns = Columns()  # of a test set

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.dataset is not None and (self.texts or self.sounds or self.first):
            raise ValueError(f"texts, sounds and first are of tables, not of {self.dataset}")
        return self

    @field_validator("texts", "sounds")
    @classmethod
    def _languages(cls, columns: dict[str, str]) -> dict[str, str]:
        try:
            found = {find_language(lang).iso639_3: column for lang, column in columns.items()}
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if len(found) < len(columns):
            raise ValueError(f"a language is there twice: {', '.join(columns)}")
        return found


class Perturbing(Section):
    """How the hard negatives of xsim++ are made."""

    kinds: Once[Kind] = Field(list(KINDS), min_length=1)  # what is changed in a sentence
    limit: PositiveInt = 4  # of each kind of a sentence
    seed: NonNegativeInt = 0  # of which changes are drawn


class EncodersTask(Section):
    """Whether rows of encoders find what says the same among all rows of another side."""

    rows: ParallelRows
    systems: dict[str, Encoder] = Field(min_length=1)
    # xsim: errors by margin; xsim++: also among changed sentences; p_at_1: the nearest is the right one
    measures: Once[EncoderMeasure] = Field(["xsim", "p_at_1"], min_length=1)
    directions: Once[str] = []  # frA-eng: French speech finds English text; by default all into English, or all
    k: PositiveInt = 4  # neighbours that a margin is relative to
    perturbed: Perturbing = Perturbing()
    examples: NonNegativeInt = 100  # errors that are written for each measure and direction

    @field_validator("directions")
    @classmethod
    def _sides(cls, directions: list[str]) -> list[str]:
        for direction in directions:
            try:
                src, tgt = parse_sides(direction)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if src == tgt:
                raise ValueError(f"{direction}: both sides are the same")
        return directions

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if "xsim++" in self.measures and self.directions:
            targets = [parse_sides(direction)[1] for direction in self.directions]
            if not any(side.lang in languages() and not side.is_audio for side in targets):
                raise ValueError(f"xsim++ needs a direction into text in one of {', '.join(languages())}")
        return self

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        rows = self.rows.beside(file)
        systems = {name: one.beside(file) for name, one in self.systems.items()}
        return self.model_copy(update={"rows": rows, "systems": systems})


def parse_sides(direction: str) -> tuple[Side, Side]:
    """Both sides of `fra-eng`, `frA-eng`, `esA-frA`, `frA-fra`. Raises ConfigError for anything else."""
    sides = direction.split("-")
    if len(sides) != 2:
        raise ConfigError(f"direction {direction!r}: write two sides joined by '-', such as frA-eng")
    return Side.parse(sides[0]), Side.parse(sides[1])
