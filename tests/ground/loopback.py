"""A web server on this machine that answers as its paths say: well, badly, slowly, or never."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    data = b""
    stopped = threading.Event()

    def do_GET(self) -> None:
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

    def handle_error(self, *_: object) -> None:
        """Clients that leave are what is tested."""


@contextmanager
def web_server(data: bytes) -> Iterator[str]:
    """The address of a server whose `good.flac` is `data`."""
    stopped = threading.Event()
    handler = type("Handler", (_Handler,), {"data": data, "stopped": stopped})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stopped.set()
        time.sleep(0.01)
        server.shutdown()
        server.server_close()
