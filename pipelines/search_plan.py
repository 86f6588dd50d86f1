"""What the neighbour search of each direction would take: tasks, memory, operations, bytes passed on, and time.

Row counts are those of the tables where they are there, else guessed from the inputs. Time comes from a short
measurement on this machine, made when the plan is asked for.
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.embedders import speech_card
from seamlessalign.languages import Direction, Side
from seamlessalign.mining.exact import one_pass
from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES, index_description
from seamlessalign.mining.knn import choose_backend
from seamlessalign.mining.vectors import Vectors
from seamlessalign.pipelines import decoys_stage, search_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import Shard, find_texts
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.search_lists import place_bytes
from seamlessalign.pipelines.search_sides import side_of_decoys
from seamlessalign.pipelines.search_sizes import (
    choice_memory,
    gather_memory,
    list_width,
    query_memory,
    query_step,
    scan_memory,
    scan_step,
)

SPANS_PER_SECOND = 0.36  # candidate spans of a second of recording: 1,264 in 59 minutes of voice prompts
_MEASURED_ROWS = 6144  # of each side in the measurement, about a third of a second
_TASK_SECONDS = 0.5  # to map the sides, check their rows and write the lists, besides what grows with them
_CHECKED_PER_SECOND = 4e8  # elements of both sides whose norms one core takes


@dataclass(frozen=True)
class SearchPlan:
    """The search of one direction."""

    direction: str
    num_src: int
    num_tgt: int
    guessed: bool  # whether rows are guessed from the inputs
    backend: str
    why: str
    tasks: int
    shape: tuple[int, int]  # rows of sources and of targets in a task
    memory: int  # bytes of one task
    gather_memory: int  # bytes of the task that gathers the larger side
    choice_memory: int  # bytes of the task that chooses the pairs
    operations: float  # multiplications and additions of one pass over all pairs
    shuffled: int  # bytes of neighbour lists that tasks write and the next stage reads
    seconds: float  # of all tasks, index included, on so many workers
    core_seconds: float  # of the tasks of the search
    read: int  # bytes of both sides that tasks map, together
    index_seconds: float  # core-seconds of building both indexes, where there are any
    index_bytes: int


def plan_search(
    direction: str, num_src: int, num_tgt: int, dim: int, context: Context, workers: Workers, rate: float
) -> SearchPlan:
    """Plan a direction of so many rows, decoys counted in. `rate`: products per second of one worker, measured."""
    mining, resources = context.config.mining, context.config.resources
    k, wanted = list_width(mining), mining.backend
    device = context.device if context.device != "cpu" else None
    choice = choose_backend(num_src, num_tgt, dim, device)
    backend, why = (choice.backend, choice.why) if wanted == "auto" else (wanted, "the configuration says so")
    products = float(num_src) * num_tgt
    operations, index = 2 * products * dim, _Index(0.0, 0, 0.0)
    if not (num_src and num_tgt):
        tasks, shape, memory, shuffled, read, busy = 0, (0, 0), 0, 0, 0, 0.0
    elif backend == search_stage.COMPRESSED:
        steps = [query_step(rows, k, resources, workers.processes) for rows in (num_src, num_tgt)]
        cuts = -(-num_src // steps[0]), -(-num_tgt // steps[1])
        # a task has the norms of all rows of both sides
        tasks, shape, memory = sum(cuts), (steps[0], num_tgt), query_memory(max(steps), k) + 8 * (num_src + num_tgt)
        shuffled = num_src * min(k, num_tgt) * place_bytes(num_tgt) + num_tgt * min(k, num_src) * place_bytes(num_src)
        read = tasks * (num_src + num_tgt)
        index = _index(num_src, num_tgt, dim)
        busy, operations = index.search_seconds / workers.threads, 0.0
    else:
        shape = scan_step(num_src, num_tgt, k, resources, workers.processes)
        cuts = -(-num_src // shape[0]), -(-num_tgt // shape[1])
        tasks, memory = cuts[0] * cuts[1], scan_memory(*shape, k)
        shuffled = num_src * _width(num_tgt, shape[1], k) * place_bytes(shape[1])
        shuffled += num_tgt * _width(num_src, shape[0], k) * place_bytes(shape[0])
        read = num_src * cuts[1] + num_tgt * cuts[0]
        busy = products * (-(-dim // 64) * 64) / rate
    busy += tasks * _TASK_SECONDS + read * dim / _CHECKED_PER_SECOND
    return SearchPlan(
        direction, num_src, num_tgt, False, backend, why, tasks, shape, memory, gather_memory(max(num_src, num_tgt)),
        choice_memory(num_src, num_tgt), operations, shuffled,
        busy / workers.processes + index.seconds / workers.threads / min(2, workers.processes),
        busy * workers.threads, read * dim * 2, index.seconds, index.size,
    )  # fmt: skip


@dataclass(frozen=True)
class _Index:
    """What the compressed indexes of both sides of a direction take, in core-seconds and bytes."""

    seconds: float  # of building them
    size: int
    search_seconds: float  # of all queries on both sides


def _index(num_src: int, num_tgt: int, dim: int) -> _Index:
    """By what faiss does: products of a row with the centres of the lists, sums of codes in those that are searched."""
    building, size, searching = 0.0, 0, 0.0
    looked_up, multiplied = measure_index_rates(dim)
    for queries, rows in ((num_src, num_tgt), (num_tgt, num_src)):
        if rows < MIN_ROWS_FOR_CODES:
            searching += queries * rows * dim / multiplied
            continue
        description, probes = index_description(rows, dim)
        lists, pieces = (int("".join(filter(str.isdigit, part))) for part in description.split(",")[1:])
        assign = dim * (dim + lists) / multiplied  # rotation and centres
        building += rows * (assign + 256 * dim / multiplied)
        size += rows * (pieces + 8)
        searching += queries * (assign + rows * probes / lists * pieces / looked_up)
    return _Index(building, size, searching)


@cache
def measure_index_rates(dim: int) -> tuple[float, float]:
    """Sums of codes, and float32 products, per second of one core, here and now."""
    import faiss

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((MIN_ROWS_FOR_CODES, dim), dtype=np.float32)
    pieces = int(index_description(len(rows), dim)[0].partition(",")[0].removeprefix("OPQ"))
    index: Any = faiss.IndexPQ(dim, pieces, 8, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 1, 39
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(rows)
        index.add(rows)
        begun = time.process_time()
        index.search(rows[:512], 64)
        looked_up = 512 * len(rows) * pieces / (time.process_time() - begun)
        flat: Any = faiss.IndexFlatIP(dim)
        flat.add(rows[:4096])
        begun = time.process_time()
        flat.search(rows[:1024], 1)
        multiplied = 1024 * 4096 * dim / (time.process_time() - begun)
    finally:
        faiss.omp_set_num_threads(before)
    return looked_up, multiplied


def _width(others: int, step: int, k: int) -> int:
    """Neighbours that all lists of a row have together where the other side is cut into steps."""
    return others // step * min(k, step) + min(k, others % step)


def measure_rate(dim: int, k: int, threads: int) -> float:
    """Products per second (pairs × dimensions of a code) of the exact scan with so many threads, here and now."""
    rng = np.random.default_rng(0)
    src, tgt = (
        Vectors(rng.standard_normal((_MEASURED_ROWS, dim), dtype=np.float32).astype(np.float16), side)
        for side in ("src", "tgt")
    )
    width = min(k + 4, _MEASURED_ROWS)
    begun = time.process_time()  # not the clock's, so that a machine that has other work tells the same
    one_pass(src, tgt, width, width, threads=threads)
    return _MEASURED_ROWS**2 * (-(-dim // 64) * 64) / (time.process_time() - begun) * threads


def count_rows(side: Side, context: Context) -> int | None:
    """Rows of a side without decoys where its table is there; None where it is not."""
    files = context.side_files(side)
    return sum(storage.num_rows(uri) for uri in files) if files else None


def plans(context: Context, workers: Workers, rows: Mapping[str, tuple[int, bool]]) -> list[SearchPlan]:
    """The plan of every direction of a run. `rows`: of every side without decoys, and whether they are guessed."""
    config = context.config
    rate = measure_rate(dimensions_of(context), list_width(config.mining), workers.threads)
    found = []
    for name in config.directions:
        direction = Direction.parse(name)
        (src, one), (tgt, two) = (rows[str(side)] for side in (direction.src, direction.tgt))
        kinds = {
            "src": decoys_stage.kind_of(direction.src, context),
            "tgt": decoys_stage.kind_of(direction.tgt, context),
        }
        beside = side_of_decoys(kinds)
        src += count_decoys(kinds["src"], src, context) if beside == "src" else 0
        tgt += count_decoys(kinds["tgt"], tgt, context) if beside == "tgt" else 0
        plan = plan_search(name, src, tgt, dimensions_of(context), context, workers, rate)
        found.append(replace(plan, guessed=one or two))
    return found


def count_decoys(kind: str, rows: int, context: Context) -> int:
    """Decoys of a side of so many rows, at most."""
    config = context.config.mining.decoys
    if kind == "made":
        return min(config.count, rows)
    if kind in ("texts", "lent") and config.texts:
        there = [file for file in find_texts(config.texts) if file.problem is None]
        return min(config.count, count_lines([Shard("", tuple(there))])) if there else config.count
    return config.count


def dimensions_of(context: Context) -> int:
    """Of the rows that are searched."""
    config, reduce = context.config, context.config.mining.reduce
    return (reduce and reduce.dim) or speech_card(config.speech.embedder, config.models).dim


def audio_seconds(shards: list[Shard]) -> float:
    """How long the recordings of shards say they are: a guess, for a header may lie and a remote file is not opened."""
    import soundfile

    total = 0.0
    for file in (file for shard in shards for file in shard.files):
        if file.problem is not None or not storage.is_local(file.uri):
            continue
        if file.uri.lower().endswith(".g722"):
            total += storage.size(file.uri) / 8000
            continue
        with contextlib.suppress(soundfile.LibsndfileError, OSError):
            info = soundfile.info(str(storage.local_path(file.uri)))
            total += info.frames / info.samplerate
    return total


def count_lines(shards: list[Shard]) -> int:
    """Lines of text files; of compressed ones about as many as their size tells."""
    lines = 0
    for file in {file.uri: file for shard in shards for file in shard.files}.values():
        if file.problem is not None:
            continue
        if file.uri.endswith(".gz"):
            lines += storage.size(file.uri) // 25
            continue
        with storage.open_read(file.uri) as text:
            while block := text.read(1 << 20):
                lines += block.count(b"\n")
    return lines
