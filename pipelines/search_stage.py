"""The neighbour search of a direction as tasks: ranges of rows, each with results of its own, merged afterwards.

Exact: a task scans its range of source rows against all target rows once; its sources' neighbours are final, its
targets' are partial and `merged` keeps the best of all tasks. Compressed: tasks of queries on either side against the
other side's index. A neighbour list is defined by cosine and index alone, so the number of tasks, their order and the
machines they ran on change no byte of what is merged.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.config import MiningConfig
from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.languages import Direction
from seamlessalign.mining import Neighbours
from seamlessalign.mining.knn import between, choose_backend
from seamlessalign.mining.margin import WIDER
from seamlessalign.mining.vectors import Vectors
from seamlessalign.pipelines import decoys_stage, gather_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.gather_stage import Gathered
from seamlessalign.pipelines.ledger import Mark, Tally, read_marks

STAGE = "search"
INDEX_STAGE = "index"
TABLE = "state/mining/search"
INDEX_TABLE = "state/mining/index"
EXACT = "exact"
COMPRESSED = "faiss-ivfpq"
_LEAST_ROWS = 2048  # of a task: below, reading the other side costs more than comparing
_MERGED_ROWS = 1 << 16  # lines of partial lists merged at a time


@dataclass(frozen=True)
class SearchTask:
    """Rows [begin, end) of one side of a direction. `side` is `both` for a scan, else whose neighbours are wanted."""

    direction: str
    side: str  # both, src or tgt
    begin: int
    end: int
    backend: str

    @property
    def name(self) -> str:
        """Name of the task in ledger and marks."""
        return f"direction={self.direction}.{self.side}-{self.begin:012d}-{self.end:012d}"


@dataclass(frozen=True)
class IndexTask:
    """The compressed index of one side of a direction."""

    direction: str
    side: str  # src or tgt: which side is indexed

    @property
    def name(self) -> str:
        """Name of the task in ledger and marks."""
        return f"direction={self.direction}.{self.side}"


@dataclass(frozen=True)
class Sides:
    """Both sides of a direction as they are searched: decoys stand behind the rows of one side at most."""

    src: Gathered
    tgt: Gathered
    src_rows: npt.NDArray[np.float16]
    tgt_rows: npt.NDArray[np.float16]
    decoys: str  # src, tgt or none
    decoys_kind: str  # sides, texts, made, lent or none
    made_from: npt.NDArray[np.int64] | None  # rows that made decoys are made from


def range_of(shard: str) -> tuple[str, int, int]:
    """Side and range [begin, end) of a task by its name."""
    side, begin, end = shard.rsplit(".", 1)[-1].split("-")
    return side, int(begin), int(end)


def searched(name: str, context: Context) -> list[SearchTask]:
    """The tasks of a direction that are done."""
    shards = sorted(read_marks(context.folder, STAGE))
    ranges = [range_of(shard) for shard in shards if shard.startswith(f"direction={name}.")]
    return [SearchTask(name, side, begin, end, EXACT if side == "both" else COMPRESSED) for side, begin, end in ranges]


def load_sides(name: str, context: Context) -> Sides:
    """Both sides of a direction, mapped into memory where they are local."""
    direction = Direction.parse(name)
    src, tgt = gather_stage.load(direction.src, context), gather_stage.load(direction.tgt, context)
    kinds = {
        side: decoys_stage.kind_of(parsed, context) if gathered.num_decoys else "none"
        for side, parsed, gathered in (("src", direction.src, src), ("tgt", direction.tgt, tgt))
    }
    decoys = side_of_decoys(kinds)
    kind = kinds.get(decoys, "none")
    return Sides(
        src, tgt, src.rows if decoys == "src" else src.rows[: src.num_rows],
        tgt.rows if decoys == "tgt" else tgt.rows[: tgt.num_rows], decoys, kind,
        {"src": src.made_from, "tgt": tgt.made_from}.get(decoys),
    )  # fmt: skip


def side_of_decoys(kinds: dict[str, str]) -> str:
    """Which side's decoys compete, `src`, `tgt` or `none`, by where each side's come from.

    Real sentences tell more than made ones; of two alike the target's are taken.
    """
    order = ("sides", "texts", "made", "lent", "none")
    side = min(("tgt", "src"), key=lambda one: order.index(kinds[one]))
    return "none" if kinds[side] == "none" else side


def backend_of(sides: Sides, context: Context) -> str:
    """The backend of a direction: `faiss-flat` gives what `exact` gives and is done as that."""
    wanted: str = context.config.mining.backend
    if wanted == "auto":
        src, tgt = sides.src_rows, sides.tgt_rows
        device = context.device if context.device != "cpu" else None
        wanted = choose_backend(len(src), len(tgt), src.shape[1], device).backend
    return COMPRESSED if wanted == COMPRESSED else EXACT


def plan(name: str, sides: Sides, context: Context, workers: int, done: list[tuple[str, int, int]]) -> list[SearchTask]:
    """The tasks of a direction. Ranges that are `done` (side, begin, end) stay; the rest is cut as resources ask."""
    sizes = {"src": len(sides.src_rows), "tgt": len(sides.tgt_rows)}
    if not (sides.src.num_rows and sides.tgt.num_rows):
        return []
    backend = backend_of(sides, context)
    parts = {"both": sizes["src"]} if backend == EXACT else sizes
    tasks = []
    for side, rows in parts.items():
        other = sizes["tgt"] if side in ("both", "src") else sizes["src"]
        step = rows_per_task(rows, other if backend == EXACT else 0, context, workers)
        covered = sorted({(begin, end) for one, begin, end in done if one == side and end <= rows})
        at = 0
        for begin, end in [*covered, (rows, rows)]:
            if begin < at:
                continue  # of two that overlap the first counts
            tasks += [
                SearchTask(name, side, start, min(start + step, begin), backend) for start in range(at, begin, step)
            ]
            if end > begin:
                tasks.append(SearchTask(name, side, begin, end, backend))
            at = end
    return tasks


def is_covered(sides: Sides, done: list[tuple[str, int, int]]) -> bool:
    """Whether ranges (side, begin, end) that are done hold the lists of all rows, whatever backend found them."""
    if not (sides.src.num_rows and sides.tgt.num_rows):
        return True

    def whole(side: str, rows: int) -> bool:
        at = 0
        for begin, end in sorted((begin, end) for one, begin, end in done if one == side):
            at = max(at, end) if begin <= at else at
        return at >= rows

    src, tgt = len(sides.src_rows), len(sides.tgt_rows)
    return whole("both", src) or (whole("src", src) and whole("tgt", tgt))


def list_width(mining: MiningConfig) -> int:
    """Neighbours of each row that are found: more than k where those that say the same count once."""
    return mining.k * (1 if mining.near_duplicates is None else WIDER)


def rows_per_task(rows: int, other: int, context: Context, workers: int) -> int:
    """Rows of a task: as many as its memory allows, and not fewer tasks than workers unless they would be small.

    other: rows that a scan keeps lists for as well; 0 for the compressed search.
    """
    resources = context.config.resources
    if resources.mining_tasks != "auto":
        return max(1, -(-rows // resources.mining_tasks))
    by_memory = rows_in_memory(int(resources.mining_memory_gb * 2**30), other, list_width(context.config.mining))
    by_workers = max(_LEAST_ROWS, -(-rows // max(1, workers)))
    return max(1, min(rows, by_memory, by_workers))


def rows_in_memory(memory: int, other: int, k: int) -> int:
    """Rows that a task of so many bytes can scan against `other` rows.

    Raises ConfigError where it would be fewer than are worth a task, since the lists of the other side alone take more.
    """
    fixed = task_memory(0, other, k)
    each = task_memory(1, other, k) - fixed
    if memory < fixed + each * min(_LEAST_ROWS, max(other, 1)):
        wanted = (fixed + each * 100_000) / 2**30
        raise ConfigError(
            f"resources.mining_memory_gb is {memory / 2**30:g}: the neighbour lists of {other:,} rows need "
            f"{wanted:.1f} or more in every task; raise it, or set mining.backend to faiss-ivfpq"
        )
    return (memory - fixed) // each


def task_memory(rows: int, other: int, k: int) -> int:
    """About the bytes of memory of its own that a task takes, beside the rows it maps.

    The libraries that a worker has loaded, the working memory of the scan, and for every row that takes part its list
    of neighbours as found, in order, and exact.
    """
    base, work = 320 << 20, work_memory(other)
    return base + work + (rows + other) * (k + 4) * 12 * 4


def work_memory(other: int) -> int:
    """Bytes of codes and terms that a scan against so many rows gets."""
    return 256 << 20 if other < 1 << 22 else 1 << 30


def process(task: SearchTask, digest: str, context: Context) -> Mark:
    """Search one range, write its lists, and return the completion mark."""
    watch, tally = Stopwatch(), Tally()
    sides = load_sides(task.direction, context)
    with watch.step("search"):
        arrays = _search(task, sides, context)
    uri = _uri(task, context)
    with watch.step("write lists"):
        written = save_arrays(uri, arrays, {"digest": digest})
    tally.keep(task.end - task.begin)
    line = tally.line(STAGE, task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(STAGE, products(task, sides))
    return Mark(STAGE, task.name, digest, [context.folder.relative(uri)], [line])


def products(task: SearchTask, sides: Sides) -> float:
    """Pairs that a task compares, for progress: all of its range and the other side."""
    return float(task.end - task.begin) * len(sides.src_rows if task.side == "tgt" else sides.tgt_rows)


def process_index(task: IndexTask, digest: str, context: Context) -> Mark:
    """Build the compressed index of one side, or go on building it, and return the completion mark."""
    from seamlessalign.mining.compressed import CompressedIndex
    from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES

    watch, tally = Stopwatch(), Tally()
    sides = load_sides(task.direction, context)
    rows = sides.src_rows if task.side == "src" else sides.tgt_rows
    folder = _index_folder(task.direction, task.side, context)
    if len(rows) >= MIN_ROWS_FOR_CODES:
        with watch.step("build index"):
            CompressedIndex(Vectors(rows, task.side), folder, _rows_mark(task.direction, task.side, context)).build()
    outputs = [context.folder.relative(uri) for uri in storage.list_files(folder)]
    tally.keep(len(rows))
    written = sum(storage.size(storage.join(context.folder.root, name)) for name in outputs)
    line = tally.line(INDEX_STAGE, task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(INDEX_STAGE, 1)
    return Mark(INDEX_STAGE, task.name, digest, outputs, [line])


def merged(name: str, tasks: list[SearchTask], sides: Sides, context: Context) -> tuple[Neighbours, Neighbours]:
    """Neighbours of both sides from the tasks' lists. Raises StorageError naming a file that is damaged."""
    wanted = list_width(context.config.mining)
    k = min(wanted, len(sides.tgt_rows)), min(wanted, len(sides.src_rows))
    shapes = (len(sides.src_rows), k[0]), (len(sides.tgt_rows), k[1])
    forward, backward = (_Lists(shape) for shape in shapes)
    for task in tasks:
        arrays = load_arrays(_uri(task, context))
        try:
            if task.side in ("both", "src"):
                forward.put(task.begin, arrays["forward_cosine"], arrays["forward_index"])
            if task.side == "tgt":
                backward.put(task.begin, arrays["backward_cosine"], arrays["backward_index"])
            elif task.side == "both":
                backward.merge(arrays["backward_cosine"], arrays["backward_index"])
        except (KeyError, ValueError) as error:
            uri = _uri(task, context)
            raise StorageError(f"{uri}: is not the lists of its rows; remove it and run again") from error
    return forward.neighbours(name), backward.neighbours(name)


