"""The texts in the files that evaluation sets come in: each with the place where it stands, for people."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError
from seamlessalign.languages import find_language
from seamlessalign.secrets import redact_uri
from seamlessalign.sources import audio_columns

LINES = (".txt", ".dev", ".devtest", ".test")  # a sentence a line; and files named for a language, newstest.de
TABLES = {".tsv": "\t", ".csv": ","}

Rows = Iterator[tuple[str, str]]  # a place and a text


def texts_of(uri: str, read: Callable[[], bytes]) -> Rows | None:
    """The texts of a file, or a member of one, of which only the name is looked at if that names no kind that is read.

    Every cell of a table and every value of JSON counts. Raises InputError, while rows are taken, for what cannot be
    read.
    """
    plain = uri.rsplit("/", 1)[-1].lower().removesuffix(".gz")
    suffix = f".{plain.rpartition('.')[2]}" if "." in plain else ""
    if suffix in (".jsonl", ".json"):
        return _json_rows(uri, read, by_line=suffix == ".jsonl")
    if suffix in TABLES:
        return _table_rows(uri, read, TABLES[suffix])
    if suffix in LINES or _is_language(suffix[1:]):
        return _line_rows(uri, read)
    return None


def texts_of_table(uri: str) -> Rows:
    """The texts of a Parquet file, also those in lists and structs, but not the names of sounds in it."""
    try:
        with storage.open_read(uri) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"--not-in: {redact_uri(uri)}: is not a readable Parquet file: {told}") from error
    sounds = audio_columns(schema)  # structs with a path that is no text
    texts = [item.name for item in schema if item.name not in sounds and _has_text(item.type)]
    number = 0
    for batch in storage.read_batches(uri, texts) if texts else ():
        for row in batch.to_pylist():
            for text in _strings(row):
                yield f"{redact_uri(uri)}:{number}", text
            number += 1


def _is_language(code: str) -> bool:
    if not re.fullmatch(r"[a-z]{2,3}(_[a-z]{2,4})?", code):
        return False
    try:
        find_language(code)
    except ConfigError:
        return False
    return True


def _text(uri: str, read: Callable[[], bytes]) -> str:
    try:
        data = read()
        return (gzip.decompress(data) if uri.lower().endswith(".gz") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, SeamlessAlignError) as error:
        raise InputError(f"--not-in: {redact_uri(uri)}: cannot be read: {error}") from error


def _line_rows(uri: str, read: Callable[[], bytes]) -> Rows:
    # no other line end, such as that of Unicode, is one here
    for number, line in enumerate(re.split(r"\r\n|\n|\r", _text(uri, read)), 1):
        yield f"{redact_uri(uri)}:{number}", line


def _table_rows(uri: str, read: Callable[[], bytes], delimiter: str) -> Rows:
    if delimiter == "\t":  # quotes are signs like others there
        for place, line in _line_rows(uri, read):
            for cell in line.split("\t"):
                yield place, cell
        return
    # strict: a quote that is never closed would take all behind it for one text
    reader = csv.reader(io.StringIO(_text(uri, read), newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            for cell in cells:
                yield f"{redact_uri(uri)}:{reader.line_num}", cell
    except csv.Error as error:
        raise InputError(
            f"--not-in: {redact_uri(uri)}:{reader.line_num}: is not CSV: {error}; give its texts as .txt, one a line"
        ) from error


def _json_rows(uri: str, read: Callable[[], bytes], *, by_line: bool) -> Rows:
    text, place = _text(uri, read), redact_uri(uri)
    try:
        values = enumerate([json.loads(text)] if not by_line else [])
    except (ValueError, RecursionError) as error:
        if not _is_json(text.lstrip().split("\n", 1)[0]):  # else it has a value a line, as manifests do
            raise InputError(f"--not-in: {place}: is not JSON: {error}") from error
        by_line = True
    for number, value in _values_of_lines(text, place) if by_line else values:
        for found in _strings(value):
            yield f"{place}:{number}" if by_line else place, found


def _values_of_lines(text: str, place: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"--not-in: {place}:{number}: is not JSON: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.encode("utf-8", "replace").decode()
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list | tuple):
            waiting += reversed(value)


def _has_text(kind: pa.DataType) -> bool:
    """Whether values of a type hold texts: themselves, or in lists, in structs as of translations, in a dictionary."""
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return True
    return any(_has_text(kind.field(number).type) for number in range(kind.num_fields))
