"""Jobs ahead: how many are begun, who enters first, what they hold together, and how all that ends."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from seamlessalign.pipelines.look_ahead import Alone, LookAhead, Stopped, Turn

PATIENCE = 60.0  # seconds until what does not come fails the test


class _Watch:
    """Counts what jobs do, under a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begun: list[int] = []
        self.entered: list[int] = []
        self.inside = 0
        self.most_inside = 0
        self.held: dict[int, int] = {}
        self.most_held = 0

    def begin(self, number: int, expected: int) -> None:
        with self._lock:
            self.begun.append(number)
            self._hold(number, expected)

    def hold(self, number: int, size: int) -> None:
        with self._lock:
            self._hold(number, size)

    def enter(self, number: int) -> None:
        with self._lock:
            self.entered.append(number)
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1

    def end(self, number: int) -> None:
        with self._lock:
            del self.held[number]

    def _hold(self, number: int, size: int) -> None:
        self.held[number] = size
        self.most_held = max(self.most_held, sum(self.held.values()))


def _job(watch: _Watch, number: int, size: int, expected: int, pause: Callable[[], None]) -> Callable[[Turn], int]:
    def work(turn: Turn) -> int:
        watch.begin(number, expected)
        pause()
        watch.hold(number, size)  # first here: what it counts is never more than what the other side knows
        turn.holds(size)
        with turn.second_part():
            watch.enter(number)
            pause()
            watch.leave()
        watch.end(number)
        return number * number

    return work


@pytest.mark.parametrize(("at_a_time", "ahead"), [(1, 1), (1, 4), (2, 0), (3, 2)])
def test_results_are_those_of_their_jobs_and_bounds_hold(at_a_time: int, ahead: int) -> None:
    """Sixty jobs that take a random while: results asked for in a random order, and never too many anywhere."""
    rng, watch = random.Random(3), _Watch()
    sizes = [rng.randrange(1, 10) for _ in range(60)]
    pauses = [rng.random() * 0.004 for _ in range(60)]
    look = LookAhead(at_a_time, ahead, most_bytes=25, expected_bytes=10)
    works = [_job(watch, i, sizes[i], 10, partial(time.sleep, pauses[i])) for i in range(60)]
    jobs = look.give(works[:40]) + look.give(works[40:])
    order = list(range(60))
    rng.shuffle(order)
    assert [look.result(jobs[i]) for i in order] == [i * i for i in order]
    look.stop()
    assert sorted(watch.begun) == list(range(60))
    assert 1 <= watch.most_inside <= at_a_time
    assert watch.most_held <= 25
    if at_a_time > 1:
        assert watch.most_inside > 1


def test_whoever_came_first_enters_first() -> None:
    """Three jobs are ready before the first one leaves: they go in in the order in which they were given."""
    look, entered = LookAhead(1, 3, 100, 1), list[int]()
    ready, first_may_leave = threading.Barrier(4), threading.Event()

    def work(number: int) -> Callable[[Turn], None]:
        def do(turn: Turn) -> None:
            if number:
                ready.wait(PATIENCE)
            with turn.second_part():
                entered.append(number)
                if not number:
                    ready.wait(PATIENCE)
                    first_may_leave.wait(PATIENCE)

        return do

    jobs = look.give([work(number) for number in range(4)])
    until = time.monotonic() + PATIENCE
    while len(look._before_second) < 3:
        assert time.monotonic() < until
        time.sleep(0.001)
    first_may_leave.set()
    for job in jobs:
        look.result(job)
    assert entered == [0, 1, 2, 3]
    look.stop()


def test_a_job_larger_than_all_memory_is_done_by_itself() -> None:
    watch = _Watch()
    look = LookAhead(1, 3, most_bytes=10, expected_bytes=10)
    jobs = look.give([_job(watch, i, 1000, 10, lambda: None) for i in range(5)])
    assert [look.result(job) for job in jobs] == [0, 1, 4, 9, 16]
    assert watch.most_held == 1000 and watch.begun == watch.entered == list(range(5))
    look.stop()


@pytest.mark.parametrize("in_second_part", [False, True])
def test_an_error_reaches_whoever_wants_the_result_and_nobody_else(in_second_part: bool) -> None:
    look = LookAhead(1, 2, 100, 1)

    def fail(turn: Turn) -> None:
        if not in_second_part:
            raise ValueError("first")
        with turn.second_part():
            raise ValueError("second")

    good: list[Callable[[Turn], Any]] = [lambda turn, i=i: i for i in range(3)]  # type: ignore[misc]
    jobs = look.give([good[0], fail, *good[1:]])
    with pytest.raises(ValueError, match="second" if in_second_part else "first"):
        look.result(jobs[1])
    assert [look.result(jobs[i]) for i in (0, 2, 3)] == [0, 1, 2]
    look.stop()


def test_stopping_wakes_everybody() -> None:
    """One job at work, others that wait for it, for room and to begin, and somebody who waits for a result."""
    look = LookAhead(1, 2, most_bytes=3, expected_bytes=1)
    inside, seen = threading.Event(), list[str]()

    def long(turn: Turn) -> None:
        with turn.second_part():
            inside.set()
            while True:  # as an embedder that tells how far it is
                turn.check()
                threading.Event().wait(0.001)

    def other(turn: Turn) -> None:
        assert inside.wait(PATIENCE)
        with turn.second_part():
            seen.append("entered")

    jobs = look.give([long, other, other, other, other])
    assert inside.wait(PATIENCE)

    def ask() -> None:
        try:
            look.result(jobs[4])
        except Stopped:
            seen.append("stopped")

    asking = threading.Thread(target=ask)
    asking.start()
    look.stop()
    asking.join(PATIENCE)
    assert seen == ["stopped"]
    assert not any(thread.is_alive() for thread in look._threads)


def test_a_job_alone_waits_for_nobody() -> None:
    turn = Alone()
    turn.holds(1 << 60)
    turn.check()
    with turn.second_part(), turn.second_part():
        pass
