"""The curation page as a user starts it, and what a test does with it in Chromium."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ground.browser import Browser
from tests.pipelines.small_corpus import HOUSE, command, environment

CARD = "document.querySelector('.card')"
PAIR = f"({CARD} || {{dataset: {{}}}}).dataset.pair"
METRICS = "[...document.querySelectorAll('[data-testid=stMetricValue]')].map(v => v.innerText)"


@contextmanager
def curating(root: Path | str, *options: str) -> Iterator[str]:
    """The address of the page of a run, started by the program at a free port; ended by Ctrl-C."""
    words = command("curate", root, "--port", "0", "--no-browser", *options)
    process = subprocess.Popen(
        words, cwd=HOUSE, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert "http://" in line, line + process.stderr.read()
        yield line[line.index("http://") :].strip()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err, err


def wait_for_card(page: Browser) -> str:
    """Wait until a pair is shown; returns its id."""
    return str(page.wait_for(PAIR))


def press_and_go(page: Browser, key: str) -> str:
    """Press a key that leads to another pair; returns its id."""
    before = page.evaluate(PAIR)
    time.sleep(0.3)  # a mark that comes sooner is none
    page.press(key)
    return str(page.wait_for(f"{PAIR} && {PAIR} !== {before!r} && {PAIR}"))
