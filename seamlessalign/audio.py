"""Audio in and out: any recording to 16 kHz mono float32, spans cut from it, clips encoded.

`stream` reads a recording block by block; `decode` collects its blocks and `cut` picks spans out of them, so the three
agree sample for sample. Formats: wav, flac, ogg/vorbis, ogg/opus and mp3 (recognised by content), g722 (by suffix).

What is checked and what is not: a WAV data chunk, the FLAC sample count, the Ogg end-of-stream page and the frame
count of an MP3 with a Xing or Info header are compared with what the file really holds. A G.722 file and an MP3 without
such a header say nowhere how long they are: one that was cut short reads as a shorter recording.
"""

import io
import math
import mmap
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE

Samples = NDArray[np.float32]

SPOOL_SECONDS = 1200.0  # recordings longer than this are spooled to a temporary file
BLOCK_SECONDS = 60.0
SAMPLE_RATES = (1_000, 768_000)  # Hz, of recordings; a header that says otherwise is not believed

_G722_BYTES_PER_SECOND = 8_000  # 64 kbit/s, two samples per byte
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more than this for "the header does not say"
_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call
_OGG_SERIAL = 0x5EA31E55  # of every Ogg stream written here


@dataclass(frozen=True, eq=False)
class Audio:
    """A decoded recording. `samples` is float32 (num_samples,) at 16 kHz, mono; a read-only memory map when long."""

    samples: Samples
    original_sample_rate: int  # Hz
    channels: int  # of the file, before averaging


def decode(path: Path, *, spool_seconds: float = SPOOL_SECONDS) -> Audio:
    """Decode a recording to 16 kHz mono: channels are averaged, then resampled (soxr, high quality).

    Recordings longer than `spool_seconds` lie in an unlinked temporary file and come back as a read-only
    `np.memmap`; whoever walks over one calls `release` now and then to keep resident memory flat.

    Raises UnreadableError with one of the reasons `missing`, `unreadable` (permission, not a regular file, input/output
    error), `empty` (no bytes), `not_audio`, `truncated` (also: damaged in the middle), `no_samples`, `bad_samples` (NaN
    or infinite); StorageError when the temporary directory is full.
    """
    with _opened(path) as reader:
        samples = _gather(_blocks(reader, path, BLOCK_SECONDS), int(spool_seconds * SAMPLE_RATE))
        return Audio(samples, reader.sample_rate, reader.channels)


def stream(path: Path, block_seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
    """Yield the samples of `decode(path)` as consecutive blocks of about `block_seconds`. Errors as `decode`."""
    if not block_seconds > 0:
        raise InputError(f"block_seconds is {block_seconds}: it must be positive")
    with _opened(path) as reader:
        yield from _blocks(reader, path, block_seconds)


def cut(path: Path, spans: Iterable[tuple[int, int]] | NDArray[np.int64]) -> list[Samples]:
    """Samples of each span `[start, end)` (samples at 16 kHz), equal to slices of `decode(path).samples`.

    One pass, which ends with the last span; spans may come in any order and may overlap. Raises InputError for a
    span outside the recording, otherwise as `decode`.
    """
    wanted = [(int(start), int(end)) for start, end in spans]
    for start, end in wanted:
        if not 0 <= start <= end:
            raise InputError(f"{_name(path)}: [{start}, {end}) is not a span of samples: 0 <= start <= end is needed")
    pieces: list[list[Samples]] = [[] for _ in wanted]
    waiting = sorted(range(len(wanted)), key=lambda index: wanted[index], reverse=True)  # next one last
    running: list[int] = []
    position = 0
    if waiting:
        for block in stream(path):
            end_of_block = position + len(block)
            while waiting and wanted[waiting[-1]][0] < end_of_block:
                running.append(waiting.pop())
            for index in running:
                start, end = wanted[index]
                pieces[index].append(block[max(start - position, 0) : end - position].copy())
            running = [index for index in running if wanted[index][1] > end_of_block]
            position = end_of_block
            if not waiting and not running:
                break
    for index in running + waiting:
        start, end = wanted[index]
        if end > position:
            raise InputError(f"{_name(path)}: the span [{start}, {end}) ends after the recording of {position} samples")
    return [np.concatenate(parts) if parts else np.zeros(0, np.float32) for parts in pieces]


def release(samples: NDArray[Any]) -> None:
    """Give the resident pages of a spooled array (or a view of one) back to the system; others are left alone.

    The samples stay readable: they come from the file again. Only read-only maps are touched, since dropping the pages
    of a private writable map would lose what was written.
    """
    owner: object = samples
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and owner.mode != "r":
            return
        owner, spooled = owner.base, isinstance(owner, np.memmap)
        if spooled and isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)


