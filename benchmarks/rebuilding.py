"""What a rebuilding of published metadata does where everything goes wrong, and how fast it is.

    python -m benchmarks.rebuilding [--lines 100000] [--urls 3000] [--hosts 4] [--kills 4]

Servers on loopback addresses have recordings in seven formats and WET files, with faults at stated rates. The program
is killed with SIGKILL at random and started again. Then every line of the metadata must have become what it had to, and
no file that had come may have been asked for again. Beside it, on a sample without faults: a loop that fetches with
urllib, decodes with soundfile and cuts, one recording after the other, as anyone would write it.
"""

import argparse
import io
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import soundfile

from benchmarks.faulty_metadata import ROBOTS, SPEECH, World, make_files, make_pairs
from benchmarks.faulty_server import Served, faulty_servers
from seamlessalign.pipelines.published.downloads import name_of

FORMATS = ("wav", "flac", "ogg", "mp3", "opus", "m4a", "webm")
SHARES = {
    "moved": 0.05, "breaks": 0.05, "noranges": 0.03, "untagged": 0.03, "badrange": 0.02, "changes": 0.02,
    "first500": 0.04, "first503": 0.04, "missing": 0.08, "status403": 0.03, "status500": 0.02, "html": 0.03,
    "short": 0.02, "loop": 0.01, "private": 0.02,
}  # fmt: skip
_SETTINGS = (
    "fetch.allow_local=true", "fetch.requests_per_second=5000", "fetch.connections=16", "fetch.tries=4",
    "fetch.first_pause_seconds=0.05", "fetch.stall_seconds=5", "resources.device=cpu",
)  # fmt: skip


@dataclass
class Outcome:
    """What came of a rebuilding."""

    wrong: list[str] = field(default_factory=list)  # a sentence for each line that is not as it must be
    lines: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    asked_again: list[str] = field(default_factory=list)  # addresses that had come before a kill
    sent_twice: list[str] = field(default_factory=list)  # in full
    kills: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    peak_bytes: int = 0  # of the largest process


def make_world(bases: Sequence[str], served: Served, urls: int, pairs: int, seconds: float, seed: int = 0) -> World:
    """Metadata with faults, and the files for it."""
    world = World()
    make_files(world, FORMATS * 2, [seconds * (1 + number / 10) for number in range(2 * len(FORMATS))], seed)
    make_pairs(
        world, bases, urls=urls, pairs=pairs, shares=SHARES, wrong_duration=0.02, outside=0.01, lost_texts=0.01,
        seed=seed,
    )  # fmt: skip
    served.files = world.files
    served.robots = {f"127.0.0.{number + 1}": ROBOTS for number in range(len(bases))}
    return world


def rebuilt(world: World, served: Served, folder: Path, base: str, kills: int, more: Sequence[str] = ()) -> Outcome:
    """Rebuild with so many kills, and compare with what must be."""
    outcome, rng = Outcome(), random.Random(1)
    world.write(folder / "metadata.tsv.gz")
    run = folder / "run"
    command = [sys.executable, "-m", "seamlessalign", "import-metadata", str(folder / "metadata.tsv.gz")]
    command += [*_SETTINGS, *more, "--to", str(run), "--common-crawl", base]
    had: list[tuple[float, set[str]]] = []
    used, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    while True:
        with (folder / "output.txt").open("ab") as output:
            child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        done = (outcome.kills + rng.random()) / max(kills, 1) * len(world.urls)  # of addresses, at the next kill
        if outcome.kills < kills and _wait_for_work(child, run, rng, done, 0 < outcome.kills == kills - 1):
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            time.sleep(0.5)  # until the workers have gone too
            had.append((time.time(), _names_had(run)))
            outcome.kills += 1
            continue
        _, status, mine = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        outcome.peak_bytes = mine.ru_maxrss * 1024
        break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome.seconds = time.monotonic() - begun
    outcome.core_seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    if child.returncode != 3:
        outcome.wrong.append(f"status {child.returncode}: {(folder / 'output.txt').read_text()[-2000:]}")
        return outcome
    for mark in (run / "ledger.parquet",):
        outcome.peak_bytes = max(outcome.peak_bytes, max(pq.read_table(mark).column("peak_rss").to_pylist()))
    _compare(world, run, outcome)
    of_name = {name_of(url): url for url in world.urls}
    for when, names in had:
        late = {url for moment, url in served.log if moment > when}
        late |= {url.replace("/ok/", "/moved/", 1) for url in late if url.replace("/ok/", "/moved/", 1) in world.urls}
        outcome.asked_again += [of_name[name] for name in names if of_name.get(name) in late]
    outcome.sent_twice = [path for path, times in served.wholes.items() if times > 1 and path.count("/") == 2]
    return outcome


def _wait_for_work(child: "subprocess.Popen[bytes]", run: Path, rng: random.Random, done: float, last: bool) -> bool:
    """Wait until so many addresses are done, or before the last kill some of the corpus; False where it ends before."""
    corpus = run / "state" / "done" / "assemble"
    while _is_at_work(child):
        time.sleep(0.1)
        if (len(list(corpus.glob("*.json"))) > 1) if last else (len(_names_had(run)) >= done):
            time.sleep(rng.uniform(0, 1.0))
            return _is_at_work(child)
    return False


