"""The configuration of a training of a language identifier: one YAML file, checked strictly, with overrides."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang, Section, apply_override, beside, checked, read_yaml
from seamlessalign.lid.ecapa import EcapaSizes
from seamlessalign.training_resources import TrainingResources


class LidSource(Section):
    """Speech whose language is known: Parquet files, a folder with a manifest, or texts that espeak-ng reads out."""

    kind: Literal["parquet", "folder", "espeak"]
    # parquet: file, folder or pattern; folder: the folder, or its .tsv or .jsonl; espeak: a text file, a sentence a
    # line, or .jsonl, whose lines are objects of texts by language
    path: str
    lang: Lang | None = None  # where rows do not say
    languages: list[Lang] | None = None  # only these; by default all that there are
    audio: str | None = None  # column of the sound (audio), or of a file's path (path) in a folder's manifest
    lang_column: str = "lang"
    speaker_column: str = "speaker"  # where there is one, speakers are set aside for validation, not clips
    voices: dict[Lang, list[str]] = Field(default_factory=dict)  # espeak: of a language; by default its code
    variants: list[str] = Field(default_factory=list)  # espeak: added to a voice in turn, such as f2, m3, klatt
    words_per_minute: list[PositiveInt] = Field(default=[155])  # espeak: taken in turn
    max_items: PositiveInt | None = None  # of each language, the first so many
    weight: float = Field(1.0, gt=0)  # of a source among those of a language

    @model_validator(mode="after")
    def _fitting(self) -> "LidSource":
        if self.kind != "espeak" and (self.voices or self.variants):
            raise ValueError("voices and variants are for kind 'espeak' only")
        if self.kind == "espeak" and not self.path.endswith(".jsonl") and not self.lang:
            raise ValueError("kind 'espeak' needs lang, or a .jsonl file with texts by language")
        return self


class LidData(Section):
    """What is heard, and which of it is set aside."""

    train: list[LidSource] = Field(min_length=1)
    validation: list[LidSource] = Field(default_factory=list)  # by default a share of `train`
    validation_share: float = Field(0.1, gt=0, lt=1)  # of clips, or of speakers where they are named
    min_seconds: float = Field(0.2, gt=0)  # of a clip
    max_seconds: float = Field(120.0, gt=0)
    crop_seconds: float = Field(3.0, gt=0.5)  # what is heard at a time; shorter clips of one speaker are joined
    min_crop_seconds: float | None = Field(None, gt=0.5)  # each step draws its length between these two
    max_gap_seconds: float = Field(0.5, ge=0)  # silence between clips that are joined
    # Share of a language in a batch: its clips to this power. 0: all alike; 1: as in the data.
    balance: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> "LidData":
        if self.min_crop_seconds is not None and self.min_crop_seconds > self.crop_seconds:
            raise ValueError(f"min_crop_seconds {self.min_crop_seconds:g} is above crop_seconds {self.crop_seconds:g}")
        return self


class LidAugment(Section):
    """What is done to crops; the same for the same seed, step and place in the batch."""

    speed: float = Field(0.0, ge=0, lt=0.5)  # largest change, up or down; the pitch changes too
    reverb: float = Field(0.0, ge=0, le=1)  # share of crops that are heard in a room
    max_reverb_seconds: float = Field(0.8, gt=0)  # time in which its sound falls by 60 dB, at most
    noise: float = Field(0.0, ge=0, le=1)  # share with noise
    min_snr_db: float = 0.0
    max_snr_db: float = 15.0
    colour: float = Field(0.0, ge=0, le=1)  # share heard through a microphone or line that favours some frequencies
    gain_db: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "LidAugment":
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db:g} is above max_snr_db {self.max_snr_db:g}")
        return self


class LidOptimiser(Section):
    """Adam with the weight decay of VoxLingua107's recipe (L2, not decoupled)."""

    steps: PositiveInt
    batch: PositiveInt = 128  # crops, over all processes
    lr: float = Field(1e-3, gt=0)
    last_lr: float = Field(1e-4, ge=0)  # that the schedule falls to
    warmup: NonNegativeInt = 100  # steps
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(2e-6, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip: float = Field(5.0, gt=0)  # norm of the gradient

    @model_validator(mode="after")
    def _falling(self) -> "LidOptimiser":
        if self.last_lr > self.lr:
            raise ValueError(f"last_lr {self.last_lr:g} is above lr {self.lr:g}")
        return self


class LidValidation(Section):
    """Macro F1 of crops of held-out speech."""

    every: PositiveInt = 500  # steps
    patience: PositiveInt | None = None  # validations without a better one, after which training ends
    crops: PositiveInt = 50  # of each language
    # the lengths of crops that the last evaluation reports
    seconds: list[Annotated[float, Field(gt=0.5, le=60)]] = Field(default=[1.0, 3.0, 10.0], min_length=1)


class LidCalibrationChoice(Section):
    """How thresholds are fitted on the held-out crops when training ends."""

    rule: Literal["f1", "right", "precision"] = "f1"
    precision: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _fitting(self) -> "LidCalibrationChoice":
        if (self.precision is None) == (self.rule == "precision"):
            raise ValueError("precision goes with rule 'precision', and only with it")
        return self


class LidTrainingConfig(Section):
    """A whole training."""

    output: str
    seed: NonNegativeInt = 0
    model: EcapaSizes = EcapaSizes()
    data: LidData
    augment: LidAugment = LidAugment()
    optimiser: LidOptimiser
    validation: LidValidation = LidValidation()
    calibration: LidCalibrationChoice = LidCalibrationChoice()
    log_every: PositiveInt = 20  # steps
    checkpoint_every: PositiveInt = 200  # steps
    half_weights: bool = False  # the model's weights are written in float16
    resources: TrainingResources = TrainingResources()

    def plan(self) -> dict[str, Any]:
        """The keys that change what is computed; a training goes on only with the same ones."""
        aside = dict.fromkeys(("output", "resources", "checkpoint_every", "log_every"), True)
        return self.model_dump(mode="json", exclude=aside) | {"precision": self.resources.precision}


def load_lid_config(path: str, overrides: list[str] | None = None) -> LidTrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw = read_yaml(path, "'output', 'data' and 'optimiser'")
    for override in overrides or []:
        apply_override(raw, override)
    config = checked(LidTrainingConfig, raw, path)
    parts = {
        part: [
            source.model_copy(update={"path": beside(Path(path), source.path)}) for source in getattr(config.data, part)
        ]
        for part in ("train", "validation")
    }
    return config.model_copy(update={"data": config.data.model_copy(update=parts)})