class _Lists:
    """Neighbour lists of one side while they are put together."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.cosine = np.full(shape, -np.inf, np.float32)
        self.index = np.full(shape, -1, np.int64)

    def put(self, begin: int, cosine: Any, index: Any) -> None:
        self.cosine[begin : begin + len(cosine)], self.index[begin : begin + len(index)] = cosine, index

    def merge(self, cosine: Any, index: Any) -> None:
        """Keep the best of these and of what is there: by cosine descending, then index ascending."""
        width = self.cosine.shape[1]
        for start in range(0, len(cosine), _MERGED_ROWS):
            part = slice(start, start + _MERGED_ROWS)
            both = np.concatenate([self.cosine[part], cosine[part]], 1)
            rows = np.concatenate([self.index[part], index[part]], 1)
            order = np.lexsort((rows, -both), axis=1)[:, :width]
            self.cosine[part], self.index[part] = np.take_along_axis(both, order, 1), np.take_along_axis(rows, order, 1)

    def neighbours(self, name: str) -> Neighbours:
        if (self.index < 0).any():
            raise StorageError(f"direction {name}: neighbour lists of some rows are missing; run again")
        return Neighbours(self.cosine, self.index)


def save_arrays(uri: str, arrays: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> int:
    """Write arrays to one safetensors file, whole or not at all; returns its bytes."""
    from safetensors.numpy import save_file

    with storage.local_target(uri) as path:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata)
    return storage.size(uri)


def load_arrays(uri: str) -> dict[str, npt.NDArray[Any]]:
    """Read what `save_arrays` wrote. Raises StorageError naming a file that is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with storage.local_copy(uri) as path:
            return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{uri}: is not a whole file of neighbours ({error}); remove it and run again") from error


