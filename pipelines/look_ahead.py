"""Jobs that are begun before anybody waits for them, by threads that share a process: back-pressure in two bounds.

A job has two parts: one that fills memory (a recording is fetched and decoded), and one that a few at a time may do (it
is embedded). Jobs begin in the order in which they were given, as long as what all of them hold fits; and whoever has
come first enters the second part first. Results are taken in whatever order they are asked for.
"""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

_JOIN_SECONDS = 10.0  # for threads to see that they are to stop; one that waits for a server is left to itself


class Stopped(Exception):
    """Raised inside jobs that nobody wants any more, and where their results are waited for."""


class Turn(Protocol):
    """What a job says of itself, and waits for."""

    def holds(self, num_bytes: int) -> None:
        """Say how much memory this job holds from now on."""

    def check(self) -> None:
        """Raise Stopped where the job is not wanted any more."""

    def second_part(self) -> Any:
        """A context in which the second part is done: only so many jobs are inside at a time."""


class Alone:
    """The turn of a job that is done by whoever wants it, with nothing beside it."""

    def holds(self, num_bytes: int) -> None:
        """Nobody asks."""

    def check(self) -> None:
        """It is wanted."""

    @contextmanager
    def second_part(self) -> Iterator[None]:
        """At once."""
        yield


@dataclass
class _Job:
    """A job and what became of it. Jobs are numbered in the order in which they were given."""

    number: int
    work: Callable[[Turn], Any]
    owner: "LookAhead"
    held: int = 0
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def holds(self, num_bytes: int) -> None:
        with self.owner.changed:
            self.held = num_bytes
            self.owner.changed.notify_all()

    def check(self) -> None:
        if self.owner.stopping:
            raise Stopped

    @contextmanager
    def second_part(self) -> Iterator[None]:
        self.owner.enter(self)
        try:
            yield
        finally:
            self.owner.leave(self)


@dataclass
class LookAhead:
    """Threads that do jobs ahead of whoever takes the results.

    Args:
        at_a_time: jobs that may be in their second part.
        ahead: further jobs that may be in their first part, or wait between the two.
        most_bytes: that all begun jobs may hold; one may begin whatever it takes where no other is begun.
        expected_bytes: that a job is taken to hold until it says how much it does.
    """

    at_a_time: int
    ahead: int
    most_bytes: int
    expected_bytes: int
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False
    _waiting: "deque[_Job]" = field(default_factory=deque)
    _begun: dict[int, _Job] = field(default_factory=dict)
    _before_second: list[int] = field(default_factory=list)  # numbers of jobs that wait to enter: a heap
    _inside: set[int] = field(default_factory=set)
    _threads: list[threading.Thread] = field(default_factory=list)
    _given: int = 0

    def give(self, works: Sequence[Callable[[Turn], Any]]) -> list[_Job]:
        """Add jobs behind those that were given before; `result` takes what they return. Threads begin at once."""
        with self.changed:
            jobs = [_Job(self._given + i, work, self) for i, work in enumerate(works)]
            self._given += len(jobs)
            self._waiting.extend(jobs)
            while len(self._threads) < min(self.at_a_time + self.ahead, self._given):
                thread = threading.Thread(target=self._run, name=f"ahead-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self.changed.notify_all()
        return jobs

    def result(self, job: _Job) -> Any:
        """Wait for a job; returns what it returned, and raises what it raised, or Stopped."""
        with self.changed:
            self.changed.wait_for(lambda: job.is_done or self.stopping)
            if not job.is_done:
                raise Stopped
        result, job.result = job.result, None  # whoever takes it has it alone
        if job.error is not None:
            raise job.error
        return result

    def stop(self) -> None:
        """Begin no further job, end those that are begun at the next place where they ask, and wait for that."""
        with self.changed:
            self.stopping = True
            self._waiting.clear()
            self.changed.notify_all()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def enter(self, job: _Job) -> None:
        """Wait for a place in the second part, behind jobs with lower numbers that wait too. Raises Stopped."""
        with self.changed:
            heapq.heappush(self._before_second, job.number)
            self.changed.wait_for(
                lambda: self.stopping or (len(self._inside) < self.at_a_time and self._before_second[0] == job.number)
            )
            job.check()
            heapq.heappop(self._before_second)
            self._inside.add(job.number)
            self.changed.notify_all()

    def leave(self, job: _Job) -> None:
        """Give the place to another."""
        with self.changed:
            self._inside.discard(job.number)
            self.changed.notify_all()

    def _may_begin(self) -> bool:
        held = sum(job.held for job in self._begun.values())
        return bool(self._waiting) and (not self._begun or held + self.expected_bytes <= self.most_bytes)

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopping or self._may_begin())
                if self.stopping:
                    return
                job = self._waiting.popleft()
                job.held = self.expected_bytes
                self._begun[job.number] = job
            try:
                job.result = job.work(job)
            except BaseException as error:  # noqa: BLE001  raised again where the result is taken
                job.error = error
            with self.changed:
                job.is_done = True
                del self._begun[job.number]
                self.changed.notify_all()
