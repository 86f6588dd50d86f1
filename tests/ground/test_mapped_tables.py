"""Tables mapped into memory: what is taken equals Arrow's own take, and memory is that of the rows taken."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import mapped_tables
from seamlessalign.errors import StorageError
from seamlessalign.mapped_tables import MappedTable, mappable, open_mapped, write_mappable

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64()), ("share", pa.float32())])


def rows_of(begin: int, end: int) -> pa.Table:
    numbers = range(begin, end)
    shares = [None if number % 7 == 3 else number / 8 for number in numbers]
    names = [None if number % 5 == 2 else f"ñame {number}" for number in numbers]
    return pa.table({"name": names, "number": list(numbers), "share": shares}, SCHEMA)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_taking_rows_is_what_arrow_does(data: st.DataObject, sizes: list[int]) -> None:
    edges = np.cumsum([0, *sizes])
    parts = [rows_of(int(a), int(b)) for a, b in pairwise(edges)]
    batches = [batch for part in parts for batch in part.to_batches()]
    table = MappedTable(batches, SCHEMA)
    assert len(table) == edges[-1]
    rows = data.draw(st.lists(st.integers(0, int(edges[-1]) - 1), max_size=20)) if edges[-1] else []
    wanted = pa.concat_tables(parts).take(pa.array(rows, pa.int64()))
    assert table.take(np.array(rows, np.int64)).equals(wanted)
    assert table.take(np.array(rows, np.int64), ["share"]).equals(wanted.select(["share"]))


@pytest.mark.parametrize("row", [-1, 10])
def test_rows_that_are_not_there_are_an_error(row: int) -> None:
    with pytest.raises(IndexError, match=f"rows {row} to {row} of 10"):
        MappedTable(rows_of(0, 10).to_batches(), SCHEMA).take(np.array([row]))


def test_written_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_tables, "ROWS", 8)
    path = tmp_path / "table.arrow"
    parts = [rows_of(0, 20), rows_of(20, 20), rows_of(20, 25).to_batches()[0]]
    assert write_mappable(path, parts, mappable(SCHEMA)) == 25
    table = open_mapped(path)
    assert [len(batch) for batch in table.batches] == [8, 8, 4, 5]
    assert table.table.cast(SCHEMA).equals(rows_of(0, 25))
    path.unlink()
    assert table.column("number").to_pylist() == list(range(25))  # a file that is gone stays readable


@pytest.mark.parametrize("size", [0, 10, 700])
def test_a_file_that_was_cut_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "table.arrow"
    write_mappable(path, [rows_of(0, 100)], mappable(SCHEMA))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StorageError, match=r"s3://there/eng\.arrow: is not a whole table"):
        open_mapped(path, "s3://there/eng.arrow")


def test_memory_is_that_of_the_rows_taken(tmp_path: Path) -> None:
    """A thousand rows of a table of 200 MB, in a process whose own memory is measured."""
    path = tmp_path / "table.arrow"
    names = pa.array([f"{number:01000d}" for number in range(10_000)], pa.large_string())
    write_mappable(path, [pa.table({"name": names})] * 20, pa.schema([("name", pa.large_string())]))
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from seamlessalign.mapped_tables import open_mapped\n"
        "def own():\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(status.partition('RssAnon:')[2].split()[0]) // 1024\n"
        "table = open_mapped(Path(sys.argv[1]))\n"
        "table.take(np.arange(0, 200_000, 20_000))\n"  # what is loaded on first use is not of the rows
        "before = own()\n"
        "rows = table.take(np.arange(0, 200_000, 200))\n"
        "print(len(table), len(rows), rows.nbytes >> 10, own() - before)\n"
    )
    house = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=house, capture_output=True, text=True)
    length, taken, size, memory = map(int, done.stdout.split())
    assert (length, taken) == (200_000, 1_000) and size >= 970
    assert memory < 40, done.stdout
