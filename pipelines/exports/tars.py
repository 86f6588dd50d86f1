"""Tar files whose bytes depend on what is in them alone: no times, no owners."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from seamlessalign import storage

_BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """Files one behind the other."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.size = 0  # bytes so far

    def size_with(self, *files: bytes) -> int:
        """Bytes of the whole tar file if these files came to it and then its end."""
        more = sum(_BLOCK + len(data) + -len(data) % _BLOCK for data in files)
        return -(-(self.size + more + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE

    def add(self, name: str, data: bytes) -> None:
        """Append a file."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o444
        self._write(info.tobuf(tarfile.PAX_FORMAT))
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))

    def end(self) -> None:
        """Append what every tar file ends with."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self.size += len(data)


@contextmanager
def tar_writer(uri: str) -> Iterator[TarWriter]:
    """A tar file to write, which on leaving without an error is there, whole."""
    with storage.local_target(uri) as path, path.open("wb", buffering=1 << 20) as out:
        tar = TarWriter(out)
        yield tar
        tar.end()
