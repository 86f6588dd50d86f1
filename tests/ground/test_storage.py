"""Storage: whole files or none, whatever the name, the place, the disk or the moment of death."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seamlessalign import storage
from seamlessalign.errors import MissingPackageError, StorageError
from seamlessalign.rows import sentences_schema

ODD_NAMES = [
    "sp ace.bin",
    "quo'te\".bin",
    "new\nline.bin",
    "a::b.bin",
    "what?.bin",
    "st*r.bin",
    "[x].bin",
    "~",
    "%41#frag.bin",
    "ünï — 文.bin",
    "-rf",
]
TABLE = pa.table({"number": list(range(1000)), "text": [f"row {i}" for i in range(1000)]})


@pytest.fixture(params=["local", "relative", "file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder, written in each way that a run's folder can be written."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/run"
    if request.param == "memory":
        return f"memory://{uuid4().hex}/run"
    monkeypatch.chdir(tmp_path)
    return {"local": f"{tmp_path}/run", "relative": "run", "file": f"file://{tmp_path}/run"}[request.param]


def _leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(f"{storage.TEMPORARY_PREFIX}*")]


class TestEveryPlace:
    def test_bytes_go_there_and_back(self, root: str) -> None:
        uri = storage.join(root, "deep", "er", "file.bin")
        assert not storage.exists(uri)
        storage.write_bytes_atomic(uri, b"first")
        storage.write_bytes_atomic(uri, b"second, longer")
        assert storage.exists(uri) and storage.size(uri) == 14
        assert storage.read_bytes(uri) == b"second, longer"
        with storage.open_read(uri) as file:
            file.seek(8)
            assert file.read(3) == b"lon"
        with storage.local_copy(uri) as path:
            assert path.read_bytes() == b"second, longer" and path.suffix == ".bin"
        storage.remove(uri)
        assert not storage.exists(uri)
        storage.remove(uri)  # nothing there: nothing happens

    def test_listed_uris_begin_as_the_folder_was_written(self, root: str) -> None:
        assert storage.list_files(root) == []
        names = ["b/part-00001.parquet", "b/part-00000.parquet", "a/x.json", f"a/{storage.TEMPORARY_PREFIX}x.json.7.8"]
        for name in names:
            storage.write_bytes_atomic(storage.join(root, name), b".")
        assert storage.list_files(root) == [f"{root}/{name}" for name in (names[2], names[1], names[0])]
        assert storage.list_files(root + "/") == storage.list_files(root)
        assert storage.list_files(root, ".parquet") == [f"{root}/{names[1]}", f"{root}/{names[0]}"]
        assert storage.list_files(f"{root}/a/x.json") == [f"{root}/a/x.json"]
        assert storage.glob(f"{root}/*/part-0000[1-9].parquet") == [f"{root}/{names[0]}"]
        assert storage.glob(f"{root}/**/*.json") == [f"{root}/{names[2]}"]
        assert storage.glob(f"{root}/*") == []  # folders only
        storage.remove(f"{root}/b")
        assert storage.list_files(root) == [f"{root}/{names[2]}"]

    def test_odd_names(self, root: str) -> None:
        unknown_to = {"memory": "a::b.bin", "s3": "new\nline.bin"}  # to fsspec's memory, and to moto's server
        names = [name for name in ODD_NAMES if unknown_to.get(root.partition("://")[0]) != name]
        for name in names:
            folder = storage.join(root, name)
            uri = storage.join(folder, name)
            storage.write_bytes_atomic(uri, name.encode())
            assert storage.exists(uri), name
            assert storage.size(uri) == len(name.encode()), name
            assert storage.read_bytes(uri) == name.encode()
            assert storage.list_files(folder) == [uri]
            with storage.local_copy(uri) as path:
                assert path.read_bytes() == name.encode()
            storage.write_bytes_atomic(storage.join(root, "by", name), b".")
        by = storage.join(root, "by")
        assert sorted(storage.list_files(by)) == sorted(storage.join(by, name) for name in names)
        for name in names:
            storage.remove(storage.join(root, name))
        assert len(storage.list_files(root)) == len(names)  # those in by/
        storage.remove(by)
        assert storage.list_files(root) == []

    def test_a_name_with_a_star_is_not_a_pattern(self, root: str) -> None:
        for name in ("star", "st*r"):
            storage.write_bytes_atomic(storage.join(root, name), b".")
        storage.remove(storage.join(root, "st*r"))
        assert storage.list_files(root) == [storage.join(root, "star")]

    def test_many_files_at_once(self, root: str) -> None:
        files = {storage.join(root, "many", f"{number:03d}.json"): b"%d" % number * number for number in range(70)}
        assert storage.read_many([]) == {}
        for uri, data in files.items():
            storage.write_bytes_atomic(uri, data)
        assert storage.read_many(list(files)) == files
        gone = list(files)[::7]
        storage.remove_many([*gone, storage.join(root, "many", "never.json"), storage.join(root, "none", "x.json")])
        assert storage.list_files(root) == [uri for uri in files if uri not in gone]
        with pytest.raises(FileNotFoundError, match=gone[1].removeprefix("file://")):
            storage.read_many([*list(files)[1:3], gone[1]])

    def test_what_is_there_and_which_version(self, root: str) -> None:
        uri = storage.join(root, "a", "file.bin")
        assert storage.kind_of(root) is None and storage.kind_of(uri) is None
        storage.write_bytes_atomic(uri, b"one")
        assert storage.kind_of(uri) == "file" and storage.kind_of(storage.join(root, "a")) == "directory"
        first = storage.version(uri)
        assert first == storage.version(uri) and first.startswith("3 ")
        storage.write_bytes_atomic(uri, b"three")
        assert storage.version(uri) != first
        storage.remove(uri)
        with pytest.raises(FileNotFoundError):
            storage.version(uri)
        with pytest.raises(FileNotFoundError):
            storage.read_bytes(uri)
        with pytest.raises(FileNotFoundError):
            storage.open_read(uri)

    def test_tables_go_there_and_back(self, root: str) -> None:
        schema = pa.schema([pa.field("number", pa.int64()), pa.field("text", pa.string())])
        assert len(storage.read_tables(root, schema)) == 0
        for part in range(2):
            uri = storage.join(root, "lang=fra", f"part-{part:05d}.parquet")
            written = storage.write_table(uri, TABLE.slice(part * 500, 500), metadata={"digest": "abc"})
            assert written == storage.size(uri)
            assert storage.num_rows(uri) == 500
            assert storage.read_table(uri).schema.metadata[b"digest"] == b"abc"
        assert storage.read_tables(root, schema).to_pylist() == TABLE.to_pylist()
        assert storage.read_tables(root, schema, ["text"]).column_names == ["text"]

    def test_versions_of_many_files(self, root: str) -> None:
        uris = [storage.join(root, "in", name) for name in ("a b.wav", "c*.wav", "d.wav")]
        for number, uri in enumerate(uris):
            storage.write_bytes_atomic(uri, bytes(number + 1))
        gone = storage.join(root, "in", "gone.wav")
        versions = storage.versions([*uris, gone])
        assert [versions[uri] for uri in uris] == [storage.version(uri) for uri in uris]
        assert isinstance(versions[gone], FileNotFoundError)
        assert storage.list_versions(storage.join(root, "in")) == {uri: storage.version(uri) for uri in uris}

    def test_a_place_that_can_be_written_is_left_as_it_was(self, root: str) -> None:
        storage.check_writable(root)
        assert storage.list_files(root) == []
        storage.check_writable(root)

    def test_what_others_wrote_is_seen(self, root: str) -> None:
        """Workers write while the driver holds listings of the same folders."""
        if root.startswith("memory://"):
            pytest.skip("memory is one process's own")
        storage.write_bytes_atomic(f"{root}/a", b"1")
        storage.list_files(root)
        assert not storage.exists(f"{root}/b")
        script = (
            "import sys; from seamlessalign import storage; storage.write_bytes_atomic(sys.argv[1] + '/b', b'22');"
            "storage.write_bytes_atomic(sys.argv[1] + '/a', b'333')"
        )
        subprocess.run([sys.executable, "-c", script, root], check=True)
        assert storage.exists(f"{root}/b") and storage.size(f"{root}/a") == 3
        assert storage.read_bytes(f"{root}/a") == b"333"
        assert storage.list_files(root) == [f"{root}/a", f"{root}/b"]


class TestAtomicWrites:
    def test_a_writer_killed_in_the_middle_leaves_no_file(self, tmp_path: Path) -> None:
        target, kept = tmp_path / "new.bin", tmp_path / "old.bin"
        kept.write_bytes(b"old")
        for path in (target, kept):
            script = f"""
                import os, signal
                from seamlessalign import storage
                with storage.atomic_local({str(path)!r}) as temporary:
                    temporary.write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
            """
            done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)])
            assert done.returncode == -signal.SIGKILL
        assert not target.exists() and kept.read_bytes() == b"old"
        assert len(_leftovers(tmp_path)) == 2
        assert storage.list_files(str(tmp_path)) == [str(kept)]
        assert storage.remove_unfinished(str(tmp_path)) == 2
        assert _leftovers(tmp_path) == []
        assert storage.remove_unfinished(str(tmp_path)) == 0

    def test_an_error_in_the_middle_leaves_what_was_there(self, tmp_path: Path) -> None:
        target = tmp_path / "file.bin"
        target.write_bytes(b"old")
        with pytest.raises(ZeroDivisionError), storage.atomic_local(str(target)) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError
        assert target.read_bytes() == b"old" and _leftovers(tmp_path) == []

    def test_a_file_where_a_folder_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="cannot be written") as caught:
            storage.check_writable(str(tmp_path / "file" / "run"))
        assert str(tmp_path / "file" / "run") in str(caught.value) and "\n" not in str(caught.value)

    def test_a_folder_where_a_file_is_to_be(self, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(StorageError, match=os.strerror(errno.EISDIR)):
            storage.write_bytes_atomic(str(tmp_path / "taken"), b".")
        assert _leftovers(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(StorageError, match=os.strerror(errno.EACCES)):
                storage.check_writable(str(tmp_path))
        finally:
            tmp_path.chmod(0o700)

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """The kernel refuses to let the file grow, as it does when no space is left."""
        script = f"""
            import resource, signal
            from seamlessalign import storage
            from seamlessalign.errors import StorageError
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
            storage.write_bytes_atomic({str(tmp_path / "small")!r}, bytes(1 << 16))
            try:
                storage.write_bytes_atomic({str(tmp_path / "large")!r}, bytes((1 << 16) + 1))
            except StorageError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
        )
        assert str(tmp_path / "large") in done.stdout and os.strerror(errno.EFBIG) in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["small"]

    def test_object_stores_name_what_they_refuse(self, s3_bucket: str) -> None:
        nowhere = s3_bucket.replace("bucket-", "other-")
        with pytest.raises(StorageError, match="cannot be written") as caught:
            storage.check_writable(f"{nowhere}/run")
        assert nowhere in str(caught.value)

    def test_a_driver_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(MissingPackageError, match=r"seamlessalign\[gcp\]"):
            storage.exists("gs://bucket/file")

    def test_an_address_of_no_known_kind(self) -> None:
        with pytest.raises(StorageError, match="ftpx"):
            storage.exists("ftpx://host/file")


