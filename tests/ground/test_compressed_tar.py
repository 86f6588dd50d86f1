"""Compressed tar files: the members of the plain one, once unpacked, and bombs that are not."""

import bz2
import gzip
import lzma
import random
import shutil
import tempfile
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seamlessalign import compressed_tar, sources, storage
from seamlessalign.errors import UnreadableError
from seamlessalign.sources import place_of, recording_file, tar_members
from tests.ground.test_sources import write_tar

MEMBERS = {f"{n}/a {n}.wav": random.Random(n).randbytes(600 * n) for n in range(40)}


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def _bz2(data: bytes) -> bytes:
    return bz2.compress(data, 1)  # blocks of 100 kB, each of which is whole or lost


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": _bz2,
    ".tbz2": _bz2,
    ".tbz": _bz2,
    ".tar.xz": _xz,
    ".txz": _xz,
    ".tar.zst": _zstd,
    ".tzst": _zstd,
}
FORMATS = [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"]


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed_tar, "_held", None)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tar(tmp_path_factory.mktemp("plain") / "shard.tar", MEMBERS)


def _packed(plain: str, folder: Path, suffix: str) -> str:
    path = folder / f"it's {suffix}"
    path.write_bytes(PACKERS[suffix](Path(plain).read_bytes()))
    return str(path)


def _read(uri: str) -> bytes:
    with recording_file(uri) as path:
        return path.read_bytes()


def _error(uri: str) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        _read(uri)
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_suffix_has_a_packer_here() -> None:
    assert set(PACKERS) == set(compressed_tar.SUFFIXES)


@pytest.mark.parametrize("suffix", PACKERS)
def test_members_are_those_of_the_plain_file(plain: str, tmp_path: Path, spool: Path, suffix: str) -> None:
    uri = _packed(plain, tmp_path, suffix)
    assert tar_members(uri) == tar_members(plain)
    names = list(MEMBERS)
    random.Random(0).shuffle(names)
    for name in names:
        assert place_of(f"{uri}::{name}") == sources.Place(uri, name)
        assert _read(f"{uri}::{name}") == sources.tar_bytes(uri, name) == MEMBERS[name]
    with recording_file(f"{uri}::{names[0]}") as path:
        assert path.suffix == ".wav"
    assert not list(spool.iterdir())  # what is unpacked has no name, so that nothing stays of a process that is killed
    assert _error(f"{uri}::none.wav").reason == "missing"


