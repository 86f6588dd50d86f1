"""Columns that were unpacked tell what the Parquet files tell; the cache of them is never in anybody's way."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.pipelines.curation import preparing as preparing_module
from seamlessalign.pipelines.curation import unpacked
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.preparing import Preparing
from seamlessalign.pipelines.curation.served import Served
from seamlessalign.pipelines.curation.unpacked import GROUPS, Ended, find_unpacked, make_unpacked
from seamlessalign.pipelines.pair_columns import UNPACKED
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut, Filter
from seamlessalign.rows import PAIRS
from tests.pipelines.curation.made_pairs import make_run

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")

DIRECTION = "eng-frA"
FILTERS = [
    Filter(column="cosine", op="at_least", value=0.55),
    Filter(column="src_chars", op="at_most", value=16),
    Filter(column="chars_per_second", op="at_least", value=8),
    Filter(column="src_text", op="contains", value="éCOLE"),
    Filter(column="src_text", op="contains", value="0% answer_is \\"),
    Filter(column="tgt_source", op="is_null"),
    Filter(column="tgt_uri", op="contains", value="0 TALK"),
    Filter(column="rank_gap", op="at_least", value=3),
    Filter(column="pair_id", op="contains", value="a"),  # which is not unpacked
    Filter(column="drop_reason", op="none_of", value=["overlap"]),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked") / "run [1]*"
    make_run(root, 120)
    return root


@pytest.fixture(scope="module")
def tables(root: Path) -> Iterator[RunTables]:
    with RunTables(str(root), threads=1) as tables:
        yield tables


@pytest.fixture(scope="module")
def view(tables: RunTables) -> DirectionView:
    return DirectionView(tables, DIRECTION)


@pytest.fixture(scope="module")
def quick(tables: RunTables) -> DirectionView:
    """The same of what was unpacked."""
    view = DirectionView(tables, DIRECTION)
    for group in GROUPS:
        columns = make_unpacked(tables, DIRECTION, group, keep=False)
        assert columns is not None
        view.use_unpacked(columns)
    return view


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Iterator[RunTables]:
    """A run that may be changed."""
    for name in ("pairs", "recordings"):
        shutil.copytree(root / name, tmp_path / "run" / name)
    with RunTables(str(tmp_path / "run"), threads=1) as tables:
        yield tables


def kept_files(tables: RunTables) -> list[str]:
    folder = Path(tables.root, "state", "unpacked")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: f"{one.column} {one.op}")
def test_filters_choose_the_same(view: DirectionView, quick: DirectionView, one: Filter) -> None:
    cut = Cut(min_margin=1.1, filters=[one])
    found = view.rows(cut, limit=200)
    assert 0 < len(found) < 120
    assert quick.rows(cut, limit=200).equals(found)
    assert quick.at(cut) == view.at(cut)
    assert quick.curve([one]).outcomes == view.curve([one]).outcomes
    margins = dict(zip(found["pair_id"].to_pylist(), found["margin"].to_pylist(), strict=True))
    margins |= dict.fromkeys(view.rows(Cut(), limit=9)["pair_id"].to_pylist(), 1.2) | {"nobody": 1.2}
    assert quick.margins_of(margins, [one]) == view.margins_of(margins, [one])


def test_orders_and_samples_are_the_same(view: DirectionView, quick: DirectionView) -> None:
    for column in ("src_chars", "tgt_uri", "disagreement", "tgt_license", "src_text"):
        asked: dict[str, Any] = {"by": column, "descending": column < "s", "limit": 20, "offset": 3}
        assert quick.rows(Cut(), "all", **asked).equals(view.rows(Cut(), "all", **asked)), column
    for seed in (0, 7):
        assert quick.draw(Cut(), "random", seed, 50) == view.draw(Cut(), "random", seed, 50)


def test_it_is_asked_in_place_of_the_files(quick: DirectionView, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = quick.tables.ask

    def listening(query: str, *rest: Any) -> pa.Table:
        asked.append(query)
        return ask(query, *rest)

    monkeypatch.setattr(quick.tables, "ask", listening)
    quick.places(Cut(filters=[Filter(column="src_text", op="contains", value="good")]), by="src_chars")
    quick.places(Cut(), by="src_text")
    assert [UNPACKED in query for query in asked] == [True, False]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=20), st.text(max_size=2))
@settings(max_examples=25, deadline=None)
def test_a_word_in_lower_case_is_found_where_case_is_nothing(texts: list[str], word: str) -> None:
    import duckdb

    texts = [*texts, f"a{word}b", word.upper(), word.lower(), "İstanbul", "ΣΑΣ straße"]
    rows = pa.table({"text": pa.array(texts)})
    plain, given_plain = Filter(column="text", op="contains", value=word).clause()
    quick = "contains(lower(text), lower(?))"
    with duckdb.cursor() as connection:
        connection.register("t", rows)
        found = connection.execute(f"select {plain}, {quick} from t", [*given_plain, word]).fetchall()
    assert all(one == other for one, other in found)


def test_it_is_found_again_until_its_parts_change(copy: RunTables) -> None:
    made = make_unpacked(copy, DIRECTION, "numbers", keep=True)
    found = find_unpacked(copy, DIRECTION, "numbers")
    assert made is not None and found is not None and found.equals(made)
    (before,) = kept_files(copy)
    part = Path(copy.root, f"pairs/direction={DIRECTION}/part-00000.parquet")
    storage.write_table(str(part), storage.read_table(str(part)).slice(0, 40))
    assert find_unpacked(copy, DIRECTION, "numbers") is None
    assert find_unpacked(copy, DIRECTION, "texts") is None
    again = make_unpacked(copy, DIRECTION, "numbers", keep=True)
    assert again is not None and len(again) == 100
    (after,) = kept_files(copy)  # what was made of other parts is gone
    assert after != before


@pytest.mark.parametrize("damage", [b"", b"ARROW1", None])
def test_a_damaged_one_is_made_anew(copy: RunTables, damage: bytes | None) -> None:
    make_unpacked(copy, DIRECTION, "numbers", keep=True)
    file = Path(copy.root, "state", "unpacked", kept_files(copy)[0])
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    assert find_unpacked(copy, DIRECTION, "numbers") is None
    assert make_unpacked(copy, DIRECTION, "numbers", keep=True) is not None
    assert find_unpacked(copy, DIRECTION, "numbers") is not None


def test_where_nothing_may_be_kept_nothing_is_left(copy: RunTables, monkeypatch: pytest.MonkeyPatch) -> None:
    there = sorted(Path(copy.root).rglob("*"))
    assert make_unpacked(copy, DIRECTION, "texts", keep=False) is not None
    assert sorted(Path(copy.root).rglob("*")) == there
    Path(copy.root, "state").write_text("a folder cannot be here")
    assert make_unpacked(copy, DIRECTION, "texts", keep=True) is not None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert make_unpacked(copy, DIRECTION, "texts", keep=True) is None  # nor is a full disk made fuller


def test_it_ends_when_it_is_told(copy: RunTables) -> None:
    with pytest.raises(Ended):
        make_unpacked(copy, DIRECTION, "numbers", keep=True, go_on=lambda: False)
    assert kept_files(copy) == []


def test_pairs_of_another_direction_and_damage_leave_it_to_the_files(copy: RunTables) -> None:
    part = Path(copy.root, f"pairs/direction={DIRECTION}/part-00000.parquet")
    table = storage.read_table(str(part))
    other = table.set_column(1, PAIRS.field("direction"), pa.array(["esA-frA"] + [DIRECTION] * (len(table) - 1)))
    storage.write_table(str(part), other)
    assert make_unpacked(copy, DIRECTION, "numbers", keep=True) is None
    part.write_bytes(b"PAR1 is no more")
    assert make_unpacked(copy, DIRECTION, "numbers", keep=True) is None
    assert find_unpacked(copy, DIRECTION, "numbers") is None
    assert kept_files(copy) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_server_prepares_all_directions(copy: RunTables, monkeypatch: pytest.MonkeyPatch, read_only: bool) -> None:
    for package in ("streamlit", "altair"):
        pytest.importorskip(package, reason="needs the extra 'curate'")
    monkeypatch.setattr(unpacked, "WORTH", 1)
    served = Served(copy.root, read_only=read_only)
    preparing = Preparing(served)
    preparing.wait()
    for direction in served.directions:
        assert served.view(direction)._unpacked is not None, direction
    wanted = ["eng-frA-numbers", "eng-frA-texts", "esA-frA-numbers"]
    assert [name.rpartition("-")[0] for name in kept_files(copy)] == ([] if read_only else wanted)
    preparing.close()
    served.close()


def test_preparing_ends_when_the_server_does(copy: RunTables, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("streamlit", reason="needs the extra 'curate'")
    monkeypatch.setattr(unpacked, "WORTH", 1)
    begun, before = threading.Event(), threading.active_count()

    def make(*_: Any, go_on: Callable[[], bool], **__: Any) -> None:
        begun.set()
        while go_on():
            time.sleep(0.01)
        raise Ended

    monkeypatch.setattr(preparing_module, "make_unpacked", make)
    served = Served(copy.root)
    preparing = Preparing(served)
    assert begun.wait(20)
    preparing.close()
    served.close()
    assert threading.active_count() == before
