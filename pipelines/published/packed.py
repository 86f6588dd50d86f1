"""Streams that may be compressed, told by what they begin with."""

import gzip
import io
import lzma
import zlib
from typing import IO, Any, cast

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"
DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError)  # what reading on raises where bytes are not as they were


def unpacked(file: IO[bytes] | io.RawIOBase) -> IO[bytes]:
    """The bytes inside a gzip or xz file, of all its members, or of a plain file as they are.

    Reading raises EOFError where the file breaks off, and one of `DAMAGE`.
    """
    ahead: Any = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file), 1 << 18)
    begins = ahead.peek(len(_XZ))[: len(_XZ)]
    if begins.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=ahead))
    return cast(IO[bytes], lzma.LZMAFile(ahead) if begins.startswith(_XZ) else ahead)
