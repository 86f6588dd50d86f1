"""The configuration of a training: one YAML file, checked strictly, with `key=value` overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.embedders.student.config import StudentChoice
from seamlessalign.training_settings import (
    OptimiserSettings,
    SoundChangeSettings,
    SpeechData,
    SpeechSource,
    TrainingSettings,
    ValidationSettings,
    read_training,
)
from seamlessalign.typed_config import Section, beside


class SourceConfig(SpeechSource):
    """Utterances and what they say; or, of kind `text`, parallel texts: lines of JSON, each an object of texts that
    mean the same, by language.
    """

    kind: Literal["parquet", "folder", "espeak", "text"]
    text: str = "text"  # column of what is said
    # Language → column with the translation into it; of espeak: a text file, line by line.
    translations: dict[Lang, str] = Field(default_factory=dict)
    voices: list[str] = Field(default_factory=list)  # espeak: taken in turn, such as fr, fr+f2, fr+m3

    def beside(self, file: Path) -> Self:
        moved = super().beside(file)
        if self.kind != "espeak":
            return moved
        return moved.model_copy(
            update={"translations": {lang: beside(file, place) for lang, place in self.translations.items()}}
        )

    @model_validator(mode="after")
    def _fitting(self) -> "SourceConfig":
        if self.kind == "espeak" and not (self.lang and self.voices):
            raise ValueError("kind 'espeak' needs lang and voices")
        if self.kind != "espeak" and self.voices:
            raise ValueError("voices are for kind 'espeak' only")
        if self.kind == "text" and (self.lang or self.audio or self.translations):
            raise ValueError("kind 'text' has its languages in each line: leave out lang, audio and translations")
        if self.lang in self.translations:
            raise ValueError(f"translations into {self.lang}, which is the language of the source itself")
        return self


class DataConfig(SpeechData):
    """What is heard, and which of it is set aside."""

    train: list[SourceConfig] = Field(min_length=1)
    validation: list[SourceConfig] = Field(default_factory=list)  # by default a share of the texts of `train`
    validation_share: float = Field(0.05, gt=0, lt=1)
    min_seconds: float = Field(0.3, gt=0)  # of an utterance
    max_seconds: float = Field(20.0, gt=0, le=28)
    max_chars: PositiveInt = 1000  # of what is said; a longer one is set aside


class TextConfig(Section):
    """Lessons from sources of kind `text`: one text of each item and epoch, and what it is the translation of."""

    translation: Lang = "eng"  # every item has a text in it; the student learns its row
    # Language → how often it is drawn, beside `other_languages` for all the others of an item together.
    languages: dict[Lang, float] = Field(default_factory=dict)
    other_languages: float = Field(1.0, ge=0)  # weight of the languages that `languages` does not name
    max_words: PositiveInt | None = None  # of the translation
    noise: float = Field(0.0, ge=0, le=1)  # share of texts that are changed as a poor transcriber might have them

    @model_validator(mode="after")
    def _fitting(self) -> "TextConfig":
        negative = [lang for lang, weight in self.languages.items() if weight < 0]
        if negative:
            raise ValueError(f"languages: the weight of {negative[0]} is below 0")
        if not self.other_languages and not any(self.languages.values()):
            raise ValueError("give a language, or other_languages, a weight above 0")
        return self


class SpansConfig(Section):
    """Utterances joined to recordings, of which spans are taught."""

    utterances: PositiveInt = 1  # of a recording, at most
    runs: NonNegativeInt = 0  # spans of several neighbouring utterances, from each recording and epoch
    max_run: int = Field(3, ge=2)  # utterances of such a span
    min_gap_seconds: float = Field(0.15, ge=0)  # silence between utterances
    max_gap_seconds: float = Field(1.0, ge=0)  # likewise, drawn between both
    # Share of recordings that the backbone hears in one piece, pauses and all: spans are then parts of what it heard.
    one_piece: float = Field(0.0, ge=0, le=1)
    # Share of utterances that also come cut off in the middle, as what their text must not find (contrastive loss).
    cut_off: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _fitting(self) -> "SpansConfig":
        if self.min_gap_seconds > self.max_gap_seconds:
            raise ValueError(f"min_gap_seconds {self.min_gap_seconds:g} is above max_gap_seconds")
        if self.utterances == 1 and (self.runs or self.one_piece):
            raise ValueError("runs and one_piece need utterances of 2 or more: join them to recordings")
        return self


class AugmentConfig(SoundChangeSettings):
    """What is done to speech; the same for the same seed, epoch and recording."""

    variants: PositiveInt | None = None  # epochs until the same come again; by default never
    min_snr_db: float = 5.0
    max_snr_db: float = 30.0
    mask: float = Field(0.0, ge=0, lt=1)  # share of a recording's frames that are zero
    mask_frames: PositiveInt = 10  # that one mask covers

    @property
    def changes_sound(self) -> bool:
        """Whether anything is done before the backbone hears it."""
        return bool(self.noise or self.speed or self.gain_db)


class TargetsConfig(Section):
    """The teacher's rows: of the transcription, and of translations where there are any."""

    translations: Literal["none", "mean", "terms"] = "none"  # mean: in one row; terms: a loss of their own
    weight: float = Field(1.0, gt=0)  # of a translation
    own_weight: float = Field(1.0, ge=0)  # of the transcription
    centre: bool = True  # subtract the means of the teacher's card
    centre_student: bool = False  # subtract the same means from the student's rows, before losses and measures

    @model_validator(mode="after")
    def _one_at_least(self) -> "TargetsConfig":
        if not self.own_weight and self.translations == "none":
            raise ValueError("own_weight 0 leaves no target where translations are none")
        return self


