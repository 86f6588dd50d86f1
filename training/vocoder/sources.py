"""Utterances with their units, language and speaker, from rows that have them or from a run's corpus and its units."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_rows import SetAside, SpeechRow, recorded_rows, usable
from seamlessalign.speech_sources import Sound, open_parquet, parquet_files, parquet_rows
from seamlessalign.training.units.files import FINGERPRINT, NUM_UNITS
from seamlessalign.training.units.repeats import reduce_units
from seamlessalign.training.vocoder.config import VocoderData, VocoderSource
from seamlessalign.training.vocoder.sizes import UNIT_SAMPLES

Int32 = npt.NDArray[np.int32]

_LOOSE_FRAMES = 3  # by which units and sound may differ: extractors drop what does not fill their last frame
_SIDES = ("src", "tgt")


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech of one speaker, and its units."""

    key: str  # hex digits that change with its sound, units, language and speaker
    place: str  # file and row, for people
    lang: str  # ISO 639-3
    speaker: str  # empty where nobody says
    seconds: float  # by its header
    sound: Sound
    units: Int32  # (num_units,), none equal to the one before
    durations: Int32  # (num_units,), of 20 ms, at least 1

    @property
    def num_frames(self) -> int:
        """Units at 50 Hz."""
        return int(self.durations.sum())


def read_utterances(
    sources: Sequence[VocoderSource], data: VocoderData, num_units: int, rejects: Counter[str]
) -> list[Utterance]:
    """All usable utterances of some sources, in order; what is not usable is counted in `rejects` by reason.

    Besides the reasons of `speech_rows.usable` these are `no_units`, `wrong_units` (not numbers, or durations that are
    not theirs), `unknown_unit` (not below `num_units`), `units_do_not_fit` (the sound is longer or shorter than they
    say) and `too_short` for a segment.

    Raises InputError for a source that is not there, lacks a column, or has nothing that is usable.
    """
    found: list[Utterance] = []
    for source in sources:
        aside, before = SetAside(rejects), len(found)
        for row, units, durations in _rows(source):
            if source.max_items is not None and len(found) - before == source.max_items:
                break
            try:
                found.append(_utterance(row, units, durations, source, data, num_units))
            except UnreadableError as error:
                aside.add(error.reason, error.detail)
        if len(found) == before:
            raise aside.nothing_usable([source.path])
    return found


def centroids_of(places: Sequence[str], num_units: int) -> str | None:
    """The fingerprint of the centroids whose units some tables hold, Parquet, where these say it.

    Raises InputError where two tables have units of other centroids, or one those of more or fewer than `num_units`.
    """
    first: dict[str, Path] = {}
    for file in (file for place in places for file in parquet_files(place)):
        about = open_parquet(file).schema_arrow.metadata or {}
        count, fingerprint = (about.get(name.encode()) for name in (NUM_UNITS, FINGERPRINT))
        if count is not None and count.decode() != str(num_units):
            raise InputError(f"{file}: holds units of {count.decode()} centroids, not of {num_units} (model.units)")
        if fingerprint is not None:
            first.setdefault(fingerprint.decode(), file)
    if len(first) > 1:
        one, other, *_ = first.values()
        raise InputError(f"{one} and {other} hold units of different centroids; make both with one model")
    return next(iter(first), None)


def tables_of(source: VocoderSource) -> list[str]:
    """Where the tables of units of a source are; a manifest has none."""
    if source.kind == "run":
        return [source.units or str(Path(source.path) / "units")]
    return [source.path] if source.kind == "parquet" else []


