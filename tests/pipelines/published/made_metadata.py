"""Published metadata as it might be, with everything that it leads to: WET files, recordings, and a server of them.

WET files are written by warcio, recordings by soundfile, and the columns by hand, so that nothing here shares code with
what reads them.
"""

import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import soundfile
import xxhash
from warcio.warcwriter import WARCWriter

from tests.ground.loopback import send_file, serving

WET = (
    "crawl-data/CC-MAIN-2021-43/segments/1634323585{0:03}.32/wet/"
    "CC-MAIN-20211021071407-20211021101407-{0:05}.warc.wet.gz"
)
SOUND_FORMATS = ("wav", "flac", "ogg", "mp3")
RATES = (16_000, 44_100, 22_050, 48_000)
_TEXT = "the rain fell on old roofs while nine trains left a quiet town and nobody asked where they went"
WORDS = _TEXT.split()


def digest(text: str) -> int:
    """xxh3-64 of UTF-8."""
    return xxhash.xxh3_64_intdigest(text.encode())


@dataclass(frozen=True)
class Document:
    """A page as a WET file has it."""

    url: str
    text: str


def packed_wet(documents: Sequence[Document]) -> tuple[bytes, list[str]]:
    """A WET file, a member of gzip for each record, and the digests of the documents' blocks, `sha1:…`."""
    digests, file = [], io.BytesIO()
    writer = WARCWriter(file, gzip=True)
    writer.write_record(writer.create_warcinfo_record("wet", {"software": "made for a test"}))
    for document in documents:
        body = io.BytesIO(document.text.encode())
        record = writer.create_warc_record(document.url, "conversion", body, warc_content_type="text/plain")
        writer.write_record(record)
        digests.append(record.rec_headers.get_header("WARC-Block-Digest"))
    return file.getvalue(), digests


def write_wet(path: Path, documents: Sequence[Document]) -> list[str]:
    """Write a WET file; returns the digests of the documents' blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data, digests = packed_wet(documents)
    path.write_bytes(data)
    return digests


@dataclass
class MadeMetadata:
    """Metadata and what it leads to."""

    tsv: Path  # in SeamlessAlign's form
    folder: Path  # what the server serves
    texts: dict[int, str] = field(default_factory=dict)  # by line_no
    spans: dict[int, tuple[str, int, int]] = field(default_factory=dict)  # address and frames, by line_no
    recordings: dict[str, float] = field(default_factory=dict)  # seconds by address
    wet_files: list[str] = field(default_factory=list)


def make_metadata(
    folder: Path,
    base: str,
    *,
    pairs: int,
    recordings: int = 8,
    wet_files: int = 4,
    seconds: float = 30.0,
    direction: str = "eng-frA",
    formats: Sequence[str] = SOUND_FORMATS,
    seed: int = 0,
) -> MadeMetadata:
    """Metadata of so many pairs of English text and French speech, two lines each, those of a pair together.

    Recordings are at `<base>/audio/NNNN.<format>`, sweeps that tell of a place by its pitch; texts are in WET files
    below `<folder>/crawl-data`, ten sentences to a line of a record, and ten lines to a record.
    """
    random = np.random.default_rng(seed)
    text_side, audio_side = direction.split("-")
    made = MadeMetadata(folder.parent / f"seamless.dataset.metadata.public.{direction}.tsv.gz", folder)
    addresses = _recordings(folder / "audio", base, recordings, seconds, formats, made)
    texts = _texts(folder, pairs, wet_files, made)
    rows: list[tuple[str, str]] = []
    for line_no in range(pairs):
        address = addresses[line_no % len(addresses)]
        length = int(made.recordings[address] * 16_000)
        start = int(random.integers(0, max(1, length - 48_000)))
        end = min(length, start + int(random.integers(16_000, 48_000)))
        score = f"{random.uniform(1.06, 1.5):.7f}"
        made.spans[line_no] = (address, start, end)
        duration = f"{made.recordings[address]:.3f}"
        common = f"{score}\t{direction}"
        rows.append(
            (
                f"{texts[line_no]}\t0.99567\t{common}\t{text_side}\t{line_no}\n",
                f"CC-MAIN-2022-21:{line_no % 64000}\t\t{address} {start} {end}\t\t{duration}\t0\t0.0\t{common}\t"
                f"{audio_side}\t{line_no}\n",
            )
        )
    order = random.permutation(pairs)
    with gzip.open(made.tsv, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(line for number in order for line in rows[number])
    return made


def _recordings(
    folder: Path, base: str, count: int, seconds: float, formats: Sequence[str], made: MadeMetadata
) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    addresses = []
    for number in range(count):
        kind, rate = formats[number % len(formats)], RATES[number % len(RATES)]
        samples = int(seconds * rate)
        at = np.arange(samples) / rate
        wave = 0.3 * np.sin(2 * np.pi * (200 + 5 * number + (900 / seconds) * at / 2) * at)
        soundfile.write(folder / f"{number:04}.{kind}", wave.astype(np.float32), rate, format=kind.upper())
        address = f"{base}/audio/{number:04}.{kind}"
        made.recordings[address] = seconds
        addresses.append(address)
    return addresses


def _texts(folder: Path, pairs: int, wet_files: int, made: MadeMetadata) -> list[str]:
    """The first six columns of each text's line."""
    columns = [""] * pairs
    per_file = -(-pairs // wet_files)
    for number in range(wet_files):
        mine = list(range(number * per_file, min(pairs, (number + 1) * per_file)))
        if not mine:
            break
        name = WET.format(number)
        made.wet_files.append(name)
        documents: list[Document] = []
        places: list[tuple[int, int, int]] = []
        for begin in range(0, len(mine), 100):
            lines: list[str] = []
            for first in range(begin, min(begin + 100, len(mine)), 10):
                sentences = []
                for line_no in mine[first : min(first + 10, begin + 100)]:
                    word = WORDS[line_no % len(WORDS)].capitalize()
                    sentence = f"{word} {' '.join(WORDS[: 3 + line_no % 9])} {line_no}."
                    made.texts[line_no] = sentence
                    sentences.append(sentence)
                    places.append((line_no, len(documents), len(lines)))
                lines.append(" ".join(sentences))
            shown = "\n\n".join(f"  {line} " for line in lines)  # blank lines do not count
            documents.append(Document(f"https://pages.example/{number}/{len(documents)}", shown))
        digests = write_wet(folder / name, documents)
        for line_no, document, line in places:
            paragraph = [one.strip() for one in documents[document].text.split("\n") if one.strip()][line]
            columns[line_no] = (
                f"{name}\t{digests[document]}\t{documents[document].url}\t{line}\t{digest(paragraph)}\t"
                f"{digest(made.texts[line_no])}"
            )
    return columns


# --- a server of a folder


@dataclass
class Served:
    """A server that runs, and what it was asked for."""

    base: str
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range


@contextmanager
def serving_folder(folder: Path, fault: Callable[[Any, str], bool] | None = None) -> Iterator[Served]:
    """Serve the files of a folder, parts of them too; `fault(handler, path)` may answer in its own way: then True."""
    served = Served("")

    def answer(handler: Any) -> None:
        path = unquote(handler.path).lstrip("/")
        served.asked.append((path, handler.headers.get("Range", "")))
        if fault is not None and fault(handler, path):
            return
        file = folder / path
        if file.is_file():
            send_file(handler, file.read_bytes())
        else:
            handler.send_error(404)

    with serving(answer) as server:
        served.base = f"http://127.0.0.1:{server.server_port}"
        yield served
