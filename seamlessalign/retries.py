"""Which errors of remote storage pass by themselves, and trying again until they have.

Every driver of fsspec has errors of its own, and most of them are not installed. So an error is judged by what any of
them carries: the status of an HTTP answer, the code that a store gives with it, the number of an operating system's
error, or the name of its class.
"""

import errno
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from seamlessalign.errors import SeamlessAlignError, StorageError

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529})
# what stores say beside a status that would otherwise be final
_PASSING_CODES = frozenset(
    {
        "BadDigest", "BandwidthLimitExceeded", "ConditionalRequestConflict", "IncompleteBody", "InternalError",
        "LimitExceededException", "NoSuchUpload", "OperationAborted", "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled",
        "RequestThrottledException", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown",
        "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
        "XAmzContentSHA256Mismatch", "rateLimitExceeded", "userRateLimitExceeded",
    }
)  # fmt: skip
_PASSING_NUMBERS = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
        errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.EREMOTEIO,
        errno.ETIMEDOUT,
    }
)  # fmt: skip
# of botocore, aiohttp, requests, urllib3, httpx, google.auth and http.client
_PASSING_NAMES = frozenset(
    {
        "ChunkedEncodingError", "ClientConnectionError", "ClientPayloadError", "ConnectTimeoutError",
        "ConnectionClosedError", "ConnectionError", "ContentLengthError", "EndpointConnectionError",
        "FlexibleChecksumError", "HTTPClientError", "IncompleteRead", "IncompleteReadError", "NetworkError",
        "ProtocolError", "ReadTimeoutError", "RemoteProtocolError", "ResponseParserError", "ResponseStreamingError",
        "TimeoutError", "TimeoutException", "TransferEncodingError", "TransportError",
    }
)  # fmt: skip
_FINAL_NAMES = frozenset({"FileExpired", "InvalidProxiesConfigError", "SSLCertVerificationError", "RefreshError"})


@dataclass(frozen=True)
class Patience:
    """How often and how long something is tried: pauses are random, up to a limit that doubles each time."""

    attempts: int = 10
    first_seconds: float = 0.5  # the longest that the first pause may be
    longest_seconds: float = 30.0  # that any pause may be
    total_seconds: float = 300.0  # after which no attempt begins, but for the first three: each may take long


PATIENT = Patience()
BRIEF = Patience(attempts=2, total_seconds=10.0)  # for what is done again soon, or may stay undone
_patience = ContextVar("patience", default=PATIENT)


class ShortBodyError(OSError):
    """Less came than was promised, or something changed while it was read."""


@contextmanager
def patience(patience: Patience) -> Iterator[None]:
    """Have what this thread does inside be tried as often and as long as this says."""
    before = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(before)


class Tries:
    """The attempts at one thing, counted; `what` is what cannot be done, such as `cannot be read`."""

    def __init__(self, uri: str, what: str) -> None:
        self.uri, self.what, self.patience = uri, what, _patience.get()
        self.made = 0
        self._begun = time.monotonic()

    def failed(self, error: Exception) -> None:
        """Count an attempt and pause before the next.

        Raises StorageError when there is none; at once, where trying again cannot help, OSError with the uri as its
        file where the error is one, else StorageError.
        """
        self.made += 1
        if isinstance(error, SeamlessAlignError):
            raise error
        if not is_transient(error):
            self._refused(error)
        seconds = time.monotonic() - self._begun
        late = seconds >= self.patience.total_seconds and self.made >= 3
        if self.made >= self.patience.attempts or late:
            given_up = f"gave up after {self.made} tries in {seconds:.0f} s"
            raise StorageError(f"{self.uri}: {self.what}: {reason_of(error)}; {given_up}") from error
        if self.made == 4:  # a few are nothing to speak of
            log.warning("%s: %s: %s; trying again", self.uri, self.what, reason_of(error))
        longest = min(self.patience.longest_seconds, self.patience.first_seconds * 2 ** (self.made - 1))
        # of all who were refused at one time, no two come back at one time
        time.sleep(min(random.uniform(0, longest), max(0.0, self.patience.total_seconds - seconds)))

    def _refused(self, error: Exception) -> NoReturn:
        status = status_of(error)
        if isinstance(error, OSError):
            number = {403: errno.EACCES, 404: errno.ENOENT}.get(status or 0, error.errno)
            if isinstance(error, FileNotFoundError):
                number = errno.ENOENT
            elif isinstance(error, PermissionError):
                number = errno.EACCES
            raise OSError(number or errno.EIO, reason_of(error), self.uri) from error
        raise StorageError(f"{self.uri}: {self.what}: {reason_of(error)}") from error


def retrying(uri: str, what: str, work: Callable[[], _T]) -> _T:
    """The result of work on something remote, tried again as long as its errors may pass. Raises as `Tries.failed`."""
    tries = Tries(uri, what)
    while True:
        try:
            return work()
        except Exception as error:  # noqa: BLE001  every driver has errors of its own
            tries.failed(error)


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    chain = list(_chain(error))
    if any(_is_final(one) for one in chain):
        return False
    for one in chain:
        if _code_of(one) in _PASSING_CODES or _names(one) & _PASSING_NAMES:
            return True
        status = _status_in(one)
        if status is not None:
            return status in _PASSING_STATUSES
    return any(
        isinstance(one, ShortBodyError | socket.gaierror) or getattr(one, "errno", None) in _PASSING_NUMBERS
        for one in chain
    )


def _is_final(error: BaseException) -> bool:
    """Whether an error is one that no other around it makes passing: a name that nobody has, a wrong certificate."""
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return bool(_names(error) & _FINAL_NAMES) or "CERTIFICATE_VERIFY_FAILED" in str(error)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def reason_of(error: BaseException) -> str:
    """What an error says, in one line, beginning with the store's own code where there is one."""
    code = next((code for one in _chain(error) if (code := _code_of(one))), None)
    texts = [error.strerror] if isinstance(error, OSError) and error.strerror else [str(error)]
    text = " ".join(texts[0].split()) or type(error).__name__
    status = status_of(error)
    named = " ".join(str(part) for part in (status, code) if part and str(part) not in text and part != str(status))
    return f"{named}: {text}"[:500] if named else text[:500]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what botocore hides in it."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            hidden = getattr(one, "kwargs", None)
            waiting += [one.__cause__, hidden.get("error") if isinstance(hidden, dict) else None]


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error, or what it was raised from, carries."""
    return next((status for one in _chain(error) if (status := _status_in(one)) is not None), None)


def _status_in(error: BaseException) -> int | None:
    """The HTTP status that an error carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or _code_of(error)
    elif response is not None:  # requests, httpx, google.api_core
        found = getattr(response, "status_code", None) or getattr(response, "status", None)
    else:  # aiohttp, gcsfs, urllib
        found = getattr(error, "status", None) or getattr(error, "code", None) or getattr(error, "status_code", None)
    text = str(found)
    return int(text) if text.isdecimal() and 100 <= int(text) <= 599 else None


def _code_of(error: BaseException) -> str | None:
    """The code that a store gives with an answer."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code) if code else None
