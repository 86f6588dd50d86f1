"""Compressed tar files, each unpacked as a whole before anything in it is read.

What lies inside a compressed stream is reached only by unpacking all before it, and recordings are opened again and
again, in any order. So a process unpacks such a file once, and keeps the last one for as long as it opens nothing
else, in a temporary file that has no name and goes with the process, however that ends.
"""

import bz2
import gzip
import io
import lzma
import os
import shlex
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import UnreadableError

MOST_TIMES = 100  # a file that grows beyond so many times its size, and a GiB, is no corpus of sound
ALWAYS_ALLOWED = 1 << 30  # bytes
_BLOCK = 1 << 18
_XZ_MEMORY = 256 << 20  # of a dictionary; the largest that xz makes unasked is 64 MiB
_UNPACKERS = {  # suffix → the program that takes it away
    ".tar.gz": "gunzip",
    ".tgz": "gunzip",
    ".tar.bz2": "bunzip2",
    ".tbz2": "bunzip2",
    ".tbz": "bunzip2",
    ".tar.xz": "unxz",
    ".txz": "unxz",
    ".tar.zst": "unzstd",
    ".tzst": "unzstd",
}
SUFFIXES = tuple(_UNPACKERS)


@dataclass(frozen=True)
class _Unpacked:
    file: IO[bytes]
    problem: str | None  # why the rest of it could not be unpacked


_lock = threading.Lock()
_held: tuple[tuple[str, str], _Unpacked | UnreadableError] | None = None  # (uri, version) and what became of it


def is_compressed_tar(uri: str) -> bool:
    """Whether a uri names a compressed tar file by its suffix."""
    return uri.lower().endswith(SUFFIXES)


@contextmanager
def unpacked_tar(uri: str, version: str) -> Iterator[tuple[IO[bytes], str | None]]:
    """The plain tar file in a compressed one, open for reading anywhere, and what is wrong where it breaks off.

    `version` tells whether the file is still the one that was unpacked. Raises UnreadableError where it is too large to
    be unpacked, OSError of the file system.
    """
    with _lock:
        unpacked = _unpacked(uri, version)
        file = io.BufferedReader(_Reader(unpacked.file.fileno()))
    with file:
        yield file, unpacked.problem


def _unpacked(uri: str, version: str) -> _Unpacked:
    global _held
    key = (uri, version)
    if _held is None or _held[0] != key:
        if _held is not None and isinstance(_held[1], _Unpacked):
            _held[1].file.close()  # whoever still reads it has a descriptor of their own
        _held = None
        try:
            _held = (key, _unpack(uri))
        except UnreadableError as error:
            _held = (key, error)
    found = _held[1]
    if isinstance(found, UnreadableError):
        raise UnreadableError(found.reason, found.detail)
    return found


def _unpack(uri: str) -> _Unpacked:
    free = shutil.disk_usage(tempfile.gettempdir()).free // 2
    size, problem = 0, None
    target = tempfile.TemporaryFile()  # noqa: SIM115  it stays open
    try:
        with storage.open_read(uri) as source:
            try:
                for block in _blocks(source, uri.lower()):
                    size += len(block)
                    if size > max(ALWAYS_ALLOWED, MOST_TIMES * source.tell()):
                        raise _too_large(uri, f"unpacks to more than {MOST_TIMES} times its size")
                    if size > free:
                        where = (
                            f"needs more than half of what is free in {tempfile.gettempdir()!r}, which TMPDIR names,"
                        )
                        raise _too_large(uri, f"{where} to be unpacked")
                    target.write(block)
            except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
                problem = _first_line(error)
            except OSError as error:
                if error.errno is not None:  # of the file system; what is wrong with the stream has no number
                    raise
                problem = _first_line(error)
        target.flush()
    except BaseException:
        target.close()
        raise
    return _Unpacked(target, problem)


def _blocks(source: Any, name: str) -> Iterator[bytes]:
    """What a compressed stream holds, in blocks of bounded size."""
    program = next(program for suffix, program in _UNPACKERS.items() if name.endswith(suffix))
    if program == "unxz":
        yield from _xz_blocks(source)
        return
    if program == "gunzip":
        stream: Any = gzip.GzipFile(fileobj=source)
    elif program == "bunzip2":
        stream = bz2.BZ2File(source)
    else:
        stream = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")  # windows of up to 128 MiB
    while block := stream.read(_BLOCK):
        yield block


def _xz_blocks(source: Any) -> Iterator[bytes]:
    """As lzma.LZMAFile, with a limit of memory."""
    rest = b""
    while block := rest or source.read(_BLOCK):
        rest = block.lstrip(b"\0")  # padding between streams
        if not rest:
            continue
        unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        while not unpacker.eof:
            if unpacker.needs_input and not rest and not (rest := source.read(_BLOCK)):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            yield unpacker.decompress(rest, _BLOCK)
            rest = b""
        rest = unpacker.unused_data


def _too_large(uri: str, what: str) -> UnreadableError:
    name = uri.rsplit("/", 1)[-1]
    program = next(program for suffix, program in _UNPACKERS.items() if name.lower().endswith(suffix))
    detail = f"{uri!r} {what}: if it is what it should be, unpack it once ({program} {shlex.quote(name)})"
    return UnreadableError("unreadable", f"{detail} and give the tar file")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Reader(io.RawIOBase):
    """A file read from a place of one's own, whoever else reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
