"""In which order the shards of a stage are done, and how many together: the largest first, smaller groups at the end.

Whoever is free takes the next group (guided self-scheduling, Polychronopoulos and Kuck 1987), so that all workers have
work until nearly the end.
"""

from collections import deque
from collections.abc import Sequence

from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.sources import place_of

_SHARE = 4  # a group is at most this part of what each worker still has before it


class Schedule:
    """The shards of a stage that nobody has in hand."""

    def __init__(self, tasks: Sequence[ShardTask], most_per_group: int, processes: int) -> None:
        """`most_per_group`: shards of a group, however small they are."""
        self._most_per_group = most_per_group
        self._processes = processes
        sizes = [size_of(task) for task in tasks]
        known = [size for size in sizes if size]
        usual = sum(known) / len(known) if known else 1.0
        order = sorted(range(len(tasks)), key=lambda i: -sizes[i])  # stable: what has no size keeps its order, behind
        self._left = deque((tasks[i], sizes[i] or usual) for i in order)
        self._size_left = sum(size for _, size in self._left)
        self._alone: deque[ShardTask] = deque()

    def __len__(self) -> int:
        return len(self._left) + len(self._alone)

    def take(self) -> list[ShardTask]:
        """The next group. Raises IndexError where nothing is left."""
        if self._alone:
            return [self._alone.popleft()]
        most = self._size_left / (_SHARE * self._processes)
        group: list[ShardTask] = []
        size = 0.0
        while self._left and len(group) < self._most_per_group and (not group or size + self._left[0][1] <= most):
            task, more = self._left.popleft()
            group.append(task)
            size += more
        if not group:
            raise IndexError("no shard is left")
        self._size_left -= size
        return group

    def again(self, tasks: Sequence[ShardTask]) -> None:
        """Have shards done once more: next, and each by itself."""
        self._alone.extend(tasks)


def size_of(task: ShardTask) -> float:
    """Bytes of a shard's input files; 0 where they are not known, or where order matters.

    Members of one container are read in turn. A part of a text counts as its lines.
    """
    if not isinstance(task.shard, Shard):
        return 0.0
    return sum(_bytes_of(file) for file in task.shard.files)


def _bytes_of(file: InputFile) -> float:
    if file.num_lines is not None or file.offset:
        return 100.0 * (file.num_lines or 0)
    if place_of(file.uri).member is not None:
        return 0.0
    size = file.version.partition(" ")[0]
    return float(size) if size.isdecimal() else 0.0
