"""chrF_MS and CoefVar_MS: computed by hand, and by groups that are drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.measures import Measured
from seamlessalign.training.evaluation.robustness.speakers import measured
from seamlessalign.training.evaluation.rows import Output, TestRow
from seamlessalign.training.evaluation.subjects import Subject, Tools

WANTED = "The cat sat on the mat."
# group, what was made
MADE = [
    ("a", WANTED),  # 100
    ("a", "A cat sat on mats."),
    ("b", "zzz"),  # 0, and so is the next: a mean of 0 has no variation
    ("b", ""),
    ("c", "The dog sat on the mat."),  # alone
    ("d", "The cat sat."),
    ("d", "A cat sat on the mat."),
    ("d", "The cat sat on the mat"),
]


def _sentence(text: str) -> float:
    return float(sacrebleu.sentence_chrf(text, [WANTED], word_order=2).score)


def _found(made: list[tuple[str | None, str | None]], **settings: Any) -> dict[str, Measured]:
    config = EvaluationConfig.model_validate(
        {
            "output": "",
            "rows": {"path": ""},
            "systems": {"a": {"path": ""}},
            "measures": {"speakers": {"min_groups": 1, **settings}},
        }
    )
    rows = [
        TestRow(str(i), "fra", "eng", (WANTED,), group=group, src_text=f"text of {group}")
        for i, (group, _) in enumerate(made)
    ]
    subject = Subject("a", rows, [Output(text) for _, text in made], True, False, Tools(config))
    return {one.kind: one for one in measured(subject, subject.tools)}


def _score(one: Measured) -> float:
    return one.score(one.statistics.sum(0))


def test_scores_are_those_computed_by_hand() -> None:
    a1, a2, b1, b2, c, d1, d2, d3 = (_sentence(text) for _, text in MADE)
    assert a1 == pytest.approx(100) and b1 == b2 == 0
    found = _found(list(MADE))
    mean_a, mean_d = (a1 + a2) / 2, (d1 + d2 + d3) / 3
    assert _score(found["chrf_ms"]) == pytest.approx((mean_a + 0 + c + mean_d) / 4)
    sd_a = abs(a1 - a2) / 2**0.5  # of two values, over n - 1
    sd_d = (((d1 - mean_d) ** 2 + (d2 - mean_d) ** 2 + (d3 - mean_d) ** 2) / 2) ** 0.5
    assert _score(found["coefvar_ms"]) == pytest.approx(100 * (sd_a / mean_a + sd_d / mean_d) / 2)
    population = _found(list(MADE), deviation="population")["coefvar_ms"]
    of_all = (abs(a1 - a2) / 2 / mean_a + sd_d * (2 / 3) ** 0.5 / mean_d) / 2
    assert _score(population) == pytest.approx(100 * of_all)
    assert found["coefvar_ms"].signature.endswith("|groups:column|min_groups:1|sd:sample")
    assert population.signature.endswith("|sd:population")
    for one in found.values():
        assert list(one.ids) == ["a", "b", "c", "d"]
        assert one.details == {
            "groups": 4,
            "groups of one row": 1,
            "groups whose mean is 0": 1,
            "rows without a group": 0,
        }
    assert found["chrf_ms"].higher_is_better and not found["coefvar_ms"].higher_is_better


def test_what_is_missing_counts_as_empty_and_rows_without_a_group_are_told() -> None:
    made = [("a", WANTED), ("a", None), (None, WANTED), (None, None)]
    found = _found(made)
    assert _score(found["chrf_ms"]) == pytest.approx(50)
    assert _score(found["coefvar_ms"]) == pytest.approx(100 * (100 / 2**0.5) / 50)
    assert found["chrf_ms"].missing == 1
    assert found["chrf_ms"].details["rows without a group"] == 2


def test_a_direction_of_too_few_groups_has_no_score() -> None:
    for one in _found(list(MADE), min_groups=5).values():
        assert np.isnan(_score(one)) and list(one.ids) == ["a", "b", "c", "d"]
        assert one.details["groups that are wanted"] == 5
    assert not np.isnan(_score(_found(list(MADE), min_groups=4)["chrf_ms"]))


def test_groups_may_be_equal_transcripts() -> None:
    by_column, by_text = _found(list(MADE)), _found(list(MADE), group_by="transcript")
    assert list(by_text["chrf_ms"].ids) == ["text of a", "text of b", "text of c", "text of d"]
    for kind, one in by_text.items():
        assert _score(one) == _score(by_column[kind])


@given(st.permutations(range(len(MADE))), st.integers(1, 3))
def test_neither_order_nor_doubled_groups_matter(order: list[int], copies: int) -> None:
    plain = _found(list(MADE))
    others = _found([(f"{MADE[i][0]}{copy}", MADE[i][1]) for copy in range(copies) for i in order])
    for kind, one in others.items():
        assert _score(one) == pytest.approx(_score(plain[kind]))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": f"{lang}{i}", "src_lang": lang, "tgt_lang": "eng", "reference": WANTED, "group": group}
        for lang in ("fra", "deu")
        for i, (group, _) in enumerate(MADE[: 8 if lang == "fra" else 5])
    ]
    made = {"good": {row["id"]: MADE[int(row["id"][3:])][1] for row in rows}}
    made["same"] = dict.fromkeys(made["good"], WANTED)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, texts in made.items():
        lines = [json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    config = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {name: {"path": f"{name}.jsonl"} for name in made},
        "measures": {"text": [], "speakers": {"min_groups": 4}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert main(["evaluate", str(tmp_path / "config.yaml")]) == 0
    told = json.loads((tmp_path / "out/evaluation.json").read_text(), parse_constant=pytest.fail)  # no NaN
    scores = {(line["system"], line["direction"], line["kind"]): line for line in told["scores"]}
    assert len(scores) == 2 * 2 * 2
    assert scores["same", "fra-eng", "chrf_ms"]["score"] == pytest.approx(100)
    assert scores["same", "fra-eng", "coefvar_ms"]["score"] == pytest.approx(0)
    assert scores["good", "fra-eng", "chrf_ms"]["rows"] == 4  # groups
    assert scores["same", "fra-eng", "chrf_ms"]["against_baseline"]["difference"] > 0
    assert scores["same", "deu-eng", "chrf_ms"]["score"] is None  # three groups
    kept = pq.read_table(tmp_path / "out/statistics.parquet").to_pylist()
    assert {row["id"] for row in kept if row["direction"] == "fra-eng"} == set("abcd")
    capsys.readouterr()
    out = str(tmp_path / "out")
    assert main(["evaluate", "--compare", f"{out}:good", f"{out}:same"]) == 0
    assert "| fra-eng | CoefVar_MS (%) |" in capsys.readouterr().out
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**row, "group": None}) + "\n" for row in rows))
    assert main(["evaluate", str(tmp_path / "config.yaml")]) == 2
    assert "measures.speakers groups rows by group, which none of the 13 rows has" in capsys.readouterr().err
