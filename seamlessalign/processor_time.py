"""Processor time of a thread, and of what others do in its place: threads that it waits for, and child processes."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class _OfOthers(threading.local):
    seconds = 0.0


_of_others = _OfOthers()


def thread_seconds() -> float:
    """Processor seconds of this thread so far, with those that were charged to it."""
    return time.thread_time() + _of_others.seconds


def charge(seconds: float) -> None:
    """Count so many processor seconds that somebody else took as this thread's."""
    _of_others.seconds += seconds


def told(work: Callable[[], _T], tell: Callable[[float], None]) -> Callable[[], _T]:
    """Work for another thread, which then tells the processor seconds that it took there."""

    def do() -> _T:
        begun = thread_seconds()
        try:
            return work()
        finally:
            tell(thread_seconds() - begun)

    return do


def charge_child(pid: int) -> None:
    """Charge this thread with a child that is about to be waited for: comes back when that has ended.

    The child stays a zombie, whose times can still be read; with it count its own children that it waited for. Nothing
    is charged where the system does not tell.
    """
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        charge(sum(map(int, fields[11:15])) * _TICK)  # utime, stime and those of its children, in clock ticks
