"""Evaluations that were made apart: what is compared, what is left out and why, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamlessalign.cli import main
from seamlessalign.training.evaluation.compare import compare, table
from tests.ground.page import Page

WANTED = ["The cat sat on the mat.", "A dog barked twice at the moon.", "I am here, and so are you.", "Go home now."]
MADE = {
    "good": ["The cat sat on the mat.", "A dog barked at the moon.", "I am here and so are you.", "Go home."],
    "poor": ["A cat sat on mats.", "Dogs bark.", "I was there, and you.", "Please go home now."],
}


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def _evaluated(
    folder: Path, system: str, *arguments: str, rows: list[dict[str, Any]] | None = None, made: str = ""
) -> str:
    """An evaluation of one system, written to a folder of its name."""
    known = rows or _rows()
    _jsonl(folder / f"{system}-rows.jsonl", known)
    texts = dict(zip((row["id"] for row in _rows()), MADE[made or system], strict=True))
    _jsonl(folder / f"{system}.jsonl", [{"id": row["id"], "text": texts.get(row["id"], "new")} for row in known])
    told = {
        "output": str(folder / system),
        "rows": {"path": f"{system}-rows.jsonl"},
        "systems": {system: {"path": f"{system}.jsonl"}},
        "resampling": {"samples": 100},
    }
    (folder / f"{system}.yaml").write_text(json.dumps(told))
    assert main(["evaluate", str(folder / f"{system}.yaml"), *arguments]) == 0
    return str(folder / system)


def _rows() -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "src_lang": ("fra", "deu")[i % 2], "tgt_lang": "eng", "reference": text, "src_text": f"s{i}"}
        for i, text in enumerate(WANTED)
    ]


def test_what_only_one_has_or_has_otherwise_is_told_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _evaluated(tmp_path, "good", "measures.text=[bleu, chrf++, chrf]")
    poor = _evaluated(tmp_path, "poor", "measures.text=[bleu, chrf++, wer]", "resampling.samples=200")
    file = tmp_path / "poor/evaluation.json"
    content = json.loads(file.read_text())
    for one in content["scores"]:  # that intervals are of more samples makes no other score
        assert one["signature"].endswith("|bs:200|seed:12345")
        if one["measure"] == "BLEU" and one["direction"] == "fra-eng":
            one["signature"] = one["signature"].replace("case:mixed", "case:lc")
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["evaluate", "--compare", good, poor]) == 0
    out = capsys.readouterr().out
    assert out.count("| fra-eng |") == 1 and out.count("| deu-eng |") == 2
    assert f"not compared: chrF2, deu-eng: {poor} has none" in out
    assert f"not compared: WER, fra-eng: {good} has none" in out
    assert out.count("not compared") == 5
    assert "not compared: BLEU, fra-eng: other settings: nrefs:1|case:mixed|" in out and "case:lc" in out


def test_files_have_all_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, poor = (
        _evaluated(tmp_path, name, f"measures.text=[bleu, {more}]") for name, more in (("good", "cer"), ("poor", "wer"))
    )
    to = tmp_path / "compared"
    assert main(["evaluate", "--compare", good, poor, "--to", str(to)]) == 0
    out = capsys.readouterr().out
    told = json.loads((to / "comparison.json").read_text(encoding="utf-8"))
    assert [(one["direction"], one["measure"]) for one in told["pairs"]] == [("deu-eng", "BLEU"), ("fra-eng", "BLEU")]
    for one in told["pairs"]:
        assert one["second"] - one["first"] == pytest.approx(one["difference"]) and one["difference"] < 0
        assert f"| {one['first']:.2f} | {one['second']:.2f} | {one['difference']:+.2f} (" in out
    assert {(one["measure"], one["reason"]) for one in told["left_out"]} == {
        ("CER", f"{poor} has none"),
        ("WER", f"{good} has none"),
    }
    source = (to / "comparison.html").read_text("utf-8")
    page = Page(source)
    pair = told["pairs"][1]
    cells = page.row("fra-engFrench → English")
    assert cells[2].startswith(f"{pair['first']:.2f} ★")
    assert cells[3].startswith(f"{pair['second']:.2f}") and f"−{-pair['difference']:.2f}" in cells[3]
    assert page.row("WER", "deu-eng")[2] == f"{good} has none"
    assert page.row("poor", next(cells[1] for cells in page.cells if cells[0] == "poor"))[2]
    assert "A cat sat on mats." in page.text and "The cat sat on the mat." in page.text
    before = source
    assert main(["evaluate", "--compare", good, poor, "--to", str(to)]) == 0
    assert (to / "comparison.html").read_text("utf-8") == before


def test_a_score_that_has_no_value_is_a_dash(tmp_path: Path) -> None:
    first = _evaluated(tmp_path, "good", "measures.text=[wer]", rows=[{**_rows()[0], "reference": "!!!"}])
    second = _evaluated(tmp_path, "poor", "measures.text=[wer]", rows=[{**_rows()[0], "reference": "!!!"}])
    found = compare(first, second)
    assert "| WER | – | – |" in table(found)
    assert found.pairs[0].first.score is None


def test_other_rows_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows()
    rows[1]["reference"] = "Something else."
    rows[2]["src_lang"] = "spa"
    other = [*rows[:3], {**rows[3], "id": "r9"}, {**rows[3], "id": "r8"}]
    good, poor = _evaluated(tmp_path, "good"), _evaluated(tmp_path, "poor", rows=other)
    capsys.readouterr()
    assert main(["evaluate", "--compare", good, poor]) == 2
    error = capsys.readouterr().err
    assert f"1 only in {good} (r3), 2 only in {poor} (r8, r9), 2 with other languages or references (r1, r2)" in error
    assert error.count("\n") == 1


def test_the_order_of_rows_is_nothing(tmp_path: Path) -> None:
    first = _evaluated(tmp_path, "good", "measures.text=[chrf++]")
    second = _evaluated(tmp_path, "poor", "measures.text=[chrf++]")
    wanted = compare(first, second)
    again = _evaluated(tmp_path, "poor", "measures.text=[chrf++]", rows=_rows()[::-1])
    assert [pair.comparison for pair in compare(first, again).pairs] == [pair.comparison for pair in wanted.pairs]


def test_the_same_system_of_two_evaluations_has_the_folders_in_its_names(tmp_path: Path) -> None:
    good = _evaluated(tmp_path, "good", "measures.text=[chrf++]")
    shutil.copytree(good, tmp_path / "again")
    assert main(["evaluate", "--compare", good, str(tmp_path / "again"), "--to", str(tmp_path / "to")]) == 0
    page = Page((tmp_path / "to/comparison.html").read_text("utf-8"))
    assert "Systems: good: good (baseline), again: good" in page.text
    assert all(pair.comparison.p_value == 1 for pair in compare(good, str(tmp_path / "again")).pairs)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _changed(path: Path) -> None:
    content = json.loads(path.read_text())
    content["scores"][0]["score"] += 1
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("statistics.parquet", Path.unlink, "statistics.parquet: is not there: evaluate again"),
        ("statistics.parquet", _cut, "statistics.parquet: is not that of"),
        ("evaluation.json", _cut, "evaluation.json: is not what `seamlessalign evaluate` writes"),
        ("evaluation.json", lambda path: path.write_text("[]"), "is not what `seamlessalign evaluate` writes"),
        ("evaluation.json", _changed, "in evaluation.json and"),
        (
            "statistics.parquet",
            lambda path: shutil.copy(path.with_name("translations.parquet"), path),
            "is not that of",
        ),
    ],
)
def test_damage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, spoil: Callable[[Path], Any], told: str
) -> None:
    good, poor = _evaluated(tmp_path, "good"), _evaluated(tmp_path, "poor")
    spoil(tmp_path / "poor" / name)
    capsys.readouterr()
    assert main(["evaluate", "--compare", good, poor]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_what_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _evaluated(tmp_path, "good")
    for arguments, told in (
        (["--compare", good, good], "are the same system of the same evaluation"),
        ([str(tmp_path / "good.yaml"), "--to", "x"], "--to goes with --compare A B"),
        (["--page", good, "--compare", good, good], "either CONFIG.yaml, or --compare"),
    ):
        assert main(["evaluate", *arguments]) == 2
        assert told in capsys.readouterr().err
