"""The web, as far as it may be asked: which addresses, how often they may send us on, how much and how long they send.

Addresses come out of lists that others may have written. So no connection is made before it is known where it goes: the
name is resolved once, every address that it has is judged, and the connection is made to one of these very addresses,
so that a name which means something else a moment later gains nothing by it. Each redirect is judged anew. TLS is
verified against the name all the same. With a proxy in the environment (`https_proxy`, …) it is the proxy that resolves
names; those that can be resolved here are judged here too.

Loopback and link-local addresses, where services listen that trust whoever reaches them, are refused unless they are
allowed. Private ones are allowed unless they are refused: there clusters keep their data.
"""

import contextlib
import http.client
import io
import ipaddress
import netrc
import os
import random
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from seamlessalign.errors import UnreadableError
from seamlessalign.retries import is_transient
from seamlessalign.secrets import WHERE_TO_PUT_IT, redact, redact_uri, secret_in

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}
_ATTEMPTS = 3
_FIRST_PAUSE = 0.5  # seconds at most; the next are twice as long
_MOVED = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(  # of machines in clouds, where they are not link-local: they hand out the machine's own keys
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)


@dataclass(frozen=True)
class WebAccess:
    """What may be asked of the web."""

    schemes: tuple[str, ...] = ("https", "http")
    allow_local: bool = False  # loopback, link-local, unspecified, and what hands out keys to machines of clouds
    allow_private: bool = True  # other addresses that are not of the whole world's
    max_bytes: int = 16 << 30  # that one file may send, each time that it is opened
    seconds: float = 600.0  # of waiting for one file, each time that it is opened
    max_redirects: int = 5
    user_agent: str = "seamlessalign"  # what servers are told of who asks


_access = WebAccess()


def use(access: WebAccess) -> None:
    """From now on, this process asks the web within these bounds; before that, within those of `WebAccess()`."""
    global _access
    _access = access


def present() -> WebAccess:
    """What this process may ask of the web."""
    return _access


def refusal(address: str, access: WebAccess) -> str | None:
    """What an IP address is that may not be asked, in words; None for one that may. Raises ValueError for no address.

    An IPv4 address inside of an IPv6 one (mapped, 6to4, Teredo, NAT64) is judged as what it is.
    """
    one = ipaddress.ip_address(address.partition("%")[0])
    for inner in (one, *_inside(one)):
        kind = _kind(inner)
        if kind == "local" and not access.allow_local:
            return "an address of this machine or its link, and fetch.allow_local is false"
        if kind == "private" and not access.allow_private:
            return "a private address, and fetch.allow_private is false"
        if kind == "nowhere":
            return "an address that no single machine has"
    return None


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ()), last if address in _NAT64 else None]
    return [inner for inner in found if inner is not None]


def _kind(address: Address) -> str:
    """local, private, nowhere or world."""
    this_network = isinstance(address, ipaddress.IPv4Address) and address.packed[0] == 0  # Linux takes it for itself
    if address.is_loopback or address.is_link_local or address.is_unspecified or this_network or address in _METADATA:
        return "local"
    if address.is_multicast:
        return "nowhere"
    if isinstance(address, ipaddress.IPv6Address) and (_inside(address) or address.is_site_local):
        return "private" if address.is_site_local else "world"  # what is inside is judged by itself
    if address.is_reserved:
        return "nowhere"
    return "world" if address.is_global else "private"