def split_utterances(utterances: Sequence[Utterance], share: float) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to learn from and those that are held out, about `share` of them, by the key, so that more data moves
    nothing. Where there are two, there is one of each.
    """
    chance = {one.key: int(one.key[:8], 16) / 16**8 for one in utterances}
    held = {key for key, place in chance.items() if place < share}
    if not held or len(held) == len(chance):
        first = min(chance, key=lambda key: (chance[key], key))
        held = {first} if len(chance) > 1 else set()
    learnt = [one for one in utterances if one.key not in held]
    return learnt, [one for one in utterances if one.key in held]


def _utterance(
    row: SpeechRow, units: Any, durations: Any, source: VocoderSource, data: VocoderData, num_units: int
) -> Utterance:
    """Raises UnreadableError with the reason for which it is set aside."""
    one = usable(row, "", data)
    frames = frames_of(units, durations, row.place)
    if frames.max() >= num_units:
        raise UnreadableError("unknown_unit", f"{row.place}: {frames.max()} of {num_units} units of the model")
    expected = one.seconds * SAMPLE_RATE / UNIT_SAMPLES
    if abs(len(frames) - expected) > _LOOSE_FRAMES:
        told = f"{row.place}: units of {len(frames) / 50:.2f} s for {one.seconds:.2f} s of sound"
        raise UnreadableError("units_do_not_fit", told)
    if len(frames) < data.segment:
        raise UnreadableError("too_short", f"{row.place}: {len(frames)} units, a segment has {data.segment}")
    speaker = str(row.values.get(source.speaker_column) or source.speaker or "")
    own = hashlib.sha256(f"{one.key} {one.lang} {speaker}".encode() + frames.tobytes()).hexdigest()[:32]
    return Utterance(own, row.place, one.lang, speaker, one.seconds, row.sound, *reduce_units(frames))


def frames_of(units: Any, durations: Any, place: str) -> Int32:
    """Units at 50 Hz of what a row has: numbers, with durations or without. Raises UnreadableError: `no_units`,
    `wrong_units`.
    """
    found = _numbers(units, place)
    if found is None or not len(found):
        raise UnreadableError("no_units", place)
    if found.min() < 0:
        raise UnreadableError("wrong_units", f"{place}: {found.min()} is no unit")
    times = _numbers(durations, place)
    if times is None:
        return found
    if len(times) != len(found) or times.min() < 1:
        raise UnreadableError("wrong_units", f"{place}: {len(found)} units with {len(times)} durations of 1 or more")
    return np.repeat(found, times)


def _numbers(value: Any, place: str) -> Int32 | None:
    """Whole numbers of a list, or of text with spaces."""
    if value is None:
        return None
    try:
        parts = value.split() if isinstance(value, str) else list(value)
        exact = [int(part) for part in parts]
        if any(isinstance(part, float | bool) and part != number for part, number in zip(parts, exact, strict=True)):
            raise ValueError("not whole numbers")
        return np.array(exact, np.int32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableError("wrong_units", f"{place}: {error}") from error


def _rows(source: VocoderSource) -> Iterator[tuple[SpeechRow, Any, Any]]:
    """Rows of a source with their units and durations as they stand there."""
    if source.kind == "run":
        yield from _run_rows(source)
        return
    optional = [source.durations_column, source.speaker_column]
    for row in recorded_rows(source, [source.units_column], optional):
        yield row, row.values[source.units_column], row.values.get(source.durations_column)


def _run_rows(source: VocoderSource) -> Iterator[tuple[SpeechRow, Any, Any]]:
    """Sides of a run's pairs that have sound, of those sides that units were made of."""
    corpus = Path(source.path) / "corpus"
    (table,) = tables_of(source)
    units_of = _unit_table(table)
    found = 0
    for side in sorted({side for _, side in units_of}):
        if side not in _SIDES:
            raise InputError(f"{table}: units of a side {side!r}; there are src and tgt")
        audio, lang = f"{side}_audio", f"{side}_lang"
        rows = source.model_copy(
            update={"kind": "parquet", "path": str(corpus), "audio": audio, "lang_column": lang, "max_items": None}
        )
        for row in recorded_rows(rows, ["pair_id"], [source.speaker_column]):
            if row.values[audio] is None:
                continue
            found += 1
            units, durations = units_of.get((str(row.values["pair_id"]), side), (None, None))
            yield row, units, durations
    if not found:
        raise InputError(f"{corpus}: no pair has sound")


def _unit_table(folder: str) -> dict[tuple[str, str], tuple[Any, Any]]:
    """(pair, side) → units and durations, of the tables in a folder."""
    wanted = ["pair_id", "side", "units", "durations"]

    def columns(file: str, there: Sequence[str]) -> list[str]:
        lacking = [name for name in wanted if name not in there]
        if lacking:
            raise InputError(f"{file}: lacks the columns {', '.join(lacking)} of a table of units")
        return wanted

    kept: dict[tuple[str, str], tuple[Any, Any]] = {}
    for _, _, values in parquet_rows(folder, columns):
        kept[str(values["pair_id"]), str(values["side"])] = _compact(values, "units"), _compact(values, "durations")
    return kept


def _compact(values: Mapping[str, Any], name: str) -> Any:
    """A list of numbers in an eighth of its memory; what is none stays, and is set aside later."""
    try:
        return np.array(values[name], np.int32) if values[name] is not None else None
    except (TypeError, ValueError, OverflowError):
        return values[name]
