"""The rows of a test set and what systems made of them, joined by id: nothing leaves the test set in silence.

A row whose output is missing, or could not be read, stays: its hypothesis is empty, and it is counted. Texts are texts:
`NA`, `null` and the empty string are what a system said.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.speech_sources import Sound, manifest_of, manifest_rows, parquet_rows
from seamlessalign.typed_config import Section

_NAMED = 3  # ids that an error names


@dataclass(frozen=True)
class TestRow:
    """A row of a test set; what is not there is None."""

    __test__ = False  # no test of pytest's

    id: str
    src_lang: str  # ISO 639-3
    tgt_lang: str
    references: tuple[str, ...] = ()
    src_text: str | None = None
    src_sound: Sound | None = None
    reference_sound: Sound | None = None
    group: str | None = None  # rows that say the same, by several speakers
    speaker: str | None = None
    gender: str | None = None  # of whom the source speaks: masculine, feminine
    references_by_gender: Mapping[str, str] = field(default_factory=dict)  # masculine, feminine

    @property
    def direction(self) -> str:
        return f"{self.src_lang}-{self.tgt_lang}"


@dataclass(frozen=True)
class Output:
    """What a system made of a row: text, sound, or neither where it failed."""

    text: str | None = None
    sound: Sound | None = None


class Columns(Section):
    """Columns of a table of rows or outputs, as a configuration names them. They are read where they are there."""

    id: str = "id"
    src_lang: str = "src_lang"
    tgt_lang: str = "tgt_lang"
    references: str = "reference"  # a text, or a list of texts
    src_text: str = "src_text"
    src_audio: str = "src_audio"
    reference_audio: str = "reference_audio"
    group: str = "group"  # rows with the same one say the same, by several speakers
    speaker: str = "speaker"
    gender: str = "gender"  # of whom the source speaks: masculine, feminine
    masculine: str = "reference_masculine"
    feminine: str = "reference_feminine"
    text: str = "text"  # of an output
    audio: str = "audio"  # of an output


USUAL = Columns()


@dataclass(frozen=True)
class SystemOutputs:
    """The outputs of a system, row by row of the test set."""

    name: str
    outputs: list[Output]
    missing: list[str]  # ids of rows for which there is nothing
    not_asked: int = 0  # outputs of ids that the test set has not

    def texts(self) -> list[str | None]:
        return [one.text for one in self.outputs]

    def sounds(self) -> list[Sound | None]:
        return [one.sound for one in self.outputs]


# Reading


def read_test_rows(
    place: str, columns: Columns = USUAL, *, src_lang: str | None = None, tgt_lang: str | None = None
) -> list[TestRow]:
    """Rows of a Parquet file, a folder of them, JSON lines or tab-separated values.

    src_lang, tgt_lang: of all rows, where no column says. Raises InputError for ids that are missing or there twice,
    and languages that are unknown or missing; ConfigError for a language given that is unknown.
    """
    rows: list[TestRow] = []
    for number, (where, values, base) in enumerate(table_lines(place)):
        langs = []
        for column, given in ((columns.src_lang, src_lang), (columns.tgt_lang, tgt_lang)):
            langs.append(language_of(values.get(column), given, f"{where}: {column}"))
        references = values.get(columns.references)
        rows.append(
            TestRow(
                id=id_of(values, columns.id, number, where),
                src_lang=langs[0],
                tgt_lang=langs[1],
                references=tuple(_texts(references, where)),
                src_text=_text(values.get(columns.src_text)),
                src_sound=_sound(values, columns.src_audio, base),
                reference_sound=_sound(values, columns.reference_audio, base),
                group=_text(values.get(columns.group)),
                speaker=_text(values.get(columns.speaker)),
                gender=_text(values.get(columns.gender)),
                references_by_gender={
                    gender: text
                    for gender, column in (("masculine", columns.masculine), ("feminine", columns.feminine))
                    if (text := _text(values.get(column))) is not None
                },
            )
        )
    check_ids([row.id for row in rows], place)
    return rows


def read_outputs(name: str, place: str, rows: Sequence[TestRow], columns: Columns = USUAL) -> SystemOutputs:
    """What a system made of rows, by id, or by place in the table where it has no column of ids.

    Raises InputError for ids that are there twice, or of which the test set has none; and for a table without ids that
    has more or fewer lines than the test set.
    """
    found: dict[str, Output] = {}
    ids, with_ids = [], None
    for number, (where, values, base) in enumerate(table_lines(place)):
        with_ids = columns.id in values if with_ids is None else with_ids
        if with_ids:
            key = id_of(values, columns.id, number, where)
        elif number < len(rows):
            key = rows[number].id
        else:
            raise InputError(
                f"{place}: has no column {columns.id}, and more lines than the {len(rows)} of the test set"
            )
        if not values.keys() & {columns.text, columns.audio}:
            raise InputError(f"{where}: has neither {columns.text} nor {columns.audio}, but {', '.join(values)}")
        ids.append(key)
        found[key] = Output(_text(values.get(columns.text)), _sound(values, columns.audio, base))
    check_ids(ids, place)
    if with_ids is False and len(ids) < len(rows):
        raise InputError(
            f"{place}: has no column {columns.id}, and {len(ids)} lines for the {len(rows)} of the test set"
        )
    outputs = [found.get(row.id, Output()) for row in rows]
    known = {row.id for row in rows}
    if not known & found.keys():
        raise InputError(f"{place}: has none of the test set's ids, such as {named([row.id for row in rows])}")
    missing = [row.id for row, one in zip(rows, outputs, strict=True) if one.text is None and one.sound is None]
    return SystemOutputs(name, outputs, missing, len(found.keys() - known))


def check_one_direction(rows: Sequence[TestRow], place: str) -> tuple[str, str]:
    """Both languages of rows that all have the same. Raises InputError where they have not."""
    there = sorted({(row.src_lang, row.tgt_lang) for row in rows})
    if len(there) != 1:
        raise InputError(f"{place}: rows are of {len(there)} directions: {named(['-'.join(pair) for pair in there])}")
    return there[0]


def by_direction(rows: Sequence[TestRow]) -> dict[str, list[int]]:
    """Numbers of the rows of each direction, in order."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row.direction, []).append(number)
    return dict(sorted(found.items()))


