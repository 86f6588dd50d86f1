"""Files on the web: fetched whole, or read in parts, within the bounds of `web_access`."""

import contextlib
import errno
import io
import os
import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from seamlessalign.errors import UnreadableError
from seamlessalign.web_access import Answer, Patience, WebAccess, ask, explained, present

_BLOCK = 1 << 18
_SKIPPED = 4 << 20  # bytes that are read and dropped rather than ask anew
_BUFFER = 1 << 18


def fetch(url: str, copy: Path, seconds: float) -> None:
    """Write a file on the web to a local path, within so many seconds of waiting.

    Raises UnreadableError with the reasons `missing`, `unreadable`, `truncated`, `not_audio` (a page of HTML),
    `too_large`, `timeout`, `address_refused` and `secret_in_address`.
    """
    access = present()
    answer = ask(url, access, Patience(seconds))
    try:
        if answer.status != HTTPStatus.OK:
            raise explained(answer)
        if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise UnreadableError("not_audio", f"{url!r} answers with a page of HTML")
        promised = answer.headers.get("Content-Length", "")
        if promised.isdecimal():
            _check_size(url, int(promised), access)
        written, block = 0, memoryview(bytearray(_BLOCK))
        with copy.open("wb") as target:
            while count := answer.readinto(block):
                written += count
                _check_size(url, written, access)
                target.write(block[:count])
    finally:
        answer.close()
    if promised.isdecimal() and written != int(promised):
        raise UnreadableError("truncated", f"{url!r} promised {promised} bytes and sent {written}")


def _check_size(url: str, size: int, access: WebAccess) -> None:
    if size > access.max_bytes:
        limit = f"fetch.max_gb allows {access.max_bytes / 2**30:g} GiB"
        raise UnreadableError("too_large", f"{url!r} sends more than that: {limit}")


class WebFile(io.RawIOBase):
    """A file on the web, read from wherever it is wanted, where its server gives parts of files.

    Reading on needs no new question; any other place does. Raises UnreadableError as `fetch` does, FileNotFoundError
    where there is no such file.
    """

    def __init__(self, url: str, first: int = 0) -> None:
        """Ask for a file, from a byte on."""
        self.url = url
        self._access = present()
        self._patience = Patience(self._access.seconds)
        self._received = 0
        self._at = first
        self._asked = False
        self._answer: Answer | None = None
        self._answer_at = 0
        self.size: int | None = None  # None: the server does not say
        self.tag = ""  # what it says of this version of the file
        self._ask(first)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self.size is None:
            raise UnreadableError("unreadable", f"{self.url!r} does not tell its size: fetch it once, name the copy")
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size or 0}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not len(view) or (self.size is not None and self._at >= self.size):
            return 0
        if self._answer is None or not 0 <= self._at - self._answer_at <= _SKIPPED:
            self._ask(self._at)
        while self._answer_at < self._at:
            if not self._receive(memoryview(bytearray(min(_BLOCK, self._at - self._answer_at)))):
                return 0
        count = self._receive(view)
        self._at += count
        return count

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _receive(self, view: memoryview) -> int:
        assert self._answer is not None
        count = self._answer.readinto(view)
        self._received += count
        self._answer_at += count
        _check_size(self.url, self._received, self._access)
        if not count and self.size is not None:
            detail = f"{self.url!r} promised {self.size} bytes and sent {self._answer_at}"
            raise UnreadableError("truncated", detail)
        return count

    def _ask(self, first: int) -> None:
        """Have the file sent from a byte on; what was asked for before is dropped."""
        self._hang_up()
        answer = ask(self.url, self._access, self._patience, first)
        try:
            size, begins = self._extent(answer, first)
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if self._asked and (size, tag) != (self.size, self.tag):
                raise UnreadableError("unreadable", f"{self.url!r} changed while it was read")
            if begins != first:
                detail = f"{self.url!r} cannot be read in parts: fetch it once, and name the copy"
                raise UnreadableError("unreadable", detail)
        except BaseException:
            answer.close()
            raise
        self.size, self.tag, self._asked = size, tag, True
        self._answer, self._answer_at = answer, first

    def _extent(self, answer: Answer, first: int) -> tuple[int | None, int]:
        """Size of the whole file, where it is told, and the byte at which the answer begins."""
        told = answer.headers.get("Content-Range", "")
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(?:(\d{1,18})|\*)", told.strip())
            if found is None:
                raise UnreadableError("unreadable", f"{self.url!r} does not tell which part of the file it sends")
            return int(found[2]) if found[2] else None, int(found[1])
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and told.replace(" ", "") == "bytes*/0":
            return 0, first
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise FileNotFoundError(f"{self.url!r} answers {answer.status} {answer.reason}")
        if answer.status != HTTPStatus.OK:
            raise explained(answer)
        length = answer.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None, 0

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


