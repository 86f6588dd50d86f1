"""The door to recordings: the same bytes from every kind of place, and every way not to get them."""

import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import sources, storage, web_access
from seamlessalign.errors import UnreadableError
from seamlessalign.sources import Place, place_of, recording_file, tar_members, with_channel
from seamlessalign.web_access import WebAccess
from tests.ground.loopback import web_server

DATA = bytes(range(256)) * 40


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True))
    with web_server(DATA) as address:
        yield address


def write_tar(path: Path, members: Mapping[str, bytes], format: int = tarfile.PAX_FORMAT) -> str:
    """A tar file of these members, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def _error(uri: str, timeout: float = 20.0) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught, recording_file(uri, timeout):
        pass
    assert "\n" not in str(caught.value)
    return caught.value


def _read(uri: str, timeout: float = 20.0) -> bytes:
    with recording_file(uri, timeout) as path:
        return path.read_bytes()


class TestPlaces:
    @pytest.mark.parametrize(
        ("uri", "place"),
        [
            ("/a/b.wav", Place("/a/b.wav")),
            ("/a/b.wav#channel=1", Place("/a/b.wav", None, 1)),
            ("s3://a/b.tar::c/d.flac", Place("s3://a/b.tar", "c/d.flac")),
            ("a.tar::b.tar::c.wav#channel=12", Place("a.tar", "b.tar::c.wav", 12)),
            ("a.parquet::audio/3", Place("a.parquet", "audio/3")),
            ("/a/b.tar", Place("/a/b.tar")),
            ("/a/b::c.wav", Place("/a/b::c.wav")),
            ("/a/b.wav#channel=x", Place("/a/b.wav#channel=x")),
            ("/a/two\nlines.tar::x\ny.wav", Place("/a/two\nlines.tar", "x\ny.wav")),
        ],
    )
    def test_a_uri_is_taken_apart(self, uri: str, place: Place) -> None:
        assert place_of(uri) == place

    def test_a_file_of_that_very_name_is_meant(self, tmp_path: Path) -> None:
        odd = tmp_path / "a.tar::b.wav#channel=1"
        odd.write_bytes(DATA)
        assert place_of(str(odd)) == Place(str(odd))
        assert place_of(with_channel(str(odd), 2)) == Place(str(odd), None, 2)
        assert _read(str(odd)) == DATA

    def test_a_local_file_is_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(DATA)
        for uri in (str(path), f"file://{path}", f"{path}#channel=0"):
            with recording_file(uri) as found:
                assert found == path


class TestTar:
    MEMBERS: Mapping[str, bytes] = {
        "a.wav": DATA,
        "deep/er/b.G722": DATA[::-1],
        "x" * 150 + ".flac": b"long",
        "ünïcödé \n.ogg": b"odd",
        "empty.wav": b"",
        "two.tar::three.wav": b"nested name",
    }

    @pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_members_are_their_bytes(self, tmp_path: Path, format: int) -> None:
        uri = write_tar(tmp_path / "shard.tar", self.MEMBERS, format)
        members, problem = tar_members(uri)
        assert list(members) == list(self.MEMBERS) and problem is None
        for name, data in self.MEMBERS.items():
            assert _read(f"{uri}::{name}") == sources.tar_bytes(uri, name) == data
        with recording_file(f"{uri}::deep/er/b.G722") as path:
            assert path.suffix == ".G722"  # by which the format is known
        assert not path.exists()

    def test_links_and_folders_are_no_members(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for name, kind in (("link.wav", tarfile.SYMTYPE), ("folder.wav", tarfile.DIRTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
        assert tar_members(str(tmp_path / "a.tar")) == ({}, None)
        assert _error(f"{tmp_path}/a.tar::link.wav").reason == "missing"

    def test_what_breaks_off_and_what_is_none(self, tmp_path: Path) -> None:
        uri = write_tar(tmp_path / "a.tar", {"a.wav": DATA, "b.wav": DATA})
        whole = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "b.tar").write_bytes(b"This is a letter." * 100)
        members, problem = tar_members(uri)
        assert "a.wav" in members and problem
        assert _read(f"{uri}::a.wav") == DATA
        assert _error(f"{uri}::b.wav").reason in ("missing", "truncated")
        assert tar_members(f"{tmp_path}/b.tar")[1]
        assert _error(f"{tmp_path}/b.tar::a.wav").reason == "missing"

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        uri = write_tar(tmp_path / "a.tar", {"a.wav": b"one"})
        assert _read(f"{uri}::a.wav") == b"one"
        write_tar(tmp_path / "a.tar", {"first.wav": DATA, "a.wav": b"three"})
        assert _read(f"{uri}::a.wav") == b"three"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), recording_file(f"{tmp_path}/no.tar::a.wav"):
            pass


class TestParquet:
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        rows: list[Any] = [{"bytes": f"sound {n}".encode(), "path": f"{n}.g722"} for n in range(25)]
        rows[7], rows[8], rows[9] = None, {"bytes": None, "path": "far/away.wav"}, {"bytes": b"", "path": None}
        table = pa.table(
            {
                "speech": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                "audio": pa.array([b"%d" % n for n in range(25)], pa.large_binary()),
                "image": pa.array([b"picture"] * 25, pa.binary()),
                "text": [str(n) for n in range(25)],
            }
        )
        pq.write_table(table, tmp_path / "data.parquet", row_group_size=10)
        return str(tmp_path / "data.parquet")

    def test_rows_are_their_bytes(self, uri: str) -> None:
        with sources.parquet_file(uri) as file:
            assert sources.audio_columns(file.schema_arrow) == ["speech", "audio"]
        for row in (0, 6, 10, 24, 19, 3):
            assert _read(f"{uri}::speech/{row}") == f"sound {row}".encode()
            assert _read(f"{uri}::audio/{row}") == str(row).encode()
        with recording_file(f"{uri}::speech/3") as path:
            assert path.suffix == ".g722"

    @pytest.mark.parametrize("row", [7, 8, 9])
    def test_rows_without_audio(self, uri: str, row: int) -> None:
        assert _error(f"{uri}::speech/{row}").reason == "empty"

    @pytest.mark.parametrize("member", ["speech/25", "speech/-1", "text/1", "none/1", "speech", "/3"])
    def test_rows_that_there_are_not(self, uri: str, member: str) -> None:
        assert _error(f"{uri}::{member}").reason == "missing"

    def test_what_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1 or not")
        assert _error(f"{tmp_path}/a.parquet::audio/0").reason == "unreadable"


class TestWeb:
    @pytest.mark.parametrize("name", ["good.flac", "good.flac?key=1&x=::#channel=1", "moved"])
    def test_what_is_there_is_fetched(self, web: str, name: str) -> None:
        assert _read(f"{web}/{name}") == DATA

    def test_the_suffix_is_kept(self, web: str) -> None:
        with recording_file(f"{web}/good.g722?x=a.b/c") as path:
            assert path.suffix == ".g722"
        assert not path.exists()

    @pytest.mark.parametrize(
        ("name", "reason", "told"),
        [
            ("missing.wav", "missing", "404"),
            ("broken.wav", "unreadable", "500"),
            ("html.wav", "not_audio", "HTML"),
            ("short.wav", "truncated", "promised"),
        ],
    )
    def test_other_answers(self, web: str, name: str, reason: str, told: str) -> None:
        error = _error(f"{web}/{name}")
        assert (error.reason, told in error.detail, web in error.detail) == (reason, True, True)

    @pytest.mark.parametrize("name", ["stall.wav", "halt.wav", "drip.wav"])
    def test_none_waits_longer_than_allowed(self, web: str, name: str) -> None:
        begun = time.monotonic()
        error = _error(f"{web}/{name}", timeout=0.5)
        assert error.reason == "timeout" and "0.5 s" in error.detail
        assert time.monotonic() - begun < 30  # and not the minute, or more, that the server would take

    @pytest.mark.parametrize("uri", ["http://127.0.0.1:1/a.wav", "http://[/a.wav", "https://127.0.0.1:1/a b.wav"])
    def test_nobody_there(self, uri: str, web: str) -> None:
        assert _error(uri, timeout=5).reason == "unreadable"


class TestObjectStores:
    def test_recordings_and_members(self, s3_bucket: str, tmp_path: Path) -> None:
        write_tar(tmp_path / "a.tar", {"a.wav": DATA, "b.wav": DATA[:100]})
        table = pa.table({"audio": pa.array([b"one", b"two"], pa.binary())})
        pq.write_table(table, tmp_path / "a.parquet")
        for name in ("a.tar", "a.parquet"):
            storage.write_bytes_atomic(f"{s3_bucket}/in/{name}", (tmp_path / name).read_bytes())
        storage.write_bytes_atomic(f"{s3_bucket}/in/a.g722", DATA)
        with recording_file(f"{s3_bucket}/in/a.g722#channel=0") as path:
            assert path.read_bytes() == DATA and path.suffix == ".g722"
        assert _read(f"{s3_bucket}/in/a.tar::b.wav") == DATA[:100]
        assert _read(f"{s3_bucket}/in/a.parquet::audio/1") == b"two"
        with pytest.raises(FileNotFoundError), recording_file(f"{s3_bucket}/in/none.wav"):
            pass

    def test_one_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage, "download", lambda *_: time.sleep(5))
        assert _error("s3://bucket/a.wav", timeout=0.3).reason == "timeout"
