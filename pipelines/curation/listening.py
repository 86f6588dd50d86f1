"""What is heard on a side of a pair: the samples of its span and of what lies around it, and how they are drawn.

Only recordings that the run's tables name are opened, in the way of its configuration and only while they are the ones
that were mined: with another SHA-256, times mean nothing. Where a recording cannot be had any more, what was cut for
the corpus is heard instead, without anything around it.
"""

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from seamlessalign import storage, web_access
from seamlessalign.audio import Decoding, cut, encode
from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError, UnreadableError
from seamlessalign.pipelines.recordings import open_recording
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.pipelines.report_numbers import is_rebuilt, written_config
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import SAMPLE_RATE

Side = Literal["src", "tgt"]
Samples = npt.NDArray[np.float32]

CONTEXT_SECONDS = 2.0
_MOST_CONTEXT = 60.0  # seconds on either side
_KEPT = 64  # sides that are remembered
_FAR = 60 * SAMPLE_RATE  # from there on, decoding all before takes longer than to jump
_LEAD = 1 * SAMPLE_RATE  # decoded before what is wanted, so that decoder and resampler have settled


@dataclass(frozen=True)
class Heard:
    """A side of a pair. Samples at 16 kHz."""

    samples: Samples  # (num_samples,) of the span with what lies around it
    first: int  # the span is samples[first:last]
    last: int
    origin: Literal["recording", "corpus"]
    note: str  # why there is no context, for people; else empty

    @property
    def span(self) -> Samples:
        """The span alone."""
        return self.samples[self.first : self.last]

    def flac(self, with_context: bool = False) -> bytes:
        """For a player."""
        return encode(self.samples if with_context else self.span, "flac")

    def peaks(self, columns: int) -> npt.NDArray[np.float32]:
        """Lowest and highest sample in each of so many equal parts of the time, (columns, 2), for drawing."""
        return peaks(self.samples, columns)


@dataclass(frozen=True)
class NotHeard:
    """A side that cannot be heard."""

    reason: str  # for people


def peaks(samples: Samples, columns: int) -> npt.NDArray[np.float32]:
    """Lowest and highest sample in each of so many equal parts, (columns, 2); parts without samples repeat the last."""
    if columns < 1:
        raise InputError(f"{columns} columns: give 1 or more")
    if not len(samples):
        return np.zeros((columns, 2), np.float32)
    starts = np.minimum(np.arange(columns) * len(samples) // columns, len(samples) - 1)
    found = np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)], axis=1)
    return np.asarray(found, np.float32)


