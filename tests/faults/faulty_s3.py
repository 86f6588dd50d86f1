"""A store that fails: a proxy before an S3 server that answers with errors, breaks off, stalls and throttles.

Every fault is one that object stores, or what lies before them, are known for. Which request meets which is drawn from
a seeded generator; what was done to how many is counted.
"""

import http.client
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.ground.loopback import running

_ERRORS = {
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
}
BEFORE = (*_ERRORS, "reset")  # the store never sees the request
AFTER = ("lost",)  # the store does what was asked, and its answer is lost
BODY = ("cut", "short", "broken", "stall", "drip")  # of answers that have a body
KINDS = (*BEFORE, *AFTER, *BODY)


@dataclass(frozen=True)
class Faults:
    """Chances of each kind of fault, by the method of the request; `*` is for all that are not named.

    Kinds: `error` (500), `slow_down` and `unavailable` (503), `reset` (no answer), `lost` (done, no answer), `cut` (a
    body ends early), `short` (it does, and the answer does not say so), `broken` (the connection is reset inside a
    body), `stall` (nothing for some seconds inside a body), `drip` (a body comes in small pieces).
    """

    chances: Mapping[str, Mapping[str, float]]
    stall_seconds: float = 3.0

    def draw(self, method: str, generator: random.Random) -> str | None:
        """The fault that a request meets, or none."""
        chances = self.chances.get(method, self.chances.get("*", {}))
        assert set(chances) <= set(KINDS)
        return next((kind for kind, chance in chances.items() if generator.random() < chance), None)


NONE = Faults({})


@dataclass
class FaultyS3:
    """The proxy, as a test steers it: `faults` and `throttled_until` (by time.monotonic) may be changed at any time."""

    endpoint: str  # of the server behind it
    faults: Faults = NONE
    seed: int = 0
    throttled_until: float = 0.0
    address: str = ""
    requests: Counter[str] = field(default_factory=Counter)  # by method
    injected: Counter[str] = field(default_factory=Counter)  # by kind; `throttled` for those of a time of throttling
    answered: Counter[int] = field(default_factory=Counter)  # by status of the server behind it
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._generator = random.Random(self.seed)
        self._over = threading.Event()

    def draw(self, method: str) -> str | None:
        """What is to happen to a request, which is counted."""
        with self._lock:
            self.requests[method] += 1
            if time.monotonic() < self.throttled_until:
                self.injected["throttled"] += 1
                return "slow_down"
            return self.faults.draw(method, self._generator)

    def count(self, kind: str) -> None:
        """Count a fault that was done."""
        with self._lock:
            self.injected[kind] += 1

    def pause(self, seconds: float) -> None:
        """Wait, unless it is over."""
        self._over.wait(seconds)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._over.set()


@contextmanager
def faulty_s3(endpoint: str, faults: Faults = NONE, seed: int = 0) -> Iterator[FaultyS3]:
    """A proxy before an S3 server, until the end of the block."""
    proxy = FaultyS3(endpoint, faults, seed)
    with running(_Handler, {"proxy": proxy}) as server:
        proxy.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield proxy
        finally:
            proxy.end()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyS3
    _behind: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        body = self._body()
        fault = self.proxy.draw(self.command)
        if fault in BEFORE:
            self.proxy.count(fault)
            if fault == "reset":
                self._reset()
            else:
                self._refuse(*_ERRORS[fault])
            return
        status, headers, data = self._ask(body)
        if fault == "lost":
            self.proxy.count(fault)
            self._reset()
            return
        if fault == "short" and status in (200, 206) and len(data) > 1 and self.command == "GET":
            self.proxy.count(fault)
            data, fault = data[: len(data) // 2], None
            headers = [*(one for one in headers if one[0] != "Content-Length"), ("Content-Length", str(len(data)))]
        with suppress(ConnectionError):
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self._send(data, fault if fault in BODY and len(data) > 1 else None)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def finish(self) -> None:
        if self._behind is not None:
            self._behind.close()
        with suppress(OSError):
            super().finish()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer of the server behind."""
        left_out = {"transfer-encoding", "content-length", "connection", "expect"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        headers["Content-Length"] = str(len(body))
        place = urlsplit(self.proxy.endpoint)
        for attempt in (1, 2):  # a connection that was kept may be closed by now
            if self._behind is None:
                self._behind = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
            try:
                self._behind.request(self.command, self.path, body, headers)
                answer = self._behind.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, ConnectionError):
                self._behind.close()
                self._behind = None
                if attempt == 2:
                    raise
        with self.proxy._lock:
            self.proxy.answered[answer.status] += 1
        kept = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}
        ]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        return answer.status, [*kept, ("Content-Length", length or "0")], data

    def _send(self, data: bytes, fault: str | None) -> None:
        if fault is None:
            self.wfile.write(data)
            return
        self.proxy.count(fault)
        half = len(data) // 2
        if fault == "drip":
            step = max(1, len(data) // 8)
            for begin in range(0, len(data), step):
                self.wfile.write(data[begin : begin + step])
                self.wfile.flush()
                self.proxy.pause(0.05)
            return
        self.wfile.write(data[:half])
        self.wfile.flush()
        if fault == "stall":
            self.proxy.pause(self.proxy.faults.stall_seconds)
            self.wfile.write(data[half:])
        elif fault == "cut":
            self.close_connection = True
        else:
            self._reset()

    def _refuse(self, status: int, code: str, message: str) -> None:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        with suppress(ConnectionError):
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

    def _reset(self) -> None:
        """Close so that the client sees a reset, not an end."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
