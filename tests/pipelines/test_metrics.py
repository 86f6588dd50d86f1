"""Metrics of a run: text that a strict reader of Prometheus' format takes, with the ledger's numbers, over HTTP."""

import http.client
import json
import math
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import cli
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import Mark, Tally, write_ledger, write_mark, write_plan
from seamlessalign.pipelines.metrics import CONTENT_TYPE, Asked, metrics_text, open_server, parse_address
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.status import read_status
from tests.pipelines.small_corpus import command, complaint, environment

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
AWKWARD = 'odd "reason" \\ of\ntwo lines'


@dataclass
class Family:
    """The samples under one name."""

    kind: str
    samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def of(self, **labels: str) -> float:
        """The sum of all samples with these labels."""
        return sum(value for key, value in self.samples.items() if labels.items() <= dict(key).items())


def parse(page: str) -> dict[str, Family]:
    """The text format, version 0.0.4, strictly: HELP, TYPE, then the samples of that name, none of them twice."""
    assert page.endswith("\n") and "\r" not in page
    families: dict[str, Family] = {}
    helped, name = "", ""
    for line in page[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped, about = line[7:].split(" ", 1)
            assert NAME.fullmatch(helped) and about and helped not in families, line
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == helped and kind in ("counter", "gauge", "histogram", "summary", "untyped"), line
            families[name] = Family(kind)
        else:
            found = re.fullmatch(r"([^{ ]+)(?:\{(.*)\})? (\S+)", line)
            assert found and found[1] == name, line
            labels, rest = [], found[2] or ""
            while rest:
                label = LABEL.match(rest)
                assert label, line
                text = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), label[2])
                labels.append((label[1], text))
                rest = rest[label.end() :]
                assert not rest or rest.startswith(","), line
                rest = rest.removeprefix(",")
            assert len(dict(labels)) == len(labels) and tuple(labels) not in families[name].samples, line
            value = float(found[3])
            assert math.isfinite(value), line
            families[name].samples[tuple(labels)] = value
    assert all(family.samples for family in families.values())
    return families


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run of three shards."""
    folder = RunFolder(str(tmp_path / "run"))
    (tmp_path / "run" / "state").mkdir(parents=True)
    (tmp_path / "run" / "run.yaml").write_text("name: x\n")
    write_plan(folder, "speech", {"part-00000": "d", "part-00001": "d"})
    write_plan(folder, "text", {"part-00000": "d", "part-00001": "d"})
    for shard, rows in (("part-00000", 3), ("part-00001", 5)):
        recordings, segments = Tally(), Tally()
        recordings.keep(rows, 16_000 * 3600 * rows)
        recordings.drop("not_audio", 2, quarantined=True)
        segments.keep(10 * rows, 16_000 * rows)
        segments.drop("no_words", rows, 8_000)
        lines = [
            recordings.line("recordings", shard, digest="d", seconds={"vad": 1.5, "load models": 2.0}),
            segments.line("segments", shard, digest="d"),
        ]
        write_mark(folder, Mark("speech", shard, "d", [], lines, "2026-11-29T12:00:00+00:00", 30.0, "node1"))
    sentences = Tally()
    sentences.keep(7)
    sentences.drop(AWKWARD, 2)
    line = sentences.line("sentences", "part-00000", digest="d")
    write_mark(folder, Mark("text", "part-00000", "d", [], [line]))
    Progress(folder, "text", 1.0).finish()
    return folder


def test_metrics_are_the_ledger(folder: RunFolder) -> None:
    lines = write_ledger(folder, ["speech", "text"])
    status = read_status(folder.root)
    page = parse(metrics_text(status, 1234.5))
    for stage in ("recordings", "segments", "sentences"):
        ours = [line for line in lines if line.stage == stage]
        rows = page["seamlessalign_rows"]
        assert rows.of(stage=stage, state="in") == sum(line.rows_in for line in ours)
        assert rows.of(stage=stage, state="kept") == sum(line.rows_kept for line in ours)
        assert rows.of(stage=stage, state="in") == rows.of(stage=stage, state="kept") + rows.of(
            stage=stage, state="dropped"
        )
        for reason in {reason for line in ours for reason in line.dropped}:
            assert rows.of(stage=stage, state="dropped", reason=reason) == sum(
                line.dropped.get(reason, 0) for line in ours
            )
        hours = page["seamlessalign_audio_hours"]
        assert hours.of(stage=stage, state="in") == sum(line.samples_in for line in ours) / 16_000 / 3600
        assert hours.of(stage=stage, state="kept") + hours.of(stage=stage, state="dropped") == pytest.approx(
            hours.of(stage=stage, state="in")
        )
    assert page["seamlessalign_rows"].of(reason=AWKWARD) == 2
    assert page["seamlessalign_quarantined"].of() == sum(line.quarantined for line in lines) == 4
    assert page["seamlessalign_step_seconds"].of(stage="speech", step="vad") == 3.0
    assert page["seamlessalign_wall_seconds"].of(stage="speech") == 60.0
    shards = page["seamlessalign_shards"]
    assert (shards.of(stage="text", state="done"), shards.of(stage="text", state="waiting")) == (1, 1)
    for stage in ("speech", "text"):
        assert shards.of(stage=stage) == page["seamlessalign_shards_planned"].of(stage=stage) == 2
    assert page["seamlessalign_run_state"].of() == page["seamlessalign_run_state"].of(state=status["state"]) == 1
    assert page["seamlessalign_status_timestamp_seconds"].of() == 1234.5
    assert page["seamlessalign_shards_per_hour"].of(stage="speech", over="overall") == 240.0
    assert page["seamlessalign_eta_seconds"].of(stage="speech") == 0.0
    assert all(name.startswith("seamlessalign_") for name in page)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_any_reason_comes_through(reason: str) -> None:
    counts: dict[str, Any] = {
        "rows_in": 1, "rows_kept": 0, "dropped": {reason: 1}, "hours_in": 0.0, "hours_kept": 0.0, "hours_dropped": {}
    }  # fmt: skip
    numbers = {
        "shards": 1, "done": 1, "running": [], "failed": [], "lost": [], "waiting": 0, "tables": {"pairs": counts},
        "seconds": {}, "wall_seconds": 0.0, "speed": {"overall": None, "recent": None}, "eta_seconds": None,
    }  # fmt: skip
    status: dict[str, Any] = {
        "state": "done",
        "heard_seconds": None,
        "stages": {"mine": numbers},
        "quarantined": 0,
        "unbalanced": [],
    }
    page = parse(metrics_text(status, 0.0))
    assert page["seamlessalign_rows"].of(state="dropped", reason=reason) == 1
    assert "seamlessalign_eta_seconds" not in page and "seamlessalign_driver_heard_seconds" not in page


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ("twice", "# HELP a b\n# TYPE a gauge\na 1\na 1\n"),
        ("no type", "a 1\n"),
        ("no end", "# HELP a b\n# TYPE a gauge\na 1"),
        ("another name", "# HELP a b\n# TYPE a gauge\nb 1\n"),
        ("a bare quote", '# HELP a b\n# TYPE a gauge\na{x="y"z"} 1\n'),
        ("no number", "# HELP a b\n# TYPE a gauge\na one\n"),
        ("no samples", "# HELP a b\n# TYPE a gauge\n"),
    ],
)
def test_the_reader_is_strict(broken: str, line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        parse(line)


@contextmanager
def _served(root: str) -> Iterator[str]:
    server = open_server(Asked(root), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _get(address: str) -> tuple[int, str, str]:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_over_http(folder: RunFolder) -> None:
    with _served(folder.root) as address:
        code, kind, page = _get(f"{address}/metrics")
        assert (code, kind) == (200, CONTENT_TYPE) and CONTENT_TYPE.startswith("text/plain; version=0.0.4")
        assert parse(page)["seamlessalign_rows"].of(stage="recordings", state="in") == 12
        code, kind, page = _get(f"{address}/status.json")
        assert (code, kind) == (200, "application/json")
        told, status = json.loads(page), read_status(folder.root)
        told.pop("heard_seconds"), status.pop("heard_seconds")
        assert told == status
        with pytest.raises(urllib.error.HTTPError, match="404"):
            _get(f"{address}/else")
        request = urllib.request.Request(f"{address}/metrics", method="HEAD")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200 and answer.read() == b"" and int(answer.headers["Content-Length"]) > 100
        assert all(one[0] == 200 for one in _many(f"{address}/metrics"))
        for name, wanted in (
            ("localhost:9100", 200),
            ("[::1]:9100", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil", 403),
        ):
            asked = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
            asked.request("GET", "/status.json", headers={"Host": name})  # as a page whose name leads here does
            assert asked.getresponse().status == wanted, name


def _many(address: str) -> list[tuple[int, str, str]]:
    answers: list[tuple[int, str, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(_get(address))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    return answers


def test_a_run_that_cannot_be_read_is_told_as_such(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamlessalign.pipelines.metrics._AGE_SECONDS", (0.0, 0.0))
    with _served(folder.root) as address:
        assert _get(f"{address}/metrics")[0] == 200
        Path(folder.heartbeat).write_text("{half")
        with pytest.raises(urllib.error.HTTPError) as error:
            _get(f"{address}/metrics")
        assert error.value.code == 503 and "progress.json: is not JSON" in error.value.read().decode()


def test_a_scrape_does_not_read_the_folder_again_at_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamlessalign.pipelines.metrics._AGE_SECONDS", (3600.0, 3600.0))
    asked = Asked(folder.root)
    first, at = asked.status()
    write_plan(folder, "decoys", {})
    assert asked.status() == (first, at)


def test_the_program_serves_until_ctrl_c(folder: RunFolder) -> None:
    process = subprocess.Popen(
        command("status", folder.root, "--serve", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", address)
        assert parse(_get(address)[2])["seamlessalign_quarantined"].of() == 4
        taken = subprocess.run(
            command("status", folder.root, "--serve", address.split("/")[2]), capture_output=True, text=True,
            env=environment(), timeout=120,
        )  # fmt: skip
        assert taken.returncode == 2 and taken.stdout == ""
        assert re.match(r"seamlessalign: --serve: cannot listen on 127\.0\.0\.1:\d+: .*; give another port$",
                        complaint(taken.stderr))  # fmt: skip
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("9108", ("127.0.0.1", 9108)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9108", ("::1", 9108)),
        ("node7:1", ("node7", 1)),
    ],
)
def test_addresses(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", "x", ":80", "65536", "-1", "host:", "1.5", "²"])
def test_addresses_that_are_none(folder: RunFolder, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="write"):
        parse_address(address)
    assert cli.main(["status", folder.root, f"--serve={address}"]) == 2
    assert "such as 9108" in complaint(capsys.readouterr().err)


def test_another_address_family(folder: RunFolder) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = open_server(Asked(folder.root), "::1", 0)
    try:
        assert server.socket.family == socket.AF_INET6
        with socket.create_connection(("::1", server.server_address[1]), timeout=20):
            pass
    finally:
        server.server_close()


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        Asked(str(tmp_path)).status()
    assert cli.main(["status", str(tmp_path), "--serve", "0"]) == 2
    assert "is not the folder of a run" in complaint(capsys.readouterr().err)