class Patience:
    """Seconds that are left to wait for the network; what is done between two waits does not count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds

    @contextlib.contextmanager
    def waiting(self) -> Iterator[float]:
        """The seconds left, of which go those that pass inside. Raises TimeoutError when there are none."""
        if self._left <= 0:
            raise TimeoutError
        begun = time.monotonic()
        try:
            yield self._left
        finally:
            self._left -= time.monotonic() - begun


class Answer:
    """An answer whose head is there and whose body is read on. Its errors are UnreadableErrors that name the url."""

    def __init__(self, url: str, response: http.client.HTTPResponse, access: WebAccess, patience: Patience) -> None:
        self.url, self.status, self.headers = url, response.status, response.headers
        self.reason = response.reason
        self._response, self._access, self._patience = response, access, patience

    def readinto(self, buffer: Any) -> int:
        """Up to as many bytes as fit, 0 at the end."""
        with _naming(self.url, self._patience):
            return int(self._response.readinto(buffer))

    def close(self) -> None:
        """Hang up."""
        self._response.close()


@dataclass(frozen=True)
class Asking:
    """How a file is asked for, where not in the usual way."""

    headers: Mapping[str, str] = field(default_factory=dict)  # besides those of every request
    attempts: int = _ATTEMPTS  # of what may pass by itself
    before: Callable[[str], None] | None = None  # is told each address before it is asked, that of a redirect too


def ask(url: str, access: WebAccess, patience: Patience, first: int | None = None, asking: Asking = Asking()) -> Answer:
    """Ask for a file on the web, from byte `first` on, if that is given and the server knows how; follow redirects.

    What may pass by itself is tried again. The status of the answer may be anything but a redirect. Raises
    UnreadableError with the reasons `address_refused`, `secret_in_address`, `timeout` and `unreadable`, and what
    `asking.before` raises.
    """
    secret = secret_in(url)
    if secret is not None:
        raise UnreadableError("secret_in_address", f"{redact_uri(url)!r} carries {secret}: {WHERE_TO_PUT_IT}")
    with _naming(url, patience):
        for attempt in range(1, asking.attempts):
            try:
                answer = _ask_and_follow(url, access, patience, first, asking)
                if not is_transient(_Status(answer.status)):
                    return answer
                answer.close()
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, TimeoutError) or not is_transient(error):
                    raise
            with patience.waiting() as left:
                time.sleep(min(left, random.uniform(0, _FIRST_PAUSE * 2 ** (attempt - 1))))
        return _ask_and_follow(url, access, patience, first, asking)


class _Status(Exception):
    """The status of an answer, as errors carry it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _ask_and_follow(url: str, access: WebAccess, patience: Patience, first: int | None, asking: Asking) -> Answer:
    at = url
    for _ in range(access.max_redirects + 1):
        if asking.before is not None:
            asking.before(at)
        response = _ask_once(url, at, access, patience, first, asking.headers)
        moved = response.headers.get("Location") if response.status in _MOVED else None
        if moved is None:
            return Answer(url, response, access, patience)
        response.close()
        at = urljoin(at, moved)
    raise UnreadableError("unreadable", f"{url!r} sends on more than {access.max_redirects} times")


@contextlib.contextmanager
def _naming(url: str, patience: Patience) -> Iterator[None]:
    """Make every way in which the network fails an UnreadableError."""
    try:
        yield
    except TimeoutError as error:
        raise UnreadableError("timeout", f"{url!r} was not fetched within {patience.seconds:g} s") from error
    except http.client.IncompleteRead as error:
        raise UnreadableError("truncated", f"{url!r} broke off") from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        first_line = (redact(said).splitlines() or [type(error).__name__])[0]
        raise UnreadableError("unreadable", f"{url!r} cannot be fetched: {first_line}") from error


def _ask_once(
    url: str, at: str, access: WebAccess, patience: Patience, first: int | None, more: Mapping[str, str]
) -> http.client.HTTPResponse:
    parts = urlsplit(at)
    scheme = parts.scheme.lower()
    where = repr(url) if at == url else f"{url!r} sends on to {parts.scheme}://{parts.hostname}, which"
    if scheme not in PORTS or scheme not in access.schemes:
        allowed = ", ".join(access.schemes)
        raise UnreadableError(
            "address_refused", f"{where} begins with {parts.scheme}://, and fetch.schemes is {allowed}"
        )
    host = parts.hostname
    if not host:
        raise ValueError("it names no host")
    port = parts.port or PORTS[scheme]
    connection = _connection(parts, host, port, where, access, patience)
    headers = {"User-Agent": access.user_agent, "Accept-Encoding": "identity", "Connection": "close", **more}
    if first is not None:
        headers["Range"] = f"bytes={first}-"
    headers |= _login(host) if scheme == "https" else _proxy_login(connection)
    target = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*[]") + ("?" if parts.query else "")
    target += quote(parts.query, safe="/%:=&~+!$,;'@()*[]?")
    if connection.through is not None and scheme == "http":
        target = f"http://{_bracketed(host)}:{port}{target}"
    try:
        connection.request("GET", target, headers={"Host": _host_header(host, port, scheme), **headers})
        response = connection.getresponse()
    except BaseException:
        connection.close()
        raise
    if connection.sock is not None:
        connection.sock.close()  # as soon as the response is closed too
        connection.sock = None
    return response


def _host_header(host: str, port: int, scheme: str) -> str:
    name = _bracketed(host if host.isascii() else host.encode("idna").decode())
    return name if port == PORTS[scheme] else f"{name}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _resolved(host: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)]


