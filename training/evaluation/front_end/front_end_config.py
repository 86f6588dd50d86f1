"""What a configuration says of the speech front end: languages that were told, and boundaries that were found."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from seamlessalign.typed_config import Once, Section, beside

LidMeasure = Literal["accuracy", "macro_f1", "calibration_error", "adaptive_calibration_error"]


class LidColumns(Section):
    """Columns of tables of languages. They are read where they are there."""

    id: str = "id"  # by which clips and answers are joined
    lang: str = "lang"  # of a clip: any code
    answer: str = "answer"  # of a system; else the likeliest of its scores
    probability: str = "probability"  # of the answer, 0 to 1; else that of the scores
    scores: str = "scores"  # code → probability, or pairs of these


class LidTable(Section):
    """A Parquet file or a folder of them, JSON lines or tab-separated values."""

    path: str  # of the table
    columns: LidColumns = LidColumns()


class Lid(Section):
    """Clips whose language is known, and what systems said of them, by ids, or line by line where there are none."""

    rows: LidTable
    systems: dict[str, LidTable] = Field(min_length=1)  # the others are compared with the first
    # Of the answers; calibration errors need probabilities
    measures: Once[LidMeasure] = ["accuracy", "macro_f1", "calibration_error"]
    bins: PositiveInt = 15  # of calibration errors

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        systems = {name: one.model_copy(update={"path": beside(file, one.path)}) for name, one in self.systems.items()}
        rows = self.rows.model_copy(update={"path": beside(file, self.rows.path)})
        return self.model_copy(update={"rows": rows, "systems": systems})


BoundaryMeasure = Literal["f1", "precision", "recall", "r_value", "span_recall", "speech_f1"]


class BoundaryColumns(Section):
    """Columns of tables of spans. They are read where they are there."""

    recording: str = "uri"  # a path or a name; of both tables the ends of paths must be the same
    start: str = "start"  # of a span, in `unit`
    end: str = "end"  # of a span, in `unit`
    lang: str = "lang"  # of a recording whose boundaries are known


class Spans(Section):
    """Spans of recordings: a Parquet file or a folder of them, JSON lines, tab-separated values, or a run's folder."""

    path: str  # of the table or the run
    unit: Literal["samples", "seconds"] = "samples"  # samples are at 16 kHz
    columns: BoundaryColumns = BoundaryColumns()


class Boundaries(Section):
    """Recordings whose boundaries are known, and those that systems found in them."""

    truth: Spans
    systems: dict[str, Spans] = Field(min_length=1)  # the others are compared with the first
    # Of boundaries; span_recall of whole spans, speech_f1 of the time that is speech
    measures: Once[BoundaryMeasure] = ["f1", "precision", "recall", "span_recall", "speech_f1"]
    tolerance: NonNegativeFloat = 0.25  # seconds between a boundary and one that counts as found: NIST's collar
    merge: NonNegativeFloat = 0.02  # seconds: boundaries that are closer are one
    stretch_seconds: PositiveFloat = 60  # drawn for intervals where there are fewer than 20 recordings

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        systems = {name: one.model_copy(update={"path": beside(file, one.path)}) for name, one in self.systems.items()}
        truth = self.truth.model_copy(update={"path": beside(file, self.truth.path)})
        return self.model_copy(update={"truth": truth, "systems": systems})
