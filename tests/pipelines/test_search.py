"""Mining in tasks: the same bytes for any number of them, in any order, from any shards, on Beam; bad input."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.languages import Side
from seamlessalign.mining import mine_candidates
from seamlessalign.mining.margin import WIDER
from seamlessalign.pipelines import decoys_stage, gather_stage, mining_stage, search_stage
from seamlessalign.pipelines.beam_stage import do_tasks
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.local import LocalExecutor, Workers, share_out
from seamlessalign.pipelines.mining_stage import MiningTask, candidates_of
from seamlessalign.pipelines.search_plan import measure_rate, plan_search
from seamlessalign.pipelines.search_sides import load_sides
from seamlessalign.pipelines.search_sizes import list_width
from seamlessalign.pipelines.shard_task import ShardTask
from tests.pipelines.made_sides import (
    DIM,
    config_of,
    context_of,
    mine,
    search_tasks,
    side_kinds,
    vectors,
    write_segments,
    write_sentences,
)

DIRECTIONS = ["eng-frA", "frA-esA"]
ENG, FRA, SPA = Side("eng", False), Side("fra", True), Side("spa", True)


def write_sides(root: Path, *, parts: int = 1, num: int = 400) -> None:
    """300 French and Spanish spans, `num` English sentences, in so many files."""
    text, speech = vectors(num, 300)
    _, other = vectors(300, 300, seed=1)
    cuts = [at * 300 // parts for at in range(parts)]
    write_sentences(root, "eng", text, [at * num // parts for at in range(parts)])
    write_segments(root, "fra", speech, cuts)
    write_segments(root, "spa", speech + 0.5 * other, cuts)


def with_tasks(root: Path, tasks: int, **mining: Any) -> Context:
    return context_of(config_of(root, DIRECTIONS, resources={"mining_tasks": tasks}, **mining))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Pairs mined in one task from one file of each side."""
    root = tmp_path_factory.mktemp("whole")
    write_sides(root)
    return mine(with_tasks(root, 1))


def test_pairs_are_those_of_mine_candidates(whole: dict[str, bytes], tmp_path: Path) -> None:
    write_sides(tmp_path)
    context = with_tasks(tmp_path, 3)
    assert mine(context) == whole
    sides = [gather_stage.load(side, context) for side in (ENG, FRA)]
    wanted = mine_candidates(sides[0].rows, sides[1].rows, near_duplicates=0.7)
    pairs = pq.read_table(pa.BufferReader(whole["eng-frA"]))
    assert pairs["margin"].to_pylist() == wanted["margin"].to_pylist()
    tables = [gather_stage.load_table(side, context) for side in (ENG, FRA)]
    ids = tables[0].take(wanted["src"].to_numpy()).column("sentence_id").to_pylist()
    assert pairs["src_id"].to_pylist() == ids
    assert pairs["tgt_id"].to_pylist() == tables[1].take(wanted["tgt"].to_numpy()).column("segment_id").to_pylist()
    right = sum(int(row["src_text"].split()[2]) == int(row["tgt_uri"][:16], 16) for row in pairs.to_pylist())
    assert right > 250


@pytest.mark.parametrize(("tasks", "parts", "order"), [(1, 4, -1), (2, 1, 1), (2, 3, -1), (8, 7, -1), (8, 1, 1)])
def test_same_bytes_for_any_number_of_tasks_and_shards_in_any_order(
    whole: dict[str, bytes], tmp_path: Path, tasks: int, parts: int, order: int
) -> None:
    write_sides(tmp_path, parts=parts)
    assert mine(with_tasks(tmp_path, tasks), order) == whole


