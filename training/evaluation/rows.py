"""The rows of a test set and what systems made of them, joined by id: nothing leaves the test set in silence.

A row whose output is missing, or could not be read, stays: its hypothesis is empty, and it is counted. Texts are texts:
`NA`, `null` and the empty string are what a system said.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.speech_sources import Sound, manifest_rows, open_parquet, parquet_files, text_lines
from seamlessalign.typed_config import Section

Thing = TypeVar("Thing")

_NAMED = 3  # ids that an error names
_MANIFESTS = (".jsonl", ".tsv")
_BATCH = 64  # rows of a Parquet file that are read at once: they may hold sound


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
    reason: str | None = None  # why something is not there, of a system that was run


class Columns(Section):
    """Columns of a table of rows or outputs, as a configuration names them. They are read where they are there."""

    id: str = "id"  # by which rows and outputs are joined
    src_lang: str = "src_lang"  # language of the source, any usual code
    tgt_lang: str = "tgt_lang"  # language of the reference
    references: str = "reference"  # a text, or a list of texts
    src_text: str = "src_text"  # what is to be translated, written
    src_audio: str = "src_audio"  # what is to be translated, spoken: sound or a path
    reference_audio: str = "reference_audio"  # a reference, spoken
    group: str = "group"  # rows with the same one say the same, by several speakers
    speaker: str = "speaker"  # who speaks the source
    gender: str = "gender"  # of whom the source speaks: masculine, feminine
    masculine: str = "reference_masculine"  # reference in which the one spoken of is a man
    feminine: str = "reference_feminine"  # reference in which she is a woman
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
    set_aside: Mapping[str, int] = field(default_factory=dict)  # of a system that was run: reason → rows
    settings: Mapping[str, Any] = field(default_factory=dict)  # with which it was run
    noisy: Mapping[str, "SystemOutputs"] = field(default_factory=dict)  # noise and SNR → what it made of that

    def texts(self) -> list[str | None]:
        return [one.text for one in self.outputs]


# Reading


def read_test_rows(
    place: str, columns: Columns = USUAL, *, src_lang: str | None = None, tgt_lang: str | None = None
) -> list[TestRow]:
    """Rows of a Parquet file, a folder of them, JSON lines or tab-separated values.

    src_lang, tgt_lang: of all rows, where no column says. Raises InputError for ids that are missing or there twice,
    and languages that are unknown or missing; ConfigError for a language given that is unknown.
    """
    rows: list[TestRow] = []
    sounds = columns.src_audio, columns.reference_audio
    for number, (where, values, base) in enumerate(table_lines(place, columns, *sounds)):
        langs = [
            language_of(values.get(column), given, f"{where}: {column}")
            for column, given in ((columns.src_lang, src_lang), (columns.tgt_lang, tgt_lang))
        ]
        rows.append(
            TestRow(
                id=id_of(values, columns.id, number, where),
                src_lang=langs[0],
                tgt_lang=langs[1],
                references=tuple(_texts(values.get(columns.references), columns.references, where)),
                src_text=_text(values.get(columns.src_text), columns.src_text, where),
                src_sound=sound_of(values, columns.src_audio, base, where),
                reference_sound=sound_of(values, columns.reference_audio, base, where),
                group=_name(values.get(columns.group), columns.group, where),
                speaker=_name(values.get(columns.speaker), columns.speaker, where),
                gender=_text(values.get(columns.gender), columns.gender, where) or None,
                references_by_gender={
                    gender: text
                    for gender, column in (("masculine", columns.masculine), ("feminine", columns.feminine))
                    if (text := _text(values.get(column), column, where))
                },
            )
        )
    check_ids([row.id for row in rows], place)
    return rows


def read_outputs(name: str, place: str, rows: Sequence[TestRow], columns: Columns = USUAL) -> SystemOutputs:
    """What a system made of rows, by id, or by place in the table where it has no column of ids.

    Raises InputError for ids that are there twice, or of which the test set has none; for a table without ids that
    has more or fewer lines than the test set; and where the table says another language than the test set.
    """
    by_id = {row.id: row for row in rows}
    seen: dict[str, None] = {}  # columns, in order

    def output(key: str, where: str, values: Mapping[str, Any], base: tuple[str, int]) -> Output:
        seen.update(dict.fromkeys(values))
        if key in by_id:
            _check_languages(by_id[key], values, columns, where)
        text = _text(values.get(columns.text), columns.text, where)
        return Output(text, sound_of(values, columns.audio, base, where))

    found = joined_lines(place, list(by_id), columns.id, table_lines(place, columns, columns.audio), output)
    if not seen.keys() & {columns.text, columns.audio}:
        there = (
            list(seen) if Path(place).suffix in _MANIFESTS else open_parquet(parquet_files(place)[0]).schema_arrow.names
        )
        raise InputError(f"{place}: has neither {columns.text} nor {columns.audio}, but {', '.join(there)}")
    outputs = [found.get(row.id, Output()) for row in rows]
    missing = [row.id for row, one in zip(rows, outputs, strict=True) if one.text is None and one.sound is None]
    return SystemOutputs(name, outputs, missing, len(found.keys() - by_id.keys()))


def joined_lines(
    place: str,
    ids: Sequence[str],
    column: str,
    lines: Iterable[tuple[str, Mapping[str, Any], tuple[str, int]]],
    made: Callable[[str, str, Mapping[str, Any], tuple[str, int]], Thing],
) -> dict[str, Thing]:
    """What the lines of a table are for the rows of a test set, by ids, or by place where it has no such column.

    lines: of `table_lines`. made: of an id and a line. Raises InputError for ids that are there twice, or none of which
    the test set has; and for a table without ids that has more or fewer lines than the test set.
    """
    found: dict[str, Thing] = {}
    given: list[str] = []
    with_ids = None
    for number, (where, values, base) in enumerate(lines):
        here = column in values
        with_ids = here if with_ids is None else with_ids
        if here != with_ids:
            raise InputError(f"{where}: has {'an' if here else 'no'} {column}, unlike the rows before it")
        if with_ids:
            key = id_of(values, column, number, where)
        elif number < len(ids):
            key = ids[number]
        else:
            raise InputError(f"{place}: has no column {column}, and more lines than the {len(ids)} of the test set")
        given.append(key)
        found[key] = made(key, where, values, base)
    check_ids(given, place)
    if with_ids is False and len(given) < len(ids):
        raise InputError(f"{place}: has no column {column}, and {len(given)} lines for the {len(ids)} of the test set")
    if not set(ids) & found.keys():
        raise InputError(f"{place}: has none of the test set's ids, such as {named(ids)}")
    return found


def _check_languages(row: TestRow, values: Mapping[str, Any], columns: Columns, where: str) -> None:
    for column, wanted in ((columns.src_lang, row.src_lang), (columns.tgt_lang, row.tgt_lang)):
        if values.get(column) not in (None, "") and language_of(values[column], None, f"{where}: {column}") != wanted:
            raise InputError(f"{where}: {column} is {values[column]}, and {wanted} in the test set (id {row.id})")


def by_direction(rows: Sequence[TestRow]) -> dict[str, list[int]]:
    """Numbers of the rows of each direction, in order."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row.direction, []).append(number)
    return dict(sorted(found.items()))


