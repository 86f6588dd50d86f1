"""Rows and outputs joined by id: what is missing is counted, what cannot be meant is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.rows import (
    TestRow,
    by_direction,
    read_outputs,
    read_test_rows,
)

ROWS = [TestRow(str(i), "fra", "eng", (f"text {i}",)) for i in range(4)]


def _jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "made.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(folder / name)


class TestTestRows:
    ROW = {"id": "a", "src_lang": "fr", "tgt_lang": "eng", "reference": "NA", "src_text": "null"}

    def test_texts_are_texts(self, tmp_path: Path) -> None:
        (row,) = read_test_rows(_jsonl(tmp_path, [self.ROW]))
        assert (row.references, row.src_text, row.direction) == (("NA",), "null", "fra-eng")

    def test_tsv_and_parquet_are_read_alike(self, tmp_path: Path) -> None:
        rows = [self.ROW, self.ROW | {"id": "b", "reference": "", "src_text": "nan"}]
        (tmp_path / "rows.tsv").write_text(
            "\t".join(self.ROW) + "\n" + "".join("\t".join(row.values()) + "\n" for row in rows), encoding="utf-8"
        )
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        read = [read_test_rows(str(tmp_path / name)) for name in ("rows.tsv", "rows.parquet")]
        assert read[0] == read[1] == read_test_rows(_jsonl(tmp_path, rows))

    def test_several_references(self, tmp_path: Path) -> None:
        (row,) = read_test_rows(_jsonl(tmp_path, [self.ROW | {"reference": ["one", "NA"]}]))
        assert row.references == ("one", "NA")

    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            ([], "has no rows"),
            ([ROW, ROW], "1 ids are there more than once: a"),
            ([ROW | {"id": None}], "row 0: has no id"),
            ([ROW | {"src_lang": "qqq"}], "row 0: src_lang: "),
            ([{key: value for key, value in ROW.items() if key != "tgt_lang"}], "tgt_lang is not there: add"),
            ([ROW | {"reference": []}], "row 0: a list of references is empty"),
        ],
    )
    def test_what_cannot_be_meant(self, tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
        with pytest.raises(InputError, match=told):
            read_test_rows(_jsonl(tmp_path, rows))

    def test_tagalog_is_a_language(self, tmp_path: Path) -> None:
        (row,) = read_test_rows(_jsonl(tmp_path, [self.ROW | {"src_lang": "tgl"}]))
        assert row.src_lang == "tgl"

    def test_directions(self) -> None:
        rows = [*ROWS, TestRow("x", "deu", "eng")]
        assert by_direction(rows) == {"deu-eng": [4], "fra-eng": [0, 1, 2, 3]}


class TestOutputs:
    @given(st.permutations([0, 1, 2, 3]), st.integers(0, 4))
    def test_any_order_and_any_number_missing(
        self, tmp_path_factory: pytest.TempPathFactory, order: list[int], there: int
    ) -> None:
        made = [{"id": str(i), "text": f"made {i}"} for i in order[:there]] + [{"id": "0x", "text": "of another"}]
        place = _jsonl(tmp_path_factory.mktemp("outputs"), made)
        if not there:
            with pytest.raises(InputError, match="has none of the test set's ids, such as 0, 1, 2 …"):
                read_outputs("ours", place, ROWS)
            return
        found = read_outputs("ours", place, ROWS)
        assert found.texts() == [f"made {i}" if i in order[:there] else None for i in range(4)]
        assert found.missing == [str(i) for i in range(4) if i not in order[:there]]
        assert found.not_asked == 1

    def test_null_is_missing_and_empty_is_not(self, tmp_path: Path) -> None:
        made: list[dict[str, Any]] = [{"id": "0", "text": None}, {"id": "1", "text": ""}, {"id": "2", "text": "null"}]
        found = read_outputs("ours", _jsonl(tmp_path, made), ROWS)
        assert (found.texts(), found.missing) == ([None, "", "null", None], ["0", "3"])

    def test_by_place_where_there_are_no_ids(self, tmp_path: Path) -> None:
        lines = [{"text": str(i)} for i in range(4)]
        assert read_outputs("ours", _jsonl(tmp_path, lines), ROWS).texts() == ["0", "1", "2", "3"]
        for wrong, told in ((lines[:3], "and 3 lines for the 4"), ([*lines, {"text": "x"}], "more lines than the 4")):
            with pytest.raises(InputError, match=told):
                read_outputs("ours", _jsonl(tmp_path, wrong), ROWS)

    def test_twice_or_without_anything(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="1 ids are there more than once: 2"):
            read_outputs("ours", _jsonl(tmp_path, [{"id": "2", "text": "a"}, {"id": "2", "text": "b"}]), ROWS)
        with pytest.raises(InputError, match="has neither text nor audio, but id, hypothesis"):
            read_outputs("ours", _jsonl(tmp_path, [{"id": "2", "hypothesis": "a"}]), ROWS)

    def test_sound_beside_the_manifest(self, tmp_path: Path) -> None:
        found = read_outputs("ours", _jsonl(tmp_path, [{"id": "1", "audio": "a/1.wav"}]), ROWS)
        assert found.outputs[1].sound is not None
        assert found.outputs[1].sound.path == str(tmp_path / "a/1.wav")
        assert found.missing == ["0", "2", "3"]
