"""Files with a mark beside them: what they were made from and what bytes they have, so that none is trusted unread.

A mark is a small JSON file, written after its file. Where a writer is killed in between there is no mark, or an old one
that does not fit; both mean that the file is not done.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from seamlessalign import storage
from seamlessalign.errors import StorageError

log = logging.getLogger(__name__)

_BLOCK = 1 << 22  # bytes read at once


@dataclass(frozen=True)
class Mark:
    """What a mark says of its file."""

    size: int  # bytes
    digest: str  # of them, xxh3-128


def write(path: str, about: dict[str, Any], data: bytes) -> None:
    """Write a local file, then its mark, both atomically. `about` is all that the file was made from."""
    storage.write_bytes_atomic(path, data)
    mark = {"made_from": digest_of(about), "size": len(data), "digest": xxhash.xxh3_128_hexdigest(data)}
    storage.write_bytes_atomic(_mark_of(path), json.dumps(mark).encode())


def is_done(path: str, about: dict[str, Any]) -> bool:
    """Whether a file is there as it was written, made from `about`; where it is not the log says why."""
    try:
        check(path, about)
    except StorageError as error:
        if Path(path).exists():
            log.warning("%s; it is made again", error)
        return False
    return True


def check(path: str, about: dict[str, Any], *, whole: bool = True) -> Mark:
    """The mark of a file made from `about`.

    Raises StorageError naming the file where it or its mark is missing, it was made from something else, its size is
    wrong, or, if `whole`, its bytes are not those that were written.
    """
    try:
        mark: dict[str, Any] = json.loads(Path(_mark_of(path)).read_bytes())
        said, made_from = Mark(int(mark["size"]), str(mark["digest"])), str(mark["made_from"])
        size = Path(path).stat().st_size
    except FileNotFoundError as error:
        raise StorageError(f"{error.filename}: is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{_mark_of(path)}: is not a readable mark: {error}") from error
    if made_from != digest_of(about):
        raise StorageError(f"{path}: was made from other rows, or in another way")
    if size != said.size:
        raise StorageError(f"{path}: is damaged: it has {size} bytes, and {said.size} were written")
    if whole and _digest_of_file(path) != said.digest:
        raise StorageError(f"{path}: is damaged: its bytes are not those that were written")
    return said


def digest_of(about: dict[str, Any]) -> str:
    """A digest of plain values, whatever the order of their names."""
    return xxhash.xxh3_128_hexdigest(json.dumps(about, sort_keys=True).encode())


def _mark_of(path: str) -> str:
    return str(Path(path).with_suffix(".json"))


def _digest_of_file(path: str) -> str:
    digest = xxhash.xxh3_128()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