# Values


def table_lines(place: str) -> Iterator[tuple[str, dict[str, Any], tuple[str, int]]]:
    """Lines of a table: where they are for people, their values, and file and row where sound is in them."""
    if place.endswith((".jsonl", ".tsv")):
        manifest = manifest_of(Path(place))
        for number, values in enumerate(manifest_rows(manifest)):
            yield f"{manifest} row {number}", values, (str(manifest), -1)
        return
    for file, row, values in parquet_rows(place, lambda _, names: list(names)):
        yield f"{file} row {row}", values, (str(file), row)


def _sound(values: Mapping[str, Any], column: str, base: tuple[str, int]) -> Sound | None:
    value, (file, row) = values.get(column), base
    if value is None:
        return None
    if row >= 0:
        return Sound(file, row, column)
    return Sound(str(Path(file).parent / str(value)))


def id_of(values: Mapping[str, Any], column: str, number: int, where: str) -> str:
    value = values.get(column)
    if value is None or value == "":
        raise InputError(f"{where}: has no {column}: every row needs one")
    return str(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        if not value or any(text is None for text in value):
            raise InputError(f"{where}: a list of references is empty or has nulls")
        return [str(text) for text in value]
    return [str(value)]


def language_of(value: Any, given: str | None, where: str) -> str:
    code = given if value is None else str(value)
    if code is None:
        raise InputError(f"{where} is not there: add the column, or give the language of all rows")
    try:
        return find_language(code).iso639_3
    except ConfigError as error:
        if value is None:
            raise
        raise InputError(f"{where}: {error}") from error


def check_ids(ids: Sequence[str], place: str) -> None:
    if not ids:
        raise InputError(f"{place}: has no rows")
    twice = [key for key, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"{place}: {len(twice)} ids are there more than once: {named(twice)}")


def named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
