"""Texts of published metadata out of Common Crawl's WET files, each file read once and only as far as it is wanted.

No index of WET files is published: where in its file a record lies is not known before the file is read. So all texts
that are wanted of a file are looked for together while it streams by, and the connection is hung up once they are
found; one that breaks goes on at the byte it had come to.
"""

import io
import random
import re
import time
from collections.abc import Iterator, Sequence
from posixpath import normpath
from typing import IO, Any

from seamlessalign import storage
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.pipelines.published.packed import DAMAGE, unpacked
from seamlessalign.pipelines.published.record_text import RecordText
from seamlessalign.sources import is_http
from seamlessalign.web_files import WebFile

COMMON_CRAWL = "https://data.commoncrawl.org/"  # the public address of what paths in metadata begin at

_BLOCK = 1 << 18
_LONGEST_RECORD = 64 << 20  # bytes; the extracts of pages are cut off at a fiftieth of that
_LONGEST_HEADER = 1 << 16
_BREAKS = 8  # that come one behind the other, without a byte between them
_MOST_BREAKS = 100  # of one file
_FIRST_PAUSE = 0.25  # seconds at most; the next are twice as long
_PASSING = ("truncated", "timeout", "unreadable")  # reasons for which one goes on
_PLACE = re.compile(r"(?:https?://[^/]+/+|s3://commoncrawl/)?(crawl-data/[^?#]+)", re.IGNORECASE)


def wet_uri(cc_warc: str, base: str = COMMON_CRAWL) -> str:
    """Where a WET file of metadata is, below the place where Common Crawl's files are or a copy of them is.

    Raises UnreadableError `not_common_crawl` where it is none: the text is of another corpus.
    """
    found = _PLACE.fullmatch(cc_warc.strip())
    if found is None:
        raise UnreadableError("not_common_crawl", f"{cc_warc!r} is no file of Common Crawl: a corpus of its own")
    if normpath(found[1]) != found[1]:
        raise UnreadableError("not_common_crawl", f"{cc_warc!r} is no plain path")
    return storage.join(base, found[1])


def is_common_crawl(cc_warc: str) -> bool:
    """Whether metadata names a file of Common Crawl."""
    return _PLACE.fullmatch(cc_warc.strip()) is not None


def texts_of(uri: str, lines: Sequence[MetadataLine]) -> list[str | UnreadableError]:
    """The texts of published lines that are all of one WET file, at `uri`; for each that is not found, why not.

    The file is asked for once, whoever calls keeps the limits of its host.

    The reasons are `record_missing` (the file has no record with that digest), those of `RecordText.sentence`, and of
    the file: `wet_missing`, `wet_truncated`, `wet_damaged`, and those of the web (`timeout`, `unreadable`,
    `address_refused`, …). Raises StorageError where a store does not answer.
    """
    results: list[str | UnreadableError | None] = [None] * len(lines)
    wanted: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        wanted.setdefault(_sha(line.cc_sha), []).append(number)
    without = wanted.pop("", [])
    problem = UnreadableError("record_missing", f"{uri!r} has no record with that digest")
    try:
        if wanted:
            for sha, text in _texts(uri, wanted):
                record = RecordText(text)
                for number in wanted.pop(sha):
                    try:
                        results[number] = record.sentence(lines[number])
                    except UnreadableError as error:
                        results[number] = error
                if not wanted:
                    break
    except UnreadableError as error:
        problem = error
    for number in without:
        results[number] = UnreadableError("record_missing", "the published line has no digest of a record")
    return [problem if result is None else result for result in results]


def _texts(uri: str, wanted: dict[str, list[int]]) -> Iterator[tuple[str, str]]:
    """The records that are still wanted, as the digest of each and its text."""
    try:
        with _opened(uri) as file:
            for headers, content in records(file, lambda headers: _sha(headers.get("warc-block-digest", "")) in wanted):
                yield _sha(headers["warc-block-digest"]), content.decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise UnreadableError("wet_missing", f"{uri!r} is not there") from error
    except OSError as error:
        raise UnreadableError("unreadable", f"{uri!r} cannot be read: {error.strerror or error}") from error


