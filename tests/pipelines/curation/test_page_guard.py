"""Who may ask the curation page: this machine by its own names, with the key that was printed."""

import asyncio
from typing import Any

import pytest

from seamlessalign.pipelines.curation.page_guard import PageGuard, is_own_host

KEY = "k" * 22


async def _page(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    headers = [(b"x-frame-options", b"ALLOWALL"), (b"x-own", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(
    query: str = "",
    *,
    host: str | None = "127.0.0.1:8501",
    cookie: str = "",
    kind: str = "http",
    more: Any = (),
    path: str = "/",
    guard: PageGuard | None = None,
) -> list[dict[str, Any]]:
    """What the guarded page sends back."""
    headers = [(b"Host", host.encode())] if host is not None else []
    headers += [(b"cookie", cookie.encode())] if cookie else []
    scope = {"type": kind, "method": "GET", "path": path, "query_string": query.encode(), "headers": [*headers, *more]}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run((guard or PageGuard(_page, KEY, 8501))(scope, None, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("127.0.0.1:8501", True), ("localhost:1", True), ("LOCALHOST", True), ("[::1]:8501", True),
        ("evil.example", False), ("evil.example:8501", False), ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False), ("evil.example@127.0.0.1", False), ("127.0.0.1/evil.example", False),
        ("127.0.0.1:x", False), ("127.0.0.1:99999", False), ("127.0.0.1?a", False), ("127.0.0.1#a", False),
        ("0.0.0.0", False), ("[::1", False), ("", False),
    ],
)  # fmt: skip
def test_names_of_this_machine(host: str, own: bool) -> None:
    assert is_own_host([host]) is own


def test_two_hosts_are_none() -> None:
    assert not is_own_host(["127.0.0.1", "127.0.0.1"])
    assert not is_own_host([])


def test_the_key_opens_and_is_kept_as_a_cookie() -> None:
    start, _ = ask(f"look=list&key={KEY}&key=&at=3")
    headers = dict(start["headers"])
    assert start["status"] == 303 and headers[b"location"] == b"/?look=list&at=3"
    start, _ = ask(f"key={KEY}")
    assert start["status"] == 303 and dict(start["headers"])[b"location"] == b"/"
    start, body = ask(f"key={KEY}", path="/_stcore/health")
    headers = dict(start["headers"])
    assert start["status"] == 200 and body["body"] == b"the page"
    assert headers[b"set-cookie"] == f"seamlessalign-8501={KEY}; Path=/; HttpOnly; SameSite=Strict".encode()
    assert headers[b"x-own"] == b"1" and headers[b"x-frame-options"] == b"DENY"
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert [name for name, _ in start["headers"]].count(b"x-frame-options") == 1
    start, _ = ask(cookie=f"other=1; seamlessalign-8501={KEY}")
    assert start["status"] == 200 and b"set-cookie" not in dict(start["headers"])


def test_a_key_for_once_opens_once() -> None:
    guard = PageGuard(_page, KEY, 8501)
    once, other = guard.key_for_once(), guard.key_for_once()
    for query, status in (("look=list&key=" + once, 303), ("key=" + once, 403), ("key=" + other, 303), ("key=", 403)):
        start, _ = ask(query, guard=guard)
        assert start["status"] == status
        if status == 303:  # and the cookie has the key itself
            assert dict(start["headers"])[b"set-cookie"].startswith(f"seamlessalign-8501={KEY};".encode())
    once = guard.key_for_once()
    assert ask("key=" + once, guard=guard, path="/_stcore/health")[0]["status"] == 403
    assert ask("key=" + once, guard=guard, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("query", ["", "key=", "key=wrong", f"kez={KEY}", f"key={KEY[:-1]}", "key=%ff"])
def test_without_the_key_nobody_comes_in(query: str) -> None:
    start, body = ask(query)
    assert start["status"] == 403 and b"key" in body["body"]
    assert ask(query, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_a_cookie_of_another_port_or_of_no_form_does_not_open() -> None:
    assert ask(cookie=f"seamlessalign-8502={KEY}")[0]["status"] == 403
    assert ask(cookie="seamlessalign-8501=\x00;;=")[0]["status"] == 403


def test_a_foreign_name_is_refused_even_with_the_key() -> None:
    assert ask(f"key={KEY}", host="evil.example")[0]["status"] == 421
    assert ask(f"key={KEY}", host=None)[0]["status"] == 421
    assert ask(f"key={KEY}", more=[(b"host", b"evil.example")])[0]["status"] == 421
    kept = f"seamlessalign-8501={KEY}"
    assert ask(cookie=kept, host="evil.example", kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(cookie=kept, kind="websocket") == [{"type": "websocket.accept"}]


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://127.0.0.1:8501", True), ("HTTP://127.0.0.1:8501", True), ("http://127.0.0.1:9999", False),
        ("http://127.0.0.1", False), ("http://localhost:8501", False), ("https://127.0.0.1:8501", False),
        ("http://evil.example", False), ("null", False), ("", False),
    ],
)  # fmt: skip
def test_pages_of_other_ports_are_refused_though_their_browser_sends_the_cookie(origin: str, own: bool) -> None:
    kept, more = f"seamlessalign-8501={KEY}", [(b"Origin", origin.encode())]
    assert ask(cookie=kept, more=more)[0]["status"] == (200 if own else 403)
    opened = {"type": "websocket.accept"} if own else {"type": "websocket.close", "code": 1008}
    assert ask(cookie=kept, more=more, kind="websocket") == [opened]
