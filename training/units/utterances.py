"""Speech that units are learnt from: what sources list, set aside and counted where it cannot be used."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from seamlessalign.errors import UnreadableError
from seamlessalign.speech_rows import SetAside, SpeechRow, recorded_rows, spoken_row, usable, voices_of
from seamlessalign.speech_sources import Sound, text_lines
from seamlessalign.training.units.config import UnitsData, UnitsSource


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech in one language."""

    key: str  # hex digits that change with its sound
    place: str  # file and row, for people
    lang: str  # ISO 639-3
    text: str  # what a voice says; empty for a recording
    seconds: float  # by its header; guessed from the text where the speech is synthetic
    sound: Sound


def read_utterances(data: UnitsData, rejects: Counter[str] | None = None) -> list[Utterance]:
    """All usable utterances of all sources, in order; what is not usable is counted in `rejects` by reason.

    One that several rows have, such as a sentence that is paired with two others, is listed once (`duplicate`).

    Raises InputError for a source that is not there, lacks a column, or has nothing that is usable.
    """
    found: list[Utterance] = []
    known: set[str] = set()
    for source in data.sources:
        aside, taken = SetAside(rejects), 0
        for number, (row, text) in enumerate(_rows(source)):
            if source.max_items is not None and number >= source.max_items:
                break
            try:
                one = usable(row, text, data)
            except UnreadableError as error:
                aside.add(error.reason, error.detail)
                continue
            taken += 1
            if one.key in known:
                aside.add("duplicate", row.place)
                continue
            known.add(one.key)
            found.append(Utterance(one.key, row.place, one.lang, text, one.seconds, row.sound))
        if not taken:
            raise aside.nothing_usable([source.path])
    return found


def _rows(source: UnitsSource) -> Iterator[tuple[SpeechRow, str]]:
    """Rows of a source, and what a voice says in each; empty for recordings."""
    if source.kind != "espeak":
        for row in recorded_rows(source):
            yield row, ""
        return
    lang = str(source.lang)
    voices = voices_of(lang, source.voices, (), source.path, asked=True)
    for number, line in enumerate(text_lines(source.path)):
        yield spoken_row(source, number, lang, voices, number), " ".join(line.split())
