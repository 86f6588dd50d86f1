"""Finding the inputs of a run and cutting them into shards."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from seamlessalign import sources, storage
from seamlessalign.errors import AddressError, ConfigError, UnreadableError
from seamlessalign.languages import get_language
from seamlessalign.pipelines.folder import shard_name
from seamlessalign.roots import outside
from seamlessalign.secrets import WHERE_TO_PUT_IT, redact, redact_uri, secret_in

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".g722", ".aif", ".aiff", ".au")
FILM_SUFFIXES = (".m4a", ".mp4", ".mov", ".mkv", ".mka", ".webm", ".aac", ".amr", ".wma", ".3gp", ".avi", ".flv")
AUDIO_SUFFIXES = (*SOUND_SUFFIXES, *FILM_SUFFIXES)
TEXT_SUFFIXES = (".txt", ".txt.gz")
NO_AUDIO = "it holds no audio"  # the problem of a container
_ABOUT = ("lang", "license", "source")  # what may be told of a recording
_MANIFEST_KEYS = {"path", "uri", *_ABOUT}


@dataclass(frozen=True)
class InputFile:
    """One file of the input. `problem` says why it cannot even be found."""

    uri: str
    version: str  # size and time of change, or a tag: when this differs, the file is read again
    lang: str | None = None  # ISO 639-3, where a manifest states it
    license: str | None = None
    source: str | None = None
    problem: str | None = None
    reason: str = "missing"  # the short name under which a problem is counted
    offset: int = 0  # byte at which this part of a text begins
    first_line: int = 0  # number of the line there, from 0
    num_lines: int | None = None  # lines of this part; None: all that follow


@dataclass(frozen=True)
class Shard:
    """Inputs that are done together and whose output is one part."""

    name: str
    files: tuple[InputFile, ...]


def find_recordings(inputs: list[str], root: str | None = None) -> list[InputFile]:
    """The recordings that files, folders, patterns, addresses, containers and lists name, sorted by uri.

    A name that leads nowhere is an input with a problem, to be set aside by the run. A file that is named one by one is
    taken whatever its suffix; in a folder, those with an audio suffix are. Containers are tar files (also as shards of
    WebDataset) and Parquet files: those that are named, and in a folder those with audio in them. Lists are manifests
    (`.jsonl`), tables (`.tsv`, with a heading) and uris, one a line (`.txt`). Addresses on the web are taken at their
    word, since asking for each of many would take long. What does not lie below `root` is not looked at.
    """
    found: list[InputFile] = []
    for item in inputs:
        if _is_outside(item, root) and not _is_pattern(item):
            found.append(_outside(item, root))
        elif sources.is_http(item) and not item.endswith(tuple(_LISTS)) and not sources.is_container(item):
            found.append(InputFile(item, ""))
        elif item.endswith(tuple(_LISTS)):
            found.extend(_listed(item, root))
        else:
            for file in _files(item, (*AUDIO_SUFFIXES, *sources.CONTAINERS), root):
                found.extend(_opened(file, named=file.uri == item))
    return _distinct(found)


def find_texts(inputs: list[str], root: str | None = None) -> list[InputFile]:
    """The text files that files, folders and patterns name, sorted by uri; none that do not lie below `root`."""
    return _distinct([file for item in inputs for file in _files(item, TEXT_SUFFIXES, root)])


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
    try:
        yield from list(_parts_of(file, lines_per_shard))
    except (OSError, UnreadableError):
        yield file  # its shard will find the same, and sets it aside


def _parts_of(file: InputFile, lines_per_shard: int) -> Iterator[InputFile]:
    begun, offset, lines = (0, 0), 0, 0  # (byte, line) where the present part begins
    with storage.open_read(file.uri) as text:
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


def _is_pattern(item: str) -> bool:
    return any(sign in item for sign in "*?[")


def _is_outside(uri: str, root: str | None) -> bool:
    return root is not None and outside(sources.place_of(uri).file, root)


def _outside(uri: str, root: str | None, listed: str = "") -> InputFile:
    """What is set aside because it leaves the root."""
    detail = f"it does not lie below the root {root!r}, or a link in its path leads out of there"
    return InputFile(uri, "", problem=f"{detail}{listed}", reason="outside_root")


def _files(item: str, suffixes: tuple[str, ...], root: str | None) -> Iterator[InputFile]:
    try:
        yield from _found(item, suffixes, root)
    except UnreadableError as error:  # an address on the web that may not be asked, or does not answer
        yield InputFile(item, "", problem=error.detail, reason=error.reason)


def _found(item: str, suffixes: tuple[str, ...], root: str | None) -> Iterator[InputFile]:
    if _is_outside(item, root) and not _is_pattern(item):
        yield _outside(item, root)
        return
    kind = storage.kind_of(item)
    if kind == "directory":
        found = storage.list_versions(item)
        versions = {uri: version for uri, version in found.items() if uri.lower().endswith(suffixes)}
        if not versions:
            yield InputFile(item, "", problem=f"the folder holds no file that ends in {', '.join(suffixes)}")
    elif kind is not None:
        versions = storage.versions([item])
    elif _is_pattern(item):
        versions = storage.versions(storage.glob(item))
        if not versions:
            yield InputFile(item, "", problem="no file matches the pattern")
    else:
        yield InputFile(item, "", problem="there is no such file or folder")
        return
    for uri, version in versions.items():
        try:
            uri.encode()
        except UnicodeEncodeError:  # Linux lets names be any bytes; tables and manifests hold text
            shown = uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            yield InputFile(shown, "", problem="its name is not UTF-8: rename it")
            continue
        if _is_outside(uri, root):
            yield _outside(uri, root)
            continue
        if isinstance(version, OSError):  # such as of a link that leads nowhere
            yield InputFile(uri, "", problem=f"it is listed, but cannot be reached: {version.strerror or version}")
            continue
        yield InputFile(uri, version)


def _opened(file: InputFile, *, named: bool) -> Iterator[InputFile]:
    """The recordings in a container; a file that is none is itself one. `named`: not merely found in a folder."""
    if file.problem is not None or not sources.is_container(file.uri):
        yield file
        return
    try:
        inside = list(_tar(file) if sources.is_tar(file.uri) else _parquet(file))
    except (UnreadableError, OSError) as error:
        if isinstance(error, UnreadableError):
            yield replace(file, problem=error.detail, reason=error.reason)
        else:
            yield replace(file, problem=str(error.strerror or error))
        return
    yield from inside
    if named and not inside:
        yield replace(file, problem=NO_AUDIO)


def _tar(file: InputFile) -> Iterator[InputFile]:
    """Members with an audio suffix; what WebDataset puts beside one (`.json`, `.lang`) tells its language and so on."""
    members, problem = sources.tar_members(file.uri)
    for name in members:
        if not name.lower().endswith(AUDIO_SUFFIXES):
            continue
        path = PurePosixPath(name)
        key = str(path.with_name(path.name.partition(".")[0]))
        member = replace(file, uri=f"{file.uri}::{name}")
        try:
            name.encode()
            yield replace(member, **_beside(file.uri, key, members))
        except UnicodeEncodeError:
            shown = member.uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            yield replace(member, uri=shown, problem="its name is not UTF-8: rename it")
        except UnreadableError as error:
            yield replace(member, problem=error.detail, reason=_reason(error))
    if problem is not None:
        yield replace(file, problem=f"it breaks off: {problem}")


def _beside(uri: str, key: str, members: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Language, licence and source out of a member's neighbours of the same name."""
    about: dict[str, Any] = {}
    if f"{key}.json" in members:
        try:
            entry = json.loads(sources.tar_bytes(uri, f"{key}.json"))
        except (ValueError, RecursionError) as error:
            raise UnreadableError("manifest", f"{key}.json beside it is not JSON: {error}") from error
        if isinstance(entry, dict):
            about = {name: entry[name] for name in _ABOUT if isinstance(entry.get(name), str) and entry[name]}
    if f"{key}.lang" in members:
        about["lang"] = sources.tar_bytes(uri, f"{key}.lang").decode("utf-8", "replace").strip()
    return _checked(about)


