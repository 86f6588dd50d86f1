"""WET files over HTTP and from a mirror: read once, no further than needed, on again where they broke off."""

import gzip
import io
import os
import re
import signal
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from seamlessalign import web_access
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published import common_crawl
from seamlessalign.pipelines.published.common_crawl import Kept, records, texts_of, wet_uri
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.pipelines.published.packed import Members
from seamlessalign.pipelines.published.record_text import digest
from seamlessalign.web_access import WebAccess
from tests.ground.loopback import send_file
from tests.pipelines.published.made_metadata import WET, Document, serving_folder, write_wet
from tests.pipelines.published.processes import begun

NAME = WET.format(3)
_OFTEN = 1 << 15  # bytes
DOCUMENTS = [
    Document(f"https://p.example/{number}", "\n".join(f"Page {number} has line {line}. And more." for line in range(9)))
    for number in range(200)
]


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True))
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    monkeypatch.setattr(common_crawl, "_FIRST_PAUSE", 0.001)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder as Common Crawl's, and the digests of its records."""
    folder = tmp_path_factory.mktemp("crawl")
    return folder, write_wet(folder / NAME, DOCUMENTS)


def _wanted(sha: str, number: int, line: int) -> MetadataLine:
    paragraph, sentence = f"Page {number} has line {line}. And more.", f"Page {number} has line {line}."
    return MetadataLine(
        NAME, sha, "", None, None, line, digest(paragraph), None, digest(sentence), 1.0, 1.2, "eng-frA", "eng", number
    )


def _lines(digests: list[str], numbers: list[int]) -> list[MetadataLine]:
    return [_wanted(digests[number], number, line) for number in numbers for line in (7, 2)]


def _expected(numbers: list[int]) -> list[str]:
    return [f"Page {number} has line {line}." for number in numbers for line in (7, 2)]


def _reasons(found: list[str | UnreadableError]) -> list[str]:
    return [one.reason if isinstance(one, UnreadableError) else "found" for one in found]


class TestPlaces:
    @pytest.mark.parametrize(
        "written",
        [NAME, f"https://data.commoncrawl.org/{NAME}", f"http://host.example//{NAME}", f"s3://commoncrawl/{NAME}"],
    )
    def test_are_below_the_base(self, written: str) -> None:
        assert wet_uri(written) == f"https://data.commoncrawl.org/{NAME}"
        assert wet_uri(written, "/mnt/crawl") == f"/mnt/crawl/{NAME}"
        assert wet_uri(written, "s3://mirror/") == f"s3://mirror/{NAME}"

    @pytest.mark.parametrize(
        "written",
        ["xlsum.hau_Latn", "", "-", "crawl-data/../../etc/passwd", "/etc/crawl-data/x", "file:///crawl-data/x.wet.gz",
         "crawl-data//x.wet.gz"],
    )  # fmt: skip
    def test_what_is_none(self, written: str) -> None:
        with pytest.raises(UnreadableError, match="not_common_crawl"):
            wet_uri(written)


class TestRecords:
    def test_are_those_that_warcio_reads(self, crawl: tuple[Path, list[str]]) -> None:
        data = (crawl[0] / NAME).read_bytes()
        peer = [
            (record.rec_headers.get_header("WARC-Block-Digest"), record.raw_stream.read())
            for record in ArchiveIterator(io.BytesIO(data))
        ]
        for packed in (data, gzip.decompress(data), gzip.compress(gzip.decompress(data))):
            read = list(records(io.BytesIO(packed), lambda _: True))
            assert [(headers.get("warc-block-digest"), content) for headers, content in read] == peer
        assert [content.decode() for _, content in read[1:]] == [document.text for document in DOCUMENTS]

    @pytest.mark.parametrize("cut", [1, 9, 200, 5000])
    def test_a_file_that_breaks_off_says_so(self, cut: int, crawl: tuple[Path, list[str]]) -> None:
        data = (crawl[0] / NAME).read_bytes()
        for packed in (data, gzip.decompress(data).rstrip()):
            with pytest.raises(UnreadableError, match="wet_truncated"):
                list(records(io.BytesIO(packed[:-cut]), lambda _: True))

    def test_a_damaged_file_says_so(self, crawl: tuple[Path, list[str]]) -> None:
        data = bytearray((crawl[0] / NAME).read_bytes())
        data[data.index(b"\x1f\x8b\x08", len(data) // 2) + 60] ^= 0x55  # behind the head of a member
        with pytest.raises(UnreadableError, match=r"wet_(damaged|truncated)"):
            list(records(io.BytesIO(bytes(data)), lambda _: True))
        for other in (b"<html>not found</html>", b"WARC/1.0\r\nContent-Length: many\r\n\r\n"):
            with pytest.raises(UnreadableError, match="wet_damaged"):
                list(records(io.BytesIO(other), lambda _: True))


class TestMembers:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=6), st.integers(1, 80), st.integers(0, 3))
    def test_come_out_as_gzip_has_them_from_each_that_begins(self, parts: list[bytes], most: int, zeros: int) -> None:
        packed = [gzip.compress(part) for part in parts]
        data = b"".join(packed) + bytes(zeros)
        members, out, places = Members(io.BytesIO(data)), b"", {}
        while True:
            places[len(out)] = members.place_of(len(out))
            block = bytearray(most)
            if not (count := members.readinto(block)):
                break
            out += block[:count]
        assert out == b"".join(parts) == gzip.decompress(data)
        begins = {len(b"".join(parts[:at])): len(b"".join(packed[:at])) for at in range(len(parts))}
        for out_at, place in places.items():
            if place is not None:
                file = io.BytesIO(data)
                file.seek(place)
                assert out_at in begins and io.BufferedReader(Members(file, place)).read() == out[out_at:]

    def test_damage_is_told_as_gzip_tells_it(self) -> None:
        data = gzip.compress(b"a text" * 50) * 2
        for bad, error in ((data[:-3], EOFError), (data[:40], EOFError), (data + b"x" * 9, gzip.BadGzipFile)):
            for reader in (io.BufferedReader(Members(io.BytesIO(bad))), gzip.GzipFile(fileobj=io.BytesIO(bad))):
                with pytest.raises(error):
                    reader.read()
        with pytest.raises(zlib.error):
            io.BufferedReader(Members(io.BytesIO(data[:-8] + b"00000000"))).read()