def _sha(written: str) -> str:
    """A digest of SHA-1 in base 32 without what it may begin with."""
    return written.strip().rpartition(":")[2].upper()


def records(file: IO[bytes], is_wanted: Any) -> Iterator[tuple[dict[str, str], bytes]]:
    """The wanted records of a WARC or WET file: headers, whose names are in lower case, and content.

    The file is plain or gzip, in one member or in one for each record; `is_wanted` judges by the headers. Raises
    UnreadableError `wet_truncated`, `wet_damaged`.
    """
    try:
        with unpacked(file) as stream:
            while (headers := _headers(stream)) is not None:
                length = int(headers["content-length"])
                if is_wanted(headers) and length <= _LONGEST_RECORD:
                    content = stream.read(length)
                    _check(len(content) == length)
                    yield headers, content
                else:
                    while length > 0:
                        block = len(stream.read(min(length, _BLOCK)))
                        _check(block > 0)
                        length -= block
    except EOFError as error:
        raise UnreadableError("wet_truncated", "the file breaks off inside of a record") from error
    except DAMAGE as error:
        raise UnreadableError("wet_damaged", f"the file cannot be unpacked: {error}") from error


def _check(enough: bool) -> None:
    if not enough:
        raise UnreadableError("wet_truncated", "the file breaks off inside of a record")


def _headers(stream: IO[bytes]) -> dict[str, str] | None:
    """What is said of the next record; None behind the last."""
    first = stream.readline(_LONGEST_HEADER)
    while first in (b"\r\n", b"\n"):
        first = stream.readline(_LONGEST_HEADER)
    if not first:
        return None
    if not first.startswith(b"WARC/"):
        raise UnreadableError("wet_damaged", f"no record begins with {first[:40]!r}")
    headers: dict[str, str] = {}
    while (line := stream.readline(_LONGEST_HEADER)) not in (b"\r\n", b"\n"):
        _check(line.endswith(b"\n"))
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    if not re.fullmatch(r"\d{1,15}", headers.get("content-length", "")):
        raise UnreadableError("wet_damaged", "a record does not tell its length")
    return headers


# --- files that go on where the connection broke


def _opened(uri: str) -> IO[bytes]:
    opened: Any = io.BufferedReader(_Persistent(uri), _BLOCK) if is_http(uri) else storage.open_read(uri)
    file: IO[bytes] = opened
    return file


class _Persistent(io.RawIOBase):
    """A file on the web, read from its beginning on, and on again from where the connection broke.

    Where the server gives no parts of files, what was read already is read again and dropped.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri
        self._at = self._breaks = 0
        self._file: WebFile | None = WebFile(uri)
        self._first = (self._file.size, self._file.tag)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        for attempt in range(_BREAKS):
            try:
                if self._file is None:
                    self._file = self._again()
                count = self._file.readinto(buffer)
                self._at += count
                return count
            except UnreadableError as error:
                if self._file is not None:
                    self._file.close()
                    self._file = None
                self._breaks += 1
                if error.reason not in _PASSING or attempt == _BREAKS - 1 or self._breaks > _MOST_BREAKS:
                    raise
                time.sleep(random.uniform(0, _FIRST_PAUSE * 2**attempt))
        raise AssertionError

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _again(self) -> WebFile:
        try:
            file = WebFile(self._uri, self._at)
        except UnreadableError:
            file = WebFile(self._uri)  # as a whole
            while (left := self._at - file.tell()) > 0 and file.read(min(left, _BLOCK)):
                pass
        if (file.size, file.tag) != self._first:
            file.close()
            raise UnreadableError("wet_changed", f"{self._uri!r} changed while it was read")
        return file
