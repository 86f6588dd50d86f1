"""Reading a corpus to learn from, beside the package datasets: rows and frames a second, and what is padding.

    python -m benchmarks.training_data

A corpus as runs write it is made first: FLAC of a few seconds in Parquet, in row groups of 100 rows. Then each way
reads all of it once, in a process of its own, by turns. Ours takes the batches of an epoch, which are shuffled among 64
MB of row groups and of like length, or row groups in order; datasets loads the same files as they come (streaming;
shuffled among 1000 rows, half as much again) or by their numbers (after it has copied them to its cache, which is part
of opening). Sound is decoded by the same function in all of them, and without decoding the same again says what reading
alone takes. Figures are of processor seconds, which other work on the machine blurs less, then of wall seconds; peak
memory is beside what the process had before.

At the end: how much of batches is padding, with rows of like length together and without, and what the plan of an
epoch takes for many more rows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measured import Clock, Measured, by_turns, measure
from seamlessalign.audio import encode
from seamlessalign.embedders.sonar.features import num_inputs
from seamlessalign.rows import CORPUS, SAMPLE_RATE, pair_id
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.data.batches import Reader
from seamlessalign.training.data.epochs import plan_epoch
from seamlessalign.training.data.index import GROUP, ROW, RowIndex, make_index
from seamlessalign.training.data.limits import OFFERS, Items
from seamlessalign.training.data.mixing import Mixture, each_once
from seamlessalign.training.data.settings import BatchSettings, CorpusSource

OURS = ("ours, in order", "ours, batches of an epoch")
PEERS = (
    "datasets, streaming, in order",
    "datasets, streaming, shuffled",
    "datasets, by number, in order",
    "datasets, by number, shuffled",
)
_BUFFER = 1000  # rows that datasets shuffles among when it streams
_WINDOW = BatchSettings(window_mb=64)  # about two thirds of that
_GROUP = 100  # rows of a row group
_LANGUAGES = ("fra", "eng")


class _Letters:
    """Cuts texts into letters: what a vocabulary costs is not measured here."""

    digest = "letters"

    def pieces(self, text: str, lang: str | None = None) -> list[int]:
        return [ord(letter) for letter in text]


def main(arguments: list[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="reading of a corpus to learn from, beside the package datasets")
    parser.add_argument("--rows", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--planned", type=int, default=1_000_000, help="rows of the plan of an epoch that is timed")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        size = write_corpus(Path(folder, "corpus"), options.rows)
        print(f"{options.rows} rows of speech, {size / 1e6:.0f} MB of FLAC; medians of {options.rounds}, one thread")
        for decoding in (True, False):
            runs = by_turns((*OURS, *PEERS), options.rounds, read, folder, decoding)
            _print(runs, decoding, options.rows)
        _print_padding(folder)
    _print_plan(options.planned)


def write_corpus(place: Path, rows: int) -> int:
    """French speech with English text, in four files; how many bytes of sound it has."""
    rng = np.random.default_rng(0)
    lengths = (np.exp(rng.normal(1.4, 0.6, rows)).clip(0.5, 30) * SAMPLE_RATE).astype(int)
    base = _voice(rng)
    place.mkdir()
    size, files = 0, 4
    for file in range(files):
        values = []
        for number in range(file, rows, files):
            start, length = int(rng.integers(len(base) - lengths[number])), int(lengths[number])
            sound = encode(base[start : start + length], "flac")
            size += len(sound)
            row: dict[str, Any] = dict.fromkeys(CORPUS.names)
            row |= {"pair_id": pair_id(str(number), str(number)), "direction": "frA-eng", "margin": 1.2}
            row |= {"src_lang": "fra", "tgt_lang": "eng", "src_id": str(number), "tgt_id": str(number)}
            row |= {"src_audio": {"bytes": sound, "path": f"{number}.flac"}, "tgt_text": "a " * (length // 6400 + 1)}
            values.append(row | {"src_start": start, "src_end": start + length})
        pq.write_table(pa.Table.from_pylist(values, CORPUS), place / f"part-{file:05}.parquet", row_group_size=_GROUP)
    return size


def _voice(rng: np.random.Generator) -> Any:
    """Two minutes of noise that swells and falls like syllables, coloured, so that FLAC has as much to do as usual."""
    count = 120 * SAMPLE_RATE
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)) / count * SAMPLE_RATE, 200)
    noise = np.fft.irfft(spectrum, count)
    swell = np.abs(np.sin(np.arange(count) / SAMPLE_RATE * 2 * np.pi * 2)) + 0.01
    return np.asarray(0.2 * noise / np.abs(noise).max() * swell, np.float32)


def read(name: str, folder: str, decoding: bool) -> Measured:
    """Read the corpus once in one way; `result` has its rows and frames."""
    begun = time.process_time(), time.monotonic()
    rows = _ways(folder)[name]()
    next(rows)  # it is open, and has read what it wants to know first
    opened = time.process_time() - begun[0], time.monotonic() - begun[1]

    def work() -> tuple[int, int]:
        count = frames = 0
        for content in rows:
            count += 1
            if decoding:
                frames += num_inputs(len(load_sound(Sound(content=content), "", "a row")))
        return count, frames

    before = time.process_time()
    measured = measure(work, Clock())
    parts = {"processor": time.process_time() - before, "opening": opened[0], "opening, wall": opened[1]}
    return replace(measured, parts=parts)


def _ways(folder: str) -> dict[str, Callable[[], Iterator[bytes]]]:
    """Ways to read: each yields nothing once it is open, then the sound of every row."""
    return {
        OURS[0]: lambda: _ours(folder, shuffled=False),
        OURS[1]: lambda: _ours(folder, shuffled=True),
        PEERS[0]: lambda: _streamed(folder, shuffled=False),
        PEERS[1]: lambda: _streamed(folder, shuffled=True),
        PEERS[2]: lambda: _by_number(folder, shuffled=False),
        PEERS[3]: lambda: _by_number(folder, shuffled=True),
    }


def _mixture(folder: str) -> tuple[Mixture, Reader]:
    settings = [CorpusSource(kind="corpus", path=f"{folder}/corpus", both_ways=False)]
    index, sources = make_index(settings, _Letters())
    rows = np.arange(len(index.rows), dtype=np.uint32)
    items = Items(index, rows, np.full(len(rows), OFFERS.index(("s2tt", 0)), np.uint8))
    reader = Reader(items, settings, sources, _WINDOW.window_mb * 1_250_000)
    return each_once(items), reader


def _ours(folder: str, shuffled: bool) -> Iterator[bytes]:
    mixture, reader = _mixture(folder)
    order = np.arange(len(mixture.items))
    if shuffled:
        order = plan_epoch(mixture, _WINDOW, 1.0, 0, 0).items
    yield b""
    for number in order.tolist():
        example, _ = reader.example(number)
        if example.src_sound is not None:
            yield example.src_sound.content


def _streamed(folder: str, shuffled: bool) -> Iterator[bytes]:
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(file) for file in Path(folder, "corpus").iterdir())
    data = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    data = data.cast_column("src_audio", datasets.Audio(decode=False)).select_columns(["src_audio", "tgt_text"])
    if shuffled:
        data = data.shuffle(seed=0, buffer_size=_BUFFER)
    yield b""
    for row in data:
        yield row["src_audio"]["bytes"]


def _by_number(folder: str, shuffled: bool) -> Iterator[bytes]:
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(file) for file in Path(folder, "corpus").iterdir())
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        data = data.cast_column("src_audio", datasets.Audio(decode=False)).select_columns(["src_audio", "tgt_text"])
        order = np.random.default_rng(0).permutation(len(data)) if shuffled else np.arange(len(data))
        yield b""
        for number in order.tolist():
            yield data[number]["src_audio"]["bytes"]


def _print(runs: dict[str, list[Measured]], decoding: bool, rows: int) -> None:
    print(f"\n{'read and decoded' if decoding else 'read alone'}")
    frames = " frames/s |" if decoding else ""
    print(f"| way | rows/s |{frames} rows/s, wall | peak MiB | opening s | beside it |")
    print(f"|---|---|{'---|' if decoding else ''}---|---|---|---|")

    def processor(name: str) -> float:
        return statistics.median(run.parts["processor"] for run in runs[name])

    for name, done in runs.items():
        counted, heard = done[0].result
        if counted != rows:
            raise SystemExit(f"{name} read {counted} rows of {rows}")
        wall = statistics.median(run.seconds for run in done)
        peak = statistics.median(run.peak_mib for run in done)
        opening = statistics.median(run.parts["opening, wall"] for run in done)
        twin = PEERS[0] if "order" in name else PEERS[1]
        speed = f" {heard / processor(name):,.0f} |" if decoding else ""
        ratio = processor(twin) / processor(name)
        print(
            f"| {name} | {rows / processor(name):,.0f} |{speed} {rows / wall:,.0f} | {peak:.0f} | {opening:.2f} "
            f"| {ratio:.2f} × {twin.partition(', ')[2]} |"
        )


def _print_padding(folder: str) -> None:
    mixture, _ = _mixture(folder)
    lengths = mixture.items.lengths()[:, 0]
    told = []
    for by_length in (True, False):
        plan = plan_epoch(mixture, BatchSettings(by_length=by_length), 1.0, 0, 0)
        padded = sum(len(rows := plan.items[plan.batch(i)]) * lengths[rows].max() for i in range(plan.num_batches))
        word = "like lengths together" if by_length else "as they come"
        told.append(f"{word} {100 * (1 - lengths.sum() / padded):.1f} % in {plan.num_batches} batches")
    print(f"\npadding of frames: {'; '.join(told)}")


def _print_plan(count: int) -> None:
    """What planning takes, of rows that are on no disk."""
    rng = np.random.default_rng(0)
    rows = np.zeros(count, ROW)
    rows["key"], rows["group"] = rng.integers(0, 2**63, count), np.arange(count) // _GROUP
    rows["seconds"][:, 0], rows["seconds"][:, 1] = np.exp(rng.normal(1.4, 0.6, count)).clip(0.5, 30), np.nan
    rows["subwords"], rows["lang"] = rng.integers(3, 60, (count, 2)), (0, 1)
    groups = np.zeros(-(-count // _GROUP), GROUP)
    groups["size"] = 100 * 150_000
    index = RowIndex(rows, groups, np.zeros(0, np.uint16), _LANGUAGES, [""])
    items = Items(index, np.arange(count, dtype=np.uint32), np.full(count, OFFERS.index(("s2tt", 0)), np.uint8))
    before = time.process_time()
    plan = plan_epoch(each_once(items), BatchSettings(), 1.0, 0, 0)
    kept = plan.items.nbytes + plan.times.nbytes + plan.starts.nbytes + plan.windows.nbytes
    print(
        f"plan of an epoch of {count:,} rows: {time.process_time() - before:.1f} processor s, {kept / count:.1f} bytes "
        f"a row; the index has {ROW.itemsize} bytes a row and {GROUP.itemsize} a row group, items 5 each"
    )


if __name__ == "__main__":
    main()
