"""The configuration of a student: which backbone makes its frames, which pooler its rows, and in whose space."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from seamlessalign.typed_config import Section

_NETWORK = ("width", "layers", "heads", "ffn", "dropout")
_KEYS_OF_BACKBONE: dict[str, tuple[str, ...]] = {
    "whisper": ("model",),
    "whisper-decoder": ("model", "task"),
    "w2v-bert": ("directory",),
    "sonar": ("model",),
    "scratch": _NETWORK,
}
# The keys of each kind of pooler, `kind` aside; another kind is one more line here and one in `pooler.POOLERS`.
_KEYS_OF_POOLER: dict[str, tuple[str, ...]] = {
    "attention": (*_NETWORK, "queries"),
    "mean": (),
    "max": (),
    "e5": ("rank",),
}


def _check_keys(section: Section, what: str, kind: str, keys: dict[str, tuple[str, ...]]) -> None:
    """Raise ValueError for a key that was given but that this kind does not read."""
    fields = type(section).model_fields
    idle = [key for key in fields if key not in {"kind", *keys[kind]} and getattr(section, key) != fields[key].default]
    if idle:
        raise ValueError(f"a {what} of kind {kind!r} does not read {', '.join(idle)}")


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is no multiple of heads {heads}")


class BackboneConfig(Section):
    """What makes frames of speech."""

    # Whisper's encoder or decoder, w2v-BERT 2.0, SONAR's conformer, or a small conformer from scratch
    kind: Literal["whisper", "whisper-decoder", "w2v-bert", "sonar", "scratch"] = "whisper"
    model: str | None = None  # a name of `models:`; by default whisper-base, and sonar-speech-eng for sonar
    task: Literal["transcribe", "translate"] = "transcribe"  # what the decoder writes while its states are kept
    directory: str | None = None  # of a Wav2Vec2BertModel of transformers
    width: PositiveInt = 192  # of a backbone from scratch
    layers: PositiveInt = 4  # likewise
    heads: PositiveInt = 4  # likewise; a divisor of width
    ffn: PositiveInt = 768  # hidden units of its feed-forward layers
    dropout: float = Field(0.0, ge=0, lt=1)  # of a backbone from scratch

    @model_validator(mode="after")
    def _fitting(self) -> "BackboneConfig":
        _check_keys(self, "backbone", self.kind, _KEYS_OF_BACKBONE)
        _check_heads(self.width, self.heads)
        if self.kind == "w2v-bert" and not self.directory:
            raise ValueError("directory is missing: name that of a Wav2Vec2BertModel")
        return self

    @property
    def model_name(self) -> str:
        """The name of the model, `scratch` where there is none."""
        default = {"whisper": "whisper-base", "whisper-decoder": "whisper-base", "sonar": "sonar-speech-eng"}
        return self.model or default.get(self.kind, self.kind)


class PoolerConfig(Section):
    """What makes one row of the frames of a span."""

    kind: str = "attention"  # attention, mean, max, or e5: E5's own layers with adapters
    width: PositiveInt = 512  # of attention's layers
    layers: PositiveInt = 2  # of attention
    heads: PositiveInt = 8  # of attention; a divisor of width
    ffn: PositiveInt = 1024  # hidden units of its feed-forward layers
    dropout: float = Field(0.0, ge=0, lt=1)  # of attention's layers
    queries: PositiveInt = 1  # whose rows are averaged
    rank: PositiveInt = 32  # of the adapters of E5's layers

    @model_validator(mode="after")
    def _fitting(self) -> "PoolerConfig":
        if self.kind not in _KEYS_OF_POOLER:
            raise ValueError(f"kind {self.kind!r} is not known; there are {', '.join(_KEYS_OF_POOLER)}")
        _check_keys(self, "pooler", self.kind, _KEYS_OF_POOLER)
        _check_heads(self.width, self.heads)
        return self


class StudentChoice(Section):
    """A speech encoder as it is chosen: backbone, pooler, and the text embedder in whose space its rows are."""

    backbone: BackboneConfig = BackboneConfig()
    train_backbone: bool = False  # otherwise only the pooler learns
    pooler: PoolerConfig = PoolerConfig()
    teacher: str = "e5-small"  # the text embedder in whose space rows are taught to be

    @model_validator(mode="after")
    def _trainable(self) -> "StudentChoice":
        if self.train_backbone and self.backbone.kind == "whisper-decoder":
            raise ValueError("train_backbone: what the decoder has written cannot be trained; use kind whisper")
        if not self.train_backbone and self.backbone.kind == "scratch":
            raise ValueError("train_backbone must be true for a backbone from scratch")
        return self


class StudentConfig(StudentChoice):
    """A speech encoder as it is saved."""

    dim: PositiveInt  # of the teacher's rows
