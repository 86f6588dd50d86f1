"""Which pairs are handed on, against plain loops over the rows of a run."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels, Said
from seamlessalign.pipelines.exports.choice import Chooser, Rule, conflicting
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut, Filter, Selection, write_selection
from tests.pipelines.exports.made_run import THRESHOLD, MadeRun, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("choice"), recordings=3)


def _chosen(run: MadeRun, rule: Rule, direction: str, folder: Path) -> tuple[set[str], Counter[str]]:
    """Ids of the pairs that are chosen, and why others are not; the counts balance."""
    with RunTables(str(run.root)) as tables:
        choice = Chooser(tables, rule).choose(direction, folder / "scratch")
        ids = choice.rows.column("pair_id").to_pylist()
        why = choice.reasons.column(np.arange(len(ids))).to_pylist()
    counts = Counter(choice.rejected) + Counter(reason for reason in why if reason is not None)
    found = {one for one, reason in zip(ids, why, strict=True) if reason is None}
    assert len(found) + counts.total() == len(run.pairs[direction])
    return found, counts


def _ids(pairs: list[dict[str, Any]]) -> set[str]:
    return {pair["pair_id"] for pair in pairs}


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two pairs share audio on any side."""
    return any(
        one[f"{side}_uri"] == other[f"{side}_uri"] is not None
        and one[f"{side}_start"] < other[f"{side}_end"]
        and other[f"{side}_start"] < one[f"{side}_end"]
        for side in ("src", "tgt")
    )


@pytest.mark.parametrize("direction", ["eng-frA", "frA-deA"])
class TestTheCut:
    def test_without_one_what_the_run_kept_is_chosen(self, run: MadeRun, direction: str, tmp_path: Path) -> None:
        chosen, counts = _chosen(run, Rule(), direction, tmp_path)
        assert chosen == _ids(run.kept(direction))
        assert counts == {"below_threshold": len(run.pairs[direction]) - len(chosen)}

    def test_the_runs_own_threshold_changes_nothing(self, run: MadeRun, direction: str, tmp_path: Path) -> None:
        assert _chosen(run, Rule(threshold=THRESHOLD), direction, tmp_path)[0] == _ids(run.kept(direction))

    def test_a_higher_one_leaves_kept_pairs_out(self, run: MadeRun, direction: str, tmp_path: Path) -> None:
        chosen, counts = _chosen(run, Rule(threshold=1.4), direction, tmp_path)
        expected = [pair for pair in run.kept(direction) if pair["margin"] >= 1.4]
        assert chosen == _ids(expected) and counts["below_margin"] == len(run.kept(direction)) - len(expected) > 0

    def test_a_lower_one_adds_what_shares_no_audio_with_kept_pairs(
        self, run: MadeRun, direction: str, tmp_path: Path
    ) -> None:
        chosen, counts = _chosen(run, Rule(threshold=1.05), direction, tmp_path)
        kept = run.kept(direction)
        low = [pair for pair in run.pairs[direction] if not pair["kept"] and pair["margin"] >= 1.05]
        clear = [pair for pair in low if not any(_overlap(pair, other) for other in kept)]
        assert not any(_overlap(a, b) for a in clear for b in clear if a is not b)
        assert chosen == _ids(kept) | _ids(clear)
        assert counts["overlap"] == len(low) - len(clear) > 0 and clear

    def test_precision_is_a_bound_for_each_pair(self, run: MadeRun, direction: str, tmp_path: Path) -> None:
        chosen, _ = _chosen(run, Rule(min_precision=0.9), direction, tmp_path)
        assert chosen == _ids([pair for pair in run.kept(direction) if pair["precision_estimate"] >= np.float32(0.9)])

    def test_a_share_of_wrong_pairs_is_a_bound_for_all_together(
        self, run: MadeRun, direction: str, tmp_path: Path
    ) -> None:
        chosen, _ = _chosen(run, Rule(fdr=0.06), direction, tmp_path)
        best: list[dict[str, Any]] = []
        for end in range(1, len(run.pairs[direction]) + 1):
            some = sorted(run.pairs[direction], key=lambda pair: -pair["precision_estimate"])[:end]
            if sum(1 - pair["precision_estimate"] for pair in some) <= 0.06 * end:
                best = some
        assert 0 < len(best) < len(run.kept(direction))  # so that no pair is added, of which one may overlap
        assert chosen == _ids(best)

    def test_hours_are_filled_from_the_best_pair_down(self, run: MadeRun, direction: str, tmp_path: Path) -> None:
        chosen, counts = _chosen(run, Rule(max_hours=20 / 3600), direction, tmp_path)
        expected, seconds = set(), 0.0
        for pair in sorted(run.kept(direction), key=lambda pair: -pair["margin"]):
            seconds += (pair["tgt_end"] - pair["tgt_start"]) / 16_000
            if seconds > 20:
                break
            expected.add(pair["pair_id"])
        assert chosen == expected and counts["beyond_max_hours"] > 0


