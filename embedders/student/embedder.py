"""A student as a speech embedder: fragments of a recording are heard once, and its spans share their frames."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from seamlessalign.embedders.batches import use_threads
from seamlessalign.embedders.card import Card
from seamlessalign.embedders.speech import check_spans, is_silent
from seamlessalign.embedders.student.frames import Float32, Frames, Int64, Progress
from seamlessalign.embedders.student.model import Student
from seamlessalign.embedders.students import student_card
from seamlessalign.embedders.text import check_language
from seamlessalign.embedders.windows import Waiting, stretches
from seamlessalign.errors import ModelError
from seamlessalign.model_files import find_model
from seamlessalign.rows import SAMPLE_RATE

_AT_ONCE = 240 * SAMPLE_RATE  # samples of speech that are heard before spans are pooled


class StudentEmbedder:
    """Spans → centred unit rows. `models` are the names and SHA-256 of what touches the rows."""

    def __init__(self, name: str, student: Student, card: Card, models: Mapping[str, str]) -> None:
        """Raises ModelError for a card of other dimensions."""
        if card.dim != student.config.dim:
            raise ModelError(f"embedder {name!r}: its card has {card.dim} dimensions, it {student.config.dim}")
        self.name = name
        self.dim = card.dim
        self.card = card
        self.models = models
        self.student = student

    def embed(
        self,
        waveform: Float32,
        spans: Int64,
        lang: str,
        fragments: Int64 | None = None,
        progress: Progress | None = None,
    ) -> Float32:
        """Embed spans of a recording. Memory does not grow with its length.

        Args:
            waveform: float32 `(num_samples,)` at 16 kHz.
            spans: int64 `(num_spans, 2)`, samples `[start, end)`; they may overlap.
            lang: ISO 639-3 of what is spoken.
            fragments: int64 `(num_fragments, 2)`, sorted and disjoint: what the spans are made of. Each is heard once,
                however many spans it is part of; a span's frames are those whose middle lies in it. By default each
                span is heard by itself, with the pauses inside.
            progress: called with the seconds of speech heard since the last call.

        Returns:
            float32 `(num_spans, dim)`, centred, rows of unit length; a row of NaN where nothing is heard: where samples
            do not differ by a step of 16 bits, or the backbone makes no frames.

        Raises:
            InputError: a span or a fragment that is empty or outside the recording, samples of speech that are not
                finite, or a language that is not in the table or that the backbone cannot hear.
        """
        check_language(lang)
        spans = np.asarray(spans, np.int64).reshape(-1, 2)
        check_spans(spans, len(waveform))
        if not len(spans):
            return np.zeros((0, self.dim), np.float32)
        distinct, where = np.unique(spans, axis=0, return_inverse=True)
        rows = np.full((len(distinct), self.dim), np.nan, np.float32)
        if fragments is None:
            made = self._each(waveform, distinct, lang, progress)
        else:
            fragments = np.asarray(fragments, np.int64).reshape(-1, 2)
            made = self._shared(waveform, distinct, _inside(fragments, stretches(distinct)), lang, progress)
        for indices, values in made:
            rows[indices] = values
        rows[[i for i, (start, end) in enumerate(distinct) if is_silent(waveform[start:end])]] = np.nan
        return self.card.centre(rows[where.ravel()], lang)

    def _shared(
        self, waveform: Float32, spans: Int64, fragments: Int64, lang: str, progress: Progress | None
    ) -> Iterator[tuple[Int64, Float32]]:
        """Indices and rows of spans, as soon as the last of their fragments has been heard."""
        waiting = Waiting(spans)
        held: Frames | None = None
        for first, last in _groups(fragments, _AT_ONCE):
            now = self.student.backbone.frames(waveform, fragments[first:last], lang, progress)
            held = now if held is None else _joined(held, now)
            reached = int(fragments[last, 0]) if last < len(fragments) else len(waveform)
            ready, _, done = waiting.arrived(now.time, reached)
            yield ready, self._pool(held, spans[ready])
            held = _without(held, done)

    def _each(
        self, waveform: Float32, spans: Int64, lang: str, progress: Progress | None
    ) -> Iterator[tuple[Int64, Float32]]:
        """As `_shared`; spans are laid behind each other, because a backbone hears what is disjoint."""
        for first, last in _groups(spans, _AT_ONCE):
            pieces = [waveform[start:end] for start, end in spans[first:last]]
            edges = np.cumsum([0, *map(len, pieces)])
            laid = np.stack([edges[:-1], edges[1:]], 1)
            frames = self.student.backbone.frames(np.concatenate(pieces), laid, lang, progress)
            yield np.arange(first, last), self._pool(frames, laid)

    def _pool(self, frames: Frames, spans: Int64) -> Float32:
        with torch.inference_mode():
            return np.asarray(self.student.pool(frames, spans).float().cpu().numpy(), np.float32)


def load_student(
    name: str, models: Mapping[str, str] | None = None, device: str = "cpu", threads: int | None = None
) -> StudentEmbedder:
    """Load a student: `whisper-e5`, or `student` in the directory that `models` gives; a process keeps the last one.

    Args:
        name: a key of `model_files.KNOWN_MODELS`.
        models: model name → directory, for the student and the model of its backbone.
        device: torch device name.
        threads: of torch.

    Raises:
        ModelError: files that are missing or damaged, or do not fit each other.
    """
    use_threads(threads)
    return _load(name, tuple(sorted((models or {}).items())), device)


@lru_cache(maxsize=1)
def _load(name: str, models: tuple[tuple[str, str], ...], device: str) -> StudentEmbedder:
    places = dict(models)
    files = find_model(name, places.get(name))
    student = Student.load(files.directory, device, places)
    touching = {**student.backbone.models, **student.pooler.models, name: files.sha256}
    return StudentEmbedder(name, student, student_card(name, places), touching)


def _groups(pieces: Int64, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of pieces of about so many samples together, one piece at least."""
    ends = np.cumsum(pieces[:, 1] - pieces[:, 0])
    first = 0
    while first < len(pieces):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, last
        first = last


def _inside(fragments: Int64, covered: Int64) -> Int64:
    """The fragments that a span hears anything of."""
    if not len(fragments):
        return fragments
    behind = np.searchsorted(covered[:, 1], fragments[:, 0], side="right")
    there = behind < len(covered)
    there &= covered[np.minimum(behind, len(covered) - 1), 0] < fragments[:, 1]
    return np.asarray(fragments[there])


def _joined(a: Frames, b: Frames) -> Frames:
    token: Any = None if a.token is None or b.token is None else np.r_[a.token, b.token]
    return Frames(torch.cat([a.values, b.values]), np.r_[a.time, b.time], token)


def _without(frames: Frames, done: int) -> Frames:
    """The frames behind the first so many, the memory of which is freed."""
    token = None if frames.token is None else frames.token[done:]
    return Frames(frames.values[done:].clone(), frames.time[done:], token)
