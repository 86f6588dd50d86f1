"""What is done while the page is served, so that whoever asks first need not wait: counting, and unpacking columns."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.curation.unpacked import GROUPS, Ended, Group, find_unpacked, is_worth, make_unpacked
from seamlessalign.pipelines.run_tables import RunTables

if TYPE_CHECKING:
    from seamlessalign.pipelines.curation.served import Served

_LAST = 19  # the lowest priority there is


class Preparing:
    """Prepares what is served, from now on and in a thread, until all is there or `close`."""

    def __init__(self, served: "Served") -> None:
        self._served = served
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="preparing")
        self._thread.start()

    def close(self) -> None:
        """Leave the rest, and wait until the thread has."""
        self._ending.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait until all is there."""
        self._thread.join()

    def _prepare(self) -> None:
        import duckdb

        try:
            served = self._served
            many = [one for one in served.directions if is_worth(served.tables, one)]
            missing = [(one, group) for one in many for group in GROUPS if not self._use(find_unpacked, one, group)]
            self._look_at(served.directions[0])
            _stand_back()
            make = partial(make_unpacked, keep=not served.read_only, go_on=lambda: not self._ending.is_set())
            for direction, group in missing:
                self._use(make, direction, group)
        except (SeamlessAlignError, duckdb.Error, Ended):
            return  # a page tells what is wrong when it asks, unless the server has ended meanwhile

    def _use(self, get: "Callable[[RunTables, str, Group], pa.Table | None]", direction: str, group: Group) -> bool:
        """Have a direction's view read a group of columns unpacked; False where there is none."""
        if self._ending.is_set():
            raise Ended
        columns = get(self._served.tables, direction, group)
        if columns is not None:
            self._served.view(direction).use_unpacked(columns)
        return columns is not None

    def _look_at(self, direction: str) -> None:
        """What the first page shows."""
        from seamlessalign.pipelines.curation.address import View
        from seamlessalign.pipelines.curation.labelled_precision import random_labels
        from seamlessalign.pipelines.curation.page_state import PageState
        from seamlessalign.pipelines.curation.pairs_shown import window

        view = self._served.view(direction)
        view.curve()
        window(self._served, PageState(View(direction), [], ""), 0)
        random_labels(view, self._served.labelled())


def _stand_back() -> None:
    """Leave the processors to all other threads that want them, where threads have priorities of their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LAST)
