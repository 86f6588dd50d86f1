"""The neighbour search of a direction as tasks, each with results of its own, merged afterwards.

Exact: a task is a rectangle, a range of source rows against a range of target rows, scanned once for both sides; what
it finds of either is partial where the other side is cut. Compressed: tasks of queries on either side against the other
side's index. A neighbour list is defined by cosine and index alone, so the number of tasks, their shape, their order
and the machines they ran on change no byte of what is merged.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.languages import Direction
from seamlessalign.mining.knn import between, choose_backend
from seamlessalign.mining.vectors import Vectors
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally, read_marks
from seamlessalign.pipelines.rectangles import Rectangle, covers, cut, disjoint
from seamlessalign.pipelines.search_lists import ListFile, ListsInFiles, index_type, local_paths, save_arrays
from seamlessalign.pipelines.search_sides import Sides, load_sides
from seamlessalign.pipelines.search_sizes import list_width, query_step, scan_step, work_memory

STAGE = "search"
INDEX_STAGE = "index"
TABLE = "state/mining/search"
INDEX_TABLE = "state/mining/index"
EXACT = "exact"
COMPRESSED = "faiss-ivfpq"
SCAN = "both"


@dataclass(frozen=True)
class SearchTask:
    """A rectangle of a direction's pairs.

    `side` is `both` for a scan, whose rows are sources and whose columns are targets; else whose neighbours are wanted:
    the rows of that side, among all of the other's.
    """

    direction: str
    side: str  # both, src or tgt
    where: Rectangle

    @property
    def name(self) -> str:
        """Name of the task in ledger and marks."""
        return f"direction={self.direction}.{self._shape}"

    @property
    def backend(self) -> str:
        """What does the task."""
        return EXACT if self.side == SCAN else COMPRESSED

    @property
    def products(self) -> float:
        """Pairs that are compared, for progress."""
        return float(self.where.rows) * self.where.columns

    def uri(self, context: Context) -> str:
        """The file of its lists."""
        return storage.join(context.folder.table(TABLE, f"direction={self.direction}"), f"{self._shape}.safetensors")

    def files(self, context: Context) -> tuple[list[ListFile], list[ListFile]]:
        """Its lists of sources, and those of targets."""
        uri = self.uri(context)
        if self.side == SCAN:
            return [ListFile(uri, "forward", self.where)], [ListFile(uri, "backward", self.where.turned)]
        if self.side == "src":
            return [ListFile(uri, "forward", self.where)], []
        return [], [ListFile(uri, "backward", self.where)]

    @property
    def _shape(self) -> str:
        return "-".join([self.side, *(f"{edge:012d}" for edge in self.where)])


@dataclass(frozen=True)
class IndexTask:
    """The compressed index of one side of a direction."""

    direction: str
    side: str  # src or tgt: which side is indexed

    @property
    def name(self) -> str:
        """Name of the task in ledger and marks."""
        return f"direction={self.direction}.{self.side}"


def searched(name: str, context: Context, digest: str | None = None) -> list[SearchTask]:
    """The tasks of a direction that are done, all or those under a digest."""
    found = []
    of_direction = f"direction={name}."
    for shard, mark in sorted(read_marks(context.folder, STAGE, of_direction).items()):
        if digest in (None, mark.digest):
            side, *edges = shard.removeprefix(of_direction).split("-")
            found.append(SearchTask(name, side, Rectangle(*map(int, edges))))
    return found


def backend_of(sides: Sides, context: Context) -> str:
    """The backend of a direction: `faiss-flat` gives what `exact` gives and is done as that."""
    wanted: str = context.config.mining.backend
    if wanted == "auto":
        device = context.device if context.device != "cpu" else None
        wanted = choose_backend(*sides.sizes, sides.src_rows.shape[1], device).backend
    return COMPRESSED if wanted == COMPRESSED else EXACT


def plan(name: str, sides: Sides, context: Context, workers: int, done: Iterable[SearchTask]) -> list[SearchTask]:
    """The tasks of a direction. Those that are `done` stay as they are; the rest is cut as resources ask."""
    done, (src, tgt) = list(done), sides.sizes
    if not src:
        return []
    resources, k = context.config.resources, list_width(context.config.mining)
    if backend_of(sides, context) == EXACT:
        steps = {SCAN: scan_step(src, tgt, k, resources, workers)}
    else:
        steps = {
            "src": (query_step(src, k, resources, workers), tgt),
            "tgt": (query_step(tgt, k, resources, workers), src),
        }
    return [
        SearchTask(name, side, where)
        for side, step in steps.items()
        for where in cut(*_plane(side, sides), step, [task.where for task in done if task.side == side])
    ]


def complete(sides: Sides, done: Iterable[SearchTask]) -> list[SearchTask]:
    """Tasks that are done and together hold the lists of all rows once, whatever backend found them; else none."""
    done = list(done)
    for kinds in ((SCAN,), ("src", "tgt")):
        chosen = {side: disjoint(task.where for task in done if task.side == side) for side in kinds}
        if all(covers(found, *_plane(side, sides)) for side, found in chosen.items()):
            return [SearchTask(done[0].direction, side, where) for side, found in chosen.items() for where in found]
    return []


def is_complete(sides: Sides, done: Iterable[SearchTask]) -> bool:
    """Whether nothing is left to be searched."""
    return sides.sizes == (0, 0) or bool(complete(sides, done))


def _plane(side: str, sides: Sides) -> tuple[int, int]:
    """Rows and columns of all tasks of one kind together."""
    return sides.sizes[::-1] if side == "tgt" else sides.sizes


def process(task: SearchTask, digest: str, context: Context) -> Mark:
    """Search one rectangle, write its lists, and return the completion mark."""
    watch, tally = Stopwatch(), Tally()
    sides = load_sides(task.direction, context)
    with watch.step("search"):
        arrays = _search(task, sides, context)
    uri = task.uri(context)
    with watch.step("write lists"):
        written = save_arrays(uri, arrays, {"digest": digest})
    tally.keep(task.where.rows)
    line = tally.line(STAGE, task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(STAGE, task.products)
    return Mark(STAGE, task.name, digest, [context.folder.relative(uri)], [line])


def process_index(task: IndexTask, digest: str, context: Context) -> Mark:
    """Build the compressed index of one side, or go on building it, and return the completion mark."""
    from seamlessalign.mining.compressed import CompressedIndex
    from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES
    from seamlessalign.pipelines.index_copies import build_index, index_here

    watch, tally = Stopwatch(), Tally()
    sides = load_sides(task.direction, context)
    rows = sides.src_rows if task.side == "src" else sides.tgt_rows
    folder = _index_folder(task.direction, task.side, context)
    if len(rows) >= MIN_ROWS_FOR_CODES:
        with watch.step("build index"), index_here(folder) as here:
            mark = _rows_mark(task.direction, task.side, context)
            build_index(CompressedIndex(Vectors(rows, task.side), here, mark), folder)
    outputs = [context.folder.relative(uri) for uri in storage.list_files(folder)]
    tally.keep(len(rows))
    written = sum(storage.size(storage.join(context.folder.root, name)) for name in outputs)
    line = tally.line(INDEX_STAGE, task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    advance(INDEX_STAGE, 1)
    return Mark(INDEX_STAGE, task.name, digest, outputs, [line])


@contextlib.contextmanager
def lists(
    name: str, tasks: Iterable[SearchTask], sides: Sides, context: Context
) -> Iterator[tuple[ListsInFiles, ListsInFiles]]:
    """Neighbours of both sides from the tasks' files. Raises StorageError where some are missing or damaged."""
    whole = complete(sides, tasks)
    if not whole:
        raise StorageError(f"direction {name}: neighbour lists of some rows are missing; run again")
    found = [task.files(context) for task in whole]
    with local_paths(sorted({task.uri(context) for task in whole})) as paths:
        k, sizes = list_width(context.config.mining), sides.sizes
        forward, backward = ([file for files in found for file in files[side]] for side in (0, 1))
        yield ListsInFiles(forward, paths, sizes, k), ListsInFiles(backward, paths, sizes[::-1], k)


