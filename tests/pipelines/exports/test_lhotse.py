"""Cuts, read back by lhotse, from files and from Shar."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports.export_rows import DIRECTIONS, beside, corpus, export, plain, rows_of, samples_of

lhotse = pytest.importorskip("lhotse", reason="needs the extra export")
pytestmark = pytest.mark.slow
NAMES = ("lhotse", "lhotse-shar")


def _cuts(name: str, folder: Path) -> Any:
    """The cuts of one place, lazily."""
    if name == "lhotse":
        return lhotse.CutSet.from_jsonl_lazy(folder / "cuts.jsonl.gz")
    return lhotse.CutSet.from_shar(in_dir=folder)


def _check(cut: Any, row: Mapping[str, Any], heard: Mapping[str, str]) -> None:
    lhotse.qa.validate(cut)
    sides = [side for side in ("src", "tgt") if row[f"{side}_audio"] is not None]
    first = sides[0]
    assert cut.recording_side == first and cut.num_samples == row[f"{first}_end"] - row[f"{first}_start"]
    told = {key: value for key, value in cut.custom.items() if key in row}
    assert told == {key: value for key, value in plain(row).items() if value is not None}
    assert cut.recording.id == row[f"{first}_id"]
    (supervision,) = cut.supervisions
    if len(sides) == 1:
        other = "tgt" if first == "src" else "src"
        assert (supervision.text, supervision.language) == (row[f"{other}_text"], row[f"{other}_lang"])
        assert not cut.has_custom("target_recording")
    else:
        assert (supervision.text, supervision.language) == (heard.get("src"), row["src_lang"])
    loaded = {first: cut.load_audio()}
    if len(sides) == 2:
        loaded["tgt"] = cut.load_target_recording()
    for side, samples in loaded.items():
        expected = samples_of(row, side)
        assert samples.shape == (1, len(expected))
        if row[f"{side}_audio"]["bytes"][:4] == b"fLaC":
            np.testing.assert_array_equal(samples[0], expected)
        else:
            np.testing.assert_allclose(samples[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("audio", ["flac", "opus"])
def test_lhotse_gives_every_pair_once(name: str, audio: Any, tmp_path: Path) -> None:
    shards = corpus(audio)
    tables = {shard: beside(pairs) for shard, pairs in shards.items()}
    export(name, Target(str(tmp_path), max_bytes=100_000), shards, tables)
    heard: dict[str, dict[str, str]] = {}
    for table in tables.values():
        for row in table["transcripts"].to_pylist():
            heard.setdefault(row["pair_id"], {})[row["side"]] = row["text"]
    for split in ("train", "test"):
        expected = rows_of(shards, split)
        for direction in DIRECTIONS:
            for cut in _cuts(name, tmp_path / split / direction):
                row = expected.pop(cut.custom["pair_id"])
                assert row["direction"] == direction
                _check(cut, row, heard.get(row["pair_id"], {}))
        assert not expected


def test_recordings_and_supervisions_can_be_had_by_themselves(tmp_path: Path) -> None:
    shards = {Shard("eng-frA", 0): corpus()[Shard("eng-frA", 0, "train")]}
    export("lhotse", Target(str(tmp_path)), shards)
    cuts = lhotse.CutSet.from_file(tmp_path / "eng-frA" / "cuts.jsonl.gz")
    recordings, supervisions, _ = cuts.decompose()
    assert len(recordings) == len(supervisions) == len(cuts) == 12
    lhotse.qa.validate_recordings_and_supervisions(recordings, supervisions)


def test_shards_of_shar_are_no_larger_than_was_asked(tmp_path: Path) -> None:
    shards = {Shard("esA-frA", 0): corpus()[Shard("esA-frA", 0, "train")]}
    (written,) = export("lhotse-shar", Target(str(tmp_path), max_bytes=50_000), shards)
    counts: dict[str, int] = {}
    for name, rows in written.files.items():
        file = tmp_path / name
        field, number = file.name.split(".")[:2]
        counts[field] = counts.get(field, 0) + rows
        assert number.startswith("00000-") and (field == "cuts" or file.stat().st_size <= 50_000)
        if field == "cuts":
            assert len(gzip.decompress(file.read_bytes()).splitlines()) == rows
    assert counts == {"cuts": 12, "recording": 12, "target_recording": 12} and len(written.files) > 6


def test_cuts_are_packed_in_parts_that_are_one(tmp_path: Path) -> None:
    shards = corpus()
    export("lhotse", Target(str(tmp_path)), shards)
    lines = gzip.decompress((tmp_path / "train/frA-eng/cuts.jsonl.gz").read_bytes()).decode().split("\n")
    assert [json.loads(line)["custom"]["direction"] for line in lines if line] == ["frA-eng"] * (12 + 11)
    assert all(Path(json.loads(line)["recording"]["sources"][0]["source"]).is_absolute() for line in lines if line)
