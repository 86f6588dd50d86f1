"""How fast published metadata is read: its lines joined into pairs beside pandas, WET files beside warcio.

    python -m benchmarks.published_lines [--pairs 500000] [--records 20000]

Lines are made, two for each pair, shuffled over the whole file. pandas reads them into memory, splits the addresses,
and merges the two halves; it does not judge a line. Of a WET file every hundredth record is wanted: warcio's iterator
finds them by their digests, as the reader here does; both read to the end. Seconds are those of the processor.
"""

import argparse
import gzip
import io
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seamlessalign.pipelines.published.common_crawl import records
from seamlessalign.pipelines.published.pairing import pair_up
from tests.pipelines.published.made_metadata import Document, write_wet

_NAMES = ("cc_warc", "cc_sha", "place", "cc_lineno", "paragraph", "sentence", "lid", "score", "direction", "side",
          "line_no")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, measure, print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--records", type=int, default=20_000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tsv = folder / "lines.tsv.gz"
        _make_lines(tsv, given.pairs)
        rows = {"pandas": _measured(_pandas, tsv), "here": _measured(_here, tsv)}
        print(f"\n{2 * given.pairs:,} lines in any order, {tsv.stat().st_size / 1e6:.0f} MB packed\n")
        print("| | pairs | core s | lines a second and core | peak GB |\n|---|---|---|---|---|")
        for kind, (count, seconds, peak) in rows.items():
            print(f"| {kind} | {count:,} | {seconds:.1f} | {2 * given.pairs / seconds:,.0f} | {peak:.2f} |")
        print(f"\nhere / pandas: {rows['here'][1] / rows['pandas'][1]:.2f} of its time")
        wet = folder / "made.warc.wet.gz"
        digests = _make_wet(wet, given.records)
        wanted = frozenset(digests[::100])
        found = {kind: _measured(read, (wet, wanted)) for kind, read in (("warcio", _warcio), ("here", _records))}
        size = wet.stat().st_size
        print(f"\na WET file of {given.records:,} records, {size / 1e6:.0f} MB packed, {len(wanted)} of them wanted\n")
        print("| | found | core s | MB a second and core |\n|---|---|---|---|")
        for kind, (count, seconds, _) in found.items():
            print(f"| {kind} | {count} | {seconds:.2f} | {size / 1e6 / seconds:.0f} |")
        print(f"\nhere / warcio: {found['here'][1] / found['warcio'][1]:.2f} of its time")


def _measured(work: Callable[[Any], int], argument: Any) -> tuple[int, float, float]:
    """What a process of its own gives, its seconds of processor and its peak of memory in GB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (work, argument))


def _timed(work: Callable[[Any], int], argument: Any) -> tuple[int, float, float]:
    work_of_import = time.process_time()
    result = work(argument)
    return result, time.process_time() - work_of_import, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _pandas(tsv: Path) -> int:
    import pandas  # type: ignore[import-untyped]

    table = pandas.read_csv(tsv, sep="\t", header=None, names=list(_NAMES), dtype={"place": str}, quoting=3)
    speech = table[table.side == "frA"]
    places = speech.place.str.rsplit(" ", n=2, expand=True)
    speech = speech.assign(url=places[0], start=places[1].astype("int64"), end=places[2].astype("int64"))
    return len(table[table.side == "eng"].merge(speech, on=["direction", "line_no"]))


def _here(tsv: Path) -> int:
    return pair_up([str(tsv)], f"{tsv}.pairs", f"{tsv}.aside").pairs


def _warcio(given: tuple[Path, frozenset[str]]) -> int:
    from warcio.archiveiterator import ArchiveIterator

    found = 0
    with given[0].open("rb") as file:
        for record in ArchiveIterator(file):
            if record.rec_headers.get_header("WARC-Block-Digest") in given[1]:
                found += bool(record.raw_stream.read())
    return found


def _records(given: tuple[Path, frozenset[str]]) -> int:
    with given[0].open("rb") as file:
        return sum(bool(content) for _, content in records(file, lambda h: h.get("warc-block-digest") in given[1]))


def _make_lines(tsv: Path, pairs: int) -> None:
    draws = random.Random(0)
    order = [(number, side) for number in range(pairs) for side in ("eng", "frA")]
    draws.shuffle(order)
    with gzip.open(tsv, "wt", compresslevel=1) as file:
        for number, side in order:
            score = f"{1.06 + (number * 7919 % 10007) / 30_000:.7f}\teng-frA\t{side}\t{number}\n"
            if side == "frA":
                place = (
                    f"https://archive.example/{number % 9973}/{number % 13}.mp3 {number * 16} {number * 16 + 48_000}"
                )
                file.write(f"CC-MAIN-2022-21:{number % 64_000}\t\t{place}\t\t378.576\t0\t0.0\t{score}")
            else:
                wet = f"crawl-data/CC-MAIN-2021-43/segments/{number % 100}/wet/{number % 640}.warc.wet.gz"
                digests = f"{number * 0x9E3779B97F4A7C15 % 2**64}\t{number * 0xD6E8FEB86659FD93 % 2**64}"
                page = f"https://pages.example/{number}"
                file.write(f"{wet}\tsha1:{number:032}\t{page}\t{number % 90}\t{digests}\t0.995\t{score}")


def _make_wet(wet: Path, count: int) -> list[str]:
    draws = random.Random(1)
    words = [f"{draws.getrandbits(40):x}"[: draws.randint(2, 9)] for _ in range(5000)]
    documents = []
    for number in range(count):
        text = io.StringIO()
        for _ in range(draws.randint(5, 60)):
            text.write(" ".join(draws.choices(words, k=12)) + "\n")
        documents.append(Document(f"https://pages.example/{number}", text.getvalue()))
    return write_wet(wet, documents)


if __name__ == "__main__":
    main()
