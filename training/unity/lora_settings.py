"""The section of configurations that says which adapters a model has; it can be read without torch."""

from pydantic import Field, PositiveInt

from seamlessalign.typed_config import Section


class LoraSettings(Section):
    """Which layers have adapters, and how large these are."""

    rank: PositiveInt = 16  # of the matrices that an adapter is made of
    alpha: PositiveInt = 32  # what the adapter says is scaled by alpha / rank
    dropout: float = Field(0.0, ge=0, lt=1)  # of what the adapter hears
    # linear layers as transformers calls them, `*` for anything; by default queries and values of all attention
    layers: list[str] = Field(default=["*.q_proj", "*.v_proj", "*.linear_q", "*.linear_v"], min_length=1)
