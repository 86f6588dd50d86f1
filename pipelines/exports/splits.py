"""Pairs → splits, so that no recording and no text is on two sides of one.

Two pairs that share a recording, or say the same text, belong together, and so does whatever hangs together through
others: the connected components of the graph whose vertices are recordings and texts and whose edges are pairs. A
component goes to one split as a whole. Which, depends on the seed and on what the components contain, not on the order
of the rows.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from seamlessalign.errors import InputError
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.row_ids import mixed, spans_of_ids

Numbers = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

NOTHING = np.uint64(0)  # the number of a side that is no vertex
_TOLERANCE = 1e-9  # of the sum of shares
_SEED = 0x9E3779B97F4A7C15


def parse_shares(text: str) -> dict[str, float]:
    """Shares by split from `train=0.9,dev=0.05,test=0.05`. Raises InputError."""
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, equals, share = (part.strip() for part in item.partition("="))
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not equals or not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == "all":  # as datasets takes them
            raise InputError(f"--splits: {item!r}: write a name and its share, such as dev=0.05")
        if name == "state":  # what an export needs to go on lies there, and is removed in the end
            raise InputError("--splits: 'state' is a folder of the export's own: name the split otherwise")
        if not 0 < value <= 1:
            raise InputError(f"--splits: {item!r}: a share is above 0 and at most 1")
        if name in shares:
            raise InputError(f"--splits: {name!r} is there twice")
        shares[name] = value
    if abs(sum(shares.values()) - 1) > _TOLERANCE:
        raise InputError(f"--splits: the shares of {', '.join(shares)} add up to {sum(shares.values()):g}, not to 1")
    return shares


def recording_numbers(segment_ids: pa.Array) -> Numbers:
    """Numbers of the recordings of segments by their ids, (num_rows,): channels of one file have the same number."""
    recordings = spans_of_ids(segment_ids)[0].dictionary_encode()
    names = [str(name).partition(".")[0] for name in recordings.dictionary.to_pylist()]
    of_word = np.array([_number("recording", name) for name in names] + [NOTHING], np.uint64)
    return np.asarray(of_word[recordings.indices.fill_null(len(names)).to_numpy()])


def text_numbers(texts: pa.Array) -> Numbers:
    """Numbers of texts, (num_rows,), equal for those that differ in case, punctuation and spaces alone."""
    words = texts.dictionary_encode()
    folded = fold(words.dictionary).to_pylist()
    of_word = np.array([_number("text", text) for text in folded] + [NOTHING], np.uint64)
    return np.asarray(of_word[words.indices.fill_null(len(folded)).to_numpy()])


def _number(kind: str, name: str) -> int:
    return xxh3_64_intdigest(f"{kind}\n{name}".encode()) or 1


def components(src: Numbers, tgt: Numbers) -> Indices:
    """Component of each pair, (num_pairs,): the row of its first pair. src, tgt: vertices, `NOTHING` for none.

    Labels are passed along edges and shortened (Shiloach and Vishkin 1982, "An O(log n) parallel connectivity
    algorithm"), so that 10 million pairs take a few passes over arrays.
    """
    vertices, of_side = np.unique(np.concatenate([src, tgt]), return_inverse=True)
    a, b = of_side[: len(src)].astype(np.int64), of_side[len(src) :].astype(np.int64)
    if len(vertices) and vertices[0] == NOTHING:  # a side without a vertex hangs together with nothing but its pair
        a, b = np.where(a == 0, b, a), np.where(b == 0, a, b)
    parent = np.arange(len(vertices))
    while True:
        low = np.minimum(parent[a], parent[b])
        before = parent.copy()
        np.minimum.at(parent, before[a], low)
        np.minimum.at(parent, before[b], low)
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
        if np.array_equal(parent, before):
            break
    roots = parent[a]
    alone = (src == NOTHING) & (tgt == NOTHING)
    roots[alone] = len(vertices) + np.flatnonzero(alone)
    _, first, number = np.unique(roots, return_index=True, return_inverse=True)
    found: Indices = first[number.reshape(-1)]
    return found


@dataclass(frozen=True)
class Division:
    """Which split each pair went to, and how near that is to what was asked."""

    names: tuple[str, ...]
    split: npt.NDArray[np.int8]  # (num_pairs,), into names
    weights: tuple[float, ...]  # by split: samples, or pairs where there is no sound
    targets: tuple[float, ...]  # what was asked
    largest: float  # the weight of the largest component
    num_components: int

    @property
    def notes(self) -> list[str]:
        """Lines for people, where a split has less than half, or more than double, of what was asked."""
        total = sum(self.weights) or 1.0
        if self.num_components == 1:
            why = "all hang together through recordings or texts that they share"
        else:
            why = (
                f"pairs that share a recording or a text stay together, and of {self.num_components:,} such groups the "
                f"largest has {self.largest / total:.1%}"
            )
        lines = []
        for name, weight, target in zip(self.names, self.weights, self.targets, strict=True):
            if not 0.5 * target <= weight <= 2 * target:
                lines.append(f"{name} has {weight / total:.1%} and not {target / total:.1%}: {why}")
        return lines


def divide(
    src: Numbers, tgt: Numbers, weight: npt.NDArray[np.int64], shares: Mapping[str, float], seed: int
) -> Division:
    """Give every pair a split.

    src, tgt: vertices, (num_pairs,); weight: samples of each pair, or 1; shares: by split, above 0, with the sum 1.

    Components come in an order that a hash of the seed and their smallest vertex gives, but those first that are larger
    than the smallest share. Each goes to the split that is furthest behind its share, among those that it does not
    carry beyond it; where there is none, among those that it brings nearer to it; else where most is missing.
    """
    names = tuple(shares)
    component = components(src, tgt)
    firsts, of_pair = np.unique(component, return_inverse=True)
    of_pair = of_pair.reshape(-1)
    sizes = np.bincount(of_pair, weight, minlength=len(firsts)) if len(firsts) else np.zeros(0)
    smallest = np.full(len(firsts), np.iinfo(np.uint64).max, np.uint64)
    for side in (src, tgt):
        np.minimum.at(smallest, of_pair[side != NOTHING], side[side != NOTHING])
    total = float(sizes.sum())
    targets = np.array([shares[name] for name in names]) * total
    place = mixed(smallest + np.uint64(_SEED * seed % 2**64))
    large = sizes > targets.min() if len(targets) else np.zeros(len(firsts), bool)
    order = np.lexsort([smallest, place, np.where(large, -sizes, 0.0)])
    missing, of_component = targets.copy(), np.zeros(len(firsts), np.int8)
    for number in order.tolist():
        size = sizes[number]
        split = _where_it_fits(size, missing, targets)
        of_component[number] = split
        missing[split] -= size
    division = Division(
        names, of_component[of_pair], tuple((targets - missing).tolist()), tuple(targets.tolist()),
        float(sizes.max(initial=0.0)), len(firsts),
    )  # fmt: skip
    _prove(division, src, tgt)
    return division


def _where_it_fits(size: float, missing: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> int:
    for fits in (size <= missing * (1 + _TOLERANCE), size <= 2 * missing * (1 + _TOLERANCE)):
        if fits.any():
            behind = np.where(fits, missing / np.maximum(targets, 1e-300), -1.0)
            return int(np.lexsort([-missing, -behind])[0])
    return int(missing.argmax())


def _prove(division: Division, src: Numbers, tgt: Numbers) -> None:
    """Raise where a vertex is in two splits, which cannot be."""
    vertices = np.concatenate([src, tgt])
    splits = np.concatenate([division.split, division.split])[vertices != NOTHING]
    _, number = np.unique(vertices[vertices != NOTHING], return_inverse=True)
    number = number.reshape(-1)
    count = int(number.max(initial=-1)) + 1
    low, high = np.full(count, 127, np.int8), np.full(count, -1, np.int8)
    np.minimum.at(low, number, splits)
    np.maximum.at(high, number, splits)
    if (low != high).any():
        raise AssertionError("a recording or text is in two splits")
