"""What units are made of, and the configuration of a training of them: one YAML file, checked strictly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.training_settings import SpeechSource
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml

Kind = Literal["fbank", "whisper", "wav2vec2", "hubert", "w2v-bert", "sonar", "student"]

FRAMES_PER_UNIT = 256  # sampled by default; faiss takes no more for a centroid either
_MODELS = {
    "fbank": "",
    "whisper": "whisper-base",
    "wav2vec2": "xls-r-1b",
    "hubert": "hubert",
    "w2v-bert": "w2v-bert-2.0",
    "sonar": "sonar-speech-eng",
    "student": "student",
}
_WHISPER_SECONDS = 28.0
_MOST_SECONDS = 60.0  # memory grows with the square of a window's length


class FeatureChoice(Section):
    """Frames of speech, 50 a second: those of a layer of an encoder, or filter banks."""

    kind: Kind  # filter banks, or the encoder whose frames they are
    model: str | None = None  # a name of `models:`; by default whisper-base, xls-r-1b, hubert, w2v-bert-2.0, …
    # i: what layer i of the encoder makes, 0 what the first is given: `hidden_states[i]` of transformers (from 1 on;
    # code that counts layers from 0 calls it i - 1). Left out: the encoder's own output, normalised where it does that.
    layer: NonNegativeInt | None = None
    window_seconds: float | None = Field(None, ge=5)  # longer speech is heard in windows; 60, of whisper 28
    context_seconds: float = Field(2.0, ge=0)  # that neighbouring windows hear of each other

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kind in ("fbank", "student") and self.layer is not None:
            raise ValueError(f"layer: kind {self.kind!r} has only one")
        if self.kind == "fbank" and (self.model is not None or self.window_seconds is not None):
            raise ValueError("kind 'fbank' has no model and no windows")
        if self.kind == "whisper" and self.seconds > _WHISPER_SECONDS:
            raise ValueError(f"window_seconds: Whisper hears {_WHISPER_SECONDS:g} s at a time")
        if 2 * self.context_seconds > self.seconds / 2:
            raise ValueError("context_seconds: both contexts together are more than half a window")
        return self

    @property
    def model_name(self) -> str:
        """The name of the model; empty where there is none."""
        return self.model or _MODELS[self.kind]

    @property
    def seconds(self) -> float:
        """Of a window, at most."""
        return self.window_seconds or (_WHISPER_SECONDS if self.kind == "whisper" else _MOST_SECONDS)


class KMeansSettings(Section):
    """How centroids are found."""

    units: PositiveInt = 10_000  # centroids that are sought
    frames: PositiveInt | None = None  # sampled, as many of each language as there are; by default 256 for each unit
    per_utterance: PositiveInt | None = None  # of them, drawn from an utterance at most; by default all it has
    iterations: NonNegativeInt = 20  # of Lloyd's algorithm, at most
    # Each dimension of a frame divided by its standard deviation over the sample, so that all count alike. The paper
    # does not; frames of Whisper need it, in which the place in the window otherwise weighs more than the sound.
    scale: bool = False
    tolerance: float = Field(0.0, ge=0, lt=1)  # an iteration that lowers the objective by a smaller share is the last
    # Centroids to begin with: a .npy or .safetensors, or a directory that a training wrote. With no iterations they
    # are taken as they are, as published ones are, and no data is read.
    start: str | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if not self.iterations and self.start is None:
            raise ValueError("iterations: without any, give the centroids themselves with start")
        if self.scale and self.start is not None:
            raise ValueError("scale: centroids to begin with are taken as they are; leave one of both out")
        return self

    @property
    def num_frames(self) -> int:
        """Frames that are sampled, over all languages."""
        return self.frames or FRAMES_PER_UNIT * self.units


class UnitsSource(SpeechSource):
    """Speech in any number of languages; of a run, its corpus (audio: tgt_audio, lang_column: tgt_lang)."""

    kind: Literal["parquet", "folder", "espeak"]
    voices: list[str] = Field(default_factory=list)  # espeak: taken in turn; by default that of `lang`

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kind == "espeak" and not self.lang:
            raise ValueError("kind 'espeak' needs lang")
        if self.kind != "espeak" and self.voices:
            raise ValueError("voices are for kind 'espeak' only")
        return self


class UnitsData(Section):
    """What is heard."""

    sources: list[UnitsSource] = Field(min_length=1)
    min_seconds: float = Field(0.1, gt=0)  # of an utterance
    max_seconds: float = Field(60.0, gt=0)  # likewise


class UnitsResources(Section):
    """Where and how fast."""

    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is a GPU
    threads: PositiveInt | None = None  # of torch and faiss


class UnitsTrainingConfig(Section):
    """A whole training."""

    output: str  # folder of the training; the same command goes on in it
    seed: NonNegativeInt = 0  # of the sample and of the first centroids
    features: FeatureChoice
    kmeans: KMeansSettings = KMeansSettings()
    data: UnitsData | None = None
    models: dict[str, str] = Field(default_factory=dict)  # model name → local directory, before hub and packages
    resources: UnitsResources = UnitsResources()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kmeans.iterations and self.data is None:
            raise ValueError("data is missing: name the speech to learn from")
        if not self.kmeans.iterations and self.data is not None:
            raise ValueError("data: with kmeans.iterations 0 none is read; leave it out")
        return self

    def plan(self) -> dict[str, Any]:
        """The keys that change what is computed, where data and models have digests of their own."""
        kmeans = self.kmeans.model_dump(mode="json", exclude={"start", "iterations"})
        return {"seed": self.seed, "features": self.features.model_dump(mode="json"), "kmeans": kmeans}


def load_units_config(path: str, overrides: Sequence[str] = ()) -> UnitsTrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw, file = read_yaml(path, "'output', 'features' and 'data'"), Path(path)
    for override in overrides:
        apply_override(raw, override)
    config = checked(UnitsTrainingConfig, raw, path)
    update: dict[str, Any] = {"models": {name: beside(file, folder) for name, folder in config.models.items()}}
    if config.kmeans.start is not None:
        update["kmeans"] = config.kmeans.model_copy(update={"start": beside(file, config.kmeans.start)})
    if config.data is not None:
        sources = [source.beside(file) for source in config.data.sources]
        update["data"] = config.data.model_copy(update={"sources": sources})
    return config.model_copy(update=update)
