"""The order of shards: each once, the largest first, and nobody is left with a large group at the end."""

import heapq
import random

import pytest

from seamlessalign.languages import Side
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.schedule import Schedule
from seamlessalign.pipelines.shard_task import ShardTask


def _task(number: int, size: int | None, uri: str = "{}.flac") -> ShardTask:
    name = f"part-{number:05d}"
    version = "" if size is None else f"{size} 1700000000.5"
    return ShardTask("speech", name, "d", Shard(name, (InputFile(uri.format(number), version),)))


def _all(schedule: Schedule) -> list[list[str]]:
    groups = []
    while len(schedule):
        groups.append([task.name for task in schedule.take()])
    return groups


def test_every_shard_is_taken_once_in_groups_that_shrink() -> None:
    tasks = [_task(i, 1000) for i in range(200)]
    groups = _all(Schedule(tasks, 8, 2))
    assert [name for group in groups for name in group] == [task.name for task in tasks]
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 8 and sizes[-4:] == [1, 1, 1, 1]
    with pytest.raises(IndexError):
        Schedule([], 8, 2).take()


def test_the_largest_are_first_and_alone() -> None:
    sizes = [10, 10_000, 10, 20_000, 10, 10]
    groups = _all(Schedule([_task(i, size) for i, size in enumerate(sizes)], 8, 2))
    assert groups[:2] == [["part-00003"], ["part-00001"]]
    assert sorted(name for group in groups for name in group) == [f"part-{i:05d}" for i in range(6)]


@pytest.mark.parametrize("uri", ["a.tar::{}.flac", "s3://bucket/{}"])
def test_members_of_a_container_and_what_is_unknown_keep_their_order(uri: str) -> None:
    """A member's version is that of its container; a remote file has none."""
    tasks = [_task(i, 5000 if "tar" in uri else None, uri) for i in range(9)]
    mixed = [*tasks, _task(9, 7)]
    assert [name for group in _all(Schedule(mixed, 4, 1)) for name in group] == [
        "part-00009", *(f"part-{i:05d}" for i in range(9))
    ]  # fmt: skip


def test_tasks_without_files_keep_their_order() -> None:
    tasks = [ShardTask("gather", f"side={n}", "d", Side("fra", is_audio=True)) for n in range(5)]
    assert [name for group in _all(Schedule(tasks, 8, 2)) for name in group] == [task.name for task in tasks]


def test_what_is_to_be_done_again_comes_next_and_one_by_one() -> None:
    tasks = [_task(i, 1000) for i in range(40)]
    schedule = Schedule(tasks, 8, 1)
    group = schedule.take()
    assert len(group) == 8
    schedule.again(group[2:])
    assert len(schedule) == 38
    assert [schedule.take() for _ in range(6)] == [[task] for task in group[2:]]
    assert sum(map(len, _all(schedule))) == 32


def test_workers_end_nearly_together() -> None:
    """Played through: sizes of a long tail, where groups of equal number leave one worker with much at the end."""
    rng = random.Random(5)
    sizes = [int(1000 * rng.paretovariate(1.3)) for _ in range(300)]
    workers = 8
    schedule = Schedule([_task(i, size) for i, size in enumerate(sizes)], 8, workers)
    free = [0.0] * workers
    while len(schedule):
        begun = heapq.heappop(free)
        heapq.heappush(free, begun + sum(sizes[int(task.name[5:])] for task in schedule.take()))
    least = max(sum(sizes) / workers, max(sizes))  # no order can be faster
    assert max(free) <= 1.05 * least
