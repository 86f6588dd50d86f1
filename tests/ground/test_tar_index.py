"""Archives that lie: whatever a tar file says, nothing is written under its names and nothing escapes as a crash."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.inputs import find_recordings
from seamlessalign.sources import recording_file, tar_members
from seamlessalign.tar_index import tar_index
from tests.test_house import HOUSE

DATA = bytes(range(256)) * 8
NAMES = [
    "../../escaped.wav",
    "/tmp/escaped-absolute.wav",
    "a/../../../escaped.wav",
    "~/escaped.wav",
    "C:\\escaped.wav",
    "escaped.wav\0hidden",
    "./-rf.wav",
    ".ssh/authorized_keys.wav",
    "new\nline.wav",
    "$(touch escaped).wav",
    "%2e%2e/escaped.wav",
    "e" * 300 + ".wav",
    "escaped.wav/../../x.wav",
]


def _member(name: str, data: bytes = DATA, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _with_size(member: bytes, size: int) -> bytes:
    """The same header claiming another size, in the form for large and negative numbers."""
    header = bytearray(member[:512])
    mark = b"\xff" if size < 0 else b"\x80"
    header[124:136] = mark + size.to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + member[512:]


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def _extended(records: bytes, then: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return _member("./PaxHeaders/a", records, kind) + then


def _sparse(numbers: bytes) -> bytes:
    records = _record("GNU.sparse.major", "1") + _record("GNU.sparse.minor", "0")
    return _extended(records, _member("a.wav", numbers))


LYING: dict[str, bytes] = {
    "a negative size": _with_size(_member("a.wav"), -1024),
    "a size beyond all files": _with_size(_member("a.wav"), 1 << 62),
    "a negative size behind a member": _member("b.wav") + _extended(_record("size", "-4096"), _member("a.wav")),
    "a size that leads to its own header": _extended(_record("size", "-1024"), _member("a.wav", b"")),
    "a size that no number holds": _extended(_record("size", str(1 << 80)), _member("a.wav")),
    "a size that is none": _extended(_record("size", "many"), _member("a.wav")),
    "records without end": _extended(b"99999999 a=b\n", _member("a.wav")),
    "a header that fills all memory": _with_size(_member("./PaxHeaders/a", b"", tarfile.XHDTYPE), 1 << 40),
    "a name that fills all memory": _with_size(_member("././@LongLink", b"", tarfile.GNUTYPE_LONGNAME), 1 << 40),
    "headers of headers": _extended(_record("a", "b"), b"") * 3000,
    "names of names": _member("././@LongLink", b"abc\0", tarfile.GNUTYPE_LONGNAME) * 3000,
    "a sparse file without end": _sparse(b"999999999999\n".ljust(512, b"\0")),
    "a sparse file that breaks off": _sparse(b"99\n" + b"1\n" * 200),
    "a sparse file of words": _extended(_record("GNU.sparse.map", "1,2,x"), _member("a.wav")),
    "an old sparse file": _member("a.wav", b"", tarfile.GNUTYPE_SPARSE) + bytes(512),
    "a bomb in a zip": b"PK\3\4" + DATA,
    "zeros": bytes(4096),
    "nothing": b"",
}


@pytest.mark.parametrize("data", LYING.values(), ids=LYING)
def test_a_tar_file_that_lies_ends_the_list_and_nothing_else(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data + bytes(1024))
    members, _ = tar_members(str(path))
    assert all(offset >= 0 and size >= 0 for offset, size in members.values())
    for name in members:
        try:
            with recording_file(f"{path}::{name}") as copy:
                assert copy.stat().st_size <= len(data)
        except UnreadableError as error:
            assert error.reason == "truncated"
    assert all(file.problem is None or "\n" not in file.problem for file in find_recordings([str(path)]))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_damage_escapes(data: st.DataObject) -> None:
    """Whole files with a few bytes changed, and any order of headers of all kinds."""
    pieces = [_member("a.wav"), _member("b", b"", tarfile.SYMTYPE, "a"), _extended(_record("path", "c"), b"")]
    pieces += [_member("d" * 200, b"x"), _extended(_record("size", "7"), b""), *LYING.values(), bytes(512)]
    whole = bytearray(b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=4)))[:20_000])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), max_size=6)):
        if at < len(whole):
            whole[at] = value
    members, _ = tar_index(io.BytesIO(bytes(whole)))
    for offset, size in members.values():
        assert 0 <= offset <= len(whole) + 512 and size >= 0


def test_of_one_name_the_last_counts(tmp_path: Path) -> None:
    """As `tar -x` has it."""
    (tmp_path / "a.tar").write_bytes(_member("a.wav", b"first") + _member("a.wav", b"last") + bytes(1024))
    with recording_file(f"{tmp_path}/a.tar::a.wav") as path:
        assert path.read_bytes() == b"last"
    subprocess.run(["tar", "-xf", "a.tar"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.wav").read_bytes() == b"last"


_OPENS_ALL = """
import json, os, sys, tempfile
from seamlessalign.pipelines.inputs import find_recordings
from seamlessalign.sources import recording_file, tar_members
from seamlessalign.errors import UnreadableError

