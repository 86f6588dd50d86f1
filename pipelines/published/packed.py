"""Streams that may be compressed, told by what they begin with."""

import gzip
import io
import lzma
import zlib
from collections import deque
from typing import IO, Any, cast

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"
DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError)  # what reading on raises where bytes are not as they were
_BLOCK = 1 << 14  # bytes that are unpacked at a time: what is behind a member is copied for each


def unpacked(file: IO[bytes] | io.RawIOBase) -> IO[bytes]:
    """The bytes inside a gzip or xz file, of all its members, or of a plain file as they are.

    Reading raises EOFError where the file breaks off, and one of `DAMAGE`.
    """
    ahead: Any = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file), 1 << 18)
    begins = ahead.peek(len(_XZ))[: len(_XZ)]
    if begins.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=ahead))
    return cast(IO[bytes], lzma.LZMAFile(ahead) if begins.startswith(_XZ) else ahead)


class Members(io.RawIOBase):
    """The bytes inside of the members of a gzip file, or of a plain file, and where in the file a member begins.

    Reading raises EOFError where the file breaks off inside of a member, and one of `DAMAGE`.
    """

    def __init__(self, file: IO[bytes], at: int = 0) -> None:
        """`at`: the place in the file at which it stands."""
        self._file = file
        self._data = file.read(_BLOCK)  # read and not unpacked
        self._is_plain = bool(self._data) and not self._data.startswith(_GZIP)
        self._first = at
        self._at = at + len(self._data)  # in the file, behind these
        self._out = 0  # bytes that came out
        self._member: Any = None
        self._begins: deque[tuple[int, int]] = deque()  # of members: in what comes out, and in the file

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._out

    def place_of(self, out: int) -> int | None:
        """The place in the file from which it can be read to begin with byte `out` of what comes out.

        None where no member begins there; earlier ones are forgotten.
        """
        if self._is_plain:
            return self._first + out
        while self._begins and self._begins[0][0] < out:
            self._begins.popleft()
        return self._begins[0][1] if self._begins and self._begins[0][0] == out else None

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._plain(len(view)) if self._is_plain else self._unpack(len(view))
        view[: len(data)] = data
        self._out += len(data)
        return len(data)

    def _plain(self, most: int) -> bytes:
        if not self._data:
            self._fill()
        data, self._data = self._data[:most], self._data[most:]
        return data

    def _unpack(self, most: int) -> bytes:
        """Some of what follows; nothing at the end."""
        while True:
            if self._member is None and not self._begin():
                return b""
            data: bytes = self._member.decompress(self._data, most)
            self._data = self._member.unused_data or self._member.unconsumed_tail
            if self._member.eof:
                self._member = None
            elif not data and not self._data:
                self._fill()
                if not self._data:
                    raise EOFError("the file ends inside of a member")
            if data:
                return data

    def _begin(self) -> bool:
        """Whether there is one more member, at which one stands then."""
        while not (data := self._data.lstrip(b"\0")):  # that some pad files with
            self._fill()
            if not self._data:
                return False
        if len(data) < len(_GZIP):
            more = self._file.read(_BLOCK)
            self._at += len(more)
            data += more
        if not data.startswith(_GZIP):
            raise gzip.BadGzipFile(f"no member begins with {data[:2]!r}")
        self._data = data
        self._begins.append((self._out, self._at - len(data)))
        self._member = zlib.decompressobj(wbits=31)
        return True

    def _fill(self) -> None:
        self._data = self._file.read(_BLOCK)
        self._at += len(self._data)
