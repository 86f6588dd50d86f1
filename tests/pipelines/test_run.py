"""A whole run on real speech: its tables, ids, counts, audio, and what the program says meanwhile."""

import hashlib
import io
import itertools
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import xxhash
import yaml

from seamlessalign.audio import decode
from seamlessalign.embedders import load_card
from seamlessalign.pipelines.ledger import unbalanced
from seamlessalign.rows import CORPUS, LEDGER, PAIRS, RECORDINGS, LedgerLine, segments_schema, sentences_schema
from tests.pipelines.small_corpus import ENGLISH, TABLES, UNSPOKEN, SmallRun, finished_run, program

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


def _read(file: Path) -> pa.Table:
    return pq.ParquetFile(file).read()  # the file alone: no column from the names of its folders


def _rows(run: SmallRun, table: str) -> list[dict[str, Any]]:
    return [row for file in sorted((run.folder / table).rglob("*.parquet")) for row in _read(file).to_pylist()]


def _ledger(run: SmallRun) -> list[LedgerLine]:
    rows = _read(run.folder / "ledger.parquet").to_pylist()
    maps = ("dropped", "samples_dropped", "seconds", "models")
    return [LedgerLine(**{**row, **{name: dict(row[name]) for name in maps}}) for row in rows]


def test_it_says_nothing_but_how_far_it_is(run: SmallRun) -> None:
    for line in run.err.splitlines():
        stages = "speech|text|decoys|gather|search|mine|corpus"
        assert re.match(rf"({stages}) +(\[[█░]+\] +\d+% +)?[\d.]+(/[\d.]+)? ", line), line
    assert "recordings" in run.out and str(run.folder / "report.html") in run.out
    assert (run.folder / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_every_table_has_its_schema(run: SmallRun) -> None:
    dim = load_card("e5-small").dim
    schemas = {
        "recordings": RECORDINGS,
        "segments": segments_schema(dim),
        "sentences": sentences_schema(dim),
        "pairs": PAIRS,
        "corpus": CORPUS,
    }
    assert set(schemas) == set(TABLES)
    for name, schema in schemas.items():
        files = sorted((run.folder / name).rglob("*.parquet"))
        assert files, name
        for file in files:
            assert _read(file).schema.equals(schema, check_metadata=False), file
            assert b"seamlessalign.digest" in pq.read_schema(file).metadata, file
    assert pq.read_schema(run.folder / "ledger.parquet").equals(LEDGER, check_metadata=False)


def test_tables_are_parted_by_language_and_direction(run: SmallRun) -> None:
    for table, key, column in (
        ("segments", "lang", "lang"),
        ("sentences", "lang", "lang"),
        ("pairs", "direction", "direction"),
        ("corpus", "direction", "direction"),
    ):
        for file in (run.folder / table).rglob("*.parquet"):
            values = _read(file).column(column).unique().to_pylist()
            assert [f"{key}={value}" for value in values] == [file.parent.name], file


def test_the_counts_balance_and_are_those_of_the_tables(run: SmallRun) -> None:
    lines = _ledger(run)
    assert unbalanced(lines) == []
    rows_in, kept = Counter[str](), Counter[str]()
    for line in lines:
        rows_in[line.stage] += line.rows_in
        kept[line.stage] += line.rows_kept
    pairs = _rows(run, "pairs")
    assert rows_in["recordings"] == len(_rows(run, "recordings")) == 5
    assert kept["recordings"] == 4
    assert kept["segments"] == len(_rows(run, "segments"))
    assert rows_in["sentences"] == len(ENGLISH) + len(UNSPOKEN) + 1
    assert kept["sentences"] == len(_rows(run, "sentences"))
    assert rows_in["pairs"] == len(pairs)
    assert kept["pairs"] == sum(pair["kept"] for pair in pairs) == kept["corpus"] == len(_rows(run, "corpus"))


def test_samples_are_counted_as_rows_are(run: SmallRun) -> None:
    lines = _ledger(run)
    recordings, segments = _rows(run, "recordings"), _rows(run, "segments")
    counted = {
        stage: sum(line.samples_in for line in lines if line.stage == stage) for stage in ("recordings", "pairs")
    }
    assert counted["recordings"] == sum(row["num_samples"] for row in recordings)
    kept = sum(line.samples_kept for line in lines if line.stage == "segments")
    assert kept == sum(row["end"] - row["start"] for row in segments)


def test_ids_are_those_of_the_content(run: SmallRun) -> None:
    recordings = {row["uri"]: row for row in _rows(run, "recordings")}
    for uri, row in recordings.items():
        sha256 = hashlib.sha256(Path(uri).read_bytes()).hexdigest()
        assert (row["sha256"], row["recording_id"]) == (sha256, sha256[:16])
    segments = _rows(run, "segments")
    for row in segments:
        assert row["recording_id"] == recordings[row["uri"]]["recording_id"]
        assert row["segment_id"] == f"{row['recording_id']}:{row['start']}-{row['end']}"
        assert 0 <= row["start"] < row["end"] <= recordings[row["uri"]]["num_samples"]
    assert len({row["segment_id"] for row in segments}) == len(segments)
    for row in _rows(run, "sentences"):
        normal = unicodedata.normalize("NFC", row["text"])
        assert row["sentence_id"] == xxhash.xxh3_64(f"{normal}\n{row['lang']}".encode()).hexdigest()
    known = {row["segment_id"] for row in segments} | {row["sentence_id"] for row in _rows(run, "sentences")}
    for row in _rows(run, "pairs"):
        assert {row["src_id"], row["tgt_id"]} <= known
        assert row["pair_id"] == xxhash.xxh3_64(f"{row['src_id']}\n{row['tgt_id']}".encode()).hexdigest()


def test_other_languages_are_rejects(run: SmallRun) -> None:
    reasons = {Path(row["uri"]).stem: (row["lang"], row["drop_reason"]) for row in _rows(run, "recordings")}
    assert reasons == {
        "fra-0": ("fra", None),
        "fra-1": ("fra", None),
        "spa-0": ("spa", None),
        "spa-1": ("spa", None),
        "ita-0": ("ita", "language_not_wanted"),
    }
    assert {row["lang"] for row in _rows(run, "segments")} == {"fra", "spa"}


def test_a_sentence_of_two_files_is_mined_once(run: SmallRun) -> None:
    texts = Counter(row["text"] for row in _rows(run, "sentences"))
    assert texts == {**dict.fromkeys(ENGLISH + UNSPOKEN, 1), UNSPOKEN[0]: 2}
    (line,) = [line for line in _ledger(run) if line.shard == "side=eng"]
    assert (line.rows_in, line.rows_kept, line.dropped) == (11, 10, {"duplicate": 1})


def test_pairs_are_kept_by_threshold_and_overlap_and_say_why_not(run: SmallRun) -> None:
    pairs = _rows(run, "pairs")
    assert {pair["direction"] for pair in pairs if pair["kept"]} == {"eng-frA", "eng-esA", "frA-esA"}
    for pair in pairs:
        assert pair["kept"] == (pair["drop_reason"] is None)
        assert (pair["margin"] < 1.0) == (pair["drop_reason"] == "below_threshold"), pair
        speech = [side for side in ("src", "tgt") if pair[f"{side}_uri"] is not None]
        assert [pair[f"{side}_text"] is None for side in ("src", "tgt")] == [s in speech for s in ("src", "tgt")]
    for direction in ("eng-frA", "eng-esA", "frA-esA"):
        for side in ("src", "tgt"):
            spans = sorted(
                (pair[f"{side}_uri"], pair[f"{side}_start"], pair[f"{side}_end"])
                for pair in pairs
                if pair["kept"] and pair["direction"] == direction and pair[f"{side}_uri"]
            )
            for (uri, _, end), (next_uri, start, _) in itertools.pairwise(spans):
                assert uri != next_uri or end <= start


def test_margins_come_from_the_rows_that_were_written(run: SmallRun) -> None:
    """Cosine of every pair, anew from the embeddings in the tables."""
    rows: dict[str, Any] = {}
    for table, key in (("segments", "segment_id"), ("sentences", "sentence_id")):
        for row in _rows(run, table):
            vector = np.asarray(row["embedding"], np.float64)
            rows[row[key]] = vector / np.linalg.norm(vector)
    for pair in _rows(run, "pairs"):
        assert pair["cosine"] == pytest.approx(rows[pair["src_id"]] @ rows[pair["tgt_id"]], abs=2e-3)


def test_corpus_audio_is_the_cut_of_its_recording(run: SmallRun) -> None:
    kept = {pair["pair_id"]: pair for pair in _rows(run, "pairs") if pair["kept"]}
    decoded = {uri: decode(Path(uri)).samples for uri in {row["uri"] for row in _rows(run, "segments")}}
    corpus = _rows(run, "corpus")
    assert {row["pair_id"] for row in corpus} == set(kept)
    for row in corpus:
        for side in ("src", "tgt"):
            if row[f"{side}_uri"] is None:
                assert row[f"{side}_audio"] is None and row[f"{side}_text"] in ENGLISH + UNSPOKEN
                continue
            samples, rate = soundfile.read(io.BytesIO(row[f"{side}_audio"]["bytes"]), dtype="float32")
            span = decoded[row[f"{side}_uri"]][row[f"{side}_start"] : row[f"{side}_end"]]
            assert rate == 16_000 and len(samples) == len(span)
            np.testing.assert_allclose(samples, span, atol=1 / 65_536)
            assert row[f"{side}_license"] == "CC0-1.0" and row[f"{side}_source"] == f"voice {row[f'{side}_lang']}"
            assert row[f"{side}_audio"]["path"].endswith(".flac") and ":" not in row[f"{side}_audio"]["path"]
            assert {name: row[name] for name in ("margin", "src_id", "tgt_id")} == {
                name: kept[row["pair_id"]][name] for name in ("margin", "src_id", "tgt_id")
            }


def test_the_folder_holds_the_resolved_configuration(run: SmallRun) -> None:
    resolved = yaml.safe_load((run.folder / "run.yaml").read_text(encoding="utf-8"))
    assert resolved["mining"]["k"] == 4 and resolved["mining"]["strategy"] == "max" and resolved["digest"]
    assert resolved["speech"]["inputs"] == [str(run.config.parent / "recordings.jsonl")]


def test_a_dry_run_writes_nothing(run: SmallRun, tmp_path: Path) -> None:
    before = sorted(run.config.parent.rglob("*"))
    done = program("run", run.config, "--dry-run", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "5 files" in done.stdout and "in 5 shards" in done.stdout and "eng-frA, eng-esA, frA-esA" in done.stdout
    assert list(tmp_path.iterdir()) == [] and sorted(run.config.parent.rglob("*")) == before