class TestKilled:
    """A process that reads a file of 700 kB, and is killed where the server has sent half of it."""

    @pytest.mark.parametrize("change", ["", "no parts", "another version"])
    def test_what_follows_goes_on_at_the_record_that_was_kept(
        self, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("_KEPT_EVERY", "_BLOCK"):
            monkeypatch.setattr(common_crawl, name, _OFTEN)
        noise = np.random.default_rng(0)
        documents = [Document(one.url, f"{one.text}\n{noise.bytes(3000).hex()}") for one in DOCUMENTS]
        digests = write_wet(tmp_path / NAME, documents)
        data = (tmp_path / NAME).read_bytes()
        half, sent, stuck = len(data) // 2, list[tuple[int, int]](), threading.Event()

        def answer(handler: Any, _: str) -> bool:
            begin = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"])
            first, is_first = int(begin[1]) if begin else 0, not sent
            tag = '"other"' if sent and change == "another version" else None
            sent.append((first, half if is_first else len(data)))
            if is_first:
                send_file(HangingOn(handler, stuck), data, stop_after=half, tag=tag)
            else:
                send_file(handler, data, parts=change != "no parts", tag=tag)
            return True

        numbers = [2, 60, 95, 150, 199]
        with serving_folder(tmp_path, answer) as served:
            uri, lines, kept = wet_uri(NAME, served.base), _lines(digests, numbers), Kept(str(tmp_path / "kept.json"))
            child = begun(_read, uri, lines, kept)
            until, so_far = time.monotonic() + 60, None
            while so_far is None or so_far.at <= half - (1 << 17):  # until nothing more comes
                assert child.exitcode is None and time.monotonic() < until
                time.sleep(0.02)
                so_far = kept.read(len(lines))
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            stuck.set()
            so_far = kept.read(len(lines))
            assert texts_of(uri, lines, kept) == _expected(numbers)
        assert so_far is not None and half - (1 << 17) < so_far.at <= half
        found = [one for one in so_far.results if one is not None]
        assert found == _expected([2, 60, 95])[: len(found)] and len(found) >= 4
        asked = [first for first, _ in sent[1:]]
        assert asked == {"": [so_far.at], "no parts": [so_far.at, 0], "another version": [so_far.at, 0]}[change]


def _read(uri: str, lines: list[MetadataLine], kept: Kept) -> None:
    common_crawl._KEPT_EVERY = common_crawl._BLOCK = _OFTEN
    texts_of(uri, lines, kept)


class HangingOn:
    """A handler that, behind what it writes, waits and does not hang up."""

    def __init__(self, handler: Any, until: threading.Event) -> None:
        self._handler, self._until = handler, until
        self.wfile = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()
        self._until.wait(20)


class TestTexts:
    def test_of_a_mirror_and_over_http(self, crawl: tuple[Path, list[str]]) -> None:
        folder, digests = crawl
        numbers = [150, 3, 77, 3]
        with serving_folder(folder) as served:
            for base in (str(folder), served.base):
                assert texts_of(wet_uri(NAME, base), _lines(digests, numbers)) == _expected(numbers)
            assert served.asked == [(NAME, "bytes=0-")]

    def test_no_more_is_read_than_is_needed(self, crawl: tuple[Path, list[str]], tmp_path: Path) -> None:
        digests = crawl[1]
        noise = np.random.default_rng(0).bytes(1 << 19).hex()
        write_wet(tmp_path / NAME, [*DOCUMENTS, Document("https://p.example/noise", noise)])
        data = (tmp_path / NAME).read_bytes()
        hung_up: list[bool] = []
        over = threading.Event()

        def halting(handler: Any, _: str) -> bool:
            """Send a part, and then nothing, until whoever asked has had enough."""
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            try:
                handler.wfile.write(data[: len(data) - 1000])
                handler.connection.settimeout(10)
                hung_up.append(handler.connection.recv(1) == b"")
            except TimeoutError:
                hung_up.append(False)
            except OSError:  # what was sent is not even read
                hung_up.append(True)
            handler.close_connection = True
            over.set()
            return True

        with serving_folder(tmp_path, halting) as served:
            assert texts_of(wet_uri(NAME, served.base), _lines(digests, [4])) == _expected([4])
            assert over.wait(20)
        assert hung_up == [True]

    @pytest.mark.parametrize("parts", [True, False])
    def test_a_broken_connection_goes_on(self, parts: bool, crawl: tuple[Path, list[str]]) -> None:
        folder, digests = crawl
        data = (folder / NAME).read_bytes()
        breaks = iter([700, 5000, 9000, None]) if not parts else iter([700, 1, 5000, None])

        def breaking(handler: Any, _: str) -> bool:
            send_file(handler, data, parts=parts, stop_after=next(breaks, None))
            return True

        with serving_folder(folder, breaking) as served:
            found = texts_of(wet_uri(NAME, served.base), _lines(digests, [0, 100, 199]))
        assert found == _expected([0, 100, 199])
        ranges = [asked for _, asked in served.asked]
        assert ranges[:2] == ["bytes=0-", "bytes=700-"]
        if parts:
            assert ranges == ["bytes=0-", "bytes=700-", "bytes=701-", "bytes=5701-"]

    def test_what_keeps_breaking_is_given_up(self, crawl: tuple[Path, list[str]]) -> None:
        folder, digests = crawl
        data = (folder / NAME).read_bytes()

        def breaking(handler: Any, _: str) -> bool:
            at_start = handler.headers.get("Range") == "bytes=0-"
            send_file(handler, data, stop_after=len(data) // 2 if at_start else 0)
            return True

        with serving_folder(folder, breaking) as served:
            found = texts_of(wet_uri(NAME, served.base), _lines(digests, [0, 199]))
        assert found[:2] == _expected([0])
        assert _reasons(found[2:]) == ["truncated", "truncated"]
        assert len(served.asked) < 40

    def test_a_file_that_became_another_is_not_mixed(self, crawl: tuple[Path, list[str]], tmp_path: Path) -> None:
        folder, digests = crawl
        write_wet(tmp_path / NAME, DOCUMENTS[::-1])
        versions = iter([((folder / NAME).read_bytes(), 3000), ((tmp_path / NAME).read_bytes(), None)])

        def changing(handler: Any, _: str) -> bool:
            data, stop = next(versions)
            send_file(handler, data, stop_after=stop)
            return True

        with serving_folder(folder, changing) as served:
            found = texts_of(wet_uri(NAME, served.base), _lines(digests, [199]))
        assert _reasons(found) == ["wet_changed"] * 2

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (lambda handler: handler.send_error(404), "wet_missing"),
            (lambda handler: handler.send_error(403), "unreadable"),
            (lambda handler: send_file(handler, b"<html>Log in</html>"), "wet_damaged"),
        ],
    )
    def test_the_reason_of_a_file_is_that_of_its_texts(
        self, fault: Callable[[Any], None], reason: str, crawl: tuple[Path, list[str]]
    ) -> None:
        def answer(handler: Any, _: str) -> bool:
            fault(handler)
            return True

        with serving_folder(crawl[0], answer) as served:
            found = texts_of(wet_uri(NAME, served.base), _lines(crawl[1], [1]))
        assert _reasons(found) == [reason] * 2
        assert re.search("wet.gz|record", str(found[0]))

    def test_addresses_of_this_machine_are_refused_unless_allowed(
        self, crawl: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(web_access, "_access", WebAccess())
        with serving_folder(crawl[0]) as served:
            found = texts_of(wet_uri(NAME, served.base), _lines(crawl[1], [1]))
            assert served.asked == []
        assert _reasons(found) == ["address_refused"] * 2

    def test_each_line_has_its_own_reason(self, crawl: tuple[Path, list[str]]) -> None:
        folder, digests = crawl
        good = _wanted(digests[5], 5, 2)
        lines = [
            good,
            _wanted("sha1:" + "A" * 32, 5, 2),
            _wanted("", 5, 2),
            _wanted(digests[6], 5, 2),  # of another record
            _wanted(digests[5].lower(), 5, 2),
            _wanted(digests[5].removeprefix("sha1:"), 5, 2),
        ]
        found = texts_of(str(folder / NAME), lines)
        assert _reasons(found) == ["found", "record_missing", "record_missing", "paragraph_changed", "found", "found"]
        assert _reasons(texts_of(str(folder / "none.wet.gz"), [good])) == ["wet_missing"]
        assert _reasons(texts_of(str(folder), [good])) == ["unreadable"]  # a folder
