"""How much memory tasks of the search and of the choice take, and how large tasks are made so that they keep to it."""

import math
from bisect import bisect_right
from collections.abc import Callable

from seamlessalign.config import MiningConfig
from seamlessalign.errors import ConfigError
from seamlessalign.mining.lists import RANGE_BYTES
from seamlessalign.mining.margin import WIDER
from seamlessalign.resources_config import ResourcesConfig

LEAST_ROWS = 2048  # of a task: below, reading the other side costs more than comparing
_BASE = 320 << 20  # bytes of the libraries that a worker has loaded
_A_PLACE = 4 * 12  # bytes for each neighbour of a row in a task: as found, in order, and exact
_CHOSEN_ROW = 160  # bytes for each row of a direction while its pairs are chosen
_GATHERED_ROW = 48  # bytes for each row of a side while it is gathered
_PARTS = 128 << 20  # bytes of the rows, texts and embeddings that are looked at at a time
_POOL = 48 << 20  # bytes that Arrow may keep of what it has given back
_SPARE = 4  # neighbours more than wanted that a search finds


def list_width(mining: MiningConfig) -> int:
    """Neighbours of each row that are found: more than k where those that say the same count once."""
    return mining.k * (1 if mining.near_duplicates is None else WIDER)


def scan_memory(rows: int, columns: int, k: int) -> int:
    """About the bytes of memory of its own that a scan of a rectangle takes, beside the rows it maps.

    The libraries, the working memory of the scan, and for every row that takes part its list of neighbours.
    """
    places = rows * (min(k, columns) + _SPARE) + columns * (min(k, rows) + _SPARE)
    return _BASE + work_memory(columns) + places * _A_PLACE


def query_memory(rows: int, k: int) -> int:
    """The same of a task of so many queries to a compressed index."""
    return _BASE + work_memory(0) + rows * (k + _SPARE) * _A_PLACE


def work_memory(columns: int) -> int:
    """Bytes of codes and terms that a scan against so many rows gets."""
    return 256 << 20 if columns < 1 << 22 else 1 << 30


def choice_memory(num_src: int, num_tgt: int) -> int:
    """About the bytes of memory that choosing the pairs of a direction takes, beside the files it maps.

    The libraries, what is looked at at a time, and for every row the numbers that are kept all along: the mean cosine
    of its neighbourhood, what it puts forward, its pair and why that is dropped.
    """
    return _BASE + RANGE_BYTES + _PARTS + (num_src + num_tgt) * _CHOSEN_ROW


def gather_memory(rows: int) -> int:
    """About the bytes of memory that gathering a side takes, beside the files it maps."""
    return _BASE + _PARTS + _POOL + rows * _GATHERED_ROW


def over_memory(what: str, memory: int, resources: ResourcesConfig) -> str | None:
    """What to tell people where a task that cannot be cut takes more memory than one may; None where it does not.

    what: the task, such as "eng-frA: choosing its pairs"; memory: bytes it takes.
    """
    if memory <= resources.mining_memory_gb * 2**30:
        return None
    needed = math.ceil(memory / 2**30 * 10) / 10
    return (
        f"{what} takes about {needed:.1f} GiB in one task, which has {resources.mining_memory_gb:g}: "
        "set resources.mining_memory_gb (with Slurm resources.slurm.memory_gb too) to that or more"
    )


def query_step(rows: int, k: int, resources: ResourcesConfig, workers: int) -> int:
    """Queries of a task: as many as its memory allows, and not fewer tasks than workers unless they would be small."""
    if resources.mining_tasks != "auto":
        return max(1, -(-rows // resources.mining_tasks))
    memory = int(resources.mining_memory_gb * 2**30)
    by_memory = _largest(rows, memory, lambda some: query_memory(some, k))
    return max(1, min(by_memory, max(LEAST_ROWS, -(-rows // max(1, workers)))))


def scan_step(rows: int, columns: int, k: int, resources: ResourcesConfig, workers: int) -> tuple[int, int]:
    """Rows and columns of the rectangles that a scan is cut into.

    All columns, and a task for every worker unless those would be small, where that keeps to the memory of a task. Else
    columns are cut too, so that as little as can be is read and written more than once: each cut of columns reads and
    lists all rows once more, and each cut of rows all columns. A number of tasks that is given stands, whatever memory
    that takes. Raises ConfigError where not even small rectangles fit.
    """
    if resources.mining_tasks != "auto":
        return max(1, -(-rows // resources.mining_tasks)), max(1, columns)
    memory = int(resources.mining_memory_gb * 2**30)
    small = min(rows, LEAST_ROWS), min(columns, LEAST_ROWS)
    if memory < scan_memory(*small, k):
        raise ConfigError(
            f"resources.mining_memory_gb is {resources.mining_memory_gb:g}: a task of the search takes "
            f"{scan_memory(*small, k) / 2**30:.2f} at least; set it to that or more"
        )
    share = min(rows, max(LEAST_ROWS, -(-rows // max(1, workers))))
    if scan_memory(share, columns, k) <= memory:
        return max(1, share), max(1, columns)
    square = _largest(max(rows, columns), memory, lambda some: scan_memory(some, some, k))
    widest = _largest(columns, memory, lambda some: scan_memory(min(rows, square), some, k))
    choices = []
    for cuts in (max(1, columns // widest), -(-columns // widest)):
        wide = -(-columns // cuts)
        high = _largest(rows, memory, lambda some, wide=wide: scan_memory(some, wide, k))  # type: ignore[misc]
        if high >= small[0]:
            tasks = max(-(-rows // high), min(-(-workers // cuts), -(-rows // LEAST_ROWS)))
            choices.append((cuts * rows + tasks * columns, -(-rows // tasks), wide))
    return min(choices)[1:] if choices else small


def _largest(limit: int, memory: int, takes: Callable[[int], int]) -> int:
    """The most rows, up to a limit, that take so many bytes at most."""
    return bisect_right(range(limit + 1), memory, key=takes) - 1
