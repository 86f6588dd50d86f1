"""Embeddings laid out for mapping: whose rows they are, in which order, in how much memory, and what is refused."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from seamlessalign import storage
from seamlessalign.embedding_files import dimensions, map_embeddings, open_rows
from seamlessalign.errors import StorageError

Half = np.ndarray[tuple[int, int], np.dtype[np.float16]]


def _table(rows: Half) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float16()), rows.shape[1])
    return pa.table({"sentence_id": [str(i) for i in range(len(rows))], "embedding": lists})


def _written(folder: Path, sizes: list[int], dim: int = 5) -> tuple[list[str], Half]:
    rows = np.random.default_rng(0).standard_normal((sum(sizes), dim)).astype(np.float16)
    uris, begin = [], 0
    for number, size in enumerate(sizes):
        uris.append(str(folder / f"part-{number}.parquet"))
        storage.write_table(uris[-1], _table(rows[begin : begin + size]), row_group_size=7)
        begin += size
    return uris, rows


@pytest.mark.parametrize("sizes", [[20], [3, 0, 9000, 1], [0], [0, 0]])
def test_rows_are_those_of_the_files_in_their_order(tmp_path: Path, sizes: list[int]) -> None:
    uris, rows = _written(tmp_path, sizes)
    mapped = map_embeddings(uris, tmp_path / "rows.npy")
    assert not len(rows) or not mapped.flags.writeable
    assert mapped.dtype == np.float16
    np.testing.assert_array_equal(mapped, rows)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows)
    np.testing.assert_array_equal(open_rows(tmp_path / "rows.npy"), rows)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", *(Path(uri).name for uri in uris)}


def test_a_null_is_not_a_number(tmp_path: Path) -> None:
    uri = str(tmp_path / "t.parquet")
    storage.write_table(uri, pa.table({"embedding": pa.array([[1, 2], [None, 3]], pa.list_(pa.float16(), 2))}))
    np.testing.assert_array_equal(map_embeddings([uri], tmp_path / "rows.npy"), [[1, 2], [np.nan, 3]])


def test_what_cannot_be_laid_out_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (good,), _ = _written(tmp_path, [4])
    other = str(tmp_path / "other.parquet")
    storage.write_table(other, _table(np.zeros((2, 6), np.float16)))
    text = str(tmp_path / "text.parquet")
    storage.write_table(text, pa.table({"text": ["a"]}))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(Path(good).read_bytes()[:-30])
    target = tmp_path / "rows.npy"
    for uris, told in (
        ([good, other], "other.parquet: has 6 dimensions, files before it 5"),
        ([text], "text.parquet: has no column 'embedding'"),
        ([good, str(damaged)], "damaged.parquet: is not a readable Parquet file"),
        ([], "there are no files"),
    ):
        with pytest.raises(StorageError, match=told):
            map_embeddings(uris, target)
        assert not target.exists() and not list(tmp_path.glob(f"{storage.TEMPORARY_PREFIX}*"))
    assert dimensions(good) == 5


def test_a_file_that_is_not_one_of_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    for array, told in (
        (np.zeros((2, 3), np.float32), "2 dimensions of float32"),
        (np.zeros(3, np.float16), "1 dimensions of float16"),
        (np.zeros((2, 3), np.float16, "F"), "2 dimensions"),
    ):
        np.save(path, array)
        with pytest.raises(StorageError, match=told):
            open_rows(path)
    np.save(path, np.zeros((2, 3), np.float16))
    for data in (path.read_bytes()[:-1], b"", b"something else altogether"):
        path.write_bytes(data)
        with pytest.raises(StorageError, match="is not a whole array of rows in float16"):
            open_rows(path)
    with pytest.raises(StorageError, match="gone"):
        open_rows(tmp_path / "gone.npy")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """128 MiB of embeddings are laid out in less memory, mapped pages and all, and rows are read in about their own."""
    uri = str(tmp_path / "t.parquet")
    rows = np.random.default_rng(1).standard_normal((1 << 16, 1024), np.float32).astype(np.float16)
    storage.write_table(uri, _table(rows), row_group_size=1 << 12)
    script = """
        import sys
        from pathlib import Path
        import numpy as np
        from seamlessalign.embedding_files import map_embeddings

        def resident(kind):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(kind))

        map_embeddings([sys.argv[3]], Path(sys.argv[2] + ".small"))  # so that all is loaded
        peak = resident("VmHWM:")
        mapped = map_embeddings([sys.argv[1]], Path(sys.argv[2]))
        laid_out, own = resident("VmHWM:") - peak, resident("RssAnon:")
        chosen = np.random.default_rng(2).integers(0, len(mapped), 1000)
        total = float(np.linalg.norm(mapped[chosen].astype(np.float32)))
        print(laid_out, resident("RssAnon:") - own, total)  # mapped pages are the system's, which may have more of them
    """
    small = _written(tmp_path, [3])[0][0]
    command = [sys.executable, "-c", textwrap.dedent(script), uri, str(tmp_path / "rows.npy"), small]
    laid_out, read, total = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    chosen = np.random.default_rng(2).integers(0, len(rows), 1000)
    assert float(total) == pytest.approx(float(np.linalg.norm(rows[chosen].astype(np.float32))))
    assert int(laid_out) < 100 << 10  # KiB; decoding takes most of it, however many rows there are
    assert int(read) < 12 << 10  # 2 MiB of halves and 4 of singles
