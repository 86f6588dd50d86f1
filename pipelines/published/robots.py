"""What hosts say of who may take what (robots.txt, RFC 9309): asked of each host once in a rebuilding."""

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

from seamlessalign import local_files, storage
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.hosts import Hosts, file_name_of, host_of
from seamlessalign.secrets import redact_uri
from seamlessalign.web_access import Answer, Asking, Patience, ask, present

log = logging.getLogger(__name__)

AGENT = "seamlessalign"  # by which hosts name this program
_MOST_BYTES = 512_000  # of a robots.txt; what is behind is not heeded (RFC 9309, section 2.5)
_SECONDS = 60.0  # for one


class Robots:
    """Asks each host once, and keeps what it said in a folder that processes share."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self._folder, self._hosts = folder, hosts
        self._rules: dict[str, RobotFileParser | str] = {}  # or why there are none
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def check(self, url: str) -> None:
        """Raise UnreadableError where the host of an address does not want it taken.

        The reason is `robots_disallowed`, or `robots_unreachable` where it cannot be asked: then nothing may be taken
        of it (section 2.3.1.4).
        """
        host = host_of(url)
        with self._locks[host]:
            if host not in self._rules:
                self._rules[host] = self._read(host, url)
            rules = self._rules[host]
        if isinstance(rules, str):
            raise UnreadableError("robots_unreachable", f"{rules}; so {url!r} is not taken")
        if not rules.can_fetch(AGENT, url):
            raise UnreadableError("robots_disallowed", f"{host}/robots.txt does not let {url!r} be taken")

    def _read(self, host: str, url: str) -> RobotFileParser | str:
        path = self._folder / f"{file_name_of(host)}.robots"
        with local_files.locked(path.with_suffix(".asking")):
            if path.exists():
                status, text = json.loads(path.read_bytes())
            else:
                status, text = self._ask(host, url)
                if status < 500:  # others may pass: whoever comes next asks again
                    storage.write_bytes_atomic(str(path), json.dumps([status, text]).encode())
        if status >= 500:
            return text or f"{host}/robots.txt answers {status}"
        rules = RobotFileParser()
        rules.parse(text.splitlines() if status == 200 else [])
        delay = rules.crawl_delay(AGENT)
        if delay is not None:
            self._hosts.slow_down(host, float(delay))
        return rules

    def _ask(self, host: str, url: str) -> tuple[int, str]:
        """Status and text; where no answer comes, 599 and why."""
        parts = urlsplit(url)
        robots = f"{parts.scheme}://{parts.netloc}/robots.txt"
        before: Callable[[str], None] = lambda at: self._hosts.wait_turn(host_of(at))  # noqa: E731
        try:
            with self._hosts.connection(host):
                answer = ask(robots, present(), Patience(_SECONDS), asking=Asking(before=before))
                try:
                    return answer.status, _text(answer) if answer.status == 200 else ""
                finally:
                    answer.close()
        except UnreadableError as error:
            if error.reason in ("address_refused", "secret_in_address"):
                raise
            log.warning("%s: %s", redact_uri(robots), error.detail)
            return 599, error.detail


def _text(answer: Answer) -> str:
    data, block = bytearray(), memoryview(bytearray(1 << 16))
    while len(data) < _MOST_BYTES and (count := answer.readinto(block)):
        data += block[:count]
    return bytes(data[:_MOST_BYTES]).decode("utf-8", "replace")
