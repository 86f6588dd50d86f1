"""Audio in and out: any recording to 16 kHz mono float32, spans cut from it, clips encoded.

`stream` reads a recording block by block; `decode` collects its blocks and `cut` picks spans out of them, so the three
agree sample for sample. Formats: what soundfile reads (wav, flac, ogg/vorbis, ogg/opus, mp3, …, recognised by content),
g722 (by suffix), and with ffmpeg installed what that adds (m4a, mp4, mkv, webm, wma, amr, …).

What is checked and what is not: a WAV data chunk, the FLAC sample count, the Ogg end-of-stream page and the frame
count of an MP3 with a Xing or Info header are compared with what the file really holds. A G.722 file and an MP3 without
such a header say nowhere how long they are: one that was cut short reads as a shorter recording.
"""

import io
import math
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from seamlessalign.containers import (
    Promise,
    StreamedWave,
    check_rate,
    examined,
    ffmpeg_codec_container,
    ffmpeg_demuxer,
    named,
)
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.ffmpeg import ffmpeg_reader
from seamlessalign.ogg import with_fixed_serial
from seamlessalign.rows import SAMPLE_RATE

Samples = NDArray[np.float32]

SPOOL_SECONDS = 1200.0  # recordings longer than this are spooled to a temporary file
BLOCK_SECONDS = 60.0
_BLOCK_VALUES = 1 << 24  # of all channels of a block together, whatever a header claims

_G722_BYTES_PER_SECOND = 8_000  # 64 kbit/s, two samples per byte
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more than this for "the header does not say"
_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call


@dataclass(frozen=True)
class Decoding:
    """How recordings are decoded, and what none of them may exceed."""

    channel: int | None = None  # the one to take, from 0; None: the mean of all
    max_seconds: float = math.inf  # of a recording; a longer one is `too_long`
    timeout_seconds: float = 3600.0  # of waiting for a decoder; a slower one is a `timeout`
    ffmpeg: bool = True  # for what soundfile does not read; where it is not installed, that `needs_ffmpeg`


DEFAULT_DECODING = Decoding()


@dataclass(frozen=True, eq=False)
class Audio:
    """A decoded recording. `samples` is float32 (num_samples,) at 16 kHz, mono; a read-only memory map when long."""

    samples: Samples
    original_sample_rate: int  # Hz
    channels: int  # of the file, before averaging


def decode(path: Path, decoding: Decoding = DEFAULT_DECODING, *, spool_seconds: float = SPOOL_SECONDS) -> Audio:
    """Decode a recording to 16 kHz mono: channels are averaged, or one is taken, then resampled (soxr, high quality).

    Recordings longer than `spool_seconds` lie in an unlinked temporary file and come back as a read-only
    `np.memmap`; whoever walks over one calls `release` now and then to keep resident memory flat.

    Raises UnreadableError with one of the reasons `missing`, `unreadable` (permission, not a regular file, input/output
    error), `empty` (no bytes), `not_audio`, `needs_ffmpeg`, `truncated` (also: damaged in the middle), `no_samples`,
    `bad_samples` (NaN or infinite), `no_channel`, `too_long`, `timeout`; StorageError when the temporary directory is
    full.
    """
    with _opened(path, decoding) as reader:
        samples = _gather(_blocks(reader, path, BLOCK_SECONDS, decoding), int(spool_seconds * SAMPLE_RATE))
        return Audio(samples, reader.sample_rate, reader.channels)


def stream(
    path: Path, block_seconds: float = BLOCK_SECONDS, decoding: Decoding = DEFAULT_DECODING
) -> Iterator[Samples]:
    """Yield the samples of `decode(path)` as consecutive blocks of about `block_seconds`. Errors as `decode`."""
    if not block_seconds > 0:
        raise InputError(f"block_seconds is {block_seconds}: it must be positive")
    with _opened(path, decoding) as reader:
        yield from _blocks(reader, path, block_seconds, decoding)


def num_channels(path: Path, decoding: Decoding = DEFAULT_DECODING) -> int:
    """Channels of a recording, from its header. Errors as `decode`, as far as the header shows them."""
    with _opened(path, replace(decoding, channel=None)) as reader:
        return reader.channels


def cut(
    path: Path, spans: Iterable[tuple[int, int]] | NDArray[np.int64], decoding: Decoding = DEFAULT_DECODING
) -> list[Samples]:
    """Samples of each span `[start, end)` (samples at 16 kHz), equal to slices of `decode(path).samples`.

    One pass, which ends with the last span; spans may come in any order and may overlap. Raises InputError for a
    span outside the recording, otherwise as `decode`.
    """
    wanted = [(int(start), int(end)) for start, end in spans]
    pieces: dict[int, Samples] = {}
    about = _cut(path, wanted, decoding, pieces.__setitem__, to_the_end=False)
    for index, (start, end) in enumerate(wanted):
        if index not in pieces:
            raise InputError(
                f"{named(path)}: the span [{start}, {end}) ends after the recording of {about.num_samples} samples"
            )
    return [pieces[index] for index in range(len(wanted))]


