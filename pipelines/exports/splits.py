"""Pairs → splits, so that no recording and no text is on two sides of one.

Two pairs that share a recording, or say the same text, belong together, and so does whatever hangs together through
others: the connected components of the graph whose vertices are recordings and texts and whose edges are pairs. A
component goes to one split as a whole where splits of about the asked sizes come of that. Else those that are too large
are broken up (`held_out`), and pairs that would lie across are left out, unless that is not wanted. Which split
something goes to depends on the seed and on what there is, not on the order of the rows.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from seamlessalign.errors import InputError
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.exports.hanging_together import NOTHING, Graph, Numbers, Weights, sums
from seamlessalign.pipelines.exports.held_out import Aim, break_up, fill, seeds_of
from seamlessalign.pipelines.row_ids import spans_of_ids

Straddling = Literal["leave-out", "keep-together"]

STRADDLES = -1  # in place of a split
_TEXT = np.uint64(1)  # the bit that numbers of texts have, and those of recordings have not
_ID = 16  # characters of the id of a recording, behind which a segment's goes on with its channel or times
_TOLERANCE = 1e-9  # of the sum of shares


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
        if name.lower() in map(str.lower, shares):  # some disks take both for one folder
            raise InputError(f"--splits: {name!r} is there twice")
        shares[name] = value
    if abs(sum(shares.values()) - 1) > _TOLERANCE:
        raise InputError(f"--splits: the shares of {', '.join(shares)} add up to {sum(shares.values()):g}, not to 1")
    return shares


def recording_numbers(segment_ids: pa.Array) -> Numbers:
    """Numbers of the recordings of segments by their ids, (num_rows,): channels of one file have the same number."""
    hashes = pc.binary_slice(segment_ids.cast(pa.binary()), 0, _ID + 1)
    words = hashes.dictionary_encode()
    known = words.dictionary.to_pylist()
    if not all(re.fullmatch(rb"[0-9a-f]{%d}[:.]" % _ID, word) for word in known):  # not as runs name them
        words = spans_of_ids(segment_ids)[0].cast(pa.binary()).dictionary_encode()
        known = [bytes(word).partition(b".")[0] + b":" for word in words.dictionary.to_pylist()]
    of_word = np.array([_number_of_recording(word[:-1]) for word in known] + [NOTHING], np.uint64)
    return np.asarray(of_word[words.indices.fill_null(len(known)).to_numpy()])


def text_numbers(texts: pa.Array) -> Numbers:
    """Numbers of texts, (num_rows,), equal for those that differ in case, punctuation and spaces alone."""
    words = texts.dictionary_encode()
    folded = fold(words.dictionary).cast(pa.binary()).to_pylist()
    of_word = np.fromiter(map(xxh3_64_intdigest, folded), np.uint64, len(folded)) | _TEXT
    return np.asarray(np.append(of_word, NOTHING)[words.indices.fill_null(len(folded)).to_numpy()])


def document_numbers(documents: pa.Array) -> Numbers:
    """Numbers of documents by their ids, (num_rows,)."""
    words = documents.cast(pa.string()).dictionary_encode()
    of_word = [xxh3_64_intdigest(f"document\n{name}".encode()) | 1 for name in words.dictionary.to_pylist()]
    return np.asarray(np.array([*of_word, NOTHING], np.uint64)[words.indices.fill_null(len(of_word)).to_numpy()])


def _number_of_recording(name: bytes) -> int:
    return (xxh3_64_intdigest(name) & ~1) or 2


@dataclass(frozen=True)
class Division:
    """Which split each pair went to, and how near that is to what was asked."""

    names: tuple[str, ...]
    split: npt.NDArray[np.int8]  # (num_pairs,), into names; `STRADDLES` for what is left out
    weights: tuple[float, ...]  # by split: samples, or pairs where there is no sound
    targets: tuple[float, ...]  # what was asked, of what is not left out
    largest: float  # the weight of the largest component
    num_components: int
    num_recordings: int
    how: Straddling
    unit: str  # what is in one split beside recordings: text, or document
    straddling: int  # pairs that are left out
    total: float  # weight of all pairs

    @property
    def notes(self) -> list[str]:
        """Lines for people: what was left out, and which splits have less than half, or more than double, of what was
        asked."""
        lines = []
        if self.straddling:
            share = self.straddling / len(self.split)
            lines.append(
                f"{self.straddling:,} of {len(self.split):,} pairs ({share:.1%}) are left out, since "
                f"they share a recording or a {self.unit} with two splits; --straddling keep-together leaves none out, "
                "and makes splits as large as that allows"
            )
        kept = sum(self.weights) or 1.0
        for name, weight, target in zip(self.names, self.weights, self.targets, strict=True):
            if not 0.5 * target <= weight <= 2 * target:
                lines.append(f"{name} has {weight / kept:.1%} and not {target / kept:.1%}: {self._why}")
        return lines

    @property
    def _why(self) -> str:
        if self.num_recordings < len(self.names):
            return f"all is cut from {self.num_recordings} recording{'' if self.num_recordings == 1 else 's'}"
        if self.straddling:
            return "no choice of recordings and texts comes nearer without leaving out more"
        dear = ", and to break it up would leave out too many" if self.how == "leave-out" else ""
        if self.num_components == 1:
            return f"all hang together through recordings or {self.unit}s that they share{dear}"
        return (
            f"pairs that share a recording or a {self.unit} stay together, and of {self.num_components:,} such groups "
            f"the largest has {self.largest / (self.total or 1.0):.1%}{dear}"
        )


def divide(
    src: Numbers,
    tgt: Numbers,
    weight: npt.NDArray[np.int64],
    shares: Mapping[str, float],
    seed: int,
    straddling: Straddling = "leave-out",
    also: Numbers | None = None,
) -> Division:
    """Give every pair a split.

    src, tgt: vertices, (num_pairs,); weight: samples of each pair, or 1; shares: by split, above 0, with the sum 1;
    also: what is on no two sides either, (num_pairs,), `NOTHING` for none: of pairs that share such a thing, those that
    are in another split than most of their weight are left out.
    """
    if (
        also is not None and straddling == "keep-together"
    ):  # it hangs together with what its pair does, and weighs nothing
        more = divide(
            np.concatenate([src, also]), np.concatenate([tgt, np.maximum(src, tgt)]),
            np.concatenate([weight, np.zeros(len(weight), np.int64)]), shares, seed, straddling,
        )  # fmt: skip
        return replace(more, split=more.split[: len(src)])
    names, sizes = tuple(shares), weight.astype(np.float64)
    aim = Aim(np.array(list(shares.values())), seeds_of(names, seed))
    graph = Graph.of(src, tgt)
    is_text = (graph.numbers & _TEXT) == _TEXT
    heads, of_vertex = np.unique(graph.component, return_inverse=True)
    of_vertex = of_vertex.reshape(-1)
    groups = sums(of_vertex[graph.src], sizes, len(heads))
    total = float(groups.sum())
    split = fill(groups, graph.numbers[heads], aim.shares * total, aim)[of_vertex]
    if straddling == "leave-out" and total:
        broken = break_up(graph, is_text, sizes, split, aim)
        split = split if broken is None else broken
    src_split, tgt_split = split[graph.src], split[graph.tgt]
    of_pair = np.where(src_split == tgt_split, src_split, STRADDLES).astype(np.int8)
    if also is not None:
        _leave_out_shared(of_pair, also, sizes, len(names))
    there = of_pair != STRADDLES
    weights = sums(of_pair[there], sizes[there], len(names))
    division = Division(
        names, of_pair, tuple(weights.tolist()), tuple((aim.shares * weights.sum()).tolist()),
        float(groups.max(initial=0.0)), len(heads), int((~is_text).sum()), straddling,
        "text" if also is None else "document",         int((~there).sum()), total,
    )  # fmt: skip
    _prove(division, [src, tgt] if also is None else [src, tgt, also])
    return division


def _leave_out_shared(of_pair: npt.NDArray[np.int8], shared: Numbers, sizes: Weights, count: int) -> None:
    """Leave out pairs that share something of which more is in another of `count` splits."""
    there = np.flatnonzero((of_pair != STRADDLES) & (shared != NOTHING))
    number = np.unique(shared[there], return_inverse=True)[1].reshape(-1)
    weights = sums(number * count + of_pair[there], sizes[there], (int(number.max(initial=-1)) + 1) * count)
    of_pair[there[weights.reshape(-1, count).argmax(1)[number] != of_pair[there]]] = STRADDLES


def _prove(division: Division, sides: Sequence[Numbers]) -> None:
    """Raise where a vertex is in two splits, which cannot be."""
    there = division.split != STRADDLES
    vertices = np.concatenate([side[there] for side in sides])
    splits = np.concatenate([division.split[there]] * len(sides))[vertices != NOTHING]
    _, number = np.unique(vertices[vertices != NOTHING], return_inverse=True)
    number = number.reshape(-1)
    count = int(number.max(initial=-1)) + 1
    low, high = np.full(count, 127, np.int8), np.full(count, -1, np.int8)
    np.minimum.at(low, number, splits)
    np.maximum.at(high, number, splits)
    if (low != high).any():
        raise AssertionError("a recording or text is in two splits")
