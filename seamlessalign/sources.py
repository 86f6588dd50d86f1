"""Where recordings come from, and the one door through which all of them are opened.

A uri names a recording for good, so that audio can be cut out of it long after it was mined:

- a path, or an address (`s3://…`, `gs://…`, `https://…`, `http://…`);
- `shard.tar::folder/a.wav`, a member of a tar file, such as a shard of WebDataset, compressed (`.tar.gz`) or not;
- `data.parquet::audio/12`, row 12 of a column with audio in it, as Hugging Face datasets have it;
- any of these with `#channel=1` behind it: that channel alone, counted from 0.

A local file whose whole name looks like one of the latter is itself meant.
"""

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.compressed_tar import SUFFIXES, is_compressed_tar, unpacked_tar
from seamlessalign.errors import SeamlessAlignError, UnreadableError
from seamlessalign.processor_time import charge, told
from seamlessalign.tar_index import tar_index
from seamlessalign.web_files import fetch

_T = TypeVar("_T")
TIMEOUT_SECONDS = 3600.0
CONTAINERS = (".tar", ".parquet", *SUFFIXES)
_MEMBER = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, CONTAINERS))}))::(.+)", re.DOTALL | re.IGNORECASE)
_CHANNEL = re.compile(r"(.+)#channel=([0-9]{1,4})", re.DOTALL)
_BLOCK = 1 << 18
_SMALL = 1 << 24  # bytes of a member that tells of another


@dataclass(frozen=True)
class Place:
    """A uri taken apart."""

    file: str  # uri of what is stored
    member: str | None = None  # inside it: a name in a tar file, or column/row of a Parquet file
    channel: int | None = None  # None: whatever the configuration says


def place_of(uri: str) -> Place:
    """Where a recording's uri leads."""
    channel = None
    if (found := _CHANNEL.fullmatch(uri)) and not _is_file(uri):
        uri, channel = found[1], int(found[2])
    if (found := _MEMBER.fullmatch(uri)) and not _is_file(uri):
        return Place(found[1], found[2], channel)
    return Place(uri, None, channel)


def with_channel(uri: str, channel: int) -> str:
    """The uri of one channel of a recording."""
    return f"{uri}#channel={channel}"


def is_http(uri: str) -> bool:
    """Whether a uri is an address on the web."""
    return uri.lower().startswith(("http://", "https://"))


def is_container(uri: str) -> bool:
    """Whether a uri names a tar or Parquet file by its suffix."""
    return uri.lower().endswith(CONTAINERS)


def is_tar(uri: str) -> bool:
    """Whether a uri names a tar file, plain or compressed, by its suffix."""
    return uri.lower().endswith(".tar") or is_compressed_tar(uri)


