"""The page without a browser: its numbers are those of the rows, and a run that is damaged is told."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seamlessalign.pipelines.curation.address import View
from seamlessalign.pipelines.curation.keeping import told_cut
from seamlessalign.pipelines.curation.labels import Drawn, Label
from seamlessalign.pipelines.curation.page_state import PageState
from seamlessalign.pipelines.curation.pairs_shown import WINDOW, is_chosen, next_unmarked, window
from seamlessalign.pipelines.curation.served import Served, set_served
from seamlessalign.pipelines.selection import Cut, Filter, Selection, list_selections, read_selection
from tests.pipelines.fake_run import FakeRun

for _package in ("streamlit", "altair", "duckdb"):
    pytest.importorskip(_package, reason="needs the extra 'curate'")

SCRIPT = Path(__file__).parents[3] / "pipelines" / "curation" / "script" / "curate_page.py"
DIRECTION = "eng-frA"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return FakeRun(str(tmp_path_factory.mktemp("made") / "run"), rejected=60)


@pytest.fixture
def served(made: FakeRun) -> Iterator[Served]:
    served = Served(made.root)
    yield served
    served.close()
    Path(made.root, "labels.parquet").unlink(missing_ok=True)


@pytest.fixture
def page(served: Served, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    # Streamlit puts its script in that place and leaves it there, where processes that others start would run it
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def opened(**parameters: str) -> Any:
        from streamlit.testing.v1 import AppTest

        set_served(served)
        page = AppTest.from_file(str(SCRIPT), default_timeout=60)
        for name, value in ({"direction": DIRECTION} | parameters).items():
            page.query_params[name] = value
        page.run()
        assert not page.exception
        return page

    return opened


def chosen(run: FakeRun, threshold: float) -> list[dict[str, Any]]:
    """The rows that a threshold takes."""
    return [
        row
        for row in run.pairs[DIRECTION]
        if row["margin"] >= threshold and row["drop_reason"] in (None, "below_threshold")
    ]


def test_numbers_are_those_of_the_rows(page: Callable[..., Any], made: FakeRun) -> None:
    shown = page()
    kept = [row for row in made.pairs[DIRECTION] if row["kept"]]
    hours = sum(row["tgt_end"] - row["tgt_start"] for row in kept) / 16_000 / 3600
    estimate = sum(row["precision_estimate"] for row in kept) / len(kept)
    assert [metric.value for metric in shown.metric] == [str(len(kept)), f"{hours:.2f}", f"{estimate:.1%}", "–"]
    slider = shown.slider[0]
    slider.set_value(slider.min).run()
    assert not shown.exception
    assert shown.metric[0].value == str(len(chosen(made, slider.min)))
    assert '"min_margin"' in "".join(shown.query_params[f"cut.{DIRECTION}"])


def pictured(shown: Any, kind: str) -> int:
    """Pairs of a kind in the histogram."""
    spec = json.loads(shown.get("vega_lite_chart")[0].proto.spec)
    return sum(bar["pairs"] for bar in spec["layer"][0]["data"]["values"] if bar["kind"] == kind)


@pytest.mark.parametrize("min_margin", [None, 1.15])
def test_a_least_precision_is_counted_pictured_and_told(
    page: Callable[..., Any], made: FakeRun, min_margin: float | None
) -> None:
    cut = Cut(min_margin=min_margin, min_precision=0.8)
    shown = page(**{f"cut.{DIRECTION}": cut.model_dump_json(exclude_none=True)})
    taken = sum(is_chosen(row, cut) for row in made.pairs[DIRECTION])
    assert 0 < taken < len([row for row in made.pairs[DIRECTION] if row["kept"]])
    assert shown.metric[0].value == str(taken)
    assert taken - 3 <= pictured(shown, "chosen") <= taken  # without the three highest, which are beyond the picture
    assert shown.number_input[0].value == min_margin
    assert told_cut(cut) == ("margin ≥ 1.15 and " if min_margin else "") + "estimated precision ≥ 0.8"


def test_cuts_are_told_in_words() -> None:
    one = Filter(column="seconds", op="at_least", value=2)
    assert told_cut(Cut()) == "the run's own cut"
    assert told_cut(Cut(filters=[one])) == "the run's own cut and 1 filter"
    assert told_cut(Cut(min_margin=1.25, filters=[one, one])) == "margin ≥ 1.25 and 2 filters"


def test_conditions_that_no_control_shows_are_told(page: Callable[..., Any]) -> None:
    of = "drop_reason"
    hidden = [Filter(column=of, op="none_of", value=["overlap", "x"]), Filter(column="margin", op="is_not_null")]
    twice = [Filter(column="cosine", op="at_least", value=value) for value in (-1, -0.5)]
    shown = page(**{f"cut.{DIRECTION}": Cut(filters=[*hidden, *twice]).model_dump_json()})
    said = " ".join(str(one.proto.body) for one in shown.get("html"))
    assert "and none of overlap, x: stays" in said and "and is not null: stays" in said
    assert "and at least -1.0: stays" in said and "at least -0.5" not in said


@pytest.mark.parametrize("look", ["list", "table", "keep"])
def test_every_look_is_drawn(page: Callable[..., Any], look: str) -> None:
    assert page(look=look, order="random_near" if look == "list" else "seconds").query_params["look"] in (look, [look])


def test_a_run_that_is_not_finished_is_told(page: Callable[..., Any], served: Served) -> None:
    served.unfinished = "running"
    assert any("not finished: it is running." in str(one.proto.body) for one in page().get("html"))


def test_marks_are_on_disk_and_can_be_taken_back(page: Callable[..., Any], served: Served) -> None:
    shown = page()
    for key in ("mark-right", "mark-unsure", "undo"):
        shown.button(key=key).click().run()
        assert not shown.exception
    table = served.labels.read()
    best = served.view(DIRECTION).rows(Cut(), limit=2)["pair_id"].to_pylist()
    assert table["pair_id"].to_pylist() == [best[0], best[1], best[1]]
    assert table["label"].to_pylist() == ["right", "unsure", "undo"]


def test_a_damaged_table_of_labels_is_told(page: Callable[..., Any], made: FakeRun) -> None:
    shown = page()
    Path(made.root, "labels.parquet").write_bytes(b"PAR1 is no more")
    shown.button(key="on").click().run()
    assert not shown.exception
    assert any("labels.parquet: is damaged" in str(one.proto.body) for one in shown.get("html"))
    assert Path(made.root, "labels.parquet").read_bytes() == b"PAR1 is no more"


def test_a_cut_takes_what_it_counts(served: Served, made: FakeRun) -> None:
    for threshold in (None, 1.0, 1.12, 1.2):
        rows = served.view(DIRECTION).rows(Cut(min_margin=threshold), limit=10_000).to_pylist()
        ids = {row["pair_id"] for row in rows}
        taken = {row["pair_id"] for row in made.pairs[DIRECTION] if is_chosen(row, Cut(min_margin=threshold))}
        assert ids == taken and ids


@pytest.mark.parametrize("order", ["margin", "random_above"])
def test_marked_pairs_are_passed_over(served: Served, order: str) -> None:
    state = PageState(View(DIRECTION, order=order), [], "s")
    rows = window(served, state, 0)
    assert next_unmarked(served, state, 0) == 0
    marked = [*rows.rows[:2], *window(served, state, WINDOW).rows[:4]]
    served.labels.append([Label(row["pair_id"], DIRECTION, "right", row["margin"], rows.drawn) for row in marked])
    assert next_unmarked(served, state, 0) == 2
    assert next_unmarked(served, state, WINDOW) == WINDOW + 4
    every = served.view(DIRECTION).rows(Cut(), limit=10_000).to_pylist()
    served.labels.append([Label(row["pair_id"], DIRECTION, "wrong", row["margin"], rows.drawn) for row in every])
    assert next_unmarked(served, state, 0) == len(every)


def test_of_a_random_sample_a_label_of_another_draw_is_none(served: Served) -> None:
    state = PageState(View(DIRECTION, order="random_above"), [], "s")
    row = window(served, state, 0).rows[0]
    served.labels.append([Label(row["pair_id"], DIRECTION, "right", row["margin"], Drawn("in order"))])
    assert next_unmarked(served, state, 0) == 0


@pytest.mark.slow
def test_a_choice_is_saved_and_taken_up(page: Callable[..., Any], served: Served, made: FakeRun) -> None:
    cut = Cut(min_margin=1.15, filters=[Filter(column="seconds", op="at_least", value=3.0)])
    shown = page(**{"look": "keep", "labels": "only_right", f"cut.{DIRECTION}": cut.model_dump_json()})
    assert shown.dataframe[0].value["cut"].tolist() == ["the run's own cut", "margin ≥ 1.15 and 1 filter"]
    assert shown.button(key="save").disabled and not list_selections(made.root)
    shown.text_input(key="save-name").set_value("a/b").run()
    shown.button(key="save").click().run()
    assert any("cannot name a selection" in str(one.proto.body) for one in shown.get("html"))
    shown.multiselect(key="wanted-directions").set_value([DIRECTION]).run()
    shown.text_input(key="save-name").set_value("mine")
    shown.text_input(key="save-note").set_value("why").run()
    shown.button(key="save").click().run()
    assert not shown.exception and shown.button(key="save").label == "Save again"
    wanted = Selection(directions={DIRECTION: cut}, labels="only_right", note="why")
    assert read_selection(made.root, "mine") == wanted
    assert f"--selection mine --format parquet --to {made.root}/exports/mine-parquet" in shown.code[0].value
    again = page(look="keep", labels="ignore")
    again.selectbox(key="picked").set_value("mine").run()
    next(one for one in again.button if one.label == "Take it up").click().run()
    assert not again.exception and again.selectbox(key="policy").value == "only_right"
    assert again.metric[0].value == str(served.view(DIRECTION).at(cut).pairs)
    assert again.dataframe[0].value["cut"].tolist() == ["margin ≥ 1.15 and 1 filter"]
    served.read_only = True
    assert page(look="keep").button(key="save").disabled
    Path(made.root, "selections", "mine.yaml").unlink()
