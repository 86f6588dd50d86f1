"""The chosen pairs of a run divided into splits: what they share is in its tables, and what comes of it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.exports.choice import Choice
from seamlessalign.pipelines.exports.hanging_together import Numbers
from seamlessalign.pipelines.exports.splits import (
    STRADDLES,
    Division,
    Straddling,
    divide,
    document_numbers,
    recording_numbers,
    text_numbers,
)
from seamlessalign.pipelines.row_ids import numbers_of_hex
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import SAMPLE_RATE

Apart = Literal["texts", "documents"]
STRADDLING = "straddles_splits"  # the reason of pairs that share something with two splits


@dataclass(frozen=True)
class Parts:
    """What splits are asked for."""

    shares: Mapping[str, float]  # by split
    seed: int = 0
    straddling: Straddling = "leave-out"  # what becomes of pairs that share something with two splits
    apart: Apart = "texts"  # what of texts two splits do not share: texts, or whole documents too


def divided(tables: RunTables, choices: Sequence[Choice], parts: Parts) -> Division:
    """Divide the pairs that are left of choices, one behind the other.

    Raises InputError where documents are to be apart and the run does not say which document a text is from.
    """
    documents = _Documents(tables) if parts.apart == "documents" else None
    pairs = sum(len(choice.reasons.left) for choice in choices)
    src, tgt, texts = (np.zeros(pairs, np.uint64) for _ in range(3))
    weights, begin = np.zeros(pairs, np.int64), 0
    for choice in choices:
        samples = choice.samples
        for rows, some in choice.batches(["src_id", "tgt_id", "src_text", "tgt_text"]):
            place = slice(begin, begin + len(rows))
            weights[place] = samples[rows]
            for side, numbers in (("src", src), ("tgt", tgt)):
                ids, text = (_strings(some, f"{side}_{name}") for name in ("id", "text"))
                if side in choice.audio:
                    numbers[place] = recording_numbers(ids)
                elif documents is None:
                    numbers[place] = text_numbers(text)
                else:
                    numbers[place], texts[place] = documents.of(ids), text_numbers(text)
            begin += len(rows)
    also = None if documents is None else texts
    return divide(src, tgt, weights, parts.shares, parts.seed, parts.straddling, also)


def _strings(table: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *table.column(name).cast(pa.string()).chunks])


class _Documents:
    """Which document each sentence of a run is from: of each, 16 bytes are in memory."""

    def __init__(self, tables: RunTables) -> None:
        self._root = tables.root
        names, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for uris in tables.parts.get("sentences", {}).values():
            for batch in (batch for uri in uris for batch in storage.read_batches(uri, ["sentence_id", "document_id"])):
                names.append(numbers_of_hex(batch.column("sentence_id"))[0])
                documents.append(document_numbers(batch.column("document_id")))
        self._names, self._documents = np.concatenate(names), np.concatenate(documents)
        order = np.argsort(self._names, kind="stable")
        self._names, self._documents = self._names[order], self._documents[order]

    def of(self, sentence_ids: pa.Array) -> Numbers:
        """Numbers of the documents of some sentences, (num_rows,). Raises InputError for one that the run has not."""
        wanted, good = numbers_of_hex(sentence_ids)
        at = np.minimum(np.searchsorted(self._names, wanted), max(len(self._names) - 1, 0))
        there = good & (self._names[at] == wanted) if len(self._names) else np.zeros(len(wanted), bool)
        if not there.all():
            name = sentence_ids[int(np.flatnonzero(~there)[0])].as_py()
            raise InputError(
                f"{self._root}: its table of sentences does not say which document {name} is from; "
                "export with --apart texts"
            )
        return self._documents[at]


def drop_straddling(choices: Sequence[Choice], division: Division) -> list[npt.NDArray[np.int8] | None]:
    """Leave out the pairs that straddle; by direction the splits of those that are left then."""
    splits, begin = list[npt.NDArray[np.int8] | None](), 0
    for choice in choices:
        left = choice.reasons.left
        split = division.split[begin : begin + len(left)]
        begin += len(left)
        choice.reasons.drop(left[split == STRADDLES], STRADDLING)
        splits.append(split[split != STRADDLES])
    return splits


def empty(division: Division, names: Sequence[str], splits: Sequence[npt.NDArray[np.int8] | None]) -> list[str]:
    """Lines for people, where a direction has nothing in a split."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, split in zip(names, splits, strict=True):
        pairs = np.bincount(split, minlength=len(division.names)) if split is not None else np.zeros(0)
        missing = tuple(one for one, count in zip(division.names, pairs, strict=True) if not count)
        if missing and pairs.any():
            found.setdefault(missing, []).append(name)
    return [
        f"{' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} no pair of {', '.join(those)}"
        for missing, those in found.items()
    ]


def told(division: Division, parts: Parts) -> dict[str, Any]:
    """What became of the shares, for the plan."""
    return {
        "seed": parts.seed,
        "groups": division.num_components,
        "largest_group_seconds": division.largest / SAMPLE_RATE,
        "asked": dict(parts.shares),
        "straddling": parts.straddling,
        "apart": parts.apart,
        "left_out": division.straddling,
    }
