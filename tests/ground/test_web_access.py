"""The web within bounds: which addresses are asked, and everything that a server may do to whoever asks."""

import ipaddress
import itertools
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign import web_access
from seamlessalign.errors import UnreadableError
from seamlessalign.web_access import Patience, WebAccess, ask, refusal
from seamlessalign.web_files import fetch
from tests.ground.loopback import SERVED as DATA
from tests.ground.loopback import serving


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests: no proxy, no passwords."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    monkeypatch.setattr(web_access, "_access", WebAccess())


def _allow(monkeypatch: pytest.MonkeyPatch, **bounds: Any) -> None:
    monkeypatch.setattr(web_access, "_access", WebAccess(**{"allow_local": True, **bounds}))


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that says whatever it likes to each that connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    talk(connection)
                except OSError:
                    continue

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
    finally:
        listener.close()


def _error(url: str, folder: Path, seconds: float = 20.0) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        fetch(url, folder / "copy", seconds)
    assert "\n" not in str(caught.value)
    return caught.value


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "ff02::1",
            "::ffff:224.0.0.1",
        ],
    )
    def test_those_that_are_refused(self, address: str) -> None:
        assert refusal(address, WebAccess()) is not None

    @pytest.mark.parametrize(
        "address", ["93.184.216.34", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd12::1", "2606:2800::1"]
    )
    def test_those_that_are_not(self, address: str) -> None:
        assert refusal(address, WebAccess()) is None
        private = refusal(address, WebAccess(allow_private=False))
        assert (private is None) == (address in ("93.184.216.34", "2606:2800::1"))

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"])
    def test_what_is_allowed(self, address: str) -> None:
        assert refusal(address, WebAccess(allow_local=True)) is None
        assert refusal("224.0.0.1", WebAccess(allow_local=True)) is not None

    @given(st.integers(0, 2**32 - 1) | st.sampled_from([0x7F000000, 0xA9FE0000, 0xE0000000]).flatmap(
        lambda low: st.integers(max(low - 2, 0), low + 2)
    ))  # fmt: skip
    def test_against_the_first_bits_of_each(self, number: int) -> None:
        """RFC 6890, read bit by bit."""
        first, second = number >> 24, number >> 16 & 255
        refused = first in (0, 127) or (first, second) == (169, 254) or first >= 224
        known = {"100.100.100.200", "168.63.129.16", "192.0.0.192"}
        address = ipaddress.IPv4Address(number)
        for written in (str(address), f"::ffff:{address}", f"64:ff9b::{address}"):
            assert (refusal(written, WebAccess()) is not None) == (refused or str(address) in known)


class TestLoopback:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:1]",
        ],
    )
    def test_it_is_not_asked_however_it_is_written(self, host: str, tmp_path: Path) -> None:
        with serving() as server:
            error = _error(f"http://{host}:{server.server_port}/a.wav", tmp_path)
        assert error.reason == "address_refused" and "fetch.allow_local" in error.detail
        assert server.asked == [] and not (tmp_path / "copy").exists()

    def test_it_is_where_that_is_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        with serving() as server:
            fetch(f"http://localhost:{server.server_port}/a b/ü.wav?x=1 2", tmp_path / "copy", 20)
        assert (tmp_path / "copy").read_bytes() == DATA
        assert [one["path"] for one in server.asked] == ["/a%20b/%C3%BC.wav?x=1%202"]
        assert server.asked[0]["host"] == f"localhost:{server.server_port}"

    def test_a_name_with_one_such_address_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving() as server:
            _resolve(monkeypatch, [["93.184.216.34", "127.0.0.1"]], server.server_port)
            assert _error("http://data.org/a.wav", tmp_path).reason == "address_refused"
        assert server.asked == []

    def test_a_name_is_resolved_once_for_a_question(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that there is no other answer between judging and connecting."""
        _allow(monkeypatch)
        with serving() as server:
            asked = _resolve(monkeypatch, [["127.0.0.1"], ["192.0.2.1"]], server.server_port)
            fetch("http://data.org/a.wav", tmp_path / "copy", 20)
        assert asked == ["data.org"] and (tmp_path / "copy").read_bytes() == DATA


def _resolve(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]], port: int) -> list[str]:
    """Have names resolve to the first of these answers, then to the next; returns the names that were asked for."""
    asked: list[str] = []
    following = itertools.chain(answers, itertools.repeat(answers[-1]))

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(following)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


class TestSchemes:
    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://data.org/a.wav", "gopher://data.org/", "data:,abc"])
    def test_no_others_are_fetched(self, url: str, tmp_path: Path) -> None:
        assert _error(url, tmp_path).reason == "address_refused"

    def test_those_that_are_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch, schemes=("https",))
        error = _error("http://127.0.0.1/a.wav", tmp_path)
        assert error.reason == "address_refused" and "fetch.schemes is https" in error.detail

    def test_addresses_with_secrets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        for url in ("http://alice:hunter2@127.0.0.1/a.wav", "http://127.0.0.1/a.wav?sig=hunter2"):
            error = _error(url, tmp_path)
            assert error.reason == "secret_in_address" and "hunter2" not in str(error)


def _moving(to: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class TestRedirects:
    @pytest.mark.parametrize(
        ("to", "bounds"),
        [
            ("file:///etc/passwd", {}),
            ("ftp://data.org/a.wav", {}),
            ("http://224.0.0.1/a.wav", {}),
            ("http://10.0.0.1/a.wav", {"allow_private": False}),
            ("http://[::ffff:10.0.0.1]/a.wav", {"allow_private": False}),
            ("https://data.org/a.wav", {"schemes": ("http",)}),
        ],
    )
    def test_they_are_judged_too(self, to: str, bounds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch, **bounds)
        with serving(_moving(to)) as server:
            error = _error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path)
        assert error.reason == "address_refused" and "sends on" in error.detail
        assert len(server.asked) == 1 and not (tmp_path / "copy").exists()

    def test_from_the_world_to_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name of the world's first, of which only the connection is led here; then an address of this machine."""
        with serving() as inner, serving(_moving(f"http://127.0.0.1:{inner.server_port}/secret")) as outer:
            real = web_access._Connection._connected
            monkeypatch.setattr(
                web_access._Connection,
                "_connected",
                lambda self: (
                    socket.create_connection(("127.0.0.1", outer.server_port))
                    if self.host == "93.184.216.34"
                    else real(self)
                ),
            )
            assert _error("http://93.184.216.34/a.wav", tmp_path).reason == "address_refused"
            assert len(outer.asked) == 1 and inner.asked == []

    def test_they_have_an_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch, max_redirects=3)
        with serving(_moving("/again")) as server:
            error = _error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path)
        assert error.reason == "unreadable" and "3 times" in error.detail and len(server.asked) == 4

    def test_what_they_lead_to_is_not_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Signatures of stores stand in there."""
        _allow(monkeypatch)
        with serving(_moving("http://127.0.0.1:1/a.wav?sig=hunter2")) as server:
            assert "hunter2" not in str(_error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path))


class TestBounds:
    def test_no_more_is_taken_than_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch, max_bytes=len(DATA))
        with serving() as server:
            fetch(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path / "copy", 20)
        _allow(monkeypatch, max_bytes=len(DATA) - 1)
        with serving() as server:
            assert _error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path).reason == "too_large"

    def test_what_never_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch, max_bytes=1 << 20)

        def endless(handler: Any) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

        with serving(endless) as server:
            assert _error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path).reason == "too_large"
        assert (tmp_path / "copy").stat().st_size <= 1 << 20

    @pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"H", b""])
    def test_no_head_takes_longer_than_allowed(
        self, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _allow(monkeypatch)

        def talk(connection: socket.socket) -> None:
            for _ in range(200):
                connection.sendall(said)
                time.sleep(0.05)

        with speaking(talk) as url:
            assert _error(url, tmp_path, seconds=0.4).reason == "timeout"

    def test_a_handshake_that_never_comes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        with speaking(lambda connection: time.sleep(5)) as url:
            assert _error(url.replace("http:", "https:"), tmp_path, seconds=0.4).reason == "timeout"

    @pytest.mark.parametrize(
        "said",
        [
            b"\0" * 300,
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
            b"HTTP/1.1 200 " + b"x" * 100_000,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://a:99999/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http:///\r\nContent-Length: 0\r\n\r\n",
            b"",
        ],
    )
    def test_what_is_no_answer(self, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)

        def talk(connection: socket.socket) -> None:
            connection.recv(1 << 16)
            connection.sendall(said)

        with speaking(talk) as url:
            assert _error(url, tmp_path, seconds=10).reason in ("unreadable", "truncated")

    def test_what_may_pass_is_asked_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        statuses = [503, 429, 404, 503, 503, 503, 404]

        def answer(handler: Any) -> None:
            handler.send_error(statuses[len(handler.asked) - 1])

        with serving(answer) as server:
            reasons = [_error(f"http://127.0.0.1:{server.server_port}/a.wav", tmp_path).reason for _ in range(3)]
        assert reasons == ["missing", "unreadable", "missing"] and len(server.asked) == len(statuses)

    def test_a_connection_that_is_cut_is_made_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        heads = iter([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"])

        def talk(connection: socket.socket) -> None:
            connection.recv(1 << 16)
            connection.sendall(next(heads))

        with speaking(talk) as url:
            fetch(url, tmp_path / "copy", 20)
        assert (tmp_path / "copy").read_bytes() == b"hi"

    def test_nothing_is_left_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _allow(monkeypatch)
        before = len(list(Path("/dev/fd").iterdir()))
        with serving() as server, serving(_moving(f"http://127.0.0.1:{server.server_port}/")) as first:
            for _ in range(5):
                fetch(f"http://127.0.0.1:{first.server_port}/a.wav", tmp_path / "copy", 20)
                ask(f"http://127.0.0.1:{server.server_port}/", WebAccess(allow_local=True), Patience(5)).close()
        until = time.monotonic() + 10
        while len(list(Path("/dev/fd").iterdir())) > before:  # the servers' own ends go when their threads do
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for `localhost`, signed by itself."""
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    done = subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"needs openssl: {done.stderr[-200:]}")
    return folder / "cert.pem"


