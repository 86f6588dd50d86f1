"""The configuration of a training of a vocabulary: one YAML file, checked strictly, with overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from seamlessalign.config import Lang
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml


class TextSource(Section):
    """Texts to learn from."""

    # parquet: file, folder or pattern, such as a run's corpus; lines: a text file, a text a line; parallel: lines of
    # JSON, each an object of texts by language
    kind: Literal["parquet", "lines", "parallel"]
    path: str  # file, folder or pattern
    lang: Lang | None = None  # of lines
    # parquet: column of texts → the column that has their language, or this language itself
    columns: dict[str, str] = {"src_text": "src_lang", "tgt_text": "tgt_lang"}
    max_items: PositiveInt | None = None  # the first so many texts

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kind == "lines" and self.lang is None:
            raise ValueError("kind 'lines' needs lang")
        if self.kind == "parquet" and not self.columns:
            raise ValueError("columns names no column of texts")
        return self

    def beside(self, file: Path) -> Self:
        """The source with its path taken from where a configuration file is."""
        return self.model_copy(update={"path": beside(file, self.path)})


class VocabularyConfig(Section):
    """What is learnt, how many pieces of it, and how much of each language."""

    output: str  # the folder, made or written over
    data: list[TextSource] = Field(min_length=1)
    size: PositiveInt = 8000  # pieces, `<unk> <s> </s>` among them; tags and `<pad>` come on top
    model: Literal["bpe", "unigram"] = "bpe"  # pieces are joined in the order they were learnt; or the likeliest cut
    character_coverage: float = Field(0.9995, ge=0.98, le=1)  # share of letters that have a piece of their own
    # SentencePiece's rules, by which a text is changed before it is cut
    normalisation: Literal["nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity"] = "nmt_nfkc"
    languages: list[Lang] | None = None  # that get a tag, in this order; by default all that have texts, sorted
    # A language with n texts is drawn from with probability ∝ n^(1/temperature): 1 is as in the data, 5 as NLLB had it
    temperature: float = Field(5.0, ge=1)
    texts: PositiveInt | None = None  # drawn in all; by default as many as there are
    max_bytes: PositiveInt = 4192  # of a text in UTF-8; longer ones are set aside
    seed: NonNegativeInt = 0  # of which texts are drawn
    threads: PositiveInt = 1  # of SentencePiece; of unigram models another number changes last digits of scores

    @field_validator("languages")
    @classmethod
    def _distinct(cls, languages: list[str] | None) -> list[str] | None:
        if languages is not None and len(set(languages)) < len(languages):
            raise ValueError("a language is there twice")
        return languages


def load_vocabulary_config(path: str, overrides: Sequence[str] = ()) -> VocabularyConfig:
    """Read a YAML file and apply overrides; its paths are relative to it. Raises ConfigError."""
    raw = read_yaml(path, "'output' and 'data'")
    for override in overrides:
        apply_override(raw, override)
    config = checked(VocabularyConfig, raw, path)
    file = Path(path)
    data = [source.beside(file) for source in config.data]
    return config.model_copy(update={"output": beside(file, config.output), "data": data})
