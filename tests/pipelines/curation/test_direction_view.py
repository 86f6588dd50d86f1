"""Counts, columns and rows of a direction against the same in plain Python over all rows."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.curation.direction_view import DirectionView, filters_key
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
from seamlessalign.pipelines.curation.margin_curve import Grid
from seamlessalign.pipelines.curation.unpacked import GROUPS, make_unpacked
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.pipelines.report_numbers import covered_samples
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut, Filter
from seamlessalign.rows import PAIRS
from tests.pipelines.curation.made_pairs import THRESHOLD, make_run

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")

Row = dict[str, Any]
DIRECTIONS = ("eng-frA", "esA-frA")
OWN = Cut(min_margin=THRESHOLD)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curation") / "run [1]*"


@pytest.fixture(scope="module")
def rows(root: Path) -> dict[str, list[Row]]:
    return make_run(root)


@pytest.fixture(
    scope="module",
    params=["Parquet", pytest.param("unpacked", marks=[pytest.mark.slow, pytest.mark.thorough])],  # twice the time
)
def views(root: Path, rows: dict[str, list[Row]], request: pytest.FixtureRequest) -> Iterator[dict[str, DirectionView]]:
    with RunTables(str(root), threads=1) as tables:
        views = {name: DirectionView(tables, name) for name in rows}
        if request.param == "unpacked":
            for name, group in itertools.product(views, GROUPS):
                columns = make_unpacked(tables, name, group, keep=False)
                assert (columns is None) == (name == "esA-frA" and group == "texts")
                if columns is not None:
                    views[name].use_unpacked(columns)
        yield views


def _seconds(row: Row, side: str) -> float:
    return 0.0 if row[f"{side}_start"] is None else (row[f"{side}_end"] - row[f"{side}_start"]) / 16_000


def _chosen(rows: list[Row], threshold: float, passes: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    eligible = [row for row in rows if (row["kept"] or row["drop_reason"] in ONLY_THE_CUT) and passes(row)]
    return [row for row in eligible if np.float32(row["margin"]) >= np.float32(threshold)]


FILTERS: dict[str, tuple[str, Filter, Callable[[Row], bool]]] = {
    "a number": ("eng-frA", Filter(column="cosine", op="at_least", value=0.55), lambda row: row["cosine"] >= 0.55),
    "a null is no number": (
        "eng-frA",
        Filter(column="precision_estimate", op="at_most", value=0.5),
        lambda row: row["precision_estimate"] is not None and row["precision_estimate"] <= 0.5,
    ),
    "seconds": ("esA-frA", Filter(column="src_seconds", op="at_least", value=2), lambda row: _seconds(row, "src") >= 2),
    "code points": (
        "eng-frA", Filter(column="src_chars", op="at_most", value=16), lambda row: len(row["src_text"]) <= 16
    ),
    "characters a second": (
        "eng-frA",
        Filter(column="chars_per_second", op="at_least", value=8),
        lambda row: len(row["src_text"]) / _seconds(row, "tgt") >= 8,
    ),
    "ratio of durations": (
        "esA-frA",
        Filter(column="duration_ratio", op="at_most", value=2),
        lambda row: max(pair := [_seconds(row, side) for side in ("src", "tgt")]) / min(pair) <= 2,
    ),
    "ranks": (
        "esA-frA",
        Filter(column="rank_gap", op="at_least", value=3),
        lambda row: abs(*np.diff([6 if row[name] < 0 else row[name] for name in ("forward_rank", "backward_rank")]))
        >= 3,
    ),
    "of its recording": (
        "esA-frA", Filter(column="tgt_source", op="one_of", value=["radio"]), lambda row: "0 talk" in row["tgt_uri"]
    ),
    "no source": ("eng-frA", Filter(column="tgt_source", op="is_null"), lambda row: "2 talk" in row["tgt_uri"]),
    "probability": (
        "eng-frA",
        Filter(column="tgt_lang_prob", op="at_least", value=0.8),
        lambda row: "2 talk" in row["tgt_uri"],
    ),
    "text in any case": (
        "eng-frA", Filter(column="src_text", op="contains", value="école"), lambda row: "ÉCOLE" in row["src_text"]
    ),
    "text, literally": (
        "eng-frA", Filter(column="src_text", op="contains", value="0% ANSWER_is \\"), lambda row: "%" in row["src_text"]
    ),
    "flag": ("eng-frA", Filter(column="kept", op="one_of", value=["true"]), lambda row: row["kept"]),
}  # fmt: skip


class TestCurve:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_it_tells_what_counting_all_rows_tells(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]], direction: str
    ) -> None:
        curve = views[direction].curve()
        margins = [row["margin"] for row in rows[direction]]
        around = [np.nextafter(np.float32(margin), np.float32(way)) for margin in margins[:8] for way in (-9, 9)]
        for threshold in [
            *margins[:50],
            *map(float, around),
            1.1537,
            -math.inf,
            -5.0,
            99.0,
            math.inf,
            *curve.grid.thresholds[::50],
        ]:
            found, wanted = curve.at(threshold), _chosen(rows[direction], threshold)
            assert found.pairs == len(wanted), threshold
            for side, hours in (("src", found.src_hours), ("tgt", found.tgt_hours)):
                assert hours * 3600 == pytest.approx(sum(_seconds(row, side) for row in wanted))
            known = [row["precision_estimate"] for row in wanted if row["precision_estimate"] is not None]
            assert (found.precision is None) == (not known)
            assert found.precision is None or found.precision == pytest.approx(float(np.mean(known)))
        assert curve.at(math.nan).pairs == 0
        assert curve.total == len(margins)

    @pytest.mark.parametrize("case", FILTERS)
    def test_filters_choose_as_plain_python_does(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]], case: str
    ) -> None:
        direction, one, passes = FILTERS[case]
        wanted = _chosen(rows[direction], THRESHOLD, passes)
        assert 0 < len(wanted) < len(_chosen(rows[direction], THRESHOLD)) or case == "flag"
        cut = Cut(min_margin=THRESHOLD, filters=[one])
        view = views[direction]
        assert view.at(cut).pairs == len(wanted)
        found = view.rows(cut, limit=1000)["pair_id"].to_pylist()
        assert sorted(found) == sorted(row["pair_id"] for row in wanted)

    def test_filters_are_all_to_be_met_and_their_order_is_nothing(self, views: dict[str, DirectionView]) -> None:
        few, more = FILTERS["code points"][1], FILTERS["a number"][1]
        view = views["eng-frA"]
        assert view.curve([few, more]) is view.curve([more, few])
        assert view.curve([few, more]).total < min(view.curve([few]).total, view.curve([more]).total)
        assert filters_key([]) == "" and filters_key([few]) != filters_key([more])

    def test_the_runs_own_choice(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        view = views["eng-frA"]
        assert view.own_threshold == THRESHOLD
        assert view.at(Cut()).pairs == sum(row["kept"] for row in rows["eng-frA"]) == view.at(OWN).pairs
        sure = Cut(min_margin=1.1, min_precision=0.5)
        wanted = [row for row in _chosen(rows["eng-frA"], 1.1) if (row["precision_estimate"] or 0) >= 0.5]
        assert view.at(sure).pairs == len(wanted) > 0

    def test_histograms_lose_no_pair(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        outcomes = Counter("kept" if row["kept"] else row["drop_reason"] for row in rows["eng-frA"])
        view = views["eng-frA"]
        assert view.curve().outcomes == outcomes
        for name in ("margin", "cosine", "src_chars", "disagreement", "forward_rank", "tgt_lang_prob"):
            bars = view.histogram(name, bins=20).to_pylist()
            assert (
                Counter({key: sum(bar["pairs"] for bar in bars if bar["outcome"] == key) for key in outcomes})
                == outcomes
            )
            assert len({bar["low"] for bar in bars}) <= 20 and all(bar["low"] < bar["high"] for bar in bars)
        (bar,) = [bar for bar in view.histogram("margin").to_pylist() if bar["low"] <= 1.5 < bar["high"]][:1] or [None]
        if bar:
            inside = [r for r in rows["eng-frA"] if np.float32(bar["low"]) <= r["margin"] < np.float32(bar["high"])]
            assert sum(b["pairs"] for b in view.histogram("margin").to_pylist() if b["low"] == bar["low"]) == len(
                inside
            )
        with pytest.raises(InputError, match="src_text is no number"):
            view.histogram("src_text")

    def test_margins_that_are_no_numbers_are_told_and_never_chosen(self, tmp_path: Path) -> None:
        made = make_run(tmp_path / "run", 40)["esA-frA"]
        place = tmp_path / "run/pairs/direction=esA-frA/part-00000.parquet"
        for row, margin in zip(made, (math.nan, math.inf, -math.inf), strict=False):
            row["margin"] = margin
        storage.write_table(str(place), pa.Table.from_pylist(made, PAIRS))
        with RunTables(str(tmp_path / "run"), threads=1) as tables:
            view = DirectionView(tables, "esA-frA")
            assert (view.curve().not_finite, view.curve().total) == (3, 40)
            assert sum(view.curve().outcomes.values()) == 37
            assert view.at(Cut(min_margin=-9)).pairs == len(_chosen(made[3:], -9))
            assert sum(view.histogram("disagreement")["pairs"].to_pylist()) == 40
            found, drawn = view.draw(Cut(min_margin=-9), "random", limit=100)
            assert len(found) == len(_chosen(made[3:], -9)) == view.curve().pairs_between(drawn.low, drawn.high)

    def test_the_lowest_threshold_for_an_estimate(self, views: dict[str, DirectionView]) -> None:
        curve = views["eng-frA"].curve()
        thresholds = curve.grid.thresholds
        means = [curve.at(threshold).precision or 0.0 for threshold in thresholds]
        wanted = sorted(means)[-20]
        assert curve.lowest_threshold(wanted) == thresholds[next(n for n, mean in enumerate(means) if mean >= wanted)]
        assert curve.lowest_threshold(1.01) is None
        shown = curve.curve(30).to_pylist()
        assert shown[0]["pairs"] == curve.at(-9.0).pairs
        assert [row["pairs"] for row in shown] == [curve.at(row["threshold"]).pairs for row in shown]

    def test_hours_of_audio_that_is_in_several_pairs(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]]
    ) -> None:
        spans = [
            (row[f"{side}_uri"], row[f"{side}_start"], row[f"{side}_end"])
            for row in _chosen(rows["esA-frA"], 1.1)
            for side in ("src", "tgt")
        ]
        uris = sorted({uri for uri, *_ in spans})
        numbers, starts, ends = (
            np.array(values) for values in zip(*((uris.index(uri), *span) for uri, *span in spans), strict=True)
        )
        wanted = covered_samples(numbers, starts, ends) / 16_000 / 3600
        view = views["esA-frA"]
        assert view.distinct_hours(Cut(min_margin=1.1)) == pytest.approx(wanted)
        assert wanted < view.at(Cut(min_margin=1.1)).hours


class TestGrid:
    @given(st.floats(-50, 50, width=32), st.floats(0, 60, width=32))
    @settings(max_examples=200, deadline=None)
    def test_edges_are_few_and_rising_and_hold_both_ends(self, low: float, width: float) -> None:
        high = float(np.float32(low + width))
        grid = Grid.of(low, high)
        assert grid.bins <= 2010
        edges = grid.edges
        assert (np.diff(edges) > 0).all() or width < 1e-3
        assert edges[0] <= np.float32(low) and np.float32(high) < edges[-1]

    def test_margins_of_a_run_have_edges_at_thousandths(self) -> None:
        grid = Grid.of(1.0123, 1.9)
        assert grid.per_unit == 1000 and 1.15 in grid.thresholds and grid.edges.dtype == np.float32


class TestColumns:
    def test_ranges_and_values(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        view, own = views["eng-frA"], rows["eng-frA"]
        found = view.range("precision_estimate")
        known = [row["precision_estimate"] for row in own if row["precision_estimate"] is not None]
        assert (found.low, found.high, found.nulls) == (min(known), max(known), len(own) - len(known))
        assert view.range("src_start").low is None
        lengths = [len(row["src_text"]) for row in own]
        assert (view.range("src_chars").low, view.range("src_chars").high) == (min(lengths), max(lengths))
        reasons = {row["value"]: (row["pairs"], row["kept"]) for row in view.values("drop_reason").to_pylist()}
        assert reasons[None] == (view.at(Cut()).pairs,) * 2
        assert {name: pairs for name, (pairs, _) in reasons.items()} == Counter(row["drop_reason"] for row in own)

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_disagreement_is_the_distance_of_two_ranks(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]], direction: str
    ) -> None:
        own = rows[direction]
        found = views[direction].rows(OWN, "all", limit=1000).to_pylist()
        margins, cosines = (np.array([row[name] for row in own]) for name in ("margin", "cosine"))
        exact = 0
        for row in found:
            below, level, alone = [], 0.0, True
            for name, values in (("margin", margins), ("cosine", cosines)):
                below.append((np.mean(values < row[name]) + np.mean(values <= row[name])) / 2)
                near = np.abs(values - row[name]) <= np.ptp(values) / 1999
                level += np.mean(near)
                alone = alone and len(set(values[near].tolist())) == 1
            assert row["disagreement"] == pytest.approx(abs(below[0] - below[1]), abs=1e-9 if alone else level)
            exact += alone
        assert exact > 20

    def test_what_does_not_fit_is_refused(self, views: dict[str, DirectionView], root: Path) -> None:
        view = views["eng-frA"]
        for one, message in (
            (Filter(column="src_text", op="at_least", value=1), "src_text is no number"),
            (
                Filter(column="duration_ratio", op="at_least", value=1),
                "has no column 'duration_ratio'; there are pair_id",
            ),
        ):
            for act in (lambda one=one: view.curve([one]), lambda one=one: view.rows(Cut(filters=[one]))):
                with pytest.raises(InputError, match=message):
                    act()
        with pytest.raises(InputError, match="has no column"):
            view.rows(OWN, by='margin" desc; drop view pairs; --')
        with RunTables(str(root)) as tables, pytest.raises(InputError, match="has no pairs"):
            DirectionView(tables, "eng-itA")


class TestRows:
    @pytest.mark.parametrize("column", ["margin", "disagreement", "src_source"])
    def test_they_come_a_page_at_a_time(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]], column: str
    ) -> None:
        self._check_order(views["esA-frA"], rows["esA-frA"], column, True, 150)

    @pytest.mark.slow
    @pytest.mark.thorough
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_they_come_in_any_order(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]], direction: str
    ) -> None:
        for column in views[direction].columns():
            for descending in (True, False):
                self._check_order(views[direction], rows[direction], column.name, descending, 1000)

    @staticmethod
    def _check_order(view: DirectionView, own: list[Row], column: str, descending: bool, limit: int) -> None:
        pages = [view.rows(OWN, "all", column, descending, limit, offset) for offset in range(0, len(own), limit)]
        found = [row for page in pages for row in page.to_pylist()]
        assert sorted(row["pair_id"] for row in found) == sorted(row["pair_id"] for row in own)
        values = [row[column] for row in found]
        known = [value for value in values if value is not None]
        assert values[: len(known)] == sorted(known, reverse=descending)
        whole = {row["pair_id"]: row for row in own}
        for row in found:
            assert {name: row[name] for name in whole[row["pair_id"]]} == whole[row["pair_id"]]

    def test_counts_that_are_there_already_change_no_row(self, views: dict[str, DirectionView]) -> None:
        filters = [Filter(column="src_chars", op="at_least", value=15)]
        for cut in (
            Cut(filters=filters),
            Cut(min_margin=1.1, filters=filters),
            Cut(min_precision=0.4, filters=filters),
        ):
            for which in ("chosen", "not chosen", "all"):
                view = DirectionView(views["eng-frA"].tables, "eng-frA")
                before = view.rows(cut, which, limit=7, offset=3)  # type: ignore[arg-type]
                view.curve(filters)
                assert view.rows(cut, which, limit=7, offset=3).equals(before)  # type: ignore[arg-type]
                bound = view._bound(cut, which, 10)  # type: ignore[arg-type]
                assert (bound is None) == (
                    which == "not chosen" or (which == "chosen" and cut.min_precision is not None)
                )

    def test_chosen_and_not_chosen_are_all(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        view = views["eng-frA"]
        for cut in (Cut(), OWN, Cut(min_margin=1.0), Cut(min_precision=0.5)):
            chosen, others = (
                set(view.rows(cut, which, limit=1000)["pair_id"].to_pylist()) for which in ("chosen", "not chosen")
            )
            assert not chosen & others and len(chosen | others) == len(rows["eng-frA"])
            assert len(chosen) == view.at(cut).pairs

    def test_a_pair_is_found_by_its_id(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        wanted = rows["esA-frA"][7]
        found = views["esA-frA"].pair(wanted["pair_id"])
        assert found is not None and {name: found[name] for name in wanted} == wanted
        assert found["tgt_license"] == "CC0"
        assert views["esA-frA"].pair("nothing") is None

    def test_labels_are_a_column(self, root: Path, rows: dict[str, list[Row]]) -> None:
        first, second, third = (row["pair_id"] for row in rows["eng-frA"][:3])
        labels = Labels(str(root))
        drawn = Drawn("looked up")
        labels.append([Label(first, "eng-frA", "right", 1.2, drawn), Label(second, "eng-frA", "wrong", 1.2, drawn)])
        labels.append([Label(second, "eng-frA", "undo", 1.2, drawn), Label(third, "esA-frA", "wrong", 1.2, drawn)])
        with RunTables(str(root)) as tables:
            view = DirectionView(tables, "eng-frA")
            said = Filter(column="label", op="is_not_null")
            assert view.curve([said]).total == 0
            view.show_labels(labels.labelled())
            assert view.curve([said]).total == 1  # counted anew
            found = view.rows(Cut(), "all", "label", limit=2).to_pylist()
            assert [row["label"] for row in found] == ["right", None] and found[0]["pair_id"] == first
        (root / "labels.parquet").unlink()


class TestDraws:
    @pytest.mark.slow
    def test_each_pair_has_the_same_chance(self, views: dict[str, DirectionView], rows: dict[str, list[Row]]) -> None:
        view, times, draws = views["eng-frA"], Counter[str](), 30
        wanted = {row["pair_id"] for row in _chosen(rows["eng-frA"], THRESHOLD)}
        for seed in range(draws):
            found, drawn = view.draw(OWN, "random above the threshold", seed, limit=30)
            times.update(found["pair_id"].to_pylist())
        assert drawn == Drawn("random above the threshold", float(np.float32(THRESHOLD)), None, "")
        assert set(times) == wanted
        # each is drawn binomially often
        expected = draws * 30 / len(wanted)
        chi = sum((times[pair] - expected) ** 2 for pair in wanted) / (expected * (1 - 30 / len(wanted)))
        assert chi < len(wanted) + 4 * math.sqrt(2 * len(wanted))
        assert max(times.values()) < expected + 6 * math.sqrt(expected)

    def test_a_seed_gives_one_order_of_which_pages_are_parts(self, views: dict[str, DirectionView]) -> None:
        view = views["eng-frA"]
        whole = view.draw(OWN, "random", 5, 40)[0]["pair_id"].to_pylist()
        pages = [view.draw(OWN, "random", 5, 20, offset)[0]["pair_id"].to_pylist() for offset in (0, 20)]
        assert whole == pages[0] + pages[1] and len(set(whole)) == 40
        assert view.draw(OWN, "random", 6, 40)[0]["pair_id"].to_pylist() != whole

    def test_around_the_threshold(self, root: Path, tmp_path: Path) -> None:
        made = make_run(tmp_path / "run", 3000)
        with RunTables(str(tmp_path / "run"), threads=1) as tables:
            view = DirectionView(tables, "esA-frA")
            cut = Cut(min_margin=1.2, filters=[Filter(column="src_seconds", op="at_least", value=1)])
            found, drawn = view.draw(cut, "random at the threshold", limit=2000)
            assert drawn.low is not None and drawn.high is not None and drawn.low < 1.2 < drawn.high < 1.3
            assert drawn.among == filters_key(cut.filters)
            eligible = _chosen(made["esA-frA"], drawn.low, lambda row: _seconds(row, "src") >= 1)
            inside = [row["pair_id"] for row in eligible if row["margin"] < drawn.high]
            assert sorted(found["pair_id"].to_pylist()) == sorted(inside)
            assert view.curve(cut.filters).pairs_between(drawn.low, drawn.high) == len(inside)
            above = sum(row["margin"] >= np.float32(1.2) for row in eligible if row["margin"] < drawn.high)
            assert 200 <= above <= 400 and 200 <= len(inside) - above <= 400

    def test_a_cut_by_estimates_is_a_filter_more(
        self, views: dict[str, DirectionView], rows: dict[str, list[Row]]
    ) -> None:
        view, sure = views["eng-frA"], rows["eng-frA"][1]["precision_estimate"]
        for margin in (None, 1.1):
            cut = Cut(min_margin=margin, min_precision=sure)
            filters, threshold = view.filters_and_threshold(cut)
            assert threshold == margin and view.at(cut).pairs == view.curve(filters).pairs_between(threshold, None) > 1
            found, drawn = view.draw(cut, "random above the threshold", limit=1000)
            chosen = view.rows(cut, limit=1000)["pair_id"].to_pylist()
            assert sorted(found["pair_id"].to_pylist()) == sorted(chosen)
            assert drawn.among == filters_key(filters) and (drawn.low is None) == (margin is None)
        with pytest.raises(InputError, match="give a threshold"):
            view.draw(Cut(min_precision=sure), "random at the threshold")

    def test_a_run_in_a_store_tells_the_same(self, root: Path, views: dict[str, DirectionView]) -> None:
        store = "memory://curated/run"
        for path in (path for path in root.rglob("*.parquet") if path.is_file()):
            storage.write_bytes_atomic(f"{store}/{path.relative_to(root)}", path.read_bytes())
        cut = Cut(min_margin=1.15, filters=[Filter(column="disagreement", op="at_most", value=0.5)])
        here = views["eng-frA"]
        with RunTables(store, threads=1) as tables:
            there = DirectionView(tables, "eng-frA")
            assert there.at(cut) == here.at(cut) and there.own_threshold == here.own_threshold
            order = there.rows(cut, by="chars_per_second", limit=30)
            assert order.equals(here.rows(cut, by="chars_per_second", limit=30))
            found, drawn = there.draw(cut, "random above the threshold", limit=10)
            assert drawn == here.draw(cut, "random above the threshold")[1] and len(found) == 10
            assert there.draw(cut, "random above the threshold", limit=10)[0].equals(found)
        storage.remove(store)

    def test_what_draws_nothing_is_told(self, views: dict[str, DirectionView]) -> None:
        with pytest.raises(InputError, match="'in order' draws nothing at random"):
            views["eng-frA"].draw(OWN, "in order")
