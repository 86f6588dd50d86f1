"""How much memory tasks of the search and of the choice take, and how large tasks are made so that they keep to it."""

from bisect import bisect_right
from collections.abc import Callable

from seamlessalign.config import MiningConfig, ResourcesConfig
from seamlessalign.errors import ConfigError
from seamlessalign.mining.lists import RANGE_BYTES
from seamlessalign.mining.margin import WIDER

LEAST_ROWS = 2048  # of a task: below, reading the other side costs more than comparing
_BASE = 320 << 20  # bytes of the libraries that a worker has loaded
_A_PLACE = 4 * 12  # bytes for each neighbour of a row in a task: as found, in order, and exact
_A_ROW = 800  # bytes for each row of a direction while its pairs are chosen
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
    """About the bytes of memory that choosing the pairs of a direction takes, beside the rows it maps.

    The libraries, the lists of one range of rows, and for every row what is kept of it all along: the mean cosine of
    its neighbourhood, what it puts forward, and its line in the tables of its side and of pairs.
    """
    return _BASE + RANGE_BYTES + (num_src + num_tgt) * _A_ROW


def over_memory(direction: str, memory: int, resources: ResourcesConfig) -> str | None:
    """What to tell people where choosing the pairs of a direction takes more memory than a task may: it cannot be cut.

    memory: as `choice_memory` says.
    """
    if memory <= resources.mining_memory_gb * 2**30:
        return None
    return (
        f"{direction}: choosing its pairs takes about {memory / 2**30:.1f} GiB in one task, more than "
        f"resources.mining_memory_gb, {resources.mining_memory_gb:g}: it needs a machine that has them"
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