def encode(samples: NDArray[np.floating[Any]], format: Literal["flac", "opus"]) -> bytes:
    """Encode mono samples (num_samples,) at 16 kHz as FLAC (16 bit, clipped to full scale) or Ogg/Opus.

    The same samples always give the same bytes. FLAC is exact for samples that came from 16 bit audio. Raises
    InputError for an unknown format, an empty, integer or multi-channel array, and NaN or infinite samples.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f" or not len(samples):
        raise InputError(f"cannot encode {samples.dtype} {samples.shape}: float samples (num_samples,) are needed")
    if not np.isfinite(samples).all():
        raise InputError(f"cannot encode {len(samples)} samples: some are NaN or infinite")
    buffer = io.BytesIO()
    if format == "flac":
        # libsndfile scales floats by 32767 and decodes by 32768: scaling here makes the round trip exact.
        pcm = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
        soundfile.write(buffer, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return buffer.getvalue()
    if format == "opus":
        clipped = np.clip(samples, -1.0, 1.0).astype(np.float32)
        soundfile.write(buffer, clipped, SAMPLE_RATE, format="OGG", subtype="OPUS")
        return _with_fixed_serial(buffer.getvalue())
    raise InputError(f"cannot encode to {format!r}: use 'flac' or 'opus'")


class _Reader(Protocol):
    """An open recording, read once from front to back."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def read(self, frames: int) -> Samples:
        """Up to `frames` mono samples at the file's own rate; none at the end."""
        ...


