"""Encoders of speech: spans of a recording → rows in the space of the text embedder.

`transcribe-e5` transcribes each fragment of speech once, joins the transcripts of a span's fragments, and embeds
them as text. Whisper's own translation into English is a second view; the mean of both is better than either.
`sonar` and students, of which `whisper-e5` is one, make rows of frames, without words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.card import Card, card_digest, load_card, means_digest, unit_rows
from seamlessalign.embedders.students import (
    STUDENTS,
    student_card,
    student_digest,
    student_models,
    student_rows_digest,
    student_teacher,
)
from seamlessalign.embedders.text import TextEmbedder, check_language, load_text_embedder
from seamlessalign.embedders.windows import stretches
from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import to_model_code
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import MAX_SPEECH_SECONDS, Task, Transcript, Whisper, load_whisper

_TEXT_EMBEDDER = {"transcribe-e5": "e5-small", "transcribe-labse": "labse"}

SpanFrames = Literal["each", "shared"]

_WITHOUT_SPACES = {"cmn", "yue", "jpn", "tha", "lao", "khm", "mya", "bod"}

_SILENCE = 2.0**-15  # one step of 16-bit samples; speech moves by more

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class SpeechEmbedder(Protocol):
    """Spans of a recording → unit rows. `models` are the names and SHA-256 of what touches the rows."""

    name: str
    dim: int
    card: Card
    models: Mapping[str, str]

    def embed(
        self,
        waveform: Float32,
        spans: Int64,
        lang: str,
        fragments: Int64 | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32: ...


class TranscribingEmbedder:
    """Transcribe-then-embed. `models` are the names and SHA-256 of what touches the rows."""

    def __init__(self, name: str, whisper: Whisper, text: TextEmbedder, card: Card) -> None:
        if card.dim != text.dim:
            raise ModelError(f"embedder {name!r}: its card has {card.dim} dimensions, its text embedder {text.dim}")
        self.name = name
        self.dim = text.dim
        self.card = card
        self.models: Mapping[str, str] = {whisper.files.name: whisper.files.sha256, **text.models}
        self._whisper = whisper
        self._text = text

    def embed(
        self,
        waveform: Float32,
        spans: Int64,
        lang: str,
        fragments: Int64 | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32:
        """Embed spans of a recording.

        Args:
            waveform: float32 `(num_samples,)` at 16 kHz.
            spans: int64 `(num_spans, 2)`, samples `[start, end)`; they may overlap.
            lang: ISO 639-3 of what is spoken.
            fragments: int64 `(num_fragments, 2)`, sorted: what the spans are made of. Each is transcribed once,
                however many spans it is part of. By default each span is transcribed by itself.
            progress: called with the seconds of speech done since the last call.

        Returns:
            float32 `(num_spans, dim)`, centred, rows of unit length; a row of NaN where no words were heard, as in
            silence.

        Raises:
            InputError: a span that is empty or outside the recording, a fragment that no span can be made of,
                samples that are not finite, or a language that Whisper does not know.
        """
        check_language(lang)
        spans = np.asarray(spans, np.int64).reshape(-1, 2)
        check_spans(spans, len(waveform))
        if not len(spans):
            return np.zeros((0, self.dim), np.float32)
        if fragments is None:
            fragments, first = np.unique(spans, axis=0, return_inverse=True)
            members = [[int(i)] for i in first.ravel()]
        else:
            members = _fragments_of(spans, np.asarray(fragments, np.int64))
        wanted = sorted({i for member in members for i in member})
        heard = dict(zip(wanted, self.hear(waveform, fragments[wanted], lang, progress), strict=True))
        views = []
        for view, view_lang in enumerate(self.view_languages(lang)):
            space = space_between(view_lang)
            texts = [space.join(filter(None, (heard[i][view].text for i in member))) for member in members]
            views.append(self._embed_texts(texts, view_lang))
        return _mean_of_views(views)

    def hear(
        self, waveform: Float32, fragments: Int64, lang: str, progress: Callable[[float], None] | None = None
    ) -> list[tuple[Transcript, ...]]:
        """The transcripts of fragments: for each one in its own language and, unless that is English, in English.

        Nothing is heard where samples do not differ by a step of 16 bits: Whisper makes up words for silence.
        """
        parts = [np.asarray(waveform[start:end], np.float32) for start, end in fragments]
        for (start, end), samples in zip(fragments, parts, strict=True):
            if not np.isfinite(samples).all():
                raise InputError(f"samples {start}-{end} are not all finite numbers")
        tasks: list[Task] = ["transcribe", "translate"][: len(self.view_languages(lang))]  # type: ignore[assignment]
        return hear_any_length(self._whisper, parts, lang, tasks, progress)

    @staticmethod
    def view_languages(lang: str) -> list[str]:
        """The languages that a recording is heard in: its own, and English."""
        return [lang] if lang == "eng" else [lang, "eng"]

    def _embed_texts(self, texts: Sequence[str], lang: str) -> Float32:
        rows = np.full((len(texts), self.dim), np.nan, np.float32)
        worded = [i for i, text in enumerate(texts) if any(c.isalnum() for c in text)]
        rows[worded] = self._text.embed([texts[i] for i in worded], lang)
        return rows


def hear_any_length(
    whisper: Whisper,
    waveforms: Sequence[Float32],
    lang: str,
    tasks: Sequence[Task],
    progress: Callable[[float], None] | None = None,
) -> list[tuple[Transcript, ...]]:
    """As `Whisper.hear`, of speech of any length: what one window does not hold is heard in equal pieces.

    Nothing is heard where samples do not differ by a step of 16 bits: Whisper makes up words for silence.
    """
    limit = int(MAX_SPEECH_SECONDS * SAMPLE_RATE)
    pieces: list[Float32] = []
    owner: list[int] = []
    for i, samples in enumerate(waveforms):
        count = -(-len(samples) // limit)  # only what no voice activity detection has cut is longer
        pieces.extend(np.array_split(samples, count) if count > 1 else [samples])
        owner.extend([i] * max(count, 1))
    loud = [i for i, piece in enumerate(pieces) if not is_silent(piece)]
    if progress is not None and len(loud) < len(pieces):
        progress((sum(map(len, pieces)) - sum(len(pieces[i]) for i in loud)) / SAMPLE_RATE)
    transcripts = [(Transcript("", False),) * len(tasks)] * len(pieces)
    for i, heard in zip(loud, whisper.hear([pieces[i] for i in loud], lang, tasks, progress), strict=True):
        transcripts[i] = heard
    grouped: list[list[tuple[Transcript, ...]]] = [[] for _ in waveforms]
    for i, transcript in zip(owner, transcripts, strict=True):
        grouped[i].append(transcript)
    spaces = [space_between(lang if task == "transcribe" else "eng") for task in tasks]
    return [
        tuple(_joined(view, space) for view, space in zip(zip(*group, strict=True), spaces, strict=True))
        for group in grouped
    ]


class EachSpan:
    """An embedder that is not told of fragments, and so hears each span by itself, with the pauses inside."""

    def __init__(self, embedder: SpeechEmbedder) -> None:
        self.name, self.dim, self.card = embedder.name, embedder.dim, embedder.card
        self.models = embedder.models
        self._embedder = embedder

    def embed(
        self,
        waveform: Float32,
        spans: Int64,
        lang: str,
        fragments: Int64 | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float32:
        """As of the embedder without fragments; those that are given only say how many seconds progress is told of."""
        spans = np.asarray(spans, np.int64).reshape(-1, 2)
        check_spans(spans, len(waveform))
        tell = progress
        if progress is not None and fragments is not None:
            distinct = np.unique(spans, axis=0)
            tell = scaled(progress, speech_seconds(distinct, np.asarray(fragments, np.int64).reshape(-1, 2)), distinct)
        return self._embedder.embed(waveform, spans, lang, None, tell)


def load_speech_embedder(
    name: str = "whisper-e5",
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    frames: SpanFrames | None = None,
) -> SpeechEmbedder:
    """Load a speech embedder by its short name.

    Args:
        name: `transcribe-e5` or `transcribe-labse`, by the text embedder whose space its rows are in; `sonar`;
            `whisper-e5`; or `student`, the one in the directory that `models` gives.
        models: model name → directory, for models that lie in one.
        device: torch device name.
        threads: of the text encoder's own thread pool, or of torch for `sonar` and students.
        frames: `each`: every span is heard by itself, which is `sonar`'s default; `shared`: each stretch of speech
            once, for all the spans that share it, which is that of all others.

    Raises:
        ModelError: a name that is not known, or a model that is missing or damaged.
    """
    frames = frames or default_frames(name)
    if name == "sonar":
        from seamlessalign.embedders.sonar.speech import load_speech

        return load_speech(models or {}, device, threads, frames=frames)
    embedder = _load_shared(name, models or {}, device, threads)
    return EachSpan(embedder) if frames == "each" else embedder


def _load_shared(name: str, places: Mapping[str, str], device: str, threads: int | None) -> SpeechEmbedder:
    if name in STUDENTS:
        from seamlessalign.embedders.student.embedder import load_student

        return load_student(name, places, device, threads)
    whisper_name, text_name = speech_models(name, ())
    whisper = load_whisper(whisper_name, places.get(whisper_name), device)
    text = load_text_embedder(text_name, places.get(text_name), device, threads)
    return TranscribingEmbedder(name, whisper, text, load_card(name))


def speech_models(name: str, languages: Iterable[str], models: Mapping[str, str] | None = None) -> list[str]:
    """Names of the models that a speech embedder loads for recordings in some languages (ISO 639-3).

    `models` is as for `load_speech_embedder`. Raises ModelError for an embedder that does not exist or a student that
    cannot be found, InputError for a language that it cannot hear.
    """
    if name == "sonar":
        from seamlessalign.embedders.sonar.speech import speech_model

        return sorted({speech_model(lang) for lang in languages})
    if name in STUDENTS:
        needed, tells_languages = student_models(name, models or {})
    elif name in _TEXT_EMBEDDER:
        needed, tells_languages = ["whisper-base", _TEXT_EMBEDDER[name]], True
    else:
        known = ", ".join((*_TEXT_EMBEDDER, "sonar", *STUDENTS))
        raise ModelError(f"speech embedder {name!r} is not known; there are {known}")
    for lang in languages:
        if tells_languages and to_model_code(lang, "whisper") is None:
            raise InputError(f"language {lang!r}: {name} cannot hear it: Whisper does not know it")
    return needed


def speech_space(name: str, models: Mapping[str, str] | None = None) -> str:
    """The text embedder in whose space a speech embedder's rows are; nothing is loaded. Raises ModelError."""
    if name in STUDENTS:
        return student_teacher(name, models or {})
    return _TEXT_EMBEDDER.get(name, name)


