"""Candidates and their reasons as rows of `pairs`, made in parts."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.languages import Side
from seamlessalign.mapped_tables import MappedTable
from seamlessalign.pipelines import pair_tables
from seamlessalign.pipelines.ledger import Tally
from seamlessalign.pipelines.pair_tables import Candidates, Reasons, count_pairs, pairs_table
from seamlessalign.rows import PAIRS, pair_id

ROWS = 23


def candidates() -> Candidates:
    """Sentences against spans of five recordings, whose names do not come in the order of the rows."""
    numbers = np.arange(ROWS)
    recordings = [f"r{(7 * number) % 5}" for number in numbers]
    texts = pa.table({"sentence_id": [f"s{n}" for n in numbers], "text": [f"text {n}" for n in numbers]})
    spans = pa.table(
        {
            "segment_id": [f"g{n}" for n in numbers],
            "recording_id": recordings,
            "uri": [f"{name}.wav" for name in recordings],
            "start": 10 * numbers,
            "end": 10 * numbers + 4,
        }
    )
    sure = pa.array(np.full(ROWS, 0.5, np.float32))
    texts, spans = (side.append_column("lang_prob", sure) for side in (texts, spans))
    src, tgt = (MappedTable(side.combine_chunks().to_batches(max_chunksize=6), side.schema) for side in (texts, spans))
    pairs: dict[str, Any] = {"src": (5 * numbers) % ROWS, "tgt": (3 * numbers) % ROWS}
    pairs |= {name: np.linspace(2, 1, ROWS, dtype=np.float32) for name in ("margin", "cosine", "precision_estimate")}
    pairs |= {name: np.zeros(ROWS, np.int16) for name in ("forward_rank", "backward_rank")}
    return Candidates(Side("eng", False), Side("spa", True), src, tgt, pa.table(pairs), "none")


@pytest.mark.parametrize("rows", [1, 4, ROWS, 100])
def test_rows_are_the_same_in_whatever_parts(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    found, reasons = candidates(), Reasons(ROWS)
    reasons.drop(np.arange(0, ROWS, 3), "overlap")
    reasons.drop(np.arange(0, ROWS, 2), "too_long")
    monkeypatch.setattr(pair_tables, "ROWS", rows)
    table = pairs_table("eng-esA", found, reasons)
    assert table.schema == PAIRS
    tally = Tally()
    for row, line in enumerate(table.to_pylist()):
        src, tgt = (5 * row) % ROWS, (3 * row) % ROWS
        why = "overlap" if row % 3 == 0 else "too_long" if row % 2 == 0 else None
        recording = f"r{(7 * tgt) % 5}.wav"
        assert (line["src_id"], line["src_text"], line["tgt_id"]) == (f"s{src}", f"text {src}", f"g{tgt}")
        assert (line["tgt_uri"], line["tgt_start"], line["tgt_end"]) == (recording, 10 * tgt, 10 * tgt + 4)
        assert (line["pair_id"], line["direction"]) == (pair_id(f"s{src}", f"g{tgt}"), "eng-esA")
        assert (line["src_lang"], line["tgt_lang"], line["src_uri"], line["tgt_text"]) == ("eng", "spa", None, None)
        assert (line["kept"], line["drop_reason"]) == (why is None, why)
    for part in pair_tables.pair_tables("eng-esA", found, reasons):
        count_pairs(tally, part)
    kept = sum(row % 3 > 0 and row % 2 > 0 for row in range(ROWS))
    assert (tally.rows_in, tally.rows_kept, tally.samples_in, tally.samples_kept) == (ROWS, kept, 4 * ROWS, 4 * kept)
    assert tally.dropped == {"overlap": 8, "too_long": ROWS - 8 - kept}


def test_recordings_are_numbered_in_the_order_of_their_names() -> None:
    found, rows = candidates(), np.arange(ROWS)
    wanted = [(7 * ((3 * row) % ROWS)) % 5 for row in rows.tolist()]
    assert found.recordings("tgt", rows).tolist() == wanted
    assert found.recordings("tgt", rows[::-2]).tolist() == wanted[::-2]


@given(notes=st.lists(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=6, max_size=6), max_size=5))
def test_the_first_reason_counts(notes: list[list[str | None]]) -> None:
    reasons = Reasons(6)
    wanted: list[str | None] = [None] * 6
    for note in notes:
        reasons.note(np.arange(6), pa.array(note, pa.string()))
        wanted = [one or other for one, other in zip(wanted, note, strict=True)]
    assert reasons.column(np.arange(6)).to_pylist() == wanted
    assert reasons.column(np.array([4, 2, 4])).to_pylist() == [wanted[4], wanted[2], wanted[4]]
    assert reasons.left.tolist() == [row for row in range(6) if wanted[row] is None]