class Listening:
    """Opens recordings of one run. Safe to be shared by threads; the last sides heard are remembered.

    From now on the process asks the web within the bounds of the run's configuration (`fetch`).
    """

    def __init__(self, tables: RunTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._sides: OrderedDict[tuple[Any, ...], Heard | NotHeard] = OrderedDict()
        self._unchanged: dict[str, tuple[str, str]] = {}  # local path → its version, its SHA-256
        self._config: RunConfig | None = None
        self._wrong = ""
        try:
            self._config = read_config(tables.root)
            web_access.use(self._config.fetch.access())
        except ConfigError as error:
            rebuilt = is_rebuilt(written_config(tables.root) or {})
            self._wrong = "the corpus was rebuilt, and its recordings are not opened here" if rebuilt else str(error)
        except SeamlessAlignError as error:
            self._wrong = str(error)

    def heard(
        self, pair: Mapping[str, Any], side: Side, context_seconds: float = CONTEXT_SECONDS
    ) -> Heard | NotHeard | None:
        """A side of a row of `pairs`; None where it is text. Never raises for what cannot be heard."""
        uri, start, end = (pair[f"{side}_{name}"] for name in ("uri", "start", "end"))
        if uri is None:
            return None
        context = int(min(max(context_seconds, 0.0), _MOST_CONTEXT) * SAMPLE_RATE)
        key = (pair["direction"], pair["pair_id"], side, uri, start, end, context)
        with self._lock:
            if key in self._sides:
                self._sides.move_to_end(key)
                return self._sides[key]
        found = self._from_recording(uri, start, end, context)
        if isinstance(found, NotHeard):
            found = self._from_corpus(pair, side, found.reason)
        with self._lock:
            self._sides[key] = found
            while len(self._sides) > _KEPT:
                self._sides.popitem(last=False)
        return found

    def _from_recording(self, uri: str, start: int, end: int, context: int) -> Heard | NotHeard:
        if self._config is None:
            return NotHeard(self._wrong)
        rows = self._row("select sha256, num_samples from recordings where uri = ? limit 1", uri, "recordings")
        if not rows:
            return NotHeard("the run's recordings do not name it")
        length = rows[0]["num_samples"]
        if not 0 <= start < end <= length:
            return NotHeard("its span does not lie in the recording")
        first, last = max(start - context, 0), min(end + context, length)
        try:
            with open_recording(uri, self._config.speech.decode, self._config.root) as (path, decoding):
                if self._sha256(str(path)) != rows[0]["sha256"]:
                    return NotHeard("the recording is another one than was mined")
                samples = _jumped_to(path, first, last, decoding) if first > _FAR else None
                if samples is None:
                    (samples,) = cut(path, [(first, last)], decoding)
        except (OSError, SeamlessAlignError) as error:
            return NotHeard(f"the recording cannot be read: {_told(error)}")
        return Heard(samples, start - first, end - first, "recording", "")

    def _from_corpus(self, pair: Mapping[str, Any], side: Side, reason: str) -> Heard | NotHeard:
        query = f"select {side}_audio as audio from corpus where direction = ? and pair_id = ? limit 1"
        try:
            rows = self._row(query, [pair["direction"], pair["pair_id"]], "corpus")
            if not rows or not rows[0]["audio"]:
                return NotHeard(f"{reason}; the corpus does not have this pair")
            samples = _decoded(rows[0]["audio"]["bytes"])
        except (OSError, SeamlessAlignError) as error:
            return NotHeard(f"{reason}; {_told(error)}")
        return Heard(samples, 0, len(samples), "corpus", f"{reason}: this is what was cut for the corpus")

    def _row(self, query: str, parameters: Any, table: str) -> list[dict[str, Any]]:
        if table not in self._tables.names:
            return []
        found = self._tables.ask(query, parameters if isinstance(parameters, list) else [parameters])
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def _sha256(self, path: str) -> str:
        """Of a local file, read again only when it has changed."""
        version = storage.version(path)
        if self._unchanged.get(path, ("", ""))[0] != version:
            self._unchanged[path] = version, storage.sha256_of(storage.local_path(path))
        return self._unchanged[path][1]


def _jumped_to(path: Path, first: int, last: int, decoding: Decoding) -> Samples | None:
    """What `cut` gives, to 2e-7 of full scale, without decoding what is before; None where that is not to be had.

    A jump leads to where a sample of the recording and one at 16 kHz are at the same time.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            common = math.gcd(rate, SAMPLE_RATE)
            jumps = max(first - _LEAD, 0) // (SAMPLE_RATE // common)
            file.seek(jumps * (rate // common))
            begin = jumps * (SAMPLE_RATE // common)
            frames = math.ceil((last - begin + _LEAD) * rate / SAMPLE_RATE)
            read = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        return None
    if not len(read) or (decoding.channel or 0) >= read.shape[1]:
        return None
    mono = read.mean(axis=1) if decoding.channel is None else np.ascontiguousarray(read[:, decoding.channel])
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    samples = np.asarray(mono[first - begin : last - begin], np.float32)
    return samples if len(samples) == last - first and np.isfinite(samples).all() else None


def _told(error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return " ".join(error.detail.split())
    if isinstance(error, OSError) and error.strerror:
        name = f": {error.filename}" if error.filename else ""
        return " ".join(f"{error.strerror}{name}".split())
    return " ".join(str(error).split())


def _decoded(data: bytes) -> Samples:
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise SeamlessAlignError(f"its audio in the corpus is damaged: {error}") from error
    if samples.ndim != 1 or rate != SAMPLE_RATE:
        raise SeamlessAlignError(f"its audio in the corpus is not mono at {SAMPLE_RATE} Hz")
    return np.asarray(samples, np.float32)