def speech_card(name: str, models: Mapping[str, str] | None = None) -> Card:
    """The card of a speech embedder, which for a student may lie in its directory; nothing else is loaded."""
    return student_card(name, models or {}) if name in STUDENTS else load_card(name)


def speech_digest(name: str, models: Mapping[str, str] | None = None) -> str:
    """First 16 hex digits of a SHA-256: of the card, and of what else beside weights a student's rows depend on."""
    return student_digest(name, models or {}) if name in STUDENTS else card_digest(name)


def speech_rows_digest(name: str, models: Mapping[str, str] | None = None) -> str:
    """As `speech_digest`, without thresholds, on which no rows depend."""
    return student_rows_digest(name, models or {}) if name in STUDENTS else means_digest(name)


def default_frames(name: str) -> SpanFrames:
    """How a speech embedder hears spans unless `speech.frames` says otherwise."""
    return "each" if name == "sonar" else "shared"


def check_spans(spans: Int64, num_samples: int) -> None:
    """Raise InputError for the first span that is empty or outside a recording of so many samples."""
    wrong = np.flatnonzero((spans[:, 0] < 0) | (spans[:, 1] > num_samples) | (spans[:, 0] >= spans[:, 1]))
    if len(wrong):
        start, end = spans[wrong[0]]
        raise InputError(f"span {wrong[0]} [{start}, {end}) is empty or outside the recording's {num_samples} samples")


