"""What configurations say of a system: where its outputs are, or how it is run."""

from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from seamlessalign.training.evaluation.rows import Columns
from seamlessalign.typed_config import Section, beside

_KINDS = ("path", "model", "whisper", "function")
# key → kinds of systems that it is for
_FOR = {
    "columns": ("path",),
    "noisy": ("path",),
    "directory": ("whisper",),
    "task": ("whisper",),
    "input": ("model", "function"),
    "chunk": ("model", "whisper", "function"),
    "device": ("model", "whisper"),
} | dict.fromkeys(
    ("vocoder", "speak", "speaker", "beam", "length_penalty", "no_repeat_ngram", "max_seconds", "precision", "batch"),
    ("model",),
)


class System(Section):
    """A system: a table of what it made, or a model, a Whisper or a function that is run on the rows."""

    path: str | None = None  # of what it made of the rows, by their ids, or line by line where there are none
    columns: Columns = Columns()
    noisy: dict[str, str] = {}  # noise and SNR, such as babble:-5 → the table of what it made of that

    model: str | None = None  # folder of a translation model, as `seamlessalign train unity` writes it
    whisper: str | None = None  # whisper-base, or whisper, any size, with a directory
    function: str | None = None  # package.module:name: (rows) -> of each a text, a waveform, both, or None

    input: Literal["speech", "text"] | None = None  # of the rows; may be left out where they have one of both
    chunk: PositiveInt = 128  # rows that are written at a time
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is a GPU

    directory: str | None = None  # of the Whisper's files
    task: Literal["transcribe", "translate"] | None = None  # by default as the languages of a row ask for

    vocoder: str | None = None  # folder of one that speaks in place of the model's own
    speak: bool | None = None  # by default where speech is measured, in the languages that the model speaks
    speaker: NonNegativeInt = 0  # row of the vocoder's table of speakers
    beam: PositiveInt = 5  # of text and of units
    length_penalty: float = 1.0  # the higher, the longer
    no_repeat_ngram: NonNegativeInt = 0  # of text
    max_seconds: PositiveFloat = 50.0  # longer speech is set aside
    precision: Literal["no", "fp16", "bf16"] = "no"  # no: float32
    batch: PositiveInt = 32  # rows that are translated at a time

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            told = " and ".join(kinds) or "none of them"
            raise ValueError(f"a system has one of {', '.join(_KINDS)}, and this one has {told}")
        for key in sorted(self.model_fields_set & _FOR.keys()):
            if kinds[0] not in _FOR[key]:
                raise ValueError(f"{key} is for systems with {' or '.join(_FOR[key])}, and this one has {kinds[0]}")
        return self

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        near = {
            key: beside(file, value)
            for key in ("path", "model", "directory", "vocoder")
            if (value := getattr(self, key)) is not None
        }
        noisy = {condition: beside(file, path) for condition, path in self.noisy.items()}
        return self.model_copy(update={**near, "noisy": noisy})