def _parquet(file: InputFile) -> Iterator[InputFile]:
    """Every row of every column with audio; columns `lang`, `license` and `source` tell what they say."""
    with sources.parquet_file(file.uri) as table:
        columns = sources.audio_columns(table.schema_arrow)
        told = [field.name for field in table.schema_arrow if field.name in _ABOUT and pa.types.is_string(field.type)]
        row = 0
        for batch in table.iter_batches(columns=told) if columns else ():
            for about in batch.to_pylist() if told else [{}] * batch.num_rows:
                for column in columns:
                    member = replace(file, uri=f"{file.uri}::{column}/{row}")
                    try:
                        yield replace(member, **_checked({name: value for name, value in about.items() if value}))
                    except UnreadableError as error:
                        yield replace(member, problem=error.detail, reason=_reason(error))
                row += 1


def _listed(uri: str, root: str | None) -> Iterator[InputFile]:
    """The entries of a list, each relative to its folder."""
    try:
        if not storage.exists(uri):
            kind = "manifest" if uri.endswith(".jsonl") else "list"
            yield InputFile(uri, "", problem=f"there is no such {kind}")
            return
        entries = list(_LISTS[uri[uri.rindex(".") :]](uri))
    except UnreadableError as error:  # an address on the web that may not be asked, or does not answer
        yield InputFile(uri, "", problem=error.detail, reason=error.reason)
        return
    versions = _versions_in_stores(uri, [entry for _, entry in entries if not isinstance(entry, UnreadableError)], root)
    for number, entry in entries:
        try:
            if isinstance(entry, UnreadableError):
                raise entry
            yield from _entry(uri, number, entry, root, versions)
        except UnreadableError as error:
            yield InputFile(f"{uri}#line={number}", "", problem=redact(error.detail), reason=_reason(error))


def _reason(error: UnreadableError) -> str:
    return "missing" if error.reason == "manifest" else error.reason