class _Opened(io.BufferedReader):
    """A file on the web with a buffer and, as fsspec's have it, its size."""

    def __init__(self, file: WebFile) -> None:
        super().__init__(file, _BUFFER)
        self.size = file.size


class WebFiles:
    """The web as `remote_files` uses file systems: single files to be read, and nothing to list or write."""

    def invalidate_cache(self) -> None:
        """Nothing is kept."""

    def info(self, url: str) -> dict[str, Any]:
        """Size, where the server tells it, and version of a file. Raises FileNotFoundError, UnreadableError."""
        with WebFile(url) as file:
            return {"name": url, "size": file.size, "type": "file", "ETag": file.tag}

    def exists(self, url: str) -> bool:
        """Whether there is such a file. Raises UnreadableError where that cannot be known."""
        try:
            self.info(url)
        except FileNotFoundError:
            return False
        return True

    def isdir(self, url: str) -> bool:
        """Never: the web has no folders that could be listed."""
        return False

    def find(self, url: str, detail: bool) -> dict[str, dict[str, Any]]:
        """The file itself, with what is known of it."""
        return {url: self.info(url)}

    def ls(self, url: str, detail: bool = True) -> list[dict[str, Any]]:
        """Nothing: the web has no folders that could be listed."""
        return []

    def modified(self, url: str) -> Any:
        """Raises NotImplementedError: its tag tells versions of a file apart, not always a time."""
        raise NotImplementedError

    def open(self, url: str, mode: str = "rb", block_size: int = 0) -> io.BufferedReader:
        """A file to read from."""
        return _Opened(WebFile(url))

    def cat_ranges(
        self, urls: Sequence[str], starts: Sequence[int | None], ends: Sequence[int | None], on_error: str
    ) -> list[bytes | Exception]:
        """Ranges of files that are wanted as a whole, or what prevents that."""
        found: list[bytes | Exception] = []
        with contextlib.ExitStack() as stack:
            opened: dict[str, WebFile] = {}
            for url, start, end in zip(urls, starts, ends, strict=True):
                try:
                    file = opened[url] = opened.get(url) or stack.enter_context(WebFile(url, start or 0))
                    _check_size(url, file.size or 0, present())
                    file.seek(start or 0)
                    found.append(_read(file, None if end is None else end - (start or 0)))
                except (OSError, UnreadableError) as error:
                    found.append(error)
        return found

    def pipe_file(self, url: str, data: bytes) -> None:
        """Raises OSError."""
        raise OSError(errno.EROFS, "nothing is written to the web")

    def put_file(self, copy: str, url: str) -> None:
        """Raises OSError."""
        raise OSError(errno.EROFS, "nothing is written to the web")

    def rm_file(self, url: str) -> None:
        """Raises OSError."""
        raise OSError(errno.EROFS, "nothing is removed from the web")


def _read(file: WebFile, size: int | None) -> bytes:
    """So many bytes, or all that follow."""
    parts: list[bytes] = []
    while size is None or size > 0:
        part = file.read(_BLOCK if size is None else min(size, _BLOCK))
        if not part:
            break
        parts.append(part)
        size = None if size is None else size - len(part)
    return b"".join(parts)