def _search(task: SearchTask, sides: Sides, context: Context) -> dict[str, npt.NDArray[Any]]:
    k = list_width(context.config.mining)
    src, tgt = sides.src_rows, sides.tgt_rows
    device = context.device if context.device != "cpu" else None
    if task.backend == EXACT:
        ours = Vectors(src[task.begin : task.end], str(sides.src.side))
        theirs = Vectors(tgt, str(sides.tgt.side))
        found = between(ours, theirs, k, "exact", device, work_memory(len(tgt)), threads=context.threads)
        return _named(found, task.begin)
    from seamlessalign.mining.compressed import CompressedIndex
    from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES

    rows, other, name = (src, tgt, "tgt") if task.side == "src" else (tgt, src, "src")
    query, indexed = Vectors(rows, task.side), Vectors(other, name)
    k = min(k, len(other))
    if len(other) < MIN_ROWS_FOR_CODES:
        part = Vectors(rows[task.begin : task.end], task.side)
        forward, _ = between(part, indexed, (k, 1), "exact", device, threads=context.threads)
        cosine, index = forward.cosine, forward.index
    else:
        folder = _index_folder(task.direction, name, context)
        index_of = CompressedIndex(indexed, folder, _rows_mark(task.direction, name, context))
        cosine, index = index_of.search(query, task.begin, task.end, k)
    prefix = "forward" if task.side == "src" else "backward"
    return {f"{prefix}_cosine": cosine, f"{prefix}_index": index}


def _named(found: tuple[Neighbours, Neighbours], begin: int) -> dict[str, npt.NDArray[Any]]:
    forward, backward = found
    return {
        "forward_cosine": forward.cosine,
        "forward_index": forward.index,
        "backward_cosine": backward.cosine,
        "backward_index": backward.index + begin,
    }


def _rows_mark(direction: str, side: str, context: Context) -> str:
    """The digest of the side that an index is made of, from the mark of its gathering."""
    parsed = Direction.parse(direction)
    name = str(parsed.src if side == "src" else parsed.tgt)
    return read_marks(context.folder, gather_stage.STAGE)[f"side={name}"].digest


def _index_folder(direction: str, side: str, context: Context) -> str:
    return storage.join(context.folder.table(INDEX_TABLE), f"direction={direction}", side)


def _uri(task: SearchTask, context: Context) -> str:
    name = f"{task.side}-{task.begin:012d}-{task.end:012d}.safetensors"
    return storage.join(context.folder.table(TABLE, f"direction={task.direction}"), name)
