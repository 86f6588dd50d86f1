"""Independent slow references: plain loops over plain numbers."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cosine(x: Array, y: Array) -> float:
    a, b = [float(v) for v in x], [float(v) for v in y]
    dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(p * p for p in a)) / math.sqrt(math.fsum(q * q for q in b))


def cosine_matrix(src: Array, tgt: Array) -> npt.NDArray[np.float64]:
    return np.array([[cosine(x, y) for y in tgt] for x in src])


def nearest(scores: npt.NDArray[np.float64], k: int) -> list[list[int]]:
    """The k best columns of each row, by float32 score descending, then column ascending."""
    rounded = np.clip(scores, -1, 1).astype(np.float32)
    return [sorted(range(len(row)), key=lambda j: (-float(row[j]), j))[:k] for row in rounded]


def greedy(edges: list[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """One-to-one pairs of (margin, src, tgt) edges, taken from the highest margin down."""
    taken: list[tuple[int, int]] = []
    for _, x, y in sorted(edges, key=lambda edge: (-edge[0], edge[1], edge[2])):
        if all(x != a and y != b for a, b in taken):
            taken.append((x, y))
    return taken


def conflict(one: tuple[int, int, int], two: tuple[int, int, int], max_overlap: float) -> bool:
    """Whether two (recording, start, end) spans overlap by more than the share allowed."""
    if one[0] != two[0]:
        return False
    overlap = min(one[2], two[2]) - max(one[1], two[1])
    return overlap > 0 and overlap > max_overlap * min(one[2] - one[1], two[2] - two[1]) + 1e-9


def best_subset(weight: list[float], bad: set[tuple[int, int]]) -> float:
    """The greatest sum of weights over all subsets without a bad couple."""
    best = 0.0
    for size in range(len(weight) + 1):
        for rows in itertools.combinations(range(len(weight)), size):
            if not any(couple in bad for couple in itertools.combinations(rows, 2)):
                best = max(best, sum(weight[row] for row in rows))
    return best


def greedy_subset(weight: list[float], bad: set[tuple[int, int]]) -> float:
    """The sum that a walk from the heaviest down reaches."""
    taken: list[int] = []
    for row in sorted(range(len(weight)), key=lambda r: (-weight[r], r)):
        if not any((min(row, other), max(row, other)) in bad for other in taken):
            taken.append(row)
    return sum(weight[row] for row in taken)
