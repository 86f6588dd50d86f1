"""Sections of an evaluation's configuration for learned measures: BLASER 2.0 and COMET."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from seamlessalign.typed_config import Once, Section, beside

BlaserMeasure = Literal["blaser_ref", "blaser_qe", "blaser_unsupervised", "blaser_unsupervised_qe"]
CometMeasure = Literal["comet", "asr_comet"]
Modality = Literal["text", "speech"]


class Blaser(Section):
    """BLASER 2.0, and cosines without anything learnt, of embeddings of source, translation and reference."""

    # blaser_ref with references, blaser_qe without; unsupervised: means of cosines, without weights
    measures: Once[BlaserMeasure] = Field(["blaser_unsupervised"], min_length=1)
    ref: str | None = None  # weights of blaser_ref, .pt as published or .safetensors
    qe: str | None = None  # those of blaser_qe
    text: str | None = "e5-small"  # embedder of texts
    speech: str | None = None  # embedder of speech, into the same space
    directories: dict[str, str] = {}  # model name → where it lies
    source: Literal["auto", "text", "speech"] = "auto"  # auto: speech where `speech` is given and the rows have it
    reference: Modality = "text"  # which of a row's references is embedded
    translations: Once[Modality] = Field(["text", "speech"], min_length=1)  # of what a system made, where it made it
    lowest: float = 1.0  # what a missing output gets of ref and qe: XSTS, which they were taught, ends there
    device: str = "cpu"  # or cuda, cuda:1

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        for name in ("ref", "qe"):
            if f"blaser_{name}" in self.measures and getattr(self, name) is None:
                raise ValueError(f"blaser_{name} needs the file of its weights: give {name}")
        if self.text is None and self.speech is None:
            raise ValueError("give text, speech or both: names of embedders")
        for side in ("source", "reference") if self.uses_references else ("source",):
            what = getattr(self, side)
            if what != "auto" and getattr(self, what) is None:
                raise ValueError(f"{side} is {what}, which needs the key {what}: an embedder of {what}")
        return self

    @property
    def uses_references(self) -> bool:
        return not all(kind.endswith("qe") for kind in self.measures)

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        near = {name: beside(file, path) for name in ("ref", "qe") if (path := getattr(self, name)) is not None}
        places = {name: beside(file, place) for name, place in self.directories.items()}
        return self.model_copy(update={**near, "directories": places})


class Comet(Section):
    """COMET, through its package; it runs in a process of its own, which another Python may run."""

    model: str  # a checkpoint, the folder of one, or a name on the hub such as Unbabel/wmt22-comet-da
    measures: Once[CometMeasure] = Field(["comet"], min_length=1)  # asr_comet: of what is heard in speech
    python: str | None = None  # of an environment that has unbabel-comet; by default the one that runs this
    trusted: bool = False  # load a checkpoint that holds more than tensors and plain values, which can run code
    batch: PositiveInt = 16  # rows that are scored at a time
    device: Literal["cpu", "cuda"] = "cpu"  # where it runs

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file; a model that is not there is a name."""
        near = {}
        if Path(beside(file, self.model)).exists():
            near["model"] = beside(file, self.model)
        if self.python is not None and "/" in self.python:
            near["python"] = beside(file, self.python)
        return self.model_copy(update=near)
