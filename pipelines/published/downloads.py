"""Files on the web, each fetched once however often whoever fetches it is killed: what has come goes on from there.

A file that is being fetched lies in a folder as `NAME.part`, with what its server said of it in `NAME.json`; one that
is there as `NAME.whole`. What is there of one goes on by a range (RFC 9110, section 14), if the server named a version
that the rest can be asked of (`If-Range`: a strong ETag, or else the time of its last change); what the answer says of
itself is held against what is there, and where they differ the file is begun anew.
"""

import contextlib
import email.utils
import json
import logging
import random
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import xxhash

from seamlessalign import local_files, storage
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.hosts import Hosts, host_of
from seamlessalign.pipelines.published.robots import Robots
from seamlessalign.retries import is_transient
from seamlessalign.web_access import Answer, Asking, Patience, ask, present

log = logging.getLogger(__name__)

_BLOCK = 1 << 18
_LONGEST_PAUSE = 60.0  # seconds
_MOST_CHANGES = 3  # of a file while it is fetched
_REASONS = {401: "forbidden", 403: "forbidden", 404: "missing", 410: "missing", 429: "throttled", 451: "forbidden"}


@dataclass
class Traffic:
    """What fetching took, of a file or of many."""

    requests: int = 0
    bytes: int = 0  # of bodies
    resumed: int = 0  # times that a range went on where a file had broken off
    begun_again: int = 0  # times that what was there of a file was of no use

    def add(self, other: "Traffic") -> None:
        """Count what another has counted."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Trying:
    """How long a file is tried for."""

    attempts: int = 6
    first_pause: float = 1.0  # seconds at most; the next are twice as long each, up to a minute
    stall_seconds: float = 60.0  # without a byte
    seconds: float = 3600.0  # of waiting for the network, all attempts together
    longest_hold: float = 600.0  # seconds that a server may ask to be left alone (`Retry-After`)


@dataclass
class _About:
    """What the server said of a file that is being fetched."""

    url: str
    tag: str = ""  # a validator for If-Range; empty: it gave none
    size: int | None = None
    changes: int = 0


@dataclass
class Downloads:
    """Fetches files into a folder, as hosts want it."""

    folder: Path
    hosts: Hosts
    robots: Robots | None = None
    trying: Trying = field(default_factory=Trying)

    def fetch(self, url: str, traffic: Traffic) -> Path:
        """The local path of a file. What fetching it took is counted; nothing where it is there already.

        Raises UnreadableError with the reasons `missing` (404, 410), `forbidden` (401, 403, 451), `throttled` (429, or
        asked to be left alone for too long), `server_error` (5xx), `refused` (any other status), `unreachable` (no
        connection), `bad_address`, `too_many_redirects`,
        `truncated`, `timeout`, `too_large`, `not_audio` (a page of HTML), `changing` (while it was
        fetched, time and again), `address_refused`, `robots_disallowed` and `robots_unreachable`; StorageError where
        it cannot be written.
        """
        whole = self._path(url, "whole")
        if whole.exists():
            return whole
        if self.robots is not None:
            self.robots.check(url)
        patience = _Stalling(self.trying.seconds, self.trying.stall_seconds)
        failed, most = 0, self._there(url)
        while True:
            try:
                self._go_on(url, patience, traffic)
                return whole
            except _HoldOffError as error:
                passing, told, pause = True, error.told, error.seconds
            except UnreadableError as error:
                passing, told, pause = _passes(error), error, 0.0
            there = self._there(url)
            failed = 1 if there >= most + _BLOCK else failed + 1  # one that comes in pieces is not given up
            most = max(most, there)
            if not passing or failed >= self.trying.attempts or patience.is_over:
                raise told
            longest = min(_LONGEST_PAUSE, self.trying.first_pause * 2 ** (failed - 1))
            time.sleep(random.uniform(0, longest) if not pause else 0.0)  # a hold is kept by whose turn it is

    def remove(self, url: str) -> None:
        """Remove what is there of a file."""
        for suffix in ("part", "json", "whole"):
            self._path(url, suffix).unlink(missing_ok=True)

    def _path(self, url: str, suffix: str) -> Path:
        return self.folder / f"{name_of(url)}.{suffix}"

    def _there(self, url: str) -> int:
        """Bytes that are there of a file that is being fetched."""
        with contextlib.suppress(FileNotFoundError):
            return self._path(url, "part").stat().st_size
        return 0

    def _go_on(self, url: str, patience: Patience, traffic: Traffic) -> None:
        """Ask for what is missing of a file, once, and take it."""
        part = self._path(url, "part")
        about = self._read_about(url)
        there = self._there(url)
        if there and there == about.size:  # killed when all was there
            self._end(url, there)
            return
        first = there if there and about.tag and (about.size is None or there < about.size) else None
        if there and first is None:
            traffic.begun_again += 1
        with self._answer(url, patience, first, about.tag, traffic) as answer:
            begins = self._begins(answer, about, there if first is not None else 0)
            if begins:
                traffic.resumed += 1
            elif first is not None:
                traffic.begun_again += 1
            if begins is None:  # nothing of this answer is of use, nor of what is there
                about.changes += 1
                self._begin_again(url, about)
                if about.changes > _MOST_CHANGES:
                    raise UnreadableError("changing", f"{url!r} changes while it is fetched")
                raise UnreadableError("truncated", f"{url!r} sends another part than was asked for")
            if not begins:
                if there:
                    about.changes += 1
                about.tag, about.size = _tag_of(answer), _size_of(answer)
                self._begin_again(url, about)
            self._take(answer, about, begins, traffic)
        self._end(url, part.stat().st_size)

    @contextlib.contextmanager
    def _answer(self, url: str, patience: Patience, first: int | None, tag: str, traffic: Traffic) -> Iterator[Answer]:
        """An answer with a file in it, or the end of one. Raises UnreadableError for any other."""
        with contextlib.ExitStack() as connections:

            def before(at: str) -> None:
                connections.close()  # that to a host that sends on
                if at != url and self.robots is not None:
                    self.robots.check(at)
                connections.enter_context(self.hosts.connection(host_of(at)))
                self.hosts.wait_turn(host_of(at))
                traffic.requests += 1
                asked.append(at)

            asked: list[str] = []
            headers = {"If-Range": tag} if first is not None else {}
            try:
                answer = ask(url, present(), patience, first, Asking(headers, 1, before))
            except UnreadableError as error:
                raise _told(error) from error.__cause__
            try:
                self._check(answer, asked[-1], first)
                yield answer
            finally:
                answer.close()

    def _check(self, answer: Answer, asked: str, first: int | None) -> None:
        status = answer.status
        if status == HTTPStatus.OK or (first is not None and status in (206, 416)):
            if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml") and status != 416:
                raise UnreadableError("not_audio", f"{answer.url!r} answers with a page of HTML")
            return
        reason = _REASONS.get(status, "server_error" if status >= 500 else "refused")
        told = UnreadableError(reason, f"{answer.url!r} answers {status} {answer.reason}")
        told.__cause__ = _StatusError(status)
        wanted = _hold_of(answer) if status in (429, 503) else None
        if wanted is not None:
            if wanted > self.trying.longest_hold:
                detail = f"{told.detail} and wants to be left alone for {wanted:.0f} s"
                raise UnreadableError("throttled", detail)
            self.hosts.hold_off(host_of(asked), wanted)
            raise _HoldOffError(told, wanted)
        raise told

    def _begins(self, answer: Answer, about: _About, there: int) -> int | None:
        """The byte of the file at which an answer begins; None where it is no use beside what is there."""
        if answer.status == HTTPStatus.OK:
            return 0
        told = answer.headers.get("Content-Range", "").strip()
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)", told)
        if found is None or int(found[1]) != there:
            return None
        size, tag = found[3] and int(found[3]), _tag_of(answer)
        if (about.size is not None and size and size != about.size) or (tag and tag != about.tag):
            return None
        if about.size is None and size:
            about.size = int(size)
        return there

    def _take(self, answer: Answer, about: _About, begins: int, traffic: Traffic) -> None:
        """Append what an answer sends to what is there of a file."""
        most, there = present().max_bytes, begins
        self._check_size(about.url, about.size or 0, most)
        block = memoryview(bytearray(_BLOCK))
        part = self._path(about.url, "part")
        with storage.writing(str(part)), part.open("r+b") as target:
            target.seek(begins)
            while count := answer.readinto(block):
                there += count
                traffic.bytes += count
                self._check_size(about.url, there, most)
                target.write(block[:count])
        if about.size is not None and there != about.size:
            if there > about.size:
                self._begin_again(about.url, about)
            error = UnreadableError("truncated", f"{about.url!r} promised {about.size} bytes and sent {there}")
            error.__cause__ = _BrokeOffError()
            raise error

    def _check_size(self, url: str, size: int, most: int) -> None:
        if size > most:
            self.remove(url)
            raise UnreadableError(
                "too_large", f"{url!r} sends {size} bytes or more: fetch.max_gb allows {most / 2**30:g} GiB"
            )

    def _read_about(self, url: str) -> _About:
        path = self._path(url, "json")
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            about = _About(**json.loads(path.read_bytes()))
            if about.url == url:
                return about
        self._path(url, "part").unlink(missing_ok=True)
        return _About(url)

    def _begin_again(self, url: str, about: _About) -> None:
        """Drop what is there of a file, then say what the next is."""
        part = self._path(url, "part")
        with storage.writing(str(part)):
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(b"")
        storage.write_bytes_atomic(str(self._path(url, "json")), json.dumps(asdict(about)).encode())

    def _end(self, url: str, size: int) -> None:
        part = self._path(url, "part")
        with storage.writing(str(part)):
            local_files.sync(part)
            part.replace(self._path(url, "whole"))
        self._path(url, "json").unlink(missing_ok=True)


def name_of(url: str) -> str:
    """A name for a file that was fetched, or what was made of it."""
    return str(xxhash.xxh3_128_hexdigest(url.encode("utf-8", "surrogatepass")))


class _Stalling(Patience):
    """Waits for a while each time, and not for longer than that in all."""

    def __init__(self, seconds: float, stall_seconds: float) -> None:
        super().__init__(seconds)
        self._stall = stall_seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self._left <= 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[float]:
        """The seconds that may be waited now."""
        with super().waiting() as left:
            yield min(left, self._stall)


class _StatusError(Exception):
    """The status of an answer, as errors carry it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _BrokeOffError(ConnectionError):
    """Less came than was promised."""