class TestTls:
    @pytest.fixture
    def server(self, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        _allow(monkeypatch)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.parent / "key.pem")
        with serving(tls=context) as server:
            yield server

    def test_certificates_are_verified(self, server: Any, tmp_path: Path) -> None:
        error = _error(f"https://localhost:{server.server_port}/a.wav", tmp_path)
        assert error.reason == "unreadable" and "certificate" in error.detail.lower() and server.asked == []

    def test_against_the_name_not_the_address(
        self, server: Any, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch(f"https://localhost:{server.server_port}/a.wav", tmp_path / "copy", 20)
        assert (tmp_path / "copy").read_bytes() == DATA
        (tmp_path / "copy").unlink()
        assert _error(f"https://127.0.0.1:{server.server_port}/a.wav", tmp_path).reason == "unreadable"

    def test_passwords_come_from_netrc_and_go_to_their_host_alone(
        self, server: Any, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        entries = tmp_path / "netrc"
        monkeypatch.setenv("NETRC", str(entries))
        url = f"https://localhost:{server.server_port}/a.wav"
        entries.write_text("machine localhost login alice password hunter2\ndefault login bob password p\n")
        fetch(url, tmp_path / "copy", 20)
        entries.write_text("machine other.org login alice password hunter2\ndefault login bob password p\n")
        fetch(url, tmp_path / "copy", 20)
        entries.write_text("machine localhost login alice password hunter2\n")
        with serving() as plain:
            fetch(f"http://localhost:{plain.server_port}/a.wav", tmp_path / "copy", 20)
        assert [one.get("authorization") for one in (*server.asked, *plain.asked)] == [
            "Basic YWxpY2U6aHVudGVyMg==",
            None,
            None,
        ]
        entries.write_text("machine localhost lgin hunter2\n")
        error = _error(url, tmp_path)
        assert error.reason == "unreadable" and "netrc" in error.detail and "hunter2" not in error.detail


class TestProxies:
    def test_they_are_asked_in_place_of_the_host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving() as proxy:
            monkeypatch.setenv("http_proxy", f"http://alice:hunter2@127.0.0.1:{proxy.server_port}")
            fetch("http://name-that-only-a-proxy-knows.invalid/a.wav?x=1", tmp_path / "copy", 20)
            assert (tmp_path / "copy").read_bytes() == DATA
            assert proxy.asked[0]["path"] == "http://name-that-only-a-proxy-knows.invalid:80/a.wav?x=1"
            assert proxy.asked[0]["host"] == "name-that-only-a-proxy-knows.invalid"
            assert proxy.asked[0]["proxy-authorization"] == "Basic YWxpY2U6aHVudGVyMg=="
            (tmp_path / "copy").unlink()
            assert _error("http://169.254.169.254/latest/meta-data", tmp_path).reason == "address_refused"
            assert len(proxy.asked) == 1

    def test_https_goes_through_them(self, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy that knows what to connect to, and sees only what is encrypted."""
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        _allow(monkeypatch)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.parent / "key.pem")
        seen: list[bytes] = []

        def talk(connection: socket.socket) -> None:
            seen.append(connection.recv(1 << 16))
            with socket.create_connection(("127.0.0.1", server.server_port)) as onward:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(onward, connection))
                back.start()
                _pump(connection, onward, seen)
                back.join()

        with serving(tls=context) as server, speaking(talk) as proxy:
            monkeypatch.setenv("https_proxy", proxy.removesuffix("/a.wav").replace("http://", "http://alice:hunter2@"))
            fetch("https://localhost:4711/a.wav", tmp_path / "copy", 20)
        assert (tmp_path / "copy").read_bytes() == DATA
        assert seen[0].startswith(b"CONNECT localhost:4711 ") and b"YWxpY2U6aHVudGVyMg==" in seen[0]
        assert b"a.wav" not in b"".join(seen)
        assert "proxy-authorization" not in server.asked[0]


def _pump(source: socket.socket, target: socket.socket, seen: list[bytes] | None = None) -> None:
    try:
        while data := source.recv(1 << 16):
            if seen is not None:
                seen.append(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


_ADDRESSES = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    st.sampled_from(["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "fd00:ec2::254", "::ffff:127.0.0.1"]),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
).map(str)
_PIECES = [
    "http",
    "https",
    "ftp",
    "file",
    "://",
    ":",
    "/",
    "//",
    "@",
    ".",
    "..",
    "#",
    "?",
    "[",
    "]",
    "\\",
    "%",
    "ü",
    "\0",
]
_URLS = st.one_of(
    st.text(),
    st.text().map(lambda text: f"http://{text}"),
    st.lists(st.sampled_from([*_PIECES, "127.0.0.1", "::1", "data.org", "80", "\r\n"])).map("".join),
    st.builds("http://{}:{}/{}".format, _ADDRESSES, st.integers(-1, 70_000), st.text()),
    st.builds("https://[{}]/{}".format, _ADDRESSES, st.text()),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_URLS, st.lists(_ADDRESSES, max_size=3), st.booleans())
def test_whatever_an_address_is_only_what_may_be_asked_is_connected_to(
    tmp_path: Path, url: str, addresses: list[str], allow_private: bool
) -> None:
    """With a resolver that answers anything, and no network: every connection that is tried is noted."""
    tried: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        found = [host] if _is_address(host) else addresses
        family = {one: socket.AF_INET6 if ":" in one else socket.AF_INET for one in found}
        return [(family[one], socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    def connected(self: Any) -> Any:
        tried.extend(address[0] for _, address in self._addresses)
        raise ConnectionError("there is no network")

    with (
        patch.object(socket, "getaddrinfo", getaddrinfo),
        patch.object(web_access._Connection, "_connected", connected),
        patch.object(web_access, "_access", WebAccess(allow_private=allow_private)),
        patch.object(web_access, "_FIRST_PAUSE", 0.0),
        pytest.raises(UnreadableError) as caught,
    ):
        fetch(url, tmp_path / "copy", 20)
    assert caught.value.reason in ("address_refused", "unreadable", "secret_in_address")
    for one in tried:
        address = ipaddress.ip_address(one)
        plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
        assert not (plain.is_loopback or plain.is_link_local or plain.is_unspecified or plain.is_multicast)
        assert allow_private or plain.is_global or (plain.version == 6 and (plain.sixtofour or plain.teredo))  # type: ignore[union-attr]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
