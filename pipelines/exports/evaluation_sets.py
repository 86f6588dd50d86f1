"""What must not be in a corpus that is handed on: the texts and sounds of evaluation sets, in the files they come in.

Every cell of a table and every value of a JSON line counts that has a letter in it, since a column that is no sentence
finds nothing. So the folders of FLORES, FLEURS, CoVoST 2 and CVSS are read as they are, all splits that are in them.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError
from seamlessalign.languages import find_language
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.inputs import AUDIO_SUFFIXES, NO_AUDIO, find_recordings
from seamlessalign.secrets import redact_uri
from seamlessalign.sources import audio_columns, is_http, is_tar, place_of

_LINES = (".txt", ".dev", ".devtest", ".test")  # a sentence a line; and files named for a language, newstest.de
_TABLES = {".tsv": "\t", ".csv": ","}
_LETTER = re.compile(r"[^\W\d_]")


@dataclass
class EvaluationSets:
    """Everything that was read, once each."""

    texts: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # folded → where it first stands, and as it is there
    sounds: list[str] = field(default_factory=list)  # uris as `recording_file` takes them
    files: Counter[str] = field(default_factory=Counter)  # by place that was given: files that were read
    others: list[str] = field(default_factory=list)  # files in folders that gave neither text nor sound
    undecoded: list[str] = field(default_factory=list)  # sounds that are compared by their bytes alone

    def told(self) -> dict[str, Any]:
        """For `export.json`."""
        return {
            "files": dict(self.files), "texts": len(self.texts), "sounds": len(self.sounds),
            "not_compared": sorted(map(redact_uri, self.others)),
            "not_decoded": sorted(map(redact_uri, self.undecoded)),
        }  # fmt: skip

    def _add(self, rows: Iterator[tuple[str, str]]) -> int:
        """Take rows of a place and a text; how many have a letter, of which there may be others that say the same."""
        held, count = list[tuple[str, str]](), 0
        for row in rows:
            if _LETTER.search(row[1]):
                held.append(row)
                count += 1
            if len(held) >= 10_000:
                self._fold(held)
                held = []
        self._fold(held)
        return count

    def _fold(self, rows: list[tuple[str, str]]) -> None:
        folded = fold(pa.array([text for _, text in rows], pa.string())).to_pylist()
        for key, row in zip(folded, rows, strict=True):
            self.texts.setdefault(key, (row[0], row[1]))


def read_evaluation_sets(places: Sequence[str]) -> EvaluationSets:
    """The texts and sounds of files and folders. Raises InputError for one that is not there or cannot be read."""
    sets = EvaluationSets()
    for place in places:
        if is_http(place):
            raise InputError(f"--not-in: {redact_uri(place)}: is an address: fetch it, and give the file or folder")
        kind = storage.kind_of(place)
        if kind is None:
            raise InputError(f"--not-in: {place}: there is no such file or folder")
        for uri in storage.list_files(place):
            found = _read(uri, sets)
            if found is None and kind == "file":
                raise InputError(
                    f"--not-in: {place}: is none of the files that are read: text ({', '.join(_LINES)}), "
                    f"{', '.join(_TABLES)}, .jsonl, .json, .parquet, or audio"
                )
            if found:
                sets.files[place] += 1
            else:
                sets.others.append(uri)
        if not sets.files[place]:
            raise InputError(f"--not-in: {place}: holds no text and no audio to compare with")
    sets.sounds = list(dict.fromkeys(sets.sounds))
    return sets


def not_compared(told: Mapping[str, Any] | None) -> list[str]:
    """What of evaluation sets was not compared, or not wholly, for people; told: as `EvaluationSets.told` has it."""
    files, sounds = (len(told[name]) if told else 0 for name in ("not_compared", "not_decoded"))
    lines = (
        [f"{files:,} files in folders of evaluation sets gave no text and no sound to compare with"] if files else []
    )
    if sounds:
        lines.append(f"{sounds:,} sounds of evaluation sets cannot be decoded and were compared byte by byte alone")
    return lines


def _read(uri: str, sets: EvaluationSets) -> int | None:
    """Read a file: how many texts and sounds are in it, None where it is none of those that are read."""
    name = uri.rsplit("/", 1)[-1].lower()
    if name.endswith(AUDIO_SUFFIXES) or is_tar(uri):
        return _add_sounds(uri, sets)
    plain = name.removesuffix(".gz")
    suffix = f".{plain.rpartition('.')[2]}" if "." in plain else ""
    if suffix == ".parquet":
        return _read_parquet(uri, sets)
    if suffix in (".jsonl", ".json"):
        return sets._add(_json_rows(uri, by_line=suffix == ".jsonl"))
    if suffix in _TABLES:
        return sets._add(_table_rows(uri, _TABLES[suffix]))
    if suffix in _LINES or _is_language(suffix[1:]):
        return sets._add((f"{redact_uri(uri)}:{number}", line) for number, line in enumerate(_lines(uri), 1))
    return None


def _is_language(code: str) -> bool:
    if not re.fullmatch(r"[a-z]{2,3}(_[a-z]{2,4})?", code):
        return False
    try:
        find_language(code)
    except ConfigError:
        return False
    return True


def _text(uri: str) -> str:
    try:
        data = storage.read_bytes(uri)
        return (gzip.decompress(data) if uri.lower().endswith(".gz") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, SeamlessAlignError) as error:
        raise InputError(f"--not-in: {redact_uri(uri)}: cannot be read: {error}") from error


def _lines(uri: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", _text(uri))  # no other line end, such as that of Unicode, is one here


def _table_rows(uri: str, delimiter: str) -> Iterator[tuple[str, str]]:
    if delimiter == "\t":  # quotes are signs like others there
        for number, line in enumerate(_lines(uri), 1):
            for cell in line.split("\t"):
                yield f"{redact_uri(uri)}:{number}", cell
        return
    # strict: a quote that is never closed would take all behind it for one text
    reader = csv.reader(io.StringIO(_text(uri), newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            for cell in cells:
                yield f"{redact_uri(uri)}:{reader.line_num}", cell
    except csv.Error as error:
        raise InputError(
            f"--not-in: {redact_uri(uri)}:{reader.line_num}: is not CSV: {error}; give its texts as .txt, one a line"
        ) from error


def _json_rows(uri: str, *, by_line: bool) -> Iterator[tuple[str, str]]:
    text, place = _text(uri), redact_uri(uri)
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


def _read_parquet(uri: str, sets: EvaluationSets) -> int:
    try:
        with storage.open_read(uri) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"--not-in: {redact_uri(uri)}: is not a readable Parquet file: {told}") from error
    sounds = audio_columns(schema)  # structs with a path that is no text
    texts = [item.name for item in schema if item.name not in sounds and _has_text(item.type)]
    found = sets._add(_parquet_rows(uri, texts)) if texts else 0
    return found + (_add_sounds(uri, sets) if sounds else 0)


def _has_text(kind: pa.DataType) -> bool:
    """Whether values of a type hold texts: themselves, or in lists, in structs as of translations, in a dictionary."""
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return True
    return any(_has_text(kind.field(number).type) for number in range(kind.num_fields))


def _parquet_rows(uri: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    number = 0
    for batch in storage.read_batches(uri, columns):
        for row in batch.to_pylist():
            for text in _strings(row):
                yield f"{redact_uri(uri)}:{number}", text
            number += 1


def _add_sounds(uri: str, sets: EvaluationSets) -> int:
    count = 0
    for found in find_recordings([uri]):
        is_inside = (
            place_of(found.uri).member is not None
        )  # what is told beside it, and may be wrong, says nothing here
        if found.problem is not None and not is_inside and found.problem != NO_AUDIO:
            raise InputError(f"--not-in: {redact_uri(found.uri)}: cannot be read: {found.problem}")
        if found.problem is None or is_inside:
            sets.sounds.append(found.uri)
            count += 1
    return count
