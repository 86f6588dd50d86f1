"""Mining: against counts made pair by pair, against the measures of the room `mining`, and by hand; and bad tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.mining.truth import score_pairs, sweep_thresholds
from seamlessalign.training.evaluation.compare import compare
from seamlessalign.training.evaluation.encoders.mined_pairs import (
    Items,
    Pairs,
    named,
    read_gold,
    read_pairs,
    scored_pairs,
    sweep,
)
from seamlessalign.training.evaluation.encoders.mining_config import Gold, PairTable
from seamlessalign.training.evaluation.encoders.mining_task import _Drawn
from seamlessalign.training.evaluation.measures import f1_percentage
from seamlessalign.training.evaluation.scores import score_of

Told = dict[str, Any]


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("".join(f"{line}\n" for line in lines))
    return path.name


def _evaluated(folder: Path, section: Mapping[str, Any], output: str = "out") -> dict[tuple[str, str, str], Told]:
    told = {"output": str(folder / output), "mining": section}
    (folder / "config.yaml").write_text(json.dumps(told))
    assert main(["evaluate", str(folder / "config.yaml")]) == 0
    scores = json.loads((folder / output / "evaluation.json").read_text())["scores"]
    return {(line["system"], line["direction"], line["measure"]): line for line in scores}


# Counts

_IDS = st.sampled_from("abcd")
_PAIRS = st.lists(st.tuples(_IDS, _IDS, st.sampled_from([0.5, 1.0, 1.06, 2.0])), max_size=20)


def _read(
    folder: Path, gold: Sequence[tuple[str, str]], mined: Sequence[tuple[str, str, float]]
) -> tuple[Items, Pairs]:
    _table(folder / "gold.jsonl", [{"src_id": a, "tgt_id": b} for a, b in gold])
    _table(folder / "mined.jsonl", [{"src_id": a, "tgt_id": b, "margin": score} for a, b, score in mined])
    items = read_gold(Gold(path=str(folder / "gold.jsonl")), "d")
    pairs = read_pairs("a", PairTable(path=str(folder / "mined.jsonl")), items, "d")
    return items["d"], pairs.get("d", scored_pairs([], [], np.empty(0), {}))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_IDS, _IDS), min_size=1, max_size=8), _PAIRS, st.randoms())
def test_every_threshold_is_what_a_slow_count_gives(
    tmp_path_factory: pytest.TempPathFactory,
    gold: list[tuple[str, str]],
    mined: list[tuple[str, str, float]],
    turned: Any,
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    items, pairs = _read(folder, gold, mined)
    true = set(gold)
    assert pairs.odd.get("doubled pairs", 0) == len(mined) - len({(a, b) for a, b, _ in mined})
    assert items.doubled == len(gold) - len(true)
    drawn = _Drawn(items, [pairs])
    scores = []
    best = {(a, b): max(score for c, d, score in mined if (a, b) == (c, d)) for a, b, _ in mined}
    for threshold in sorted(set(best.values()), reverse=True):
        found = {pair for pair, score in best.items() if score >= threshold}
        right = len(found & true)
        precision, recall = right / len(found), right / len(true)
        scores.append((threshold, precision, recall, 2 * right / (len(found) + len(true))))
        counts = drawn.counts(pairs, pairs.above(threshold))
        assert counts.sum(0).tolist() == [right, len(found), right, len(true)]
        for row, name in enumerate(drawn.ids):  # each source has its own
            mine = {pair for pair in found if f"src:{pair[0]}" == name}
            theirs = {pair for pair in true if f"src:{pair[0]}" == name}
            assert counts[row].tolist() == [len(mine & theirs), len(mine), len(mine & theirs), len(theirs)]
        assert f1_percentage(counts.sum(0)) == pytest.approx(100 * scores[-1][3])
    if mined:
        swept = sweep(pairs, items)
        columns = (swept.thresholds, swept.precision, swept.recall, swept.f1)
        assert np.stack(columns, axis=1) == pytest.approx(np.array(scores))
        assert swept.best == max(range(len(scores)), key=lambda i: (round(scores[i][3], 12), -i))
        lines = [*mined, mined[0]]  # neither order nor what is there twice changes anything
        turned.shuffle(lines)
        again = sweep(_read(folder, gold[::-1], lines)[1], items)
        assert np.array_equal(again.f1, swept.f1) and np.array_equal(again.thresholds, swept.thresholds)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "p", "q", "r"]), st.sampled_from([0.5, 1.0, 1.5])), min_size=1, max_size=15
    ),
    st.integers(3, 6),
)
def test_judged_pairs_are_counted_as_the_room_mining_counts_them(
    judged: list[tuple[str | None, float]], total: int
) -> None:
    items = [item for item, _ in judged]
    margins = np.array([score for _, score in judged])
    correct, truth = np.array([item is not None for item in items]), np.array([item or "" for item in items])
    gold = Items({}, judged=True, nameless=total)
    pairs = scored_pairs([(f"s{i}", f"t{i}") for i in range(len(judged))], items, margins, {})
    ours, theirs = sweep(pairs, gold), sweep_thresholds(margins, correct, truth, total)
    assert ours.f1 == pytest.approx(theirs.f1) and ours.precision == pytest.approx(theirs.precision)
    assert max(ours.f1) == pytest.approx(ours.f1[ours.best]) and ours.thresholds[ours.best] >= theirs.threshold
    whole = score_pairs(correct, truth, total)
    named_gold = named(gold, [pairs])
    counts = _Drawn(named_gold, [pairs]).counts(pairs, pairs.above(None))
    assert f1_percentage(counts.sum(0)) == pytest.approx(100 * whole.f1)
    assert score_of("mining_precision")(counts.sum(0)[:2]) == pytest.approx(100 * whole.precision)
    assert score_of("mining_recall")(counts.sum(0)[2:]) == pytest.approx(100 * whole.recall)


# Whole evaluations

GOLD = [{"src_id": f"f{i}", "tgt_id": f"e{i}", "seconds": 3600 * (i + 1)} for i in range(4)]
MINED: list[Told] = [
    {"src_id": "f0", "tgt_id": "e0", "margin": 1.5},
    {"src_id": "f1", "tgt_id": "e2", "margin": 1.3},  # wrong
    {"src_id": "f2", "tgt_id": "e2", "margin": 1.3},
    {"src_id": "f2", "tgt_id": "e2", "margin": 1.0},  # there twice: the best score counts
    {"src_id": "f9", "tgt_id": "e3", "margin": 1.1},  # of no source that gold has
    {"src_id": "f3", "tgt_id": "e3", "margin": 1.06},
]
for _row in MINED:
    _row |= {"src_text": f"said {_row['src_id']}", "tgt_text": f"said {_row['tgt_id']}"}


def test_scores_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = {
        "gold": {"path": _table(tmp_path / "gold.tsv", GOLD)},
        "systems": {
            "ours": {"path": _table(tmp_path / "ours.parquet", MINED), "threshold": 1.2},
            "all": {"path": _table(tmp_path / "all.jsonl", MINED[:1])},
        },
        "direction": "frA-eng",
    }
    scores = _evaluated(tmp_path, section)
    ours = {measure: line for (system, _, measure), line in scores.items() if system == "ours"}
    assert {measure: line["score"] for measure, line in ours.items()} == pytest.approx(
        {
            "F1": 100 * 4 / 7,
            "precision": 200 / 3,
            "recall": 50,
            "hours recovered": 40,
            "best F1": 200 / 3,
            "precision at best F1": 60,
            "recall at best F1": 75,
            "hours recovered at best F1": 80,
        }
    )
    told = ours["best F1"]["details"]
    assert told["threshold"] == 1.06
    assert told["counts"] == {"right pairs": 3, "pairs": 5, "items found": 3, "items": 4}
    assert (told["doubled pairs"], told["pairs of a source that gold has not"]) == (1, 1)
    (curve,) = [curve for curve in told["curves"] if curve["name"] == "F1"]
    assert curve["x"] == [1.06, 1.1, 1.3, 1.5] and curve["chosen"] == 1.06
    assert curve["y"] == pytest.approx([200 / 3, 50, 400 / 7, 40])
    assert ours["hours recovered"]["details"] == {"hours found": 4, "hours of gold": 10}
    assert ours["F1"]["rows"] == 5 and "drawn:sources" in ours["F1"]["signature"]
    assert scores["all", "frA-eng", "best F1"]["against_baseline"]["difference"] == pytest.approx(40 - 200 / 3)
    assert ours["F1"]["low"] < ours["F1"]["score"] < ours["F1"]["high"]
    behind = [json.loads(line) for line in (tmp_path / "out/behind.jsonl").read_text().splitlines()]
    wrong = [row for row in behind if (row["system"], row["measure"], row["what"]) == ("ours", "F1", "wrong pair")]
    assert [(row["src"], row["tgt"], row["score"]) for row in wrong] == [("f1", "e2", 1.3)]
    assert (wrong[0]["src_text"], wrong[0]["tgt_text"]) == ("said f1", "said e2")
    missed = {
        row["src"] for row in behind if (row["system"], row["measure"], row["what"]) == ("ours", "F1", "not found")
    }
    assert missed == {"f1", "f3"}


def test_a_threshold_takes_equal_scores_whatever_their_type(tmp_path: Path) -> None:
    """1.06 is no float32: the column's own 1.06 is a little less."""
    rows = pa.table(
        {"src_id": ["f0"], "tgt_id": ["e0"], "margin": pa.array([1.06], pa.float32())},
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    gold = read_gold(Gold(path=str(tmp_path / _table(tmp_path / "gold.jsonl", GOLD))), "d")
    pairs = read_pairs("a", PairTable(path=str(tmp_path / "a.parquet")), gold, "d")["d"]
    assert pairs.above(1.06).tolist() == [True] and pairs.above(1.0600001).tolist() == [False]
    assert sweep(pairs, gold["d"]).thresholds[0] < 1.06


def test_bucc_files_have_no_names_of_columns(tmp_path: Path) -> None:
    (tmp_path / "fr-en.training.gold").write_text("fr-1\ten-7\nfr-2\ten-8\n")
    (tmp_path / "mined.txt").write_text("1.2\tfr-1\ten-7\n1.1\tfr-2\ten-7\r\n")
    fields = ["src_id", "tgt_id"]
    scores = _evaluated(
        tmp_path,
        {
            "gold": {"path": "fr-en.training.gold", "fields": fields},
            "systems": {"laser": {"path": "mined.txt", "fields": ["score", *fields]}},
        },
    )
    assert scores["laser", "src-tgt", "best F1"]["score"] == pytest.approx(200 / 3)


def test_judged_pairs_by_direction(tmp_path: Path) -> None:
    """As of a run whose truth is known: spans are judged, and several may be the same prompt."""
    names = ("direction", "src_id", "tgt_id", "margin", "correct", "truth_id", "kept")
    lines = [
        ("eng-frA", "a", "x", 1.4, True, "p", True),
        ("eng-frA", "b", "y", 1.3, True, "p", True),
        ("eng-frA", "c", "z", 1.2, False, "", True),
        ("eng-frA", "d", "z", 1.1, True, "q", False),
        ("esA-frA", "a", "x", 1.4, False, "", True),
    ]
    pairs = [{**dict(zip(names, line, strict=True)), "seconds": 900} for line in lines]
    gold = [{"direction": "eng-frA", "truth_id": name, "seconds": 1800} for name in "pqr"]
    table = _table(tmp_path / "pairs.parquet", pairs)
    items = _table(tmp_path / "items.jsonl", gold)
    section = {
        "systems": {"run": {"path": table, "columns": {"kept": "kept"}, "threshold": {"eng-frA": 0, "esA-frA": 1}}}
    }
    listed = _evaluated(tmp_path, {**section, "gold": {"path": items}})
    hours = listed["run", "eng-frA", "F1"]["details"]["hours"]
    assert hours == pytest.approx({"right pairs": 2 * 900 / 3600, "pairs": 3 * 900 / 3600})
    counted = _evaluated(tmp_path, {**section, "gold": {"count": {"eng-frA": 3, "esA-frA": 7}}})
    for scores in (listed, counted):
        f1 = scores["run", "eng-frA", "F1"]
        assert f1["score"] == pytest.approx(100 * 2 * (2 / 3) * (1 / 3) / (2 / 3 + 1 / 3))
        assert f1["details"]["pairs not kept"] == 1
        assert scores["run", "eng-frA", "precision"]["score"] == pytest.approx(200 / 3)
        assert f1["rows"] == 4  # three things to be found, and the source of a wrong pair
    assert listed["run", "eng-frA", "hours recovered"]["score"] == pytest.approx(100 / 3)
    assert counted["run", "esA-frA", "F1"]["score"] == 0
    assert ("run", "esA-frA", "F1") not in listed  # gold has none of it, which is said


@pytest.mark.parametrize("rows", [[], [{"src_id": "f7", "tgt_id": "e7", "margin": 1.0}]])
def test_nothing_found_is_nothing(tmp_path: Path, rows: list[Told], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {
        "gold": {"path": _table(tmp_path / "gold.jsonl", GOLD)},
        "systems": {
            "none": {"path": "none.jsonl", "threshold": 1.5},
            "some": {"path": _table(tmp_path / "s.tsv", MINED)},
        },
    }
    scores = _evaluated(tmp_path, section)
    assert scores["none", "src-tgt", "F1"]["score"] == 0 and scores["none", "src-tgt", "recall"]["score"] == 0
    assert scores["none", "src-tgt", "precision"]["score"] is None
    assert scores["none", "src-tgt", "precision"]["details"] == {"undefined": "no pair was found"}
    assert scores["none", "src-tgt", "best F1"]["score"] == 0
    assert scores["none", "src-tgt", "hours recovered"]["score"] == 0
    assert scores["some", "src-tgt", "best F1"]["against_baseline"]["difference"] > 0


def test_without_scores_all_pairs_are_taken_and_gold_twice_is_told(tmp_path: Path) -> None:
    bare = [{"src_id": row["src_id"], "tgt_id": row["tgt_id"]} for row in MINED]
    section = {
        "gold": {"path": _table(tmp_path / "gold.jsonl", [*GOLD, GOLD[0]])},
        "systems": {"bare": {"path": _table(tmp_path / "bare.tsv", bare)}},
    }
    scores = _evaluated(tmp_path, section)
    assert {measure for _, _, measure in scores} == {"F1", "precision", "recall", "hours recovered"}
    f1 = scores["bare", "src-tgt", "F1"]
    assert f1["score"] == pytest.approx(200 / 3) and f1["details"]["doubled lines of gold"] == 1
    assert f1["details"]["counts"]["items"] == 4


def test_many_thresholds_are_thinned(tmp_path: Path) -> None:
    mined = [{"src_id": f"f{i % 4}", "tgt_id": f"e{i}", "score": 1 + i / 1000} for i in range(500)]
    section = {
        "gold": {"path": _table(tmp_path / "gold.jsonl", GOLD)},
        "systems": {"many": {"path": _table(tmp_path / "many.jsonl", mined)}},
        "points": 20,
        "examples": 3,
    }
    told = _evaluated(tmp_path, section)["many", "src-tgt", "best F1"]["details"]
    curve = told["curves"][0]
    assert 20 <= len(curve["x"]) <= 21 and curve["x"] == sorted(curve["x"])
    assert (curve["x"][0], curve["x"][-1]) == (1, 1.499) and told["threshold"] in curve["x"]
    assert len((tmp_path / "out/behind.jsonl").read_text().splitlines()) == 3


def _systems(folder: Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> Told:
    return {"systems": {"a": {"path": _table(folder / "a.jsonl", rows), **more}}}


PAIR = {"src_id": "f0", "tgt_id": "e0", "margin": 1.0}


@pytest.mark.parametrize(
    ("gold", "rows", "told"),
    [
        (GOLD, [{**PAIR, "margin": float("nan")}], "margin is nan: it must be a number"),
        (GOLD, [{**PAIR, "margin": None}], "margin is None: it must be a number"),
        (GOLD, [{**PAIR, "margin": "high"}], "margin is 'high': it must be a number"),
        (GOLD, [PAIR, {"src_id": "f1", "tgt_id": "e0"}], "1 pairs have no score, and others have one"),
        (GOLD, [{**PAIR, "seconds": 2}, {**PAIR, "src_id": "f1"}], "1 pairs have no seconds, and others have some"),
        (GOLD, [{"src": "f0", "tgt_id": "e0"}], "has no column src_id, but src, tgt_id"),
        (GOLD, [{**PAIR, "src_id": None}], "has no src_id: every row needs one"),
        (GOLD, [{**PAIR, "direction": "fra-eng"}], "a has pairs of fra-eng, gold of src-tgt: give both a column"),
        ([{"a": 1}], [PAIR], "has neither src_id and tgt_id nor truth_id, but a"),
        ([*GOLD, {"src_id": "f9", "tgt_id": "e9"}], [PAIR], "has other columns than lines before it"),
        ([{"src_id": "f", "tgt_id": "e", "seconds": "long"}], [PAIR], "seconds is 'long': it must be a number"),
        ([{"truth_id": "p"}], [PAIR], "has no column correct, which tells the pairs that are right from others"),
        ([{"truth_id": "p"}], [{**PAIR, "correct": "perhaps"}], "correct is 'perhaps': it must be true or false"),
        (
            [{"truth_id": "p"}],
            [{**PAIR, "correct": True, "truth_id": "q"}],
            "a, src-tgt: q is found, which gold has not",
        ),
        (
            [{"truth_id": "p"}],
            [{**PAIR, "correct": True, "truth_id": "p"}, {**PAIR, "correct": False}],
            "f0 and e0 were judged otherwise in a line before it",
        ),
    ],
)
def test_bad_tables_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gold: list[Told], rows: list[Told], told: str
) -> None:
    section = {"gold": {"path": _table(tmp_path / "gold.jsonl", gold)}, **_systems(tmp_path, rows)}
    _refused(tmp_path, section, told, capsys)


def test_more_found_than_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**PAIR, "tgt_id": f"e{i}", "correct": True, "truth_id": str(i)} for i in range(3)]
    told = "a, src-tgt: 3 different things are found, but gold.count is 2"
    _refused(tmp_path, {"gold": {"count": 2}, **_systems(tmp_path, rows)}, told, capsys)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"gold": {"path": "gold.jsonl"}}, "mining: give systems, tables of what was mined, or encoders to mine with"),
        ({"gold": {}, "systems": {"a": {"path": "a"}}}, "mining.gold: give path, a table of what there is to find, or"),
        (
            {"gold": {"path": "a"}, "encoders": {"e": {"text": "e5-small"}}},
            "mining: encoders need src and tgt, the sentences that are mined",
        ),
        ({"gold": {"path": "a"}, "encoders": {"e": {}}}, "mining.encoders.e: give text, speech or both"),
    ],
)
def test_configurations_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: Told, told: str
) -> None:
    _refused(tmp_path, section, told, capsys)


