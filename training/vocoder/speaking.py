"""Tables of units as speech: a sound file for each row, and a manifest of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.audio import encode
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.languages import get_language
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import SetAside
from seamlessalign.speech_sources import parquet_rows
from seamlessalign.training.units.repeats import reduce_units
from seamlessalign.training.vocoder.model import Float32, VocoderModel
from seamlessalign.training.vocoder.sources import centroids_of, frames_of

MANIFEST = "speech.jsonl"
_TELL_EVERY = 1000  # rows after which it is told how many there are
_NAMES = ("id", "pair_id", "side", "key")  # columns that say what a row is, which the manifest repeats
_OPTIONAL = ("durations", "lang", "speaker")


@dataclass
class Spoken:
    """What was said of a table, and what was not."""

    rows: int = 0
    seconds: float = 0.0
    set_aside: Counter[str] = field(default_factory=Counter)  # reason → rows


def speak_table(
    place: str,
    vocoder: VocoderModel,
    folder: Path,
    *,
    lang: str | None = None,
    speaker: str | None = None,
    timed: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Spoken:
    """Say every row of a Parquet file, of those in a folder or of a pattern; the manifest is written when all is said.

    A row is set aside as `no_units`, `wrong_units`, `unknown_unit`, `unknown_language` or `unknown_speaker`.

    Args:
        place: with a column `units`, and, where there are such, `durations`, `lang` and `speaker`, as `seamlessalign
            units` and a run write it.
        vocoder: what speaks.
        folder: for the sound files, named by the number of their row.
        lang: of all rows, whatever they say.
        speaker: likewise; where nobody is named, it is the first of the vocoder's.
        timed: units last as long as the table says (without `durations`, 20 ms); else as long as the vocoder finds.

    Raises:
        InputError: no such table, one without units or without a row that can be said, or with units of other centroids
            than the vocoder's; a language or speaker that it has not; or a folder that has a manifest already.
    """
    if (folder / MANIFEST).exists():
        raise InputError(f"{folder}: holds speech already, by its {MANIFEST}; name another folder")
    theirs = centroids_of([place], vocoder.generator.config.unit_hifi_gan_vocab_size)
    if None not in (theirs, vocoder.centroids) and theirs != vocoder.centroids:
        raise InputError(f"{place}: holds units of other centroids than this vocoder was taught with")
    of_all = {} if lang is None else {"lang": _language(lang, vocoder)}
    if speaker is not None and speaker not in vocoder.speakers:
        raise InputError(f"this vocoder has the speakers {', '.join(vocoder.speakers)}, not {speaker}")
    of_all |= {} if speaker is None else {"speaker": speaker}
    done = Spoken()
    aside, lines = SetAside(done.set_aside), []
    for number, (where, values) in enumerate(_rows(place, lang)):
        about = values | of_all
        try:
            samples, said_in = _said(about, vocoder, where, timed=timed)
        except UnreadableError as error:
            aside.add(error.reason, error.detail)
            continue
        name, seconds = f"{number:08d}.flac", len(samples) / SAMPLE_RATE
        storage.write_bytes_atomic(str(folder / name), encode(samples, "flac"))
        told = {key: about[key] for key in ("speaker", *_NAMES) if about.get(key) is not None}
        lines.append({"path": name, "lang": said_in, "seconds": seconds} | told)
        done.rows, done.seconds = done.rows + 1, done.seconds + seconds
        if done.rows % _TELL_EVERY == 0:
            say(f"{done.rows:,} rows, {done.seconds / 3600:.2f} h so far")
    if not lines:
        raise aside.nothing_usable([place])
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    storage.write_bytes_atomic(str(folder / MANIFEST), text.encode())
    return done


def _rows(place: str, lang: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with the file and number of each, for people."""

    def columns(file: str, there: Sequence[str]) -> list[str]:
        if "units" not in there:
            raise InputError(f"{file}: lacks the column units; there are {', '.join(there)}")
        if lang is None and "lang" not in there:
            raise InputError(f"{file}: lacks the column lang; say by --lang which language all rows are")
        return ["units", *(name for name in (*_OPTIONAL, *_NAMES) if name in there)]

    for file, row, values in parquet_rows(place, columns):
        yield f"{file} row {row}", values


def _said(about: dict[str, Any], vocoder: VocoderModel, where: str, *, timed: bool) -> tuple[Float32, str]:
    """Samples of a row, and the language in which it is said. Raises UnreadableError."""
    units, durations = reduce_units(frames_of(about["units"], about.get("durations"), where))
    most = vocoder.generator.config.unit_hifi_gan_vocab_size
    if units.max() >= most:
        raise UnreadableError("unknown_unit", f"{where}: {units.max()} of {most} units of the vocoder")
    try:
        lang = _language(str(about.get("lang")), vocoder)
    except (ConfigError, InputError) as error:
        raise UnreadableError("unknown_language", f"{where}: {error}") from error
    speaker = about.get("speaker")
    if speaker is not None and speaker not in vocoder.speakers:
        raise UnreadableError("unknown_speaker", f"{where}: {speaker!r}")
    return vocoder.speak(units.tolist(), lang, speaker, durations.tolist() if timed else None), lang


def _language(name: str, vocoder: VocoderModel) -> str:
    """Its code. Raises ConfigError, InputError where it is none, or one that the vocoder does not speak."""
    code = get_language(name).iso639_3
    if code not in vocoder.languages:
        raise InputError(f"this vocoder speaks {', '.join(vocoder.languages)}, not {code}")
    return code
