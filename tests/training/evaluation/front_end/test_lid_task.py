"""Languages that systems told, from tables to lines: by hand, in all forms of tables, and what is wrong or missing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.label_measures import measure
from seamlessalign.training.evaluation.front_end.front_end_config import Lid, LidColumns, LidTable
from seamlessalign.training.evaluation.front_end.lid_task import Answer, macro_f1_of, measure_answers, read_answers
from seamlessalign.training.evaluation.measures import Measured
from seamlessalign.training.evaluation.scores import score_of

TRUTH = {"a": "eng", "b": "en", "c": "fra_Latn", "d": "fra", "e": "rus", "f": "rus"}
SAID: dict[str, dict[str, Any]] = {
    "a": {"answer": "en", "probability": 0.9},
    "b": {"answer": "fr", "probability": 0.6},
    "c": {"answer": "fra", "probability": 0.8},
    "d": {"answer": "unknown", "probability": 0.2},
    "f": {"answer": "xx-klingon"},
}


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    _write(tmp_path / "clips.jsonl", [{"id": key, "lang": lang} for key, lang in TRUTH.items()])
    _write(
        tmp_path / "ours.jsonl", [{"id": key, **answer} for key, answer in SAID.items()] + [{"id": "z", "answer": "en"}]
    )
    told = {
        "output": str(tmp_path / "out"),
        "lid": {"rows": {"path": "clips.jsonl"}, "systems": {"ours": {"path": "ours.jsonl"}}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _told(config: Path) -> dict[str, dict[str, Any]]:
    scores = json.loads((config.parent / "out/evaluation.json").read_text())["scores"]
    return {f"{line['system']} {line['measure']}": line for line in scores}


def test_by_hand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config)]) == 0
    told = _told(config)
    accuracy, f1, error = (told[f"ours LID {name}"] for name in ("accuracy", "macro F1", "calibration error"))
    assert accuracy["score"] == pytest.approx(100 * 2 / 6)
    # eng: 1 hit of 2, no false one: 2/3; fra: 1 hit, 1 false, 1 missed: 1/2; rus: none
    assert f1["score"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    # (.8667, .9333]: .1; (.5333, .6]: .6; (.7333, .8]: .2; (.1333, .2]: .2; 1: twice, as nobody knows: 1
    assert error["score"] == pytest.approx(100 * (0.1 + 0.6 + 0.2 + 0.2 + 2) / 6)
    for line, better in ((accuracy, True), (f1, True), (error, False)):
        assert (line["rows"], line["missing"], line["task"], line["direction"]) == (6, 1, "lid", "")
        assert line["higher_is_better"] == better and line["low"] <= line["score"] <= line["high"]
        assert "|langs:3|missing:wrong|" in line["signature"]
    assert accuracy["details"]["answers"] == {
        "languages": 4 - 0,
        "unknown": 1,
        "missing": 1,
        "without a probability": 1,
    }
    assert accuracy["details"]["not_asked"] == 1
    assert accuracy["details"]["tables"][0]["rows"] == [
        ["eng", "fra", 1],
        ["fra", "unknown", 1],
        ["rus", "unknown", 1],
        ["rus", "xx-klingon", 1],
    ]
    assert accuracy["details"]["confusion"] == {
        "truth": ["eng", "fra", "rus"],
        "answers": ["eng", "fra", "rus", "xx-klingon", "unknown"],
        "counts": [[1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1]],
    }
    assert f1["details"]["tables"][0]["rows"] == [
        ["eng", 2, 100, 50, pytest.approx(100 * 2 / 3, abs=1e-4)],
        ["fra", 2, 50, 50, 50],
        ["rus", 2, 0, 0, 0],
    ]
    assert [(one["count"], one["estimate"], one["right"]) for one in error["details"]["bins"]] == [
        *((1, pytest.approx(p), r) for p, r in ((0.2, 0), (0.6, 0), (0.8, 1), (0.9, 1))),
        (2, 1, 0),
    ]
    behind = [json.loads(line) for line in (config.parent / "out/behind.jsonl").read_text().splitlines()]
    assert [(row["id"], row["what"], row["answer"]) for row in behind] == [
        ("b", "wrong language", "fr"),
        ("d", "wrong language", "unknown"),
        ("e", "no answer", None),
        ("f", "wrong language", "xx-klingon"),
    ]
    assert "ours: 1 answers have ids that the clips have not" in "".join(capsys.readouterr())


def test_systems_compare_in_one_evaluation_and_apart(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(config.parent / "best.jsonl", [{"answer": lang, "probability": 1} for lang in TRUTH.values()])  # no ids
    more = "lid.measures=[accuracy, macro_f1, calibration_error, adaptive_calibration_error]"
    assert main(["evaluate", str(config), "lid.systems.best={path: best.jsonl}", more]) == 0
    told = _told(config)
    assert told["best LID macro F1"]["score"] == 100 and told["best LID calibration error"]["score"] == 0
    assert told["best LID accuracy"]["against_baseline"]["difference"] == pytest.approx(100 * 4 / 6)
    assert "bins:15-adaptive" in told["best LID calibration error, adaptive"]["signature"]
    capsys.readouterr()
    out = f"{config.parent}/out"
    assert main(["evaluate", "--compare", f"{out}:ours", f"{out}:best"]) == 0
    compared = capsys.readouterr().out
    for name in ("LID accuracy", "LID macro F1", "LID calibration error", "LID calibration error, adaptive"):
        assert f"| {name} | {told[f'ours {name}']['score']:.2f} | {told[f'best {name}']['score']:.2f} |" in compared


SCORES = {"eng": 0.25, "fr": 0.125, "iw": 0.25, "fra": 0.25}


@pytest.mark.parametrize(
    "scores",
    [
        SCORES,
        json.dumps(SCORES),
        list(map(list, SCORES.items())),
        [{"lang": lang, "probability": value} for lang, value in SCORES.items()],
        {**SCORES, "rus": None},
    ],
)
def test_scores_in_any_form(tmp_path: Path, scores: Any) -> None:
    """The likeliest, codes of one language added."""
    _write(tmp_path / "scores.jsonl", [{"id": "a", "scores": scores}, {"id": "b", "answer": "he", "scores": scores}])
    answers, _ = read_answers(str(tmp_path / "scores.jsonl"), ["a", "b", "c"], LidColumns())
    assert [(one.lang, one.probability) for one in answers] == [("fra", 0.375), ("heb", 0.25), (None, None)]


def test_scores_in_parquet_and_tsv(tmp_path: Path) -> None:
    kinds = {"map": pa.map_(pa.string(), pa.float64()), "struct": None}
    for name, kind in kinds.items():
        value = pa.array([list(SCORES.items()) if kind else SCORES], kind)
        pq.write_table(pa.table({"id": ["a"], "scores": value}), tmp_path / f"{name}.parquet")
    (tmp_path / "t.tsv").write_text(f"id\tanswer\tprobability\tscores\na\t\t\t{json.dumps(SCORES)}\nb\tno\t0.5\t\n")
    for name in ("map.parquet", "struct.parquet", "t.tsv"):
        answers, _ = read_answers(str(tmp_path / name), ["a"], LidColumns())
        assert answers == [Answer("fra", 0.375, "fra")]
    answers, _ = read_answers(str(tmp_path / "t.tsv"), ["b"], LidColumns())
    assert answers == [Answer("nob", 0.5, "no")]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"id": "a", "answer": "eng", "probability": 97}], "probability is 97: a probability is from 0 to 1"),
        ([{"id": "a", "answer": "eng", "probability": "sure"}], "probability is 'sure'"),
        ([{"id": "a", "scores": {"eng": -0.1}}], "scores is -0.1"),
        ([{"id": "a", "scores": "eng 0.5"}], "scores: is not JSON"),
        ([{"id": "a", "scores": [1, 2]}], "scores: is no table of languages and probabilities"),
        ([{"id": "a", "lang": "eng"}], "has neither answer nor scores, but id, lang: name the column of answers"),
        ([{"id": "a", "answer": "eng"}] * 2, "1 ids are there more than once: a"),
        ([{"id": "y", "answer": "eng"}], "has none of the test set's ids, such as a"),
        ([{"answer": "eng"}], "has no column id, and 1 lines for the 6 of the test set"),
        ([{"answer": "eng"}] * 7, "has no column id, and more lines than the 6"),
        ([], "has no rows"),
    ],
)
def test_mistakes_are_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], told: str
) -> None:
    _write(config.parent / "ours.jsonl", rows)
    assert main(["evaluate", str(config)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_clips_of_no_language(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(config.parent / "clips.jsonl", [{"id": "a", "lang": "klingon"}])
    assert main(["evaluate", str(config)]) == 2
    assert "row 0: lang: language 'klingon' is not in the table" in capsys.readouterr().err


def _all(truth: list[str], said: list[str | None], sure: list[float]) -> dict[str, Measured]:
    section = Lid(rows=LidTable(path=""), systems={"a": LidTable(path="")})
    answers = [Answer(lang, p) for lang, p in zip(said, sure, strict=True)]
    return {one.kind: one for one in measure_answers(section, [str(i) for i in range(len(truth))], truth, answers)}


LANGS = ["eng", "fra", "rus"]


@given(
    st.lists(
        st.tuples(st.sampled_from(LANGS), st.sampled_from([*LANGS, None, "unknown"]), st.floats(0, 1)),
        min_size=1,
        max_size=20,
    ),
    st.randoms(),
)
def test_scores_follow_from_sums_in_any_order(rows: list[tuple[str, str | None, float]], random: Any) -> None:
    truth, said, sure = (list(some) for some in zip(*rows, strict=True))
    found = _all(truth, said, sure)
    assert macro_f1_of(found["lid_macro_f1"].statistics.sum(0)) == pytest.approx(
        100 * measure(truth, [lang or "unknown" for lang in said]).macro_f1
    )
    order = list(range(len(rows)))
    random.shuffle(order)
    other = _all([truth[i] for i in order], [said[i] for i in order], [sure[i] for i in order])
    for kind, one in found.items():
        score = one.score(one.statistics.sum(0))
        assert score == pytest.approx(other[kind].score(other[kind].statistics.sum(0)))
        assert score == score_of(kind)(one.statistics.sum(0)) and 0 <= score <= 100
        # half the rows twice is what a draw may be
        drawn = np.resize(np.arange(0, len(rows), 2), len(rows))
        again = _all([truth[i] for i in drawn], [said[i] for i in drawn], [sure[i] for i in drawn])
        assert one.score(one.statistics[drawn].sum(0)) == pytest.approx(
            again[kind].score(again[kind].statistics.sum(0))
        )