@pytest.mark.slow
def test_compressed_search_has_the_same_bytes_for_any_number_of_tasks_and_in_a_store(
    tmp_path: Path, s3_bucket: str
) -> None:
    found = []
    for tasks, order, root in ((1, 1, str(tmp_path / "1")), (3, -1, f"{s3_bucket}/run")):
        text, speech = vectors(10_400, 1_000, dim=32)
        write_sentences(root, "eng", text, [0])
        write_segments(root, "fra", speech, [0])
        context = context_of(config_of(root, ["eng-frA"], backend="faiss-ivfpq", resources={"mining_tasks": tasks}))
        found.append(mine(context, order))
    assert found[0] == found[1]
    indexes = [
        {uri.removeprefix(root): storage.read_bytes(uri) for uri in storage.list_files(f"{root}/state/mining/index")}
        for root in (str(tmp_path / "1"), f"{s3_bucket}/run")
    ]
    assert indexes[0] == indexes[1] and len(indexes[0]) == 4
    exact = context_of(config_of(tmp_path / "1", ["eng-frA"], backend="exact"))
    best, near = (pq.read_table(pa.BufferReader(one["eng-frA"])) for one in (mine(exact), found[0]))
    common = {*best["pair_id"].to_pylist()} & {*near["pair_id"].to_pylist()}
    assert len(common) > 0.95 * len(best)


@pytest.mark.slow
def test_beam_with_two_processes_writes_the_same_lists(whole: dict[str, bytes], tmp_path: Path) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    write_sides(tmp_path)
    context = with_tasks(tmp_path, 5)
    for side in (ENG, FRA, SPA):
        gather_stage.process(side, "gathered", context)
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    with beam.Pipeline(runner="DirectRunner", options=options) as pipeline:
        do_tasks(pipeline | beam.Create(search_tasks(context, "eng-frA")), search_stage.STAGE, context)
    lists = storage.list_files(context.folder.table(search_stage.TABLE))
    assert len(lists) == 5
    before = [storage.read_bytes(uri) for uri in lists]
    assert mine(context) == whole  # writes them again, in this process
    assert [storage.read_bytes(uri) for uri in lists] == before


def test_a_plan_for_more_rows_than_32_bits_can_number(tmp_path: Path) -> None:
    many = 3 * 2**31
    context = context_of(config_of(tmp_path, ["eng-frA"], backend="auto"))
    plan = plan_search("eng-frA", many, many, 1024, context, Workers(2, 1, "cpu"), 1e11)
    assert plan.backend == search_stage.COMPRESSED
    assert plan.tasks * plan.shape[0] >= 2 * many and plan.shuffled == 2 * many * 16 * WIDER * 12
    lengths = 2 * many * 8  # of all rows, which each task has in memory
    assert lengths < plan.memory <= lengths + 4 * 2**30 < plan.choice_memory
    assert plan.operations == 0.0 and plan.index_bytes > 2 * many * 8 * 8  # no pass over all pairs, but two indexes
    exact = context_of(config_of(tmp_path, ["eng-frA"], backend="exact"))
    plan = plan_search("eng-frA", many, many, 1024, exact, Workers(2, 1, "cpu"), 1e11)
    assert plan.tasks * plan.shape[0] * plan.shape[1] >= many**2 and plan.memory <= 4 * 2**30
    assert plan.operations == 2.0 * many * many * 1024


def test_rows_that_cannot_be_compared_are_rejects(tmp_path: Path) -> None:
    text, speech = vectors(30, 20)
    text[3], text[7], text[9] = 0, np.nan, np.inf
    write_sentences(tmp_path, "eng", text, [0, 10])
    write_segments(tmp_path, "fra", speech, [0])
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    mark = gather_stage.process(ENG, "gathered", context)
    (line,) = mark.lines
    assert (line.rows_in, line.rows_kept, line.dropped) == (30, 27, {"bad_embedding": 3})
    gathered = gather_stage.load(ENG, context)
    left = {int(text.split()[2]) for text in gather_stage.load_table(ENG, context).column("text").to_pylist()}
    assert left == set(range(30)) - {3, 7, 9} and np.isfinite(gathered.rows).all()


def test_shards_with_the_same_ids_count_once(tmp_path: Path) -> None:
    text, speech = vectors(40, 20)
    files = write_sentences(tmp_path, "eng", text, [0, 20])
    extra = files[0].replace("part-00000", "part-00007")
    storage.write_bytes_atomic(extra, storage.read_bytes(files[0]))
    write_segments(tmp_path, "fra", speech, [0])
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    (line,) = gather_stage.process(ENG, "gathered", context).lines
    assert (line.rows_in, line.rows_kept, line.dropped) == (60, 40, {"duplicate": 20})
    once = storage.read_bytes(context.folder.table(gather_stage.TABLE) + "/eng.npy")
    storage.remove(extra)
    gather_stage.process(ENG, "gathered", context)
    assert storage.read_bytes(context.folder.table(gather_stage.TABLE) + "/eng.npy") == once


@pytest.mark.parametrize("num", [1, 3])
def test_a_side_whose_rows_are_all_its_mean_is_left_as_it_is(tmp_path: Path, num: int) -> None:
    text, speech = vectors(30, 20, dim=1024)
    text = np.repeat(speech[4:5], num, 0)
    write_sentences(tmp_path, "eng", text, [0])
    write_segments(tmp_path, "fra", speech, [0])
    context = context_of(config_of(tmp_path, ["eng-frA"], threshold=-9.0))
    (pairs,) = mine(context).values()
    assert pq.read_table(pa.BufferReader(pairs)).num_rows == num
    rows = gather_stage.load(ENG, context).rows.astype(np.float32)
    assert np.abs(rows @ speech[4] / np.linalg.norm(speech[4]) - 1).max() < 1e-3


@pytest.mark.parametrize("rows", [7, 100_000])
def test_limits_on_texts_and_hours_in_whatever_parts_pairs_are_looked_at(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining_stage, "ROWS", rows)
    text, speech = vectors(40, 120)
    speech[40:] = text[np.arange(80) % 40] + 0.5 * speech[40:]  # three spans of each sentence
    write_sentences(tmp_path, "eng", text, [0])
    write_segments(tmp_path, "fra", speech, [0])
    found = {}
    for name, limits in (("free", {}), ("text", {"max_pairs_per_text": 2}), ("hours", {"max_hours": 0.01})):
        options: dict[str, Any] = {"strategy": "backward", "threshold": -9.0, "filters": limits}
        (pairs,) = mine(context_of(config_of(tmp_path, ["eng-frA"], **options))).values()
        found[name] = pq.read_table(pa.BufferReader(pairs)).to_pylist()
    assert all(row["kept"] for row in found["free"]) and len(found["free"]) == 120
    texts: dict[str, int] = {}
    for row in found["text"]:  # the best margin first
        texts[row["src_text"]] = texts.get(row["src_text"], 0) + 1
        assert row["drop_reason"] == ("repeated_text" if texts[row["src_text"]] > 2 else None)
    assert max(texts.values()) > 2
    hours = [row["drop_reason"] for row in found["hours"]]  # spans of 2 s
    assert hours == [None] * 18 + ["beyond_max_hours"] * 102


@pytest.mark.parametrize("empty", ["eng", "fra"])
def test_an_empty_side_gives_an_empty_table(tmp_path: Path, empty: str) -> None:
    text, speech = vectors(40, 20)
    if empty != "eng":
        write_sentences(tmp_path, "eng", text, [0])
    if empty != "fra":
        write_segments(tmp_path, "fra", speech, [0])
    (pairs,) = mine(context_of(config_of(tmp_path, ["eng-frA"]))).values()
    assert pq.read_table(pa.BufferReader(pairs)).num_rows == 0


def test_one_row_and_more_neighbours_than_rows(tmp_path: Path) -> None:
    text, speech = vectors(1, 3)
    write_sentences(tmp_path, "eng", text, [0])
    write_segments(tmp_path, "fra", speech, [0])
    (pairs,) = mine(context_of(config_of(tmp_path, ["eng-frA"], k=50, centre=False))).values()
    (row,) = pq.read_table(pa.BufferReader(pairs)).to_pylist()
    assert row["tgt_uri"].startswith("0" * 16)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_sides(tmp_path)
    context = with_tasks(tmp_path, 2)
    shard = Path(context.side_files(ENG)[0])
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2])
    with pytest.raises(StorageError, match=rf"{shard}: is not a readable Parquet file"):
        gather_stage.process(ENG, "gathered", context)
    assert not storage.list_files(context.folder.table(gather_stage.TABLE))
    shard.write_bytes(good)
    mine(context)
    rows = tmp_path / gather_stage.TABLE / "eng.npy"
    lists = sorted((tmp_path / search_stage.TABLE / "direction=eng-frA").iterdir())
    tasks = tuple(search_stage.searched("eng-frA", context))
    for file, told in ((rows, "is not a whole array of rows"), (lists[1], "is not a whole file of neighbours")):
        good = file.read_bytes()
        file.write_bytes(good[: len(good) // 2])
        with pytest.raises(StorageError, match=f"{file}: {told}"):
            candidates_of(MiningTask("eng-frA", tasks), context)
        file.write_bytes(good)
    lists[1].unlink()
    with pytest.raises(StorageError, match=f"{lists[1]}: is not a whole file of neighbours"):
        candidates_of(MiningTask("eng-frA", tasks), context)
    with pytest.raises(StorageError, match="neighbour lists of some rows are missing"):
        candidates_of(MiningTask("eng-frA", tasks[:1]), context)


def test_files_of_other_dimensions_are_named(tmp_path: Path) -> None:
    files = write_sentences(tmp_path, "eng", vectors(20, 1)[0], [0])
    moved = files[0].replace("part-00000", "part-00001")
    Path(files[0]).rename(moved)
    write_sentences(tmp_path, "eng", vectors(30, 1, dim=32)[0], [0])
    with pytest.raises(StorageError, match=rf"{moved}: has {DIM} dimensions, files before it 32"):
        gather_stage.process(ENG, "gathered", context_of(config_of(tmp_path, ["eng-frA"])))


@pytest.mark.parametrize(("size", "file"), [(20_000, "eng.arrow"), (35_000, "eng.npy")])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, size: int, file: str) -> None:
    """The size of files is limited, which stops a write as a full disk does."""
    write_sides(tmp_path)
    script = (
        "import resource, signal\n"
        "from tests.pipelines.test_search import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "context = with_tasks(Path(sys.argv[1]), 2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "gather_stage.process(ENG, 'gathered', context)\n"
    )
    house = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path), str(size)]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True)
    told = done.stderr.strip().splitlines()[-1]
    assert "StorageError" in told and f"{file}: cannot be written: " in told and "File too large" in told, told
    assert not [file for file in (tmp_path / gather_stage.TABLE).rglob("*") if file.is_file()]


def test_decoys_are_not_centred_where_the_sides_are_not(tmp_path: Path) -> None:
    """All rows have a direction in common and no pair is right: decoys must show it."""
    rng = np.random.default_rng(7)
    text, speech, foreign = (rng.standard_normal((400, DIM)).astype(np.float32) + 1.5 for _ in range(3))
    write_sentences(tmp_path, "eng", text, [0])
    write_segments(tmp_path, "fra", speech, [0])
    write_segments(tmp_path, "deu", foreign, [0])
    decoys = {"sides": {"frA": "deA"}, "made": False, "same_kind": True}
    context = context_of(config_of(tmp_path, ["eng-frA"], centre=False, decoys=decoys))
    (pairs,) = mine(context).values()
    estimate = pq.read_table(pa.BufferReader(pairs))["precision_estimate"].to_numpy(zero_copy_only=False)
    assert len(estimate) > 50 and estimate.mean() < 0.2


def test_where_decoys_come_from(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("one more sentence that nobody says\n")
    texts = {"texts": [str(tmp_path / "d.txt")]}
    for decoys, kinds in (
        ({"made": False}, {"eng": "none", "frA": "none", "esA": "none"}),
        ({}, {"eng": "made", "frA": "lent", "esA": "lent"}),
        (texts, {"eng": "texts", "frA": "lent", "esA": "lent"}),
        ({"sides": {"frA": "deA"}}, {"eng": "made", "frA": "sides", "esA": "lent"}),
    ):
        config = config_of(tmp_path, DIRECTIONS, decoys=decoys)
        speech = config.speech.model_copy(update={"languages": ["fra", "spa", "deu"]})
        context = context_of(config.model_copy(update={"speech": speech}))
        assert side_kinds(context) == kinds
        decoys_stage.check(context)
    only = context_of(config_of(tmp_path, ["eng-frA"], decoys={}))
    assert side_kinds(only) == {"eng": "made", "frA": "none"}
    for decoys, told in (
        ({"sides": {"itA": "deA"}}, "no direction has a side 'itA'; there are eng, esA, frA"),
        ({"sides": {"frA": "frA"}}, "frA cannot be its own decoys"),
        ({"sides": {"frA": "itA"}}, "frA: itA is not kept: add ita to speech.languages"),
        ({"texts": [str(tmp_path / "no.txt")]}, "no.txt: there is no such file"),
    ):
        with pytest.raises(ConfigError, match=told):
            decoys_stage.check(context_of(config_of(tmp_path, DIRECTIONS, decoys=decoys)))


@pytest.mark.parametrize("centre", [False, True])
def test_decoys_are_lent_to_a_side_without_rows_too(tmp_path: Path, centre: bool) -> None:
    """As of a language whose recordings could not be read: the other directions are mined all the same."""
    embedded = np.random.default_rng(5).standard_normal((20, DIM)).astype(np.float32)
    context = context_of(config_of(tmp_path, DIRECTIONS, centre=centre, decoys={}))
    uri = f"{context.folder.table(decoys_stage.TABLE)}/lang=eng.parquet"
    values = pa.FixedSizeListArray.from_arrays(pa.array(embedded.astype(np.float16).ravel()), DIM)
    storage.write_table(uri, pa.table({"text": [str(n) for n in range(20)], "embedding": values}))
    assert decoys_stage.of_side(FRA, context, 0).rows.shape == (20, DIM)
    gather_stage.process(FRA, "d", context)
    assert len(gather_stage.load(FRA, context).rows) == 20 and gather_stage.load(FRA, context).num_rows == 0


def test_another_sides_rows_compete_as_decoys_and_are_never_paired(tmp_path: Path) -> None:
    write_sides(tmp_path)
    foreign = np.random.default_rng(5).standard_normal((500, DIM)).astype(np.float32)
    results = []
    for tasks in (1, 4):
        write_segments(tmp_path, "deu", foreign, [0] if tasks == 1 else [0, 100, 350])
        root = tmp_path / str(tasks)
        for table in ("segments", "sentences"):
            (root / table).parent.mkdir(exist_ok=True)
            (root / table).symlink_to(tmp_path / table)
        context = with_tasks(root, tasks, decoys={"sides": {"frA": "deA"}, "made": False, "count": 300})
        results.append(mine(context))
        assert gather_stage.load(FRA, context).num_decoys == 300
    assert results[0] == results[1]
    for name, prefix in (("eng-frA", "tgt"), ("frA-esA", "src")):
        pairs = pq.read_table(pa.BufferReader(results[0][name]))
        assert set(pairs[f"{prefix}_lang"].to_pylist()) == {"fra"}
        estimate = pairs["precision_estimate"].to_numpy(zero_copy_only=False)
        right = np.array([number(row, "src") == number(row, "tgt") for row in pairs.to_pylist()])
        assert np.isfinite(estimate).all() and abs(estimate.mean() - right.mean()) < 0.1


def number(row: dict[str, Any], side: str) -> int:
    """Which of the made-up vectors a side of a pair is."""
    text = row[f"{side}_text"]
    return int(text.split()[2]) if text is not None else int(row[f"{side}_uri"][:16], 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num", "cuts", "mining"),
    [
        pytest.param(30_000, (2, 1), {}, marks=pytest.mark.thorough),
        pytest.param(60_000, (2, 1), {}, marks=pytest.mark.thorough),
        (30_000, (2, 2), {"k": 300, "near_duplicates": None}),
    ],
)
def test_the_plan_is_what_happens(tmp_path: Path, num: int, cuts: tuple[int, int], mining: dict[str, Any]) -> None:
    """Tasks and bytes exactly, memory not above, core-seconds within a factor of two and a half, however busy the
    machine is; also where columns are cut.
    """
    dim = 384
    text, speech = vectors(num, num, dim=dim)
    write_sentences(tmp_path, "eng", text, [0])
    write_segments(tmp_path, "fra", speech, [0])
    config = config_of(tmp_path, ["eng-frA"], resources={"workers": 2, "mining_memory_gb": 1}, **mining)
    context = context_of(config)
    workers = share_out(config.resources)
    assert workers == Workers(2, 1, "cpu")
    sides = [ShardTask(gather_stage.STAGE, f"side={side}", "gathered", side) for side in (ENG, FRA)]
    executed(gather_stage.STAGE, sides, context, workers)
    gathered = [line for mark in read_marks(context.folder, gather_stage.STAGE).values() for line in mark.lines]
    files = {kind: sum(map(storage.size, gathered_files(context, kind))) for kind in (".npy", ".arrow")}
    plan = plan_search("eng-frA", num, num, dim, context, workers, measure_rate(dim, list_width(config.mining), 1))
    tasks = search_tasks_of(context, workers)
    assert plan.tasks == len(tasks) == cuts[0] * cuts[1] and plan.operations == 2.0 * num * num * dim
    assert plan.shape == (num // cuts[0], num // cuts[1])
    seconds = executed(search_stage.STAGE, tasks, context, workers)
    lines = [line for mark in marks_of(context).values() for line in mark.lines]
    spent = sum(sum(line.seconds.values()) for line in lines)
    written = sum(line.bytes_written for line in lines)
    assert 0 <= written - plan.shuffled < 1024 * len(tasks)  # what is more are the files' heads
    mapped = sum(plan.shape) * dim * 2
    peak = max(line.peak_rss for line in lines)
    assert peak <= plan.memory + mapped
    assert plan.memory <= 2**30
    task = MiningTask("eng-frA", tuple(task.shard for task in tasks))
    choosing = executed(mining_stage.STAGE, [ShardTask(mining_stage.STAGE, "eng-frA", "mined", task)], context, workers)
    (line,) = next(iter(read_marks(context.folder, mining_stage.STAGE).values())).lines
    assert line.peak_rss <= plan.choice_memory + sum(files.values())
    # a side is written from a copy of its table that is mapped too
    assert max(line.peak_rss for line in gathered) <= plan.gather_memory + files[".npy"] / 2 + 2 * files[".arrow"]
    assert plan.gather_memory < plan.choice_memory <= 2**30
    peaks = line.peak_rss >> 20, max(one.peak_rss for one in gathered) >> 20
    print(
        f"{num}: planned {plan.seconds:.1f} s, took {seconds:.1f} s with the start of two workers; of the processor "
        f"planned {plan.core_seconds:.1f} s, took {spent:.1f} s; {choosing:.1f} s to "
        f"choose; memory {peak >> 20} of {(plan.memory + mapped) >> 20} MiB, to choose {peaks[0]} of "
        f"{(plan.choice_memory + sum(files.values())) >> 20}, to gather {peaks[1]} of {plan.gather_memory >> 20} and "
        f"what is mapped; {written >> 20} MiB passed on"
    )
    assert plan.core_seconds / 2.5 < spent < plan.core_seconds * 2.5


def gathered_files(context: Context, kind: str) -> list[str]:
    return storage.list_files(context.folder.table(gather_stage.TABLE), kind)


def executed(stage: str, tasks: list[Any], context: Context, workers: Workers) -> float:
    """Do tasks in worker processes of their own; returns the seconds that takes."""
    executor = LocalExecutor(workers, 1)
    try:
        begun = time.monotonic()
        executor.execute(stage, tasks, context, lambda amount: None)
        return time.monotonic() - begun
    finally:
        executor.close()


def search_tasks_of(context: Context, workers: Workers) -> list[Any]:
    sides = load_sides("eng-frA", context)
    tasks = search_stage.plan("eng-frA", sides, context, workers.processes, [])
    return [ShardTask(search_stage.STAGE, task.name, "searched", task) for task in tasks]


def marks_of(context: Context) -> dict[str, Any]:
    return read_marks(context.folder, search_stage.STAGE)
