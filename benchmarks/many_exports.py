"""Exports of very many pairs: planning them, what hangs together beside other ways to find it, and one killed twice.

    python -m benchmarks.many_exports --pairs 1000000 --export

A run is made with so many kept pairs in two directions, whose texts and recordings are drawn at random, so that nearly
all hang together. It is planned without splits, with splits that keep all together and with splits that leave out what
straddles. The connected components of its pairs are found by what is used here, by scipy, in C, and by networkx, in
Python. With --export it is written as Parquet from start to end, and then again by processes that are killed, and both
must be the same bytes. Its sounds are half a second of silence, so that what is measured is the work on rows. Every
measurement is a process of its own; seconds are those of a processor, which other work on the machine blurs less. Peak
memory is beside what the process had before, and has pages of mapped files in it.
"""

import argparse
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile

from benchmarks.many_pairs import make_run
from benchmarks.measured import Clock, Measured, by_turns, measure
from seamlessalign import storage
from seamlessalign.pipelines.corpus_stage import FEATURES, PAIRS_PER_SHARD, ROW_GROUP
from seamlessalign.pipelines.exports.choice import Rule
from seamlessalign.pipelines.exports.dividing import STRADDLING
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.hanging_together import Graph
from seamlessalign.pipelines.exports.plan import Asked, Plan, make_plan
from seamlessalign.pipelines.exports.splits import parse_shares, recording_numbers, text_numbers
from seamlessalign.pipelines.folder import RunFolder, shard_name
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import CORPUS, SAMPLE_RATE

SPLITS = "train=0.9,dev=0.05,test=0.05"
_SHARES = parse_shares(SPLITS)
WAYS = {
    "no splits": Asked(Rule()),
    "keep-together": Asked(Rule(), shares=_SHARES, straddling="keep-together"),
    "leave-out": Asked(Rule(), shares=_SHARES, straddling="leave-out"),
}
PEERS = ("here", "scipy", "networkx")
_SAMPLES = SAMPLE_RATE // 2
_DROPPED = 0.2  # of made pairs
_MOST_OF_NETWORKX = 1_000_000  # pairs: it takes some kB for each


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what all takes."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000, help="that the run kept (default: %(default)s)")
    parser.add_argument("--run", help="one that an earlier call with --keep made")
    parser.add_argument("--keep", help="folder to make the run in, and to leave it")
    parser.add_argument("--export", action="store_true", help="write it too, and again by processes that are killed")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="many-exports-") as folder:
        run = options.run or options.keep or f"{folder}/run"
        if options.run is None:
            make_finished(run, options.pairs, 2)
        _print_planning(run, folder)
        _print_components(run, options.pairs)
        if options.export:
            _print_export(run, folder)


def make_finished(root: str, pairs: int, directions: int) -> None:
    """A run with about so many kept pairs, and the corpus of these in the order of their audio."""
    names = make_run(root, round(pairs / (1 - _DROPPED)), directions, threshold=0.9, samples=_SAMPLES, sentences=pairs)
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(_SAMPLES, np.int16), SAMPLE_RATE, format="FLAC")
    folder = RunFolder(root)
    for name in names:
        part = 0
        for uri in storage.list_files(folder.table("pairs", f"direction={name}"), ".parquet"):
            table = storage.read_table(uri)
            table = table.filter(table.column("kept")).sort_by([("tgt_uri", "ascending"), ("tgt_start", "ascending")])
            for begin in range(0, len(table), PAIRS_PER_SHARD):
                where = folder.table("corpus", f"direction={name}", shard_name(part))
                rows = _with_sound(table.slice(begin, PAIRS_PER_SHARD), sound.getvalue())
                storage.write_table(where, rows, metadata={"huggingface": FEATURES}, row_group_size=ROW_GROUP)
                part += 1


def _with_sound(pairs: pa.Table, sound: bytes) -> pa.Table:
    paths = pc.binary_join_element_wise(pairs.column("tgt_id"), "flac", ".").combine_chunks()
    same = pa.DictionaryArray.from_arrays(np.zeros(len(pairs), np.int32), pa.array([sound])).cast(pa.binary())
    columns: dict[str, Any] = {item.name: pa.nulls(len(pairs), item.type) for item in CORPUS}
    columns |= {name: pairs.column(name) for name in pairs.column_names if name in columns}
    columns["tgt_audio"] = pa.StructArray.from_arrays([same, paths], ["bytes", "path"])
    return pa.table(columns).cast(CORPUS)


# Planning


