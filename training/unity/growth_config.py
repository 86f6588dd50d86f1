"""The configuration by which a model learns of further languages: one YAML file, checked strictly, with overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.training.vocabulary_config import TextSource
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml


class GrowthConfig(Section):
    """Languages that get tags, and pieces of their own where there are texts to learn them from."""

    model: str  # folder of a UnitY
    output: str  # folder of the grown one
    languages: list[Lang] = []  # that get a tag for text
    spoken: list[Lang] = []  # that get a tag for units, and a row of the vocoder's table of languages
    # A new language's rows begin as those of a language that the model has; by default as the mean of all
    like: dict[Lang, Lang] = {}
    pieces: PositiveInt | None = None  # learnt from `data`; those that are new are added, for `languages` only
    data: list[TextSource] = []
    max_bytes: PositiveInt = 4192  # of a text in UTF-8; longer ones are set aside
    character_coverage: float = Field(0.9995, ge=0.98, le=1)  # share of letters that have a piece of their own
    seed: NonNegativeInt = 0  # of which texts are drawn

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if not self.languages and not self.spoken:
            raise ValueError("names no language: give languages, spoken, or both")
        for name in ("languages", "spoken"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: one is there twice")
        if (self.pieces is None) != (not self.data):
            raise ValueError("pieces and data go together: texts, and how many pieces are learnt from them")
        if self.pieces is not None and not self.languages:
            raise ValueError("pieces are for new languages of text; give languages")
        return self


def load_growth_config(path: str, overrides: Sequence[str] = ()) -> GrowthConfig:
    """Read a YAML file and apply overrides; its paths are relative to it. Raises ConfigError."""
    raw = read_yaml(path, "'model', 'output' and 'languages'")
    for override in overrides:
        apply_override(raw, override)
    config, file = checked(GrowthConfig, raw, path), Path(path)
    places = {"model": beside(file, config.model), "output": beside(file, config.output)}
    return config.model_copy(update={**places, "data": [source.beside(file) for source in config.data]})
