"""The status of a run for Prometheus, in its text format (version 0.0.4), and as JSON, over HTTP."""

import json
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.status import StatusReader
from seamlessalign.secrets import redact

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("done", "running", "failed", "stopped", "waiting")
_SHARD_STATES = ("done", "running", "failed", "lost", "waiting")
_AGE_SECONDS = (2.0, 10.0)  # of a status that is answered again, of a local run and of a remote one
_REQUEST_SECONDS = 30.0  # that a client may take to ask


def metrics_text(status: dict[str, Any], read_at: float) -> str:
    """A status as metrics; `read_at`: when it was read, in seconds since 1970."""
    page = _Page()
    page.family("seamlessalign_run_state", "gauge", "1 for the state the run is in.")
    for state in _STATES:
        page.sample({"state": state}, float(status["state"] == state))
    page.family("seamlessalign_status_timestamp_seconds", "gauge", "When this status was read.")
    page.sample({}, read_at)
    heard = status["heard_seconds"]
    page.family("seamlessalign_driver_heard_seconds", "gauge", "Since when nothing was heard of the driver.")
    page.sample({}, heard)
    stages, tables = (
        status["stages"],
        [one for numbers in status["stages"].values() for one in numbers["tables"].items()],
    )
    page.family("seamlessalign_shards_planned", "gauge", "Shards of a stage.")
    for stage, numbers in stages.items():
        page.sample({"stage": stage}, numbers["shards"])
    page.family("seamlessalign_shards", "gauge", "Shards of a stage by what they are at.")
    for stage, numbers in stages.items():
        for state in _SHARD_STATES:
            count = numbers[state] if state in ("done", "waiting") else len(numbers[state])
            page.sample({"stage": stage, "state": state}, count)
    page.family("seamlessalign_rows", "gauge", "Rows that came in, were kept, and were dropped, by reason.")
    for table, counts in tables:
        _counts(page, table, counts, ("rows_in", "rows_kept", "dropped"))
    page.family("seamlessalign_audio_hours", "gauge", "Hours of audio that came in, were kept, and were dropped.")
    for table, counts in tables:
        if counts["hours_in"]:
            _counts(page, table, counts, ("hours_in", "hours_kept", "hours_dropped"))
    page.family("seamlessalign_quarantined", "gauge", "Inputs that could not be read.")
    page.sample({}, status["quarantined"])
    page.family("seamlessalign_unbalanced", "gauge", "Counts of shards that do not balance.")
    page.sample({}, len(status["unbalanced"]))
    page.family("seamlessalign_step_seconds", "gauge", "Core-seconds of work by step, of the shards that are done.")
    for stage, numbers in stages.items():
        for step, seconds in numbers["seconds"].items():
            page.sample({"stage": stage, "step": step}, seconds)
    page.family("seamlessalign_wall_seconds", "gauge", "Time that the shards that are done took, added up.")
    for stage, numbers in stages.items():
        page.sample({"stage": stage}, numbers["wall_seconds"])
    for name, key, what in (
        ("seamlessalign_shards_per_hour", "shards_per_hour", "Shards done in an hour"),
        ("seamlessalign_audio_hours_per_hour", "audio_hours_per_hour", "Hours of audio done in an hour"),
    ):
        page.family(name, "gauge", f"{what}: over all time at work, and over the last minutes.")
        for stage, numbers in stages.items():
            for over, speed in numbers["speed"].items():
                page.sample({"stage": stage, "over": over}, (speed or {}).get(key))
    page.family("seamlessalign_eta_seconds", "gauge", "Time until a stage is done, where that is known.")
    for stage, numbers in stages.items():
        page.sample({"stage": stage}, numbers["eta_seconds"])
    return page.text()


def serve(root: str, address: str) -> int:
    """Answer requests about a run until Ctrl-C; returns 0.

    Raises ConfigError for an address that is none or cannot be had, InputError where the folder is not a run.
    """
    host, port = parse_address(address)
    asked = Asked(root)
    asked.status()
    server = open_server(asked, host, port)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{server.server_address[1]}/metrics", flush=True)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


class Asked:
    """The status of a run, read when it is asked for and the last is too old."""

    def __init__(self, root: str) -> None:
        self._reader = StatusReader(root)
        self._lock = threading.Lock()
        self._most_seconds = _AGE_SECONDS[0 if storage.is_local(root) else 1]
        self._last: tuple[float, float, dict[str, Any]] | None = None  # by the monotonic clock and the other

    def status(self) -> tuple[dict[str, Any], float]:
        """A status, and when it was read in seconds since 1970. Raises SeamlessAlignError."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._most_seconds:
                read = self._reader.read()
                self._last = time.monotonic(), time.time(), read
            return self._last[2], self._last[1]


def open_server(asked: Asked, host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens. Raises ConfigError where it cannot."""
    handler = type("Handler", (_Handler,), {"asked": asked})
    kind = type("Server", (ThreadingHTTPServer,), {"daemon_threads": True, "address_family": _family(host)})
    try:
        server: ThreadingHTTPServer = kind((host, port), handler)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"--serve: cannot listen on {host}:{port}: {why}; give another port") from error
    return server


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `PORT`, `HOST:PORT` or `[HOST]:PORT`. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16 and host):
        raise ConfigError(f"--serve {address}: write [HOST:]PORT, such as 9108 or 0.0.0.0:9108")
    return host, int(port)


class _Handler(BaseHTTPRequestHandler):
    """Answers /metrics and /status.json."""

    asked: Asked
    server_version = "seamlessalign"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if not self._is_asked_for_here():
            self._answer(403, "text/plain; charset=utf-8", "this is no address of this program\n")
            return
        try:
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, metrics_text(*self.asked.status()))
            elif path == "/status.json":
                self._answer(200, "application/json", json.dumps(self.asked.status()[0], indent=1) + "\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", "there are /metrics and /status.json\n")
        except (SeamlessAlignError, OSError) as error:
            with suppress(OSError):  # whoever asked may be gone
                self._answer(503, "text/plain; charset=utf-8", f"{redact(' '.join(str(error).split()))}\n")

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of requests."""

    def _is_asked_for_here(self) -> bool:
        """Whether a request that reaches this machine alone names it: other names are of pages that lead back here."""
        if not ip_address(self.connection.getsockname()[0]).is_loopback:
            return True
        name = self.headers.get("Host", "").rpartition("@")[2].lower()
        return bool(re.fullmatch(r"(localhost|127(\.\d+){3}|\[::1\])?(:\d+)?", name))

    def _answer(self, code: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Page:
    """Families of samples, each under its help and type; those without samples are left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._head: list[str] = []
        self._name = ""

    def family(self, name: str, kind: str, about: str) -> None:
        """Begin a family."""
        self._name, self._head = name, [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]

    def sample(self, labels: dict[str, str], value: float | None) -> None:
        """Add a sample to the present family; nothing where there is no value."""
        if value is None:
            return
        self._lines += self._head
        self._head = []
        inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        self._lines.append(f"{self._name}{f'{{{inside}}}' if inside else ''} {value!r}")

    def text(self) -> str:
        """The page."""
        return "".join(f"{line}\n" for line in self._lines)


def _counts(page: _Page, table: str, counts: dict[str, Any], names: Iterable[str]) -> None:
    came, kept, dropped = names
    page.sample({"stage": table, "state": "in", "reason": ""}, counts[came])
    page.sample({"stage": table, "state": "kept", "reason": ""}, counts[kept])
    for reason, number in counts[dropped].items():
        page.sample({"stage": table, "state": "dropped", "reason": reason}, number)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(host: str) -> int:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET
