"""The plane of all pairs cut into rectangles: every pair once, what is done kept, memory kept, and the same bytes."""

import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.mining import lists, neighbours
from seamlessalign.pipelines import gather_stage, mining_stage, search_sizes, search_stage
from seamlessalign.pipelines.ledger import write_mark
from seamlessalign.pipelines.mining_stage import MiningTask, candidates_of
from seamlessalign.pipelines.plan import plan_text
from seamlessalign.pipelines.rectangles import Rectangle, covers, cut, disjoint
from seamlessalign.pipelines.search_lists import first_places
from seamlessalign.pipelines.search_sides import load_sides
from seamlessalign.pipelines.search_sizes import LEAST_ROWS, query_memory, query_step, scan_memory, scan_step
from seamlessalign.pipelines.search_stage import SCAN, SearchTask
from seamlessalign.pipelines.stage_plans import StagePlanner
from seamlessalign.resources_config import ResourcesConfig
from tests.pipelines.made_sides import config_of, context_of, mine
from tests.pipelines.test_search import DIRECTIONS, ENG, FRA, with_tasks, write_sides


@st.composite
def any_rectangles(draw: st.DrawFn) -> list[Rectangle]:
    """Some of one or two grids, and some anywhere; they may overlap, lie partly outside, and occur twice."""
    found = []
    for step in draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=2)):
        found += [one for one in cut(14, 11, step) if draw(st.booleans())]
    for _ in range(draw(st.integers(0, 5))):
        begin, left = draw(st.integers(0, 13)), draw(st.integers(0, 10))
        found.append(Rectangle(begin, begin + draw(st.integers(1, 6)), left, left + draw(st.integers(1, 6))))
    return draw(st.permutations(found))


def painted(rectangles: list[Rectangle], rows: int = 30, columns: int = 30) -> Any:
    """How many rectangles each pair is in."""
    count = np.zeros((rows, columns), int)
    for begin, end, left, right in rectangles:
        count[begin:end, left:right] += 1
    return count


@settings(max_examples=200, deadline=None)
@given(any_rectangles(), st.integers(1, 20), st.integers(1, 20))
def test_every_pair_is_in_one_rectangle_and_what_is_done_stays(done: list[Rectangle], high: int, wide: int) -> None:
    found = cut(14, 11, (high, wide), done)
    assert (painted(found, 14, 11) == 1).all() and covers(found, 14, 11) and found == sorted(found)
    kept = disjoint(one for one in done if one.end <= 14 and one.right <= 11)
    assert set(kept) <= set(found)
    assert all(one.rows <= high and one.columns <= wide for one in set(found) - set(kept))
    assert cut(14, 11, (3, 4), found) == found


@settings(max_examples=100, deadline=None)
@given(any_rectangles())
def test_of_two_that_share_a_pair_the_first_counts(done: list[Rectangle]) -> None:
    kept: list[Rectangle] = []
    for one in sorted(done):
        if painted([*kept, one]).max() == 1:
            kept.append(one)
    assert disjoint(done) == kept


def test_what_is_left_is_not_cut_more_than_needed() -> None:
    assert cut(400, 300, (100, 300)) == [Rectangle(at, at + 100, 0, 300) for at in (0, 100, 200, 300)]
    rows = cut(400, 300, (50, 300), [Rectangle(100, 200, 0, 300)])
    assert [one[:2] for one in rows] == [*pairwise((0, 50, 100, 200, 250, 300, 350, 400))]
    # rows with the same gaps are done together, wherever the finished ones are cut
    assert cut(400, 300, (400, 300), [Rectangle(0, 200, 0, 100), Rectangle(200, 400, 0, 100)]) == [
        Rectangle(0, 200, 0, 100), Rectangle(0, 400, 100, 300), Rectangle(200, 400, 0, 100),
    ]  # fmt: skip
    assert cut(400, 300, (400, 300), [Rectangle(0, 401, 0, 100)]) == [Rectangle(0, 400, 0, 300)]


def resources(memory: float = 4.0, **more: Any) -> ResourcesConfig:
    return ResourcesConfig(mining_memory_gb=memory, **more)


def test_columns_stay_whole_where_memory_allows() -> None:
    assert scan_step(100_000, 100_000, 32, resources(), 8) == (12_500, 100_000)
    assert scan_step(10_000, 50_000, 32, resources(), 8) == (LEAST_ROWS, 50_000)
    assert scan_step(400, 300, 32, resources(), 8) == (400, 300)
    assert scan_step(400, 300, 32, resources(mining_tasks=3), 8) == (134, 300)
    assert scan_step(10**7, 10**7, 32, resources(mining_tasks=2), 8) == (5 * 10**6, 10**7)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 10**8), st.integers(1, 10**8), st.sampled_from([1, 16, 32, 1000, 2**16]),
    st.sampled_from([1.0, 2.0, 4.0, 64.0]), st.integers(1, 500),
)  # fmt: skip
def test_a_task_keeps_to_its_memory(rows: int, columns: int, k: int, memory: float, workers: int) -> None:
    high, wide = scan_step(rows, columns, k, resources(memory), workers)
    assert 1 <= high <= rows and 1 <= wide <= columns
    assert scan_memory(high, wide, k) <= memory * 2**30
    some = query_step(rows, 32, resources(memory), workers)
    assert 1 <= some <= rows and query_memory(some, 32) <= memory * 2**30


def test_little_is_listed_twice() -> None:
    """A grid costs no more than twice what the best of all grids within the memory would."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows, columns = (int(10 ** rng.uniform(4, 7)) for _ in range(2))
        high, wide = scan_step(rows, columns, 32, resources(1.0), 1)

        def cost(high: int, wide: int, rows: int = rows, columns: int = columns) -> int:
            return -(-columns // wide) * rows + -(-rows // high) * columns

        best = min(
            cost(one, other)
            for one in np.unique(np.geomspace(1, rows, 150).astype(int)).tolist()
            for other in np.unique(np.geomspace(1, columns, 150).astype(int)).tolist()
            if scan_memory(one, other, 32) <= 2**30
        )
        assert cost(high, wide) <= 1.35 * best, (rows, columns)


def test_too_little_memory_for_any_task_is_told() -> None:
    small = resources().model_copy(update={"mining_memory_gb": 0.5})
    with pytest.raises(ConfigError, match=r"mining_memory_gb is 0.5: a task of the search takes 0.57 at least"):
        scan_step(10**6, 10**6, 16, small, 1)


def test_what_takes_more_than_a_task_may_is_told_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sides(tmp_path)
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    assert "choosing its pairs" not in plan_text(context.config)
    monkeypatch.setattr(search_sizes, "_GATHERED_ROW", 20 << 20)
    told = "eng: gathering its rows takes about 8.3 GiB in one task, which has 4: set resources.mining_memory_gb"
    with pytest.raises(ConfigError, match=told):
        gather_stage.process(ENG, "gathered", context)
    assert not storage.list_files(context.folder.table(gather_stage.TABLE))
    monkeypatch.undo()
    for side in (ENG, FRA):
        gather_stage.process(side, "gathered", context)
    monkeypatch.setattr(search_sizes, "_CHOSEN_ROW", 20 << 20)
    told = "eng-frA: choosing its pairs takes about 14.2 GiB in one task, which has 4: set resources.mining_memory_gb"
    assert told in plan_text(context.config)
    with pytest.raises(ConfigError, match=told):
        StagePlanner(context, ([], []), 1, {"eng": "1", "frA": "2"}).plan("search")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole")
    write_sides(root)
    return mine(with_tasks(root, 1))


@pytest.mark.parametrize(("step", "order"), [((400, 7), 1), ((100, 100), -1), ((130, 30), 1), ((37, 299), -1)])
def test_same_bytes_for_any_rectangles_in_any_order(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[int, int], order: int
) -> None:
    monkeypatch.setattr(search_stage, "scan_step", lambda *_: step)
    monkeypatch.setattr("seamlessalign.pipelines.search_lists.RANGE_BYTES", 100_000)
    write_sides(tmp_path)
    assert mine(context_of(config_of(tmp_path, DIRECTIONS)), order) == whole


def test_same_bytes_with_rectangles_of_another_configuration(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sides(tmp_path)
    done = [
        SearchTask(name, SCAN, where)
        for name, rows in (("eng-frA", 400), ("frA-esA", 300))
        for where in (*cut(rows, 300, (90, 70))[3:9], Rectangle(50, 60, 100, 120), Rectangle(0, 9, 0, 300))
    ]
    monkeypatch.setattr(search_stage, "scan_step", lambda *_: (64, 300))
    context = context_of(config_of(tmp_path, DIRECTIONS))
    assert mine(context, done=done) == whole
    kept = {task.where for task in done[:8]} & {task.where for task in search_stage.searched("eng-frA", context)}
    assert kept == set(disjoint(task.where for task in done[:8]))


def test_a_task_that_overlaps_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an array of tasks may leave behind whose driver died, when it is started again with other resources."""
    write_sides(tmp_path)
    monkeypatch.setattr(search_stage, "scan_step", lambda *_: (200, 100))
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    mine(context)
    tasks = search_stage.searched("eng-frA", context)
    assert len(tasks) == 6 and tasks[1].name.endswith(".both-000000000000-000000000200-000000000100-000000000200")
    wanted = candidates_of(MiningTask("eng-frA", tuple(tasks)), context).pairs
    late = SearchTask("eng-frA", SCAN, Rectangle(100, 300, 50, 150))
    write_mark(context.folder, search_stage.process(late, "searched", context))
    found = search_stage.searched("eng-frA", context)
    assert late in found and search_stage.is_complete(load_sides("eng-frA", context), found)
    assert candidates_of(MiningTask("eng-frA", tuple(found)), context).pairs.equals(wanted)
    without = [task for task in found if task != tasks[3]]
    assert not search_stage.is_complete(load_sides("eng-frA", context), without)


def test_a_search_that_was_killed_goes_on(whole: dict[str, bytes], tmp_path: Path) -> None:
    """With other resources even: what had its mark is not done again."""
    write_sides(tmp_path)
    script = (
        "import sys, time\n"
        "from tests.pipelines.test_rectangles import *\n"
        "search_stage.scan_step = lambda *_: (90, 70)\n"
        "context = context_of(config_of(Path(sys.argv[1]), ['eng-frA']))\n"
        "for side in (ENG, FRA): gather_stage.process(side, 'gathered', context)\n"
        "for number, task in enumerate(search_stage.plan('eng-frA', load_sides('eng-frA', context), context, 1, [])):\n"
        "    write_mark(context.folder, search_stage.process(task, 'searched', context))\n"
        "    time.sleep(0.05 if number < 12 else 600)\n"  # it is killed before, or by whoever is late
    )
    house = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=house) as search:
        marks, until = tmp_path / "state/done/search", time.monotonic() + 60
        while len(list(marks.glob("*.json"))) < 4 and search.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        search.kill()
    context = with_tasks(tmp_path, 2)
    done = search_stage.searched("eng-frA", context)
    assert 4 <= len(done) < 25
    written = {task.uri(context): Path(task.uri(context)).stat().st_mtime_ns for task in done}
    tasks = search_stage.plan("eng-frA", load_sides("eng-frA", context), context, 1, done)
    assert set(done) < set(tasks)
    for task in tasks:
        if task not in done:
            search_stage.process(task, "searched", context)
    assert written == {uri: Path(uri).stat().st_mtime_ns for uri in written}
    mining_stage.process(MiningTask("eng-frA", tuple(tasks)), "mined", context)
    pairs = context.folder.table("pairs", "direction=eng-frA", "part-00000")
    assert storage.read_bytes(pairs) == whole["eng-frA"]


def test_merged_lists_are_those_of_one_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where cosines tie: half of the rows are there twice."""
    write_sides(tmp_path)
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    for side in (ENG, FRA):
        gather_stage.process(side, "gathered", context)
    sides = load_sides("eng-frA", context)
    src, tgt = (np.concatenate([rows[:150], rows[:150], rows[150:200]]) for rows in (sides.src_rows, sides.tgt_rows))
    twice = replace(sides, src_rows=src, tgt_rows=tgt)
    monkeypatch.setattr(search_stage, "load_sides", lambda *_: twice)
    monkeypatch.setattr("seamlessalign.pipelines.search_lists.RANGE_BYTES", 50_000)
    tasks = [SearchTask("eng-frA", SCAN, where) for where in cut(350, 350, (101, 47), [Rectangle(30, 200, 9, 93)])]
    for task in tasks:
        search_stage.process(task, "searched", context)
    wanted = neighbours(src, tgt, 32)
    with search_stage.lists("eng-frA", tasks, twice, context) as found:
        for one, two in zip(found, wanted, strict=True):
            parts = list(one.ranges())
            assert len(parts) > 9 and len(one) == 350 and one.width == 32
            assert np.array_equal(np.concatenate([part.index for _, part in parts]), two.index)
            assert np.array_equal(np.concatenate([part.cosine for _, part in parts]), two.cosine)
            assert [begin for begin, _ in parts] == np.cumsum([0] + [len(part.index) for _, part in parts])[
                :-1
            ].tolist()
    first = tasks[0].uri(context)
    Path(first).write_bytes(Path(tasks[-1].uri(context)).read_bytes())  # whole, but of other rows
    with (
        pytest.raises(StorageError, match=f"{first}: is not the lists of its rows"),
        search_stage.lists("eng-frA", tasks, twice, context) as found,
    ):
        list(found[0].ranges())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12))
def test_the_first_of_each_line_are_those_of_a_stable_sort(seed: int, places: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.integers(-3, 4, (9, places)).astype(np.float32) / 3 * rng.choice([-1, 1, 1e-30], (9, places)).astype("f4")
    for cosine in (few, rng.uniform(-1, 1, (9, places)).astype(np.float32)):
        assert np.array_equal(first_places(cosine, width), np.argsort(-cosine, 1, kind="stable")[:, :width])


def test_lists_in_memory_are_walked_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    src, tgt = np.random.default_rng(0).standard_normal((2, 50, 8)).astype(np.float32)
    whole = lists.InMemory(neighbours(src, tgt, 4)[0])
    monkeypatch.setattr(lists, "RANGE_BYTES", 64 * 4 * 7)
    parts = list(whole.ranges())
    assert [begin for begin, _ in parts] == [*range(0, 50, 7)]
    assert np.array_equal(np.concatenate([part.index for _, part in parts]), whole.lists.index)