@pytest.mark.parametrize("suffix", FORMATS)
def test_streams_that_follow_one_another_are_one(plain: str, tmp_path: Path, suffix: str) -> None:
    """As programs write that compress in parallel, or append."""
    data, pack = Path(plain).read_bytes(), PACKERS[suffix]
    cuts = [0, 1, 70_000, 300_000, len(data)]
    padding = bytes(4096) if suffix == ".tar.xz" else b""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(pack(data[a:b]) + padding for a, b in pairwise(cuts)))
    assert tar_members(str(path)) == tar_members(plain)
    assert _read(f"{path}::39/a 39.wav") == MEMBERS["39/a 39.wav"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_breaks_off_has_what_came_before(plain: str, tmp_path: Path, suffix: str) -> None:
    uri = _packed(plain, tmp_path, suffix)
    whole = Path(uri).read_bytes()
    Path(uri).write_bytes(whole[: len(whole) * 2 // 3])
    members, problem = tar_members(uri)
    assert problem and "\n" not in problem
    sound = [name for name in MEMBERS if name in members]
    assert 20 < len(sound) < len(MEMBERS)
    for name in sound[:-1]:
        assert _read(f"{uri}::{name}") == MEMBERS[name]
    assert problem in _error(f"{uri}::39/a 39.wav").detail


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("data", [b"This is a letter. " * 1000, b"", bytes(10_000)], ids=["text", "empty", "zeros"])
def test_what_is_none(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    members, problem = tar_members(str(path))
    assert not members and problem and "\n" not in problem
    path.write_bytes(PACKERS[suffix](b"This is a letter. " * 1000))
    assert tar_members(str(path))[1]


class TestBombs:
    @pytest.fixture
    def bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
        monkeypatch.setattr(compressed_tar, "ALWAYS_ALLOWED", 1 << 19)

        def made(suffix: str) -> str:
            return _packed(write_tar(tmp_path / "big.tar", {"zeros.wav": bytes(10 << 20)}), tmp_path, suffix)

        return made

    @pytest.mark.parametrize(("suffix", "told"), [(".tgz", "gunzip"), (".tar.xz", "unxz"), (".tar.zst", "unzstd")])
    def test_it_is_left_on_the_way(
        self, bomb: Callable[[str], str], spool: Path, suffix: str, told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = bomb(suffix)
        with pytest.raises(UnreadableError) as caught:
            tar_members(uri)
        assert f"more than 100 times its size: if it is what it should be, unpack it once ({told} " in str(caught.value)
        assert caught.value.reason == "unreadable"
        opened = _opened(monkeypatch)
        assert _error(f"{uri}::zeros.wav").detail == caught.value.detail
        assert opened == []  # nor is it tried again
        assert compressed_tar._held is not None and isinstance(compressed_tar._held[1], UnreadableError)
        assert not list(spool.iterdir())

    def test_what_would_fill_the_disk_is_left(
        self, plain: str, tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(spool)._replace(free=800_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        error = _error(f"{_packed(plain, tmp_path, '.tar.gz')}::1/a 1.wav")
        assert f"more than half of what is free in {str(spool)!r}" in error.detail and "TMPDIR" in error.detail
        assert "(gunzip 'it'\"'\"'s .tar.gz')" in error.detail

    def test_a_dictionary_beyond_the_limit_is_not_held(
        self, plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compressed_tar, "_XZ_MEMORY", 1 << 16)
        members, problem = tar_members(_packed(plain, tmp_path, ".tar.xz"))
        assert not members and problem and "emory" in problem


def _opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Uris that are opened from now on."""
    opened: list[str] = []
    open_read = storage.open_read

    def watched(uri: str) -> Any:
        opened.append(uri)
        return open_read(uri)

    monkeypatch.setattr(storage, "open_read", watched)
    return opened


def test_it_is_unpacked_once_and_again_when_it_has_changed(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = _packed(plain, tmp_path, ".tar.gz")
    opened = _opened(monkeypatch)
    for name in MEMBERS:
        _read(f"{uri}::{name}")
    assert opened == [uri]
    write_tar(tmp_path / "other.tar", {"1/a 1.wav": b"changed"})
    Path(uri).write_bytes(gzip.compress((tmp_path / "other.tar").read_bytes()))
    assert _read(f"{uri}::1/a 1.wav") == b"changed"
    assert opened == [uri, uri]


def test_threads_that_read_several_at_a_time(tmp_path: Path) -> None:
    """Only one is kept, so each makes the others unpack theirs again."""
    contents = {n: {f"{m}.wav": random.Random(10 * n + m).randbytes(200_000) for m in range(3)} for n in range(3)}
    uris = {}
    for n, members in contents.items():
        uris[n] = str(tmp_path / f"{n}.tgz")
        Path(uris[n]).write_bytes(gzip.compress(Path(write_tar(tmp_path / f"{n}.tar", members)).read_bytes()))
    wrong: list[tuple[int, int]] = []

    def read(n: int) -> None:
        for m in range(3):
            try:
                same = _read(f"{uris[n]}::{m}.wav") == contents[n][f"{m}.wav"]
            except (OSError, UnreadableError):
                same = False
            if not same:
                wrong.append((n, m))

    threads = [threading.Thread(target=read, args=(n,)) for n in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_in_an_object_store(plain: str, s3_bucket: str) -> None:
    uri = f"{s3_bucket}/in/shard.tar.gz"
    storage.write_bytes_atomic(uri, gzip.compress(Path(plain).read_bytes()))
    assert tar_members(uri) == tar_members(plain)
    assert _read(f"{uri}::7/a 7.wav") == MEMBERS["7/a 7.wav"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _read(f"{tmp_path}/none.tar.gz::a.wav")