def _refused(folder: Path, section: Told, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.yaml").write_text(json.dumps({"output": str(folder / "out"), "mining": section}))
    assert main(["evaluate", str(folder / "config.yaml")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert told in error[-1] and not (folder / "out/evaluation.json").exists()


def test_evaluations_made_apart_compare_as_one_does(tmp_path: Path) -> None:
    """Though each has sources of its own, of which the other found nothing."""
    gold = {"path": _table(tmp_path / "gold.tsv", GOLD)}
    other = [{**MINED[0]}, {"src_id": "f7", "tgt_id": "e1", "margin": 1.2}, {**MINED[5], "margin": 1.4}]
    systems = {
        "ours": {"path": _table(tmp_path / "ours.jsonl", MINED)},
        "other": {"path": _table(tmp_path / "other.jsonl", other)},
    }
    told = _evaluated(tmp_path, {"gold": gold, "systems": systems})
    for name, system in systems.items():
        _evaluated(tmp_path, {"gold": gold, "systems": {name: system}}, name)
    found = compare(str(tmp_path / "ours"), str(tmp_path / "other"))
    assert not found.left_out
    apart = {pair.first.measure: pair.comparison for pair in found.pairs}
    for measure in ("best F1", "precision at best F1", "recall at best F1", "hours recovered at best F1"):
        whole = told["other", "src-tgt", measure]["against_baseline"]
        assert apart[measure].difference == pytest.approx(whole["difference"])
        assert apart[measure].p_value == whole["p_value"]


# With an encoder


@pytest.mark.embedded
def test_an_encoder_mines_two_sides(tmp_path: Path) -> None:
    french = [
        "Le chat dort sur le canapé.",
        "Il pleut beaucoup à Paris.",
        "Appuyez sur la touche étoile.",
        "",
        "Bonsoir !",
    ]
    english = [
        "Press the star key.",
        "The stock market fell today.",
        "The cat sleeps on the sofa.",
        "It rains a lot in Paris.",
    ]
    side = {"id": "name", "text": "said"}
    src = _table(tmp_path / "fr.jsonl", [{"name": f"f{i}", "said": text} for i, text in enumerate(french)])
    tgt = _table(tmp_path / "en.parquet", [{"name": f"e{i}", "said": text} for i, text in enumerate(english)])
    gold = [{"src_id": a, "tgt_id": b} for a, b in (("f0", "e2"), ("f1", "e3"), ("f2", "e0"))]
    section = {
        "gold": {"path": _table(tmp_path / "gold.tsv", gold)},
        "encoders": {"e5": {"text": "e5-small"}},
        "src": {"path": src, "lang": "fra", **side},
        "tgt": {"path": tgt, "lang": "en", **side},
        "retrieval": ["forward", "max"],
        "k": 2,
    }
    scores = _evaluated(tmp_path, section)
    assert {system for system, *_ in scores} == {"e5 (forward)", "e5 (max)"}
    best = scores["e5 (max)", "src-tgt", "best F1"]
    assert best["score"] == 100 and best["details"]["src without an embedding: blank"] == 1
    behind = [json.loads(line) for line in (tmp_path / "out/behind.jsonl").read_text().splitlines()]
    assert not [row for row in behind if row["system"] == "e5 (max)"]
    _table(tmp_path / "gold.tsv", [*gold, {"src_id": "f8", "tgt_id": "e0"}])
    assert main(["evaluate", str(tmp_path / "config.yaml")]) == 2