def _blocks(reader: _Reader, path: Path, block_seconds: float) -> Iterator[Samples]:
    """Read, check and resample block by block."""
    resampler = None
    if reader.sample_rate != SAMPLE_RATE:
        resampler = soxr.ResampleStream(reader.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    frames = max(1, math.ceil(block_seconds * reader.sample_rate))
    num_samples = 0
    last = False
    while not last:
        block = reader.read(frames)
        last = not len(block)
        if not np.isfinite(block).all():
            raise UnreadableError("bad_samples", f"{_name(path)} holds NaN or infinite samples")
        if resampler is not None:
            block = resampler.resample_chunk(block, last=last)
        if len(block):
            num_samples += len(block)
            yield block
    if not num_samples:
        raise UnreadableError("no_samples", f"{_name(path)} has a valid header but no samples")


def _gather(blocks: Iterator[Samples], limit: int) -> Samples:
    """Join blocks in memory or, beyond `limit` samples, in an unlinked temporary file that is mapped read-only."""
    held: list[Samples] = []
    num_samples = 0
    for block in blocks:
        held.append(block)
        num_samples += len(block)
        if num_samples > limit:
            return _spool(held, blocks)
    return np.concatenate(held)


def _spool(held: list[Samples], blocks: Iterator[Samples]) -> Samples:
    num_samples = 0
    with _spool_errors():
        spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed by the with below
    with spool:
        while True:
            for block in held:
                _write(spool, block)
                num_samples += len(block)
            held.clear()
            following = next(blocks, None)
            if following is None:
                break
            held.append(following)
        # The map keeps its own descriptor.
        return np.memmap(spool, dtype=np.float32, mode="r", shape=(num_samples,))


def _write(spool: Any, block: Samples) -> None:
    view = np.ascontiguousarray(block).data.cast("B")
    while view:
        with _spool_errors():
            view = view[spool.write(view) :]


@contextmanager
def _spool_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot spool a long recording in {tempfile.gettempdir()!r}: {error.strerror or error}; "
            "free space there or point TMPDIR elsewhere"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    """Open a recording and look at its container before anything is decoded."""
    try:
        # O_NONBLOCK: opening a pipe must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableError("missing", f"{_name(path)} does not exist") from error
    except (OSError, ValueError) as error:
        raise UnreadableError("unreadable", f"{_name(path)} cannot be opened: {error}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableError("unreadable", f"{_name(path)} is not a regular file")
    with io.FileIO(descriptor, closefd=True) as file:
        if not status.st_size:
            raise UnreadableError("empty", f"{_name(path)} has 0 bytes")
        if Path(path).suffix.lower() == ".g722":
            yield _G722Reader(file, path)
            return
        try:
            source, promise = _examined(file, status.st_size, path)
        except OSError as error:
            raise UnreadableError("unreadable", f"{_name(path)} cannot be read: {error}") from error
        with _sound_file(source, promise, path) as sound:
            yield _SoundFileReader(sound, promise, path)


class _G722Reader:
    """Raw G.722 at 64 kbit/s."""

    sample_rate = SAMPLE_RATE
    channels = 1

    def __init__(self, file: io.FileIO, path: Path) -> None:
        from G722 import G722

        self._file = file
        self._path = path
        self._codec = G722(SAMPLE_RATE, 8 * _G722_BYTES_PER_SECOND)  # keeps the state of the predictor between blocks

    def read(self, frames: int) -> Samples:
        try:
            data = self._file.read(max(1, frames // 2))
        except OSError as error:
            raise UnreadableError("unreadable", f"{_name(self._path)} cannot be read: {error}") from error
        if not data:
            return np.zeros(0, np.float32)
        return np.asarray(self._codec.decode(data), dtype=np.int16).astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class _Promise:
    """What a container lets us hold it to."""

    container: str  # wav, flac, ogg, mp3 or other
    tolerance: float = 0.0  # seconds that may be missing of the header's length; infinite: the length is an estimate


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that never seeks.

    soundfile seeks to where it already is after every read, which makes libsndfile decode Opus wrongly and refuse FLAC
    of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _SoundFileReader:
    def __init__(self, sound: soundfile.SoundFile, promise: _Promise, path: Path) -> None:
        self.sample_rate = int(sound.samplerate)
        self.channels = int(sound.channels)
        self._sound = sound
        self._path = path
        self._frames = 0
        promised = int(sound.frames)
        known = promised < _UNKNOWN_FRAMES and math.isfinite(promise.tolerance)
        self._least = promised - int(promise.tolerance * self.sample_rate) if known else 0
        # Where the length is exact, reading on would take a tag behind the last FLAC frame for a damaged frame.
        self._most = promised if known and not promise.tolerance else _UNKNOWN_FRAMES

    def read(self, frames: int) -> Samples:
        try:
            block: Samples = self._sound.read(min(frames, self._most - self._frames), "float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            reason = "unreadable" if error.code == _SYSTEM_ERROR else "truncated"
            detail = f"{_name(self._path)} stops after {self._frames} samples: {error.error_string}"
            raise UnreadableError(reason, detail) from error
        self._frames += len(block)
        if not len(block) and self._frames < self._least:
            raise UnreadableError(
                "truncated", f"{_name(self._path)} holds {self._frames} of {self._sound.frames} samples"
            )
        return block[:, 0] if self.channels == 1 else block.mean(axis=1)


@contextmanager
def _sound_file(source: io.FileIO, promise: _Promise, path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        if isinstance(source, _StreamedWave):
            sound = _SequentialSoundFile(source)
        else:
            os.lseek(source.fileno(), 0, os.SEEK_SET)
            sound = _SequentialSoundFile(source.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        if error.code == _SYSTEM_ERROR:
            raise UnreadableError("unreadable", f"{_name(path)} cannot be read: {error.error_string}") from error
        if promise.container == "flac":  # wav and ogg were seen to be whole before
            raise UnreadableError("truncated", f"{_name(path)} breaks off: {error.error_string}") from error
        raise UnreadableError("not_audio", f"{_name(path)} is in no known format: {error.error_string}") from error
    with sound:
        if not SAMPLE_RATES[0] <= sound.samplerate <= SAMPLE_RATES[1]:
            raise UnreadableError("not_audio", f"{_name(path)} claims a sample rate of {sound.samplerate} Hz")
        yield sound


def _examined(file: io.FileIO, size: int, path: Path) -> tuple[io.FileIO, _Promise]:
    """Look at the container: what to decode from, and what it promises. Raises UnreadableError when truncated."""
    descriptor = file.fileno()
    head = os.pread(descriptor, 16, 0)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _examined_wave(file, size, path, "big" if head[:4] == b"RIFX" else "little")
    if head[:4] == b"fLaC":
        return file, _Promise("flac")
    if head[:4] == b"OggS":
        if not _ogg_ends(descriptor, size):
            raise UnreadableError("truncated", f"{_name(path)} has no end-of-stream page")
        # Lost pages leave a gap; encoder delay may be counted differently by a few frames.
        return file, _Promise("ogg", 0.1)
    start = _id3_size(head)
    frame = os.pread(descriptor, 4096, start)
    if frame[:4] == b"fLaC":
        return file, _Promise("flac")
    if b"Xing" in frame[:256] or b"Info" in frame[:256]:
        return file, _Promise("mp3", 0.25)  # encoder delay and padding may be trimmed
    return file, _Promise("other", math.inf)


def _examined_wave(
    file: io.FileIO, size: int, path: Path, order: Literal["big", "little"]
) -> tuple[io.FileIO, _Promise]:
    """Compare the size of the data chunk with what is there, except the sizes that writers to a pipe leave."""
    descriptor = file.fileno()
    position, align, long_size = 12, 1, None
    while len(header := os.pread(descriptor, 8, position)) == 8:
        length = int.from_bytes(header[4:], order)
        present = size - position - 8
        if header[:4] == b"fmt ":
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
                raise UnreadableError("truncated", f"{_name(path)}: {detail}")
            if (
                length == 0
                and present > 0
                and not _is_last_chunk(os.pread(descriptor, 8, position + 8), present, order)
            ):
                return _StreamedWave(descriptor, position + 4), _Promise("wav")
            return file, _Promise("wav")
        position += 8 + length + length % 2
    raise UnreadableError("truncated", f"{_name(path)} is a WAV file without a data chunk")


def _is_last_chunk(header: bytes, present: int, order: Literal["big", "little"]) -> bool:
    """Whether what follows an empty data chunk is not audio but one more chunk that ends the file."""
    length = int.from_bytes(header[4:], order)
    return len(header) == 8 and header[:4].isalnum() and present in (8 + length, 8 + length + length % 2)


class _StreamedWave(io.FileIO):
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


def _ogg_ends(descriptor: int, size: int) -> bool:
    """Whether the last whole page of an Ogg file carries the end-of-stream flag (RFC 3533, section 6)."""
    start = max(0, size - 4 * 65_307)  # a page has at most 65,307 bytes; some more in case of trailing bytes
    tail = os.pread(descriptor, size - start, start)
    at = tail.rfind(b"OggS")
    while at >= 0:
        page = _ogg_page(tail, at)
        if page is not None:
            return bool(tail[at + 5] & 4)
        if _ogg_page_begins(tail, at):
            return False  # a page that breaks off is the end of a cut file
        at = tail.rfind(b"OggS", 0, at)
    return False


def _ogg_page_begins(data: bytes, at: int) -> bool:
    return len(data) - at < 27 or (data[at + 4] == 0 and data[at + 5] < 8)


def _ogg_page(data: bytes, at: int) -> int | None:
    """End of the page that begins at `at`; None when it is not there as a whole."""
    if len(data) - at < 27 or not _ogg_page_begins(data, at):
        return None
    table = data[at + 27 : at + 27 + data[at + 26]]
    end = at + 27 + data[at + 26] + sum(table)
    return end if len(table) == data[at + 26] and end <= len(data) else None


def _with_fixed_serial(ogg: bytes) -> bytes:
    """The same Ogg stream under a fixed serial number: libsndfile draws a random one, and equal clips must be equal."""
    pages: list[bytes] = []
    at = 0
    while at < len(ogg):
        end = _ogg_page(ogg, at)
        if end is None:
            raise StorageError(f"the Opus encoder wrote a broken Ogg page at byte {at}: check the installed libsndfile")
        page = bytearray(ogg[at:end])
        struct.pack_into("<I", page, 14, _OGG_SERIAL)
        struct.pack_into("<I", page, 22, 0)
        struct.pack_into("<I", page, 22, _ogg_checksum(bytes(page)))
        pages.append(bytes(page))
        at = end
    return b"".join(pages)


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533: polynomial 0x04C11DB7, most significant bit first, start 0, no final inversion.

    zlib's is the same polynomial mirrored, with both inversions: mirror bytes and result, undo the inversions.
    """
    mirrored = ~zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _name(path: Path) -> str:
    """A file name that keeps a message on one line."""
    return repr(str(path))