def _connection(
    parts: SplitResult, host: str, port: int, where: str, access: WebAccess, patience: Patience
) -> "_Connection":
    """Where to connect to, after all its addresses were judged. Nothing is connected yet."""
    secure = parts.scheme.lower() == "https"
    through = _proxy(parts.scheme.lower(), host)
    addresses: list[tuple[int, Any]] = []
    with patience.waiting():
        try:
            addresses = _resolved(host, port)
        except OSError:
            if through is None:  # a proxy may know names that are not known here
                raise
        for _, address in addresses:
            why = refusal(address[0], access)
            if why is not None:
                raise UnreadableError("address_refused", f"{where} is at {address[0]}, {why}")
        if through is not None:
            addresses = _resolved(through.hostname or "", through.port or PORTS["http"])
    return _Connection(host, port, addresses, patience, secure, through)


class _Connection(http.client.HTTPConnection):
    """A connection to given addresses, or to a proxy's, with one patience for all that it waits for."""

    def __init__(
        self,
        host: str,
        port: int,
        addresses: list[tuple[int, Any]],
        patience: Patience,
        secure: bool,
        through: SplitResult | None,
    ) -> None:
        super().__init__(host, port)
        self.through = through
        self._addresses, self._patience, self._secure = addresses, patience, secure
        if through is not None and secure:
            self.set_tunnel(host, port, headers=_proxy_login(self))

    def connect(self) -> None:
        """Connect to the first address that answers."""
        plain = self._connected()
        try:
            self.sock: Any = _TimedSocket(plain, self._patience)
            if self._secure:
                if self.through is not None:
                    self._tunnel()  # type: ignore[attr-defined]
                with self._patience.waiting() as left:
                    plain.settimeout(left)
                    wrapped = _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")).wrap_socket(
                        plain, server_hostname=self.host
                    )
                self.sock = _TimedSocket(wrapped, self._patience)
        except BaseException:
            plain.close()
            raise

    def _connected(self) -> socket.socket:
        failed: OSError = OSError("it has no address")
        for family, address in self._addresses:
            plain = socket.socket(family, socket.SOCK_STREAM)
            try:
                with self._patience.waiting() as left:
                    plain.settimeout(left)
                    plain.connect(address)
                return plain
            except OSError as error:
                plain.close()
                failed = error
        raise failed


@lru_cache(maxsize=4)
def _tls(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Certificates are verified, and the name in them. The arguments are what the default looks at."""
    return ssl.create_default_context()


class _TimedSocket:
    """What http.client needs of a socket, with one patience for all of it, however little comes at a time."""

    def __init__(self, inner: socket.socket, patience: Patience) -> None:
        self._inner, self._patience = inner, patience

    def sendall(self, data: Any) -> None:
        with self._patience.waiting() as left:
            self._inner.settimeout(left)
            self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedInput(self._inner, self._patience), 1 << 16)

    def close(self) -> None:
        self._inner.close()


class _TimedInput(io.RawIOBase):
    def __init__(self, inner: socket.socket, patience: Patience) -> None:
        self._socket, self._patience = inner, patience
        self._inner = inner.makefile("rb", buffering=0)  # keeps the socket open

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._patience.waiting() as left:
            self._socket.settimeout(left)
            return self._inner.readinto(buffer) or 0

    def close(self) -> None:
        self._inner.close()
        super().close()


def _proxy(scheme: str, host: str) -> SplitResult | None:
    """The proxy that the environment names for an address."""
    named = urllib.request.getproxies().get(scheme)
    if not named or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _proxy_login(connection: "_Connection") -> dict[str, str]:
    through = connection.through
    if through is None or through.username is None:
        return {}
    return {"Proxy-Authorization": _basic(unquote(through.username), unquote(through.password or ""))}


def _login(host: str) -> dict[str, str]:
    """What ~/.netrc, or the file that $NETRC names, has for this very host; never its entry for all hosts."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entry = netrc.netrc(path).hosts.get(host) if host != "default" else None
    except FileNotFoundError:
        return {}
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        line = f", line {error.lineno}" if isinstance(error, netrc.NetrcParseError) and error.lineno else ""
        raise UnreadableError("unreadable", f"{path}{line}: cannot be used: {type(error).__name__}") from error
    return {"Authorization": _basic(entry[0] or "", entry[2] or "")} if entry is not None else {}


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def explained(answer: Answer) -> UnreadableError:
    """The error for an answer that is none of those with a file in it."""
    reason = "missing" if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) else "unreadable"
    return UnreadableError(reason, f"{answer.url!r} answers {answer.status} {answer.reason}")
