"""What is in a tar file, by its headers alone. Names in it are keys, and never names of files that are written."""

import os
import tarfile
from typing import IO

_MOST_OF_A_HEADER = 1 << 20  # bytes of what stands before a member to say more of it; tarfile reads that as one
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# what tarfile raises where numbers in a header are none, lists in it break off, or headers follow headers for ever
_DAMAGE = (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError)


class _Header(tarfile.TarInfo):
    """A header that is not believed whatever it says."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """As of TarInfo. Raises SubsequentHeaderError for a size that cannot be."""
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.type in _EXTENDED and found.size > _MOST_OF_A_HEADER):
            told = f"a header claims to be followed by {found.size} bytes of it"
            raise tarfile.SubsequentHeaderError(told)  # type: ignore[attr-defined]
        return found


def tar_index(file: IO[bytes]) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Regular files of a plain tar file, (offset, size) by name, and what is wrong with it where it breaks off.

    Links, devices, folders and sparse files are none. Of several with one name the last counts, as when unpacked.
    """
    members: dict[str, tuple[int, int]] = {}
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
            at = -1
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= at:  # type: ignore[attr-defined]  # it would go round in circles
                    return members, f"the header of {member.name!r} claims {member.size} bytes"
                at = tar.offset  # type: ignore[attr-defined]
                if member.isreg() and not member.issparse():
                    members[member.name] = (member.offset_data, member.size)
                if at > length:
                    return members, "unexpected end of data"
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
            file.seek(tar.offset)  # type: ignore[attr-defined]  # where no further header was found
            if any(file.read(tarfile.BLOCKSIZE)):
                return members, "it ends inside a header, or has something else in place of one"
    except _DAMAGE as error:
        return members, (str(error).splitlines() or ["it is no tar file"])[0]
    return members, None
