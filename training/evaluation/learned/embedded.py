"""What source, references and systems say, as rows of embedders: each text and each sound is embedded once."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.card import has_card, load_card, means_digest
from seamlessalign.embedders.speech import (
    SpeechEmbedder,
    load_speech_embedder,
    speech_models,
    speech_rows_digest,
    speech_space,
)
from seamlessalign.embedders.students import STUDENTS
from seamlessalign.embedders.text import TextEmbedder, check_language, load_text_embedder
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.languages import to_model_code
from seamlessalign.model_files import find_model, place_of
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.evaluation.learned.learned_config import Modality

Float32 = npt.NDArray[np.float32]
Thing = TypeVar("Thing")

_TEXTS = 2048  # that are embedded before it is told how far it is
_SAMPLES = 240 * SAMPLE_RATE  # of speech that is embedded together, about


@dataclass(frozen=True)
class Embedded:
    """Rows of unit length `(num_rows, dim)`, zeros where there is none, and why: place → reason."""

    rows: Float32
    failed: dict[int, str]


class Embedders:
    """An embedder of texts and one of speech, or one of them, whose rows are in one space; loaded when first wanted.

    Reasons why something has no row: `no_output`, `blank` and `not_unicode` of texts; those of `load_sound`, and
    `nothing_heard`, of sounds; `not_embedded` of what the embedder refuses, as SONAR does with more than 60 s.
    """

    def __init__(
        self,
        text: str | None,
        speech: str | None,
        directories: Mapping[str, str] | None = None,
        device: str = "cpu",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """directories: model name → where it lies. say: is told how far it is.

        Raises ConfigError where the rows of both are in spaces of their own, ModelError for embedders that there are
        not.
        """
        self._places, self._device, self._say = dict(directories or {}), device, say
        self._names = {"text": text, "speech": speech}
        self._kept: dict[tuple[str, Hashable], Float32 | str] = {}  # language and thing → row, or why there is none
        space = None if speech is None else speech_space(speech, self._places)
        if text is not None and space is not None and space != text:
            raise ConfigError(f"{speech} embeds into the space of {space}, not of {text}: give text: {space}")

    def check_language(self, kind: Modality, lang: str) -> None:
        """Raise InputError for a language (ISO 639-3) that the embedder does not know; nothing is loaded."""
        check_language(lang)
        name = self._names[kind]
        if kind == "speech":
            speech_models(str(name), [lang], self._places)
        elif name == "sonar" and to_model_code(lang, "sonar") is None:
            raise InputError(f"language {lang!r} is none of those that SONAR reads")

    @cached_property
    def dim(self) -> int:
        """Of rows. Loads the embedders; raises ModelError, or ConfigError where theirs differ."""
        dims = {name: one.dim for name, one in self._loaded().items()}
        if len(set(dims.values())) > 1:
            raise ConfigError(
                f"embedders have {' and '.join(f'{dim} ({name})' for name, dim in dims.items())} dimensions"
            )
        return next(iter(dims.values()))

    def signature(self, kind: Modality, lang: str) -> str:
        """What rows of a language (ISO 639-3) depend on: the names and SHA-256 of models, and of means."""
        name = str(self._names[kind])
        names = [name] if kind == "text" else speech_models(name, [lang], self._places)
        told = [f"{one}-{self._sha256(kind, one)[:8]}" for one in names]
        if kind == "speech" and name in STUDENTS:
            means = speech_rows_digest(name, self._places)
        else:  # what embeds transcripts subtracts the means of texts
            space = name if kind == "text" else speech_space(name, self._places)
            means = means_digest(space) if has_card(space) and load_card(space).means else ""
        return f"{kind}:{'+'.join([*told, *([f'means-{means[:8]}'] if means else [])])}"

    def texts(self, texts: Sequence[str | None], lang: str) -> Embedded:
        """Rows of texts of a language (ISO 639-3).

        Raises InputError for a language that the embedder does not know, ModelError.
        """
        self.check_language("text", lang)
        new: list[str] = []
        for text in dict.fromkeys(text for text in texts if text is not None):
            if (lang, text) in self._kept:
                continue
            if not text.strip():
                self._kept[lang, text] = "blank"
            elif any("\ud800" <= letter <= "\udfff" for letter in text):
                self._kept[lang, text] = "not_unicode"
            else:
                new.append(text)
        cut = self._text.truncated
        for start in range(0, len(new), _TEXTS):
            some = new[start : start + _TEXTS]
            for text, row in zip(some, _each(lambda one: self._text.embed(one, lang), some), strict=True):
                self._keep((lang, text), row)
            self._say(f"{min(start + _TEXTS, len(new))} of {len(new)} texts embedded")
        if self._text.truncated > cut:
            self._say(f"{self._text.truncated - cut} texts are longer than {self._text.name} takes: without their ends")
        return self._embedded(texts, lang)

    def sounds(self, sounds: Sequence[Sound | None], lang: str) -> Embedded:
        """Rows of sounds in a language (ISO 639-3), each heard by itself.

        Raises InputError for a language that the embedder does not know, ModelError.
        """
        self.check_language("speech", lang)
        new = [sound for sound in dict.fromkeys(sounds) if sound is not None and (lang, sound) not in self._kept]
        done = 0
        for group in self._read(new, lang):
            for (sound, _), row in zip(group, _each(lambda some: self._embed(some, lang), group), strict=True):
                self._keep((lang, sound), row)
            done += len(group)
            self._say(f"{done} of {len(new)} sounds embedded")
        return self._embedded(sounds, lang)

    def _embed(self, group: Sequence[tuple[Sound, Float32]], lang: str) -> Float32:
        """Rows of sounds, which are laid behind each other as the spans of one recording."""
        edges = np.cumsum([0, *(len(samples) for _, samples in group)])
        spans = np.stack([edges[:-1], edges[1:]], axis=1)
        return self._speech.embed(np.concatenate([samples for _, samples in group]), spans, lang)

    def _read(self, sounds: Sequence[Sound], lang: str) -> Iterator[list[tuple[Sound, Float32]]]:
        """Sounds with their samples, so many together; of what cannot be read the reason is kept."""
        group: list[tuple[Sound, Float32]] = []
        for sound in sounds:
            try:
                group.append((sound, load_sound(sound, "", f"{sound.path} row {sound.row}")))
            except UnreadableError as error:
                self._kept[lang, sound] = error.reason
            if sum(len(samples) for _, samples in group) >= _SAMPLES:
                yield group
                group = []
        if group:
            yield group

    def _keep(self, key: tuple[str, Hashable], row: Float32 | None) -> None:
        if row is None:
            self._kept[key] = "not_embedded"
        else:
            self._kept[key] = row if np.isfinite(row).all() else "nothing_heard"

    def _embedded(self, things: Sequence[Hashable | None], lang: str) -> Embedded:
        rows, failed = np.zeros((len(things), self.dim), np.float32), {}
        for place, thing in enumerate(things):
            kept = "no_output" if thing is None else self._kept[lang, thing]
            if isinstance(kept, str):
                failed[place] = kept
            else:
                rows[place] = kept
        return Embedded(rows, failed)

    def _sha256(self, kind: Modality, model: str) -> str:
        """Of weights. SONAR loads its speech encoders as they are wanted, and does not know the others."""
        loaded = (self._text if kind == "text" else self._speech).models
        return loaded[model] if model in loaded else find_model(model, place_of(model, self._places)).sha256

    @cached_property
    def _text(self) -> TextEmbedder:
        name = str(self._names["text"])
        return load_text_embedder(name, place_of(name, self._places), self._device, dtype="float32")

    @cached_property
    def _speech(self) -> SpeechEmbedder:
        return load_speech_embedder(str(self._names["speech"]), self._places, self._device, frames="each")

    def _loaded(self) -> dict[str, TextEmbedder | SpeechEmbedder]:
        made: dict[str, TextEmbedder | SpeechEmbedder] = {}
        if self._names["text"]:
            made["text"] = self._text
        if self._names["speech"]:
            made["speech"] = self._speech
        return made


def _each(embed: Callable[[Sequence[Thing]], Float32], things: Sequence[Thing]) -> list[Float32 | None]:
    """Rows of things, embedded together; where that is refused one by one, None for those that are refused alone."""
    try:
        return list(embed(things))
    except InputError:
        if len(things) == 1:
            return [None]
        return [row for one in things for row in _each(embed, [one])]
