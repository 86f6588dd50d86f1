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
_UNPACKED = 12.0  # seconds until all columns are unpacked
_FILTERS = [{"column": "src_text", "op": "contains", "value": "kato"}]
_WITH_A_WORD = f"cut.eng-frA={json.dumps({'filters': _FILTERS})}"
_WORDS = ("rine", "sumo", "lave", "dior", "enti", "toka", "neri", "mosu", "vela", "ordi", "tien", "suka", "kari")
_CARD_TEXT = "document.querySelector('.card').innerText"
_WORD_BOX, _ORDER_BOX, _FILTER_BOX = (
    f"document.querySelector(\"input[aria-label*='{label}']\")"
    for label in ("contains", "In the order", "Add a filter")
)
_ORDERS = ("src_chars", "tgt_seconds", "tgt_uri", "disagreement", "a random sample of all")
_CHANGES = {  # column → the box of its filter, and what is written there
    "cosine": ("document.querySelector('input[aria-label=\"at least\"]')", "0.55"),
    "src_chars": ("[...document.querySelectorAll('input[aria-label=\"at least\"]')].at(-1)", "40"),
    "tgt_source": ("document.querySelector('input[aria-label*=\"one of\"]')", "radio"),
}


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
    with _smallest(folder) as smallest, browser(folder / "profile") as page:
        slid, pressed, opened = _of_smallest(page, smallest, repeats)
        words = iter(_WORDS)

        def first(address: str) -> Took:
            page.call("Network.clearBrowserCache")
            return _timed(page, lambda: page.open(address), f"{_DRAWN} && {_CARD}", rest=0)

        def smallest_first() -> Took:
            page.call("Network.clearBrowserCache")
            return _timed(page, lambda: page.open(smallest), _DRAWN)

        with curating(root) as address:
            yield Wait("first view of a run that was never opened", first(address), smallest_first())
            page.open(_address(address, _WITH_A_WORD))
            yield Wait("a new word at once, while columns are being unpacked", _wording(page, next(words)), pressed)
            time.sleep(_UNPACKED)
            yield from _views(page, address.partition("/?")[0], repeats, opened)
            yield from _steps(page, address.partition("/?")[0], repeats, pressed, slid)
        with curating(root) as address:
            yield Wait("first view of a server that was just started", first(address), smallest_first())
            page.open(_address(address, _WITH_A_WORD))
            yield Wait("a new word at once", _wording(page, next(words)), pressed)
            yield Wait("a new word", _median(lambda: _wording(page, next(words)), repeats), pressed)
            page.open(_address(address, "look=mark"))
            for order in _ORDERS:
                yield Wait(f"in the order of {order} for the first time", _ordering(page, order), pressed)
            page.open(_address(address, "look=mark"))
            for column, change in _CHANGES.items():
                yield Wait(f"a filter of {column} for the first time", _filtering(page, column, *change), pressed)


def _address(base: str, query: str) -> str:
    return f"{base.partition('/?')[0]}/?{query}"


def _of_smallest(page: Browser, address: str, repeats: int) -> tuple[Took, Took, Took]:
    """Its slider moved, its button pressed, and it opened."""
    opened = _median(lambda: _timed(page, lambda: page.open(address), _DRAWN), repeats)
    slid = _median(lambda: _sliding(page), repeats)
    return slid, _median(lambda: _pressing(page, "j", f"{METRICS}[0]"), repeats), opened


def _views(page: Browser, base: str, repeats: int, peer: Took) -> Iterator[Wait]:
    def opening(query: str) -> Callable[[], Took]:
        return lambda: _timed(page, lambda: page.open(f"{base}/?{query}"), f"{_DRAWN} && {_CARD}")

    for name, query in (
        ("view", "look=mark"),
        ("view in order of cosine", "order=cosine"),
        ("view in order of disagreement", "order=disagreement"),
        ("view of a random sample at the threshold", "order=random_near"),
        ("view of a random sample of the chosen", "order=random_above"),
        ("view of the last ones of all candidates", "scope=all&descending=no"),
        ("view of the table, from pair 100,000", "look=table&at=100000"),
        ("view with a word that texts must have", _WITH_A_WORD),
    ):
        yield Wait(name, _median(opening(query), repeats), peer)


def _steps(page: Browser, base: str, repeats: int, pressed: Took, slid: Took) -> Iterator[Wait]:
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


def _wording(page: Browser, word: str) -> Took:
    """Write another word that texts must have."""
    _write(page, _WORD_BOX, word)
    return _timed(page, lambda: page.press("Enter"), f"{_DRAWN} && {_CARD} && {_CARD_TEXT}.includes({word!r})")


def _ordering(page: Browser, order: str) -> Took:
    """Choose another order."""
    page.wait_for(f"{_DRAWN} && {_CARD}")
    time.sleep(_REST)
    before = page.evaluate(PAIR)
    _write(page, _ORDER_BOX, order)
    return _timed(page, lambda: page.press("Enter"), f"{PAIR} && {PAIR} !== {before!r}")


def _filtering(page: Browser, column: str, box: str, value: str) -> Took:
    """Add a filter and set it; counted from when it is set."""
    page.wait_for(f"{_DRAWN} && {_CARD}")
    time.sleep(_REST)
    _write(page, _FILTER_BOX, column)
    page.press("Enter")
    page.wait_for(f"!!({box})")
    time.sleep(_REST)
    before = page.evaluate(f"{METRICS}[0]")
    _write(page, box, value)
    return _timed(page, lambda: page.press("Enter"), f"{_DRAWN} && {METRICS}[0] !== {before!r} && {_CARD}")


def _write(page: Browser, box: str, text: str) -> None:
    page.click(box)
    page.evaluate(f"({box}).select()")
    page.type(text)
    time.sleep(0.3)


def _sliding(page: Browser) -> Took:
    page.wait_for(_DRAWN)
    page.evaluate("document.querySelector('[data-testid=stSlider] input').focus()")
    before = page.evaluate(f"{METRICS}[0]")
    return _timed(page, lambda: page.press("ArrowLeft"), f"{METRICS}[0] !== {before!r}")


def _pressing(page: Browser, key: str, changes: str) -> Took:
    page.evaluate("document.activeElement.blur()")
    before = page.evaluate(changes)
    return _timed(page, lambda: page.press(key), f"{changes} && {changes} !== {before!r}")


def _timed(page: Browser, do: Callable[[], object], until: str, rest: float = _REST) -> Took:
    """From the beginning of something until a condition of the page holds; then waits until it is at rest."""
    begun, worked = time.perf_counter(), _worked()
    do()
    page.wait_for(f"!!({until})", 120)
    page.wait_for("!document.querySelector('[data-stale=true]')", 120)
    took = time.perf_counter() - begun
    time.sleep(rest)
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
