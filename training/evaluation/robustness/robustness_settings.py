"""What configurations say of robustness: noise that is mixed with the speech of test rows, and groups of speakers."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from seamlessalign.typed_config import Section, beside

MADE_KINDS = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # kind → exponent by which its power falls with the frequency
BABBLE = "babble"
MOST_DB = 100.0  # beyond, 32-bit floats hold nothing of the weaker side


class Noise(Section):
    """Noise that is mixed with the speech of test rows, for every system that is run."""

    snrs: list[float] = Field([10.0, 5.0, 0.0, -5.0, -10.0, -15.0, -20.0], min_length=1)  # dB; SeamlessM4T's
    # white, pink, brown, babble, or a folder in `folder`; by default its noise and music, without one pink and babble
    kinds: list[str] | None = Field(None, min_length=1)
    folder: str | None = None  # of folders of recordings, as MUSAN has them: noise, music
    voices: PositiveInt = 6  # of other rows, that babble at once
    seed: NonNegativeInt = 0  # of which noise is drawn, and from where in it

    @field_validator("snrs")
    @classmethod
    def _sensible(cls, snrs: list[float]) -> list[float]:
        for snr in snrs:
            if abs(snr) > MOST_DB:
                raise ValueError(f"an SNR of {snr:g} dB is beyond {MOST_DB:g} dB")
        if len(set(snrs)) < len(snrs):
            raise ValueError("an SNR is there twice")
        return snrs

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        given = self.kinds or []
        if len(set(given)) < len(given):
            raise ValueError("a kind of noise is there twice")
        for kind in given:
            if not kind or ":" in kind or "/" in kind or kind in (".", ".."):
                raise ValueError(f"{kind!r} names no kind of noise, nor a folder in noise.folder")
        recorded = [kind for kind in given if kind not in MADE_KINDS and kind != BABBLE]
        if recorded and self.folder is None:
            made = ", ".join([*MADE_KINDS, BABBLE])
            raise ValueError(f"{recorded[0]!r} is none of {made}: give noise.folder, in which there is such a folder")
        return self

    def beside(self, file: Path) -> Self:
        """The folder relative to that of the configuration's file."""
        return self if self.folder is None else self.model_copy(update={"folder": beside(file, self.folder)})


class Speakers(Section):
    """How far translations of the same words depend on who says them."""

    group_by: Literal["column", "transcript"] = "column"  # of the rows: `group`, or an equal `src_text`
    min_groups: PositiveInt = 40  # a direction with fewer has no score
    deviation: Literal["sample", "population"] = "sample"  # of the scores of a group: divided by n - 1, or by n
