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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError
from seamlessalign.languages import find_language
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.inputs import AUDIO_SUFFIXES, find_recordings
from seamlessalign.secrets import redact_uri
from seamlessalign.sources import audio_columns, is_http, is_tar

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
    others: list[str] = field(default_factory=list)  # files in folders that are neither text nor sound
    undecoded: list[str] = field(default_factory=list)  # sounds that are compared by their bytes alone

    def told(self) -> dict[str, Any]:
        """For `export.json`."""
        return {
            "files": dict(self.files), "texts": len(self.texts), "sounds": len(self.sounds),
            "not_looked_at": sorted(map(redact_uri, self.others)),
            "not_decoded": sorted(map(redact_uri, self.undecoded)),
        }  # fmt: skip

    def _add(self, rows: Iterator[tuple[str, str]]) -> None:
        held: list[tuple[str, str]] = []
        for row in rows:
            if _LETTER.search(row[1]):
                held.append(row)
            if len(held) >= 10_000:
                self._fold(held)
                held = []
        self._fold(held)

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
            known = _read(uri, sets)
            if not known and kind == "file":
                raise InputError(
                    f"--not-in: {place}: is none of the files that are read: text ({', '.join(_LINES)}), "
                    f"{', '.join(_TABLES)}, .jsonl, .json, .parquet, or audio"
                )
            if known:
                sets.files[place] += 1
            else:
                sets.others.append(uri)
        if not sets.files[place]:
            raise InputError(f"--not-in: {place}: holds no text and no audio to compare with")
    if not sets.texts and not sets.sounds:
        raise InputError(f"--not-in: {', '.join(places)}: nothing in there is a sentence or a sound")
    return sets


def _read(uri: str, sets: EvaluationSets) -> bool:
    """Read a file; whether it is one of those that are."""
    name = uri.rsplit("/", 1)[-1].lower()
    if name.endswith(AUDIO_SUFFIXES) or is_tar(uri):
        _add_sounds(uri, sets)
        return True
    plain = name.removesuffix(".gz")
    suffix = f".{plain.rpartition('.')[2]}" if "." in plain else ""
    if suffix == ".parquet":
        _read_parquet(uri, sets)
    elif suffix in (".jsonl", ".json"):
        sets._add(_json_rows(uri, by_line=suffix == ".jsonl"))
    elif suffix in _TABLES:
        sets._add(_table_rows(uri, _TABLES[suffix]))
    elif suffix in _LINES or _is_language(suffix[1:]):
        sets._add((f"{redact_uri(uri)}:{number}", line) for number, line in enumerate(_lines(uri), 1))
    else:
        return False
    return True


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
    return [line.removesuffix("\r") for line in _text(uri).split("\n")]


def _table_rows(uri: str, delimiter: str) -> Iterator[tuple[str, str]]:
    if delimiter == "\t":  # quotes are signs like others there
        for number, line in enumerate(_lines(uri), 1):
            for cell in line.split("\t"):
                yield f"{redact_uri(uri)}:{number}", cell
        return
    reader = csv.reader(io.StringIO(_text(uri), newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            for cell in cells:
                yield f"{redact_uri(uri)}:{reader.line_num}", cell
    except csv.Error as error:
        raise InputError(f"--not-in: {redact_uri(uri)} line {reader.line_num}: {error}") from error


def _json_rows(uri: str, *, by_line: bool) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(uri) if by_line else [_text(uri)], 1):
        if not line.strip():
            continue
        place = f"{redact_uri(uri)}:{number}" if by_line else redact_uri(uri)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"--not-in: {place}: is not JSON: {error}") from error
        for text in _strings(value):
            yield place, text


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.encode("utf-8", "replace").decode()
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


def _read_parquet(uri: str, sets: EvaluationSets) -> None:
    try:
        with storage.open_read(uri) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f"--not-in: {redact_uri(uri)}: is not a readable Parquet file: {told}") from error
    texts = [item.name for item in schema if pa.types.is_string(item.type) or pa.types.is_large_string(item.type)]
    if texts:
        sets._add(_parquet_rows(uri, texts))
    if audio_columns(schema):
        _add_sounds(uri, sets)


def _parquet_rows(uri: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    number = 0
    for batch in storage.read_batches(uri, columns):
        for row in batch.to_pylist():
            for text in row.values():
                if text is not None:
                    yield f"{redact_uri(uri)}:{number}", text
            number += 1


def _add_sounds(uri: str, sets: EvaluationSets) -> None:
    for found in find_recordings([uri]):
        if found.problem is not None:
            raise InputError(f"--not-in: {redact_uri(found.uri)}: cannot be read: {found.problem}")
        sets.sounds.append(found.uri)
