"""Candidates of a direction and why some are dropped, as rows of the table `pairs`, some at a time.

Of each candidate a few numbers are in memory. Texts, addresses and ids come from the sides' tables, which are mapped,
when they are looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.languages import Side
from seamlessalign.mapped_tables import MappedTable
from seamlessalign.mining.vectors import Indices
from seamlessalign.pipelines.ledger import Tally
from seamlessalign.rows import PAIRS, pair_id

ROWS = 100_000  # of `pairs` that are made at a time: a row group of its file

Which = Literal["src", "tgt"]
_SIDES: tuple[Which, Which] = ("src", "tgt")
_SPAN = {"uri": "uri", "start": "start", "end": "end", "recording": "recording_id"}


@dataclass(frozen=True)
class Candidates:
    """What the strategy puts forward for one direction, and the sides' tables (without embeddings) it points into."""

    src: Side
    tgt: Side
    src_table: MappedTable
    tgt_table: MappedTable
    pairs: pa.Table  # as `mine_candidates` gives it, with precision_estimate, which may be null
    decoys: str  # what the precision was estimated with, for people

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.pairs)

    def side(self, which: Which) -> Side:
        """A side."""
        return self.src if which == "src" else self.tgt

    @property
    def audio(self) -> list[Which]:
        """Which sides are speech."""
        return [which for which in _SIDES if self.side(which).is_audio]

    @property
    def margins(self) -> npt.NDArray[np.float32]:
        """Margin of each, (num_candidates,)."""
        return np.asarray(self.pairs.column("margin").to_numpy(), np.float32)

    def columns(self, rows: Indices, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Columns of `pairs` for some candidates (num_rows,), and recordings under `<side>_recording`.

        Of each side, what the table `pairs` has of it, but for the language; or of that what is named without its
        side: id, lang_prob, text, uri, start, end, recording. A side without it is left out.
        """
        found: dict[str, Any] = {}
        for which in _SIDES:
            inside = _in_table(self.side(which))
            wanted = {name: inside[name] for name in inside if names is None or name in names}
            if not wanted:
                continue
            lines = self.pairs.column(which).take(pa.array(rows)).to_numpy()
            table = self.src_table if which == "src" else self.tgt_table
            taken = table.take(lines, list(wanted.values()))
            for name, column in wanted.items():
                values = taken.column(column).combine_chunks()
                found[f"{which}_{name}"] = values.cast(pa.string()) if pa.types.is_large_string(values.type) else values
        return found

    def recordings(self, which: Which, rows: Indices) -> npt.NDArray[np.int64]:
        """Numbers (num_rows,) of the recordings of some candidates' spans, in the order of the recordings' ids."""
        table = self.src_table if which == "src" else self.tgt_table
        numbers = np.empty(len(table), np.int32)
        names: dict[str, int] = {}
        begin = 0
        for batch in table.batches:
            words = batch.column("recording_id").dictionary_encode()
            of_word = np.array([names.setdefault(name, len(names)) for name in words.dictionary.to_pylist()], np.int32)
            numbers[begin : begin + len(batch)] = of_word[words.indices.to_numpy()]
            begin += len(batch)
        place = np.empty(len(names), np.int64)
        place[[names[name] for name in sorted(names)]] = np.arange(len(names))
        found: npt.NDArray[np.int64] = place[numbers[self.pairs.column(which).take(pa.array(rows)).to_numpy()]]
        return found

    def by_audio(self, rows: Indices) -> Indices:
        """Some candidates in the order of their audio, so that what is near to each other is in few recordings."""
        keys: list[npt.NDArray[np.int64]] = []
        for which in self.audio:
            keys += [self.recordings(which, rows), self.columns(rows, ("start",))[f"{which}_start"].to_numpy()]
        return rows[np.lexsort([rows, *keys[::-1]])]


class Reasons:
    """Why each of many candidates is dropped; it stays as long as there is no reason. The first reason counts."""

    def __init__(self, rows: int) -> None:
        self._of = np.zeros(rows, np.int16)  # 0: stays
        self._names: list[str | None] = [None]

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self._of)

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which have none, (num_candidates,)."""
        return np.asarray(self._of == 0)

    @property
    def left(self) -> Indices:
        """The rows that have none."""
        return np.flatnonzero(self.kept)

    def drop(self, rows: Indices, reason: str) -> None:
        """Drop some rows, those for this reason that have none yet."""
        self.note(rows, pa.array([reason] * len(rows), pa.string()))

    def note(self, rows: Indices, reasons: Any) -> None:
        """Take over a column of reasons (num_rows,) for some rows, null for those that stay."""
        column = reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons
        words = column.dictionary_encode()
        for word in words.dictionary.to_pylist():
            if word not in self._names:
                self._names.append(word)
        of_word = np.array([self._names.index(word) for word in words.dictionary.to_pylist()] + [0], np.int16)
        codes = of_word[pc.fill_null(words.indices, len(of_word) - 1).to_numpy()]
        self._of[rows] = np.where(self._of[rows] == 0, codes, self._of[rows])

    def column(self, rows: Indices) -> pa.Array:
        """The reasons of some rows as strings, null for those that stay."""
        return pa.array(self._names, pa.string()).take(pa.array(self._of[rows]))


def pair_tables(name: str, candidates: Candidates, reasons: Reasons, rows: Indices | None = None) -> Iterator[pa.Table]:
    """Candidates as rows of the table `pairs`, in tables of `ROWS`; one without rows where there are none.

    rows: which, in that order; by default all, the best margin first.
    """
    for begin in range(0, max(len(candidates) if rows is None else len(rows), 1), ROWS):
        some = np.arange(begin, min(begin + ROWS, len(candidates))) if rows is None else rows[begin : begin + ROWS]
        columns = candidates.columns(some)
        for which in _SIDES:
            columns[f"{which}_lang"] = pa.array([candidates.side(which).lang] * len(some), pa.string())
        both = zip(columns["src_id"].to_pylist(), columns["tgt_id"].to_pylist(), strict=True)
        columns["pair_id"] = pa.array([pair_id(a, b) for a, b in both], pa.string())
        columns["direction"] = pa.array([name] * len(some), pa.string())
        for column in ("margin", "cosine", "forward_rank", "backward_rank", "precision_estimate"):
            columns[column] = candidates.pairs.column(column).take(pa.array(some))
        columns["kept"] = pa.array(reasons.kept[some])
        columns["drop_reason"] = reasons.column(some)
        nothing = pa.nulls(len(some))
        yield pa.table([columns.get(field.name, nothing) for field in PAIRS], names=PAIRS.names).cast(PAIRS)


def pairs_table(name: str, candidates: Candidates, reasons: Reasons) -> pa.Table:
    """The rows of the table `pairs`, best margin first, all in memory."""
    return pa.concat_tables(pair_tables(name, candidates, reasons))


def count_pairs(tally: Tally, pairs: pa.Table) -> None:
    """Count rows of the table of pairs; samples are those of the first side that is audio."""
    lengths = pa.array(np.zeros(len(pairs), np.int64))
    for which in _SIDES:
        if pairs.column(f"{which}_start").null_count < len(pairs):
            lengths = pc.subtract(pairs.column(f"{which}_end"), pairs.column(f"{which}_start"))
            break
    kept = pairs.column("kept")
    tally.keep(pc.sum(kept).as_py() or 0, pc.sum(lengths.filter(kept)).as_py() or 0)
    for reason in pc.unique(pairs.column("drop_reason").drop_null()).to_pylist():
        chosen = pc.fill_null(pc.equal(pairs.column("drop_reason"), reason), False)
        tally.drop(reason, pc.sum(chosen).as_py(), pc.sum(lengths.filter(chosen)).as_py())


def _in_table(side: Side) -> dict[str, str]:
    """Names of a side's columns in `pairs`, without their side, and in the side's table."""
    if side.is_audio:
        return {"id": "segment_id", "lang_prob": "lang_prob", **_SPAN}
    return {"id": "sentence_id", "lang_prob": "lang_prob", "text": "text"}
