"""Parquet, read back by pyarrow and by `datasets`, which decodes the audio."""

import filecmp
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports import export_rows
from tests.pipelines.exports.export_rows import beside, corpus, export, pairs_of, plain, rows_of, samples_of


def test_all_rows_of_a_part_are_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(-8000, 8000, 40_000) / 32768
    monkeypatch.setattr(export_rows, "sound", lambda seed: noise[: 30_000 + seed].astype(np.float32))  # beyond a page
    pairs = pairs_of("esA-frA", 110)
    metadata = {key.decode(): value.decode() for key, value in pairs.schema.metadata.items()}
    storage.write_table(str(tmp_path / "part.parquet"), pairs, metadata=metadata, row_group_size=100)
    (written,) = export("parquet", Target(str(tmp_path / "out")), {Shard("esA-frA", 0): pairs})
    assert written.files == {"esA-frA/part-00000.parquet": 110}
    assert filecmp.cmp(tmp_path / "part.parquet", tmp_path / "out/esA-frA/part-00000.parquet", shallow=False)


def test_rows_and_what_is_beside_them_are_as_they_were(tmp_path: Path) -> None:
    pairs = pairs_of("esA-frA", 250)
    kept = pairs.take(list(range(0, 250, 2)))
    shard, tables = Shard("esA-frA", 3, "train"), beside(pairs)
    (written,) = export("parquet", Target(str(tmp_path)), {shard: kept}, {shard: tables})
    file = pq.ParquetFile(tmp_path / "train/esA-frA/part-00003.parquet")
    assert file.read().to_pylist() == kept.to_pylist()
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [100, 25]
    names = set(kept.column("pair_id").to_pylist())
    for table in ("units", "transcripts"):
        place = f"train/{table}/esA-frA/part-00003.parquet"
        expected = [row for row in tables[table].to_pylist() if row["pair_id"] in names]
        assert pq.read_table(tmp_path / place).to_pylist() == expected and written.files[place] == len(expected) > 50


@pytest.mark.parametrize(("audio", "suffix"), [("opus", "ogg"), ("flac", "flac")])
def test_audio_is_had_in_the_other_format(audio: Any, suffix: str, tmp_path: Path) -> None:
    other: Any = "flac" if audio == "opus" else "opus"
    pairs = pairs_of("esA-frA", 6, other)
    export("parquet", Target(str(tmp_path), audio=audio), {Shard("esA-frA", 0): pairs})
    found = pq.read_table(tmp_path / "esA-frA/part-00000.parquet").to_pylist()
    for row, before in zip(found, pairs.to_pylist(), strict=True):
        assert plain(row) == plain(before) and row["src_audio"]["path"].endswith(f".{suffix}")
        assert row["src_audio"]["bytes"][:4] == {"flac": b"fLaC", "opus": b"OggS"}[audio]
        assert len(samples_of(row, "tgt")) == before["tgt_end"] - before["tgt_start"]


@pytest.mark.slow
@pytest.mark.parametrize("audio", ["flac", "opus"])
def test_datasets_decodes_every_row_whichever_way_it_reads(audio: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra export")
    pytest.importorskip("torchcodec.decoders", reason="needs torchcodec and FFmpeg", exc_type=ImportError)
    datasets.disable_progress_bars()
    shards = corpus(audio)
    export("parquet", Target(str(tmp_path / "out")), shards)
    places = {split: f"{tmp_path}/out/{FORMATS['parquet'].files(f'{split}/*')[1]}" for split in ("train", "test")}  # type: ignore[index]
    whole = datasets.load_dataset("parquet", data_files=places, cache_dir=str(tmp_path / "cache"))
    streamed = datasets.load_dataset("parquet", data_files=places, streaming=True)
    for split in ("train", "test"):
        expected = rows_of(shards, split)
        for rows in (whole[split], streamed[split], streamed[split].shuffle(seed=1, buffer_size=5)):
            found = {row["pair_id"]: row for row in rows}
            assert len(found) == len(expected) == sum(1 for _ in rows) and found.keys() == expected.keys()
            for name, row in found.items():
                _same(row, expected[name])


def _same(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert plain(row) == plain(expected)
    for side in ("src", "tgt"):
        if expected[f"{side}_audio"] is None:
            assert row[f"{side}_audio"] is None
            continue
        heard = row[f"{side}_audio"].get_all_samples()
        samples = samples_of(expected, side)
        assert heard.sample_rate == 16_000 and heard.data.shape == (1, len(samples))
        if expected[f"{side}_audio"]["bytes"][:4] == b"fLaC":
            np.testing.assert_array_equal(heard.data.numpy()[0], samples)
        else:  # FFmpeg decodes Opus at 48 kHz and resamples: the same sound, not the same numbers
            assert np.corrcoef(heard.data.numpy()[0], samples)[0, 1] > 0.9
