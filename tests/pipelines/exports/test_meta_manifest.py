"""The manifest, read back as the fine-tuning of seamless_communication reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign.errors import InputError
from seamlessalign.languages import get_language
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.meta_manifest import _TEXT_LANGS, _UNIT_LANGS, meta_code
from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports.export_rows import beside, corpus, export, pairs_of, rows_of, samples_of

META = FORMATS["meta-jsonl"]
_KEYS = {"id", "lang", "text", "audio_local_path", "waveform", "sampling_rate", "units"}


def _lines(file: Path) -> list[dict[str, Any]]:
    with file.open() as opened:  # by lines, in the encoding of the place, as that project does
        return [json.loads(line) for line in opened]


@pytest.mark.parametrize("audio", ["flac", "opus"])
def test_every_pair_goes_from_speech_to_text(audio: Any, tmp_path: Path) -> None:
    shards = corpus(audio)
    tables = {shard: beside(pairs) for shard, pairs in shards.items()}
    written = export("meta-jsonl", Target(str(tmp_path)), shards, tables)
    heard = {
        (row["pair_id"], row["side"]): row["text"]
        for table in tables.values()
        for row in table["transcripts"].to_pylist()
    }
    unheard: set[str] = set()
    for split in ("train", "test"):
        expected = rows_of(shards, split)
        for line in _lines(tmp_path / f"{split}_manifest.json"):
            row = expected.pop(line["pair"]["pair_id"])
            source, target = ("src", "tgt") if row["src_audio"] else ("tgt", "src")
            for side, key in ((source, "source"), (target, "target")):
                sample = line[key]
                assert sample.keys() == _KEYS and sample["id"] == row["pair_id"] and sample["waveform"] is None
                assert sample["lang"] == row[f"{side}_lang"]
                assert sample["text"] == (row[f"{side}_text"] or heard.get((row["pair_id"], side), ""))
                if row[f"{side}_audio"] is None:
                    assert sample["audio_local_path"] is sample["sampling_rate"] is sample["units"] is None
                    continue
                samples, rate = soundfile.read(sample["audio_local_path"], dtype="float32")
                assert (
                    rate == sample["sampling_rate"] == 16_000
                    and soundfile.info(sample["audio_local_path"]).format == "FLAC"
                )
                np.testing.assert_allclose(samples, samples_of(row, side).clip(-1, 1), atol=1 / 65536)
                # one unit for each 20 ms
                assert sample["units"] is None if key == "source" else sample["units"][2:] == [7, 9, 9, 9]
            assert line["target"]["text"] and line["pair"]["margin"] == row["margin"]
            named = ("id", "uri", "start", "end", "license", "source")
            assert all(
                line["pair"][f"{side}_{name}"] == row[f"{side}_{name}"] for side in ("src", "tgt") for name in named
            )
        unheard |= expected.keys()
    refused = {
        name: pairs for one in written for name, pairs in one.refused.items() if one.shard.direction == "esA-frA"
    }
    assert set(refused) == {"no_target_text"}
    assert len(unheard) == sum(sum(one.refused.values()) for one in written)
    assert unheard and all((name, "tgt") not in heard for name in unheard)


@pytest.mark.slow
def test_datasets_makes_a_table_of_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra export")
    shards = corpus()
    export("meta-jsonl", Target(str(tmp_path)), shards, {shard: beside(pairs) for shard, pairs in shards.items()})
    lines = _lines(tmp_path / "train_manifest.json")
    made = datasets.Dataset.from_list(lines)  # which is what its loader does
    assert len(made) == len(lines) and made[3] == lines[3]


@pytest.mark.parametrize(
    ("direction", "tables", "audio", "message"),
    [
        ("esA-frA", (), None, "esA-frA: meta-jsonl needs the text of its target: have the run make transcripts"),
        ("frA-abk", (), None, "frA-abk: meta-jsonl has no text in abk: leave the direction out"),
        ("eng-frA", (), "opus", "meta-jsonl: its loader wants 16 kHz and gets 48 kHz of Opus: export FLAC"),
    ],
)
def test_what_it_cannot_hold_is_refused(direction: str, tables: Any, audio: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        META.check(Target(str(tmp_path), audio=audio), {"eng-frA": frozenset(), direction: frozenset(tables)})


def test_what_it_can_hold_is_not(tmp_path: Path) -> None:
    directions = {"eng-abA": frozenset[str](), "frA-zlm": frozenset[str](), "esA-frA": frozenset({"transcripts"})}
    META.check(Target(str(tmp_path), audio="flac"), directions)


def test_codes_are_those_of_its_tables() -> None:
    assert _UNIT_LANGS < _TEXT_LANGS and (len(_TEXT_LANGS), len(_UNIT_LANGS)) == (98, 38)
    assert (meta_code("zlm"), meta_code("cmn"), meta_code("fra")) == ("zsm", "cmn", "fra")
    assert meta_code("zlm") in _TEXT_LANGS
    ours = {code for code in _TEXT_LANGS - {"cmn_Hant", "zsm"} if get_language(code).iso639_3 == code}
    assert ours == _TEXT_LANGS - {"cmn_Hant", "zsm"}


def test_without_splits_there_is_one_manifest(tmp_path: Path) -> None:
    export("meta-jsonl", Target(str(tmp_path)), {Shard("frA-eng", 0): pairs_of("frA-eng", 4)})
    assert len(_lines(tmp_path / "manifest.json")) == 4