def scaled(progress: Callable[[float], None] | None, total: float, pieces: Int64) -> Callable[[float], None] | None:
    """Turns seconds of pieces, which may overlap, into shares of `total` seconds."""
    if progress is None:
        return None
    if not len(pieces):
        progress(total)
    share = total * SAMPLE_RATE / max(int((pieces[:, 1] - pieces[:, 0]).sum()), 1)
    return lambda seconds: progress(seconds * share)


def speech_seconds(spans: Int64, fragments: Int64 | None) -> float:
    """Seconds of the fragments that lie in any span; without fragments, seconds that the spans cover."""
    covered = stretches(spans)
    parts = covered if fragments is None else fragments
    cover = np.searchsorted(covered[:, 0], parts[:, 0], side="right") - 1
    inside = (cover >= 0) & (parts[:, 1] <= covered[cover, 1])
    return float((parts[inside, 1] - parts[inside, 0]).sum()) / SAMPLE_RATE


def space_between(lang: str) -> str:
    """What is written between the transcripts of neighbouring fragments: nothing in scripts without spaces.

    Chinese and Japanese sentences cut in two anywhere find their translation as before when nothing is put between
    the halves, and Japanese ones up to two points less often with a space.
    """
    return "" if lang in _WITHOUT_SPACES else " "


def is_silent(samples: Float32) -> bool:
    """Whether samples do not differ by a step of 16 bits: nothing in them can be heard."""
    return not len(samples) or bool(np.ptp(samples) <= _SILENCE)


def _fragments_of(spans: Int64, fragments: Int64) -> list[list[int]]:
    """For each span the fragments that it runs over, which begin and end with it."""
    first = np.searchsorted(fragments[:, 0], spans[:, 0])
    last = np.searchsorted(fragments[:, 1], spans[:, 1])
    right = (first < len(fragments)) & (last < len(fragments))
    right[right] = (fragments[first[right], 0] == spans[right, 0]) & (fragments[last[right], 1] == spans[right, 1])
    if not right.all():
        i = int(np.flatnonzero(~right)[0])
        raise InputError(f"span {i} [{spans[i, 0]}, {spans[i, 1]}) does not begin and end with a fragment")
    return [list(range(a, b + 1)) for a, b in zip(first.tolist(), last.tolist(), strict=True)]


def _joined(parts: Sequence[Transcript], space: str) -> Transcript:
    return Transcript(
        space.join(part.text for part in parts if part.text),
        any(part.looped for part in parts),
        all(part.finished for part in parts),
        sum(part.logprob for part in parts),
        sum(part.num_tokens for part in parts),
    )


def _mean_of_views(views: Sequence[Float32]) -> Float32:
    """The mean of unit rows over the views in which something was heard, of unit length."""
    stacked = np.stack(views)
    there: npt.NDArray[np.bool_] = np.asarray(np.isfinite(stacked).all(axis=2))
    rows = unit_rows(np.where(there[:, :, None], stacked, 0).sum(axis=0).astype(np.float32))
    rows[~np.any(there, axis=0)] = np.nan
    return rows
