"""A fake of Google's object store, which cannot be had here: what its JSON API says of objects, their generations and
the conditions that writers put on them, for the real gcsfs before it.

Answers follow https://cloud.google.com/storage/docs/json_api/v1/objects and
https://cloud.google.com/storage/docs/request-preconditions.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.ground.loopback import running


@dataclass
class FakeGoogle:
    """The objects of all buckets, by bucket and name, each with its generation."""

    address: str = ""
    objects: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    generations: Iterator[int] = field(default_factory=lambda: count(1_700_000_000_000_000))
    refused: int = 0  # writes, since a condition did not hold
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, bucket: str, name: str, data: bytes, condition: str | None) -> dict[str, Any] | None:
        """What is said of an object that was written; None where another generation is there than was asked for."""
        with self.lock:
            there = self.objects.get((bucket, name), (0, b""))[0]
            if condition is not None and there != int(condition):
                self.refused += 1
                return None
            self.objects[bucket, name] = (next(self.generations), data)
        return self.about(bucket, name)

    def about(self, bucket: str, name: str) -> dict[str, Any]:
        """What is said of an object."""
        generation, data = self.objects[bucket, name]
        return {
            "kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(data)),
            "generation": str(generation), "metageneration": "1", "etag": f"{generation}/1",
            "updated": "2026-01-01T00:00:00.000Z", "timeCreated": "2026-01-01T00:00:00.000Z",
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FakeGoogle

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        parts = urlsplit(self.path)
        return [unquote(one) for one in parts.path.split("/")[1:]], {
            name: values[-1] for name, values in parse_qs(parts.query).items()
        }

    def do_GET(self) -> None:
        path, query = self._asked()
        at = path.index("b") + 1
        bucket, name = path[at], "/".join(path[at + 2 :])
        if not name:
            some = sorted(key for key in self.store.objects if key[0] == bucket and key[1].startswith(query["prefix"]))
            self._answer(200, {"kind": "storage#objects", "items": [self.store.about(*key) for key in some]})
        elif (bucket, name) not in self.store.objects:
            self._answer(404, {"error": {"code": 404, "message": "No such object"}})
        elif query.get("alt") == "media":
            self._answer(200, self.store.objects[bucket, name][1])
        else:
            self._answer(200, self.store.about(bucket, name))

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = query.get("name", "")
        if query["uploadType"] == "multipart":
            mark = b"--" + self.headers["Content-Type"].partition('boundary="')[2].rstrip('"').encode()
            _, about, content, _ = body.split(mark)
            name = json.loads(about.partition(b"\n\n")[2])["name"]
            body = content.partition(b"\n\n")[2][:-1]
        said = self.store.write(path[path.index("b") + 1], name, body, query.get("ifGenerationMatch"))
        if said is None:
            said = {"error": {"code": 412, "message": "At least one of the pre-conditions you specified did not hold."}}
            self._answer(412, said)
        else:
            self._answer(200, said)

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        at = path.index("b") + 1
        there = self.store.objects.pop((path[at], "/".join(path[at + 2 :])), None)
        self._answer(404 if there is None else 204, b"")

    def _answer(self, status: int, said: Any) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/octet-stream" if said is body else "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def fake_google() -> Iterator[FakeGoogle]:
    """A store on 127.0.0.1, in which every bucket is there and empty."""
    store = FakeGoogle()
    with running(_Handler, {"store": store}) as server:
        store.address = f"http://127.0.0.1:{server.server_port}"
        yield store
