"""Texts of published metadata out of Common Crawl's WET files, each file read once and only as far as it is wanted.

No index of WET files is published: where in its file a record lies is not known before the file is read. So all texts
that are wanted of a file are looked for together while it streams by, and the connection is hung up once they are
found; one that breaks goes on at the byte it had come to. Each record is a gzip member of its own, so that reading can
begin at any: a process that is killed is followed by one that goes on at the member that was kept last.
"""

import contextlib
import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from posixpath import normpath
from typing import IO, Any, cast

from seamlessalign import storage
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.pipelines.published.packed import DAMAGE, Members
from seamlessalign.pipelines.published.record_text import RecordText
from seamlessalign.sources import is_http
from seamlessalign.web_files import WebFile

Results = list[str | UnreadableError | None]  # of each line: its text, why there is none, or nothing so far
IsWanted = Callable[[dict[str, str]], bool]

COMMON_CRAWL = "https://data.commoncrawl.org/"  # the public address of what paths in metadata begin at

_BLOCK = 1 << 18
_KEPT_EVERY = 4 << 20  # bytes of a file behind each of which it is kept how far it was read
_LONGEST_RECORD = 64 << 20  # bytes; the extracts of pages are cut off at a fiftieth of that
_LONGEST_HEADER = 1 << 16
_BREAKS = 8  # that come one behind the other, without a byte between them
_MOST_BREAKS = 100  # of one file
_FIRST_PAUSE = 0.25  # seconds at most; the next are twice as long
_PASSING = ("truncated", "timeout", "unreadable")  # reasons for which one goes on
_PLACE = re.compile(r"(?:https?://[^/]+/+|s3://commoncrawl/)?(crawl-data/[^?#]+)", re.IGNORECASE)


@dataclass(frozen=True)
class SoFar:
    """How far a WET file was read, and what was found in it by then."""

    version: str
    at: int  # byte at which a record begins
    results: Results