def _is_at_work(child: "subprocess.Popen[bytes]") -> bool:
    """Whether a process has not ended; what it took can still be asked for."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _names_had(run: Path) -> set[str]:
    """Names of the addresses of which all has come."""
    state = run / "state" / "published"
    names = {path.stem for path in state.glob("pieces/*/*.parquet") if not path.name.startswith(".")}
    names |= {path.stem for path in state.glob("downloads/*.whole")}
    for mark in (run / "state" / "done" / "audio").glob("part-*.json"):
        table = state / "wanted" / f"{mark.stem}.parquet"
        names |= {name_of(url) for url in set(pq.read_table(table, columns=["url"]).column("url").to_pylist())}
    return names


def _compare(world: World, run: Path, outcome: Outcome) -> None:
    found: dict[tuple[str, int], str | None] = {}
    lines = [table for path in sorted(run.glob("state/published/lines/direction=*/*.parquet"))
             if (table := (path.parent.name.partition("=")[2], pq.read_table(path, columns=["line_no"])))]  # fmt: skip
    for direction, table in lines:
        numbers = table.column("line_no").to_pylist()
        parts = sorted((run / "pairs" / f"direction={direction}").glob("*.parquet"))
        rows = [row for path in parts for row in pq.read_table(path, columns=["kept", "drop_reason"]).to_pylist()]
        if len(rows) != len(numbers):
            outcome.wrong.append(f"{direction}: {len(rows)} pairs of {len(numbers)} lines")
        for number, row in zip(numbers, rows, strict=False):
            if row["kept"] != (row["drop_reason"] is None) or (direction, number) in found:
                outcome.wrong.append(f"{direction} {number}: {row}, there twice or kept with a reason")
            found[direction, number] = row["drop_reason"]
    for place, reason in world.expected.items():
        if place not in found:
            outcome.wrong.append(f"{place}: is not there")
        elif found[place] != reason:
            outcome.wrong.append(f"{place}: is {found[place]}, must be {reason}")
    outcome.lines = 2 * len(found)
    outcome.kept = sum(reason is None for reason in found.values())
    outcome.reasons = Counter(reason for reason in found.values() if reason is not None)


def naive(world: World, folder: Path) -> int:
    """The loop that anyone would write; returns spans. Each recording is fetched once, as ours are."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for line in world.lines:
        columns = line.split("\t")
        parts = columns[2].split(" ")
        if len(parts) == 3:
            spans.setdefault(parts[0], []).append((int(parts[1]), int(parts[2])))
    count = 0
    for url, some in spans.items():
        with urllib.request.urlopen(url) as answer:
            samples, rate = soundfile.read(io.BytesIO(answer.read()), dtype="float32")
        for start, end in some:
            soundfile.write(folder / f"{count}.flac", samples[start:end], rate, subtype="PCM_16")
            count += 1
    return count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--urls", type=int, default=3000)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the shortest recording")
    parser.add_argument("--only", choices=["faults", "speed"])
    arguments = parser.parse_args()
    if arguments.only != "speed":
        _with_faults(arguments)
    if arguments.only != "faults":
        _against_naive(arguments.hosts)


def _with_faults(asked: argparse.Namespace) -> None:
    served = Served({})
    with tempfile.TemporaryDirectory() as made, faulty_servers(served, asked.hosts) as bases:
        world = make_world(bases, served, asked.urls, asked.lines // 2, asked.seconds)
        one = rebuilt(world, served, Path(made), bases[0], asked.kills)
    faulty = sum(fault != "ok" for fault in world.urls.values())
    print(f"{asked.lines} lines, {asked.urls} addresses on {asked.hosts} hosts, {faulty} of them faulty")
    cores = f"{one.core_seconds:.0f} core-seconds without those of killed workers"
    print(f"killed {one.kills} times; {one.seconds:.0f} s, {cores}, {one.lines / one.seconds:.0f} lines/s")
    print(f"largest process: {one.peak_bytes / 2**20:.0f} MiB")
    print(f"pairs kept {one.kept}, lost: {dict(one.reasons.most_common())}")
    print(f"lines that are not as they must be: {len(one.wrong)}", *one.wrong[:5], sep="\n  ")
    print(f"files asked for again that had come: {len(one.asked_again)}")
    print(f"sent in full twice, being on their way at a kill: {len(one.sent_twice)}")
    print(f"{sum(served.asked.values())} requests, {sum(served.sent.values()) / 1e6:.0f} MB")


def _against_naive(hosts: int) -> None:
    served, outcome, world = Served({}), Outcome(), World()
    with tempfile.TemporaryDirectory() as made, faulty_servers(served, hosts) as bases:
        folder = Path(made)
        make_files(world, ("wav", "flac", "ogg", "mp3", "opus") * 2, [60.0] * 10)
        make_pairs(world, bases, urls=300, pairs=12_000, shares={}, wet_files=1)
        world.lines = [line for line in world.lines if f"\t{SPEECH}\t" in line]
        world.expected = {place: reason for place, reason in world.expected.items() if place[0] == SPEECH}
        served.files = world.files
        world.write(folder / "metadata.tsv.gz")
        (folder / "naive").mkdir()
        command = [sys.executable, "-m", "seamlessalign", "import-metadata", str(folder / "metadata.tsv.gz")]
        command += [*_SETTINGS, "--to", str(folder / "run")]
        spans = len(world.lines)
        loop = _timed(multiprocessing.get_context("fork").Process(target=naive, args=(world, folder / "naive")))
        ours = _timed(multiprocessing.get_context("fork").Process(target=_run, args=(command,)))
        _compare(world, folder / "run", outcome)
    print(f"without faults, {spans} spans of 300 recordings of a minute in five formats, {len(outcome.wrong)} wrong")
    for name, (seconds, cores) in (("a loop", loop), ("ours", ours)):
        print(f"  {name}: {seconds:.1f} s, {spans / seconds:.0f} spans/s; {cores:.1f} core-seconds")
    print(f"  ours / a loop: {loop[0] / ours[0]:.2f} × as fast, {ours[1] / loop[1]:.2f} × the core-seconds")


def _timed(child: Any) -> tuple[float, float]:
    """Seconds by the clock and core-seconds of a process and its children."""
    used, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child.start()
    child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - begun, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
