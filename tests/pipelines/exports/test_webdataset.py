"""Tar files, read back by tarfile and by webdataset."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports.export_rows import beside, corpus, export, pairs_of, plain, rows_of, samples_of


def test_tars_hold_what_the_rows_do(tmp_path: Path) -> None:
    pairs, shard = pairs_of("esA-frA", 20), Shard("esA-frA", 5, "train")
    (written,) = export("webdataset", Target(str(tmp_path)), {shard: pairs}, {shard: beside(pairs)})
    assert written.files == {"train/esA-frA/part-00005-000.tar": 20}
    with tarfile.open(tmp_path / "train/esA-frA/part-00005-000.tar") as tar:
        members = tar.getmembers()
        assert {(member.mtime, member.uid, member.uname, member.mode) for member in members} == {(0, 0, "", 0o444)}
        data = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    units = {(row["pair_id"], row["side"]): row for row in beside(pairs)["units"].to_pylist()}
    heard = {(row["pair_id"], row["side"]): row["text"] for row in beside(pairs)["transcripts"].to_pylist()}
    for row in pairs.to_pylist():
        name = row["pair_id"]
        told = json.loads(data.pop(f"{name}.json"))
        assert {key: told[key] for key in plain(row)} == plain(row)
        for side in ("src", "tgt"):
            assert data.pop(f"{name}.{side}.flac") == row[f"{side}_audio"]["bytes"]
            assert told[f"{side}_units"] == units[name, side]["units"]
            assert told[f"{side}_unit_durations"] == units[name, side]["durations"]
            assert told.get(f"{side}_transcript") == heard.get((name, side))
    assert not data


def test_tars_are_no_larger_than_was_asked_and_are_indexed(tmp_path: Path) -> None:
    shards = corpus()
    export("webdataset", Target(str(tmp_path), max_bytes=100_000), shards)
    for split in ("train", "test"):
        listed = json.loads((tmp_path / split / "index.json").read_text())
        assert (listed["__kind__"], listed["wids_version"]) == ("wids-shard-index-v1", 1)
        counts = {tmp_path / split / one["url"]: one["nsamples"] for one in listed["shardlist"]}
        assert counts.keys() == set((tmp_path / split).rglob("*.tar")) and len(counts) > 3
        assert sum(counts.values()) == len(rows_of(shards, split))
        for tar, count in counts.items():
            assert tar.stat().st_size <= 100_000
            with tarfile.open(tar) as opened:
                assert sum(name.endswith(".json") for name in opened.getnames()) == count


def test_a_pair_that_is_larger_than_a_tar_may_be_has_one_of_its_own(tmp_path: Path) -> None:
    (written,) = export("webdataset", Target(str(tmp_path), max_bytes=1), {Shard("eng-frA", 0): pairs_of("eng-frA", 3)})
    assert list(written.files.values()) == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("audio", ["flac", "opus"])
def test_webdataset_gives_every_pair_once(audio: Any, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the extra export")
    pytest.importorskip("torchcodec.decoders", reason="needs torchcodec and FFmpeg", exc_type=ImportError)
    shards = corpus(audio)
    export("webdataset", Target(str(tmp_path), max_bytes=100_000), shards)
    suffix = {"flac": "flac", "opus": "ogg"}[audio]
    for shuffled in (False, True):
        expected = rows_of(shards, "train")
        tars = sorted(str(tar) for tar in (tmp_path / "train").rglob("*.tar"))
        data = webdataset.WebDataset(tars, shardshuffle=len(tars) if shuffled else False, seed=1)
        for sample in (data.shuffle(20) if shuffled else data).decode(webdataset.torch_audio):
            row = expected.pop(sample["json"]["pair_id"])
            assert sample["json"] == plain(row) and sample["__key__"] == row["pair_id"]
            for side in ("src", "tgt"):
                if row[f"{side}_audio"] is None:
                    assert f"{side}.{suffix}" not in sample
                    continue
                heard, rate = sample[f"{side}.{suffix}"]
                samples = samples_of(row, side)
                assert heard.shape[1] * 16_000 == len(samples) * rate
                if audio == "flac":
                    np.testing.assert_array_equal(heard.numpy()[0], samples)
        assert not expected


def test_names_in_tars_that_mean_something_are_escaped(tmp_path: Path) -> None:
    pairs = pairs_of("eng-frA", 1)
    named = pairs.set_column(0, pairs.schema.field(0), [["a.b/c"]])
    export("webdataset", Target(str(tmp_path)), {Shard("eng-frA", 0): named})
    with tarfile.open(tmp_path / "eng-frA/part-00000-000.tar") as tar:
        assert tar.getnames() == ["a%2Eb%2Fc.tgt.flac", "a%2Eb%2Fc.json"]
        assert json.load(tar.extractfile("a%2Eb%2Fc.json"))["pair_id"] == "a.b/c"  # type: ignore[arg-type]