def _versions_in_stores(uri: str, entries: list[dict[str, Any]], root: str | None) -> dict[str, str | OSError]:
    """The versions of the files in object stores that a list names, which are not asked for one by one."""
    places = [_place(uri, entry) for entry in entries if secret_in(entry.get("uri") or entry["path"]) is None]
    files = {sources.place_of(place).file for place in places if not _is_outside(place, root)}
    return storage.versions(sorted(file for file in files if storage.is_in_store(file)))


def _place(uri: str, entry: dict[str, Any]) -> str:
    """Where an entry of a list leads."""
    place = str(entry.get("uri") or entry["path"])
    if "://" in place or place.startswith("/"):
        return place
    return storage.join(uri.rsplit("/", 1)[0] if "/" in uri else ".", place)


def _entry(
    uri: str, number: int, entry: dict[str, Any], root: str | None, versions: dict[str, str | OSError]
) -> Iterator[InputFile]:
    """What one line of a list names. Raises UnreadableError where it should not even be repeated.

    `versions`: of files that are known already.
    """
    place = entry.get("uri") or entry["path"]
    secret = secret_in(place)
    if secret is not None:
        raise UnreadableError("secret_in_address", f"{redact_uri(place)!r} carries {secret}: {WHERE_TO_PUT_IT}")
    place = _place(uri, entry)
    about: dict[str, Any] = {key: entry.get(key) or None for key in _ABOUT}
    at = sources.place_of(place)
    if _is_outside(place, root):
        yield replace(_outside(place, root, f"; {uri} names it in line {number}"), **about)
    elif sources.is_http(uri) and storage.is_local(at.file):
        detail = f"a list on the web names a file of this machine in line {number}: {uri}"
        yield InputFile(place, "", **about, problem=detail, reason="address_refused")
    elif sources.is_http(at.file):
        yield InputFile(place, "", **about)
    else:
        try:
            version = versions[at.file] if at.file in versions else storage.versions([at.file])[at.file]
        except AddressError as error:
            detail = f"{error}; {uri} names it in line {number}"
            yield InputFile(place, "", **about, problem=detail, reason="address_refused")
            return
        if isinstance(version, OSError):
            gone = isinstance(version, FileNotFoundError)
            told = "there is no such file" if gone else f"it cannot be reached: {version.strerror or version}"
            yield InputFile(place, "", **about, problem=f"{told}; {uri} names it in line {number}")
        elif at.member is None and sources.is_container(place):
            for file in _opened(InputFile(place, version), named=True):
                yield replace(file, **{key: value for key, value in about.items() if value})
        else:
            yield InputFile(place, version, **about)


_Entry = dict[str, Any] | UnreadableError


def _manifest(uri: str) -> Iterator[tuple[int, _Entry]]:
    """Lines of JSON objects: `path` (relative to the manifest) or `uri`, and optionally lang, license and source."""
    for number, line in enumerate(storage.read_bytes(uri).splitlines()):
        if line.strip():
            try:
                yield number + 1, _manifest_entry(line)
            except UnreadableError as error:
                yield number + 1, error


def _uris(uri: str) -> Iterator[tuple[int, _Entry]]:
    """A uri or path a line; empty lines and those that begin with `#` say nothing."""
    for number, line in enumerate(storage.read_bytes(uri).split(b"\n")):
        if line.strip() and not line.startswith(b"#"):
            try:
                yield number + 1, {"path": line.decode("utf-8-sig" if not number else "utf-8").strip()}
            except UnicodeDecodeError as error:
                yield number + 1, UnreadableError("manifest", f"not UTF-8: {error.reason}")


def _table(uri: str) -> Iterator[tuple[int, _Entry]]:
    """Columns apart by tabs, under a heading with the keys of a manifest."""
    text = storage.read_bytes(uri).decode("utf-8-sig", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
    heading = next(rows, [])
    for number, row in enumerate(rows):
        if any(cell.strip() for cell in row):
            entry = {key: value for key, value in zip(heading, row, strict=False) if value}
            try:
                if len(row) != len(heading):
                    raise UnreadableError("manifest", f"{len(row)} columns, and the heading has {len(heading)}")
                yield number + 2, _checked_entry(entry)
            except UnreadableError as error:
                yield number + 2, error


_LISTS = {".jsonl": _manifest, ".tsv": _table, ".txt": _uris}


def _manifest_entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("manifest", f"not JSON: {error}") from error
    return _checked_entry(entry)


def _checked_entry(entry: Any) -> dict[str, Any]:
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
    return _checked(entry)


def _checked(about: dict[str, Any]) -> dict[str, Any]:
    """The same, its language as ISO 639-3. Raises UnreadableError where there is no such language, or a secret."""
    for name, value in about.items():
        if isinstance(value, str) and name in _ABOUT and redact(value) != value:
            raise UnreadableError(
                "secret_in_address", f"its {name} carries a secret: {redact(value)!r}: leave that out"
            )
    if not about.get("lang"):
        return about
    try:
        return {**about, "lang": get_language(about["lang"]).iso639_3}
    except ConfigError as error:
        raise UnreadableError("manifest", str(error)) from error


def _distinct(files: list[InputFile]) -> list[InputFile]:
    first: dict[str, InputFile] = {}
    for file in files:
        first.setdefault(file.uri, file)
    return [first[uri] for uri in sorted(first)]
