"""What stands before every request to the page: who asks by a foreign name is refused, and the page may load nothing.

A web site that lets its own name point to 127.0.0.1 (DNS rebinding) would reach the page as if it were its own; its
name is in the Host header. Other users of the machine reach 127.0.0.1 as well: only who has the key of the address that
was printed gets in. It is kept as a cookie, and taken out of the address, which others may see. A browser sends that
cookie with what pages of other ports of this machine ask for too: they are told by the Origin header, which must name
the very host and port that is asked.
"""

import hmac
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
KEY_NAME = "key"  # of the parameter; the cookie's has the port too, since cookies of all ports are one jar
_HEADERS = {
    # Vega compiles expressions and Streamlit starts modules from blobs; nothing comes from or goes to another host
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class PageGuard:
    """Middleware (ASGI) around the whole page.

    `port`: the one it listens at, or 0 where the name of the cookie need not tell it.
    """

    def __init__(self, app: "ASGIApp", key: str, port: int = 0) -> None:
        self._app, self._key, self._cookie = app, key, f"seamlessalign-{port}"
        self._once: set[str] = set()

    def key_for_once(self) -> str:
        """A key that opens one time: for a browser that is started, whose command line others can read."""
        key = secrets.token_urlsafe(16)
        self._once.add(key)
        return key

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get(KEY_NAME, "")
        hosts, origins = ([value for name, value in headers if name == wanted] for wanted in ("host", "origin"))
        if not is_own_host(hosts):
            await _refuse(scope, send, 421, "This page answers to 127.0.0.1 and localhost only.")
        elif any(origin.lower() != f"http://{hosts[0].strip().lower()}" for origin in origins):
            await _refuse(scope, send, 403, "This page answers to itself only, not to other pages.")
        elif _is_front(scope) and (self._is_key(given) or given in self._once):
            self._once.discard(given)
            await self._without_key(scope, send)
        elif self._is_key(given):
            await self._app(scope, receive, self._with_headers(send, cookie=True))
        elif any(self._is_key(value) for value in self._kept(headers)):
            await self._app(scope, receive, self._with_headers(send, cookie=False))
        else:
            await _refuse(scope, send, 403, "Open the whole address that the command printed: its key is missing.")

    def _is_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._key.encode())

    def _kept(self, headers: Iterable[tuple[str, str]]) -> list[str]:
        kept = []
        for name, value in headers:
            if name == "cookie":
                try:
                    jar = SimpleCookie(value)
                except CookieError:
                    continue
                if self._cookie in jar:
                    kept.append(jar[self._cookie].value)
        return kept

    async def _without_key(self, scope: "Scope", send: "Send") -> None:
        """Send a browser on to the same address without the key, with the cookie."""
        parts = scope["query_string"].split(b"&")
        rest = b"&".join(part for part in parts if part.partition(b"=")[0] != KEY_NAME.encode())
        sending = self._with_headers(send, cookie=True)
        headers = [(b"location", b"/?" + rest if rest else b"/"), (b"cache-control", b"no-store")]
        await sending({"type": "http.response.start", "status": 303, "headers": headers})
        await sending({"type": "http.response.body", "body": b""})

    def _with_headers(self, send: "Send", *, cookie: bool) -> "Send":
        added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        if cookie:
            worth = f"{self._cookie}={self._key}; Path=/; HttpOnly; SameSite=Strict"
            added.append((b"set-cookie", worth.encode()))
        replaced = {name for name, _ in added} - {b"set-cookie"}

        async def sending(message: "Message") -> None:
            if message["type"] == "http.response.start":
                own = [pair for pair in message.get("headers", []) if pair[0].lower() not in replaced]
                message = {**message, "headers": [*own, *added]}
            await send(message)

        return sending


def _is_front(scope: "Scope") -> bool:
    return bool(scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET")


def is_own_host(hosts: Iterable[str]) -> bool:
    """Whether a request's Host headers are one that names this machine as itself, with or without a port."""
    given = list(hosts)
    if len(given) != 1:
        return False
    try:
        parts = urlsplit(f"//{given[0]}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    rest = parts.username, parts.password, parts.path, parts.query, parts.fragment
    return not any(rest) and (parts.hostname or "") in HOSTS


async def _refuse(scope: "Scope", send: "Send", status: int, why: str) -> None:
    """Answer with a line of text; a web socket is closed, which its client sees as 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
