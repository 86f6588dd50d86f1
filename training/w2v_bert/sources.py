"""Speech to pre-train on, in pieces that the encoder hears at a time: nothing of it needs a language or words.

What is longer than the encoder shall hear is cut into equal pieces. Of a run, the pieces are of the stretches that its
segments cover, each once, however many segments overlap there.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seamlessalign.audio import Decoding, cut
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.sources import place_of, recording_file
from seamlessalign.speech_rows import SetAside, SpeechRow, heard, recorded_rows, spoken_row
from seamlessalign.speech_sources import Sound, load_sound, parquet_rows, text_lines
from seamlessalign.training.w2v_bert.config import W2vBertData, W2vBertSource

Float32 = npt.NDArray[np.float32]

_SEGMENTS = ("recording_id", "uri", "start", "end")


@dataclass(frozen=True)
class Piece:
    """What the encoder hears at a time."""

    key: str  # hex digits that change with its sound
    recording: str  # key of what it is a piece of; pieces of one are held out together
    place: str  # file and row, for people
    seconds: float  # by the header; guessed from the text where the speech is synthetic
    sound: Sound | None  # None: of the recording of a run, at `uri`
    text: str = ""  # what a voice says
    uri: str = ""
    start: int = 0  # samples at 16 kHz, [start, end)
    end: int | None = None  # None: all there is


def read_pieces(
    sources: Sequence[W2vBertSource],
    data: W2vBertData,
    rejects: Counter[str] | None = None,
    known: set[str] | None = None,
) -> list[Piece]:
    """All usable pieces of some sources, in order; what is not usable is counted in `rejects` by reason.

    known: keys of recordings that were read before; they are set aside as `duplicate`, and new ones added.

    Raises InputError for a source that is not there, cannot be read, lacks a column or has nothing that is usable.
    """
    known = set() if known is None else known
    found: list[Piece] = []
    for source in sources:
        aside, before = SetAside(rejects), len(found)
        pieces = _of_run(source, data, aside) if source.kind == "run" else _of_rows(source, data, aside)
        taken: set[str] = set()
        for piece in pieces:
            if piece.recording in known:
                aside.add("duplicate", piece.place)
                continue
            taken.add(piece.recording)
            found.append(piece)
        known |= taken
        if len(found) == before:
            raise aside.nothing_usable([source.path])
    return found


def split_pieces(pieces: Sequence[Piece], share: float) -> tuple[list[Piece], list[Piece]]:
    """Pieces to learn from and pieces that are held out: those of about `share` of the recordings, one at the least.

    Whether a recording is held out follows from its key, so that more data moves nothing.

    Raises InputError where there is only one recording.
    """
    order = sorted({piece.recording for piece in pieces}, key=lambda key: (_place(key), key))
    if len(order) < 2:
        raise InputError("data.train: there is only one recording to hold out from; give data.validation")
    held = {key for key in order[:-1] if _place(key) < share} or {order[0]}
    return [p for p in pieces if p.recording not in held], [p for p in pieces if p.recording in held]


def load_piece(piece: Piece) -> Float32:
    """Samples of a piece, float32 `(num_samples,)` at 16 kHz.

    Raises UnreadableError with the reason `silent`, `no_speech` (espeak-ng says nothing) or one of `audio.decode` and
    `sources.recording_file`.
    """
    if piece.sound is None:
        place = place_of(piece.uri)
        with recording_file(piece.uri) as path:
            return _cut(path, piece, Decoding(channel=place.channel))
    if piece.end is None:
        return load_sound(piece.sound, piece.text, piece.place)
    if piece.sound.row < 0:
        return _cut(Path(piece.sound.path), piece, Decoding())
    return load_sound(piece.sound, piece.text, piece.place)[piece.start : piece.end]


def _cut(path: Path, piece: Piece, decoding: Decoding) -> Float32:
    samples = _sought(path, piece, decoding)
    if samples is None:
        try:
            (samples,) = cut(path, [(piece.start, piece.end or 0)], decoding)
        except InputError as error:  # its header said that there is more
            raise UnreadableError("truncated", f"{piece.place}: {error}") from error
    if np.ptp(samples) <= 2.0**-15:
        raise UnreadableError("silent", f"{piece.place} holds {len(samples)} equal samples")
    return samples


def _sought(path: Path, piece: Piece, decoding: Decoding) -> Float32 | None:
    """The samples that `cut` gives, without all that is before them; None where a file cannot be entered in the middle.

    That is possible where nothing is resampled and the place of each sample is known.
    """
    import soundfile

    wanted = (piece.end or 0) - piece.start
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE or file.format not in ("WAV", "FLAC"):
                return None
            file.seek(piece.start)
            values = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    channel = decoding.channel
    if len(values) < wanted or not np.isfinite(values).all() or (channel or 0) >= values.shape[1]:
        return None
    return np.ascontiguousarray(values.mean(1, dtype=np.float32) if channel is None else values[:, channel])


def _of_rows(source: W2vBertSource, data: W2vBertData, aside: SetAside) -> Iterator[Piece]:
    taken: set[str] = set()
    for number, (row, text) in enumerate(_rows(source)):
        if source.max_items is not None and number >= source.max_items:
            return
        try:
            key, seconds = heard(row, text, data, longer=True)
        except UnreadableError as error:
            aside.add(error.reason, error.detail)
            continue
        if key in taken:
            aside.add("duplicate", row.place)
            continue
        taken.add(key)
        whole = Piece(key, key, row.place, seconds, row.sound, text)
        yield from [whole] if row.sound.voice else _pieces(whole, 0, int(seconds * SAMPLE_RATE), data.max_seconds)


def _rows(source: W2vBertSource) -> Iterator[tuple[SpeechRow, str]]:
    """Rows of a source, and what a voice says in each; empty for recordings."""
    if source.kind != "espeak":
        for row in recorded_rows(source):
            yield row, ""
        return
    for number, line in enumerate(text_lines(source.path)):
        yield spoken_row(source, number, source.lang, source.voices, number), " ".join(line.split())


def _of_run(source: W2vBertSource, data: W2vBertData, aside: SetAside) -> Iterator[Piece]:
    """Pieces of the stretches that a run's segments cover; `max_items` counts recordings."""
    spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for _, _, values in parquet_rows(str(Path(source.path) / "segments"), _segment_columns):
        where = str(values["recording_id"]), str(values["uri"])
        spans.setdefault(where, []).append((int(values["start"]), int(values["end"])))
    for (recording, uri), some in sorted(spans.items())[: source.max_items]:
        for start, end in _covered(some):
            place = f"{uri} [{start}, {end})"
            if end - start < data.min_seconds * SAMPLE_RATE:
                aside.add("too_short", place)
                continue
            key = hashlib.sha256(f"{recording}:{start}-{end}".encode()).hexdigest()[:32]
            whole = Piece(key, recording, place, (end - start) / SAMPLE_RATE, None, "", uri, start, end)
            yield from _pieces(whole, start, end, data.max_seconds)