def test_filters_of_the_run_judge_what_a_lower_cut_adds(tmp_path: Path) -> None:
    made = make_run(tmp_path, recordings=2, mining={"filters": {"min_seconds": 1.7}})
    chosen, counts = _chosen(made, Rule(threshold=1.0), "eng-frA", tmp_path)
    added = [pair for pair in made.pairs["eng-frA"] if pair["pair_id"] in chosen and not pair["kept"]]
    assert added and all(pair["tgt_end"] - pair["tgt_start"] >= 1.7 * 16_000 for pair in added)
    assert counts["too_short"] > 0 and _ids(made.kept("eng-frA")) <= chosen


def _seconds(pair: dict[str, Any]) -> float:
    return float(pair["tgt_end"] - pair["tgt_start"]) / 16_000


def test_a_text_is_taken_so_often_and_what_the_run_kept_comes_first(tmp_path: Path) -> None:
    made = make_run(tmp_path, recordings=2, shared_texts=True, mining={"filters": {"max_pairs_per_text": 1}})
    _with_a_low_margin(made)
    chosen, counts = _chosen(made, Rule(threshold=1.0), "eng-frA", tmp_path)
    kept = made.kept("eng-frA")
    low = [pair for pair in made.pairs["eng-frA"] if not pair["kept"]]
    clear = [pair for pair in low if not any(_overlap(pair, other) for other in kept)]
    best: dict[str, dict[str, Any]] = {}
    for pair in sorted([*kept, *clear], key=lambda pair: (pair["kept"], pair["margin"])):
        best[pair["src_text"]] = pair
    assert chosen == _ids(list(best.values())) and len(best) < len(clear) + len(kept)
    assert counts["repeated_text"] == len(kept) + len(clear) - len(best)


def test_hours_of_the_run_are_those_that_it_kept_before_any_other(tmp_path: Path) -> None:
    made = make_run(tmp_path / "first", recordings=1)
    hours = (sum(map(_seconds, made.kept("eng-frA"))) + 2.5) / 3600  # room for one more
    made = make_run(tmp_path / "second", recordings=1, mining={"filters": {"max_hours": hours}})
    _with_a_low_margin(made)
    chosen, counts = _chosen(made, Rule(threshold=1.0), "eng-frA", tmp_path)
    kept = _ids(made.kept("eng-frA"))
    assert kept < chosen and len(chosen) == len(kept) + 1 and counts["beyond_max_hours"] > 0


def _with_a_low_margin(made: MadeRun) -> None:
    """Have a kept pair score below all that the cut rejected, as where it is by rank that pairs are kept."""
    (file,) = (made.root / "pairs" / "direction=eng-frA").iterdir()
    table = pq.read_table(file)
    name = made.kept("eng-frA")[0]["pair_id"]
    for pair in made.pairs["eng-frA"]:
        if pair["pair_id"] == name:
            pair["margin"] = float(np.float32(1.0001))
    is_it = pc.equal(table.column("pair_id"), name)
    margins = pc.if_else(is_it, pa.scalar(1.0001, pa.float32()), table.column("margin"))
    place = table.schema.get_field_index("margin")
    pq.write_table(table.set_column(place, table.schema.field(place), margins), file)


def test_sides_that_sound_alike_are_not_added(tmp_path: Path) -> None:
    made = make_run(tmp_path, recordings=2, mining={"filters": {"drop_identical_audio": True}})
    _, before = _chosen(made, Rule(threshold=1.0), "frA-deA", tmp_path)  # of noise, of which some sounds alike
    for pair in made.pairs["frA-deA"]:
        shutil.copy(pair["src_uri"], pair["tgt_uri"])
    chosen, counts = _chosen(made, Rule(threshold=1.0), "frA-deA", tmp_path)
    assert counts["identical_audio"] > before["identical_audio"]
    assert chosen == _ids(made.kept("frA-deA")) and counts["identical_audio"] + counts["overlap"] == len(
        made.pairs["frA-deA"]
    ) - len(chosen)


def test_where_no_share_of_wrong_pairs_is_so_low_only_what_is_sure_is_taken(run: MadeRun, tmp_path: Path) -> None:
    chosen, counts = _chosen(run, Rule(fdr=0.0), "eng-frA", tmp_path)
    assert chosen == _ids([pair for pair in run.kept("eng-frA") if pair["precision_estimate"] == 1])
    assert counts["below_precision"] == len(run.kept("eng-frA")) - len(chosen)


@pytest.mark.parametrize("name", ["min_speech_lang_prob", "min_text_lang_prob"])
def test_a_lower_cut_is_refused_where_a_filter_of_the_run_cannot_be_applied(name: str, tmp_path: Path) -> None:
    made = make_run(tmp_path, recordings=1, mining={"filters": {name: 0.5}})
    _chosen(made, Rule(threshold=1.3), "eng-frA", tmp_path)  # a higher one needs none
    with pytest.raises(InputError, match=rf"{name} has not judged.*run `seamlessalign filter`"):
        _chosen(made, Rule(threshold=1.0), "eng-frA", tmp_path)


