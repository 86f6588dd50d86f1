"""Poolers: the frames of a span → one row in the teacher's space.

`values` is `(batch, length, in_dim)`, `mask` `(batch, length)`: true where a frame is of the span, and each span has at
least one. `token` `(batch, length)` are the tokens of decoder states, for poolers that read them. Rows `(batch, dim)`
are not of unit length: losses and `Student.pool` see to that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from seamlessalign.embedders.sonar.pooler import AttentionPooler, max_pool, mean_pool
from seamlessalign.embedders.student.config import PoolerConfig
from seamlessalign.embedders.student.frames import Int64
from seamlessalign.errors import ConfigError


class Pooler(nn.Module, ABC):  # type: ignore[misc]
    """Base of all poolers. `models` are the names and SHA-256 of those that it reads frames with, if any."""

    models: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def forward(self, values: Any, mask: Any, token: Any = None) -> Any:
        """Rows `(batch, dim)`."""

    def pool_ranges(self, values: Any, ranges: Int64) -> Any | None:
        """Rows `(num_ranges, dim)` of ranges `[first, last)` of frames in common, `values` `(num_frames, in_dim)`; none
        of them is empty. None from a pooler that has no better way than `forward` on each range's own frames.
        """
        return None


class ReducingPooler(Pooler):
    """The mean or the largest value of each dimension of the frames, through a linear layer."""

    def __init__(self, reduce: Callable[[Any, Any], Any], in_dim: int, dim: int) -> None:
        super().__init__()
        self._reduce = reduce
        self.projection = nn.Linear(in_dim, dim)

    def forward(self, values: Any, mask: Any, token: Any = None) -> Any:
        return self.projection(self._reduce(values, mask))


class AttendingPooler(Pooler):
    """Learned queries that read the frames through the layers of a Transformer decoder, as SONAR's do."""

    def __init__(self, config: PoolerConfig, in_dim: int, dim: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(in_dim), nn.Linear(in_dim, config.width), nn.Dropout(config.dropout))
        self.attention = AttentionPooler(config.width, config.layers, config.heads, config.ffn, config.queries)
        self.leave = nn.Linear(config.width, dim)

    def forward(self, values: Any, mask: Any, token: Any = None) -> Any:
        return self.leave(self.attention(self.enter(values), mask))

    def pool_ranges(self, values: Any, ranges: Int64) -> Any | None:
        """What is read of a frame is computed once, in however many ranges it is."""
        return self.leave(self.attention.pool_spans(self.enter(values), ranges))


def _lexical(config: PoolerConfig, in_dim: int, dim: int, places: Mapping[str, str]) -> Pooler:
    from seamlessalign.embedders.student.lexical import LexicalPooler

    pooler = LexicalPooler(in_dim, config.rank, places=places)
    if pooler.dim != dim:
        raise ConfigError(f"a pooler of kind 'e5' makes rows of {pooler.dim} dimensions, the teacher's have {dim}")
    return pooler


Builder = Callable[[PoolerConfig, int, int, Mapping[str, str]], Pooler]

# Kind → what builds it from its configuration, the backbone's dimension and the teacher's, and the places of models. A
# builder imports what only its kind needs.
POOLERS: dict[str, Builder] = {
    "attention": lambda config, in_dim, dim, _: AttendingPooler(config, in_dim, dim),
    "mean": lambda _, in_dim, dim, __: ReducingPooler(mean_pool, in_dim, dim),
    "max": lambda _, in_dim, dim, __: ReducingPooler(max_pool, in_dim, dim),
    "e5": _lexical,
}


def build_pooler(config: PoolerConfig, in_dim: int, dim: int, places: Mapping[str, str] | None = None) -> Pooler:
    """A pooler with random weights, from frames `(…, in_dim)` to rows `(…, dim)`.

    places: model name → directory, for the models that a pooler reads with. Raises ConfigError and ModelError.
    """
    if config.kind not in POOLERS:
        raise ConfigError(f"pooler kind {config.kind!r} is not known; there are {', '.join(POOLERS)}")
    return POOLERS[config.kind](config, in_dim, dim, places or {})