# Values


def table_lines(
    place: str, columns: Section | Collection[str] | None = None, *sounds: str
) -> Iterator[tuple[str, dict[str, Any], tuple[str, int]]]:
    """Lines of a table: where they are for people, their values, and file and row where sound is in them.

    columns: those that are read, by default all. sounds: of these it is enough to know whether something is there,
    which is told as True.
    """
    used = set(columns.model_dump().values()) if isinstance(columns, Section) else columns
    match Path(place).suffix:
        case ".jsonl":
            for number, values in enumerate(manifest_rows(Path(place))):
                yield f"{place} row {number}", values, (place, -1)
        case ".tsv":
            for number, values in enumerate(_tab_separated(place)):
                yield f"{place} row {number}", values, (place, -1)
        case ".csv" | ".json" | ".txt" as suffix:
            raise InputError(f"{place}: tables are .parquet, .jsonl or .tsv, not {suffix}")
        case _:
            for file in parquet_files(place):
                names = list(open_parquet(file).schema_arrow.names)
                if len(set(names)) < len(names):
                    raise InputError(f"{file}: has columns of the same name: {named(_twice(names))}")
                row = 0
                for batch in storage.read_batches(
                    str(file), [name for name in names if used is None or name in used], _BATCH
                ):
                    for values in _plain(batch, sounds):
                        yield f"{file} row {row}", values, (str(file), row)
                        row += 1


