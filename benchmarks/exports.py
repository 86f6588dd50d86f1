"""Exports: hours of audio that a core writes and reads in an hour, in each format, beside the package datasets.

    python -m benchmarks.exports --run runs/demo/run --hours 5

The corpus of a run is repeated, under other ids, until it has that many hours of FLAC, in parts of 2,000 pairs. Each
format then writes it, copied; and less of it encoded: Opus from FLAC, FLAC from Opus. After that a loader of torch
reads what was copied, in order and shuffled, and decodes every clip; the peer is datasets on Parquet files that it
wrote itself of the same rows. Every measurement is a process of its own, by turns. Figures are of processor seconds,
which other work on the machine blurs less. Peak memory is, for writing, beside what the process had before, and for
reading that of the whole process with its packages.
"""

import argparse
import csv
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import soundfile

from benchmarks.measured import Clock, Measured, by_turns, measure, resident
from seamlessalign import storage
from seamlessalign.pipelines.corpus_stage import PAIRS_PER_SHARD, ROW_GROUP
from seamlessalign.pipelines.exports.clips import SIDES, AudioFormat
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target
from seamlessalign.pipelines.folder import RunFolder, shard_name
from seamlessalign.rows import SAMPLE_RATE

PEER = "datasets on its own Parquet"
KINDS: dict[str, tuple[str, AudioFormat | None]] = {  # what is written: the corpus it is made of, the audio asked for
    "FLAC copied": ("flac", None),
    "Opus from FLAC": ("few-flac", "opus"),
    "FLAC from Opus": ("few-opus", "flac"),
}
_SHUFFLED = 1000  # pairs among which streams are shuffled


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--run", required=True, help="whose corpus is repeated; its audio must be FLAC")
    parser.add_argument("--hours", type=float, default=5.0, help="of audio that are copied and read")
    parser.add_argument("--encoded-hours", type=float, default=0.1, help="of audio that are encoded anew")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="exports-") as folder:
        make_corpus(options.run, f"{folder}/flac", options.hours)
        make_corpus(options.run, f"{folder}/few-flac", options.encoded_hours)
        write("parquet", folder, "few-opus", "few-flac", "opus")
        _print_writing(folder, options.rounds)
        for name in FORMATS:
            write(name, folder, name, "flac", None)
        write_peer(folder)
        _print_reading(folder, options.rounds)


