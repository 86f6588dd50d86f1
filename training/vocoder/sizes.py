"""Sizes of a unit vocoder's networks. Those of the generator are fields of transformers' SeamlessM4TConfig."""

import math
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from seamlessalign.typed_config import Section

UNIT_SAMPLES = 320  # of speech to a unit: 50 units a second at 16 kHz

_TINY: dict[str, Any] = {
    "unit_embedding": 64,
    "language_embedding": 4,
    "speaker_embedding": 4,
    "channels": 128,
    "resblock_kernels": [3, 7],
    "resblock_dilations": [[1, 3], [1, 3]],
}


class VocoderSizes(Section):
    """The generator and its tables. `published` is SeamlessM4T's; what is given besides a size changes it."""

    size: Literal["published", "tiny"] = "published"  # whose numbers are taken for keys that are not given
    units: PositiveInt = 10000  # kinds of them
    languages: PositiveInt | None = None  # rows of their table; by default as many as the data has
    speakers: PositiveInt | None = None  # likewise
    unit_embedding: PositiveInt = 1280  # dimensions of a unit
    language_embedding: PositiveInt = 256  # dimensions of a language
    speaker_embedding: PositiveInt = 256  # dimensions of a speaker
    channels: PositiveInt = 512  # before the first upsampling; each halves them
    # Of each upsampling; together the 320 samples of a unit
    upsample_rates: list[PositiveInt] = Field(default=[5, 4, 4, 2, 2], min_length=1)
    # Of each upsampling: its rate and an even number more
    upsample_kernels: list[PositiveInt] = Field(default=[11, 8, 8, 4, 4], min_length=1)
    # Of the residual blocks behind each, odd
    resblock_kernels: list[PositiveInt] = Field(default=[3, 7, 11], min_length=1)
    # Of each of these blocks
    resblock_dilations: list[list[PositiveInt]] = Field(default=[[1, 3, 5]] * 3, min_length=1)
    duration_dropout: float = Field(0.5, ge=0, lt=1)  # of what predicts durations

    @model_validator(mode="before")
    @classmethod
    def _of_a_size(cls, given: Any) -> Any:
        return _TINY | given if isinstance(given, dict) and given.get("size") == "tiny" else given

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if math.prod(self.upsample_rates) != UNIT_SAMPLES:
            raise ValueError(f"upsample_rates must multiply to {UNIT_SAMPLES}, the samples of a unit")
        if len(self.upsample_kernels) != len(self.upsample_rates):
            raise ValueError("upsample_kernels and upsample_rates must be equally many")
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(f"an upsample kernel must be its rate and an even number more, not {kernel} of {rate}")
        if len(self.resblock_dilations) != len(self.resblock_kernels):
            raise ValueError("resblock_dilations and resblock_kernels must be equally many")
        if any(kernel % 2 == 0 for kernel in self.resblock_kernels):
            raise ValueError("resblock_kernels must be odd")
        if self.channels % 2 ** len(self.upsample_rates):
            raise ValueError(f"channels {self.channels} cannot be halved {len(self.upsample_rates)} times")
        return self

    def fields(self, languages: int, speakers: int) -> dict[str, Any]:
        """Fields of SeamlessM4TConfig, for so many languages and speakers of the data."""
        return {
            "unit_hifi_gan_vocab_size": self.units,
            "unit_embed_dim": self.unit_embedding,
            "lang_embed_dim": self.language_embedding,
            "spkr_embed_dim": self.speaker_embedding,
            "vocoder_num_langs": self.languages or languages,
            "vocoder_num_spkrs": self.speakers or speakers,
            "upsample_initial_channel": self.channels,
            "upsample_rates": list(self.upsample_rates),
            "upsample_kernel_sizes": list(self.upsample_kernels),
            "resblock_kernel_sizes": list(self.resblock_kernels),
            "resblock_dilation_sizes": [list(dilations) for dilations in self.resblock_dilations],
            "var_pred_dropout": self.duration_dropout,
        }


class DiscriminatorSizes(Section):
    """HiFi-GAN's two kinds of discriminators."""

    channels: PositiveInt = 32  # of the first layer of one of a period; all others follow
    # Samples that each of the first kind folds a sound at
    periods: list[PositiveInt] = Field(default=[2, 3, 5, 7, 11], min_length=1)
    scales: PositiveInt = 3  # each hears half the rate of the one before
