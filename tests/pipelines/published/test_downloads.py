"""Files are fetched once, whatever servers and kills do to it. What is sent is what the server counts."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.faulty_server import Served, faulty_servers
from seamlessalign import web_access
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published import downloads
from seamlessalign.pipelines.published.downloads import Downloads, Traffic, Trying, _hold_of, name_of
from seamlessalign.pipelines.published.hosts import Hosts, host_of
from seamlessalign.pipelines.published.robots import Robots
from seamlessalign.web_access import WebAccess
from tests.pipelines.published.processes import CONTEXT, begun

DATA = np.random.default_rng(0).bytes(700_000)
QUICK = Trying(attempts=4, first_pause=0.01, stall_seconds=0.2, seconds=5, longest_hold=5)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True, user_agent="seamlessalign (me@there)"))
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    yield Served({"a.bin": DATA})


@pytest.fixture
def base(served: Served) -> Iterator[str]:
    with faulty_servers(served) as (base,):
        yield base


def _downloads(folder: Path, *, robots: bool = False, per_second: float = 500.0, connections: int = 4) -> Downloads:
    hosts = Hosts(folder / "hosts", per_second, connections)
    return Downloads(folder / "files", hosts, Robots(folder / "hosts", hosts) if robots else None, QUICK)


class TestFetching:
    def test_a_file_comes_once(self, served: Served, base: str, tmp_path: Path) -> None:
        some, traffic = _downloads(tmp_path), Traffic()
        for _ in range(2):
            assert some.fetch(f"{base}/ok/a.bin", traffic).read_bytes() == DATA
        assert (traffic.requests, traffic.bytes) == (1, len(DATA))
        assert served.asked == {"/ok/a.bin": 1} and served.agents == {"seamlessalign (me@there)"}
        some.remove(f"{base}/ok/a.bin")
        assert list((tmp_path / "files").iterdir()) == []

    @pytest.mark.parametrize(
        ("fault", "requests", "resumed", "begun_again"),
        [
            ("breaks", 3, 2, 0),
            ("moved", 2, 0, 0),
            ("first500", 2, 0, 0),
            ("first503", 2, 0, 0),
            ("noranges", 2, 0, 1),
            ("untagged", 2, 0, 1),
            ("changes", 2, 0, 1),
            ("badrange", 3, 0, 1),
        ],
    )
    def test_what_passes(
        self, served: Served, base: str, tmp_path: Path, fault: str, requests: int, resumed: int, begun_again: int
    ) -> None:
        traffic = Traffic()
        assert _downloads(tmp_path).fetch(f"{base}/{fault}/a.bin", traffic).read_bytes() == DATA
        assert (traffic.requests, traffic.resumed, traffic.begun_again) == (requests, resumed, begun_again)
        if begun_again == 0:  # no byte came twice
            assert traffic.bytes == len(DATA)

    @pytest.mark.parametrize(
        ("fault", "reason", "requests"),
        [
            ("missing", "missing", 1),
            ("status410", "missing", 1),
            ("status403", "forbidden", 1),
            ("status451", "forbidden", 1),
            ("status418", "refused", 1),
            ("status500", "server_error", 4),
            ("html", "not_audio", 1),
            ("holdlong", "throttled", 1),
            ("loop", "too_many_redirects", 6),
            ("inside", "address_refused", 1),
            ("short", "truncated", None),
            ("stall", "timeout", None),
        ],
    )
    def test_what_does_not(
        self, served: Served, base: str, tmp_path: Path, fault: str, reason: str, requests: int | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        if fault == "inside":
            monkeypatch.setattr(web_access, "refusal", lambda address, _: "no" if address[:3] == "169" else None)
        with pytest.raises(UnreadableError) as caught:
            _downloads(tmp_path).fetch(f"{base}/{fault}/a.bin", Traffic())
        assert caught.value.reason == reason
        if requests is not None:
            assert sum(served.asked.values()) == requests
        if fault.startswith("status"):
            assert fault[6:] in caught.value.detail and f"{base}/{fault}/a.bin" in caught.value.detail

    def test_nobody_is_there(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served) as (base,):
            pass
        with pytest.raises(UnreadableError) as caught:
            _downloads(tmp_path).fetch(f"{base}/ok/a.bin", Traffic())
        assert caught.value.reason == "unreachable"

    def test_too_large(self, served: Served, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True, max_bytes=len(DATA) - 1))
        with pytest.raises(UnreadableError) as caught:
            _downloads(tmp_path).fetch(f"{base}/ok/a.bin", traffic := Traffic())
        assert caught.value.reason == "too_large" and traffic.bytes == 0
        assert not list((tmp_path / "files").glob("*.part"))

    def test_an_end_that_was_there_when_it_was_killed(self, served: Served, base: str, tmp_path: Path) -> None:
        """All bytes are there, and the name of what is whole is not: nothing is asked."""
        some, url = _downloads(tmp_path), f"{base}/ok/a.bin"
        whole = some.fetch(url, Traffic())
        whole.rename(whole.with_suffix(".part"))
        about = f'{{"url": "{url}", "tag": "x", "size": {len(DATA)}, "changes": 0}}'
        (tmp_path / "files" / f"{name_of(url)}.json").write_text(about)
        assert some.fetch(url, Traffic()).read_bytes() == DATA
        assert served.asked[url.removeprefix(base)] == 1

    def test_a_file_that_was_changed_between_two_starts(self, served: Served, base: str, tmp_path: Path) -> None:
        """What is there of the old is not joined to the rest of the new."""
        some, url = _downloads(tmp_path), f"{base}/ok/a.bin"
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / f"{name_of(url)}.part").write_bytes(b"old" * 1000)
        about = f'{{"url": "{url}", "tag": "\\"old\\"", "size": {len(DATA)}, "changes": 0}}'
        (tmp_path / "files" / f"{name_of(url)}.json").write_text(about)
        traffic = Traffic()
        assert some.fetch(url, traffic).read_bytes() == DATA
        assert served.ranges == [("/ok/a.bin", "bytes=3000-")] and traffic.begun_again == 1

    def test_killed_again_and_again(self, served: Served, base: str, tmp_path: Path) -> None:
        """SIGKILL at random bytes: what comes in the end is the file, and it was sent once and a little."""
        url, rng, kills = f"{base}/ok/a.bin", random.Random(0), 5
        part = tmp_path / "files" / f"{name_of(url)}.part"
        until = [*sorted(rng.sample(range(1, len(DATA) - (1 << 16)), kills)), None]
        for byte in until:
            served.sent_until = byte
            child = begun(_fetch, url, tmp_path)
            if byte is not None:
                patient = time.monotonic() + 60
                # what it was sent lies there, but for a block that is not full
                while not part.exists() or part.stat().st_size <= byte - (1 << 14):
                    assert child.exitcode is None and time.monotonic() < patient
                    time.sleep(0.002)
                os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        assert child.exitcode == 0
        assert _downloads(tmp_path).fetch(url, Traffic()).read_bytes() == DATA
        assert served.wholes["/ok/a.bin"] == 0 and len(served.ranges) >= 2
        # what was on its way when a process was killed, at most
        assert served.sent["/ok/a.bin"] <= len(DATA) + kills * 100_000
        starts = [int(told.removeprefix("bytes=").rstrip("-")) for _, told in served.ranges]
        assert starts == sorted(starts) and starts[-1] > 0  # it went on, and never again from an earlier byte


def _fetch(url: str, folder: Path) -> None:
    downloads._BLOCK = 1 << 14
    some = _downloads(folder)
    some.trying = Trying()  # with patience: it is the server that waits
    some.fetch(url, Traffic())


class TestManners:
    def test_robots(self, served: Served, base: str, tmp_path: Path) -> None:
        served.robots["127.0.0.1"] = "User-agent: *\nDisallow: /ok/\n\nUser-agent: other\nDisallow: /\n"
        some = _downloads(tmp_path, robots=True)
        with pytest.raises(UnreadableError) as caught:
            some.fetch(f"{base}/ok/a.bin", Traffic())
        assert caught.value.reason == "robots_disallowed"
        assert some.fetch(f"{base}/fine/a.bin", Traffic()).read_bytes() == DATA
        with pytest.raises(UnreadableError) as caught:
            some.fetch(f"{base}/moved/a.bin", Traffic())  # leads to where it may not go
        assert caught.value.reason == "robots_disallowed"
        _downloads(tmp_path, robots=True).fetch(f"{base}/fine/a.bin", Traffic())  # another process
        assert served.asked["/robots.txt"] == 1 and served.asked["/ok/a.bin"] == 0

    @pytest.mark.parametrize(("told", "reason"), [("403", None), ("404", None), ("503", "robots_unreachable")])
    def test_robots_that_are_not_there(
        self, served: Served, base: str, tmp_path: Path, told: str, reason: str | None
    ) -> None:
        served.robots["127.0.0.1"] = told
        some = _downloads(tmp_path, robots=True)
        if reason is None:
            assert some.fetch(f"{base}/ok/a.bin", Traffic()).read_bytes() == DATA
            return
        with pytest.raises(UnreadableError) as caught:
            some.fetch(f"{base}/ok/a.bin", Traffic())
        assert caught.value.reason == reason and served.asked["/ok/a.bin"] == 0

    def test_no_more_requests_than_allowed_by_several_processes(
        self, served: Served, base: str, tmp_path: Path
    ) -> None:
        first = time.time()
        children = [begun(_ask_often, base, tmp_path, number) for number in range(3)]
        for child in children:
            child.join()
        times = served.times["127.0.0.1"]
        assert [child.exitcode for child in children] == [0, 0, 0] and len(times) == 12
        # 25 a second; each may be late
        assert all(at - first >= turn / 25 for turn, at in enumerate(sorted(times)))

    def test_no_more_connections_than_allowed(self, served: Served, base: str, tmp_path: Path) -> None:
        served.bytes_per_second = 7_000_000.0
        fetch = [
            threading.Thread(target=_downloads(tmp_path, connections=1).fetch, args=(f"{base}/ok/a.bin?{n}", Traffic()))
            for n in range(5)
        ]
        for one in fetch:
            one.start()
        for one in fetch:
            one.join()
        # one that has sent all may not have noticed when the next comes
        assert served.most_open["127.0.0.1"] <= 2 and len(served.times["127.0.0.1"]) == 5

    def test_a_host_that_asks_for_more_time_gets_it(self, served: Served, base: str, tmp_path: Path) -> None:
        served.robots["127.0.0.1"] = "User-agent: *\nCrawl-delay: 1\n"
        some = _downloads(tmp_path, robots=True)
        for number in range(2):
            some.fetch(f"{base}/ok/a.bin?{number}", Traffic())
        assert np.diff(served.times["127.0.0.1"])[0] > 0.9

    def test_who_is_told_to_wait_does_and_so_do_others(self, served: Served, base: str, tmp_path: Path) -> None:
        some = _downloads(tmp_path)
        first = threading.Thread(target=some.fetch, args=(f"{base}/hold/a.bin", Traffic()))
        first.start()
        held = 0.0
        while not held:  # it is told, and the others know
            time.sleep(0.005)
            with some.hosts._turn(host_of(base)) as (_, held, _):
                pass
        _downloads(tmp_path).fetch(f"{base}/ok/a.bin", Traffic())
        asked = next(at for at, url in served.log if url.endswith("/ok/a.bin"))
        first.join()
        assert asked >= held >= served.times["127.0.0.1"][0] + 1.0  # the second that the host asked for
        assert served.asked["/hold/a.bin"] == 2

    def test_until_when_is_by_the_servers_clock(self) -> None:
        headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
        assert _hold_of(SimpleNamespace(headers=headers)) == 30.0  # type: ignore[arg-type]

    @pytest.mark.parametrize("what", ["turn", "hold"])
    def test_nobody_waits_for_a_clock_that_was_wrong(
        self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As that of another machine: an hour ahead of ours."""
        hosts, now = Hosts(tmp_path, 100.0, 1, longest_hold=10.0), time.time
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda: now() + 3600)
            hosts.wait_turn("http://a:80") if what == "turn" else hosts.hold_off("http://a:80", 5.0)
        waited: list[float] = []
        monkeypatch.setattr(time, "sleep", waited.append)
        hosts.wait_turn("http://a:80")
        assert sum(waited) < 1

    def test_a_slot_of_a_killed_process_is_free(self, tmp_path: Path) -> None:
        ready = CONTEXT.Event()
        child = begun(_hold, tmp_path, ready)
        assert ready.wait(60)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        with contextlib.ExitStack() as stack:
            stack.enter_context(Hosts(tmp_path, 1.0, 1).connection("http://a:80"))


def _hold(folder: Path, ready: Any) -> None:
    with Hosts(folder, 1.0, 1).connection("http://a:80"):
        ready.set()
        time.sleep(60)


def _ask_often(base: str, folder: Path, number: int) -> None:
    some = _downloads(folder, per_second=25.0, connections=1)
    for turn in range(4):
        some.fetch(f"{base}/ok/a.bin?{number}-{turn}", Traffic())