@dataclass(frozen=True)
class Kept:
    """A file that says how far a WET file was read, for whoever goes on behind a process that was killed."""

    uri: str

    def read(self, count: int) -> SoFar | None:
        """What is kept, of so many lines; None where that is nothing."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            told = json.loads(storage.read_bytes(self.uri))
            results = [UnreadableError(*one) if isinstance(one, list) else one for one in told["results"]]
            if len(results) == count:
                return SoFar(told["version"], told["at"], results)
        return None

    def write(self, so_far: SoFar) -> None:
        """Keep."""
        results = [[one.reason, one.detail] if isinstance(one, UnreadableError) else one for one in so_far.results]
        told = {"version": so_far.version, "at": so_far.at, "results": results}
        storage.write_bytes_atomic(self.uri, json.dumps(told).encode())


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


def texts_of(uri: str, lines: Sequence[MetadataLine], kept: Kept | None = None) -> list[str | UnreadableError]:
    """The texts of published lines that are all of one WET file, at `uri`; for each that is not found, why not.

    The file is asked for once, whoever calls keeps the limits of its host. Where a process was killed that had the
    same `kept`, this goes on where that was.

    The reasons are `record_missing` (the file has no record with that digest), those of `RecordText.sentence`, and of
    the file: `wet_missing`, `wet_truncated`, `wet_damaged`, and those of the web (`timeout`, `unreadable`,
    `address_refused`, …). Raises StorageError where a store does not answer.
    """
    results: Results = [None] * len(lines)
    problem = UnreadableError("record_missing", f"{uri!r} has no record with that digest")
    try:
        if any(_sha(line.cc_sha) for line in lines):
            _look_up(uri, lines, results, kept)
    except UnreadableError as error:
        problem = error
    for number, line in enumerate(lines):
        if not _sha(line.cc_sha):
            results[number] = UnreadableError("record_missing", "the published line has no digest of a record")
    return [problem if result is None else result for result in results]


def _look_up(uri: str, lines: Sequence[MetadataLine], results: Results, kept: Kept | None) -> None:
    """Put what is found of each line among the results."""
    try:
        with contextlib.ExitStack() as stack:
            before = kept.read(len(lines)) if kept is not None else None
            opened, version, at = _opened(uri, before)
            file = stack.enter_context(opened)
            if before is not None and version == before.version:
                results[:] = before.results
            wanted: dict[str, list[int]] = {}
            for number, line in enumerate(lines):
                if results[number] is None and (sha := _sha(line.cc_sha)):
                    wanted.setdefault(sha, []).append(number)

            def keep(place: int) -> None:
                if kept is not None and version:
                    kept.write(SoFar(version, place, results))

            of_wanted: IsWanted = lambda headers: _sha(headers.get("warc-block-digest", "")) in wanted  # noqa: E731
            found = records(file, of_wanted, at, keep) if wanted else iter(())
            for headers, content in found:
                record = RecordText(content.decode("utf-8", "replace"))
                for number in wanted.pop(_sha(headers["warc-block-digest"])):
                    try:
                        results[number] = record.sentence(lines[number])
                    except UnreadableError as error:
                        results[number] = error
                if not wanted:
                    break
    except FileNotFoundError as error:
        raise UnreadableError("wet_missing", f"{uri!r} is not there") from error
    except OSError as error:
        raise UnreadableError("unreadable", f"{uri!r} cannot be read: {error.strerror or error}") from error


def _sha(written: str) -> str:
    """A digest of SHA-1 in base 32 without what it may begin with."""
    return written.strip().rpartition(":")[2].upper()


def records(
    file: IO[bytes], is_wanted: IsWanted, at: int = 0, keep: Callable[[int], None] | None = None
) -> Iterator[tuple[dict[str, str], bytes]]:
    """The wanted records of a WARC or WET file: headers, whose names are in lower case, and content.

    The file is plain or gzip, in one member or in one for each record; `is_wanted` judges by the headers. It stands at
    byte `at`; `keep` is told, now and then, a byte at which one can go on, what is before being done. Raises
    UnreadableError `wet_truncated`, `wet_damaged`.
    """
    try:
        members = Members(file, at)
        stream, kept = io.BufferedReader(members, _BLOCK), at
        while first := _first_line(stream):
            place = members.place_of(stream.tell() - len(first)) if keep is not None else None
            if keep is not None and place is not None and place >= kept + _KEPT_EVERY:
                keep(kept := place)
            headers = _headers(stream, first)
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


def _first_line(stream: IO[bytes]) -> bytes:
    """With which the next record begins; nothing behind the last."""
    line = stream.readline(_LONGEST_HEADER)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(_LONGEST_HEADER)
    return line


def _headers(stream: IO[bytes], first: bytes) -> dict[str, str]:
    """What is said of a record that begins with this line."""
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


def _opened(uri: str, before: SoFar | None) -> tuple[IO[bytes], str, int]:
    """A file, its version (empty: it tells none), and the byte at which it stands: that which was kept of this version,
    if there is one, else its first.
    """
    if is_http(uri):
        file = _Persistent(uri, before)
        return cast(IO[bytes], io.BufferedReader(file, _BLOCK)), file.version, file.tell()
    opened, version = storage.open_read(uri), storage.versions([uri])[uri]
    if before is not None and version == before.version:
        opened.seek(before.at)
    return opened, version if isinstance(version, str) else "", opened.tell()


class _Persistent(io.RawIOBase):
    """A file on the web, read on from where it was kept or from its beginning, and on again where the connection broke.

    Where the server gives no parts of files, what was read already is read again and dropped.
    """

    def __init__(self, uri: str, before: SoFar | None) -> None:
        super().__init__()
        self._uri = uri
        self._breaks = 0
        self._at = before.at if before is not None else 0
        self._file: WebFile | None = self._from_here()
        if before is not None and before.version != self.version:  # it is another by now
            self._file.close()
            self._at, self._file = 0, WebFile(uri)
        self._first = (self._file.size, self._file.tag)

    @property
    def version(self) -> str:
        """What tells it from what it was or will be; empty where its server says nothing of that."""
        return f"{self._file.size} {self._file.tag}" if self._file is not None and self._file.tag else ""

    def tell(self) -> int:
        return self._at

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
        file = self._from_here()
        if (file.size, file.tag) != self._first:
            file.close()
            raise UnreadableError("wet_changed", f"{self._uri!r} changed while it was read")
        return file

    def _from_here(self) -> WebFile:
        """The file from where one stands, though it be read as a whole for that."""
        try:
            return WebFile(self._uri, self._at)
        except UnreadableError:
            if not self._at:
                raise
        file = WebFile(self._uri)
        while (left := self._at - file.tell()) > 0 and file.read(min(left, _BLOCK)):
            pass
        return file
