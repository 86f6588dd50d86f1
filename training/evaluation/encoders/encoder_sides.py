"""What is embedded: sides of parallel rows or of what is mined, each of one language, as text or as speech."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.speech import speech_models
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import Side, find_language, to_model_code
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.config import TestSet
from seamlessalign.training.evaluation.datasets.reading import read_test_set
from seamlessalign.training.evaluation.encoders.encoder_config import Encoder, ParallelRows
from seamlessalign.training.evaluation.encoders.mined_pairs import lines_of
from seamlessalign.training.evaluation.encoders.mining_config import MinedSide
from seamlessalign.training.evaluation.learned.embedded import Embedded, Embedders
from seamlessalign.training.evaluation.rows import check_ids, id_of, sound_of, table_lines
from seamlessalign.training.evaluation.subjects import Tools
from seamlessalign.typed_config import digest

Thing = str | Sound | None  # of a row on a side; None where the row has nothing there


@dataclass(frozen=True)
class Sentences:
    """One side that is mined."""

    side: Side
    ids: list[str]
    things: list[Thing]


@dataclass(frozen=True)
class Parallel:
    """Rows that say the same on all sides."""

    ids: list[str]
    sides: dict[Side, list[Thing]]  # of each row
    directions: list[tuple[Side, Side]]  # that are measured where no others are asked for
    languages: list[tuple[str, str]] | None = None  # of each row, where rows are of directions of their own

    def places(self, src: Side, tgt: Side) -> list[int]:
        """Rows that have both sides. Raises InputError where there is no such side, or no row."""
        for side in (src, tgt):
            if side not in self.sides:
                raise InputError(f"rows have no {side}, but {', '.join(map(str, self.sides))}")
        both = zip(self.sides[src], self.sides[tgt], strict=True)
        found = [
            i for i, (one, other) in enumerate(both) if one is not None and other is not None and self._is(i, src, tgt)
        ]
        if not found:
            raise InputError(f"no row has both {src} and {tgt}")
        return found

    def without(self, src: Side, tgt: Side) -> dict[str, int]:
        """How many rows are in no measure because they lack a side."""
        lacking = {
            f"rows without {side}": sum(
                thing is None and self._is(i, src, tgt) for i, thing in enumerate(self.sides[side])
            )
            for side in (src, tgt)
        }
        return {what: count for what, count in lacking.items() if count}

    def digest(self) -> str:
        """First 8 hex digits that name the rows."""
        told = {
            str(side): [
                [Path(thing.path).name, thing.row, thing.column] if isinstance(thing, Sound) else thing
                for thing in things
            ]
            for side, things in self.sides.items()
        }
        return digest(self.ids, told)[:8]

    def _is(self, row: int, src: Side, tgt: Side) -> bool:
        return self.languages is None or self.languages[row] == (src.lang, tgt.lang)


def read_parallel(section: ParallelRows, say: Callable[[str], None] = lambda _: None) -> Parallel:
    """Raises InputError for a table without the columns, without rows, and for ids that are there twice."""
    return _wide(section) if section.texts or section.sounds else _test_set(section, say)


def read_side(section: MinedSide) -> Sentences:
    """Raises InputError for a table without the columns, without rows, and for ids that are there twice."""
    lang = find_language(section.lang).iso639_3
    ids, things = list[str](), list[Thing]()
    column = section.audio or section.text
    lines: Iterable[tuple[str, dict[str, Any], tuple[str, int]]]
    if section.fields:
        lines = ((where, values, (section.path, -1)) for where, values in lines_of(section.path, section.fields))
    else:
        lines = table_lines(section.path, [section.id, column], *([column] if section.audio else []))
    for number, (where, values, base) in enumerate(lines):
        _check_columns(values, [section.id, column], where)
        ids.append(id_of(values, section.id, number, where))
        things.append(sound_of(values, column, base, where) if section.audio else _text(values, column, where))
    check_ids(ids, section.path)
    return Sentences(Side(lang, section.audio is not None), ids, things)


# Embedding


def check_encoder(name: str, encoder: Encoder, sides: Sequence[Side], hint: str = "") -> None:
    """Raise ConfigError or InputError where an encoder cannot embed a side; nothing is loaded.

    hint: what else helps than an embedder.
    """
    for side in sides:
        embedder = encoder.speech if side.is_audio else encoder.text
        if embedder is None:
            what = "speech" if side.is_audio else "text"
            raise ConfigError(f"{name}: has no embedder of {what}, which {side} needs: give {what}{hint}")
        try:
            if side.is_audio:
                speech_models(embedder, [side.lang], encoder.directories)
            elif embedder == "sonar" and to_model_code(side.lang, "sonar") is None:
                raise InputError(f"language {side.lang!r} is none of those that SONAR reads")
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def encoder_of(encoder: Encoder, tools: Tools) -> Embedders:
    """The embedders of an encoder, which keep what they embedded."""
    key = ("encoder", encoder.text, encoder.speech, tuple(sorted(encoder.directories.items())), encoder.device)
    return tools.once(
        cast("Hashable", key),
        lambda: Embedders(encoder.text, encoder.speech, encoder.directories, encoder.device, tools.say),
    )


def encode(
    embedders: Embedders, side: Side, things: Sequence[Thing], centre: str, more: Sequence[str] = ()
) -> Embedded:
    """Rows of a side, and behind them those of further texts; zeros where there are none.

    centre: `rows` subtracts the mean of the side's own rows from all.
    """
    if side.is_audio:
        found = embedders.sounds(cast("Sequence[Sound | None]", things), side.lang)
    else:
        found = embedders.texts([*cast("Sequence[str | None]", things), *more], side.lang)
    if centre != "rows":
        return found
    there = [place for place in range(len(found.rows)) if place not in found.failed]
    own = [place for place in there if place < len(things)]
    if len(own) < 2:
        return found  # there is no mean to speak of
    rows = found.rows.copy()
    rows[there] = unit_rows(rows[there]) - fit_mean(rows[own])
    return Embedded(rows, found.failed)


# Rows


def _wide(section: ParallelRows) -> Parallel:
    columns = {Side(lang, is_audio=False): column for lang, column in section.texts.items()}
    columns |= {Side(lang, is_audio=True): column for lang, column in section.sounds.items()}
    place = section.place
    ids, sides = list[str](), {side: list[Thing]() for side in columns}
    lines = table_lines(place, [section.id, *columns.values()], *section.sounds.values())
    for number, (where, values, base) in enumerate(lines):
        if number == section.first:
            break
        if not place.endswith(".jsonl"):  # whose lines may leave out what is null
            _check_columns(values, columns.values(), where)
        ids.append(id_of(values, section.id, number, where) if section.id in values else str(number))
        for side, column in columns.items():
            thing: Thing = sound_of(values, column, base, where) if side.is_audio else _text(values, column, where)
            sides[side].append(thing)
    check_ids(ids, place)
    empty = [columns[side] for side, things in sides.items() if all(thing is None for thing in things)]
    if empty:
        raise InputError(f"{place}: no row has {', '.join(empty)}")
    english = Side("eng", is_audio=False)
    pairs = [(src, tgt) for src in sides for tgt in sides if src != tgt and (english not in sides or tgt == english)]
    if not pairs:
        raise InputError(f"{place}: has one side alone, {english}: give another one")
    return Parallel(ids, sides, pairs)


def _test_set(section: ParallelRows, say: Callable[[str], None]) -> Parallel:
    given = section.model_dump(include=section.model_fields_set & set(TestSet.model_fields))
    rows = read_test_set(TestSet.model_validate(given), say).rows[: section.first]
    sides: dict[Side, list[Thing]] = {}
    pairs: dict[tuple[Side, Side], None] = {}
    for number, row in enumerate(rows):
        reference = row.references[0] if row.references else None
        of_src = {Side(row.src_lang, is_audio=False): row.src_text, Side(row.src_lang, is_audio=True): row.src_sound}
        of_tgt = {Side(row.tgt_lang, is_audio=False): reference, Side(row.tgt_lang, is_audio=True): row.reference_sound}
        for side, thing in [*of_src.items(), *of_tgt.items()]:
            if thing is not None:
                sides.setdefault(side, [None] * len(rows))[number] = thing
        pairs |= {
            (src, tgt): None
            for src, one in of_src.items()
            for tgt, other in of_tgt.items()
            if one and other is not None
        }
    if not pairs:
        raise InputError(f"{section.place}: no row has both a source and a reference, as text or as speech")
    return Parallel([row.id for row in rows], sides, list(pairs), [(row.src_lang, row.tgt_lang) for row in rows])


def _check_columns(values: dict[str, Any], wanted: Any, where: str) -> None:
    for column in wanted:
        if column not in values:
            raise InputError(f"{where}: has no column {column}, but {', '.join(values)}")


def _text(values: Mapping[str, Any], column: str, where: str) -> str | None:
    value = values.get(column)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: {column} is {str(value)[:40]!r}, {type(value).__name__}: it must be a text")
    return value