class LossesConfig(Section):
    """Weights of the losses, and the temperature of the contrastive one."""

    mse: float = Field(0.0, ge=0)  # weight: mean squared distance of rows from their targets
    cosine: float = Field(0.0, ge=0)  # weight: 1 - cosine of rows and targets
    contrastive: float = Field(0.0, ge=0)  # weight: each row finds its own target among those of its batch
    temperature: float = Field(0.05, gt=0)  # of the contrastive loss
    # Contrastive: other translations whose rows each step draws at random, as what its rows must not find. With them
    # the loss is that of the way from rows to targets only.
    bank: NonNegativeInt = 0
    duplicate: float = Field(0.97, gt=0, le=1)  # cosine above which a row of the bank is no wrong one

    @model_validator(mode="after")
    def _one_at_least(self) -> "LossesConfig":
        if self.bank and not self.contrastive:
            raise ValueError("bank is for the contrastive loss: give contrastive a weight above 0")
        if not (self.mse or self.cosine or self.contrastive):
            raise ValueError("give mse, cosine or contrastive a weight above 0")
        return self


class OptimiserConfig(OptimiserSettings):
    """AdamW. With `accumulate`, contrastive rows are wrong in their own batch only."""

    batch: PositiveInt = 64  # utterances, over all processes
    backbone_lr: float | None = Field(None, gt=0)  # of a trained backbone; by default `lr`


class ValidationConfig(ValidationSettings):
    """Retrieval of held-out texts by their speech, and back; of translations by texts, where there is no sound."""

    max_items: PositiveInt = 500  # of each language


class TaughtStudent(StudentChoice):
    """The student, and where its weights come from."""

    init: str | None = None  # directory of a student of the same kind; by default they are random


class TrainingConfig(TrainingSettings):
    """A whole training."""

    student: TaughtStudent = TaughtStudent()
    data: DataConfig
    text: TextConfig = TextConfig()
    spans: SpansConfig = SpansConfig()
    augment: AugmentConfig = AugmentConfig()
    targets: TargetsConfig = TargetsConfig()
    losses: LossesConfig = LossesConfig(cosine=1.0, contrastive=1.0)
    optimiser: OptimiserConfig
    validation: ValidationConfig = ValidationConfig()
    cache: str | None = None  # folder for the frames of a frozen backbone, in float16
    models: dict[str, str] = Field(default_factory=dict)  # model name → local directory, before hub and packages

    @model_validator(mode="after")
    def _fitting(self) -> "TrainingConfig":
        if self.cache and self.student.train_backbone:
            raise ValueError("cache is for frozen backbones; the frames of one that is trained change")
        if self.cache and self.augment.changes_sound and self.augment.variants is None:
            raise ValueError("cache: give augment.variants, or no epoch ever meets the frames of another")
        if self.spans.cut_off and not self.losses.contrastive:
            raise ValueError("spans.cut_off needs losses.contrastive: only that one has negatives")
        kinds = {source.kind == "text" for source in (*self.data.train, *self.data.validation)}
        if len(kinds) > 1:
            raise ValueError(
                "data: a training has sources of kind text or of sound, not both; "
                "go on from a student that texts have taught with student.init"
            )
        if self.from_text:
            self._check_text()
            return self
        if self.text != TextConfig() or self.losses.bank:
            raise ValueError(f"{'losses.bank' if self.losses.bank else 'text'} is for sources of kind text")
        if self.targets.translations != "none" and not any(source.translations for source in self.data.train):
            raise ValueError("targets.translations: no source of data.train has translations")
        return self

    def _check_text(self) -> None:
        idle = [
            name
            for name, given, default in (
                ("spans", self.spans, SpansConfig()),
                ("augment", self.augment, AugmentConfig()),
                ("cache", self.cache, None),
                ("student.train_backbone", self.student.train_backbone, False),
            )
            if given != default
        ]
        if idle:
            raise ValueError(f"sources of kind text have no sound for {', '.join(idle)}")

    @property
    def from_text(self) -> bool:
        """Whether the lessons are texts that nobody spoke."""
        return self.data.train[0].kind == "text"

    def plan(self, *aside: str) -> dict[str, Any]:
        # the weights that `init` names are part of the digest
        return super().plan("cache", "models", "student.init", *aside) | {"cached": self.cache is not None}


def load_training_config(path: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    config, file = read_training(TrainingConfig, path, overrides), Path(path)
    update: dict[str, Any] = {
        "data": config.data.beside(file),
        "models": {name: beside(file, folder) for name, folder in config.models.items()},
    }
    backbone, init = config.student.backbone, config.student.init
    update["student"] = config.student.model_copy(
        update={
            "backbone": backbone.model_copy(
                update={"directory": beside(file, backbone.directory) if backbone.directory else None}
            ),
            "init": beside(file, init) if init else None,
        }
    )
    return config.model_copy(update=update)