class TestTables:
    def test_equal_rows_give_equal_bytes(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
        storage.write_table(str(one), TABLE, metadata={"a": "1", "b": "2"})
        storage.write_table(str(other), pa.Table.from_pylist(TABLE.to_pylist()), metadata={"a": "1", "b": "2"})
        assert one.read_bytes() == other.read_bytes()

    def test_row_groups(self, tmp_path: Path) -> None:
        storage.write_table(str(tmp_path / "t.parquet"), TABLE, row_group_size=100)
        assert pq.read_metadata(tmp_path / "t.parquet").num_row_groups == 10

    @pytest.mark.parametrize("damage", [b"", b"PAR1", b"not parquet at all" * 10])
    def test_a_damaged_table_is_named(self, tmp_path: Path, damage: bytes) -> None:
        path = tmp_path / "t.parquet"
        storage.write_table(str(path), TABLE)
        path.write_bytes(damage + path.read_bytes()[len(damage) : -40])
        for read in (storage.read_table, storage.num_rows):
            with pytest.raises(StorageError, match="not a readable Parquet file") as caught:
                read(str(path))
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    @given(
        hnp.arrays(
            np.float16,
            st.tuples(st.integers(0, 5), st.just(3)),
            elements=st.floats(-1, 1, width=16),
        )
    )
    @settings(max_examples=30, deadline=None)
    def test_embeddings_go_there_and_back(
        self, embeddings: "np.ndarray[tuple[int, int], np.dtype[np.float16]]"
    ) -> None:
        rows = [
            {"sentence_id": str(i), "text": "t", "lang": "eng", "lang_prob": 1.0, "document_id": "d", "position": i}
            for i in range(len(embeddings))
        ]
        table = storage.with_embeddings(rows, embeddings.astype(np.float32), sentences_schema(3))
        assert table.schema == sentences_schema(3)
        uri = f"memory://{uuid4().hex}.parquet"
        storage.write_table(uri, table)
        back = storage.embeddings_of(storage.read_table(uri))
        storage.remove(uri)
        assert back.dtype == np.float16
        np.testing.assert_array_equal(back, embeddings)

    def test_embeddings_of_several_chunks_and_of_a_slice(self) -> None:
        values = np.arange(24, dtype=np.float32).reshape(8, 3)
        rows = [
            {"sentence_id": str(i), "text": "t", "lang": "eng", "lang_prob": 1.0, "document_id": "d", "position": i}
            for i in range(8)
        ]
        whole = storage.with_embeddings(rows, values, sentences_schema(3))
        np.testing.assert_array_equal(storage.embeddings_of(whole.slice(3, 4)), values[3:7])
        joined = pa.concat_tables([whole.slice(6, 2), whole.slice(0, 3)])
        np.testing.assert_array_equal(storage.embeddings_of(joined), values[[6, 7, 0, 1, 2]])

    @pytest.mark.parametrize("place", [slice(0, 8), slice(3, 7), slice(7, 8)])
    def test_one_chunk_is_read_without_a_copy(self, place: slice) -> None:
        import torch

        values = pa.array(np.arange(24, dtype=np.float16))
        whole = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(values, 3)})
        rows = storage.embeddings_of(whole.slice(place.start, place.stop - place.start))
        address, read_only = rows.__array_interface__["data"]
        assert address == values.buffers()[1].address + place.start * 3 * 2 and read_only
        np.testing.assert_array_equal(rows, np.arange(24).reshape(8, 3)[place])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the view must not be written to
            assert torch.from_numpy(rows).data_ptr() == torch.from_dlpack(rows).data_ptr() == address

    def test_a_parquet_file_of_one_row_group_is_read_without_a_further_copy(self, tmp_path: Path) -> None:
        values = np.arange(24, dtype=np.float16).reshape(8, 3)
        uri = str(tmp_path / "t.parquet")
        storage.write_table(uri, _embedded(values))
        table = storage.read_table(uri)
        rows = storage.embeddings_of(table)
        (chunk,) = table.column("embedding").chunks
        assert rows.__array_interface__["data"][0] == chunk.values.buffers()[1].address
        assert np.shares_memory(rows, storage.embeddings_of(table.slice(5, 2)))

    def test_no_rows_and_null_rows(self) -> None:
        values = np.arange(12, dtype=np.float16).reshape(4, 3)
        table = _embedded(values)
        assert storage.embeddings_of(table.slice(0, 0)).shape == (0, 3)
        assert storage.embeddings_of(pa.table({"embedding": pa.chunked_array([], table["embedding"].type)})).shape == (
            0,
            3,
        )
        lists = pa.array([[1, 2, 3], None, [4, None, 6]], pa.list_(pa.float16(), 3))
        rows = storage.embeddings_of(pa.table({"embedding": lists}))
        np.testing.assert_array_equal(rows, np.array([[1, 2, 3], [np.nan] * 3, [4, np.nan, 6]], np.float16))
        np.testing.assert_array_equal(storage.embeddings_of(pa.table({"embedding": lists[1:]})), rows[1:])


