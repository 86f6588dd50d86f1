"""Processes that tests kill or let meet, begun by one that has a single thread.

What is forked by many threads may wait for ever for what one of them held.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

from seamlessalign import web_access
from seamlessalign.web_access import WebAccess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["seamlessalign.pipelines.published.downloads"])


def begun(work: Callable[..., object], *args: Any) -> ForkServerProcess:
    """A process that does a work, which asks the web within the same bounds as this one."""
    process = CONTEXT.Process(target=_do, args=(web_access.present(), work, args), daemon=True)
    process.start()
    return process


def _do(access: WebAccess, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    os.environ["NETRC"] = "/nowhere/netrc"
    web_access.use(access)
    work(*args)
