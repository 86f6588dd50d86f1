"""The configuration of a training of UnitY, of any of its stages: one YAML file, checked strictly, with overrides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.training.data.settings import TaskName, TranslationData
from seamlessalign.training.unity.lora_settings import LoraSettings
from seamlessalign.training.unity.losses import Smoothing
from seamlessalign.training_settings import OptimiserSettings, TrainingSettings, ValidationSettings, read_training
from seamlessalign.typed_config import Section, beside

Weight = Annotated[float, Field(ge=0)]


# of each task, those that may teach something
_LOSSES: Mapping[TaskName, Sequence[str]] = {
    "asr": ("s2tt", "t2tt", "kd"),
    "s2tt": ("s2tt", "t2tt", "kd"),
    "t2tt": ("t2tt",),
    "s2st": ("s2tt", "t2tt", "kd", "t2u"),
    "t2st": ("t2tt", "t2u"),
    "t2u": ("t2tt", "t2u"),
}


class UnityLosses(Section):
    """L = s2tt · L_S2TT + t2tt · L_T2TT + kd · L_KD + t2u · L_T2U; the paper names the first three α, β, γ and tells no
    values. A loss of weight 0 is not computed.
    """

    s2tt: Weight = 1.0  # target text, decoded from speech: of asr too
    t2tt: Weight = 1.0  # target text, decoded from source text, where there is some: of asr it is the same text
    kd: Weight = 1.0  # KL(decoded from text ‖ decoded from speech), where there is both
    t2u: Weight = 1.0  # units, from the text decoder's states
    label_smoothing: float = Field(0.2, ge=0, lt=1)  # Meta's fine-tuning has 0.2
    smoothing_over: Smoothing = "wrong"  # the V - 1 wrong tokens as fairseq2 does, or `all` V, as torch does
    teacher_learns: bool = False  # whether L_KD's gradient flows to the side that reads text, too

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.s2tt or self.t2tt or self.kd or self.t2u):
            raise ValueError("all weights are 0")
        return self


class UnityModelChoice(Section):
    """A new model; or, with `start`, nothing but what has no weights."""

    size: str | None = None  # of `sizes.py`: tiny, small, medium, large
    vocabulary: str | None = None  # folder of a text vocabulary
    num_units: PositiveInt | None = None  # without: it ends with text
    unit_languages: list[Lang] | None = None  # that are spoken; by default those of the text vocabulary
    dropout: float | None = Field(None, ge=0, lt=1)  # everywhere; by default that of the size, or of `start`
    layer_drop: float = Field(0.0, ge=0, lt=1)  # share of the speech encoder's layers left out of a batch
    # Batch normalisation of the conformer goes by the statistics that it has, or by those of the real frames of each
    # batch, of all processes.
    batch_norm: Literal["frozen", "batch"] = "frozen"
    recompute: bool = False  # what layers found is computed again for the gradient: less memory, a third slower

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.recompute and self.batch_norm == "batch":
            raise ValueError("recompute would count each batch twice in the statistics of batch_norm: batch")
        return self


class UnityOptimiser(OptimiserSettings):
    """AdamW as in Meta's fine-tuning; the rate is that of the paper's ablations."""

    lr: float = Field(3e-4, gt=0)
    warmup: NonNegativeInt = 4000  # steps
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)


class UnityValidation(ValidationSettings):
    """Losses of what is held out, by task and direction, and what is translated of it."""

    every: PositiveInt = 1000  # steps
    translate: NonNegativeInt = 0  # rows of each direction that are translated, greedily, for BLEU and chrF
    choose: Literal["nll", "bleu", "chrf"] = "nll"  # by what the best model is chosen

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.choose != "nll" and not self.translate:
            raise ValueError(f"choose: {self.choose} needs rows to translate; give translate")
        return self


class UnityTrainingConfig(TrainingSettings):
    """A whole training."""

    start: str | None = None  # folder of the stage before, or of a model
    model: UnityModelChoice = UnityModelChoice()
    trained: list[str] | None = None  # parts, modules or patterns of parameters that learn; by default all
    freeze: list[str] = []  # those of them that do not
    lora: LoraSettings | None = None  # adapters learn, and nothing else
    data: TranslationData
    loss: UnityLosses = UnityLosses()
    optimiser: UnityOptimiser
    validation: UnityValidation = UnityValidation()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        given = [key for key in ("size", "vocabulary", "num_units", "unit_languages") if getattr(self.model, key)]
        if self.start and given:
            raise ValueError(f"model.{given[0]} is for new models, but there is a start, which has its own")
        if not self.start and not (self.model.size and self.model.vocabulary):
            raise ValueError("give start, or a new model's model.size and model.vocabulary")
        if self.model.unit_languages and not self.model.num_units:
            raise ValueError("model.unit_languages needs model.num_units")
        for task in self.data.tasks:
            losses = _LOSSES[task]
            if not any(getattr(self.loss, name) for name in losses):
                raise ValueError(f"task {task} teaches nothing: the weight of {', '.join(losses)} is 0 in loss")
        if self.lora and not self.start:
            raise ValueError("lora is for models that have learnt; give start")
        if self.lora and (self.trained is not None or self.freeze):
            raise ValueError(
                "with lora nothing else learns: leave out trained and freeze; layers are named in lora.layers"
            )
        if "vocoder" in (self.trained or []):
            raise ValueError("trained: the vocoder is not learnt here, but by `train vocoder`")
        return self


def load_unity_config(path: str, overrides: Sequence[str] = ()) -> UnityTrainingConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Paths are relative to the file's folder; those of
    `output` and `start`, which is the output of another training, to where the program runs.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    config, file = read_training(UnityTrainingConfig, path, overrides), Path(path)
    model = config.model
    if model.vocabulary:
        model = model.model_copy(update={"vocabulary": beside(file, model.vocabulary)})
    return config.model_copy(update={"model": model, "data": config.data.beside(file)})