def _embedded(values: "np.ndarray[tuple[int, int], np.dtype[np.float16]]") -> pa.Table:
    """A table of nothing but embeddings."""
    return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])})


def test_sha256_of_a_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((1 << 20) + 17)
    (tmp_path / "f").write_bytes(data)
    assert storage.sha256_of(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_join() -> None:
    assert storage.join("s3://bucket/", "/a/", "b.parquet") == "s3://bucket/a/b.parquet"
    assert storage.join("/", "a") == "/a"
    assert storage.join("run", "a") == "run/a"


@pytest.mark.parametrize(("first", "last"), [(0, 10), (3, 4), (2, 9), (4, 4), (9, 10), (0, 0)])
def test_rows_are_read_from_their_row_groups_only(tmp_path: Path, first: int, last: int) -> None:
    table = pa.table({"number": range(10), "name": [f"n{number}" for number in range(10)]})
    path = tmp_path / "rows.parquet"
    storage.write_tables(str(path), [table.slice(0, 7), table.slice(7)], table.schema, {"a": "b"}, 3)
    groups = [pq.read_metadata(path).row_group(group) for group in range(4)]
    assert [group.num_rows for group in groups] == [3, 3, 1, 3]
    whole = path.read_bytes()
    begin = 0
    for group in groups:  # what is not asked for may be damaged
        columns = [group.column(number) for number in range(2)]
        starts = [
            min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset) for column in columns
        ]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        if begin + group.num_rows <= first or begin >= last:
            whole = whole[: starts[0]] + bytes(ends[-1] - starts[0]) + whole[ends[-1] :]
        begin += group.num_rows
    path.write_bytes(whole)
    assert (
        storage.read_rows(str(path), first, last).replace_schema_metadata(None).equals(table.slice(first, last - first))
    )
    assert storage.footer(str(path)) == (10, {"a": "b"})


def test_a_flipped_bit_loses_no_rows_unsaid(tmp_path: Path) -> None:
    """A damaged header can make a page one of no rows, at which reading in batches would just end."""
    file, told = tmp_path / "table.parquet", 0
    storage.write_table(
        str(file), pa.table({"text": ["x", "y", "z"], "none": pa.array([None, "q", None]), "n": [1, 2, 3]})
    )
    good, group = file.read_bytes(), pq.read_metadata(file).row_group(0)
    for number in range(3):
        column = group.column(number)
        first = column.dictionary_page_offset or column.data_page_offset
        for place in range(8 * first, 8 * (first + column.total_compressed_size)):
            bad = bytearray(good)
            bad[place // 8] ^= 1 << place % 8
            file.write_bytes(bad)
            try:
                assert sum(map(len, storage.read_batches(str(file)))) == 3
            except StorageError as error:
                told += "of 3 rows can be read" in str(error)
    assert told