def make_corpus(run: str, root: str, hours: float) -> None:
    """The corpus of a run, again and again under new ids, until it has so many hours."""
    tables: dict[str, list[pa.Table]] = {}
    for uri in storage.list_files(RunFolder(run).table("corpus"), ".parquet"):
        tables.setdefault(uri.rsplit("/", 2)[-2].removeprefix("direction="), []).append(storage.read_table(uri))
    numbers, left = count(), hours * 3600 * SAMPLE_RATE
    parts: dict[str, list[pa.Table]] = {name: [] for name in tables}
    while left > 0:
        for name, copies in tables.items():
            for table in copies:
                if left > 0:
                    ids = [f"{next(numbers):016x}" for _ in range(len(table))]
                    parts[name].append(table.set_column(0, table.schema.field(0), pa.array(ids)))
                    left -= _samples(table)
    for name, made in parts.items():
        if not made:
            continue
        whole = pa.concat_tables(made)
        for number in range(-(-len(whole) // PAIRS_PER_SHARD)):
            part = whole.slice(number * PAIRS_PER_SHARD, PAIRS_PER_SHARD)
            storage.write_table(f"{root}/{name}/{shard_name(number)}.parquet", part, row_group_size=ROW_GROUP)


def _samples(pairs: pa.Table) -> int:
    rows = pairs.select([f"{side}_{end}" for side in SIDES for end in ("start", "end")]).to_pylist()
    return sum((row[f"{side}_end"] or 0) - (row[f"{side}_start"] or 0) for row in rows for side in SIDES)


# Writing


def write(name: str, folder: str, to: str, corpus: str, audio: AudioFormat | None) -> float:
    """Write a corpus in a format; its hours. Speech with speech is not in Meta's, which needs transcripts."""
    target = Target(f"{folder}/{to}", audio)
    written = []
    for uri in storage.list_files(f"{folder}/{corpus}", ".parquet"):
        direction, part = uri.rsplit("/", 2)[-2:]
        shard = Shard(direction, int(part.removesuffix(".parquet").rsplit("-", 1)[-1]))
        with FORMATS[name].writer(target, shard, {}) as writer:
            for batch in storage.read_batches(uri, None, ROW_GROUP):
                writer.add(pa.Table.from_batches([batch]))
        written.append(writer.written)
    FORMATS[name].finish(target, written)
    return sum(one.samples for one in written) / SAMPLE_RATE / 3600


def _written(name: str, folder: str, kind: str) -> Measured:
    import lhotse  # noqa: F401  opening it takes as long as writing an hour

    with tempfile.TemporaryDirectory(dir=folder) as to:
        return _timed(lambda: write(name, folder, Path(to).name, *KINDS[kind]))


def _timed(work: Callable[[], Any]) -> Measured:
    before = time.process_time()
    measured = measure(work, Clock())
    return replace(measured, parts={"processor": time.process_time() - before})


def _print_writing(folder: str, rounds: int) -> None:
    print("| format | " + " | ".join(f"{kind}, h per core-hour | peak MiB" for kind in KINDS) + " |")
    print("|---|" + "---|---|" * len(KINDS))
    runs = {kind: by_turns(FORMATS, rounds if kind == "FLAC copied" else 1, _written, folder, kind) for kind in KINDS}
    for name in FORMATS:
        cells = []
        for kind in KINDS:
            done = runs[kind][name]
            peak = statistics.median(run.peak_mib for run in done)
            cells.append(f"{_speed(done):,.0f} | {peak:.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _speed(done: Sequence[Measured]) -> float:
    """Hours of audio for each hour of a core."""
    return statistics.median(float(run.result) * 3600 / run.parts["processor"] for run in done)


# Reading


def write_peer(folder: str) -> None:
    """The same rows as datasets writes them, in one file for each of ours."""
    import datasets

    datasets.disable_progress_bars()
    for number, uri in enumerate(storage.list_files(f"{folder}/flac", ".parquet")):
        rows = datasets.Dataset(storage.read_table(uri))
        for side in SIDES:
            rows = rows.cast_column(f"{side}_audio", datasets.Audio(sampling_rate=SAMPLE_RATE))
        Path(folder, "peer").mkdir(exist_ok=True)
        rows.to_parquet(f"{folder}/peer/{number:05}.parquet")


def _read(name: str, folder: str, shuffled: bool) -> Measured:
    """Read everything through a loader, opening included; the result has hours of audio."""
    from torch.utils.data import DataLoader, IterableDataset

    class _Rows(IterableDataset[int]):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            return WAYS[name](folder, shuffled)

    next(WAYS[name](folder, False))  # packages are there, and have decoded something
    measured = _timed(lambda: sum(DataLoader(_Rows(), batch_size=None)))
    return replace(measured, result=measured.result / SAMPLE_RATE / 3600, peak_mib=resident("VmHWM"))


def _print_reading(folder: str, rounds: int) -> None:
    print("\n| read | in order, h per core-hour | beside the peer | shuffled | beside the peer | peak MiB, both |")
    print("|---|---|---|---|---|---|")
    runs = [by_turns(WAYS, rounds, _read, folder, shuffled) for shuffled in (False, True)]
    for name in WAYS:
        cells, peaks = [], []
        for by_name in runs:
            speed = _speed(by_name[name])
            cells.append(f"{speed:,.0f} | {speed / _speed(by_name[PEER]):.2f} ×")
            peaks.append(f"{statistics.median(run.peak_mib for run in by_name[name]):.0f}")
        print(f"| {name} | {' | '.join(cells)} | {', '.join(peaks)} |", flush=True)


def _by_datasets(place: str, folder: str, shuffled: bool) -> Iterator[int]:
    import datasets

    files = sorted(str(file) for file in Path(folder, place).rglob("*.parquet"))
    rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    for row in rows.shuffle(seed=0, buffer_size=_SHUFFLED) if shuffled else rows:
        yield sum(_heard(row[f"{side}_audio"]) for side in SIDES)


def _heard(audio: Any) -> int:
    return 0 if audio is None else int(audio.get_all_samples().data.shape[1])


def _by_webdataset(decoder: str, folder: str, shuffled: bool) -> Iterator[int]:
    from webdataset import WebDataset, torch_audio

    tars = sorted(str(file) for file in Path(folder, "webdataset").rglob("*.tar"))
    rows = WebDataset(tars, shardshuffle=len(tars) if shuffled else False, seed=0)
    rows = (rows.shuffle(_SHUFFLED) if shuffled else rows).decode(torch_audio if decoder == "torch_audio" else _sound)
    for row in rows:
        yield sum(clip[0].shape[-1] for name, clip in row.items() if name.endswith(".flac"))


def _sound(name: str, data: bytes) -> Any:
    return soundfile.read(io.BytesIO(data), dtype="float32") if name.endswith(".flac") else None


def _by_lhotse(name: str, folder: str, shuffled: bool) -> Iterator[int]:
    from lhotse import CutSet

    places = sorted(place for place in Path(folder, name).iterdir() if place.name != "state")
    if name == "lhotse":
        cuts = CutSet.from_files([place / "cuts.jsonl.gz" for place in places])
    else:
        made = (CutSet.from_shar(in_dir=place, shuffle_shards=shuffled) for place in places)
        cuts = next(made)
        for more in made:
            cuts = cuts + more
    for cut in cuts.shuffle(buffer_size=_SHUFFLED) if shuffled else cuts:
        loaded = cut.load_audio().shape[1]
        yield loaded + (cut.load_target_recording().shape[1] if cut.has_custom("target_recording") else 0)


def _by_table(folder: str, shuffled: bool) -> Iterator[int]:
    with Path(folder, "folder", "corpus.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = ([Path(folder, "folder", name) for side in SIDES if (name := row[f"{side}_file_name"])] for row in rows)
    for clips in _mixed(list(names), shuffled):
        yield sum(len(soundfile.read(clip, dtype="float32")[0]) for clip in clips)


def _by_manifest(folder: str, shuffled: bool) -> Iterator[int]:
    import torchaudio

    with Path(folder, "meta-jsonl", "manifest.json").open() as file:
        rows = [json.loads(line) for line in file]
    for row in _mixed(rows, shuffled):
        clips = [torchaudio.load(row[way]["audio_local_path"])[0] for way in ("source", "target") if _spoken(row[way])]
        yield sum(clip.shape[1] for clip in clips)


def _spoken(sample: dict[str, Any]) -> bool:
    return sample["audio_local_path"] is not None


def _mixed(rows: list[Any], shuffled: bool) -> list[Any]:
    import numpy as np

    return [rows[number] for number in np.random.default_rng(0).permutation(len(rows))] if shuffled else rows


# by name: yields the samples of each pair, once they are decoded
WAYS: dict[str, Callable[[str, bool], Iterator[int]]] = {
    PEER: partial(_by_datasets, "peer"),
    "parquet, by datasets": partial(_by_datasets, "parquet"),
    "webdataset, by webdataset and torch_audio": partial(_by_webdataset, "torch_audio"),
    "webdataset, by webdataset and soundfile": partial(_by_webdataset, "soundfile"),
    "lhotse, by lhotse": partial(_by_lhotse, "lhotse"),
    "lhotse-shar, by lhotse": partial(_by_lhotse, "lhotse-shar"),
    "folder, by csv and soundfile": _by_table,
    "meta-jsonl, by json and torchaudio": _by_manifest,
}


if __name__ == "__main__":
    main()
