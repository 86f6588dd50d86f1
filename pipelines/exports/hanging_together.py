"""What hangs together in a graph: its vertices, numbered anew, and its connected components, as arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

NOTHING = np.uint64(0)  # the number of a side that is no vertex


@dataclass(frozen=True)
class Graph:
    """Vertices, and pairs of them that are edges. A pair with one vertex is an edge from that to itself."""

    numbers: Numbers  # (num_vertices,) ascending, then one of its own for each pair without any
    src: Indices  # (num_pairs,) into numbers
    tgt: Indices

    @staticmethod
    def of(src: Numbers, tgt: Numbers) -> "Graph":
        """The graph of pairs whose sides are these vertices, `NOTHING` for none, (num_pairs,)."""
        numbers, of_side = np.unique(np.concatenate([src, tgt]), return_inverse=True)
        a, b = of_side.reshape(2, len(src)) if len(src) else (of_side, of_side)
        if not len(numbers) or numbers[0] != NOTHING:
            return Graph(numbers, a, b)
        a, b = np.where(a == 0, b, a), np.where(b == 0, a, b)
        alone = np.flatnonzero(a == 0)
        a[alone] = b[alone] = len(numbers) + np.arange(len(alone))
        return Graph(np.concatenate([numbers[1:], np.full(len(alone), NOTHING)]), a - 1, b - 1)

    @cached_property
    def component(self) -> Indices:
        """Of each vertex the least vertex that it hangs together with, (num_vertices,)."""
        return connected(len(self.numbers), self.src, self.tgt)


def connected(count: int, a: Indices, b: Indices) -> Indices:
    """Of each of `count` vertices the least one that it hangs together with, (count,). a, b: edges, (num_edges,).

    Labels are passed along edges and shortened (Shiloach and Vishkin 1982, "An O(log n) parallel connectivity
    algorithm"), so that 10 million edges take a few passes over arrays. What has one label already
    is not looked at again.
    """
    parent = np.arange(count)
    while len(a):
        of_a, of_b = parent[a], parent[b]
        apart = of_a != of_b
        a, b, of_a, of_b = a[apart], b[apart], of_a[apart], of_b[apart]
        low = np.minimum(of_a, of_b)
        np.minimum.at(parent, of_a, low)
        np.minimum.at(parent, of_b, low)
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
    return parent


def components(src: Numbers, tgt: Numbers) -> Indices:
    """Component of each pair, (num_pairs,): the row of its first pair. src, tgt: vertices, `NOTHING` for none."""
    graph = Graph.of(src, tgt)
    _, first, number = np.unique(graph.component[graph.src], return_index=True, return_inverse=True)
    found: Indices = first[number.reshape(-1)]
    return found


def sums(keys: npt.NDArray[np.integer], values: Weights, count: int) -> Weights:
    """Of each of `count` keys the sum of its values, (count,)."""
    return np.bincount(keys, values, minlength=count).astype(np.float64, copy=False)
