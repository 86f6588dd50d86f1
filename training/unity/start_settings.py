"""What a training of UnitY may start from, as a part of its configuration."""

from pathlib import Path
from typing import Self

from pydantic import model_validator

from seamlessalign.typed_config import Section, beside


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
