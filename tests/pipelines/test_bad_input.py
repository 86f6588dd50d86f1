"""What is bad is set aside by name and reason, and the rest is mined; what cannot be used at all is one line."""

import gzip
import io
import json
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
import yaml

from seamlessalign import cli
from seamlessalign.pipelines.inputs import InputFile, cut_texts
from seamlessalign.pipelines.ledger import unbalanced
from seamlessalign.rows import SAMPLE_RATE, LedgerLine
from tests.pipelines.small_corpus import (
    ENGLISH,
    UNSPOKEN,
    Samples,
    SmallRun,
    hashes,
    mine,
    need_models,
    spoken,
    write_config,
)

ODD = 'it\'s "odd",\nthis näme.flac'

# (line, why it is dropped, or None); in the order of the file
LINES: list[tuple[bytes, str | None]] = [
    *((line.encode(), None) for line in ENGLISH),
    (b"", "empty_line"),
    (b"\t \xc2\xa0 ", "empty_line"),
    (b"The name\0 of this one is binary.", "nul"),
    (b"Caf\xe9 is written in another encoding here.", "invalid_utf8"),
    (b"A very long line. " * 6000, "too_long"),
    (b"x" * (3 << 20), "too_long"),  # beyond what is held in memory
    (ENGLISH[0].encode(), "duplicate"),
    (b"  " + ENGLISH[1].encode() + b" \r", "duplicate"),
    (b"1234 5678", "no_letters"),
    (b"ab", "too_short"),
    (b"Das Wetter in den Bergen wird morgen sehr schlecht sein.", "language_not_wanted"),
    (b"\xef\xbb\xbf" + UNSPOKEN[0].encode(), None),
]


