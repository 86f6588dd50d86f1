"""Where and how fast a training runs."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, NonNegativeInt, PositiveInt

from seamlessalign.config import Section


def _no(value: object) -> object:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainingResources(Section):
    """Where and how fast; nothing here changes what is computed, but for the rounding of another precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_no)] = "no"  # no: float32
    workers: NonNegativeInt = 0  # processes that load and augment speech, of each training process
    threads: PositiveInt | None = None  # of torch
