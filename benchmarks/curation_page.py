"""How long a curator waits for the page, in Chromium, on pairs made of random numbers and words.

    python -m benchmarks.curation_page [--pairs 10000000] [--repeats 5] [--run DIR]

Each line is something that is done on the page, from the key or click until what it changes is drawn; seconds, median
of the repeats. Behind it stand the processor seconds of server and browser until all is at rest, which are about the
same however busy the machine is. Then the same two on the smallest page that has such a control, served by Streamlit
itself and drawn in the same browser in turn, and the ratio of processor time: what pairs cost on top of the library.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.many_pairs import make_run
from tests.ground.browser import Browser, browser
from tests.pipelines.curation.curating import METRICS, PAIR, curating

_SMALLEST = """
import streamlit as st
st.set_page_config(layout="wide")
st.session_state.setdefault("number", 0)
def more(): st.session_state["number"] += 1
@st.fragment
def part():
    st.slider("slider", 0.0, 1.0, 0.5, key="slider", on_change=more)
    st.button("more", shortcut="J", on_click=more)
    for _ in range(4):
        st.metric("number", st.session_state["number"])
part()
"""
_DRAWN = f"{METRICS}.length === 4 && !!document.querySelector('[data-testid=stSlider] input')"
_CARD = "!!document.querySelector('.card')"
_REST = 1.0  # seconds until a page that was drawn is at rest
_FILTERS = [{"column": "src_text", "op": "contains", "value": "kato"}]


class Wait(NamedTuple):
    """One thing that is done, and how often it took how long."""

    name: str
    ours: "Took"
    peer: "Took"  # the same on the smallest page


class Took(NamedTuple):
    """Seconds by the clock, and of processors."""

    seconds: float
    processor: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", help="a run that was made so before (default: make one)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="curation-page-") as folder:
        root = options.run or str(Path(folder) / "run")
        if not options.run:
            make_run(root, options.pairs)
        print("| | s | processor s | smallest page s | processor s | ratio |\n|---|---|---|---|---|---|")
        for name, ours, peer in measure(root, Path(folder), options.repeats):
            times = " | ".join(f"{number:.2f}" for number in (*ours, *peer))
            print(f"| {name} | {times} | {ours.processor / peer.processor:.1f} |", flush=True)


def measure(root: str, folder: Path, repeats: int) -> Iterator[Wait]:
    """What each thing takes. Marks are made, so the run's folder is written to."""
    with curating(root) as address, _smallest(folder) as smallest, browser(folder / "profile") as page:
        base = address.partition("/?")[0]

        def opening(query: str) -> Callable[[], Took]:
            return lambda: _timed(page, lambda: page.open(f"{base}/?{query}"), f"{_DRAWN} && {_CARD}")

        def opening_smallest() -> Took:
            return _timed(page, lambda: page.open(smallest), _DRAWN)

        first = _timed(page, lambda: page.open(address), f"{_DRAWN} && {_CARD}")
        yield Wait("first view of a server that was just started", first, opening_smallest())
        peer = _median(opening_smallest, repeats)
        yield Wait("view", _median(opening("look=mark"), repeats), peer)
        for name, query in (
            ("view in order of cosine", "order=cosine"),
            ("view in order of disagreement", "order=disagreement"),
            ("view of a random sample at the threshold", "order=random_near"),
            ("view of a random sample of the chosen", "order=random_above"),
            ("view of the last ones of all candidates", "scope=all&descending=no"),
            ("view of the table, from pair 100,000", "look=table&at=100000"),
            ("view with a word that texts must have", f"cut.eng-frA={json.dumps({'filters': _FILTERS})}"),
        ):
            yield Wait(name, _median(opening(query), repeats), peer)

        page.open(smallest)
        page.wait_for(_DRAWN)
        slid = _median(lambda: _sliding(page), repeats)
        pressed = _median(lambda: _pressing(page, "j", f"{METRICS}[0]"), repeats)
        page.open(f"{base}/?look=mark")
        page.wait_for(f"{_DRAWN} && {_CARD}")
        time.sleep(_REST)
        yield Wait("next pair", _median(lambda: _pressing(page, "j", PAIR), repeats), pressed)
        yield Wait("mark a pair", _median(lambda: _pressing(page, "y", PAIR), repeats), pressed)
        yield Wait("move the threshold", _median(lambda: _sliding(page), repeats), slid)
        page.open(f"{base}/?order=random_above")
        page.wait_for(f"{_DRAWN} && {_CARD}")
        time.sleep(_REST)
        yield Wait("mark a pair of a random sample", _median(lambda: _pressing(page, "y", PAIR), repeats), pressed)


def _sliding(page: Browser) -> Took:
    page.wait_for(_DRAWN)
    page.evaluate("document.querySelector('[data-testid=stSlider] input').focus()")
    before = page.evaluate(f"{METRICS}[0]")
    return _timed(page, lambda: page.press("ArrowLeft"), f"{METRICS}[0] !== {before!r}")


def _pressing(page: Browser, key: str, changes: str) -> Took:
    page.evaluate("document.activeElement.blur()")
    before = page.evaluate(changes)
    return _timed(page, lambda: page.press(key), f"{changes} && {changes} !== {before!r}")


def _timed(page: Browser, do: Callable[[], object], until: str) -> Took:
    """From the beginning of something until a condition of the page holds; then waits until it is at rest."""
    begun, worked = time.perf_counter(), _worked()
    do()
    page.wait_for(f"!!({until})", 120)
    took = time.perf_counter() - begun
    page.wait_for("!document.querySelector('[data-stale=true]')", 120)
    time.sleep(_REST)
    return Took(took, _worked() - worked)


def _worked() -> float:
    """Processor seconds so far of all processes that this one started, and that these started."""
    parents, worked = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        number = int(stat.parent.name)
        parents[number], worked[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    own = {os.getpid()}
    while more := {number for number, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(worked.get(number, 0) for number in own - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def _median(measure_once: Callable[[], Took], repeats: int) -> Took:
    """The middle of each."""
    return Took(*map(statistics.median, zip(*(measure_once() for _ in range(repeats)), strict=True)))


@contextmanager
def _smallest(folder: Path) -> Iterator[str]:
    """The address of the smallest page, served by `streamlit run`."""
    script = folder / "smallest" / "page.py"
    script.parent.mkdir()
    script.write_text(_SMALLEST)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"port": port, "address": "127.0.0.1", "headless": "true", "fileWatcherType": "none"}
    flags = [f"--server.{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "streamlit", "run", str(script), *flags, "--browser.gatherUsageStats=false"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "streamlit did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=20)


if __name__ == "__main__":
    main()
