"""Remote files: what they hold is told whole or not at all, whatever the store does to requests."""

import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import multipart, remote_files, remote_requests, storage
from seamlessalign.errors import StorageError
from seamlessalign.retries import BRIEF, Patience, patience
from tests.faults.fake_google import FakeGoogle, fake_google
from tests.faults.faulty_s3 import Faults, FaultyS3, faulty_s3

SMALL = b"a small file" * 40
LARGE = np.random.default_rng(0).bytes(2 * remote_files.BLOCK + 12345)
_CLIENT = {"read_timeout": 2, "retries": {"total_max_attempts": 1}}
QUICK = Patience(attempts=40, first_seconds=0.01, longest_seconds=0.05)


@pytest.fixture
def proxy(s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A faulty store before the server that `s3_bucket` is on, which has no faults yet.

    Its clients wait two seconds for a byte, and try again only where we do.
    """
    import fsspec
    import s3fs

    with faulty_s3(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": _CLIENT})
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGoogle]:
    """A fake of Google's store, at which the real driver asks."""
    # looked at when it is imported: it would ask Google by another protocol which kind of bucket it has before it
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs", reason="needs the extra 'gcp'")
    import fsspec

    with fake_google() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.address)
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield store
        gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def quick() -> Iterator[None]:
    """Short pauses between many tries."""
    with patience(QUICK):
        yield


def _uploads(bucket: str) -> list[str]:
    import boto3

    found = boto3.client("s3").list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    return [str(one["Key"]) for one in found.get("Uploads", [])]


