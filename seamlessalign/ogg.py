"""Ogg pages (RFC 3533): whether a stream ends as it should, and streams whose bytes are always the same."""

import os
import struct
import zlib

from seamlessalign.errors import StorageError

_SERIAL = 0x5EA31E55  # of every Ogg stream written here


def ogg_ends(descriptor: int, size: int) -> bool:
    """Whether the last whole page of an Ogg file carries the end-of-stream flag (RFC 3533, section 6)."""
    start = max(0, size - 4 * 65_307)  # a page has at most 65,307 bytes; some more in case of trailing bytes
    tail = os.pread(descriptor, size - start, start)
    at = tail.rfind(b"OggS")
    while at >= 0:
        page = _page(tail, at)
        if page is not None:
            return bool(tail[at + 5] & 4)
        if _page_begins(tail, at):
            return False  # a page that breaks off is the end of a cut file
        at = tail.rfind(b"OggS", 0, at)
    return False


def _page_begins(data: bytes, at: int) -> bool:
    return len(data) - at < 27 or (data[at + 4] == 0 and data[at + 5] < 8)


def _page(data: bytes, at: int) -> int | None:
    """End of the page that begins at `at`; None when it is not there as a whole."""
    if len(data) - at < 27 or not _page_begins(data, at):
        return None
    table = data[at + 27 : at + 27 + data[at + 26]]
    end = at + 27 + data[at + 26] + sum(table)
    return end if len(table) == data[at + 26] and end <= len(data) else None


def with_fixed_serial(ogg: bytes) -> bytes:
    """The same Ogg stream under a fixed serial number: libsndfile draws a random one, and equal clips must be equal."""
    pages: list[bytes] = []
    at = 0
    while at < len(ogg):
        end = _page(ogg, at)
        if end is None:
            raise StorageError(f"the Opus encoder wrote a broken Ogg page at byte {at}: check the installed libsndfile")
        page = bytearray(ogg[at:end])
        struct.pack_into("<I", page, 14, _SERIAL)
        struct.pack_into("<I", page, 22, 0)
        struct.pack_into("<I", page, 22, _checksum(bytes(page)))
        pages.append(bytes(page))
        at = end
    return b"".join(pages)


def last_granule(ogg: bytes) -> int:
    """Granule position of the last page of a whole stream. Raises ValueError where it breaks off within a page.

    Pages are passed one by one: what marks one, `OggS`, may be in the data of another too.
    """
    at, end = 0, _page(ogg, 0)
    while end is not None and end < len(ogg):
        at, end = end, _page(ogg, end)
    if end is None:
        raise ValueError(f"breaks off in the Ogg page at byte {at}")
    return int.from_bytes(ogg[at + 6 : at + 14], "little", signed=True)


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533: polynomial 0x04C11DB7, most significant bit first, start 0, no final inversion.

    zlib's is the same polynomial mirrored, with both inversions: mirror bytes and result, undo the inversions.
    """
    mirrored = ~zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
