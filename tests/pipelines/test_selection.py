from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import (
    MOST_MARGIN,
    Cut,
    Filter,
    Selection,
    list_selections,
    read_selection,
    write_selection,
)
from seamlessalign.typed_config import checked

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")

ROWS: list[dict[str, Any]] = [
    {"n": 0, "margin": 1.1, "precision_estimate": 0.5, "kept": False, "drop_reason": "below_threshold", "text": "a"},
    {"n": 1, "margin": 1.4, "precision_estimate": 0.8, "kept": True, "drop_reason": None, "text": "it's; drop"},
    {"n": 2, "margin": 1.6, "precision_estimate": None, "kept": True, "drop_reason": None, "text": None},
    {"n": 3, "margin": 1.9, "precision_estimate": 0.9, "kept": False, "drop_reason": "overlap", "text": "É b"},
]
FLOATS = {"margin": pa.float32(), "precision_estimate": pa.float32()}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    root = tmp_path_factory.mktemp("run")
    part = root / "pairs" / "direction=eng-frA" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    table = pa.Table.from_pylist(ROWS)
    for name, kind in FLOATS.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    pq.write_table(table, part)
    return RunTables(str(root))


def chosen(tables: RunTables, cut: Cut) -> list[int]:
    sql, parameters = cut.clause()
    found: list[int] = tables.ask(f"select n from pairs where {sql} order by n", parameters)["n"].to_pylist()
    return found


class TestCut:
    def test_without_a_bound_the_runs_own_choice_stays(self, tables: RunTables) -> None:
        assert chosen(tables, Cut()) == [1, 2]

    def test_a_lower_bound_takes_back_only_what_the_cut_rejected(self, tables: RunTables) -> None:
        assert chosen(tables, Cut(min_margin=1.0)) == [0, 1, 2]
        assert chosen(tables, Cut(min_margin=1.4)) == [1, 2]  # 1.4 is kept as a float32, which is more than 1.4
        assert chosen(tables, Cut(min_precision=0.8)) == [1]  # what has no estimate has none that is enough

    @pytest.mark.parametrize(
        ("op", "column", "value", "expected"),
        [
            ("at_least", "margin", 1.5, [2]),
            ("at_most", "margin", 1.5, [1]),
            ("contains", "text", "IT'S", [1]),
            ("one_of", "text", ["it's; drop", "x"], [1]),
            ("one_of", "text", [], []),
            ("none_of", "text", ["x"], [1]),
            ("is_null", "text", None, [2]),
            ("is_not_null", "text", None, [1]),
        ],
    )
    def test_filters(self, tables: RunTables, op: str, column: str, value: object, expected: list[int]) -> None:
        one = Filter.model_validate({"column": column, "op": op, "value": value})
        assert chosen(tables, Cut(filters=[one])) == expected

    @given(st.text(max_size=20))
    def test_a_text_is_never_read_as_sql(self, tables: RunTables, text: str) -> None:
        found = chosen(tables, Cut(filters=[Filter(column="text", op="contains", value=text)]))
        assert found == ([1] if text.lower() in ROWS[1]["text"] else [])

    @pytest.mark.parametrize(
        "raw",
        [
            *({"min_margin": value} for value in (1e39, -1e39, float("inf"), float("nan"))),
            *({"min_precision": value} for value in (-0.01, 1.01, 1.9)),
            *(
                {"filters": [{"column": "text", "op": op, "value": value}]}
                for op, value in (("contains", 3), ("at_least", True), ("one_of", "x"))
            ),
        ],
    )
    def test_what_is_no_bound_is_refused(self, raw: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            checked(Cut, raw, "a cut")

    def test_the_furthest_bounds_can_be_asked(self, tables: RunTables) -> None:
        assert chosen(tables, Cut(min_margin=MOST_MARGIN)) == []
        assert chosen(tables, Cut(min_margin=-MOST_MARGIN)) == [0, 1, 2]


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        filters = [Filter(column="src_text", op="contains", value="é")]
        selection = Selection(
            directions={"eng-frA": Cut(min_margin=1.25, filters=filters), "enA-frA": Cut()}, note="ok"
        )
        write_selection(str(tmp_path), "first-choice", selection)
        assert read_selection(str(tmp_path), "first-choice") == selection
        assert list_selections(str(tmp_path)) == ["first-choice"]

    @pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a" * 65, "a\nb"])
    def test_a_name_leads_nowhere_else(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match="cannot name a selection"):
            write_selection(str(tmp_path), name, Selection(directions={}))
        assert list(tmp_path.iterdir()) == []

    def test_what_is_not_there_or_damaged_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has no selection 'x'; there are: none"):
            read_selection(str(tmp_path), "x")
        (tmp_path / "selections").mkdir()
        (tmp_path / "selections" / "x.yaml").write_text("directions: {eng-frA: {min_margin: high}}")
        with pytest.raises(ConfigError, match="min_margin"):
            read_selection(str(tmp_path), "x")

    @pytest.mark.parametrize(
        "raw",
        [
            {"column": 'a"; drop', "op": "is_null"},
            {"column": "margin", "op": "at_least", "value": "high"},
            {"column": "margin", "op": "one_of", "value": "x"},
            {"column": "margin", "op": "is"},
        ],
    )
    def test_filters_that_cannot_be(self, raw: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"column|number|list|op"):
            Filter.model_validate(raw)