def _planned(way: str, run: str, folder: str) -> Measured:
    before = time.process_time()
    with RunTables(run, threads=1) as tables, tempfile.TemporaryDirectory(dir=folder) as to:
        (Path(to) / "state" / "plan").mkdir(parents=True)
        measured = measure(lambda: make_plan(tables, WAYS[way], None, ExportFolder(to), ""), Clock())
    return replace(measured, parts={"processor": time.process_time() - before}, result=_told(measured.result))


def _told(plan: Plan) -> str:
    pairs = Counter[str]()
    for one in plan.shards:
        pairs[one.shard.split or "all"] += one.last - one.first
    straddling = sum(reasons.get(STRADDLING, 0) for reasons in plan.left_out.values())
    told = [f"{name} {count / pairs.total():.1%}" for name, count in pairs.items()]
    return f"{pairs.total():,} pairs: {', '.join(told)}; left out {straddling / (pairs.total() + straddling):.1%}"


def _print_planning(run: str, folder: str) -> None:
    print("| planned with | processor s | wall s | peak MiB | splits |")
    print("|---|---|---|---|---|")
    for way, (done,) in by_turns(WAYS, 1, _planned, run, folder).items():
        times = f"{done.parts['processor']:.0f} | {done.seconds:.0f}"
        print(f"| {way} | {times} | {done.peak_mib:,.0f} | {done.result} |", flush=True)


# What hangs together


def _found(way: str, run: str) -> Measured:
    src, tgt = _vertices(run)
    before = time.process_time()
    measured = measure(lambda: _COMPONENTS[way](src, tgt), Clock())
    return replace(measured, parts={"processor": time.process_time() - before})


def _vertices(run: str) -> tuple[Any, Any]:
    src, tgt = [], []
    for uri in storage.list_files(RunFolder(run).table("pairs"), ".parquet"):
        for batch in storage.read_batches(uri, ["src_text", "tgt_id", "kept"]):
            some = batch.filter(batch.column("kept"))
            src.append(text_numbers(some.column("src_text")))
            tgt.append(recording_numbers(some.column("tgt_id")))
    return np.concatenate(src), np.concatenate(tgt)


def _here(src: Any, tgt: Any) -> int:
    return len(np.unique(Graph.of(src, tgt).component))


def _scipy(src: Any, tgt: Any) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers, place = np.unique(np.concatenate([src, tgt]), return_inverse=True)
    a, b = place.reshape(2, len(src))
    edges = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(numbers), len(numbers)))
    return int(connected_components(edges, directed=False)[0])


def _networkx(src: Any, tgt: Any) -> int:
    import networkx  # type: ignore[import-untyped]

    graph = networkx.Graph()
    graph.add_edges_from(zip(src.tolist(), tgt.tolist(), strict=True))
    return int(networkx.number_connected_components(graph))


_COMPONENTS = {"here": _here, "scipy": _scipy, "networkx": _networkx}


def _print_components(run: str, pairs: int) -> None:
    print("\n| components by | processor s | peak MiB | found |")
    print("|---|---|---|---|")
    ways = PEERS if pairs <= _MOST_OF_NETWORKX else PEERS[:-1]
    found = by_turns(ways, 1, _found, run)
    for way, (done,) in found.items():
        print(f"| {way} | {done.parts['processor']:.1f} | {done.peak_mib:,.0f} | {done.result:,} |", flush=True)
    if len({done.result for (done,) in found.values()}) > 1:
        raise SystemExit("they are not the same")


# From start to end


def _print_export(run: str, folder: str) -> None:
    command = [sys.executable, "-m", "seamlessalign", "export", run, "--splits", SPLITS]
    whole, parts = Path(folder, "whole"), Path(folder, "parts")
    used = os.times()
    subprocess.run([*command, "--to", str(whole)], check=True)
    spent = os.times()
    seconds = spent.children_user + spent.children_system - used.children_user - used.children_system
    kills = 0
    for share in (0.0, 0.2, 0.7):
        process = subprocess.Popen([*command, "--to", str(parts)])
        wanted = round(share * len(list(whole.glob("*/*/*.parquet"))))
        while process.poll() is None and not _has_come(parts / "state", wanted):
            time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run([*command, "--to", str(parts)], check=True)
    if (written := _sha256(whole)) != _sha256(parts):
        raise SystemExit("what was killed and gone on with is not the same bytes")
    print(
        f"\n{len(written):,} files in {seconds:,.0f} processor s; killed {kills} times and gone on with: the same bytes"
    )
    shutil.rmtree(whole)


def _has_come(state: Path, shards: int) -> bool:
    if not shards:
        return any((state / "plan").glob("*.parquet"))  # while it is planned
    return sum(1 for _ in (state / "done").rglob("*.json")) >= shards


def _sha256(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