@dataclass(frozen=True)
class CutRecording:
    """What there is to tell of a recording that was cut."""

    num_samples: int  # at 16 kHz, as far as it was read
    original_sample_rate: int  # Hz
    channels: int


def cut_whole(
    path: Path,
    spans: Iterable[tuple[int, int]] | NDArray[np.int64],
    take: Callable[[int, Samples], None],
    decoding: Decoding = DEFAULT_DECODING,
) -> CutRecording:
    """The same as `cut`, of a recording that is decoded to its end: so it tells how long that is.

    `take` is given each span's number and samples as soon as it ends, those that end behind the recording never; so
    no more is in memory than a block and the spans that run on from it. Errors as `decode`.
    """
    return _cut(path, [(int(start), int(end)) for start, end in spans], decoding, take, to_the_end=True)


def _cut(
    path: Path,
    wanted: list[tuple[int, int]],
    decoding: Decoding,
    take: Callable[[int, Samples], None],
    *,
    to_the_end: bool,
) -> CutRecording:
    for start, end in wanted:
        if not 0 <= start <= end:
            raise InputError(f"{named(path)}: [{start}, {end}) is not a span of samples: 0 <= start <= end is needed")
    pieces: dict[int, list[Samples]] = {}
    waiting = sorted(range(len(wanted)), key=lambda index: wanted[index], reverse=True)  # next one last
    running: list[int] = []
    position = 0
    if not waiting and not to_the_end:
        return CutRecording(0, 0, 0)
    with _opened(path, decoding) as reader:
        for block in _blocks(reader, path, BLOCK_SECONDS, decoding):
            end_of_block = position + len(block)
            while waiting and wanted[waiting[-1]][0] < end_of_block:
                running.append(waiting.pop())
            for index in running:
                start, end = wanted[index]
                pieces.setdefault(index, []).append(block[max(start - position, 0) : end - position].copy())
                if end <= end_of_block:
                    take(index, np.concatenate(pieces.pop(index)))
            running = [index for index in running if wanted[index][1] > end_of_block]
            position = end_of_block
            if not waiting and not running and not to_the_end:
                break
        while waiting and wanted[waiting[-1]] == (position, position):  # nothing, at the very end
            take(waiting.pop(), np.zeros(0, np.float32))
        return CutRecording(position, reader.sample_rate, reader.channels)


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
        return with_fixed_serial(buffer.getvalue())
    raise InputError(f"cannot encode to {format!r}: use 'flac' or 'opus'")


class _Reader(Protocol):
    """An open recording, read once from front to back."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def read(self, frames: int) -> Samples:
        """Up to `frames` samples of every channel at the file's own rate: (num_samples, channels); none at the end."""
        ...