def _search(task: SearchTask, sides: Sides, context: Context) -> dict[str, npt.NDArray[Any]]:
    k = list_width(context.config.mining)
    src, tgt = sides.src_rows, sides.tgt_rows
    device = context.device if context.device != "cpu" else None
    begin, end, left, right = task.where
    if task.backend == EXACT:
        ours, theirs = Vectors(src[begin:end], str(sides.src.side)), Vectors(tgt[left:right], str(sides.tgt.side))
        forward, backward = between(ours, theirs, k, "exact", device, work_memory(len(theirs)), threads=context.threads)
        return {
            "forward_cosine": forward.cosine,
            "forward_index": forward.index.astype(index_type(task.where.columns)),
            "backward_cosine": backward.cosine,
            "backward_index": backward.index.astype(index_type(task.where.rows)),
        }
    from seamlessalign.mining.compressed import CompressedIndex
    from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES
    from seamlessalign.pipelines.index_copies import index_here

    rows, other, name = (src, tgt, "tgt") if task.side == "src" else (tgt, src, "src")
    query, indexed = Vectors(rows, task.side), Vectors(other, name)
    k = min(k, len(other))
    if len(other) < MIN_ROWS_FOR_CODES:
        part = Vectors(rows[begin:end], task.side)
        forward, _ = between(part, indexed, (k, 1), "exact", device, threads=context.threads)
        cosine, index = forward.cosine, forward.index
    else:
        folder = _index_folder(task.direction, name, context)
        with index_here(folder) as here:
            index_of = CompressedIndex(indexed, here, _rows_mark(task.direction, name, context))
            cosine, index = index_of.search(query, begin, end, k)
    prefix = "forward" if task.side == "src" else "backward"
    return {f"{prefix}_cosine": cosine, f"{prefix}_index": index.astype(index_type(task.where.columns))}


def _rows_mark(direction: str, side: str, context: Context) -> str:
    """The digest of the side that an index is made of, from the mark of its gathering."""
    parsed = Direction.parse(direction)
    name = str(parsed.src if side == "src" else parsed.tgt)
    return read_marks(context.folder, gather_stage.STAGE)[f"side={name}"].digest


def _index_folder(direction: str, side: str, context: Context) -> str:
    return storage.join(context.folder.table(INDEX_TABLE), f"direction={direction}", side)