def _plain(batch: pa.RecordBatch, sounds: Sequence[str]) -> Iterator[dict[str, Any]]:
    found = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        found[name] = (
            [there or None for there in column.is_valid().to_pylist()] if name in sounds else column.to_pylist()
        )
    for number in range(len(batch)):
        yield {name: values[number] for name, values in found.items()}


def _tab_separated(place: str) -> Iterator[dict[str, Any]]:
    """Lines as they are: no quotes, and an empty line is an empty text where there is one column."""
    lines = text_lines(place)
    if not lines:
        return
    names = lines[0].split("\t")
    if len(set(names)) < len(names):
        raise InputError(f"{place}: has columns of the same name: {named(_twice(names))}")
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise InputError(
                f"{place} line {number}: has {len(fields)} fields, and the header {len(names)}: texts with tabs need "
                ".jsonl or .parquet"
            )
        yield dict(zip(names, fields, strict=True))


def sound_of(values: Mapping[str, Any], column: str, base: tuple[str, int], where: str) -> Sound | None:
    """The sound of a line of `table_lines`: in a Parquet file itself, else a path relative to the table."""
    value, (file, row) = values.get(column), base
    if value is None or value == "":  # a cell of a tab-separated table cannot hold null
        return None
    if row >= 0:
        return Sound(file, row, column)
    if not isinstance(value, str):
        raise InputError(f"{where}: {column} is {_told(value)}, and must be the path of a sound, or null")
    return Sound(str(Path(file).parent / value))


def id_of(values: Mapping[str, Any], column: str, number: int, where: str) -> str:
    found = _name(values.get(column), column, where)
    if found is None:
        raise InputError(f"{where}: has no {column}: every row needs one")
    return found


def _name(value: Any, column: str, where: str) -> str | None:
    """An id or a group: a text or a whole number; None where there is none, or an empty text."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: {column} is {_told(value)}, and must be a text or a whole number")
    return writable(str(value))


def _text(value: Any, column: str, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: {column} is {_told(value)}, and must be a text, or null")
    return writable(value)


def _texts(value: Any, column: str, where: str) -> list[str]:
    if value is None:
        return []
    several = value if isinstance(value, list) else [value]
    texts = [_text(text, column, where) for text in several]
    if not texts or any(text is None for text in texts):
        raise InputError(f"{where}: a list of references is empty or has nulls")
    return [text for text in texts if text is not None]


def writable(text: str) -> str:
    """A text with U+FFFD for halves of characters (lone surrogates), which JSON can hold and nothing can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def language_of(value: Any, given: str | None, where: str) -> str:
    """given: of all rows. Raises InputError, or ConfigError where that is none."""
    whole = None if given is None else find_language(given).iso639_3
    if value is None or value == "":
        if whole is None:
            raise InputError(f"{where} is not there: add the column, or give the language of all rows")
        return whole
    if not isinstance(value, str):
        raise InputError(f"{where} is {_told(value)}, and must be a language's code")
    try:
        found = find_language(value).iso639_3
    except ConfigError as error:
        raise InputError(f"{where}: {error}") from error
    if whole is not None and whole != found:
        raise InputError(f"{where} is {found}, and the language given for all rows is {whole}")
    return found


def _told(value: Any) -> str:
    return f"{str(value)[:40]!r}, of type {type(value).__name__}"


def check_ids(ids: Sequence[str], place: str) -> None:
    if not ids:
        raise InputError(f"{place}: has no rows")
    twice = _twice(ids)
    if twice:
        raise InputError(f"{place}: {len(twice)} ids are there more than once: {named(twice)}")


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
