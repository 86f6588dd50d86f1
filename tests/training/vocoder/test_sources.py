"""Which rows can be learnt from, and where all others are counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from seamlessalign.audio import encode
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.rows import CORPUS
from seamlessalign.training.vocoder.sources import Utterance, centroids_of, read_utterances, split_utterances
from tests.training.vocoder.tone_world import UNITS, parsed, rows, sing, tune, vocoder_config, write


def _read(root: Path, source: dict[str, Any], **data: Any) -> tuple[list[Utterance], Counter[str]]:
    config = vocoder_config(root)
    config["data"] |= {"train": [source]} | data
    checked, aside = parsed(config), Counter[str]()
    return read_utterances(checked.data.train, checked.data, checked.model.units, aside), aside


class TestRows:
    def test_what_cannot_be_used_has_a_reason(self, tmp_path: Path) -> None:
        content = rows(12)
        content[0]["units"] = None
        content[1]["units"] = []
        content[2]["units"][3] = UNITS
        content[3]["units"][0] = -1
        content[4]["durations"] = content[4]["durations"][:-1]
        content[5]["durations"][2] = 0
        content[6]["durations"][0] += 9
        content[7]["lang"] = "nonsense"
        content[8]["audio"] = {"bytes": b"no sound", "path": None}
        content[9]["audio"] = {"bytes": encode(sing(np.array([1], np.int32), np.array([9], np.int32)), "flac")}
        content[9] |= {"units": [1], "durations": [9]}
        found, aside = _read(tmp_path, {"kind": "parquet", "path": str(write(tmp_path / "a.parquet", content))},
                             min_seconds=0.1)  # fmt: skip
        assert aside == {
            "no_units": 2,
            "unknown_unit": 1,
            "wrong_units": 3,
            "units_do_not_fit": 1,
            "unknown_language": 1,
            "not_audio": 1,
            "too_short": 1,
        }
        assert len(found) + sum(aside.values()) == len(content)
        for one, row in zip(found, content[10:], strict=True):
            assert one.units.tolist() == row["units"] and one.durations.tolist() == row["durations"]
            assert (one.lang, one.speaker) == (row["lang"], row["speaker"])

    def test_units_of_one_table_are_those_of_another(self, tmp_path: Path) -> None:
        """By what `seamlessalign units` and runs write into the schema; what says nothing is believed."""

        def table(name: str, fingerprint: str, count: int = UNITS) -> str:
            made = pa.Table.from_pylist(rows(2))
            about = {"seamlessalign.units": fingerprint, "seamlessalign.num_units": str(count)}
            pq.write_table(made.replace_schema_metadata(about) if fingerprint else made, tmp_path / name)
            return str(tmp_path / name)

        one, same, none = table("a.parquet", "f1"), table("b.parquet", "f1"), table("c.parquet", "")
        assert centroids_of([one, same, none], UNITS) == "f1" and centroids_of([none], UNITS) is None
        with pytest.raises(InputError, match=r"a\.parquet and .*d\.parquet hold units of different centroids"):
            centroids_of([one, table("d.parquet", "f2")], UNITS)
        with pytest.raises(InputError, match=r"e\.parquet: holds units of 9 centroids, not of 6 \(model\.units\)"):
            centroids_of([table("e.parquet", "f1", 9)], UNITS)

    def test_nothing_usable_says_why(self, tmp_path: Path) -> None:
        content = rows(3)
        for row in content:
            row["units"][0] = 77
        file = write(tmp_path / "a.parquet", content)
        with pytest.raises(InputError, match=r"nothing to learn from: 3 unknown_unit \(first: .*77 of 6 units"):
            _read(tmp_path, {"kind": "parquet", "path": str(file)})

    def test_columns_that_lack_are_named(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.parquet", rows(2))
        with pytest.raises(InputError, match="lacks the columns codes"):
            _read(tmp_path, {"kind": "parquet", "path": str(file), "units_column": "codes"})

    def test_units_may_stand_for_each_frame(self, tmp_path: Path) -> None:
        content = rows(2)
        for row in content:
            row["units"] = np.repeat(row["units"], row.pop("durations")).tolist()
        found, _ = _read(tmp_path, {"kind": "parquet", "path": str(write(tmp_path / "a.parquet", content))})
        for one, row in zip(found, rows(2), strict=True):
            assert one.units.tolist() == row["units"] and one.durations.tolist() == row["durations"]

    def test_repetitions_are_one_unit(self, tmp_path: Path) -> None:
        content = rows(1)
        content[0]["units"] = [content[0]["units"][0], *content[0]["units"]]
        content[0]["durations"] = [1, content[0]["durations"][0] - 1, *content[0]["durations"][1:]]
        found, _ = _read(tmp_path, {"kind": "parquet", "path": str(write(tmp_path / "a.parquet", content))})
        assert found[0].units.tolist() == rows(1)[0]["units"]
        assert found[0].durations.tolist() == rows(1)[0]["durations"]

    @pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
    def test_a_folder_with_a_manifest(self, tmp_path: Path, suffix: str) -> None:
        content, lines = rows(4), []
        for i, row in enumerate(content):
            (tmp_path / f"{i}.flac").write_bytes(row.pop("audio")["bytes"])
            row["path"] = f"{i}.flac"
            texts = {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
            lines.append(json.dumps(row) if suffix == "jsonl" else "\t".join(texts.values()))
        head = [] if suffix == "jsonl" else ["\t".join(content[0])]
        (tmp_path / f"all.{suffix}").write_text("\n".join(head + lines) + "\n")
        found, aside = _read(tmp_path, {"kind": "folder", "path": str(tmp_path)})
        assert [one.units.tolist() for one in found] == [row["units"] for row in content] and not aside

    def test_the_key_follows_sound_units_and_speaker(self, tmp_path: Path) -> None:
        content = [rows(1)[0] for _ in range(4)]
        content[1]["speaker"] = "another"
        content[2]["units"][2] = (content[2]["units"][2] + 1) % UNITS
        found, _ = _read(tmp_path, {"kind": "parquet", "path": str(write(tmp_path / "a.parquet", content))})
        assert len({one.key for one in found}) == 3 and found[0].key == found[3].key


class TestRun:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        """Three pairs of speech with text, three of speech with speech; one has no units."""
        rng, pairs, units = np.random.default_rng(5), [], []
        for i in range(6):
            base = dict.fromkeys(CORPUS.names) | {"pair_id": f"p{i}", "margin": 1.0, "src_id": "s", "tgt_id": "t"}
            base |= {"direction": "eng-frA" if i < 3 else "enA-frA", "src_lang": "eng", "tgt_lang": "fra"}
            for side in ("tgt",) if i < 3 else ("src", "tgt"):
                tones, durations = tune(rng)
                base[f"{side}_audio"] = {"bytes": encode(sing(tones, durations), "flac"), "path": "x.flac"}
                if (i, side) != (4, "src"):
                    line = {"pair_id": f"p{i}", "side": side, "lang": base[f"{side}_lang"]}
                    units.append(line | {"units": tones.tolist(), "durations": durations.tolist()})
            pairs.append(base)
        for direction in ("eng-frA", "enA-frA"):
            there = [pair for pair in pairs if pair["direction"] == direction]
            file = tmp_path / "corpus" / f"direction={direction}" / "part-00000.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(there, schema=CORPUS), file)
            ids = {pair["pair_id"] for pair in there}
            write(
                tmp_path / "units" / f"direction={direction}" / "part-00000.parquet",
                [line for line in units if line["pair_id"] in ids],
            )
        return tmp_path

    def test_both_sides_are_joined_with_their_units(self, run: Path) -> None:
        found, aside = _read(run, {"kind": "run", "path": str(run), "speaker": "all"})
        assert Counter(one.lang for one in found) == {"eng": 2, "fra": 6} and aside == {"no_units": 1}
        assert {one.speaker for one in found} == {"all"}
        lines = pq.read_table(run / "units").to_pylist()
        expected = sorted((line["lang"], tuple(line["units"])) for line in lines)
        assert sorted((one.lang, tuple(one.units.tolist())) for one in found) == expected

    def test_a_side_that_no_units_were_made_of_is_not_wanted(self, run: Path) -> None:
        for file in (run / "units").rglob("*.parquet"):
            table = pq.read_table(file)
            pq.write_table(table.filter(pc.equal(table["side"], "tgt")), file)
        found, aside = _read(run, {"kind": "run", "path": str(run)})
        assert Counter(one.lang for one in found) == {"fra": 6} and not aside

    def test_units_may_lie_elsewhere(self, run: Path) -> None:
        (run / "units").rename(run / "other")
        found, _ = _read(run, {"kind": "run", "path": str(run), "units": str(run / "other")})
        assert len(found) == 8
        with pytest.raises(InputError, match="units: there are no Parquet files"):
            _read(run, {"kind": "run", "path": str(run)})

    def test_keys_of_other_kinds_are_refused(self, run: Path) -> None:
        with pytest.raises(ConfigError, match="audio and lang are not for kind 'run'"):
            _read(run, {"kind": "run", "path": str(run), "lang": "eng"})
        with pytest.raises(ConfigError, match="units is for kind 'run' only"):
            _read(run, {"kind": "folder", "path": str(run), "units": "u"})


def test_a_share_is_held_out_and_more_data_moves_nothing(tmp_path: Path) -> None:
    found, _ = _read(tmp_path, {"kind": "parquet", "path": str(write(tmp_path / "a.parquet", rows(60)))})
    learnt, held = split_utterances(found, 0.25)
    assert {one.key for one in learnt} | {one.key for one in held} == {one.key for one in found}
    assert len(learnt) + len(held) == 60 and 7 <= len(held) <= 24
    assert {one.key for one in split_utterances(found[:40], 0.25)[1]} <= {one.key for one in held}
    for few in (found[:2], learnt[:5]):
        parts = split_utterances(few, 0.25)
        assert all(parts) and len(parts[0]) + len(parts[1]) == len(few)
