"""Neighbour lists of one side that are looked at a range of rows at a time, wherever they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from seamlessalign.mining.knn import Neighbours

RANGE_BYTES = 48 << 20  # that the lists of one range may take, with what is computed from them
BYTES_A_PLACE = 64  # of that for each neighbour in a list


class Lists(Protocol):
    """The neighbours of every row of one side."""

    @property
    def width(self) -> int:
        """Neighbours of a row."""

    def __len__(self) -> int:
        """Number of rows."""

    def ranges(self) -> Iterator[tuple[int, Neighbours]]:
        """All lists in the order of their rows, as the first row of a range and the lists of its rows."""


@dataclass(frozen=True)
class InMemory:
    """Lists that are in memory."""

    lists: Neighbours

    @property
    def width(self) -> int:
        """Neighbours of a row."""
        return int(self.lists.index.shape[1])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lists.index)

    def ranges(self) -> Iterator[tuple[int, Neighbours]]:
        """All lists in the order of their rows, as the first row of a range and the lists of its rows."""
        step = max(1, RANGE_BYTES // (BYTES_A_PLACE * max(1, self.width)))
        for begin in range(0, len(self), step):
            yield begin, Neighbours(self.lists.cosine[begin : begin + step], self.lists.index[begin : begin + step])