ALWAYS = {
    "error": 0.4,
    "slow_down": 0.4,
    "unavailable": 0.4,
    "reset": 0.4,
    "lost": 0.4,
    "cut": 0.5,
    "short": 0.5,
    "broken": 0.5,
    "drip": 0.5,
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
class TestEveryFault:
    @pytest.mark.parametrize("kind", ALWAYS)
    def test_reads_are_whole(self, kind: str, proxy: FaultyS3, s3_bucket: str, tmp_path: Path) -> None:
        table = pa.table({"number": range(50_000), "text": [f"row {n}" for n in range(50_000)]})
        storage.write_table(f"{s3_bucket}/table.parquet", table, row_group_size=10_000)
        storage.write_bytes_atomic(f"{s3_bucket}/small", SMALL)
        storage.write_bytes_atomic(f"{s3_bucket}/large", LARGE)
        # where bodies are shortened and nothing says so, listings and small files of unknown size cannot be known whole
        checked_only = kind == "short"
        proxy.faults = Faults({"GET" if checked_only else "*": {kind: ALWAYS[kind]}})
        for _ in range(2):
            assert storage.read_bytes(f"{s3_bucket}/small") == SMALL
            assert storage.read_bytes(f"{s3_bucket}/large") == LARGE
            with storage.local_copy(f"{s3_bucket}/large") as path:
                assert path.read_bytes() == LARGE
            with storage.open_read(f"{s3_bucket}/large") as file:
                file.seek(-5000, os.SEEK_END)
                assert file.read() == LARGE[-5000:]
                file.seek(777)
                assert file.read(70_000) == LARGE[777:70_777]
            read = storage.read_rows(f"{s3_bucket}/table.parquet", 20_000, 30_000)
            assert read.equals(table.slice(20_000, 10_000))
            assert storage.num_rows(f"{s3_bucket}/table.parquet") == 50_000
            with storage.open_read(f"{s3_bucket}/table.parquet") as file:
                assert pq.ParquetFile(file).read().equals(table)
            if not checked_only:
                assert storage.list_files(s3_bucket) == [
                    f"{s3_bucket}/{n}" for n in ("large", "small", "table.parquet")
                ]
                assert storage.glob(f"{s3_bucket}/*l*") == storage.list_files(s3_bucket)
                many = storage.read_many([f"{s3_bucket}/small", f"{s3_bucket}/large"])
                assert list(many.values()) == [SMALL, LARGE]
        assert proxy.injected[kind] > 5, proxy.injected

    @pytest.mark.parametrize("kind", ["error", "slow_down", "unavailable", "reset", "lost"])
    def test_writes_are_whole(self, kind: str, proxy: FaultyS3, s3_bucket: str, tmp_path: Path) -> None:
        proxy.faults = Faults({"*": {kind: ALWAYS[kind]}})
        names = [f"{s3_bucket}/run/{number:02d}" for number in range(20)]
        for number, name in enumerate(names):
            storage.write_bytes_atomic(name, SMALL * number)
        with storage.local_target(f"{s3_bucket}/run/large") as path:
            path.write_bytes(LARGE)
        assert storage.exists(names[0]) and not storage.exists(f"{s3_bucket}/run/none")
        storage.remove(names[1])
        storage.remove_many([names[2], f"{s3_bucket}/run/none"])
        proxy.faults = Faults({})
        there = {name: SMALL * number for number, name in enumerate(names) if number not in (1, 2)}
        assert storage.read_many(storage.list_files(s3_bucket)) == there | {f"{s3_bucket}/run/large": LARGE}
        storage.remove(f"{s3_bucket}/run")
        assert storage.list_files(s3_bucket) == []
        assert proxy.injected[kind] > 5, proxy.injected

    def test_a_server_that_stalls_is_noticed(self, proxy: FaultyS3, s3_bucket: str) -> None:
        storage.write_bytes_atomic(f"{s3_bucket}/large", LARGE)
        proxy.faults = Faults({"GET": {"stall": 0.3}}, stall_seconds=3600.0)
        assert storage.read_bytes(f"{s3_bucket}/large") == LARGE
        with storage.open_read(f"{s3_bucket}/large") as file:
            assert file.read() == LARGE
        assert proxy.injected["stall"] > 0

    def test_everything_is_throttled_for_a_while(self, proxy: FaultyS3, s3_bucket: str) -> None:
        with patience(Patience()):
            proxy.throttled_until = time.monotonic() + 4.0
            storage.write_bytes_atomic(f"{s3_bucket}/small", SMALL)
            proxy.throttled_until = time.monotonic() + 4.0
            assert storage.read_many([f"{s3_bucket}/small"] * 1) == {f"{s3_bucket}/small": SMALL}
        assert proxy.injected["throttled"] > 2


@pytest.mark.slow
class TestUploadsInParts:
    SIZE = multipart.FROM + multipart.PART // 2  # three parts

    @pytest.fixture(scope="class")
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A local file that is uploaded in parts."""
        path = tmp_path_factory.mktemp("parts") / "file"
        path.write_bytes(np.random.default_rng(1).bytes(self.SIZE))
        return path

    @pytest.mark.usefixtures("quick")
    def test_parts_that_fail(self, source: Path, proxy: FaultyS3, s3_bucket: str) -> None:
        proxy.faults = Faults({"PUT": {"error": 0.4, "reset": 0.1}, "POST": {"lost": 0.3, "slow_down": 0.2}})
        uri = f"{s3_bucket}/run/file"
        for _ in range(3):
            with storage.local_target(uri) as path:
                os.link(source, path)
            storage.write_bytes_atomic(f"{uri}.2", source.read_bytes())
        proxy.faults = Faults({})
        assert storage.read_bytes(f"{uri}.2") == source.read_bytes()
        assert storage.size(uri) == self.SIZE
        with storage.local_copy(uri) as copy:
            assert storage.sha256_of(copy) == storage.sha256_of(source)
        assert _uploads(s3_bucket) == []
        assert proxy.injected["error"] > 3 and proxy.injected["lost"] > 3, proxy.injected

    def test_one_that_fails_for_good_leaves_nothing(self, source: Path, proxy: FaultyS3, s3_bucket: str) -> None:
        proxy.faults = Faults({"PUT": {"error": 1.0}})
        uri = f"{s3_bucket}/run/file"
        with (
            patience(BRIEF),
            pytest.raises(StorageError, match=r"run/file: cannot be written: 500 InternalError: .*gave"),
        ):
            storage.write_bytes_atomic(uri, source.read_bytes())
        assert not storage.exists(uri) and _uploads(s3_bucket) == []

    def test_a_writer_that_is_killed(self, source: Path, proxy: FaultyS3, s3_bucket: str) -> None:
        """Between its parts: nothing is seen, and the next run aborts what it began, but not what others have begun."""
        script = f"""
            from pathlib import Path
            from seamlessalign import remote_files
            remote_files.upload({f"{s3_bucket}/run/deep/file"!r}, Path({str(source)!r}))
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
        proxy.faults = Faults({"PUT": {"error": 1.0}})
        while not _uploads(s3_bucket):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        proxy.faults = Faults({})
        import boto3

        boto3.client("s3").create_multipart_upload(Bucket=s3_bucket.removeprefix("s3://"), Key="running/other")
        assert not storage.exists(f"{s3_bucket}/run/deep/file")
        assert sorted(_uploads(s3_bucket)) == ["run/deep/file", "running/other"]
        assert storage.remove_unfinished(f"{s3_bucket}/run") == 1
        assert _uploads(s3_bucket) == ["running/other"]
        assert storage.remove_unfinished(f"{s3_bucket}/run/") == 0


class TestForGood:
    OPERATIONS: dict[str, Callable[[str], object]] = {
        "exists": storage.exists,
        "size": storage.size,
        "list": storage.list_files,
        "glob": lambda uri: storage.glob(f"{uri}/*.x"),
        "read": storage.read_bytes,
        "read_many": lambda uri: storage.read_many([uri]),
        "open": storage.open_read,
        "write": lambda uri: storage.write_bytes_atomic(uri, b"x"),
        "remove": storage.remove,
        "num_rows": storage.num_rows,
    }

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_a_store_that_is_down_is_one_line(
        self, operation: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fsspec
        import s3fs

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")  # where nobody listens
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": _CLIENT})
        s3fs.S3FileSystem.clear_instance_cache()
        uri = f"{s3_bucket}/run/file"
        with patience(Patience(2, 0.01)), pytest.raises(StorageError, match="gave up after 2 tries in") as caught:
            self.OPERATIONS[operation](uri)
        assert str(caught.value).startswith(uri) and "\n" not in str(caught.value)

    def test_what_is_refused_is_asked_once(self, proxy: FaultyS3, s3_bucket: str) -> None:
        with pytest.raises(FileNotFoundError, match="none"):
            storage.read_bytes(f"{s3_bucket}/none")
        with pytest.raises(StorageError, match="other-bucket-that-is-not/x: cannot be written"):
            storage.write_bytes_atomic("s3://other-bucket-that-is-not/x", b"x")
        assert proxy.requests.total() <= 3, proxy.requests


class TestConditions:
    def test_only_one_of_many_creates_a_file(self, s3_bucket: str) -> None:
        for number in range(5):
            uri = f"{s3_bucket}/lock-{number}"
            won: list[bytes] = []
            begin = threading.Barrier(8)

            def create(mine: bytes, uri: str = uri, won: list[bytes] = won, begin: threading.Barrier = begin) -> None:
                begin.wait()
                if remote_files.write_if(uri, mine, None):
                    won.append(mine)

            threads = [threading.Thread(target=create, args=(b"%d" % one,)) for one in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [storage.read_bytes(uri)]

    @pytest.mark.parametrize("place", ["s3", "google", "memory"])
    def test_a_file_is_replaced_only_as_it_was_seen(self, place: str, request: pytest.FixtureRequest) -> None:
        root = f"memory://{uuid4().hex}"
        if place != "memory":
            there = request.getfixturevalue({"s3": "s3_bucket", "google": "google"}[place])
            root = there if place == "s3" else "gs://bucket/a folder"
        uri = f"{root}/lease"
        assert remote_files.read_tagged(uri) is None
        assert remote_files.write_if(uri, b"one", None)
        assert not remote_files.write_if(uri, b"two", None)
        seen = remote_files.read_tagged(uri)
        assert seen is not None and seen[0] == b"one"
        assert remote_files.write_if(uri, b"three", seen[1])
        assert not remote_files.write_if(uri, b"four!", seen[1])
        assert storage.read_bytes(uri) == b"three"
        storage.remove(uri)
        assert not remote_files.write_if(uri, b"five", seen[1])
        assert not storage.exists(uri)

    def test_googles_store_decides_by_itself_who_of_many_replaces_a_file(self, google: FakeGoogle) -> None:
        uri, writers, times = "gs://bucket/run/list", 3, 3

        def add(name: int) -> None:
            for number in range(times):
                while True:
                    there = remote_files.read_tagged(uri)
                    data = (there[0] if there else b"") + b"%d-%d " % (name, number)
                    if remote_files.write_if(uri, data, there[1] if there else None):
                        break

        threads = [threading.Thread(target=add, args=(name,)) for name in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = storage.read_bytes(uri).split()
        assert sorted(found) == sorted(b"%d-%d" % (name, number) for name in range(writers) for number in range(times))
        assert google.refused > 0

    @pytest.mark.usefixtures("quick")
    def test_an_answer_that_is_lost_is_not_a_refusal(self, proxy: FaultyS3, s3_bucket: str) -> None:
        proxy.faults = Faults({"PUT": {"lost": 0.5}})
        for number in range(10):
            uri = f"{s3_bucket}/lease-{number}"
            assert remote_files.write_if(uri, b"one", None)
            seen = remote_files.read_tagged(uri)
            assert seen is not None and remote_files.write_if(uri, b"two", seen[1])
        assert proxy.injected["lost"] > 3


def test_requests_of_small_things_are_few(proxy: FaultyS3, s3_bucket: str) -> None:
    """A round trip each, not several: there may be a hundred thousand of them."""
    uris = [f"{s3_bucket}/done/{number}.json" for number in range(100)]
    for uri in uris:
        storage.write_bytes_atomic(uri, SMALL)
    assert proxy.requests == {"PUT": 100}
    proxy.requests.clear()
    assert set(storage.read_many(uris).values()) == {SMALL}
    assert proxy.requests == {"GET": 100}
    proxy.requests.clear()
    assert storage.list_files(f"{s3_bucket}/done") == sorted(uris)
    assert proxy.requests.total() == 1
    storage.remove_many(uris[:10])
    assert proxy.requests["GET"] == 2


def test_a_file_that_changes_while_it_is_read(proxy: FaultyS3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are not put together from both."""
    uri, other = f"{s3_bucket}/large", bytes(reversed(LARGE))
    storage.write_bytes_atomic(uri, LARGE)
    fetch, changes = remote_requests.pieces, [other]

    def pieces(uris: list[str], ranges: list[tuple[int, int]]) -> list[bytes]:
        if changes:
            found = fetch(uris, ranges)[:1]
            storage.write_bytes_atomic(uri, changes.pop())
            return found + fetch(uris[1:], ranges[1:])
        return fetch(uris, ranges)

    monkeypatch.setattr(remote_files, "pieces", pieces)
    with patience(QUICK):
        assert hashlib.sha256(storage.read_bytes(uri)).digest() == hashlib.sha256(other).digest()
    assert changes == []
