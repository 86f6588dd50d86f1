"""Metadata written from a run: each column against the run's tables, and the same lines read again."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign.cli import main
from seamlessalign.errors import InputError
from seamlessalign.pipelines.published.pairing import pair_up, read_pairs
from seamlessalign.pipelines.published.writing import WrittenMetadata, file_name, told, write_metadata
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import PAIRS, RECORDINGS, sentences_schema
from tests.pipelines.published.made_metadata import digest

RECORDING = {
    "recording_id": "r", "uri": "", "sha256": "", "num_samples": 0, "original_sample_rate": 16_000, "channels": 1,
    "lang": "fra", "lang_prob": 1.0, "speech_samples": 1, "license": None, "source": None, "drop_reason": None,
}  # fmt: skip
PAIR = {
    "src_lang": "eng", "tgt_lang": "fra", "src_text": None, "tgt_text": None, "src_uri": None, "src_start": None,
    "src_end": None, "tgt_uri": None, "tgt_start": None, "tgt_end": None, "margin": 1.2, "cosine": 0.8,
    "forward_rank": 0, "backward_rank": 0, "precision_estimate": None, "kept": True, "drop_reason": None,
}  # fmt: skip


Run = tuple[str, list[dict[str, Any]], dict[str, int]]


def make_run(
    root: Path, direction: str, pairs: list[dict[str, Any]], recordings: dict[str, int], texts: dict[str, float]
) -> str:
    """A run's tables: recordings by id with their samples, sentences by id with the probability of their language."""
    for table in ("recordings", "sentences/lang=eng", f"pairs/direction={direction}"):
        (root / table).mkdir(parents=True)
    rows = [{**RECORDING, "recording_id": name, "num_samples": samples} for name, samples in recordings.items()]
    pq.write_table(pa.Table.from_pylist(rows, RECORDINGS), root / "recordings/part-00000.parquet")
    sentences = [
        {"sentence_id": name, "text": "x", "lang": "eng", "lang_prob": value, "document_id": "d", "position": 0,
         "embedding": [0.0, 1.0]}
        for name, value in texts.items()
    ]  # fmt: skip
    table = pa.Table.from_pylist(sentences, sentences_schema(2))
    pq.write_table(table, root / "sentences/lang=eng/part-00000.parquet")
    full = [{"pair_id": f"{number:016x}", "direction": direction, **PAIR, **pair} for number, pair in enumerate(pairs)]
    pq.write_table(pa.Table.from_pylist(full, PAIRS), root / f"pairs/direction={direction}/part-00000.parquet")
    return str(root)


def _written(run: str, to: Path, **options: Any) -> list[WrittenMetadata]:
    with RunTables(run) as tables:
        return write_metadata(tables, str(to), [], **options)


def _lines(uri: str) -> list[list[str]]:
    return [line.split("\t") for line in gzip.decompress(Path(uri).read_bytes()).decode().splitlines()]


TEXT_AND_SPEECH = {
    "src_id": "s1", "src_text": "The rain, again.", "tgt_id": "r1:32000-64000", "tgt_uri": "https://a.example/a b.mp3",
    "tgt_start": 32_000, "tgt_end": 64_000, "margin": 1.1922385,
}  # fmt: skip
TWO_SPEECHES = {
    "src_id": "r1:0-17000", "src_uri": "http://a.example/%20x.mp3", "src_start": 0, "src_end": 17_000,
    "tgt_id": "r2:5-16005", "tgt_uri": "shards/a.tar::b/c.flac", "tgt_start": 5, "tgt_end": 16_005,
}  # fmt: skip


