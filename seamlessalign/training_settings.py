"""What the configurations of all trainings have in common: sections with keys, which trainers extend."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.slurm_config import SlurmTrainingConfig
from seamlessalign.training_steps import Schedule, rate_factor
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml

TRAINING_KEYS = "'output', 'data' and 'optimiser'"  # that errors name of a file that holds something else


class SpeechSource(Section):
    """Speech to learn from: Parquet files, a folder with a manifest, or texts that espeak-ng reads out."""

    needs_lang: ClassVar[bool] = True  # whether rows must say their language, where `lang` does not

    kind: str  # of a source
    # parquet: file, folder or pattern; folder: the folder, or its .tsv or .jsonl; espeak: a text file, a sentence a
    # line; or what else a trainer can read
    path: str
    lang: Lang | None = None  # where rows do not say
    audio: str | None = None  # column of the sound (audio), or of a file's path (path) in a folder's manifest
    lang_column: str = "lang"  # column of the language of a row
    words_per_minute: list[PositiveInt] = Field(default=[155], min_length=1)  # espeak: taken in turn
    max_items: PositiveInt | None = None  # the first so many

    def beside(self, file: Path) -> Self:
        """The source with its paths taken from where a configuration file is."""
        return self.model_copy(update={"path": beside(file, self.path)})


class SpeechData(Section):
    """What is heard, and which of it is set aside."""

    train: Sequence[SpeechSource] = Field(min_length=1)
    validation: Sequence[SpeechSource] = ()  # by default a share of `train`
    validation_share: float = Field(0.1, gt=0, lt=1)  # of `train`, where no `validation` is given
    min_seconds: float = Field(gt=0)  # of a stretch of speech
    max_seconds: float = Field(gt=0)  # likewise

    def beside(self, file: Path) -> Self:
        """The data with all paths taken from where a configuration file is."""
        update = {part: [source.beside(file) for source in getattr(self, part)] for part in ("train", "validation")}
        return self.model_copy(update=update)


class SoundChangeSettings(Section):
    """What is done to speech that is learnt."""

    speed: float = Field(0.0, ge=0, lt=0.5)  # largest change, up or down; the pitch changes too
    noise: float = Field(0.0, ge=0, le=1)  # share with noise
    min_snr_db: float = 0.0  # of that noise, drawn between this and the next
    max_snr_db: float = 15.0  # of that noise
    gain_db: float = Field(0.0, ge=0)  # largest change, up or down

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db:g} is above max_snr_db {self.max_snr_db:g}")
        return self


class OptimiserSettings(Section):
    """Adam, how long, and how fast it goes."""

    steps: PositiveInt  # of the whole training
    accumulate: PositiveInt = 1  # batches whose gradients make one step
    lr: float = Field(1e-3, gt=0)  # learning rate at its highest
    last_lr: float = Field(0.0, ge=0)  # that the schedule falls to, or (inverse_sqrt) not below
    warmup: NonNegativeInt = 100  # steps
    # behind the warm-up: cosine, linear: falling to `last_lr` at the last step; inverse_sqrt; or constant
    schedule: Schedule = "cosine"
    # Decay of Adam's means of gradients and of their squares
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)  # of Adam's denominator
    weight_decay: float = Field(0.01, ge=0)  # decoupled, as in AdamW, where a trainer does not say otherwise
    clip: float = Field(1.0, gt=0)  # norm of the gradient

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if self.last_lr > self.lr:
            raise ValueError(f"last_lr {self.last_lr:g} is above lr {self.lr:g}")
        return self

    def adam(self) -> dict[str, Any]:
        """The arguments of torch's Adam and AdamW."""
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}

    def rate(self, step: int) -> float:
        """The factor on the learning rate at a step."""
        return rate_factor(step, self.steps, self.warmup, self.schedule, self.last_lr / self.lr)


class ValidationSettings(Section):
    """How often what is held out is measured."""

    at_start: bool = False  # also before the first step
    every: PositiveInt = 200  # steps
    patience: PositiveInt | None = None  # validations without a better one, after which training ends


def _no(value: object) -> object:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainingResources(Section):
    """Where and how fast; nothing here changes what is computed, but for the rounding of another precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is a GPU
    precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_no)] = "no"  # no: float32
    workers: NonNegativeInt = 0  # processes that load and change data, of each training process
    prefetch: PositiveInt = 2  # batches that each of them has ready, or is at
    threads: PositiveInt | None = None  # of torch
    slurm: SlurmTrainingConfig = SlurmTrainingConfig()  # with --executor slurm


class TrainingSettings(Section):
    """What every training is told."""

    output: str  # folder of the training; the same command goes on in it
    seed: NonNegativeInt = 0  # of all random choices
    optimiser: OptimiserSettings
    validation: ValidationSettings = ValidationSettings()
    log_every: PositiveInt = 20  # steps
    checkpoint_every: PositiveInt = 200  # steps
    keep_checkpoints: PositiveInt = 2  # the last so many; the best model is kept beside them
    tensorboard: bool = True  # event files beside the lines of metrics
    half_weights: bool = False  # the model's weights are written in float16
    resources: TrainingResources = TrainingResources()

    def plan(self, *aside: str) -> dict[str, Any]:
        """The keys that change what is computed; a training goes on only with the same ones.

        aside: more sections, or dotted keys, that change nothing.
        """
        unchanging = ("output", "resources", "checkpoint_every", "keep_checkpoints", "log_every", "tensorboard")
        excluded: dict[str, Any] = dict.fromkeys(unchanging, True)
        for key in aside:
            section, _, name = key.partition(".")
            excluded[section] = {name} if name else True
        return self.model_dump(mode="json", exclude=excluded) | {"precision": self.resources.precision}


Settings = TypeVar("Settings", bound=TrainingSettings)


def read_training(kind: type[Settings], path: str, overrides: Sequence[str] = ()) -> Settings:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are as they are written.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw = read_yaml(path, TRAINING_KEYS)
    for override in overrides:
        apply_override(raw, override)
    return checked(kind, raw, path)