@contextmanager
def recording_file(uri: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[Path]:
    """A local path with the bytes of a recording, of all its channels: the file itself, or a temporary copy.

    Raises UnreadableError with one of the reasons `missing`, `unreadable`, `truncated` (less came than was promised),
    `not_audio` (a page of HTML came), `empty` (a row without audio), `timeout` when it is not there within so many
    seconds, and those of `web_files.fetch`; OSError of the file system; StorageError where a store does not answer
    however often it is asked; MissingPackageError without the package that reads such addresses.
    """
    place = place_of(uri)
    if place.member is None and storage.is_local(place.file):
        yield storage.local_path(place.file)
        return
    if place.member is not None:
        with _member_file(place.file, place.member, uri, timeout_seconds) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="seamlessalign-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy"
        if is_http(place.file):
            copy = copy.with_suffix(_suffix(re.split("[?#]", place.file)[0]))
            _within(timeout_seconds, uri, lambda: fetch(place.file, copy, timeout_seconds))
        else:
            copy = copy.with_suffix(_suffix(place.file))
            _within(timeout_seconds, uri, lambda: storage.download(place.file, copy))
        yield copy


def tar_members(uri: str) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Regular files of a tar file, (offset, size) by name, and what is wrong with it where it breaks off.

    Offsets are those behind its compression. Raises UnreadableError where that would unpack to too much.
    """
    return _tar_index(uri, storage.version(uri))


def tar_bytes(uri: str, name: str, *, any_size: bool = False) -> bytes:
    """All bytes of a member, of which tar_members has the name. Raises UnreadableError for a large one, unless any."""
    offset, size = tar_members(uri)[0][name]
    if size > _SMALL and not any_size:
        raise UnreadableError("manifest", f"{name} has {size / 2**20:.0f} MiB, which tell of a recording too much")
    with _plain_tar(uri, storage.version(uri)) as (file, _):
        file.seek(offset)
        return bytes(file.read(size))


def audio_columns(schema: pa.Schema) -> list[str]:
    """Columns of a Parquet file that hold audio: structs with `bytes`, and bytes of a column that is named audio."""
    return [
        field.name
        for field in schema
        if (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        or (_is_binary(field.type) and field.name == "audio")
    ]


@contextmanager
def parquet_file(uri: str) -> Iterator[pq.ParquetFile]:
    """An open Parquet file. Raises UnreadableError where it is none."""
    try:
        with storage.open_read(uri) as file, pq.ParquetFile(file) as opened:
            yield opened
    except pa.ArrowException as error:
        raise UnreadableError("unreadable", f"{uri!r} is no readable Parquet file: {_first_line(error)}") from error


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_file(uri: str) -> bool:
    try:
        return storage.is_local(uri) and storage.local_path(uri).exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _suffix(path: str) -> str:
    """The suffix of a name where it is a plain one."""
    suffix = Path(path.rsplit("/", 1)[-1]).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""


# --- members


@contextmanager
def _member_file(file: str, member: str, uri: str, timeout_seconds: float) -> Iterator[Path]:
    """A local path with the bytes of a member.

    They lie in a file without a name, which goes with this process however that ends; what has a name is a link to the
    open file, in a folder of this user's own, with nothing of the member's name but a plain suffix.
    """
    with tempfile.TemporaryFile() as copy:
        name = _within(timeout_seconds, uri, lambda: _extract(file, member, copy))
        copy.flush()
        with tempfile.TemporaryDirectory(prefix="seamlessalign-", ignore_cleanup_errors=True) as folder:
            path = (Path(folder) / "member").with_suffix(_suffix(name))
            path.symlink_to(f"/proc/self/fd/{copy.fileno()}")
            yield path


def _extract(file: str, member: str, copy: IO[bytes]) -> str:
    """Write the bytes of a member to an open file; returns the name that tells of their format."""
    if is_tar(file):
        members, problem = tar_members(file)
        if member not in members:
            more = f"; the file breaks off: {problem}" if problem else ""
            raise UnreadableError("missing", f"{file!r} has no member {member!r}{more}")
        offset, size = members[member]
        with _plain_tar(file, storage.version(file)) as (source, _):
            source.seek(offset)
            while size > 0 and (block := source.read(min(size, _BLOCK))):
                size -= copy.write(block)
        if size:
            raise UnreadableError("truncated", f"{file!r} breaks off {size} bytes before the end of {member!r}")
        return member
    column, _, row = member.rpartition("/")
    if not column or not row.isdecimal():
        raise UnreadableError("missing", f"{file!r} has no {member!r}: column/row is needed, such as audio/12")
    data, name = _cell(file, column, int(row))
    copy.write(data)
    return name


@contextmanager
def _plain_tar(uri: str, version: str) -> Iterator[tuple[IO[bytes], str | None]]:
    """A tar file without its compression, and what is wrong with that where it breaks off."""
    if is_compressed_tar(uri):
        with unpacked_tar(uri, version) as unpacked:
            yield unpacked
    else:
        with storage.open_read(uri) as file:
            yield file, None


@lru_cache(maxsize=16)
def _tar_index(uri: str, version: str) -> tuple[dict[str, tuple[int, int]], str | None]:
    with _plain_tar(uri, version) as (file, broken):
        members, problem = tar_index(file)
    return members, broken or problem


_group: tuple[tuple[str, str, str, int], Any] | None = None  # the last row group that was read, as rows are in order


def _cell(uri: str, column: str, row: int) -> tuple[bytes, str]:
    """The bytes in a row, and the name that it gives them."""
    global _group
    with parquet_file(uri) as file:
        if column not in audio_columns(file.schema_arrow):
            raise UnreadableError("missing", f"{uri!r} has no column {column!r} with audio in it")
        first, number = 0, 0
        while number < file.num_row_groups and row >= first + file.metadata.row_group(number).num_rows:
            first += file.metadata.row_group(number).num_rows
            number += 1
        if number == file.num_row_groups:
            raise UnreadableError("missing", f"{uri!r} has {first} rows and no row {row}, counted from 0")
        key = (uri, storage.version(uri), column, number)
        held = _group
        if held is None or held[0] != key:
            held = _group = None  # the old one goes first
            held = _group = (key, file.read_row_group(number, columns=[column]).column(0))
        value = held[1][row - first].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise UnreadableError("empty", f"{uri!r} has no audio in row {row} of {column!r}")
    return bytes(data), str((value.get("path") if isinstance(value, dict) else None) or "")


# --- what is elsewhere


def _within(seconds: float, uri: str, work: Callable[[], _T]) -> _T:
    """The result of work that knows no time limit; when it is over, the thread is left to itself."""
    done: list[_T] = []
    failed: list[BaseException] = []
    took: list[float] = []
    work = told(work, took.append)

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))
    if thread.is_alive():
        raise UnreadableError("timeout", f"{uri!r} was not read within {seconds:g} s")
    charge(sum(took))
    if failed:
        if isinstance(failed[0], OSError | SeamlessAlignError):
            raise failed[0]
        raise UnreadableError("unreadable", f"{uri!r} cannot be read: {_first_line(failed[0])}") from failed[0]
    return done[0]


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
