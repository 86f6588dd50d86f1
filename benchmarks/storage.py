"""Embeddings on disk: what each layout of a Parquet file takes, and how much memory rows take that are read one by one.

    python -m benchmarks.storage --cache .cache --rows 1000000

Layouts are written to and read from memory, on one thread, of rows of E5 (those that `benchmarks.calibration` keeps in
the cache) and of rows of noise: size as a share of the bare numbers, and megabytes a second. Then so many rows of
noise, 1024 dimensions, are written as a run writes them, laid out by `map_embeddings`, taken out of the system's cache,
and read in random order. Each step is a process of its own; printed are its seconds and its most resident memory,
mapped pages included. The folder is removed.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.embedding_files import map_embeddings, open_rows

Half = npt.NDArray[np.float16]

DIM = 1024
PART = 50_000  # rows of a file
READS = (1000, 10_000)
SPLIT = {"embedding.list.element": "BYTE_STREAM_SPLIT"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "zstd and a dictionary": {"compression": "zstd"},
    "zstd": {"compression": "zstd", "use_dictionary": False},
    "plain": {"compression": "none", "use_dictionary": False},
    "bytes split, zstd": {"compression": "zstd", "use_dictionary": False, "column_encoding": SPLIT},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where embeddings are kept")
    parser.add_argument("--rows", type=int, default=100_000, help="rows that are laid out and read")
    options = parser.parse_args(arguments)
    kept = [np.load(file, allow_pickle=False) for file in sorted((options.cache / "calibration").glob("*.npy"))[:8]]
    print("| rows | layout | share of size | written, MB/s | read, MB/s |\n|---|---|---|---|---|")
    for rows in ([np.concatenate(kept).astype(np.float16)] if kept else []) + [noise(10_000, 0)]:
        for name, layout in LAYOUTS.items():
            print(f"| {len(rows):,} × {rows.shape[1]} | {name} | {layout_line(rows, layout)} |", flush=True)
    print(f"\n{options.rows:,} × {DIM} rows, {options.rows * DIM * 2 / 1e9:.1f} GB")
    with tempfile.TemporaryDirectory(dir=options.cache, prefix="rows-") as folder:
        for step, name in (
            (write, "written"),
            (lay_out, "laid out"),
            (forget, "taken out of the cache"),
            (read, "read"),
        ):
            told, seconds, peak = alone(step, Path(folder), options.rows)
            print(f"{name}: {seconds:.2f} s, {peak:.0f} MiB at the most{told}", flush=True)


def noise(count: int, seed: int) -> Half:
    """Rows of unit length in no direction."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


def table_of(rows: Half) -> pa.Table:
    """A table of nothing but embeddings."""
    return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])})


def layout_line(rows: Half, layout: dict[str, Any], rounds: int = 3) -> str:
    """Share of size, and megabytes a second written and read: the best of some rounds."""
    table, written, back = table_of(rows), [], []
    for _ in range(rounds):
        sink, begun = pa.BufferOutputStream(), time.perf_counter()
        pq.write_table(table, sink, **layout)
        written.append(time.perf_counter() - begun)
        data, begun = sink.getvalue(), time.perf_counter()
        found = pq.read_table(pa.BufferReader(data), use_threads=False)
        back.append(time.perf_counter() - begun)
    assert np.array_equal(storage.embeddings_of(found), rows)
    size = rows.nbytes / 1e6
    return f"{data.size / rows.nbytes:.2f} | {size / min(written):.0f} | {size / min(back):.0f}"


def write(folder: Path, count: int) -> str:
    """Parts as a run writes them."""
    parts = [min(PART, count - begin) for begin in range(0, count, PART)]
    size = sum(storage.write_table(f"{folder}/{at:05}.parquet", table_of(noise(n, at))) for at, n in enumerate(parts))
    return f"; {size / 1e9:.2f} GB"


def lay_out(folder: Path, count: int) -> str:
    """One file of them all."""
    rows = map_embeddings(storage.list_files(str(folder), ".parquet"), folder / "rows.npy")
    return f"; {len(rows):,} rows" if len(rows) == count else "; not all rows"


def forget(folder: Path, _: int) -> str:
    """Have the system drop the pages of the file."""
    handle = os.open(folder / "rows.npy", os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    return ""


def read(folder: Path, _: int) -> str:
    """Rows at random, some and then more."""
    begun = time.perf_counter()
    rows, told = open_rows(folder / "rows.npy"), ""
    told += f"; opened {time.perf_counter() - begun:.3f} s, {peak_mib():.0f} MiB"
    for count in READS:
        chosen, begun = np.random.default_rng(count).integers(0, len(rows), count), time.perf_counter()
        total = rows[chosen].nbytes
        told += f"; {count:,} rows ({total / 2**20:.0f} MiB) {time.perf_counter() - begun:.2f} s, {peak_mib():.0f} MiB"
    return told


def alone(step: Callable[[Path, int], str], folder: Path, count: int) -> tuple[str, float, float]:
    """What a step says, its seconds and its peak in MiB, done in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (step, folder, count))


def _timed(step: Callable[[Path, int], str], folder: Path, count: int) -> tuple[str, float, float]:
    begun = time.perf_counter()
    told = step(folder, count)
    return told, time.perf_counter() - begun, peak_mib()


def peak_mib() -> float:
    """The most resident memory that this process has had, mapped pages included."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