class TestColumns:
    def test_of_text_and_speech(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", "eng-frA", [TEXT_AND_SPEECH], {"r1": 6_057_216}, {"s1": 0.75})
        (done,) = _written(run, tmp_path / "out")
        assert Path(done.uri).name == "seamless.dataset.metadata.public.eng-frA.tsv.gz"
        assert _lines(done.uri) == [
            ["", "", "", "", "", str(digest("The rain, again.")), "0.75", "1.1922385", "eng-frA", "eng", "0"],
            [
                "",
                "",
                "https://a.example/a b.mp3 32000 64000",
                "",
                "378.576",
                "0",
                "0.0",
                "1.1922385",
                "eng-frA",
                "frA",
                "0",
            ],
        ]
        assert (done.pairs, done.own_addresses, done.texts_without_source, done.unknown_durations) == (1, 0, 1, 0)

    def test_of_speech_at_addresses_of_ones_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        run = make_run(tmp_path / "run", "enA-frA", [TWO_SPEECHES], {"r1": 160_001}, {})
        (done,) = _written(run, tmp_path / "out")
        src, tgt = _lines(done.uri)
        assert src[2] == "http://a.example/%20x.mp3 0 17000"
        assert src[4] == repr(160_001 / 16_000)
        assert tgt[2] == f"{tmp_path}/shards/a.tar::b/c.flac 5 16005"
        assert tgt[4] == "0"  # as in the first releases, where none was known
        assert (done.own_addresses, done.unknown_durations) == (1, 1)
        assert any("1 pairs have speech at addresses of this machine" in line for line in told([done]))

    def test_a_channel_is_an_address_of_ones_own(self, tmp_path: Path) -> None:
        pair = {**TEXT_AND_SPEECH, "tgt_uri": "https://a.example/a.mp3#channel=1", "tgt_id": "r1.1:32000-64000"}
        run = make_run(tmp_path / "run", "eng-frA", [pair], {"r1.1": 160_000}, {"s1": 0.75})
        (done,) = _written(run, tmp_path / "out")
        assert _lines(done.uri)[1][2:5:2] == ["https://a.example/a.mp3#channel=1 32000 64000", "10.0"]
        assert done.own_addresses == 1

    def test_languages_whose_code_the_published_files_use_otherwise(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", "eng-tgA", [{**TEXT_AND_SPEECH, "tgt_lang": "tgk"}], {}, {})
        (done,) = _written(run, tmp_path / "out")
        assert [line[8:10] for line in _lines(done.uri)] == [["eng-tgkA", "eng"], ["eng-tgkA", "tgkA"]]
        assert done.uri.endswith(file_name("eng-tgkA"))

    def test_what_no_line_can_hold_is_counted(self, tmp_path: Path) -> None:
        bad = ["https://a.example/a\tb.mp3", "https://me:secret-word@a.example/a.mp3", "https://a.example/a\nb.mp3"]
        pairs = [TEXT_AND_SPEECH, *({**TEXT_AND_SPEECH, "tgt_uri": uri} for uri in bad)]
        (done,) = _written(make_run(tmp_path / "run", "eng-frA", pairs, {}, {}), tmp_path / "out")
        assert (done.chosen, done.pairs) == (4, 1)
        assert done.refused == {"line_end_in_address": 2, "secret_in_address": 1}
        assert len(_lines(done.uri)) == 2
        assert "secret-word" not in str(_lines(done.uri))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with many pairs, of which some were rejected, these pairs, and the samples of its recordings."""
    random = np.random.default_rng(3)
    recordings = {f"r{number}": int(random.integers(10**6, 10**8)) for number in range(9)}
    pairs = []
    for number in range(150):
        recording, start, text = (
            f"r{number % 9}",
            int(random.integers(0, 900_000)),
            f"Sentence {number}, „said“\u2028so.",
        )
        end = start + int(random.integers(16_000, 99_000))
        pairs.append(
            {
                **PAIR, "pair_id": f"{number * 7919:016x}", "margin": 1.1 + 0.1 * (number % 4),
                "src_id": f"s{number}", "src_text": text, "tgt_id": f"{recording}:{start}-{end}", "tgt_start": start,
                "tgt_end": end, "tgt_uri": f"https://a.example/{recording}.mp3", "kept": number % 3 > 0,
            }
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    return make_run(folder, "eng-frA", pairs, recordings, {f"s{n}": 0.5 for n in range(150)}), pairs, recordings


class TestARun:
    def test_comes_back_pair_by_pair(self, run: Run, tmp_path: Path) -> None:
        root, pairs, samples = run
        (done,) = _written(root, tmp_path / "out")
        kept = sorted((row for row in pairs if row["kept"]), key=lambda row: (-row["margin"], row["pair_id"]))
        assert (done.chosen, done.pairs) == (100, 100)
        paired = pair_up([done.uri], str(tmp_path / "pairs"), str(tmp_path / "aside"))
        assert (paired.lines, paired.pairs, paired.set_aside) == (200, 100, {})
        for number, (row, pair) in enumerate(zip(kept, read_pairs(str(tmp_path / "pairs")), strict=True)):
            assert pair.line_no == number
            place = (pair.tgt.url, pair.tgt.start_frame, pair.tgt.end_frame)
            assert place == (row["tgt_uri"], row["tgt_start"], row["tgt_end"])
            assert pair.tgt.duration is not None
            assert pair.tgt.duration * 16_000 == samples[row["tgt_id"].split(":")[0]]
            assert pair.src.sentence_digest == digest(row["src_text"])
            assert np.float32(pair.src.laser_score) == np.float32(row["margin"])
            assert (pair.src.lang, pair.tgt.lang) == ("eng", "fra")

    def test_equal_runs_give_equal_bytes(self, run: Run, tmp_path: Path) -> None:
        sums = []
        for name in ("one", "two"):
            written = _written(run[0], tmp_path / name)
            sums.append([hashlib.sha256(Path(done.uri).read_bytes()).hexdigest() for done in written])
        assert sums[0] == sums[1]
        assert Path(written[0].uri).read_bytes()[3:8] == b"\0" * 5  # no name, no time

    def test_whoever_chooses_is_asked(self, run: Run, tmp_path: Path) -> None:
        wanted = [row for row in run[1] if not row["kept"]][:7]
        (done,) = _written(run[0], tmp_path / "out", choose=lambda _: pa.array([row["pair_id"] for row in wanted]))
        assert {line[5] for line in _lines(done.uri)[::2]} == {str(digest(row["src_text"])) for row in wanted}

    def test_the_command_says_what_was_not_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pairs = [TEXT_AND_SPEECH, {**TEXT_AND_SPEECH, "tgt_uri": "https://a.example/a\tb.mp3"}]
        root = make_run(tmp_path / "run", "eng-frA", pairs, {"r1": 160_000}, {"s1": 0.5})
        command = ["export", root, "--to", str(tmp_path / "out"), "--format", "seamlessalign-tsv", "--labels", "ignore"]
        assert main(command) == 3
        told = capsys.readouterr().out
        assert "eng-frA: 1 pairs, 2 lines" in told
        assert "not written: 1 (line_end_in_address)" in told

    def test_a_folder_with_something_else_is_left_alone(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(InputError, match=r"thesis.txt"):
            _written(run[0], tmp_path)
        with RunTables(run[0]) as tables, pytest.raises(InputError, match="no direction 'eng-itA'"):
            write_metadata(tables, str(tmp_path / "out"), ["eng-itA"])
