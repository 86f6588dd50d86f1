"""A web server on loopback that has files and faults, and counts what it sends: one for each address 127.0.0.x.

A path says what goes wrong: `/FAULT/rest` serves the file `rest`, in the way of that fault. Counts are of bytes of
bodies that were handed to the kernel, and of requests, by path.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler

from tests.ground.loopback import running

_BLOCK = 1 << 14


@dataclass
class Served:
    """What all servers share: files by name, and counts."""

    files: Mapping[str, bytes]
    sent: Counter[str] = field(default_factory=Counter)  # bytes by path
    asked: Counter[str] = field(default_factory=Counter)  # requests by path
    wholes: Counter[str] = field(default_factory=Counter)  # times that a file was sent from its first byte to its last
    times: dict[str, list[float]] = field(default_factory=dict)  # of requests, by host
    log: list[tuple[float, str]] = field(default_factory=list)  # time and address of every request
    ranges: list[tuple[str, str]] = field(default_factory=list)  # path and Range of requests with one
    agents: set[str] = field(default_factory=set)
    open_now: Counter[str] = field(default_factory=Counter)  # connections by host
    most_open: Counter[str] = field(default_factory=Counter)
    robots: dict[str, str] = field(default_factory=dict)  # by host
    bytes_per_second: float | None = None
    sent_until: int | None = None  # the byte of a file behind which nothing is sent until this is changed
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    version: str = ""  # goes into every ETag
    mended: set[str] = field(default_factory=set)  # faults that are no more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served
    host: str

    def do_GET(self) -> None:
        served, host = self.served, self.host
        with served.lock:
            served.asked[self.path] += 1
            times = served.asked[self.path]
            if not self.path.startswith("/robots"):
                served.times.setdefault(host, []).append(time.time())
            served.log.append((time.time(), f"http://{self.headers.get('Host', '')}{self.path}"))
            served.agents.add(self.headers.get("User-Agent", ""))
            served.open_now[host] += 1
            served.most_open[host] = max(served.most_open[host], served.open_now[host])
            if self.headers.get("Range"):
                served.ranges.append((self.path, self.headers["Range"]))
        try:
            self._answer(times)
        finally:
            with served.lock:
                served.open_now[host] -= 1

    def _answer(self, times: int) -> None:
        if self.path == "/robots.txt":
            text = self.served.robots.get(self.host)
            if text is None:
                self.send_error(404)
            elif text.isdecimal():
                self.send_error(int(text))
            else:
                self._send(text.encode(), 0)
            return
        fault, _, name = self.path.lstrip("/").partition("/")
        data = self.served.files.get(name.partition("?")[0])
        fault = "ok" if fault in self.served.mended else fault
        if data is None or fault == "missing":
            self.send_error(404)
        elif found := re.fullmatch(r"status(\d+)", fault):
            self.send_error(int(found[1]))
        elif found := re.fullmatch(r"first(\d+)", fault):  # once, then fine
            if times == 1:
                self._fail(int(found[1]))
            else:
                self._file(data)
        elif fault == "hold":  # 429 and a while; who comes earlier is told again
            if times == 1:
                self._fail(429, "1")
            else:
                self._file(data)
        elif fault == "holdlong":
            self._fail(503, "100000")
        elif fault == "moved":
            self._moved(f"/ok/{name}")
        elif fault == "loop":
            self._moved(f"/loop/{name}")
        elif fault == "inside":
            self._moved("http://169.254.169.254/latest/meta-data/")
        elif fault == "html":
            self._send(b"<html><body>Please log in.</body></html>", 0, kind="text/html")
        elif fault == "noranges":  # breaks off once, and knows no ranges
            self._send(data, 0, stop=len(data) // 2 if times == 1 else None, tag=self._tag(data))
        elif fault == "breaks":  # breaks off twice, and goes on
            self._file(data, stop=len(data) // 3 if times <= 2 else None)
        elif fault == "untagged":  # breaks off once, and cannot be asked for the rest of the same
            self._send(data, 0, stop=len(data) // 2 if times == 1 else None)
        elif fault == "short":  # never all
            self._file(data, stop=max(0, len(data) // 2 - self._first(data)))
        elif fault == "badrange":  # breaks off, then sends another part than was asked for, then all
            if times == 2:
                self._send(data[7:], 7, 206, data, tag=self._tag(data))
            else:
                self._send(data, 0, stop=len(data) // 2 if times == 1 else None, tag=self._tag(data))
        elif fault == "changes":  # the file is another after it broke off
            body, tag = (data, '"one"') if times == 1 else (data, '"two"')
            self._file(body, stop=len(data) // 2 if times == 1 else None, tag=tag)
        elif fault == "stall":
            self._send(data, 0, stop=10, wait=True, tag=self._tag(data))
        else:
            self._file(data)

    def _tag(self, data: bytes) -> str:
        return f'"{sha256(data).hexdigest()[:16]}{self.served.version}"'

    def _first(self, data: bytes) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def _file(self, data: bytes, stop: int | None = None, tag: str | None = None) -> None:
        """A file or a part of it, as RFC 9110 has it."""
        tag, first = tag or self._tag(data), self._first(data)
        if first and self.headers.get("If-Range", tag) == tag:
            self._send(data[first:], first, 206, data, stop, tag=tag)
        else:
            self._send(data, 0, 200, data, stop, tag=tag)

    def _send(
        self,
        body: bytes,
        first: int,
        status: int = 200,
        whole: bytes | None = None,
        stop: int | None = None,
        tag: str | None = None,
        kind: str = "application/octet-stream",
        wait: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if tag is not None:
            self.send_header("ETag", tag)
        if status == 206 and whole is not None:
            self.send_header("Content-Range", f"bytes {first}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        sent = body if stop is None else body[:stop]
        for at in range(0, len(sent), _BLOCK):
            block = sent[at : at + _BLOCK]
            while (limit := self.served.sent_until) is not None and first + at >= limit:
                if self.served.stopped.wait(0.01):
                    return
            self.wfile.write(block)
            with self.served.lock:
                self.served.sent[self.path] += len(block)
            if self.served.bytes_per_second is not None and self.served.stopped.wait(
                len(block) / self.served.bytes_per_second
            ):
                break
        else:
            if first == 0 and stop is None and status == 200:
                with self.served.lock:
                    self.served.wholes[self.path] += 1
        if stop is not None:
            if wait:
                self.wfile.flush()
                self.served.stopped.wait(30)
            self.close_connection = True

    def _fail(self, status: int, hold: str | None = None) -> None:
        self.send_response(status)
        if hold is not None:
            self.send_header("Retry-After", hold)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _moved(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty_servers(served: Served, hosts: int = 1) -> Iterator[list[str]]:
    """Addresses of so many servers, which have the same files."""
    with ExitStack() as stack:
        bases = []
        for number in range(1, hosts + 1):
            host = f"127.0.0.{number}"
            server = stack.enter_context(running(_Handler, {"served": served, "host": host}, host))
            bases.append(f"http://{host}:{server.server_port}")
        stack.callback(served.stopped.set)
        yield bases