@dataclass(frozen=True)
class BadRun:
    root: Path
    run: SmallRun

    def rows(self, table: str) -> list[dict[str, Any]]:
        files = sorted((self.run.folder / table).rglob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def quarantined(self, stage: str) -> list[tuple[str, str]]:
        entries = []
        for file in sorted((self.run.folder / "quarantine").glob(f"{stage}-*.jsonl")):
            entries += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert all(entry["detail"] for entry in entries)
        return [(entry["uri"].removeprefix(f"{self.root}/"), entry["reason"]) for entry in entries]

    def lines(self, stage: str) -> list[LedgerLine]:
        maps = ("dropped", "samples_dropped", "seconds", "models")
        rows = pq.ParquetFile(self.run.folder / "ledger.parquet").read().to_pylist()
        lines = [LedgerLine(**{**row, **{name: dict(row[name]) for name in maps}}) for row in rows]
        assert unbalanced(lines) == []
        return [line for line in lines if line.stage == stage]


def _encoded(samples: Samples, format: str, rate: int = SAMPLE_RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype="PCM_16")
    return buffer.getvalue()


def _compressible_lines() -> list[str]:
    choose = random.Random(5)
    words = ["river", "stone", "window", "market", "letter", "winter", "morning", "silver", "garden", "bridge"]
    return [f"The {choose.choice(words)} and the {choose.choice(words)} were seen {n} times." for n in range(400)]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> BadRun:
    need_models()
    root = tmp_path_factory.mktemp("bad input")
    audio, texts = root / "in", root / "texts"
    audio.mkdir()
    texts.mkdir()

    good = spoken("fra", (0, 1, 2))
    low = soxr.resample(spoken("fra", (3, 4)), SAMPLE_RATE, 8000)
    flac, wav = _encoded(good, "FLAC"), _encoded(good, "WAV")
    files = {
        "good.flac": flac,
        "truncated.flac": flac[: len(flac) * 2 // 3],
        "truncated.wav": wav[: len(wav) // 2],
        "empty.wav": b"",
        "letter.wav": b"Dear friend, this is a letter and no audio at all.\n" * 40,
        "silent.wav": _encoded(np.zeros(5 * SAMPLE_RATE, np.float32), "WAV"),
        "telephone.wav": _encoded(np.stack([low, low / 2], axis=1), "WAV", 8000),
        ODD: _encoded(spoken("fra", (5,)), "FLAC"),
    }
    for name, data in files.items():
        (audio / name).write_bytes(data)
    (audio / "dangling.wav").symlink_to(audio / "went away.wav")
    Path(os.fsdecode(bytes(audio) + b"/caf\xe9.flac")).write_bytes(flac)
    (root / "list.jsonl").write_text(
        '{"path": "nowhere.flac"}\n{"path": "in/good.flac"}\n{"path": half\n{"path": "\\ud800.wav"}\n'
    )

    (texts / "lines.txt").write_bytes(b"\n".join(line for line, _ in LINES))
    packed = gzip.compress("\n".join(_compressible_lines()).encode(), mtime=0)
    (texts / "cut.txt.gz").write_bytes(packed[: len(packed) // 2])
    (texts / "damaged.txt.gz").write_bytes(packed[:20] + bytes(200) + packed[220:])
    (texts / "letter.txt.gz").write_bytes(b"This was never compressed.\n")
    (texts / "nothing.txt").write_bytes(b"")

    config = write_config(
        root / "run.yaml",
        speech={"inputs": ["in", "gone.wav", "list.jsonl"], "lang": "fra", "recordings_per_shard": 4},
        text={"inputs": ["texts", "gone.txt"]},
    )
    return BadRun(root, mine(config, root / "run", "directions=[eng-frA]"))


@pytest.mark.embedded
class TestBadFiles:
    def test_the_run_is_done_and_says_so(self, bad: BadRun) -> None:
        assert bad.run.status == 3, bad.run.err
        assert "seamlessalign:" not in bad.run.err and "Traceback" not in bad.run.err
        number = len(bad.quarantined("speech")) + len(bad.quarantined("text"))
        assert f"{number} inputs could not be read: {bad.run.folder}/quarantine says which" in bad.run.out

    def test_every_recording_is_accounted_for_once(self, bad: BadRun) -> None:
        aside = bad.quarantined("speech")
        assert sorted(aside) == sorted(
            [
                ("in/truncated.flac", "truncated"),
                ("in/truncated.wav", "truncated"),
                ("in/empty.wav", "empty"),
                ("in/letter.wav", "not_audio"),
                ("in/dangling.wav", "missing"),
                ("in/caf\\xe9.flac", "missing"),
                ("gone.wav", "missing"),
                ("nowhere.flac", "missing"),
                ("list.jsonl#line=3", "missing"),
                ("list.jsonl#line=4", "missing"),
            ]
        )
        rows = {row["uri"].removeprefix(f"{bad.root}/"): row["drop_reason"] for row in bad.rows("recordings")}
        assert rows == {
            "in/good.flac": None,
            "in/telephone.wav": None,
            f"in/{ODD}": None,
            "in/silent.wav": "no_speech",
        }
        names = [os.fsencode(path.name) for path in (bad.root / "in").iterdir()]
        on_disk = {f"in/{name.decode(errors='backslashreplace')}" for name in names}
        assert on_disk == {name for name, _ in aside if name.startswith("in/")} | set(rows)

    def test_recordings_are_counted(self, bad: BadRun) -> None:
        lines = bad.lines("recordings")
        dropped = sum((Counter(line.dropped) for line in lines), Counter[str]())
        assert dropped == {"truncated": 2, "empty": 1, "not_audio": 1, "missing": 6, "no_speech": 1}
        assert sum(line.rows_in for line in lines) == 14 and sum(line.rows_kept for line in lines) == 3
        assert sum(line.quarantined for line in lines) == 10

    def test_what_is_good_is_mined(self, bad: BadRun) -> None:
        origin = {row["uri"]: row for row in bad.rows("recordings")}
        telephone = origin[str(bad.root / "in" / "telephone.wav")]
        assert (telephone["original_sample_rate"], telephone["channels"]) == (8000, 2)
        segments = Counter(Path(row["uri"]).name for row in bad.rows("segments"))
        assert set(segments) == {"good.flac", "telephone.wav", ODD}
        assert bad.rows("corpus")
        for row in bad.rows("corpus"):
            samples, _ = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]))
            assert len(samples) == row["tgt_end"] - row["tgt_start"]

    def test_every_line_of_text_is_accounted_for_once(self, bad: BadRun) -> None:
        place = str(bad.root / "texts" / "lines.txt")
        kept = {row["position"]: row["text"] for row in bad.rows("sentences") if row["document_id"] == place}
        assert kept == {n: line.decode("utf-8-sig").strip() for n, (line, reason) in enumerate(LINES) if reason is None}
        (line,) = [line for line in bad.lines("sentences") if line.rows_in == len(LINES)]
        assert line.dropped == Counter(reason for _, reason in LINES if reason is not None)
        aside = [(uri, reason) for uri, reason in bad.quarantined("text") if uri.startswith("texts/lines.txt")]
        numbered = enumerate(LINES, start=1)
        assert aside == [(f"texts/lines.txt#line={n}", r) for n, (_, r) in numbered if r in ("nul", "invalid_utf8")]

    def test_damaged_text_files_are_named_and_their_whole_lines_kept(self, bad: BadRun) -> None:
        aside = [(uri, reason) for uri, reason in bad.quarantined("text") if "lines.txt" not in uri]
        damaged = ["cut.txt.gz", "damaged.txt.gz", "letter.txt.gz"]
        assert sorted(aside) == [("gone.txt", "missing"), *((f"texts/{name}", "unreadable") for name in damaged)]
        told = _compressible_lines()
        kept = [row for row in bad.rows("sentences") if row["document_id"].endswith("cut.txt.gz")]
        assert 100 < len(kept) < 300
        assert all(row["text"] == told[row["position"]] for row in kept)

    def test_again_it_says_the_same_and_does_nothing(self, bad: BadRun, capsys: pytest.CaptureFixture[str]) -> None:
        before = hashes(bad.run.folder)
        assert any(name.startswith("quarantine/") for name in before)
        arguments = [str(bad.run.config), "--output", str(bad.run.folder), "directions=[eng-frA]"]
        assert cli.main(["run", *arguments]) == 3
        assert "0 were done now" in capsys.readouterr().out
        assert hashes(bad.run.folder) == before


def test_a_text_that_goes_away_before_it_is_cut_is_left_to_its_shard(tmp_path: Path) -> None:
    gone = InputFile(str(tmp_path / "gone.txt"), "1")
    assert [shard.files for shard in cut_texts([gone], 10)] == [(gone,)]


def _config(folder: Path, **changes: Any) -> Path:
    """A configuration whose inputs are there, with changed keys."""
    (folder / "audio").mkdir()
    (folder / "audio" / "a.wav").write_bytes(b"")
    (folder / "t.txt").write_text("A sentence.\n")
    config = {"directions": ["eng-frA"], "speech": {"inputs": ["audio"]}, "text": {"inputs": ["t.txt"]}, **changes}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the program says when it refuses; fails unless it is one line with status 2."""
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("seamlessalign: ") and shown.err.count("\n") == 1, shown.err
    return shown.err


class TestBadConfiguration:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"minning": {"k": 4}}, "unknown key 'minning'; did you mean 'mining'?"),
            ({"mining": {"kk": 4}}, "unknown key 'mining.kk'; did you mean 'k'?"),
            ({"directions": ["eng-xxA"]}, "directions.0"),
            ({"directions": ["eng-fra"]}, "directions.0"),
            ({"directions": []}, "directions"),
            ({"directions": ["eng-frA", "eng-frA"]}, "one is listed twice"),
            ({"mining": {"k": "many"}}, "mining.k: "),
            ({"mining": 3}, "mining: "),
            ({"speech": {"inputs": []}}, "speech.inputs is empty"),
            ({"text": {"inputs": []}}, "text.inputs is empty"),
            ({"speech": {"inputs": ["none", "gone.wav"]}}, "speech.inputs: nothing to read"),
            ({"speech": {"inputs": ["list.jsonl"]}}, "there is no such manifest"),
            ({"text": {"inputs": ["none/*.txt"]}}, "text.inputs: nothing to read"),
            ({"models": {"wisper-base": "m"}}, "there is no model 'wisper-base'"),
        ],
    )
    def test_it_is_told_in_one_line(
        self, tmp_path: Path, changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = _config(tmp_path, **changes)
        before = sorted(tmp_path.rglob("*"))
        assert told in _refused(["run", str(config), "--output", str(tmp_path / "out")], capsys)
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.embedded
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"models": {"whisper-base": "nowhere"}}, "nowhere"),
            ({"speech": {"inputs": ["audio"], "embedder": "sonor"}}, "sonor"),
            ({"text": {"inputs": ["t.txt"], "embedder": "e6-small"}}, "e6-small"),
            ({"speech": {"inputs": ["audio"], "lid": {"model": "whispr"}}}, "whispr"),
            ({"text": {"inputs": ["t.txt"], "lid": {"model": "fastext"}}}, "fastext"),
        ],
    )
    def test_models_that_there_are_not(
        self, tmp_path: Path, changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        need_models()
        config = _config(tmp_path, **changes)
        before = sorted(tmp_path.rglob("*"))
        assert told in _refused(["run", str(config), "--output", str(tmp_path / "out")], capsys)
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("text", [None, "", "- a\n- b\n", "a: [b\n", "\x00", "a: 2024-99-99\n"])
    def test_a_file_that_is_no_configuration(
        self, tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = tmp_path / "run.yaml"
        if text is not None:
            config.write_text(text)
        assert str(config) in _refused(["run", str(config), "--output", str(tmp_path / "out")], capsys)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("override", ["mining.k", "=3", "mining.k.x=3", "mining.k=[1", "speech.vad.treshold=1"])
    def test_a_bad_override(self, tmp_path: Path, override: str, capsys: pytest.CaptureFixture[str]) -> None:
        config = _config(tmp_path)
        _refused(["run", str(config), override, "--output", str(tmp_path / "out")], capsys)
        assert not (tmp_path / "out").exists()


@pytest.mark.embedded
class TestUnwritableOutput:
    @pytest.fixture(autouse=True)
    def _models(self) -> None:
        need_models()

    def test_no_output_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--output DIR" in _refused(["run", str(_config(tmp_path))], capsys)

    @pytest.mark.parametrize("below", ["t.txt", "t.txt/run", "audio/a.wav/x/y"])
    def test_below_a_file(self, tmp_path: Path, below: str, capsys: pytest.CaptureFixture[str]) -> None:
        config = _config(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        told = _refused(["run", str(config), "--output", str(tmp_path / below)], capsys)
        assert str(tmp_path / below) in told and "cannot be written" in told
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "t.txt").read_text() == "A sentence.\n"

    @pytest.mark.parametrize("place", ["/proc/run", "/dev/null/run"])
    def test_where_nobody_can_write(self, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
        told = _refused(["run", str(_config(tmp_path)), "--output", place], capsys)
        assert place in told and "cannot be written" in told
