"""Files on the web, read in parts: the same bytes as on disk, and every way in which a server may spoil that."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign import sources, storage, web_access
from seamlessalign.errors import StorageError, UnreadableError
from seamlessalign.web_access import WebAccess
from seamlessalign.web_files import WebFile, WebFiles
from tests.ground.loopback import send_file, serving

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True))
    monkeypatch.setenv("NETRC", "/nowhere/netrc")


def _in_parts(data: bytes, tag: Callable[[], str] = lambda: '"one"') -> Callable[[Any], None]:
    """A handler that gives parts of a file, as RFC 9110 has it."""

    def answer(handler: Any) -> None:
        if handler.path.endswith("none"):
            handler.send_error(404)
        else:
            send_file(handler, data, tag=tag())

    return answer


@contextmanager
def _served(answer: Callable[[Any], None] | None, name: str = "a.bin") -> Iterator[tuple[str, list[Any]]]:
    with serving(answer) as server:
        yield f"http://127.0.0.1:{server.server_port}/{name}", server.asked


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with _served(_in_parts(DATA)) as (url, _):
        yield url


class TestParts:
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-400_000, 400_000), st.integers(0, 300_000))))
    def test_they_are_those_of_the_file(self, served: str, steps: list[tuple[int, int, int]]) -> None:
        """The same calls on the same bytes in memory."""
        with storage.open_read(served) as file:
            kept = io.BytesIO(DATA)
            for whence, offset, size in steps:
                place = {os.SEEK_SET: 0, os.SEEK_CUR: kept.tell(), os.SEEK_END: len(DATA)}[whence] + offset
                if place >= 0:
                    assert file.seek(offset, whence) == kept.seek(place)
                assert file.read(size) == kept.read(size)
                assert file.tell() == kept.tell()

    def test_reading_on_needs_one_question(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with _served(_in_parts(DATA)) as (url, asked):
            with storage.open_read(url) as file:
                assert file.read(100) == DATA[:100]
                file.seek(1000)
                assert file.read() == DATA[1000:]
            assert len(asked) == 1
            with storage.open_read(url) as file:
                file.seek(-10, os.SEEK_END)
                file.read(5)
                file.seek(0)
                assert file.read(5) == DATA[:5]
            assert [one["range"] for one in asked[1:]] == ["bytes=0-", "bytes=0-"]  # the way to the end is short

    def test_what_is_told_of_a_file(self, served: str) -> None:
        assert storage.exists(served) and not storage.exists(f"{served}/none")
        assert storage.size(served) == len(DATA)
        assert storage.read_bytes(served) == DATA
        assert WebFiles().info(served)["ETag"] == '"one"'
        with pytest.raises(FileNotFoundError):
            storage.read_bytes(f"{served}/none")

    def test_an_empty_one(self) -> None:
        with _served(_in_parts(b"")) as (url, _):
            assert storage.read_bytes(url) == b"" and storage.size(url) == 0

    def test_nothing_is_written_or_listed(self, served: str) -> None:
        with pytest.raises(StorageError, match="nothing is written to the web"):
            storage.write_bytes_atomic(served, b"")
        assert storage.glob(f"{served}/*.wav") == []

    def test_containers(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for number in range(5):
                info = tarfile.TarInfo(f"{number}.wav")
                info.size = 50_000
                tar.addfile(info, io.BytesIO(DATA[number:][:50_000]))
        table = pa.table({"audio": pa.array([DATA[n : n + 999] for n in range(50)], pa.binary())})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
        with _served(_in_parts((tmp_path / "a.tar").read_bytes()), "a.tar") as (url, _):
            members, problem = sources.tar_members(url)
            assert list(members) == [f"{number}.wav" for number in range(5)] and problem is None
            with sources.recording_file(f"{url}::3.wav") as path:
                assert path.read_bytes() == DATA[3:50_003]
        with (
            _served(_in_parts((tmp_path / "a.parquet").read_bytes()), "a.parquet") as (url, _),
            sources.recording_file(f"{url}::audio/33") as path,
        ):
            assert path.read_bytes() == DATA[33 : 33 + 999]


class TestServersWithoutParts:
    def test_they_can_be_read_from_the_front(self) -> None:
        with _served(None) as (url, _):
            whole = storage.read_bytes(url)
            assert len(whole) == storage.size(url) > 0
            with storage.open_read(url) as file:
                file.seek(100)
                assert file.read(9) == whole[100:109]

    def test_and_say_so_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with _served(None) as (url, _), WebFile(url) as file:
            file.seek(5000)
            file.read(100)
            file.seek(0)
            assert len(file.read(10)) == 10  # from the front again
            file.read(5000)
            file.seek(3000)
            with pytest.raises(UnreadableError, match="cannot be read in parts"):
                file.read(10)


class TestWhatSpoilsIt:
    def test_one_that_changes_meanwhile(self) -> None:
        tags = iter(['"one"', '"two"', '"three"'])
        with _served(_in_parts(DATA, lambda: next(tags))) as (url, _), WebFile(url) as file:
            file.seek(2000)
            file.read(1)
            file.seek(1000)
            with pytest.raises(UnreadableError, match="changed while it was read"):
                file.read(1)

    def test_one_that_breaks_off(self) -> None:
        def answer(handler: Any) -> None:
            handler.send_response(206)
            handler.send_header("Content-Range", "bytes 0-9999/10000")
            handler.end_headers()
            handler.wfile.write(bytes(100))
            handler.close_connection = True

        with _served(answer) as (url, _), pytest.raises(UnreadableError) as caught:
            storage.read_bytes(url)
        assert caught.value.reason == "truncated"

    @pytest.mark.parametrize(
        "told", ["", "bytes 5-9/10", "bytes a-b/c", "bytes 0-9/99999999999999999999999", "lines 0-9/10"]
    )
    def test_one_that_sends_another_part(self, told: str) -> None:
        def answer(handler: Any) -> None:
            handler.send_response(206)
            handler.send_header("Content-Range", told)
            handler.send_header("Content-Length", "10")
            handler.end_headers()
            handler.wfile.write(bytes(10))

        with _served(answer) as (url, _), pytest.raises(UnreadableError) as caught:
            storage.read_bytes(url)
        assert caught.value.reason == "unreadable"

    def test_one_that_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True, max_bytes=len(DATA) - 1))
        with _served(_in_parts(DATA)) as (url, _):
            with pytest.raises(UnreadableError) as caught:
                storage.read_bytes(url)
            assert caught.value.reason == "too_large"
            with storage.open_read(url) as file:  # what is taken of it counts
                assert file.read(1000) == DATA[:1000]

    def test_one_that_is_not_to_be_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_access, "_access", WebAccess())
        with _served(_in_parts(DATA)) as (url, asked):
            for look in (storage.exists, storage.size, storage.read_bytes, storage.open_read, storage.footer):
                with pytest.raises(UnreadableError) as caught:
                    look(url)
                assert caught.value.reason == "address_refused"
            for member in ("a.tar::a.wav", "a.tar.gz::a.wav", "a.parquet::audio/0"):
                with (
                    pytest.raises(UnreadableError) as caught,
                    sources.recording_file(url.replace("a.bin", member)),
                ):
                    pass
                assert caught.value.reason == "address_refused"
        assert asked == []


@pytest.mark.parametrize(
    "uri",
    [
        "ssh://host/a.wav",
        "ftp://host/a.wav",
        "sftp://host/a.wav",
        "github://owner:repo@main/a.wav",
        "reference://a",
        "local:///etc/passwd",
        "simplecache::http://127.0.0.1/a.wav",
        "filecache::file:///etc/passwd",
        "zip://a.wav::http://127.0.0.1/a.zip",
        "tar://a.wav::file:///etc/a.tar",
        "blockcache::s3://bucket/a.wav",
        "hf://datasets/a/b.wav",
        "webhdfs://host/a.wav",
        "docker://a",
        "data://text/plain,abc",
        "://a",
        " http://127.0.0.1/a.wav",
        "python://os",
    ],
)
def test_other_kinds_of_addresses_are_not_read(uri: str) -> None:
    for look in (storage.exists, storage.read_bytes, storage.size, storage.list_files):
        with pytest.raises(StorageError, match="no kind of address"):
            look(uri)


def test_kinds_of_addresses_are_known_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    assert storage.is_local(f"FILE://{tmp_path}/a.wav") and storage.read_bytes(f"File://{tmp_path}/a.wav") == b"x"
    with _served(_in_parts(DATA)) as (url, _):
        assert storage.read_bytes(url.replace("http", "HTTP")) == DATA
