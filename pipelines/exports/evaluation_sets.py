"""What must not be in a corpus that is handed on: the texts and sounds of evaluation sets, in the files they come in.

Every cell of a table and every value of a JSON line counts that has a letter in it, since a column that is no sentence
finds nothing. So the folders of FLORES, FLEURS, CoVoST 2 and CVSS are read as they are, all splits that are in them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.exports.evaluation_texts import LINES, TABLES, texts_of, texts_of_table
from seamlessalign.pipelines.inputs import AUDIO_SUFFIXES, NO_AUDIO, find_recordings
from seamlessalign.secrets import redact_uri
from seamlessalign.sources import is_http, is_tar, place_of, tar_bytes, tar_members

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
                    f"--not-in: {place}: is none of the files that are read: text ({', '.join(LINES)}), "
                    f"{', '.join(TABLES)}, .jsonl, .json, .parquet, audio, or a tar file of these"
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
    lines = []
    if files:
        lines.append(f"{files:,} files in folders of evaluation sets gave no text and no sound to compare with")
    if sounds:
        lines.append(f"{sounds:,} sounds of evaluation sets cannot be decoded and were compared byte by byte alone")
    return lines


def _read(uri: str, sets: EvaluationSets) -> int | None:
    """Read a file: how many texts and sounds are in it, None where it is none of those that are read."""
    name = uri.lower()
    if is_tar(uri):
        return _add_sounds(uri, sets) + sets._add(_tar_texts(uri))
    if name.endswith(AUDIO_SUFFIXES):
        return _add_sounds(uri, sets)
    if name.endswith(".parquet"):
        return sets._add(texts_of_table(uri)) + _add_sounds(uri, sets)
    texts = texts_of(uri, lambda: storage.read_bytes(uri))
    return None if texts is None else sets._add(texts)


def _tar_texts(uri: str) -> Iterator[tuple[str, str]]:
    """The texts of members, as FLORES comes packed, and shards of WebDataset have beside sounds."""
    members, _ = tar_members(uri)
    for name in members:
        yield from texts_of(f"{uri}::{name}", partial(tar_bytes, uri, name, any_size=True)) or ()


def _add_sounds(uri: str, sets: EvaluationSets) -> int:
    count = 0
    for found in find_recordings([uri]):
        # the problem of what is inside another file is what is told beside it, which says nothing here
        is_inside = place_of(found.uri).member is not None
        if found.problem is not None and not is_inside and found.problem != NO_AUDIO:
            raise InputError(f"--not-in: {redact_uri(found.uri)}: cannot be read: {found.problem}")
        if found.problem is None or is_inside:
            sets.sounds.append(found.uri)
            count += 1
    return count