written, changes = [], []

def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or flags & os.O_TMPFILE == os.O_TMPFILE:
            written.append([str(path), flags])
    elif event in ("os.mkdir", "os.link", "os.symlink", "os.rename", "os.mkfifo", "os.mknod", "shutil.move"):
        changes.append([event, *map(str, arguments)])

tempfile.gettempdir()  # which looks once whether it can write there
sys.addaudithook(watch)
seen, links = [], []
for archive in sys.argv[1:]:
    find_recordings([archive])
    for name in tar_members(archive)[0]:
        try:
            with recording_file(f"{archive}::{name}") as path:
                seen.append(path.read_bytes().hex()[:8])
                links.append([os.readlink(path), os.stat(path).st_nlink, os.stat(path).st_mode & 0o777])
        except UnreadableError:
            pass
print(json.dumps([written, changes, seen, links]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files without a name")
def test_nothing_is_written_under_a_name_of_an_archive(tmp_path: Path) -> None:
    """The interpreter itself tells of every file that is opened for writing, and of every link and folder."""
    kinds = {
        "sym.wav": (tarfile.SYMTYPE, "/etc/passwd"),
        "hard.wav": (tarfile.LNKTYPE, "../../escaped.wav"),
        "char.wav": (tarfile.CHRTYPE, ""),
        "block.wav": (tarfile.BLKTYPE, ""),
        "fifo.wav": (tarfile.FIFOTYPE, ""),
        "folder.wav": (tarfile.DIRTYPE, ""),
        "cont.wav": (tarfile.CONTTYPE, ""),
        "odd.wav": (b"Z", ""),
    }
    whole = b"".join(_member(name) for name in NAMES)
    whole += b"".join(_member(name, b"", kind, link) for name, (kind, link) in kinds.items()) + bytes(1024)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "a.tar": bytes,
        "a.tar.gz": gzip.compress,
        "a.tar.bz2": bz2.compress,
        "a.tar.xz": lzma.compress,
    }
    for name, pack in packers.items():
        (tmp_path / name).write_bytes(pack(whole))
    empty, temporary = tmp_path / "empty", tmp_path / "temporary"
    empty.mkdir()
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _OPENS_ALL, *(str(tmp_path / name) for name in packers)],
        cwd=empty,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(HOUSE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    written, changes, seen, links = json.loads(done.stdout)
    assert len(seen) >= len(packers) * len(NAMES) and all(one == DATA[:4].hex() for one in seen if one)
    # files without a name are opened by that of their folder, and a folder cannot be written to in another way
    assert {path for path, _ in written} == {str(temporary)}
    assert sum(flags & os.O_TMPFILE == os.O_TMPFILE for _, flags in written) >= len(seen)
    assert {event for event, *_ in changes} == {"os.mkdir", "os.symlink"}
    for event, *arguments in changes:
        made = Path(arguments[1] if event == "os.symlink" else arguments[0])
        assert temporary in made.parents
        assert made.name.startswith("seamlessalign-") if event == "os.mkdir" else made.stem == "member"
    for target, names, mode in links:
        assert "(deleted)" in target or target.startswith("/proc/self/fd/")
        assert names == 0 and mode == 0o600
    assert list(temporary.iterdir()) == list(empty.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*packers, "empty", "temporary"])


def test_what_tells_of_a_member_is_small(tmp_path: Path) -> None:
    bomb = b'{"lang": "' + b"a" * (17 << 20) + b'"}'
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(_member("a.wav") + _member("a.json", bomb) + bytes(1024)))
    (found,) = find_recordings([f"{tmp_path}/a.tar.gz"])
    assert found.problem is not None and "17 MiB" in found.problem
    deep = b"[" * 100_000
    (tmp_path / "b.tar").write_bytes(_member("a.wav") + _member("a.json", deep) + bytes(1024))
    (found,) = find_recordings([f"{tmp_path}/b.tar"])
    assert found.problem is not None and "not JSON" in found.problem


def test_other_archives_are_not_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../escaped.wav", DATA)
    with zipfile.ZipFile(tmp_path / "b.tar", "w") as archive:
        archive.writestr("../escaped.wav", DATA)
    found = find_recordings([f"{tmp_path}/a.zip", f"{tmp_path}/b.tar"])
    assert [(Path(file.uri).name, file.problem is None) for file in found] == [("a.zip", True), ("b.tar", False)]
    with pytest.raises(UnreadableError), recording_file(f"{tmp_path}/b.tar::../escaped.wav"):
        pass
