"""A web server on this machine that answers as its paths say: well, badly, slowly, or never."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    data = b""
    stopped = threading.Event()
    before: Callable[[], object] | None = None

    def do_GET(self) -> None:
        if self.before is not None:
            type(self).before()  # type: ignore[misc]
        kind = self.path.strip("/").partition("?")[0].partition(".")[0]
        if kind == "stall":  # not even a status line
            self.stopped.wait(60)
        elif kind == "missing":
            self.send_error(404)
        elif kind == "broken":
            self.send_error(500)
        elif kind == "html":
            self._answer(b"<html><body>Please log in.</body></html>", "text/html; charset=utf-8")
        elif kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good.flac")
            self.end_headers()
        elif kind == "short":
            self._answer(self.data[: len(self.data) // 2], "audio/flac", len(self.data))
        elif kind == "drip":  # a byte now and then: no single read ever waits long
            self._head("audio/flac", len(self.data))
            for at in range(len(self.data)):
                self.wfile.write(self.data[at : at + 1])
                if self.stopped.wait(0.1):
                    return
        elif kind == "halt":  # the beginning, and then nothing
            self._head("audio/flac", len(self.data))
            self.wfile.write(self.data[:100])
            self.wfile.flush()
            self.stopped.wait(60)
        else:
            self._answer(self.data, "audio/flac")

    def _answer(self, body: bytes, kind: str, promised: int | None = None) -> None:
        self._head(kind, len(body) if promised is None else promised)
        self.wfile.write(body)

    def _head(self, kind: str, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Clients that leave are what is tested."""


@contextmanager
def running(
    handler: type[BaseHTTPRequestHandler],
    about: dict[str, Any] | None = None,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[ThreadingHTTPServer]:
    """A server on an address of this machine that answers as a handler does, which has what `about` says."""
    server = _Server((host, 0), type("Handler", (handler,), about or {}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def web_server(data: bytes, before: Callable[[], object] | None = None) -> Iterator[str]:
    """The address of a server whose `good.flac` is `data`; `before` is called before it answers."""
    stopped = threading.Event()
    about = {"data": data, "stopped": stopped, "before": before and staticmethod(before)}
    with running(_Handler, about) as server:
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            stopped.set()
            time.sleep(0.01)


SERVED = bytes(range(256)) * 40  # what `serving` serves unless it is told otherwise


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        self.asked.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        self.answer()

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(SERVED)))
        self.end_headers()
        self.wfile.write(SERVED)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer: Callable[[Any], None] | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Any]:
    """A server on 127.0.0.1; `asked` has what came to it."""
    asked: list[dict[str, str]] = []
    about: dict[str, Any] = {"asked": asked, **({"answer": answer} if answer else {})}
    with running(_Quiet, about, tls=tls) as server:
        server.asked = asked  # type: ignore[attr-defined]
        yield server


def send_file(
    handler: Any, data: bytes, *, parts: bool = True, stop_after: int | None = None, tag: str | None = None
) -> None:
    """Answer with a file, or the part of it that is asked for (RFC 9110, section 14).

    Where `stop_after` is given, hang up after so many bytes; `tag` stands in for the one that the content has.
    """
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if parts else None
    first = int(found[1]) if found else 0
    if found and first >= len(data):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(data)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if found else 200)
    if found:
        handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - first))
    handler.send_header("ETag", tag or f'"{sha256(data).hexdigest()[:16]}"')
    handler.end_headers()
    try:
        handler.wfile.write(data[first:] if stop_after is None else data[first : first + stop_after])
    except OSError:  # whoever asked has hung up
        stop_after = 0
    if stop_after is not None:
        handler.close_connection = True
