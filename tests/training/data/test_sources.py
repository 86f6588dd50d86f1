"""Rows of every kind of source: the same data in six forms are the same rows, and what is none has a reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.audio import encode
from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.data.sources import OpenGroups, RowSource, SourceRow, open_source, reduced
from tests.ground.sounds import noise
from tests.training.data.data_world import corpus_row, source_of, write_corpus, write_lines

TEXTS = [("the cat sat", "le chat"), ("a dog runs", "un chien court"), ("birds fly over", "les oiseaux")]


def _all(source: RowSource, *, sound: bool = True) -> list[SourceRow]:
    return [row for group in source.groups() for row in source.open(group, sound=sound).rows()]


def _table(folder: Path, lang: str = "fr") -> pa.Table:
    """French speech, its text and units, English text."""
    return pa.table(
        {
            "clip": [
                {"bytes": encode(noise(4000 + i, seed=i)[:, 0], "flac"), "path": f"{i}.flac"} for i in range(len(TEXTS))
            ],
            "said": [french for _, french in TEXTS],
            "meant": [english for english, _ in TEXTS],
            "locale": [lang] * len(TEXTS),
            "units": [[3, 3, 1, 1, i] for i in range(len(TEXTS))],
            "score": [1.5, 1.25, 1.125],
            "name": ["a", "b", "c"],
        }
    )


COLUMNS = {
    "src": {"lang_column": "locale", "audio": "clip", "text": "said", "units": "units"},
    "tgt": {"lang": "en", "text": "meant"},
    "margin": "score",
    "id": "name",
}


def _told(row: SourceRow) -> Any:
    return [(side.lang, side.text, None if side.units is None else side.units.tolist()) for side in row.sides]


WANTED = [
    [("fra", french, [3, 1, i] if i != 1 else [3, 1]), ("eng", english, None)]
    for i, (english, french) in enumerate(TEXTS)
]


class TestKinds:
    def test_parquet(self, tmp_path: Path) -> None:
        pq.write_table(_table(tmp_path), tmp_path / "a.parquet", row_group_size=2)
        source = open_source(source_of(kind="parquet", path=str(tmp_path), **COLUMNS))
        rows = _all(source)
        assert [_told(row) for row in rows] == WANTED
        assert [(row.id, row.margin) for row in rows] == [("a", 1.5), ("b", 1.25), ("c", 1.125)]
        assert [row.place for row in rows] == [f"{tmp_path}/a.parquet row {i}" for i in range(3)]
        assert [group.rows for group in source.groups()] == [2, 1]

    @pytest.mark.slow  # the package datasets takes seconds to load
    def test_a_saved_data_set_holds_the_same(self, tmp_path: Path) -> None:
        import datasets

        table = _table(tmp_path)
        features = datasets.Features.from_arrow_schema(table.schema)
        features["clip"] = datasets.Audio(decode=False)
        datasets.Dataset(table).cast(features).save_to_disk(str(tmp_path / "set"))
        rows = _all(open_source(source_of(kind="hf", path=str(tmp_path / "set"), **COLUMNS)))
        assert [_told(row) for row in rows] == WANTED
        sounds = [side.content for row in rows if (side := row.sides[0].sound)]
        assert sounds == [clip["bytes"] for clip in table["clip"].to_pylist()]

    @pytest.mark.slow
    def test_sound_of_a_data_set_may_be_paths_or_samples(self, tmp_path: Path) -> None:
        """What the package makes of them: bytes where it saves them, or as they are where they were no `Audio`."""
        import datasets

        waves = [noise(4000 + i, seed=i)[:, 0] for i in range(3)]
        for i, wave in enumerate(waves):
            soundfile.write(tmp_path / f"{i}.wav", wave, SAMPLE_RATE, subtype="FLOAT")
        paths = [str(tmp_path / f"{i}.wav") for i in range(3)]
        samples = [{"array": wave.tolist(), "sampling_rate": SAMPLE_RATE, "path": None} for wave in waves]
        data = {
            "paths": datasets.Dataset.from_dict({"clip": paths, "said": list("abc")}),
            "embedded": datasets.Dataset.from_dict({"clip": paths, "said": list("abc")}).cast_column(
                "clip", datasets.Audio()
            ),
            "samples": datasets.Dataset.from_dict({"clip": samples, "said": list("abc")}),
        }
        for name, one in data.items():
            one.save_to_disk(str(tmp_path / name))
            keys: Any = {"src": {"lang": "fra", "audio": "clip", "text": "said"}, "path": str(tmp_path / name)}
            found = [row.sides[0].sound for row in _all(open_source(source_of(kind="hf", **keys)))]
            for wave, sound in zip(waves, found, strict=True):
                assert sound is not None
                np.testing.assert_allclose(load_sound(sound, "", ""), wave, atol=1e-4)

    @pytest.mark.slow
    def test_a_folder_of_parquet_is_read_where_it_lies(self, tmp_path: Path) -> None:
        """As those of a hub are: files are named for their split; nothing is copied to the package's cache."""
        import datasets

        (tmp_path / "set" / "data").mkdir(parents=True)
        for split in ("train", "test"):
            pq.write_table(_table(tmp_path), tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
        before = set(Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow"))
        keys: dict[str, Any] = {"kind": "hf", "path": str(tmp_path / "set")} | COLUMNS
        rows = _all(open_source(source_of(split="test", **keys)))
        assert [_told(row) for row in rows] == WANTED
        assert "test-00000-of-00001.parquet row 0" in rows[0].place
        assert set(Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow")) == before
        with pytest.raises(InputError, match="has the splits train, test; name one as split"):
            open_source(source_of(**keys))

    @pytest.mark.slow
    def test_a_split_of_several_is_named(self, tmp_path: Path) -> None:
        import datasets

        plain = _table(tmp_path).drop_columns(["clip"])
        data = datasets.Dataset(plain)
        datasets.DatasetDict({"train": data, "test": data.select([1])}).save_to_disk(str(tmp_path / "set"))
        keys: dict[str, Any] = {"kind": "hf", "path": str(tmp_path / "set"), "tgt": COLUMNS["tgt"]}
        keys["src"] = {"lang": "fra", "text": "said"}
        assert len(_all(open_source(source_of(split="test", **keys)))) == 1
        datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "one"))
        assert len(_all(open_source(source_of(**(keys | {"path": str(tmp_path / "one")}))))) == len(TEXTS)
        with pytest.raises(InputError, match="has the splits train, test; name one as split"):
            open_source(source_of(**keys))

    def test_a_manifest_of_seamless_holds_the_same(self, tmp_path: Path) -> None:
        lines = []
        for i, (english, french) in enumerate(TEXTS):
            soundfile.write(tmp_path / f"{i}.wav", noise(4000 + i, seed=i)[:, 0], SAMPLE_RATE)
            source = {"id": str(i), "lang": "fra", "text": french, "audio_local_path": f"{i}.wav", "waveform": None}
            target = {"id": str(i), "lang": "eng", "text": english, "audio_local_path": None, "units": None}
            lines.append({"source": source | {"sampling_rate": 16000, "units": [3, 3, 1, 1, i]}, "target": target})
        path = write_lines(tmp_path / "train_manifest.json", lines)
        rows = _all(open_source(source_of(kind="manifest", path=str(path))))
        assert [_told(row) for row in rows] == WANTED
        assert [Path(side.path).name for row in rows if (side := row.sides[0].sound)] == ["0.wav", "1.wav", "2.wav"]
        assert [row.place for row in rows] == [f"{path} line {i + 1}" for i in range(3)]

    def test_a_manifest_of_one_language_is_speech_and_its_text(self, tmp_path: Path) -> None:
        side = {"id": "7", "lang": "eng", "text": "the cat", "audio_local_path": "a.wav", "units": [1, 1, 2]}
        path = write_lines(tmp_path / "m.json", [{"source": side | {"units": None}, "target": side}])
        (row,) = _all(open_source(source_of(kind="manifest", path=str(path))))
        assert _told(row) == [("eng", "the cat", [1, 2])]

    def test_a_mined_corpus(self, tmp_path: Path) -> None:
        made = [corpus_row(i) for i in range(7)]
        write_corpus(tmp_path, made, files=1, group=3)
        for place in (tmp_path, tmp_path / "corpus", tmp_path / "corpus" / "*" / "*.parquet"):
            rows = _all(open_source(source_of(kind="corpus", path=str(place))))
            assert [row.id for row in rows] == [row["pair_id"] for row in made]
            for row, wanted in zip(rows, made, strict=True):
                assert _told(row) == [("eng", wanted["src_text"], None), ("fra", wanted["tgt_text"], None)]
                english, french = row.sides
                assert english.sound is None and english.seconds is None
                assert french.sound is not None and french.sound.content == wanted["tgt_audio"]["bytes"]
                assert french.seconds == (wanted["tgt_end"] - wanted["tgt_start"]) / SAMPLE_RATE

    def test_sound_whose_length_is_known_is_not_read_to_list_it(self, tmp_path: Path) -> None:
        write_corpus(tmp_path, [corpus_row(i) for i in range(4)], files=1, group=4)
        source = open_source(source_of(kind="corpus", path=str(tmp_path)))
        (group,) = source.groups()
        heard, listed = (list(source.open(group, sound=sound).rows()) for sound in (True, False))
        assert all(row.sides[1].sound is None for row in listed) and all(row.sides[1].sound for row in heard)
        assert [row.sides[1].seconds for row in listed] == [row.sides[1].seconds for row in heard]

    def test_parallel_texts_are_a_row_a_pair(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "t.jsonl", [{"en": "the cat", "fra_Latn": "le chat", "ru": "кот"}, {"en": "dog"}])
        pairs = [["eng", "fra"], ["rus", "eng"]]
        rows = _all(open_source(source_of(kind="text", path=str(path), pairs=pairs)))
        told = [[(side.lang, side.text) for side in row.sides] for row in rows]
        assert told == [
            [("eng", "the cat"), ("fra", "le chat")],
            [("rus", "кот"), ("eng", "the cat")],
            [("eng", "dog"), ("fra", "")],
            [("rus", ""), ("eng", "dog")],
        ]
        assert [row.owns for row in rows] == [(True, True), (True, False)] * 2
        assert [row.place.rpartition(" ")[2] for row in rows] == ["1", "1", "2", "2"]

    def test_many_lines_are_several_groups(self, tmp_path: Path) -> None:
        lines = [{"eng": f"cat {i}", "fra": f"chat {i}", "rus": f"{i}"} for i in range(450)]
        path = write_lines(tmp_path / "t.jsonl", lines)
        source = open_source(source_of(kind="text", path=str(path), pairs=[["eng", "fra"], ["fra", "rus"]]))
        groups = list(source.groups())
        assert [group.rows for group in groups] == [400, 400, 100]
        for number in (2, 0, 1):  # in any order
            for i, row in enumerate(source.open(groups[number], sound=True).rows()):
                line = 200 * number + i // 2
                told = [side.text for side in row.sides]
                assert told == ([f"cat {line}", f"chat {line}"] if i % 2 == 0 else [f"chat {line}", f"{line}"])
                assert row.place == source.place(groups[number], i) == f"{path} line {line + 1}"

    def test_texts_that_are_read_out(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "t.jsonl", [{"eng": "the cat", "fra": "le chat"}] * 3)
        keys = {"kind": "espeak", "path": str(path), "variants": ["f2", "m3"], "words_per_minute": [140, 170]}
        rows = _all(open_source(source_of(pairs=[["fra", "eng"]], **keys)))
        sounds = [row.sides[0].sound for row in rows]
        assert [(sound.voice, sound.words_per_minute) for sound in sounds if sound] == [
            ("fr+f2", 140),
            ("fr+m3", 140),
            ("fr+f2", 170),
        ]
        (tmp_path / "t.txt").write_text("the cat\n\na dog\n")
        rows = _all(open_source(source_of(kind="espeak", path=str(tmp_path / "t.txt"), lang="en")))
        assert [[(side.text, side.sound is None) for side in row.sides] for row in rows] == [
            [("the cat", False)],
            [("", True)],
            [("a dog", False)],
        ]


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"{", "not_json"),
            (b"[]", "not_json"),
            (b"\xff{}", "not_json"),
            (b'{"source": {"lang": "eng"}}', "not_a_manifest"),
            (b'{"source": {"lang": "eng"}, "target": {"lang": "klingon"}}', "unknown_language"),
            (b'{"source": {"lang": "eng", "units": "1 2"}, "target": {"lang": "fra"}}', "not_a_manifest"),
        ],
    )
    def test_a_line_that_is_no_row_has_a_reason(self, tmp_path: Path, line: bytes, reason: str) -> None:
        (tmp_path / "m.json").write_bytes(line + b"\n")
        (row,) = _all(open_source(source_of(kind="manifest", path=str(tmp_path / "m.json"))))
        assert row.problem is not None and row.problem.reason == reason
        assert row.problem.detail.startswith(f"{tmp_path}/m.json line 1")

    def test_sound_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        table = pa.table({"clip": ["gone.wav", None], "said": ["a", "b"]})
        pq.write_table(table, tmp_path / "a.parquet")
        keys: Any = {"kind": "parquet", "path": str(tmp_path), "src": {"lang": "fra", "audio": "clip", "text": "said"}}
        rows = _all(open_source(source_of(**keys)))
        assert [side.problem and side.problem.reason for row in rows for side in row.sides] == ["missing", None]

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"kind": "parquet", "src": {"lang": "fra", "text": "say"}}, "lacks the columns say; there are clip, said"),
            ({"kind": "corpus"}, "a.parquet: lacks the columns src_lang, src_audio"),
            ({"kind": "parquet", "path": "none", "src": {"lang": "fra", "text": "say"}}, "there are no Parquet files"),
            ({"kind": "manifest", "path": "none"}, "there is no such file"),
            pytest.param(
                {"kind": "hf", "path": ".", "src": {"lang": "fra", "text": "say"}},
                "cannot be loaded as a data set",
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_a_source_that_is_none_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        pq.write_table(_table(tmp_path), "a.parquet")
        with pytest.raises(InputError, match=message) as caught:
            open_source(source_of(**({"path": "a.parquet"} | keys)))
        assert "\n" not in str(caught.value)


class TestOpenGroups:
    def test_it_keeps_what_fits_and_counts_what_it_reads(self, tmp_path: Path) -> None:
        write_corpus(tmp_path, [corpus_row(i) for i in range(12)], files=1, group=3)
        source = open_source(source_of(kind="corpus", path=str(tmp_path)))
        groups = list(source.groups())
        size = max(group.size for group in groups)
        opened = OpenGroups([source], 2 * size)
        for number in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, which then has to be read again
            opened.get(0, groups[number], sound=True)
        assert Counter(opened.reads.values()) == {1: 2, 2: 1}
        assert opened.reads[0, groups[1], True] == 2 and opened.size <= 2 * size
        opened = OpenGroups([source], 0)
        assert [opened.get(0, groups[1], sound=True).row(2).id for _ in range(2)] == [_all(source)[5].id] * 2


def test_units_are_reduced() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        units = rng.integers(0, 3, rng.integers(0, 20)).tolist()
        slow = [unit for i, unit in enumerate(units) if i == 0 or units[i - 1] != unit]
        assert reduced(units).tolist() == slow == reduced(slow).tolist()
    assert reduced([-1, 3, 3, 70_000]).tolist() == [65535, 3, 65535]  # no vocabulary has these