def _blocks(reader: _Reader, path: Path, block_seconds: float, decoding: Decoding) -> Iterator[Samples]:
    """Read, check, make mono and resample block by block."""
    if decoding.channel is not None and decoding.channel >= reader.channels:
        detail = f"{named(path)} has {reader.channels} channels and no channel {decoding.channel}, counted from 0"
        raise UnreadableError("no_channel", detail)
    resampler = None
    if reader.sample_rate != SAMPLE_RATE:
        resampler = soxr.ResampleStream(reader.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    frames = max(1, min(math.ceil(block_seconds * reader.sample_rate), _BLOCK_VALUES // reader.channels))
    num_samples = read = 0
    waited = 0.0
    last = False
    while not last:
        begun = time.monotonic()
        every = reader.read(frames)
        waited += time.monotonic() - begun
        read += len(every)
        last = not len(every)
        if read > decoding.max_seconds * reader.sample_rate:
            raise too_long(path, read / reader.sample_rate, decoding.max_seconds)
        if waited > decoding.timeout_seconds:
            raise UnreadableError("timeout", f"{named(path)} was not decoded within {decoding.timeout_seconds:g} s")
        block = _mono(every, decoding.channel)
        if not np.isfinite(block).all():
            raise UnreadableError("bad_samples", f"{named(path)} holds NaN or infinite samples")
        if resampler is not None:
            block = resampler.resample_chunk(block, last=last)
        if len(block):
            num_samples += len(block)
            yield block
    if not num_samples:
        raise UnreadableError("no_samples", f"{named(path)} has a valid header but no samples")


def _mono(samples: Samples, channel: int | None) -> Samples:
    if samples.shape[1] == 1:
        return samples[:, 0]
    return samples.mean(axis=1) if channel is None else np.ascontiguousarray(samples[:, channel])


def too_long(path: Path, seconds: float, limit: float) -> UnreadableError:
    """The error for a recording beyond the longest that is allowed."""
    detail = f"{named(path)} has {seconds / 3600:.2f} h or more, and {limit / 3600:g} h are allowed"
    return UnreadableError("too_long", detail)


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
def _opened(path: Path, decoding: Decoding) -> Iterator[_Reader]:
    """Open a recording and look at its container before anything is decoded."""
    try:
        # O_NONBLOCK: opening a pipe must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableError("missing", f"{named(path)} does not exist") from error
    except (OSError, ValueError) as error:
        raise UnreadableError("unreadable", f"{named(path)} cannot be opened: {error}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableError("unreadable", f"{named(path)} is not a regular file")
    with io.FileIO(descriptor, closefd=True) as file:
        if not status.st_size:
            raise UnreadableError("empty", f"{named(path)} has 0 bytes")
        if Path(path).suffix.lower() == ".g722":
            yield _G722Reader(file, path)
            return
        with _decoder(file, status.st_size, path, decoding) as reader:
            yield reader


@contextmanager
def _decoder(file: io.FileIO, size: int, path: Path, decoding: Decoding) -> Iterator[_Reader]:
    """soundfile, or ffmpeg for containers and codecs that soundfile does not read."""
    try:
        demuxer = ffmpeg_demuxer(file.fileno())
        source, promise = (file, None) if demuxer else examined(file, size, path)
    except OSError as error:
        raise UnreadableError("unreadable", f"{named(path)} cannot be read: {error}") from error
    with ExitStack() as stack:
        reader: _Reader
        if promise is not None:
            try:
                sound = stack.enter_context(_sound_file(source, promise, path))
            except _NotOpened:
                demuxer = ffmpeg_codec_container(file.fileno())
                if demuxer is None:
                    raise
            else:
                reader = _SoundFileReader(sound, promise, path)
                if reader.promised_seconds > decoding.max_seconds:
                    raise too_long(path, reader.promised_seconds, decoding.max_seconds)
        if demuxer is not None:
            if not decoding.ffmpeg:
                raise UnreadableError("needs_ffmpeg", f"{named(path)} is {demuxer}, and ffmpeg is switched off")
            ffmpeg = ffmpeg_reader(file.fileno(), demuxer, path, decoding.timeout_seconds)
            reader = stack.enter_context(ffmpeg)
        check_rate(reader.sample_rate, path)
        yield reader


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
            raise UnreadableError("unreadable", f"{named(self._path)} cannot be read: {error}") from error
        if not data:
            return np.zeros((0, 1), np.float32)
        pcm = np.asarray(self._codec.decode(data), dtype=np.int16)
        return pcm.astype(np.float32)[:, None] / np.float32(32768)


class _NotOpened(UnreadableError):
    """soundfile knows neither container nor codec."""


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that never seeks.

    soundfile seeks to where it already is after every read, which makes libsndfile decode Opus wrongly and refuse FLAC
    of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _SoundFileReader:
    def __init__(self, sound: soundfile.SoundFile, promise: Promise, path: Path) -> None:
        self.sample_rate = int(sound.samplerate)
        self.channels = int(sound.channels)
        self._sound = sound
        self._path = path
        self._frames = 0
        promised = int(sound.frames)
        known = promised < _UNKNOWN_FRAMES and math.isfinite(promise.tolerance)
        self.promised_seconds = promised / self.sample_rate if known else 0.0
        self._least = promised - int(promise.tolerance * self.sample_rate) if known else 0
        # Where the length is exact, reading on would take a tag behind the last FLAC frame for a damaged frame.
        self._most = promised if known and not promise.tolerance else _UNKNOWN_FRAMES

    def read(self, frames: int) -> Samples:
        try:
            block: Samples = self._sound.read(min(frames, self._most - self._frames), "float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            reason = "unreadable" if error.code == _SYSTEM_ERROR else "truncated"
            detail = f"{named(self._path)} stops after {self._frames} samples: {error.error_string}"
            raise UnreadableError(reason, detail) from error
        self._frames += len(block)
        if not len(block) and self._frames < self._least:
            raise UnreadableError(
                "truncated", f"{named(self._path)} holds {self._frames} of {self._sound.frames} samples"
            )
        return block


@contextmanager
def _sound_file(source: io.FileIO, promise: Promise, path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        if isinstance(source, StreamedWave):
            sound = _SequentialSoundFile(source)
        else:
            os.lseek(source.fileno(), 0, os.SEEK_SET)
            sound = _SequentialSoundFile(source.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        if error.code == _SYSTEM_ERROR:
            raise UnreadableError("unreadable", f"{named(path)} cannot be read: {error.error_string}") from error
        if promise.container == "flac":  # wav and ogg were seen to be whole before
            raise UnreadableError("truncated", f"{named(path)} breaks off: {error.error_string}") from error
        raise _NotOpened("not_audio", f"{named(path)} is in no known format: {error.error_string}") from error
    with sound:
        yield sound
