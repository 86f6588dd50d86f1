"""What a file's first bytes say: its container, what that promises, and who can decode it."""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seamlessalign.errors import UnreadableError
from seamlessalign.ogg import ogg_ends

SAMPLE_RATES = (1_000, 768_000)  # Hz, of recordings; a header that says otherwise is not believed


@dataclass(frozen=True)
class Promise:
    """What a container lets us hold it to."""

    container: str  # wav, flac, ogg, mp3 or other
    tolerance: float = 0.0  # seconds that may be missing of the header's length; infinite: the length is an estimate


def examined(file: io.FileIO, size: int, path: Path) -> tuple[io.FileIO, Promise]:
    """Look at the container: what to decode from, and what it promises. Raises UnreadableError when truncated."""
    descriptor = file.fileno()
    head = os.pread(descriptor, 16, 0)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _examined_wave(file, size, path, "big" if head[:4] == b"RIFX" else "little")
    if head[:4] == b"fLaC":
        return file, Promise("flac")
    if head[:4] == b"OggS":
        if not ogg_ends(descriptor, size):
            raise UnreadableError("truncated", f"{named(path)} has no end-of-stream page")
        # Lost pages leave a gap; encoder delay may be counted differently by a few frames.
        return file, Promise("ogg", 0.1)
    start = _id3_size(head)
    frame = os.pread(descriptor, 4096, start)
    if frame[:4] == b"fLaC":
        return file, Promise("flac")
    if b"Xing" in frame[:256] or b"Info" in frame[:256]:
        return file, Promise("mp3", 0.25)  # encoder delay and padding may be trimmed
    return file, Promise("other", math.inf)


def _examined_wave(
    file: io.FileIO, size: int, path: Path, order: Literal["big", "little"]
) -> tuple[io.FileIO, Promise]:
    """Compare the size of the data chunk with what is there, except the sizes that writers to a pipe leave."""
    descriptor = file.fileno()
    position, align, long_size = 12, 1, None
    while len(header := os.pread(descriptor, 8, position)) == 8:
        length = int.from_bytes(header[4:], order)
        present = size - position - 8
        if header[:4] == b"fmt ":
            check_rate(int.from_bytes(os.pread(descriptor, 4, position + 12), order), path)
            align = max(1, int.from_bytes(os.pread(descriptor, 2, position + 20), order))
        elif header[:4] == b"ds64":
            long_size = int.from_bytes(os.pread(descriptor, 8, position + 16), order)
        elif header[:4] == b"data":
            if length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            # Who writes to a pipe does not know the size: ffmpeg leaves 0xFFFFFFFF, sox 0x7FFFF000, others 0.
            streamed = length in (0, 0xFFFFFFFF, 0x7FFFF000 // align * align)
            if length > present and not streamed:
                detail = f"the data chunk promises {length} bytes and {present} are there"
                raise UnreadableError("truncated", f"{named(path)}: {detail}")
            if (
                length == 0
                and present > 0
                and not _is_last_chunk(os.pread(descriptor, 8, position + 8), present, order)
            ):
                return StreamedWave(descriptor, position + 4), Promise("wav")
            return file, Promise("wav")
        position += 8 + length + length % 2
    raise UnreadableError("truncated", f"{named(path)} is a WAV file without a data chunk")


def _is_last_chunk(header: bytes, present: int, order: Literal["big", "little"]) -> bool:
    """Whether what follows an empty data chunk is not audio but one more chunk that ends the file."""
    length = int.from_bytes(header[4:], order)
    return len(header) == 8 and header[:4].isalnum() and present in (8 + length, 8 + length + length % 2)


class StreamedWave(io.FileIO):
    """A WAV file whose data chunk claims 0 bytes, read as if it had the "unknown" size that libsndfile understands."""

    def __init__(self, descriptor: int, size_at: int) -> None:
        super().__init__(descriptor, closefd=False)
        self.seek(0)
        self._size_at = size_at  # position of the four size bytes

    def readinto(self, buffer: Any) -> int:
        position = self.tell()
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        for at in range(max(position, self._size_at), min(position + count, self._size_at + 4)):
            view[at - position] = 0xFF
        return count


def _id3_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag at the front of a file (its size has 7 bits per byte)."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def check_rate(rate: int, path: Path) -> None:
    """Raise UnreadableError for a sample rate that no recording has."""
    if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise UnreadableError("not_audio", f"{named(path)} claims a sample rate of {rate} Hz")


def named(path: Path) -> str:
    """A file name that keeps a message on one line."""
    return repr(str(path))


def ffmpeg_demuxer(descriptor: int) -> str | None:
    """The name that ffmpeg has for a container which soundfile does not read; None where it is none of those known.

    Only these are handed to ffmpeg, and under this name: it never guesses, so that no playlist or script that lies
    among recordings makes it open other files.
    """
    head = os.pread(descriptor, 4096, 0)
    for demuxer, at, magics in _FFMPEG_MAGICS:
        if any(head.startswith(magic, at) for magic in magics):
            return demuxer
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    start = _id3_size(head)
    frame = head[start:] if start < len(head) else os.pread(descriptor, 16, start)
    if len(frame) >= 7 and frame[0] == 0xFF and frame[1] & 0xF6 == 0xF0:  # ADTS; the layer bits of MPEG audio are not 0
        return "aac"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    return None


def ffmpeg_codec_container(descriptor: int) -> str | None:
    """The name that ffmpeg has for a container that soundfile reads, though not with every codec."""
    head = os.pread(descriptor, 12, 0)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    return {b"OggS": "ogg", b".snd": "au", b"caff": "caf", b"riff": "w64"}.get(head[:4])


_FFMPEG_MAGICS: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (  # demuxer, place, what stands there
    ("mov", 4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),  # mp4, m4a, 3gp, mov
    ("matroska", 0, (b"\x1aE\xdf\xa3",)),  # mkv, mka, webm
    ("asf", 0, (b"0&\xb2u\x8ef\xcf\x11",)),  # wma, wmv
    ("flv", 0, (b"FLV\x01",)),
    ("mpeg", 0, (b"\x00\x00\x01\xba",)),
    ("amr", 0, (b"#!AMR\n", b"#!AMR-WB\n")),
    ("ac3", 0, (b"\x0bw",)),
    ("wv", 0, (b"wvpk",)),
    ("ape", 0, (b"MAC ",)),
    ("tta", 0, (b"TTA1",)),
    ("mpc", 0, (b"MP+",)),
    ("mpc8", 0, (b"MPCK",)),
)
