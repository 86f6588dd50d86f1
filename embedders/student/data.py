"""Utterances to learn from: Parquet files, folders with a manifest, texts that espeak-ng reads out.

Listing them looks at texts and at the headers of sound files; the sound itself is decoded when it is wanted. What
cannot be used is set aside and counted under a reason, in both places.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.training_config import DataConfig, SourceConfig
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.speech_rows import SetAside, SpeechRow, has_words, recorded_rows, spoken_row, usable
from seamlessalign.speech_sources import Sound, load_sound, text_lines


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech and what it says."""

    key: str  # hex digits that change with its sound
    place: str  # file and row, for people
    lang: str  # ISO 639-3
    text: str
    translations: tuple[tuple[str, str], ...]  # (language, text)
    seconds: float  # by its header; guessed from the text where the speech is synthetic
    sound: Sound


def read_sources(
    sources: Sequence[SourceConfig], data: DataConfig, rejects: Counter[str] | None = None
) -> list[Utterance]:
    """All usable utterances of some sources, in order; what is not usable is counted in `rejects` by reason.

    Raises InputError for a source that is not there or lacks a column, and where nothing is usable.
    """
    found: list[Utterance] = []
    aside = SetAside(rejects)
    for source in sources:
        for number, (row, text, translations) in enumerate(_rows(source)):
            if source.max_items is not None and number >= source.max_items:
                break
            try:
                found.append(_utterance(row, text, translations, data))
            except UnreadableError as error:
                aside.add(error.reason, error.detail)
    if not found:
        raise aside.nothing_usable(source.path for source in sources)
    return found


def load_speech(utterance: Utterance) -> Float32:
    """Samples of an utterance, float32 `(num_samples,)` at 16 kHz.

    Raises UnreadableError with the reason `silent`, `no_speech` (espeak-ng says nothing) or one of `audio.decode`.
    """
    return load_sound(utterance.sound, utterance.text, utterance.place)


def _utterance(row: SpeechRow, said: object, translations: Mapping[str, object], data: DataConfig) -> Utterance:
    """Raises UnreadableError with the reason for which a row is set aside."""
    text = _words(said)
    if not has_words(text):
        raise UnreadableError("empty_text", row.place)
    if len(text) > data.max_chars:
        raise UnreadableError("text_too_long", row.place)
    one = usable(row, text, data)
    others = [(lang, _words(other)) for lang, other in translations.items() if lang != one.lang]
    kept = tuple((lang, other) for lang, other in others if has_words(other) and len(other) <= data.max_chars)
    return Utterance(one.key, row.place, one.lang, text, kept, one.seconds, row.sound)


def _words(said: object) -> str:
    return " ".join(str(said or "").split())


def _rows(source: SourceConfig) -> Iterator[tuple[SpeechRow, object, Mapping[str, object]]]:
    """Rows of a source, what each says, and its translations by language."""
    if source.kind == "espeak":
        yield from _read_out(source)
        return
    for row in recorded_rows(source, [source.text, *source.translations.values()]):
        translations = {lang: row.values.get(column) for lang, column in source.translations.items()}
        yield row, row.values.get(source.text), translations


def _read_out(source: SourceConfig) -> Iterator[tuple[SpeechRow, str, Mapping[str, str]]]:
    lines = text_lines(source.path)
    translations = {lang: text_lines(path) for lang, path in source.translations.items()}
    for lang, said in translations.items():
        if len(said) != len(lines):
            raise InputError(
                f"{source.translations[lang]}: has {len(said)} lines, {source.path} {len(lines)}: "
                "line i of one must be the translation of the other's"
            )
    for voice in source.voices:
        speak_afresh("a", voice)  # a voice that is not there is found now, not hours later
    for number, text in enumerate(lines):
        said_there = {lang: said[number] for lang, said in translations.items()}
        yield spoken_row(source, number, source.lang, source.voices, number), text, said_there
