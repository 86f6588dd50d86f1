"""What a UnitY may start from, and the configuration by which one is put together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.training.unity.sizes import Size, SpeechKind
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml


class UnityStart(Section):
    """Folders of models, from which parts are taken; one that is named for a part comes before `unity`."""

    # a UnitY, or a SeamlessM4T model of transformers, also one that was saved for one task: all parts that it has
    unity: str | None = None
    # w2v-BERT 2.0 (`Wav2Vec2BertModel`, as `train w2v-bert` writes it too), UnitY or SeamlessM4T: the speech encoder
    speech_encoder: str | None = None
    text: str | None = None  # NLLB (`M2M100ForConditionalGeneration`), UnitY or SeamlessM4T: text encoder and decoder
    t2u: str | None = None  # UnitY, or SeamlessM4T of the first version
    vocoder: str | None = None  # as `train vocoder` writes it, UnitY or SeamlessM4T of the first version

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("names no model to start from")
        return self

    def beside(self, file: Path) -> Self:
        """The section with its paths taken from where a configuration file is."""
        folders = {part: beside(file, folder) for part, folder in self.model_dump().items() if folder}
        return self.model_copy(update=folders)


class StartConfig(Section):
    """A model to be put together, or made new where `start` is left out."""

    output: str  # folder of the model
    start: UnityStart | None = None
    size: Size | None = None  # of what is new
    vocabulary: str | None = None  # folder of a vocabulary of text; by default that of the part that reads text
    # units that it writes; by default those of the part that writes units, and none where there is no such part
    num_units: PositiveInt | None = None
    spoken: list[Lang] | None = None  # languages of units, with num_units; by default all that have text
    speech: SpeechKind = "conformer"  # structure of a new model's speech encoder
    seed: NonNegativeInt = 0  # of random weights

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.spoken and self.num_units is None:
            raise ValueError("spoken needs num_units")
        if self.start is not None and self.speech != "conformer":
            raise ValueError("speech is for models that start from nothing; a folder says its own structure")
        if self.start is None and (self.size is None or self.vocabulary is None):
            raise ValueError("a model that starts from nothing needs size and vocabulary")
        return self


def load_start_config(path: str, overrides: Sequence[str] = ()) -> StartConfig:
    """Read a YAML file and apply overrides; its paths are relative to it. Raises ConfigError."""
    raw = read_yaml(path, "'output' and 'start'")
    for override in overrides:
        apply_override(raw, override)
    config, file = checked(StartConfig, raw, path), Path(path)
    places = {
        "output": beside(file, config.output),
        "vocabulary": beside(file, config.vocabulary) if config.vocabulary else None,
        "start": config.start.beside(file) if config.start else None,
    }
    return config.model_copy(update=places)
