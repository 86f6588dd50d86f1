"""The configuration of a pre-training of w2v-BERT 2.0: one YAML file, checked strictly, with overrides.

Defaults are the published numbers (SeamlessM4T, arXiv 2308.11596, section 4.1, and Meta's public code); where nothing
is published a comment says that the choice is ours.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from seamlessalign.errors import ConfigError
from seamlessalign.training_settings import (
    TRAINING_KEYS,
    OptimiserSettings,
    SpeechData,
    SpeechSource,
    TrainingSettings,
    ValidationSettings,
)
from seamlessalign.training_steps import Schedule
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml

INPUTS_PER_SECOND = 50  # of the encoder
# size → (layers, hidden, heads, ffn, kernel): `large` is the released one; `base` and `tiny` are ours
_SIZES = {
    "tiny": (6, 96, 4, 384, 15),
    "base": (12, 768, 12, 3072, 31),
    "large": (24, 1024, 16, 4096, 31),
}
# ours → name in the configuration of a Wav2Vec2BertModel
_NAMES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "kernel": "conv_depthwise_kernel_size",
    "left_context": "left_max_position_embeddings",
    "right_context": "right_max_position_embeddings",
}


class W2vBertSource(SpeechSource):
    """Speech whose language and words need not be known.

    `run`: the path is that of a run's folder, and the speech what its segments cover, each stretch once.
    """

    needs_lang: ClassVar[bool] = False
    kind: Literal["parquet", "folder", "espeak", "run"]
    voices: list[str] = Field(default_factory=list)  # espeak: taken in turn, such as fr, fr+f2, fr+m3

    @model_validator(mode="after")
    def _fitting(self) -> "W2vBertSource":
        if (self.kind == "espeak") != bool(self.voices):
            raise ValueError("voices go with kind 'espeak', and only with it")
        if self.kind == "run" and self.audio:
            raise ValueError("audio is for kinds 'parquet' and 'folder': a run knows where its recordings are")
        return self


class W2vBertData(SpeechData):
    """What is heard. Sound of more than `max_seconds` is cut into equal pieces."""

    train: list[W2vBertSource] = Field(min_length=1)
    validation: list[W2vBertSource] = Field(default_factory=list)
    validation_share: float = Field(0.05, gt=0, lt=1)  # of recordings
    min_seconds: float = Field(1.0, gt=0)
    max_seconds: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "W2vBertData":
        if 2 * self.min_seconds > self.max_seconds:
            raise ValueError(
                f"max_seconds {self.max_seconds:g} must be twice min_seconds {self.min_seconds:g} or more: "
                "what is cut into pieces of the one must not fall below the other"
            )
        return self


class EncoderSizes(Section):
    """The encoder: a `Wav2Vec2BertModel` of transformers. Keys that are not given are those of `size`, or of the model
    that is begun with.
    """

    size: Literal["tiny", "base", "large"] = "large"  # whose numbers are taken for keys that are not given
    layers: PositiveInt  # of the conformer
    hidden: PositiveInt  # width of a layer
    heads: PositiveInt  # of attention; a divisor of hidden
    ffn: PositiveInt  # hidden units of feed-forward layers
    kernel: PositiveInt  # inputs that the depthwise convolution reads; odd
    left_context: PositiveInt = 64  # inputs whose distance attention tells apart, as relative positions
    right_context: PositiveInt = 8  # likewise, to the right
    dropout: float = Field(0.0, ge=0, lt=1)  # everywhere; draws of its own in each process
    # Layer behind which the contrastive loss is taken; masked prediction has all of them. Published: 8 of 24.
    contrastive_layer: PositiveInt
    start: str | None = None  # directory of a Wav2Vec2BertModel to begin with, such as the released one

    @model_validator(mode="before")
    @classmethod
    def _of_size(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("size", "large") not in _SIZES:
            return raw
        names = ("layers", "hidden", "heads", "ffn", "kernel")
        filled = dict(zip(names, _SIZES[raw.get("size", "large")], strict=True)) | raw
        layers = filled["layers"]
        return {"contrastive_layer": max(1, layers // 3) if isinstance(layers, int) else 1} | filled

    @model_validator(mode="after")
    def _fitting(self) -> "EncoderSizes":
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} must be a multiple of heads {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        if self.contrastive_layer > self.layers:
            raise ValueError(f"contrastive_layer {self.contrastive_layer} is above layers {self.layers}")
        return self


class MaskSettings(Section):
    """Spans of inputs that the encoder does not see and has to tell. Starts are drawn with replacement."""

    span: int = Field(10, ge=2)  # inputs: 0.2 s
    share: float = Field(0.65, gt=0, le=1)  # of inputs, if no two spans met; about 0.48 are masked
    min_spans: PositiveInt = 2  # of an utterance


class GumbelSettings(Section):
    """The codebooks that are learnt (GVQ): one of `entries` codes for each of `groups`."""

    groups: PositiveInt = 2  # codebooks, whose codes are joined
    entries: int = Field(320, ge=2)  # of each group
    dim: PositiveInt = 768  # of all groups together
    # temperature: start · decay ** step, but never below `floor`
    start: float = Field(2.0, gt=0)
    decay: float = Field(0.999995, gt=0, le=1)  # of the temperature, a step
    floor: float = Field(0.1, gt=0)  # of the temperature
    diversity: float = Field(0.2, ge=0)  # weight within the contrastive loss

    @model_validator(mode="after")
    def _fitting(self) -> "GumbelSettings":
        if self.dim % self.groups:
            raise ValueError(f"dim {self.dim} must be a multiple of groups {self.groups}")
        if self.floor > self.start:
            raise ValueError(f"floor {self.floor:g} is above start {self.start:g}")
        return self

    def temperature(self, step: int) -> float:
        """Of the Gumbel softmax at a step."""
        return max(self.start * self.decay**step, self.floor)


class ProjectionSettings(Section):
    """The codebooks that stay as they were drawn (RPQ). Sizes are not published; ours are BEST-RQ's."""

    codebooks: PositiveInt = 2  # each of which is predicted
    entries: int = Field(8192, ge=2)  # of each
    dim: PositiveInt = 16  # of a code


