"""Retries: which errors pass by themselves, and how long one waits for that."""

import errno
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from seamlessalign import retries
from seamlessalign.errors import MissingPackageError, StorageError
from seamlessalign.retries import BRIEF, Patience, ShortBodyError, is_transient, patience, reason_of, retrying

Errors = dict[str, Callable[[], Exception]]


def _named(*names: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """An error of a class that only its name tells, as of a driver that is not installed; the last name is the base."""
    kind = base
    for name in reversed(names):
        kind = type(name, (kind,), {})
    error = kind("told")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def _boto(status: int, code: str, message: str = "told") -> Exception:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = ClientError(answer, "GetObject")
    return error


def _translated(status: int, code: str) -> Exception:
    """As s3fs gives it on."""
    errors = pytest.importorskip("s3fs.errors", reason="needs the extra 's3'")
    error: Exception = errors.translate_boto_error(_boto(status, code))
    return error


def _translations(*answers: tuple[int, str]) -> Errors:
    return {f"s3fs {status} {code}": partial(_translated, status, code) for status, code in answers}


def _from(cause: BaseException, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


def _endpoint(error: Exception) -> Exception:
    from botocore.exceptions import EndpointConnectionError

    found: Exception = EndpointConnectionError(endpoint_url="http://nowhere", error=error)
    return found


PASSING: Errors = {
    **_translations(
        (500, "InternalError"), (500, "500"), (502, "502"), (503, "SlowDown"), (503, "503"),
        (503, "ServiceUnavailable"),
        (504, "504"), (429, "TooManyRequests"), (400, "RequestTimeout"), (400, "IncompleteBody"), (400, "BadDigest"),
        (409, "ConditionalRequestConflict"), (409, "OperationAborted"), (404, "NoSuchUpload"), (403, "SlowDown"),
    ),
    "botocore itself": lambda: _boto(503, "SlowDown"),
    "gcsfs 503": lambda: _named("HttpError", base=Exception, code=503),
    "gcsfs 429": lambda: _named("HttpError", base=Exception, code="429"),
    "aiohttp 502": lambda: _named("ClientResponseError", "ClientError", status=502),
    "requests 500": lambda: _named("HTTPError", base=OSError, response=SimpleNamespace(status_code=500)),
    "requests 429": lambda: _named("HTTPError", base=OSError, response=SimpleNamespace(status_code=429)),
    "no connection": lambda: ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    "connection reset": lambda: ConnectionResetError(errno.ECONNRESET, "reset"),
    "unreachable": lambda: OSError(errno.EHOSTUNREACH, "no route"),
    "stalled": lambda: TimeoutError(),
    "asyncio": lambda: _named("FSTimeoutError", base=TimeoutError),
    "name server busy": lambda: socket.gaierror(socket.EAI_AGAIN, "try again"),
    "stdlib short": lambda: http.client.IncompleteRead(b"12", 3),
    "aiohttp short": lambda: _named("ClientPayloadError", "ClientError"),
    "aiohttp short, as it tells it": lambda: _from(
        _named("ContentLengthError", base=Exception, code=400), _named("ClientPayloadError", "ClientError")
    ),
    "aiohttp gone": lambda: _named("ServerDisconnectedError", "ServerConnectionError", "ClientConnectionError"),
    "botocore short": lambda: _named("IncompleteReadError", "BotoCoreError"),
    "botocore stream": lambda: _named("ResponseStreamingError", "HTTPClientError", "BotoCoreError"),
    "botocore refused": lambda: _endpoint(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    "google transport": lambda: _named("TransportError", "GoogleAuthError"),
    "urllib3 protocol": lambda: _named("ProtocolError", "HTTPError"),
    "ours": lambda: ShortBodyError("3 bytes came of 4"),
    "cause": lambda: _from(_boto(503, "SlowDown"), RuntimeError("wrapped")),
}  # fmt: skip

FINAL: Errors = {
    **_translations(
        (404, "NoSuchKey"), (404, "NoSuchBucket"), (404, "404"), (403, "AccessDenied"), (403, "403"),
        (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (400, "InvalidBucketName"), (400, "ExpiredToken"),
        (412, "PreconditionFailed"), (416, "InvalidRange"), (501, "NotImplemented"), (301, "PermanentRedirect"),
    ),
    "gcsfs 403": lambda: _named("HttpError", base=Exception, code=403),
    "aiohttp 404": lambda: _named("ClientResponseError", "ClientError", status=404),
    "requests 401": lambda: _named("HTTPError", base=OSError, response=SimpleNamespace(status_code=401)),
    "no file": lambda: FileNotFoundError(errno.ENOENT, "none"),
    "no right": lambda: PermissionError(errno.EACCES, "no"),
    "disk full": lambda: OSError(errno.ENOSPC, "full"),
    "disk broken": lambda: OSError(errno.EIO, "broken"),
    "no such host": lambda: _endpoint(socket.gaierror(socket.EAI_NONAME, "not known")),
    "not to be trusted": lambda: _from(ssl.SSLCertVerificationError(1, "self-signed"), _named("SSLError")),
    "no credentials": lambda: _named("NoCredentialsError", "BotoCoreError"),
    "changed under the reader": lambda: _named("FileExpired", base=OSError, errno=errno.EBUSY),
    "our own mistake": lambda: TypeError("unexpected keyword"),
}  # fmt: skip


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which took any time but on the clock."""
    pauses: list[float] = []
    now = [1000.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: now[0])
    monkeypatch.setattr(retries, "time", clock)
    return pauses


@pytest.mark.parametrize("name", PASSING)
def test_errors_that_pass(name: str) -> None:
    assert is_transient(PASSING[name]())


@pytest.mark.parametrize("name", FINAL)
def test_errors_that_stay(name: str) -> None:
    assert not is_transient(FINAL[name]())


def test_the_library_of_each_name_has_it() -> None:
    """Names stand for classes; those of what is installed must be there."""
    import aiohttp.http_exceptions
    import botocore.exceptions
    import botocore.parsers
    import requests.exceptions
    import s3fs.utils
    import urllib3.exceptions

    rooms = [aiohttp, aiohttp.http_exceptions, botocore.exceptions, botocore.parsers, http.client]
    rooms += [requests.exceptions, urllib3.exceptions]
    elsewhere = {"NetworkError", "RemoteProtocolError", "TimeoutException", "TransportError"}  # httpx and google.auth
    built_in = {"ConnectionError", "TimeoutError"}
    unknown = {name for name in retries._PASSING_NAMES if not any(hasattr(room, name) for room in rooms)}
    assert unknown <= elsewhere | built_in, unknown
    assert hasattr(s3fs.utils, "FileExpired") and hasattr(botocore.exceptions, "InvalidProxiesConfigError")


def test_what_passes_is_tried_again(slept: list[float]) -> None:
    errors = [PASSING[name]() for name in ("no connection", "stalled", "ours")]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert retrying("s3://b/k", "cannot be read", work) == "done"
    assert len(slept) == 3


def test_what_stays_is_told_at_once(slept: list[float]) -> None:
    for name, kind in (("s3fs 404 NoSuchKey", FileNotFoundError), ("s3fs 403 AccessDenied", PermissionError),
                       ("s3fs 400 InvalidBucketName", OSError), ("no credentials", StorageError)):  # fmt: skip
        tried: list[int] = []

        def work(name: str = name, tried: list[int] = tried) -> None:
            tried.append(1)
            raise FINAL[name]()

        with pytest.raises(kind, match="s3://b/k"):
            retrying("s3://b/k", "cannot be read", work)
        assert tried == [1]
    assert slept == []


def test_our_own_errors_are_let_through(slept: list[float]) -> None:
    def work() -> None:
        raise MissingPackageError("gcsfs", "gcp", "reading")

    with pytest.raises(MissingPackageError):
        retrying("gs://b/k", "cannot be read", work)
    assert slept == []


def test_one_gives_up_after_so_many_tries(slept: list[float]) -> None:
    tried: list[int] = []

    def work() -> None:
        tried.append(1)
        raise _translated(503, "SlowDown")

    with pytest.raises(StorageError) as caught, patience(Patience(attempts=6)):
        retrying("s3://b/k", "cannot be written", work)
    told = str(caught.value)
    assert len(tried) == 6 and len(slept) == 5
    assert told.startswith("s3://b/k: cannot be written: 503 SlowDown: told; gave up after 6 tries in")
    assert "\n" not in told


def test_no_attempt_begins_after_the_time_is_over(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "random", SimpleNamespace(uniform=lambda low, high: high))
    told = r"gave up after \d+ tries in 100 s"
    with pytest.raises(StorageError, match=told), patience(Patience(attempts=1000, total_seconds=100.0)):
        retrying("s3://b/k", "cannot be read", _always_down)
    assert sum(slept) == pytest.approx(100.0)


def test_pauses_are_random_below_a_limit_that_doubles(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        limits.append((low, high))
        return random.uniform(low, high)

    monkeypatch.setattr(retries, "random", SimpleNamespace(uniform=uniform))
    with pytest.raises(StorageError), patience(Patience(9, 0.5, 30.0, 1e9)):
        retrying("s3://b/k", "cannot be read", _always_down)
    assert limits == [(0, high) for high in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)]
    assert all(low <= seconds <= high for seconds, (low, high) in zip(slept, limits, strict=True))


def test_real_pauses_are_made() -> None:
    begun = time.monotonic()
    with pytest.raises(StorageError), patience(Patience(3, 0.01, 0.01, 10.0)):
        retrying("s3://b/k", "cannot be read", _always_down)
    assert time.monotonic() - begun < 10.0


def test_patience_is_for_what_is_inside(slept: list[float]) -> None:
    with pytest.raises(StorageError), patience(BRIEF):
        retrying("s3://b/k", "cannot be read", _always_down)
    assert len(slept) == BRIEF.attempts - 1
    with pytest.raises(StorageError):
        retrying("s3://b/k", "cannot be read", _always_down)
    assert len(slept) == BRIEF.attempts - 1 + Patience().attempts - 1


def _always_down() -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: _translated(503, "SlowDown"), "503 SlowDown: told"),
        (lambda: _translated(403, "403"), "403: told"),
        (lambda: _endpoint(ConnectionRefusedError()), 'Could not connect to the endpoint URL: "http://nowhere"'),
        (lambda: OSError(errno.ECONNRESET, "Connection reset\nby peer"), "Connection reset by peer"),
        (lambda: TimeoutError(), "TimeoutError"),
        (lambda: ValueError("Invalid bucket name"), "Invalid bucket name"),
    ],
)
def test_reasons_are_one_line(error: Any, told: str) -> None:
    assert reason_of(error()) == told
