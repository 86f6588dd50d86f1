"""The configuration of a training of a language identifier: one YAML file, checked strictly, with overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.lid.ecapa import EcapaSizes
from seamlessalign.training_settings import (
    OptimiserSettings,
    SoundChangeSettings,
    SpeechData,
    SpeechSource,
    TrainingSettings,
    ValidationSettings,
    read_training,
)
from seamlessalign.training_steps import Schedule
from seamlessalign.typed_config import Section


class LidSource(SpeechSource):
    """Speech whose language is known. Of `espeak` the path may be a .jsonl, whose lines are texts by language.

    `max_items` are of each language.
    """

    kind: Literal["parquet", "folder", "espeak"]
    languages: list[Lang] | None = None  # only these; by default all that there are
    speaker_column: str = "speaker"  # where there is one, speakers are set aside for validation, not clips
    voices: dict[Lang, list[str]] = Field(default_factory=dict)  # espeak: of a language; by default its code
    variants: list[str] = Field(default_factory=list)  # espeak: added to a voice in turn, such as f2, m3, klatt
    weight: float = Field(1.0, gt=0)  # of a source among those of a language

    @model_validator(mode="after")
    def _fitting(self) -> "LidSource":
        if self.kind != "espeak" and (self.voices or self.variants):
            raise ValueError("voices and variants are for kind 'espeak' only")
        if self.kind == "espeak" and not self.path.endswith(".jsonl") and not self.lang:
            raise ValueError("kind 'espeak' needs lang, or a .jsonl file with texts by language")
        return self


class LidData(SpeechData):
    """What is heard, and which of it is set aside: of clips, or of speakers where they are named."""

    train: list[LidSource] = Field(min_length=1)
    validation: list[LidSource] = Field(default_factory=list)
    min_seconds: float = Field(0.2, gt=0)  # of a clip
    max_seconds: float = Field(120.0, gt=0)
    crop_seconds: float = Field(3.0, gt=0.5)  # what is heard at a time; shorter clips of one speaker are joined
    min_crop_seconds: float | None = Field(None, gt=0.5)  # each batch draws its length between these two
    max_gap_seconds: float = Field(0.5, ge=0)  # silence between clips that are joined
    # Share of a language in a batch: its clips to this power. 0: all alike; 1: as in the data.
    balance: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> "LidData":
        if self.min_crop_seconds is not None and self.min_crop_seconds > self.crop_seconds:
            raise ValueError(f"min_crop_seconds {self.min_crop_seconds:g} is above crop_seconds {self.crop_seconds:g}")
        return self


class LidAugment(SoundChangeSettings):
    """What is done to crops; the same for the same seed, batch and place in it."""

    reverb: float = Field(0.0, ge=0, le=1)  # share of crops that are heard in a room
    max_reverb_seconds: float = Field(0.8, gt=0)  # time in which its sound falls by 60 dB, at most
    colour: float = Field(0.0, ge=0, le=1)  # share heard through a microphone or line that favours some frequencies


class LidOptimiser(OptimiserSettings):
    """Adam with the weight decay of VoxLingua107's recipe (L2, not decoupled)."""

    batch: PositiveInt = 128  # crops, over all processes; batch normalisation sees one batch at a time
    last_lr: float = Field(1e-4, ge=0)
    schedule: Schedule = "linear"
    weight_decay: float = Field(2e-6, ge=0)  # added to the gradient
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # share of the target that all languages get alike
    clip: float = Field(5.0, gt=0)


class LidValidation(ValidationSettings):
    """Macro F1 of crops of held-out speech."""

    every: PositiveInt = 500  # steps
    crops: PositiveInt = 50  # of each language
    # the lengths of crops that the last evaluation reports
    seconds: list[Annotated[float, Field(gt=0.5, le=60)]] = Field(default=[1.0, 3.0, 10.0], min_length=1)


class LidCalibrationChoice(Section):
    """How thresholds are fitted on the held-out crops when training ends."""

    rule: Literal["f1", "right", "precision"] = "f1"  # highest F1, what is likelier right than wrong, or a precision
    precision: float | None = Field(None, gt=0, le=1)  # the wished one, with that rule

    @model_validator(mode="after")
    def _fitting(self) -> "LidCalibrationChoice":
        if (self.precision is None) == (self.rule == "precision"):
            raise ValueError("precision goes with rule 'precision', and only with it")
        return self


class LidTrainingConfig(TrainingSettings):
    """A whole training."""

    model: EcapaSizes = EcapaSizes()
    data: LidData
    augment: LidAugment = LidAugment()
    optimiser: LidOptimiser
    validation: LidValidation = LidValidation()
    calibration: LidCalibrationChoice = LidCalibrationChoice()


def load_lid_config(path: str, overrides: Sequence[str] = ()) -> LidTrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    config = read_training(LidTrainingConfig, path, overrides)
    return config.model_copy(update={"data": config.data.beside(Path(path))})
