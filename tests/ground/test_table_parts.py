"""The parts of a table: read as one, wherever they are, each byte once."""

from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from seamlessalign import storage, table_parts
from seamlessalign.errors import StorageError

TABLE = pa.table({"number": list(range(1000)), "text": [f"row {i}" for i in range(1000)]})


@pytest.fixture(params=["local", "file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/run"
    return {"local": f"{tmp_path}/run", "file": f"file://{tmp_path}/run", "memory": f"memory://{uuid4().hex}/run"}[
        request.param
    ]


def test_footers_are_read_from_the_ends_of_files(root: str) -> None:
    wide = pa.table({f"a column whose name is long {number}": [1, 2] for number in range(2000)})  # footer: 200 KiB
    tables = {"empty": TABLE.slice(0, 0), "some": TABLE.slice(0, 7), "all": TABLE, "wide": wide}
    uris = {name: storage.join(root, f"{name}.parquet") for name in tables}
    for name, table in tables.items():
        storage.write_table(uris[name], table, row_group_size=3)
    found = table_parts.footers(list(uris.values()))
    assert {uri: footer.num_rows for uri, footer in found.items()} == {uris[name]: len(tables[name]) for name in tables}
    assert found[uris["wide"]].schema.to_arrow_schema().names == wide.schema.names
    for damage in (b"", b"PAR1", b"no table"):
        storage.write_bytes_atomic(uris["some"], damage)
        with pytest.raises(StorageError, match="not a readable Parquet file") as caught:
            table_parts.footers(list(uris.values()))
        assert "some.parquet" in str(caught.value)
    with pytest.raises(StorageError, match=r"none\.parquet: is not a readable"):
        table_parts.footers([uris["all"], storage.join(root, "none.parquet")])


def test_batches_come_in_order(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [0, 3, 3, 40, 41, *range(50, 1001, 19), 1000]
    uris = [storage.join(root, f"part-{number:05d}.parquet") for number in range(len(cuts) - 1)]
    for uri, (begin, end) in zip(uris, pairwise(cuts), strict=True):
        storage.write_table(uri, TABLE.slice(begin, end - begin), row_group_size=5)
    for small in (table_parts._SMALL, 900, 0):  # bytes: all of them are, some, none
        monkeypatch.setattr(table_parts, "_SMALL", small)
        found = list(table_parts.batches_of(uris, ["text"], 7))
        assert [text for _, batch in found for text in batch.column("text").to_pylist()] == TABLE["text"].to_pylist()
        assert all(len(batch) <= 7 for _, batch in found)
        counted = [sum(len(batch) for uri, batch in found if uri == one) for one in uris]
        assert counted == [end - begin for begin, end in pairwise(cuts)]
    next(table_parts.batches_of(uris))  # and no more: nobody waits for the rest
    storage.write_bytes_atomic(uris[30], b"no table")
    with pytest.raises(StorageError, match=r"part-00030\.parquet: is not a readable"):
        list(table_parts.batches_of(uris))
    assert list(table_parts.batches_of([])) == []
