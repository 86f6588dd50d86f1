"""Whole evaluations on the command line: what is told, what is written, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sacrebleu

from seamlessalign.cli import main
from seamlessalign.training.evaluation.compare import compare

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
