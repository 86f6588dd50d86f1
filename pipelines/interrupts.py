"""Ctrl-C that is not lost: an exception that is raised in a destructor or a callback of the collector is dropped."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C besides raising KeyboardInterrupt as always; the function that is given raises it again.

    Python raises KeyboardInterrupt wherever the main thread is, and prints and forgets it where that is code that must
    not fail. A loop that waits calls the function now and then. Does nothing in another thread than the main one, nor
    where somebody else handles the signal.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    asked = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    def heed() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