class _HoldOffError(Exception):
    """A server asks to be left alone for so many seconds."""

    def __init__(self, told: UnreadableError, seconds: float) -> None:
        super().__init__(seconds)
        self.told, self.seconds = told, seconds


def _told(error: UnreadableError) -> UnreadableError:
    """Why no answer came, more closely where the web's own reason is `unreadable`."""
    if error.reason != "unreadable":
        return error
    cause = error.__cause__
    reason = "too_many_redirects" if cause is None else "bad_address"
    return UnreadableError("unreachable" if isinstance(cause, OSError | HTTPException) else reason, error.detail)


def _passes(error: UnreadableError) -> bool:
    return error.reason in ("timeout", "truncated") or is_transient(error)


def _tag_of(answer: Answer) -> str:
    """A validator with which a server can be asked for the rest of the same; empty where it gives none."""
    tag = answer.headers.get("ETag", "").strip()
    if tag and not tag.startswith("W/"):  # a weak one may be of files that differ
        return str(tag)
    return str(answer.headers.get("Last-Modified", "").strip())


def _size_of(answer: Answer) -> int | None:
    told = answer.headers.get("Content-Length", "").strip()
    return int(told) if re.fullmatch(r"\d{1,18}", told) else None


def _hold_of(answer: Answer) -> float | None:
    """Seconds for which a server asks to be left alone."""
    told = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", told):
        return float(told)
    until = _time(told)
    # by the server's own clock, whatever ours says
    return None if until is None else max(0.0, until - (_time(answer.headers.get("Date", "")) or time.time()))


def _time(date: str) -> float | None:
    with contextlib.suppress(ValueError, TypeError):
        return email.utils.parsedate_to_datetime(date.strip()).timestamp() if date.strip() else None
    return None