def _segment_columns(file: str, there: Sequence[str]) -> list[str]:
    lacking = [name for name in _SEGMENTS if name not in there]
    if lacking:
        raise InputError(f"{file}: lacks the columns {', '.join(lacking)}: these are no segments of a run")
    return list(_SEGMENTS)


def _covered(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What spans cover together, as spans that do not touch, in order."""
    first: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if first is None:
            first = (start, end)
        elif start <= first[1]:
            first = (first[0], max(first[1], end))
        else:
            yield first
            first = (start, end)
    if first is not None:
        yield first


def _pieces(whole: Piece, start: int, end: int, max_seconds: float) -> Iterator[Piece]:
    """What is short enough as it is, else in equal pieces."""
    count = math.ceil((end - start) / (max_seconds * SAMPLE_RATE))
    if count <= 1:
        yield whole
        return
    edges = [start + (end - start) * i // count for i in range(count + 1)]
    for i, (first, last) in enumerate(pairwise(edges)):
        yield replace(
            whole,
            key=f"{whole.key}{i:x}",
            place=f"{whole.place}, piece {i + 1} of {count}",
            seconds=(last - first) / SAMPLE_RATE,
            start=first,
            end=last,
        )


def _place(key: str) -> float:
    """Where a key lies between 0 and 1."""
    return int(key[:8], 16) / 16**8
