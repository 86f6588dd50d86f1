"""Metadata of thousands of recordings on several hosts, with faults at stated rates, and what must become of each line.

Files are few, and addresses many: what is behind a `?` tells one from another. WET files are written by warcio, the
columns by hand, and what a span must hold is told by ffmpeg or by the samples that a file was made of.
"""

import gzip
import io
import random
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tests.pipelines.published.made_metadata import WET, WORDS, Document, digest, packed_wet

RATE = 16_000
SPEECH, TEXT = "enA-frA", "eng-deA"
# fault of the server → reason that is to be told; None: the file is had all the same
FAULTS: Mapping[str, str | None] = {
    "ok": None, "moved": None, "breaks": None, "noranges": None, "untagged": None, "badrange": None, "changes": None,
    "first500": None, "first503": None, "missing": "missing", "status403": "forbidden", "status500": "server_error",
    "html": "not_audio", "short": "truncated", "loop": "too_many_redirects", "private": "robots_disallowed",
}  # fmt: skip
ROBOTS = "User-agent: *\nDisallow: /private/\n"


@dataclass
class World:
    """Metadata, what servers have, and what must become of every line."""

    files: dict[str, bytes] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by file
    sounds: dict[str, npt.NDArray[np.int16]] = field(default_factory=dict)  # of files that lose nothing
    lines: list[str] = field(default_factory=list)
    expected: dict[tuple[str, int], str | None] = field(default_factory=dict)  # (direction, line_no) → reason
    spans: dict[tuple[str, int, str], tuple[str, int, int]] = field(default_factory=dict)  # and side → file, frames
    texts: dict[int, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # address → its fault

    def write(self, path: Path, seed: int = 0) -> None:
        """Write the metadata, the two lines of a pair one behind the other, pairs in any order."""
        order = list(range(len(self.lines) // 2))
        random.Random(seed).shuffle(order)
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
            for number in order:
                file.writelines(self.lines[2 * number : 2 * number + 2])

    def counts(self, direction: str) -> Counter[str | None]:
        """How many lines there must be of each reason."""
        return Counter(reason for (one, _), reason in self.expected.items() if one == direction)


def make_files(world: World, formats: Sequence[str], seconds: Sequence[float], seed: int = 0) -> None:
    """Recordings: noise with a tone, so that no two stretches are alike."""
    rng = np.random.default_rng(seed)
    for number, (kind, length) in enumerate(zip(formats, seconds, strict=True)):
        name = f"{number}.{kind}"
        samples = int(length * RATE)
        wave = 0.2 * np.sin(np.arange(samples) * (0.05 + number / 100)) + 0.02 * rng.standard_normal(samples)
        pcm = np.round(wave * 32767).astype(np.int16)
        world.files[name] = _encoded(pcm, kind)
        world.seconds[name] = samples / RATE
        if kind in ("wav", "flac"):
            world.sounds[name] = pcm


def _encoded(pcm: npt.NDArray[np.int16], kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind in ("m4a", "webm"):
        soundfile.write(buffer, pcm, RATE, format="WAV")
        command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", {"m4a": "ipod", "webm": "webm"}[kind]]
        command += ["-movflags", "+frag_keyframe+empty_moov"] if kind == "m4a" else ["-c:a", "libopus"]
        return subprocess.run([*command, "pipe:1"], input=buffer.getvalue(), capture_output=True, check=True).stdout
    subtype = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}[kind]
    container = {"opus": "OGG"}.get(kind, kind.upper())
    soundfile.write(buffer, pcm, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def make_pairs(
    world: World,
    bases: Sequence[str],
    *,
    urls: int,
    pairs: int,
    shares: Mapping[str, float],
    wrong_duration: float = 0.0,
    outside: float = 0.0,
    wet_files: int = 4,
    lost_texts: float = 0.0,
    seed: int = 0,
) -> None:
    """Half of the pairs of speech and speech, half of text and speech, over so many addresses on all hosts.

    `shares`: of addresses with a fault; the rest is `ok`. `wrong_duration`: share of addresses of which the metadata
    tells another length; `outside`: share of spans that end behind their recording; `lost_texts`: share of texts
    whose digest is of something else.
    """
    rng = random.Random(seed)
    names = sorted(name for name in world.files if "/" not in name)
    faults = [fault for fault, share in shares.items() for _ in range(round(share * urls))]
    faults += ["ok"] * (urls - len(faults))
    rng.shuffle(faults)
    addresses, wrong = [], set()
    for number, fault in enumerate(faults):
        name = names[number % len(names)]
        base = bases[min(int(len(bases) * rng.random() ** 2), len(bases) - 1)]  # some hosts have more than others
        address = f"{base}/{fault}/{name}?{number}"
        addresses.append((address, fault, name))
        world.urls[address] = fault
        if rng.random() < wrong_duration:
            wrong.add(address)
    told = _texts(world, pairs - pairs // 2, wet_files)

    def speech(direction: str, side: str, line_no: int) -> tuple[str, str | None]:
        address, fault, name = addresses[rng.randrange(urls)]
        length = int(world.seconds[name] * RATE)
        start = rng.randrange(0, length - RATE)
        end = min(length - 2000, start + rng.randrange(RATE // 2, 2 * RATE))  # codecs may lose some at the end
        start = min(start, end - 1000)
        reason = FAULTS[fault]
        if reason is None and address in wrong:
            reason = "duration_differs"
        beyond = rng.random() < outside
        if beyond:
            end = length + RATE
            reason = reason or "span_outside"
        world.spans[direction, line_no, side] = (name, start, end)
        seconds = world.seconds[name] + (3.5 if address in wrong else 0.0)
        columns = f"CC-MAIN-2022-21:1\t\t{address} {start} {end}\t\t{seconds:.3f}\t0\t0.0"
        return columns, reason

    for line_no in range(pairs // 2):
        src, first = speech(SPEECH, "src", line_no)
        tgt, second = speech(SPEECH, "tgt", line_no)
        tail = f"{rng.uniform(1.06, 1.5):.7f}\t{SPEECH}"
        world.lines += [f"{src}\t{tail}\tenA\t{line_no}\n", f"{tgt}\t{tail}\tfrA\t{line_no}\n"]
        world.expected[SPEECH, line_no] = first or second
    for line_no, (columns, sentence) in enumerate(told):
        reason: str | None = None
        if rng.random() < lost_texts:
            columns, reason = f"{columns.rpartition(chr(9))[0]}\t{digest(sentence + 'x')}", "text_not_found"
        tgt, second = speech(TEXT, "tgt", line_no)
        tail = f"{rng.uniform(1.06, 1.5):.7f}\t{TEXT}"
        world.lines += [f"{columns}\t0.99\t{tail}\teng\t{line_no}\n", f"{tgt}\t{tail}\tdeA\t{line_no}\n"]
        world.expected[TEXT, line_no] = reason or second


def _texts(world: World, count: int, wet_files: int) -> list[tuple[str, str]]:
    """The first six columns of each text's line, and the text."""
    found = []
    for number in range(wet_files):
        mine = range(count * number // wet_files, count * (number + 1) // wet_files)
        name, documents, of_record = WET.format(number), list[Document](), list[list[str]]()
        for begin in range(mine.start, mine.stop, 50):
            some = [f"{WORDS[line % len(WORDS)].capitalize()} {' '.join(WORDS[: 3 + line % 9])} {line}."
                    for line in range(begin, min(begin + 50, mine.stop))]  # fmt: skip
            world.texts.update(enumerate(some, begin))
            documents.append(Document(f"https://pages.example/{number}/{begin}", "\n".join(some)))
            of_record.append(some)
        world.files[name.partition("/")[2]], shas = packed_wet(documents)
        for document, sha, some in zip(documents, shas, of_record, strict=True):
            for at, sentence in enumerate(some):
                one = digest(sentence)
                found.append((f"{name}\t{sha}\t{document.url}\t{at}\t{one}\t{one}", sentence))
    return found
