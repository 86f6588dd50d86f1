"""Input that is not as it should be: one clear line, or a row that is counted, and never a smaller test set."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sacrebleu
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.errors import InputError
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation import heard
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.recognisers import Float32
from seamlessalign.training.evaluation.rows import Output, TestRow, read_outputs, read_test_rows
from seamlessalign.training.evaluation.subjects import Subject, Tools

ROW = {"id": "a", "src_lang": "fra", "tgt_lang": "eng", "reference": "a text"}
ROWS = [TestRow(key, "fra", "eng", ("a text",)) for key in "abc"]


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def tsv(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return str(path)


FORMATS: dict[str, Callable[[Path, Sequence[dict[str, Any]]], str]] = {"jsonl": jsonl, "tsv": tsv, "parquet": parquet}
PLAIN = st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\n\r\0")
ODD = [
    "NA", "null", "nan", "None", "", " ", "\u3000", '"', '"a" b', "''", "\\n", "\\t", "#", "1", "1.0", "true", "[]",
    "\u2028", "\x1c", "\x85", "e\u0301", "\ufeff",
]  # fmt: skip
TEXTS = st.text(PLAIN, max_size=12) | st.sampled_from(ODD)


class TestTexts:
    @given(st.lists(TEXTS, min_size=1, max_size=6))
    @settings(max_examples=60, deadline=None)
    def test_they_are_the_same_from_every_kind_of_table(
        self, tmp_path_factory: pytest.TempPathFactory, texts: list[str]
    ) -> None:
        folder = tmp_path_factory.mktemp("tables")
        rows = [TestRow(str(i), "fra", "eng", (text,)) for i, text in enumerate(texts)]
        for suffix, write in FORMATS.items():
            place = write(folder / f"made.{suffix}", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
            found = read_outputs("a", place, rows)
            assert (found.texts(), found.missing) == (texts, [])
            place = write(folder / f"line.{suffix}", [{"text": text} for text in texts])  # without ids
            assert read_outputs("a", place, rows).texts() == texts
            place = write(
                folder / f"rows.{suffix}",
                [ROW | {"id": str(i), "reference": text, "src_text": text} for i, text in enumerate(texts)],
            )
            read = read_test_rows(place)
            assert [(row.references, row.src_text) for row in read] == [((text,), text) for text in texts]

    def test_of_a_million_characters(self, tmp_path: Path) -> None:
        text = "NA \u3042 " * 200_000
        for suffix, write in FORMATS.items():
            place = write(tmp_path / f"made.{suffix}", [{"id": "a", "text": text}, {"id": "b", "text": "x"}])
            assert read_outputs("a", place, ROWS).texts() == [text, "x", None]

    def test_byte_order_marks_and_carriage_returns_are_no_text(self, tmp_path: Path) -> None:
        for name, content in (
            ("a.tsv", "id\ttext\r\na\tone\r\nb\t\r\nc\tNA\r\n"),
            (
                "a.jsonl",
                "".join(
                    json.dumps({"id": key, "text": text}) + "\r\n"
                    for key, text in zip("abc", ["one", "", "NA"], strict=True)
                ),
            ),
        ):
            (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
            found = read_outputs("a", str(tmp_path / name), ROWS)
            assert found.texts() == ["one", "", "NA"]

    def test_unicode_forms_stay_as_they_are(self, tmp_path: Path) -> None:
        apart = unicodedata.normalize("NFD", "été")
        for suffix, write in FORMATS.items():
            place = write(tmp_path / f"made.{suffix}", [{"id": "a", "text": apart}, {"id": "b", "text": "été"}])
            assert read_outputs("a", place, ROWS).texts() == [apart, "été", None]

    def test_half_a_character_is_the_one_that_stands_for_what_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "made.jsonl").write_text(
            '{"id": "a", "text": "a \\ud83d b"}\n{"id": "b", "text": "\\ud83d\\ude00"}\n'
        )
        assert read_outputs("a", str(tmp_path / "made.jsonl"), ROWS).texts() == ["a \ufffd b", "😀", None]


class TestTables:
    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("a.tsv", "id\ttext\na\tone\ttwo\n", "a.tsv line 2: has 3 fields, and the header 2: texts with tabs need"),
            ("a.tsv", "id\ttext\na\tone\n\nb\ttwo\n", "a.tsv line 3: has 1 fields, and the header 2"),
            ("a.tsv", "id\ttext\ttext\na\tone\ttwo\n", "a.tsv: has columns of the same name: text"),
            ("a.tsv", "", "has no rows"),
            ("a.tsv", "id\ttext\n", "has no rows"),
            ("a.jsonl", "", "has no rows"),
            ("a.jsonl", '{"id": "a", "text": "x"}\n\n', "a.jsonl line 2: is not JSON"),
            ("a.jsonl", '{"id": "a", "text": "x"', "a.jsonl line 1: is not JSON"),
            ("a.jsonl", '["a", "x"]\n', "a.jsonl line 1: is no JSON object"),
            ("a.jsonl", '{"text": "x"}\n{"id": "b", "text": "x"}\n', "row 1: has an id, unlike the rows before it"),
            ("a.jsonl", '{"id": "a", "text": "x"}\n{"text": "x"}\n', "row 1: has no id, unlike the rows before it"),
            ("a.jsonl", '{"id": "a", "text": "x"}\n{"id": null, "text": "x"}\n', "row 1: has no id: every row"),
            ("a.jsonl", '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "1 ids are there more than once: a"),
            ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}\n', "1 ids are there more than once: 1"),
            ("a.jsonl", '{"id": "q", "text": "x"}\n', "has none of the test set's ids, such as a, b, c"),
            ("a.jsonl", '{"id": "a", "hypothesis": "x"}\n', "has neither text nor audio, but id, hypothesis"),
            ("a.jsonl", '{"id": "a", "text": "x", "tgt_lang": "deu"}\n', "tgt_lang is deu, and eng in the test set"),
            ("a.jsonl", '{"id": "a", "text": "x", "src_lang": "qqq"}\n', "row 0: src_lang: language 'qqq' is not"),
            ("a.csv", "id,text\na,x\n", "tables are .parquet, .jsonl or .tsv, not .csv"),
            ("a.parquet", "id\ttext\n", "a.parquet: is not a readable Parquet file"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant(self, tmp_path: Path, name: str, content: str, told: str) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=told):
            read_outputs("a", str(tmp_path / name), ROWS)

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"text": 3}, "row 0: text is '3', of type int, and must be a text, or null"),
            ({"text": True}, "text is 'True', of type bool"),
            ({"text": ["a"]}, r"text is \"\['a'\]\", of type list"),
            ({"text": float("nan")}, "text is 'nan', of type float"),
            ({"id": 1.0, "text": "x"}, "id is '1.0', of type float, and must be a text or a whole number"),
            ({"id": True, "text": "x"}, "id is 'True', of type bool"),
            ({"text": {"eng": "a"}}, "of type dict, and must be a text"),
            ({"audio": ["a.wav"]}, "of type list, and must be the path of a sound, or null"),
            ({"audio": 3}, "audio is '3', of type int, and must be the path of a sound, or null"),
        ],
    )
    def test_numbers_are_no_texts(self, tmp_path: Path, values: dict[str, Any], told: str) -> None:
        with pytest.raises(InputError, match=told):
            read_outputs("a", jsonl(tmp_path / "made.jsonl", [{"id": "a"} | values]), ROWS)

    @pytest.mark.parametrize("value", [3, True, 1.5, ["a"]])
    def test_numbers_are_no_texts_wherever_they_are(self, tmp_path: Path, value: Any) -> None:
        for column in ("src_text", "tgt_lang", "gender", "reference_masculine"):
            for write, name in ((jsonl, "rows.jsonl"), (parquet, "rows.parquet")):
                with pytest.raises(InputError, match=f"row 0: {column} is .*, of type {type(value).__name__}"):
                    read_test_rows(write(tmp_path / name, [ROW | {column: value}]))
        if value != ["a"]:
            with pytest.raises(InputError, match=f"row 0: reference is .*, of type {type(value).__name__}"):
                read_test_rows(jsonl(tmp_path / "rows.jsonl", [ROW | {"reference": ["a", value]}]))
        for ragged in (["a", ["b"]], [["a"]]):
            with pytest.raises(InputError, match=r"row 0: reference is .*, of type list, and must be a text"):
                read_test_rows(jsonl(tmp_path / "rows.jsonl", [ROW | {"reference": ragged}]))

    def test_whole_numbers_are_ids(self, tmp_path: Path) -> None:
        rows = [TestRow(str(i), "fra", "eng", ("x",)) for i in range(2)]
        for write, name in ((jsonl, "a.jsonl"), (parquet, "a.parquet")):
            place = write(tmp_path / name, [{"id": 1, "text": "b"}, {"id": 0, "text": "a"}])
            assert read_outputs("a", place, rows).texts() == ["a", "b"]

    def test_a_row_with_neither_text_nor_sound_is_missing(self, tmp_path: Path) -> None:
        made: list[dict[str, Any]] = [
            {"id": "a", "text": "x"},
            {"id": "b", "error": "out of memory"},
            {"id": "c", "text": None},
        ]
        assert read_outputs("a", jsonl(tmp_path / "made.jsonl", made), ROWS).missing == ["b", "c"]

    def test_a_language_that_is_given_and_another_in_the_table(self, tmp_path: Path) -> None:
        place = jsonl(tmp_path / "rows.jsonl", [ROW, ROW | {"id": "b", "tgt_lang": "deu"}])
        with pytest.raises(InputError, match="row 1: tgt_lang is deu, and the language given for all rows is eng"):
            read_test_rows(place, tgt_lang="en")
        assert [row.tgt_lang for row in read_test_rows(place)] == ["eng", "deu"]
        empty = tsv(tmp_path / "rows.tsv", [ROW | {"tgt_lang": ""}])
        assert read_test_rows(empty, tgt_lang="eng")[0].tgt_lang == "eng"
        with pytest.raises(InputError, match="tgt_lang is not there: add the column"):
            read_test_rows(empty)

    def test_damaged_parquet_files(self, tmp_path: Path) -> None:
        rows = [ROW | {"id": str(i), "reference": f"text {i} {'x' * 50}"} for i in range(500)]
        whole = Path(parquet(tmp_path / "whole.parquet", rows)).read_bytes()
        for name, content in (
            ("half", whole[: len(whole) // 2]),
            ("turned", whole[:300] + b"\xff" * 200 + whole[500:]),
        ):
            (tmp_path / f"{name}.parquet").write_bytes(content)
            with pytest.raises(Exception, match=f"{name}.parquet: is not a readable Parquet file") as caught:
                read_test_rows(str(tmp_path / f"{name}.parquet"))
            assert getattr(caught.value, "exit_status", None) == 2

    def test_sound_in_parquet_is_not_kept_in_memory(self, tmp_path: Path) -> None:
        sound = {"bytes": b"x" * 1000, "path": None}
        place = parquet(tmp_path / "rows.parquet", [ROW | {"src_audio": sound}, ROW | {"id": "b", "src_audio": None}])
        first, second = read_test_rows(place)
        assert first.src_sound is not None and first.src_sound.content == b"" and second.src_sound is None


# Speech


def lengths(waveforms: Sequence[Float32], lang: str) -> list[Any]:
    """Tells the seconds of each sound, but of some something else."""
    seconds = [round(len(one) / 16000, 2) for one in waveforms]
    if 0.3 in seconds:
        raise RuntimeError("cannot hear\nthis")
    if 0.4 in seconds:
        return ["too", "many", "texts"] * len(waveforms)
    odd: dict[float, Any] = {0.5: None, 0.6: 7, 0.7: b"bytes", 0.8: ["list"], 0.9: "half \ud83d"}
    return [odd.get(one, f"{lang} {one:g} s") for one in seconds]


def _write_sounds(folder: Path) -> dict[str, str]:
    """Name of a file → what comes of it: a text, or the reason why there is none."""
    random = np.random.default_rng(0)

    def noise(seconds: float, rate: int = 16000, channels: int = 1) -> Any:
        return random.uniform(-0.1, 0.1, (int(rate * seconds), channels))

    for name, samples, rate in (
        ("good.wav", noise(1.0), 16000),
        ("other_rate.flac", noise(1.0, 44100), 44100),
        ("stereo.wav", noise(1.0, 8000, 2), 8000),
        ("raises.wav", noise(0.3), 16000),
        ("too_many.wav", noise(0.4), 16000),
        ("none.wav", noise(0.5), 16000),
        ("number.wav", noise(0.6), 16000),
        ("bytes.wav", noise(0.7), 16000),
        ("list.wav", noise(0.8), 16000),
        ("half.wav", noise(0.9), 16000),
        ("silent.wav", noise(1.0) * 0, 16000),
        ("nothing.wav", noise(0.0), 16000),
    ):
        soundfile.write(folder / name, samples, rate)
    whole = (folder / "good.wav").read_bytes()
    (folder / "cut_off.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound at all\n" * 50)
    (folder / "folder.wav").mkdir()
    return {
        "good.wav": "eng 1 s", "other_rate.flac": "eng 1 s", "stereo.wav": "eng 1 s", "half.wav": "half \ufffd",
        "raises.wav": "asr_failed", "too_many.wav": "asr_failed", "none.wav": "asr_failed", "number.wav": "asr_failed",
        "bytes.wav": "asr_failed", "list.wav": "asr_failed", "silent.wav": "silent", "nothing.wav": "no_samples",
        "cut_off.wav": "truncated", "empty.wav": "empty", "text.wav": "not_audio", "folder.wav": "unreadable",
        "nowhere.wav": "missing",
    }  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    jsonl(tmp_path / "rows.jsonl", [ROW, ROW | {"id": "b", "tgt_lang": "cmn"}])
    jsonl(tmp_path / "made.jsonl", [{"id": "a", "text": "a text"}, {"id": "b", "text": ""}])
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"ours": {"path": "made.jsonl"}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _told(config: Path) -> dict[str, Any]:
    return dict(json.loads((config.parent / "out/evaluation.json").read_text(encoding="utf-8")))


class TestSpeech:
    def test_every_sound_that_is_not_heard_is_counted_and_named(self, config: Path) -> None:
        folder = config.parent
        expected = _write_sounds(folder)
        names = [*expected, "not said"]
        jsonl(folder / "rows.jsonl", [ROW | {"id": name, "reference": "eng 1 s"} for name in names])
        jsonl(folder / "made.jsonl", [{"id": name, "audio": name} for name in expected])
        asr = f"measures.asr={{function: '{__name__}:lengths'}}"
        assert main(["evaluate", str(config), asr]) == 3
        (line,) = _told(config)["scores"]
        reasons = {"no_sound": 1}
        for what in expected.values():
            if what not in ("eng 1 s", "half \ufffd"):
                reasons[what] = reasons.get(what, 0) + 1
        assert line["details"]["failed"] == reasons
        assert line["details"]["trouble"] == "RuntimeError: cannot hear"
        assert (line["rows"], line["missing"]) == (len(names), sum(reasons.values()))
        rows = [json.loads(text) for text in (folder / "out/behind.jsonl").read_text().splitlines()]
        assert {row["id"]: row["what"] for row in rows} == {"not said": "no_sound"} | {
            name: what for name, what in expected.items() if what in reasons
        }
        heard = pq.read_table(folder / "out/translations.parquet").to_pylist()
        assert {row["id"]: row["heard"] for row in heard} == {"not said": None} | {
            name: None if what in reasons else what for name, what in expected.items()
        }
        made = [expected[name] if name in expected and expected[name] not in reasons else "" for name in names]
        plain = [text.replace("\ufffd", " ") for text in made]
        assert line["score"] == sacrebleu.corpus_bleu(plain, [["eng 1 s"] * len(names)]).score

    def test_why_a_system_that_was_run_said_nothing_is_counted(self, config: Path) -> None:
        sound = Sound(str(config.parent / "none.wav"))
        soundfile.write(sound.path, np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 16000)
        outputs = [Output(reason="too_long"), Output(), Output(sound=sound, reason="cut_off")]
        told = yaml.safe_load(config.read_text())
        told["measures"] = {"speech": ["asr_bleu"], "asr": {"function": f"{__name__}:lengths"}}
        tools = Tools(EvaluationConfig.model_validate(told))
        (found,) = heard.measured(Subject("ours", ROWS, outputs, False, True, tools), tools)
        assert found.details["failed"] == {"too_long": 1, "no_sound": 1, "asr_failed": 1}
        assert [(row["id"], row["what"]) for row in found.behind] == [
            ("a", "too_long"),
            ("b", "no_sound"),
            ("c", "asr_failed"),
        ]

    def test_a_language_that_whisper_does_not_know_is_told_before_anything_is_heard(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = config.parent
        jsonl(folder / "rows.jsonl", [ROW | {"tgt_lang": "ory"}, ROW | {"id": "b"}])
        jsonl(folder / "made.jsonl", [{"id": "a", "audio": "nowhere.wav"}])
        assert main(["evaluate", str(config)]) == 2
        assert "Whisper does not know ory: evaluate these rows apart" in capsys.readouterr().err
        assert not (folder / "out").exists()
        assert main(["evaluate", str(config), f"measures.asr={{function: '{__name__}:lengths'}}"]) == 3

    @pytest.mark.parametrize(
        ("asr", "told"),
        [
            ("{function: 'nowhere:f'}", "asr 'nowhere:f': is no function that can be imported"),
            ("{function: 'json:loads', directory: d}", "asr has both function and directory: give one of them"),
            ("{beam: 5}", "asr.beam is of engine faster-whisper: say engine, or leave it out"),
            ("{engine: whisper}", "measures.asr.engine"),
            ("{engine: faster-whisper, beam: 0}", "measures.asr.beam"),
            ("{engine: faster-whisper, directory: d}", "d is not a directory"),
            ("{whisper: whisper-bass}", "model 'whisper-bass' is not known"),
            ("{device: cuda:7}", "asr.device 'cuda:7': torch has no such device here"),
        ],
    )
    def test_a_recogniser_that_cannot_be_had(
        self, config: Path, capsys: pytest.CaptureFixture[str], asr: str, told: str
    ) -> None:
        soundfile.write(config.parent / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 16000)
        jsonl(config.parent / "made.jsonl", [{"id": "a", "audio": "a.wav"}])
        assert main(["evaluate", str(config), f"measures.asr={asr}"]) == 2
        error = capsys.readouterr().err
        assert told in error.splitlines()[-1]
