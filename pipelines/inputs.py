"""Finding the inputs of a run and cutting them into shards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.languages import get_language
from seamlessalign.pipelines.folder import shard_name

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".g722", ".aif", ".aiff", ".au")
TEXT_SUFFIXES = (".txt", ".txt.gz")
_MANIFEST_KEYS = {"path", "uri", "lang", "license", "source"}


@dataclass(frozen=True)
class InputFile:
    """One file of the input. `problem` says why it cannot even be found."""

    uri: str
    version: str  # size and time of change, or a tag: when this differs, the file is read again
    lang: str | None = None  # ISO 639-3, where a manifest states it
    license: str | None = None
    source: str | None = None
    problem: str | None = None
    offset: int = 0  # byte at which this part of a text begins
    first_line: int = 0  # number of the line there, from 0
    num_lines: int | None = None  # lines of this part; None: all that follow


@dataclass(frozen=True)
class Shard:
    """Inputs that are done together and whose output is one part."""

    name: str
    files: tuple[InputFile, ...]


def find_recordings(inputs: list[str]) -> list[InputFile]:
    """The recordings that files, folders, patterns and `.jsonl` manifests name, sorted by uri.

    A name that leads nowhere is an input with a problem, to be set aside by the run. A file that is named one by one is
    taken whatever its suffix; in a folder, those with an audio suffix are.
    """
    found: list[InputFile] = []
    for item in inputs:
        if item.endswith(".jsonl"):
            found.extend(_manifest(item))
        else:
            found.extend(_files(item, AUDIO_SUFFIXES))
    return _distinct(found)


def find_texts(inputs: list[str]) -> list[InputFile]:
    """The text files that files, folders and patterns name, sorted by uri."""
    return _distinct([file for item in inputs for file in _files(item, TEXT_SUFFIXES)])


def cut_into_shards(files: list[InputFile], per_shard: int) -> list[Shard]:
    """Consecutive files, `per_shard` at a time."""
    return [
        Shard(shard_name(number), tuple(files[start : start + per_shard]))
        for number, start in enumerate(range(0, len(files), per_shard))
    ]


def cut_texts(files: list[InputFile], lines_per_shard: int) -> list[Shard]:
    """Text files in parts of so many lines, a shard for each part; a compressed file is one part."""
    parts = [part for file in files for part in _text_parts(file, lines_per_shard)]
    return cut_into_shards(parts, 1)


def _text_parts(file: InputFile, lines_per_shard: int) -> Iterator[InputFile]:
    if file.problem is not None or file.uri.endswith(".gz"):
        yield file
        return
    begun, offset, lines = (0, 0), 0, 0  # (byte, line) where the present part begins
    try:
        opened = storage.open_read(file.uri)
    except OSError:
        yield file  # its shard will find the same, and sets it aside
        return
    with opened as text:
        while block := text.read(1 << 20):
            for end in _line_ends(block):
                lines += 1
                if lines - begun[1] == lines_per_shard:
                    yield replace(file, offset=begun[0], first_line=begun[1], num_lines=lines_per_shard)
                    begun = (offset + end + 1, lines)
            offset += len(block)
    if offset > begun[0] or begun == (0, 0):
        yield replace(file, offset=begun[0], first_line=begun[1])


def _line_ends(block: bytes) -> Iterator[int]:
    end = block.find(b"\n")
    while end >= 0:
        yield end
        end = block.find(b"\n", end + 1)


def _files(item: str, suffixes: tuple[str, ...]) -> Iterator[InputFile]:
    fs, path = storage.filesystem(item)
    if fs.isdir(path):
        names = [uri for uri in storage.list_files(item) if uri.lower().endswith(suffixes)]
        if not names:
            yield InputFile(item, "", problem=f"the folder holds no file that ends in {', '.join(suffixes)}")
    elif fs.exists(path):
        names = [item]
    elif any(sign in item for sign in "*?["):
        names = storage.glob(item)
        if not names:
            yield InputFile(item, "", problem="no file matches the pattern")
    else:
        yield InputFile(item, "", problem="there is no such file or folder")
        return
    for uri in names:
        try:
            uri.encode()
        except UnicodeEncodeError:  # Linux lets names be any bytes; tables and manifests hold text
            shown = uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            yield InputFile(shown, "", problem="its name is not UTF-8: rename it")
            continue
        try:
            version = _version(uri)
        except OSError as error:  # such as a link that leads nowhere
            yield InputFile(uri, "", problem=f"it is listed, but cannot be reached: {error.strerror or error}")
            continue
        yield InputFile(uri, version)


def _manifest(uri: str) -> Iterator[InputFile]:
    """Lines of JSON objects: `path` (relative to the manifest) or `uri`, and optionally lang, license and source."""
    if not storage.exists(uri):
        yield InputFile(uri, "", problem="there is no such manifest")
        return
    folder = uri.rsplit("/", 1)[0] if "/" in uri else "."
    for number, line in enumerate(storage.read_bytes(uri).splitlines()):
        if not line.strip():
            continue
        try:
            entry = _manifest_entry(line)
        except UnreadableError as error:
            yield InputFile(f"{uri}#line={number + 1}", "", problem=error.detail)
            continue
        place = entry.get("uri") or entry["path"]
        if "://" not in place and not place.startswith("/"):
            place = storage.join(folder, place)
        about: dict[str, Any] = {key: entry.get(key) for key in ("lang", "license", "source")}
        if storage.exists(place):
            yield InputFile(place, _version(place), **about)
        else:
            yield InputFile(place, "", **about, problem=f"there is no such file; {uri} names it in line {number + 1}")


def _manifest_entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("manifest", f"not JSON: {error}") from error
    if not isinstance(entry, dict) or not (entry.get("path") or entry.get("uri")):
        raise UnreadableError("manifest", "not an object with a 'path' or 'uri'")
    unknown = set(entry) - _MANIFEST_KEYS
    if unknown:
        raise UnreadableError("manifest", f"unknown key {sorted(unknown)[0]!r}; there are {sorted(_MANIFEST_KEYS)}")
    if any(not isinstance(value, str) for value in entry.values() if value is not None):
        raise UnreadableError("manifest", "every value must be text")
    try:
        "".join(value for value in entry.values() if value).encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("manifest", f"a value holds half of a character: {error.reason}") from error
    if entry.get("lang"):
        try:
            get_language(entry["lang"])
        except ConfigError as error:
            raise UnreadableError("manifest", str(error)) from error
    return entry


def _version(uri: str) -> str:
    fs, path = storage.filesystem(uri)
    info = fs.info(path)
    tag = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    return f"{info['size']} {tag}"


def _distinct(files: list[InputFile]) -> list[InputFile]:
    first: dict[str, InputFile] = {}
    for file in files:
        first.setdefault(file.uri, file)
    return [first[uri] for uri in sorted(first)]
