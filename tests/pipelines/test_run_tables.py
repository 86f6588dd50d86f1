import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import PAIRS

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")


def _write(root: Path, direction: str, number: int, margins: list[float]) -> Path:
    uri = root / "pairs" / f"direction={direction}" / f"part-{number:05d}.parquet"
    uri.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            **dict.fromkeys(PAIRS.names),
            **{"pair_id": f"{direction}-{number}-{row}", "direction": direction, "src_id": "s", "tgt_id": "t"},
            **{"src_lang": "eng", "tgt_lang": "fra", "margin": margin, "cosine": 0.5, "kept": margin > 1},
            **{"forward_rank": 0, "backward_rank": 0},
        }
        for row, margin in enumerate(margins)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PAIRS), uri)
    return uri


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root = tmp_path / "it's a [run] *?"  # nothing of that means anything
    _write(root, "eng-frA", 0, [1.5, 0.5])
    _write(root, "eng-frA", 1, [1.25])
    _write(root, "eng-esA", 0, [2.0])
    (root / "pairs" / "direction=eng-esA" / "part-00000.parquet.tmp-1").write_bytes(b"half")
    return root


class TestRunTables:
    def test_all_parts_of_all_directions_are_one_table(self, run: Path) -> None:
        with RunTables(str(run)) as tables:
            assert tables.directions == ["eng-esA", "eng-frA"] and tables.names == ["pairs"]
            found = tables.ask("select direction, margin from pairs where kept order by margin").to_pylist()
            assert [(row["direction"], row["margin"]) for row in found] == [
                ("eng-frA", 1.25), ("eng-frA", 1.5), ("eng-esA", 2.0)
            ]  # fmt: skip
            assert tables.schema("pairs").names == PAIRS.names

    def test_a_row_is_found_again_by_its_place(self, run: Path) -> None:
        with RunTables(str(run)) as tables:
            (row,) = tables.ask("select filename, file_row_number from pairs where margin = 0.5").to_pylist()
        assert pq.read_table(row["filename"])["margin"][row["file_row_number"]].as_py() == 0.5

    def test_nothing_outside_the_folder_can_be_read_or_written(self, run: Path) -> None:
        secret = run.parent / "secret.parquet"
        shutil.copy(run / "pairs" / "direction=eng-esA" / "part-00000.parquet", secret)
        with RunTables(str(run)) as tables:
            for path in (secret, run / ".." / "secret.parquet", Path("/etc/passwd")):
                with pytest.raises(Exception, match="disabled by configuration"):
                    tables.ask("select * from read_blob(?)", [str(path)])
            with pytest.raises(Exception, match="disabled by configuration"):
                tables.cursor().execute(f"copy (select 1) to '{run.parent / 'out.csv'}'")
            with pytest.raises(Exception, match=r"(?i)cannot"):
                tables.cursor().execute("set enable_external_access = true")
            with pytest.raises(Exception, match="locked"):
                tables.cursor().execute("set memory_limit = '1GB'")
        assert not (run.parent / "out.csv").exists()

    def test_tables_are_kept_and_laid_beside(self, run: Path) -> None:
        pairs = pa.table({"pair_id": ["eng-frA-0-0", "eng-frA-1-0"], "n": [3, 4]})
        with RunTables(str(run)) as tables:
            tables.keep("own", pairs)
            tables.keep("own", pairs.slice(1))  # there is one
            assert tables.ask("select sum(n) as n from own join pairs using (pair_id)")["n"].to_pylist() == [7]
            query = "select n from beside_it order by n"
            found = list(tables.batches(query, rows=1, beside={"beside_it": pairs}))
            assert [batch.to_pydict() for batch in found] == [{"n": [3]}, {"n": [4]}]
            with pytest.raises(Exception, match="does not exist"):
                tables.ask(query)

    def test_a_closed_one_says_so(self, run: Path) -> None:
        with RunTables(str(run)) as tables:
            pass
        with pytest.raises(InputError, match="was closed; open it again"):
            tables.ask("select 1")

    def test_threads_ask_at_one_time(self, run: Path) -> None:
        found: list[int] = []
        with RunTables(str(run)) as tables:
            asking = [
                threading.Thread(target=lambda: found.append(tables.ask("select * from pairs").num_rows))
                for _ in range(8)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
        assert found == [4] * 8

    def test_what_is_no_run_is_told(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "around" / "run").mkdir(parents=True)
        (tmp_path / "around" / "run" / "run.yaml").write_text("name: x\n")
        with pytest.raises(InputError, match=r"around: has none of .*; there is one in .*around/run$"):
            RunTables(str(tmp_path / "around"))
        with pytest.raises(InputError, match="is it a run's folder"):
            RunTables(str(run.parent / "nothing"))
        with RunTables(str(run)) as tables, pytest.raises(InputError, match="eng-esA, eng-frA"):
            tables.check_direction("eng-itA")

    @pytest.mark.parametrize("part", ["direction=eng-esA/part-00000", "direction=eng-frA/part-00001"])
    def test_a_damaged_file_is_named(self, run: Path, part: str) -> None:
        (run / "pairs" / f"{part}.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(StorageError, match=part), RunTables(str(run)) as tables:
            tables.ask("select sum(margin) from pairs")

    def test_damage_within_a_file_names_it(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = _write(run, "eng-frA", 1, [1.25] * 1000)
        data = bytearray(path.read_bytes())
        data[4:200] = b"\xff" * 196  # the header of the first page of pair_id, and more
        path.write_bytes(data)
        named = r"direction=eng-frA/part-00001\.parquet: is not a readable Parquet file"
        with RunTables(str(run)) as tables:
            for query in ("select count(distinct pair_id) from pairs", "select * from pairs"):
                with pytest.raises(StorageError, match=named):
                    tables.ask(query)
                with pytest.raises(StorageError, match=named):
                    list(tables.batches(query))
            assert tables.ask("select count(margin) as n from pairs").to_pylist() == [{"n": 1003}]  # of whole columns
            with pytest.raises(StorageError, match=named), tables._telling("select pair_id from pairs"):
                b"\xff".decode()  # as DuckDB's own messages of damage may end
            with (
                pytest.raises(StorageError, match="a table of the run cannot be read: "),
                tables._telling("margin, pairs"),
            ):
                b"\xff".decode()