class ContrastiveSettings(Section):
    """What is told apart from what: codes of one utterance."""

    distractors: PositiveInt = 100  # codes of the same utterance that are not the right one
    temperature: float = Field(0.1, gt=0)  # of the softmax over them
    dim: PositiveInt = 768  # of the space in which contexts and codes are compared


class LossWeights(Section):
    """L = contrastive · L_c + gvq · L_mGVQ + rpq · L_mRPQ."""

    contrastive: float = Field(1.0, ge=0)  # of the contrastive loss, diversity included
    gvq: float = Field(0.5, ge=0)  # of masked prediction of the learnt codebooks
    rpq: float = Field(0.5, gt=0)  # more than 0: validation goes by these codes, the only ones that stay the same


class W2vBertOptimiser(OptimiserSettings):
    """AdamW; batches are as long as they are many."""

    batch_seconds: float = Field(120.0, gt=0)  # of speech with its padding, over all processes
    lr: float = Field(5e-4, gt=0)  # ours, like the schedule
    schedule: Schedule = "linear"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)


class W2vBertConfig(TrainingSettings):
    """A whole pre-training."""

    model: EncoderSizes = Field(default_factory=lambda: EncoderSizes.model_validate({}))
    data: W2vBertData
    mask: MaskSettings = MaskSettings()
    gvq: GumbelSettings = GumbelSettings()
    rpq: ProjectionSettings = ProjectionSettings()
    contrastive: ContrastiveSettings = ContrastiveSettings()
    losses: LossWeights = LossWeights()
    optimiser: W2vBertOptimiser
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _fitting(self) -> "W2vBertConfig":
        inputs = int(self.data.min_seconds * INPUTS_PER_SECOND) - 1
        if inputs <= self.mask.span:
            raise ValueError(
                f"data.min_seconds {self.data.min_seconds:g} makes {inputs} inputs: "
                f"a span of the mask, {self.mask.span}, must leave some of them"
            )
        if self.optimiser.batch_seconds < self.data.max_seconds:
            raise ValueError(
                f"optimiser.batch_seconds {self.optimiser.batch_seconds:g} is below "
                f"data.max_seconds {self.data.max_seconds:g}"
            )
        return self

    def plan(self, *aside: str) -> dict[str, Any]:
        # the weights that `start` names are part of the digest
        return super().plan("model.start", *aside)


def load_w2v_bert_config(path: str, overrides: Sequence[str] = ()) -> W2vBertConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder, the output's to
    where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw, place = read_yaml(path, TRAINING_KEYS), Path(path)
    for override in overrides:
        apply_override(raw, override)
    model = raw.get("model")
    if isinstance(model, dict) and isinstance(model.get("start"), str):
        raw["model"] = _of_start(model | {"start": beside(place, model["start"])}, path)
    config = checked(W2vBertConfig, raw, path)
    return config.model_copy(update={"data": config.data.beside(place)})


def _of_start(model: dict[str, Any], origin: str) -> dict[str, Any]:
    """The keys of an encoder with the sizes of the one that is begun with. Raises ConfigError where they differ."""
    file = Path(model["start"]) / "config.json"
    if not file.is_file():
        raise ConfigError(f"{origin}: model.start: {file.parent} is no directory of a model: there is no config.json")
    try:
        about = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{origin}: model.start: {file}: cannot be read: {error}") from error
    if about.get("model_type") != "wav2vec2-bert":
        raise ConfigError(f"{origin}: model.start: {file}: is of type {about.get('model_type')!r}, not 'wav2vec2-bert'")
    if about.get("add_adapter"):
        raise ConfigError(f"{origin}: model.start: {file}: has an adapter, which no pre-training teaches")
    # what transformers' files leave out is as in the released model, which is our largest
    usual = EncoderSizes.model_validate({})
    sizes = {ours: about.get(theirs, getattr(usual, ours)) for ours, theirs in _NAMES.items()}
    for name in ("size", *sizes):
        if name in model and model[name] != sizes.get(name):
            told = f"that of model.start is {sizes[name]}" if name in sizes else "sizes are those of model.start"
            raise ConfigError(f"{origin}: model.{name} is {model[name]!r}: {told}; leave it out")
    return model | sizes