class TestPeople:
    @pytest.fixture
    def labelled(self, tmp_path: Path) -> MadeRun:
        made = make_run(tmp_path, recordings=1)
        said: list[Said] = ["wrong", "right", "unsure", "right", "wrong"]
        lines = [
            Label(pair["pair_id"], "eng-frA", label, pair["margin"], Drawn("random"))
            for pair, label in zip(made.kept("eng-frA"), said, strict=False)
        ]
        again = made.kept("eng-frA")[4]
        lines.append(Label(again["pair_id"], "eng-frA", "right", again["margin"], Drawn("looked up")))
        Labels(str(made.root)).append(lines)
        return made

    def test_what_they_call_wrong_is_left_out(self, labelled: MadeRun, tmp_path: Path) -> None:
        chosen, counts = _chosen(labelled, Rule(), "eng-frA", tmp_path)
        assert chosen == _ids(labelled.kept("eng-frA")[1:]) and counts["labelled_wrong"] == 1

    def test_only_what_they_call_right_may_be_wanted(self, labelled: MadeRun, tmp_path: Path) -> None:
        chosen, counts = _chosen(labelled, Rule(labels="only_right"), "eng-frA", tmp_path)
        kept = labelled.kept("eng-frA")
        assert chosen == _ids([kept[1], kept[3], kept[4]])
        assert counts["not_labelled_right"] == len(kept) - 4 and counts["labelled_wrong"] == 1

    def test_they_may_be_passed_over(self, labelled: MadeRun, tmp_path: Path) -> None:
        assert _chosen(labelled, Rule(labels="ignore"), "eng-frA", tmp_path)[0] == _ids(labelled.kept("eng-frA"))

    def test_a_selection_says_cut_filters_and_labels(self, labelled: MadeRun, tmp_path: Path) -> None:
        wanted = Filter(column="seconds", op="at_least", value=1.5)
        cut = Cut(min_margin=1.0, filters=[wanted])
        write_selection(str(labelled.root), "long", Selection(directions={"eng-frA": cut}, labels="ignore"))
        chosen, counts = _chosen(labelled, Rule(selection="long"), "eng-frA", tmp_path)
        pairs = {pair["pair_id"]: pair for pair in labelled.pairs["eng-frA"]}
        long = [pair for pair in pairs.values() if pair["tgt_end"] - pair["tgt_start"] >= 24_000]
        assert _ids([pair for pair in long if pair["kept"]]) <= chosen <= _ids(long)
        assert counts["not_selected"] == len(pairs) - len(long) > 0
        with RunTables(str(labelled.root)) as tables:
            assert Chooser(tables, Rule(selection="long")).directions == ["eng-frA"]
            assert [Chooser(tables, Rule(selection="long", labels=rule)).labels for rule in (None, "only_right")] == [
                "ignore",
                "only_right",
            ]

    def test_a_selection_may_filter_by_labels(self, labelled: MadeRun, tmp_path: Path) -> None:
        cut = Cut(filters=[Filter(column="label", op="one_of", value=["unsure"])])
        write_selection(str(labelled.root), "unsure", Selection(directions={"eng-frA": cut}))
        chosen, _ = _chosen(labelled, Rule(selection="unsure"), "eng-frA", tmp_path)
        assert chosen == _ids([labelled.kept("eng-frA")[2]])


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"threshold": 1.0, "min_precision": 0.5}, "--threshold and --min-precision are two ways to cut"),
        ({"selection": "x", "fdr": 0.5}, "--fdr and --selection are two ways to cut"),
        ({"min_precision": 1.5}, "--min-precision is 1.5: give a share between 0 and 1"),
        ({"fdr": -0.1}, "--fdr is -0.1: give a share"),
        ({"threshold": float("nan")}, "--threshold is nan: give a margin"),
        ({"threshold": 1e300}, "--threshold is 1e\\+300: give a margin"),
        ({"max_hours": 0.0}, "--max-hours is 0: give a number above 0"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Rule(**rule)


def test_rules_may_ask_for_all_or_none() -> None:
    assert Rule(min_precision=0.0) != Rule(min_precision=1.0) and Rule(fdr=0.0) != Rule(fdr=1.0, max_hours=1e-9)


spans = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 12)), max_size=12)


@given(spans, spans, st.sampled_from([0.0, 0.25, 0.5]))
@settings(max_examples=200, deadline=None)
def test_conflicts_are_those_of_comparing_all(
    old: list[tuple[int, int, int]], new: list[tuple[int, int, int]], max_overlap: float
) -> None:
    def conflict(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        shared = min(one[1] + one[2], other[1] + other[2]) - max(one[1], other[1])
        return one[0] == other[0] and shared > max(max_overlap * min(one[2], other[2]), 0)

    clean: list[tuple[int, int, int]] = []
    for span in old:
        if not any(conflict(span, other) for other in clean):
            clean.append(span)

    def columns(some: list[tuple[int, int, int]]) -> tuple[Any, Any, Any]:
        array = np.array(some, np.int64).reshape(-1, 3)
        return array[:, 0], array[:, 1], array[:, 1] + array[:, 2]

    found = conflicting(columns(clean), columns(new), max_overlap).tolist()
    assert found == [any(conflict(span, other) for other in clean) for span in new]
