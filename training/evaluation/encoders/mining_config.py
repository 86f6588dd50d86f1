"""Sections of an evaluation's configuration for mining: known pairs, and those that systems or encoders found."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.training.evaluation.encoders.encoder_config import Encoder
from seamlessalign.typed_config import Once, Section, beside

Retrieving = Literal["forward", "backward", "intersect", "max"]


class PairColumns(Section):
    """Columns of tables of pairs. Those that a table need not have are read where they are there."""

    src: str = "src_id"  # id of the source side
    tgt: str = "tgt_id"  # id of the target side
    score: str | None = None  # by default margin or score, whichever is there; without one, all pairs are taken
    direction: str = "direction"  # such as eng-frA
    seconds: str = "seconds"  # of speech: of what there is to find, and of pairs
    kept: str | None = None  # a column that is false where a pair was not taken
    correct: str = "correct"  # of judged pairs: whether a pair is right
    truth: str = "truth_id"  # of judged pairs: which of the things to be found it is


class PairTable(Section):
    """A table of pairs: Parquet, a file or a folder of them, JSON lines or tab-separated values."""

    path: str  # of the table
    columns: PairColumns = PairColumns()
    fields: list[str] = []  # names of columns, of tab-separated values without a line of names


class Gold(Section):
    """What there is to find: a table of pairs, or of things to be found (`truth`); or else how many there are.

    Without pairs, what systems found must have been judged: their tables say what is correct.
    """

    path: str | None = None  # of the table of what there is to find
    columns: PairColumns = PairColumns()
    fields: list[str] = []  # names of columns, of tab-separated values without a line of names
    count: PositiveInt | dict[str, PositiveInt] | None = None  # of all, or by direction

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.path is None) == (self.count is None):
            raise ValueError("give path, a table of what there is to find, or count, how many there are")
        return self


class Mined(PairTable):
    """What a system found."""

    threshold: float | dict[str, float] | None = None  # pairs with this score or more are taken; or one by direction


class MinedSide(Section):
    """What is mined: the sentences of one side."""

    path: str  # Parquet, JSON lines or tab-separated values
    lang: str  # of all sentences
    id: str = "id"  # column by which pairs name a sentence
    text: str = "text"  # column of the sentence
    audio: str | None = None  # instead: speech
    fields: list[str] = []  # names of columns, of tab-separated values without a line of names


class MiningTask(Section):
    """Mining against known pairs, as the BUCC shared tasks count it."""

    gold: Gold
    systems: dict[str, Mined] = {}
    direction: str = "src-tgt"  # of tables that do not say
    encoders: dict[str, Encoder] = {}  # with which src and tgt are mined
    src: MinedSide | None = None
    tgt: MinedSide | None = None
    retrieval: Once[Retrieving] = Field(["max"], min_length=1)  # of encoders
    k: PositiveInt = 4  # neighbours that a margin is relative to
    points: PositiveInt = 200  # of a curve of thresholds, at most
    examples: NonNegativeInt = 100  # wrong pairs, and missed ones, that are written for each system and direction

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if not self.systems and not self.encoders:
            raise ValueError("give systems, tables of what was mined, or encoders to mine with")
        if self.encoders and (self.src is None or self.tgt is None):
            raise ValueError("encoders need src and tgt, the sentences that are mined")
        if self.encoders and self.gold.count is not None:
            raise ValueError("encoders need gold.path: what they find is not judged")
        names = [*self.systems, *self.encoders]
        if len(set(names)) < len(names):
            raise ValueError("systems and encoders have names in common")
        return self

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""

        def near(section: Gold | Mined | MinedSide | None) -> Gold | Mined | MinedSide | None:
            if section is None or section.path is None:
                return section
            return section.model_copy(update={"path": beside(file, section.path)})

        return self.model_copy(
            update={
                "gold": near(self.gold),
                "systems": {name: near(one) for name, one in self.systems.items()},
                "encoders": {name: one.beside(file) for name, one in self.encoders.items()},
                "src": near(self.src),
                "tgt": near(self.tgt),
            }
        )
