"""Ctrl-C: raised as ever, and once more where Python had to drop it."""

import os
import signal
import threading

import pytest

from seamlessalign.pipelines.interrupts import heeded_interrupts


class _Interrupted:
    """Interrupts this process while it is destroyed."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # Python looks for signals between instructions
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_destructor_dropped_is_raised_again() -> None:
    with heeded_interrupts() as heed:
        heed()
        _Interrupted()  # dropped at once
        with pytest.raises(KeyboardInterrupt):
            heed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_raised_where_it_comes() -> None:
    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_before_is_not_one_now() -> None:
    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        signal.raise_signal(signal.SIGINT)
    with heeded_interrupts() as heed:
        heed()


def test_whoever_handles_the_signal_goes_on_doing_so() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with heeded_interrupts() as heed:
            signal.raise_signal(signal.SIGINT)
            heed()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_another_thread_leaves_signals_alone() -> None:
    handlers: list[object] = []

    def work() -> None:
        with heeded_interrupts() as heed:
            handlers.append(signal.getsignal(signal.SIGINT))
            heed()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
