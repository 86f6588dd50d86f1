"""Whole evaluations on the command line: what is told, what is written, and what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sacrebleu
import soundfile

from seamlessalign.cli import main
from seamlessalign.errors import InputError
from seamlessalign.training.evaluation import evaluate
from seamlessalign.training.evaluation.compare import compare
from seamlessalign.training.evaluation.config import Resampling
from seamlessalign.training.evaluation.measures import Measured, percentage

WANTED = {
    "fra": ["The cat sat on the mat.", "NA", "A dog barked twice at the moon."],
    "cmn": ["I am here.", "Go home now, please."],
}
MADE = {
    "good": ["The cat sat on the mat.", "NA", "A dog barked at the moon.", "I am here.", "Go home now."],
    "poor": ["A cat sat on mats.", "", "Dogs bark.", "I was there.", "Please go home now."],
}


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [
        {"id": f"{lang}{i}", "src_lang": lang, "tgt_lang": "eng", "reference": text}
        for lang, texts in WANTED.items()
        for i, text in enumerate(texts)
    ]
    _jsonl(tmp_path / "rows.jsonl", rows)
    systems = {}
    for name, texts in MADE.items():
        made = [{"id": row["id"], "text": text} for row, text in zip(rows, texts, strict=True)]
        systems[name] = {"path": _jsonl(tmp_path / f"{name}.jsonl", made[::-1])}
    told = {"output": str(tmp_path / "out"), "rows": {"path": "rows.jsonl"}, "systems": systems}
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))


def test_scores_are_those_of_sacrebleu_by_direction(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config), "measures.text=[bleu, chrf++, error_rate]"]) == 0
    out = capsys.readouterr().out
    told = _told(config.parent / "out")
    assert (told["rows"], told["baselines"]) == (5, {"translation": "good"})
    scores = {(line["system"], line["direction"], line["measure"]): line for line in told["scores"]}
    assert len(scores) == 2 * 2 * 3
    for system, texts in MADE.items():
        for direction, made, wanted in (
            ("fra-eng", texts[:3], WANTED["fra"]),
            ("cmn-eng", texts[3:], WANTED["cmn"]),
        ):
            line = scores[system, direction, "BLEU"]
            assert line["score"] == pytest.approx(sacrebleu.corpus_bleu(made, [wanted]).score)
            assert f"| {system} | {direction} | BLEU | {line['score']:.2f} (" in out
            assert ("against_baseline" in line) == (system == "poor")
    assert "version:" in scores["good", "fra-eng", "WER"]["signature"]
    statistics = pq.read_table(config.parent / "out/statistics.parquet")
    assert len(statistics) == 2 * 5 * 3


def test_rows_without_an_output_stay_and_are_counted(config: Path) -> None:
    folder = config.parent
    lines = (folder / "good.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"fra2"' not in line]
    (folder / "good.jsonl").write_text("\n".join([*kept, '{"id": "other", "text": "of another set"}']) + "\n")
    assert main(["evaluate", str(config), "measures.text=[bleu]"]) == 0
    told = _told(folder / "out")
    assert told["systems"]["good"] == {"missing": ["fra2"], "not_asked": 1}
    line = next(line for line in told["scores"] if (line["system"], line["direction"]) == ("good", "fra-eng"))
    assert (line["rows"], line["missing"]) == (3, 1)
    with_empty = sacrebleu.corpus_bleu([*MADE["good"][:2], ""], [WANTED["fra"]]).score
    assert line["score"] == pytest.approx(with_empty)


def test_evaluations_made_apart_compare_as_one_does(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config)]) == 0
    whole = {
        (line["direction"], line["measure"]): line["against_baseline"]["p_value"]
        for line in _told(config.parent / "out")["scores"]
        if line["system"] == "poor"
    }
    folders = []
    for name in MADE:
        other = {"good": "poor", "poor": "good"}[name]
        told = json.loads(config.read_text())
        del told["systems"][other]
        (config.parent / f"{name}.yaml").write_text(json.dumps(told))
        folders.append(str(config.parent / f"out-{name}"))
        assert main(["evaluate", str(config.parent / f"{name}.yaml"), f"output={folders[-1]}"]) == 0
    assert {
        (pair.first.direction, pair.first.measure): pair.comparison.p_value
        for pair in compare(folders[0], folders[1]).pairs
    } == whole
    capsys.readouterr()
    both = str(config.parent / "out")
    assert main(["evaluate", "--compare", f"{both}:good", f"{both}:poor"]) == 0
    assert "| fra-eng | BLEU |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["measures.text=[blue]"], "measures.text"),
        (["measures.text=[spbleu]"], "spbleu, which needs measures.sentencepiece"),
        (["baseline=other"], "baseline is 'other', which is none of systems: good, poor"),
        (["systems.good.path=nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["rows.columns.references=text"], "5 rows have no reference, such as "),
    ],
)
def test_mistakes_are_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["evaluate", str(config), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_what_cannot_be_compared(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, other = str(config.parent / "out"), str(config.parent / "other")
    assert main(["evaluate", str(config)]) == 0
    rows = (config.parent / "rows.jsonl").read_text()
    (config.parent / "rows.jsonl").write_text(rows.replace("the mat", "a mat"))
    assert main(["evaluate", str(config), f"output={other}"]) == 0
    capsys.readouterr()
    for first, second, told in (
        (out, out, "has several systems: say"),
        (f"{out}:good", f"{out}:best", "has no system 'best', but good, poor"),
        (f"{out}:good", f"{other}:good", "were made of different rows"),
        (str(config.parent), f"{out}:good", "is no folder of an evaluation"),
    ):
        assert main(["evaluate", "--compare", first, second]) == 2
        assert told in capsys.readouterr().err
    assert main(["evaluate"]) == 2
    assert "either CONFIG.yaml, or --compare" in capsys.readouterr().err


def test_each_row_has_its_score_and_its_texts(config: Path) -> None:
    assert main(["evaluate", str(config), "measures.text=[bleu, chrf++]"]) == 0
    rows = pq.read_table(config.parent / "out/statistics.parquet").to_pylist()
    texts = {
        (row["system"], row["id"]): row for row in pq.read_table(config.parent / "out/translations.parquet").to_pylist()
    }
    assert len(texts) == 10 and len(rows) == 20
    sentence: dict[str, Any] = {
        "BLEU": sacrebleu.sentence_bleu,
        "chrF2++": lambda a, b: sacrebleu.sentence_chrf(a, b, word_order=2),
    }
    for row in rows:
        text = texts[row["system"], row["id"]]
        wanted = sentence[row["measure"]](text["text"], text["references"]).score
        assert row["score"] == pytest.approx(wanted), row


def test_what_cannot_be_written_as_utf_8_is_still_told(config: Path) -> None:
    lines = [json.loads(line) for line in (config.parent / "good.jsonl").read_text().splitlines()]
    lines[0]["id"] = "half \ud83d"
    (config.parent / "good.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["evaluate", str(config)]) == 0
    assert _told(config.parent / "out")["systems"]["good"]["not_asked"] == 1


def test_a_folder_has_nothing_of_what_was_evaluated_into_it_before(config: Path) -> None:
    out = config.parent / "out"
    assert main(["evaluate", str(config), "measures.toxicity={lexicons: lex, source: text, skip_missing: true}"]) == 2
    assert not (out / "evaluation.json").exists()
    assert main(["evaluate", str(config)]) == 0
    (config.parent / "clips.tsv").write_text("id\tlang\n1\tfra\n")
    (config.parent / "lid.yaml").write_text(
        json.dumps(
            {"output": str(out), "lid": {"rows": {"path": "clips.tsv"}, "systems": {"a": {"path": "clips.tsv"}}}}
        )
    )
    assert main(["evaluate", str(config.parent / "lid.yaml"), "lid.systems.a.columns.answer=lang"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "behind.jsonl", "evaluation.html", "evaluation.json", "statistics.parquet",
    ]  # fmt: skip
    assert "BLEU" not in (out / "evaluation.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["statistics.parquet", "translations.parquet", "behind.jsonl"])
def test_files_of_an_evaluation_that_wrote_over_another_are_told(
    config: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """As it is left by one that is killed while it writes, or by two at once."""
    out = config.parent / "out"
    (config.parent / "lex").mkdir()
    for lang in ("fra", "cmn", "eng"):
        (config.parent / "lex" / f"{lang}.txt").write_text("mats\n")
    rows = [json.loads(line) | {"src_text": "?"} for line in (config.parent / "rows.jsonl").read_text().splitlines()]
    _jsonl(config.parent / "rows.jsonl", rows)
    assert main(["evaluate", str(config), "measures.toxicity={lexicons: lex}"]) == 0
    other = (out / name).read_bytes()
    _jsonl(config.parent / "poor.jsonl", [{"id": "fra0", "text": "moon"}])
    assert main(["evaluate", str(config)]) == 0
    (out / name).write_bytes(other)
    capsys.readouterr()
    assert main(["evaluate", "--page", str(out)]) == 2
    assert f"{name}: is not that of" in capsys.readouterr().err
    assert main(["evaluate", str(config)]) == 0
    assert main(["evaluate", "--page", str(out)]) == 0


def test_a_folder_that_cannot_be_written_to_is_told_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "file").write_text("")
    soundfile.write(config.parent / "a.wav", np.sin(np.arange(4000)) / 2, 16000)
    _jsonl(config.parent / "good.jsonl", [{"id": "fra0", "audio": "a.wav"}])
    where = [f"output={config.parent}/file/out", f"measures.asr.function={__name__}:never"]
    assert main(["evaluate", str(config), *where]) == 2
    assert "file/out" in capsys.readouterr().err


def test_a_page_that_cannot_be_made_leaves_none_of_other_scores(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["evaluate", str(config)]) == 0
    assert (config.parent / "out/evaluation.html").exists()
    monkeypatch.setattr(evaluate, "build_page", lambda folder: never([], folder))
    assert main(["evaluate", str(config), "measures.text=[wer]"]) == 2
    assert not (config.parent / "out/evaluation.html").exists()


def test_why_a_system_that_is_run_failed_is_told_whatever_is_measured(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) | {"src_text": "?"} for line in (config.parent / "rows.jsonl").read_text().splitlines()]
    _jsonl(config.parent / "rows.jsonl", rows)
    (config.parent / "lex").mkdir()
    for lang in ("fra", "cmn", "eng"):
        (config.parent / "lex" / f"{lang}.txt").write_text("mats\n")
    told = json.loads(config.read_text())
    told["systems"] = {"broken": {"function": f"{__name__}:breaks"}}
    told["measures"] = {"text": [], "speech": [], "toxicity": {"lexicons": "lex"}}
    config.write_text(json.dumps(told))
    assert main(["evaluate", str(config)]) == 3
    error = capsys.readouterr().err
    assert "broken: 5 set aside: function_failed (first: row fra0: ValueError: out of order)" in error
    assert "broken: set aside, and scored as empty: function_failed 5\n" in error
    counts = {line["direction"]: line["details"]["failed"] for line in _told(config.parent / "out")["scores"]}
    assert counts == {"cmn-eng": {"function_failed": 2}, "fra-eng": {"function_failed": 3}}
    assert main(["evaluate", str(config), "measures.toxicity=null"]) == 3  # nor where nothing is


def breaks(rows: Sequence[Any]) -> list[str]:
    raise ValueError("out of order")


def test_only_what_was_measured_in_the_same_way_is_compared() -> None:
    one = Measured("wer", "WER", "nrefs:1", False, ["a", "b"], np.ones((2, 2)), percentage)
    assert evaluate.compared(one, one, Resampling(samples=9)).p_value == 1
    with pytest.raises(InputError, match="nrefs:1 and nrefs:2 cannot be compared"):
        evaluate.compared(one, replace(one, signature="nrefs:2"), Resampling(samples=9))
    with pytest.raises(InputError, match="is of other rows"):
        evaluate.compared(one, replace(one, ids=["b", "a"]), Resampling(samples=9))


def never(waveforms: Sequence[Any], lang: str) -> list[str]:
    raise InputError("heard")


def test_what_could_not_be_heard_is_told_with_status_three(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[dict[str, Any]] = [{"id": "fra0", "audio": "nowhere.wav"}, {"id": "fra1", "audio": None}]
    _jsonl(config.parent / "good.jsonl", made)
    asr = f"measures.asr.function={__name__}:heard"
    assert main(["evaluate", str(config), asr, "measures.speech=[asr_bleu, asr_error_rate]"]) == 3
    assert "good: set aside, and scored as empty: missing 1\n" in capsys.readouterr().err
    _jsonl(config.parent / "good.jsonl", made[1:])
    assert main(["evaluate", str(config), asr]) == 0  # what a system did not make is its own affair


HEARD: list[int] = []  # how many sounds, each time


def heard(waveforms: Sequence[Any], lang: str) -> list[str]:
    HEARD.append(len(waveforms))
    return ["" for _ in waveforms]


def test_error_rate_and_what_it_is_are_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config), "measures.text=[error_rate, wer, cer]"]) == 0
    told = [(line["system"], line["direction"], line["measure"]) for line in _told(config.parent / "out")["scores"]]
    assert len(told) == len(set(told)) == 2 * 2 * 2
    assert main(["evaluate", str(config), "measures.text=[wer, wer]"]) == 2
    assert "measures.text: wer is there twice" in capsys.readouterr().err


def test_numbers_that_there_are_not_are_dashes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (config.parent / "rows.jsonl").read_text().splitlines()]
    _jsonl(config.parent / "rows.jsonl", rows[:1])
    told = json.loads(config.read_text())
    told["systems"]["a|b"] = told["systems"].pop("poor")
    config.write_text(json.dumps(told))
    assert main(["evaluate", str(config), "measures.text=[wer]", "resampling.test=randomisation"]) == 0
    out = capsys.readouterr().out
    assert "| good | fra-eng | WER | 0.00 | 1 | 0 |  |" in out
    assert "| a\\|b | fra-eng | WER | 50.00 | 1 | 0 | +50.00, p = 1.000 |" in out and "nan" not in out


def test_an_output_elsewhere_has_all_files_there(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fsspec

    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(4000)) / 2, 16000)
    _jsonl(tmp_path / "good.jsonl", [{"id": "fra0", "audio": "a.wav"}])
    before = sorted(tmp_path.iterdir())
    asr = f"measures.asr.function={__name__}:heard"
    HEARD.clear()
    for _ in range(2):
        assert main(["evaluate", str(config), "output=memory://bucket/evaluation", asr]) == 0
    assert HEARD == [1]  # and what was heard is not heard again
    assert sorted(tmp_path.iterdir()) == before
    names = fsspec.filesystem("memory").find("/bucket/evaluation")
    assert len([name for name in names if "/asr/" in name]) == 1 and len(names) == 6
    assert main(["evaluate", "--compare", "memory://bucket/evaluation:good", "memory://bucket/evaluation:poor"]) == 2


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(config: Path) -> None:
    found = []
    for seed, threads in (("1", "1"), ("2", "2")):
        out = config.parent / f"out{seed}"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", "seamlessalign", "evaluate", str(config), f"output={out}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert found[0] == found[1]
