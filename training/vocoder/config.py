"""The configuration of a training of a unit vocoder: one YAML file, checked strictly, with overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.training.vocoder.sizes import DiscriminatorSizes, VocoderSizes
from seamlessalign.training_settings import (
    OptimiserSettings,
    SpeechData,
    SpeechSource,
    TrainingSettings,
    ValidationSettings,
    read_training,
)
from seamlessalign.typed_config import Section, beside


class VocoderSource(SpeechSource):
    """Speech with its units: rows that have both, or a run's corpus, whose table of units is beside it."""

    kind: Literal["parquet", "folder", "run"]  # run: the path is a run's folder, with corpus/ and units/
    units: str | None = None  # run: where the table of units is, if not in the run's folder
    # parquet, folder: columns. Units are lists of numbers, or text with spaces in a .tsv. Where there is no column of
    # durations, there is a unit for every 20 ms.
    units_column: str = "units"
    durations_column: str = "durations"  # frames of 20 ms that each unit lasts
    speaker_column: str = "speaker"  # whose voice it is
    speaker: str | None = None  # where rows do not say

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.units is not None and self.kind != "run":
            raise ValueError("units is for kind 'run' only; of other kinds, name units_column")
        if self.kind == "run" and (self.audio or self.lang):
            raise ValueError("audio and lang are not for kind 'run', whose tables say both")
        return self

    def beside(self, file: Path) -> Self:
        found = super().beside(file)
        return found.model_copy(update={"units": beside(file, found.units)}) if found.units is not None else found


class VocoderData(SpeechData):
    """What is learnt to be said, and which of it is held out."""

    train: list[VocoderSource] = Field(min_length=1)
    validation: list[VocoderSource] = Field(default_factory=list)
    min_seconds: float = Field(0.56, gt=0)  # of an utterance
    max_seconds: float = Field(30.0, gt=0)
    segment: int = Field(28, ge=4)  # frames of 20 ms that are heard at a time, of a random place: 8960 samples


class VocoderLosses(Section):
    """Weights of the generator's losses: HiFi-GAN's (arXiv 2010.05646, section 2.3)."""

    mel: float = Field(45.0, gt=0)  # weight: L1 of log-mel spectrograms
    features: float = Field(2.0, ge=0)  # weight: L1 of what discriminators make of both
    duration: float = Field(1.0, gt=0)  # weight: squared error of log durations
    # The first so many steps are without discriminators, which cost most of a step: what is said follows from the mel
    # spectrogram alone, how natural it sounds from them.
    mel_only_steps: NonNegativeInt = 0


class VocoderOptimiser(OptimiserSettings):
    """HiFi-GAN's: AdamW, for the generator and the discriminators alike."""

    batch: PositiveInt = 16  # segments, over all processes
    lr: float = Field(2e-4, gt=0)
    discriminator_lr: float | None = Field(None, gt=0)  # by default as `lr`
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.8, 0.99)
    # The norm is of both networks together. Losses that compete have large gradients, by which Adam does not go: this
    # is against what bursts.
    clip: float = Field(1000.0, gt=0)


class VocoderValidation(ValidationSettings):
    """How far the mel spectrograms of held-out utterances are from what is made of their units."""

    # Which model is kept: that of the last validation, as HiFi-GAN's authors did, or of the one with the lowest mel L1;
    # of those with discriminators, once there are any. These raise mel L1 although speech sounds better by them.
    choose: Literal["last", "best"] = "last"
    every: PositiveInt = 1000  # steps
    items: PositiveInt = 50  # the first so many of what is held out
    samples: NonNegativeInt = 2  # of them are written as sound and pictures, whenever a model is

    @model_validator(mode="after")
    def _patient(self) -> Self:
        if self.patience is not None and self.choose == "last":
            raise ValueError("patience waits for a better model: it goes with choose: best")
        return self


class VocoderTrainingConfig(TrainingSettings):
    """A whole training."""

    model: VocoderSizes = VocoderSizes()
    discriminators: DiscriminatorSizes = DiscriminatorSizes()
    languages: list[Lang] | None = None  # rows of the model's table, in order; by default those of the data
    data: VocoderData
    losses: VocoderLosses = VocoderLosses()
    optimiser: VocoderOptimiser
    validation: VocoderValidation = VocoderValidation()

    @model_validator(mode="after")
    def _languages_fit(self) -> Self:
        if self.languages is not None and len(set(self.languages)) < len(self.languages):
            raise ValueError("languages: none can be there twice")
        return self


def load_vocoder_config(path: str, overrides: Sequence[str] = ()) -> VocoderTrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    config = read_training(VocoderTrainingConfig, path, overrides)
    return config.model_copy(update={"data": config.data.beside(Path(path))})
