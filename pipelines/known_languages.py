"""Languages of recordings that somebody knows, beside what a run told of them: who is taken for whom.

They come from three places: a list that is given to the report (`seamlessalign report DIR --languages LIST`), the truth
of a demo, and the inputs themselves, where `speech.lid.check_stated` has recordings heard whose language is stated.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.inputs import find_recordings

TOLD_TABLE = "told_languages"
NO_SPEECH, UNCERTAIN, MIXED = "no speech", "uncertain", "mixed"  # in place of a language

KNOWN = pa.schema([pa.field("uri", pa.string(), nullable=False), pa.field("lang", pa.string(), nullable=False)])
TOLD = pa.schema(
    [
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("stated", pa.string(), nullable=False),
        pa.field("told", pa.string(), nullable=False),  # the likeliest language of what was heard
        pa.field("prob", pa.float32(), nullable=False),
        pa.field("sure", pa.bool_(), nullable=False),  # whether a run would believe it
        pa.field("speech_samples", pa.int64(), nullable=False),
    ]
)
_COLUMNS = ["uri", "lang", "lang_prob", "speech_samples", "drop_reason"]
_CHANNEL = re.compile(r"#channel=\d{1,4}$")
_INSTEAD = {"language_uncertain": UNCERTAIN, "language_mixed": MIXED}


@dataclass
class Confusion:
    """What was told of recordings whose language is known."""

    recordings: Counter[tuple[str, str]] = field(default_factory=Counter)  # (known, told)
    speech: Counter[tuple[str, str]] = field(default_factory=Counter)  # samples at 16 kHz
    unknown: int = 0  # recordings of which no language is known
    stated: int = 0  # recordings that are known but were not told: the input stated their language
    absent: int = 0  # known languages of recordings that the run does not have

    def add(self, known: str, told: str, samples: int) -> None:
        """Count a recording."""
        self.recordings[known, told] += 1
        self.speech[known, told] += samples


def write_known_languages(run_dir: str, known: Mapping[str, str]) -> None:
    """Keep the languages of recordings, ISO 639-3 by uri, in a run's folder, in place of what is there."""
    rows = [{"uri": uri, "lang": lang} for uri, lang in sorted(known.items())]
    storage.write_table(RunFolder(run_dir).known_languages, pa.Table.from_pylist(rows, KNOWN))


def read_language_list(uri: str) -> dict[str, str]:
    """Languages by uri of a manifest (`.jsonl`) or table (`.tsv`) as a run's inputs are: `path` or `uri`, and `lang`.

    Raises InputError where it is none, a line is wrong, or it says no language.
    """
    if not uri.endswith((".jsonl", ".tsv")):
        raise InputError(f"{uri}: is no list of recordings: give a .jsonl or .tsv with path (or uri) and lang")
    known = {}
    for file in find_recordings([uri]):
        if file.problem is not None and (file.uri == uri or file.uri.startswith(f"{uri}#line=")):
            raise InputError(f"{file.uri}: {file.problem}")
        if file.lang is not None:
            known[file.uri] = file.lang
    if not known:
        raise InputError(f"{uri}: has no line with a lang: nothing is known")
    return known


def read_confusion(run_dir: str) -> Confusion | None:
    """Known languages against those told; None where nothing is known. Raises StorageError naming a damaged file."""
    folder = RunFolder(run_dir)
    known = _read_known(folder)
    told = storage.list_files(folder.table(TOLD_TABLE), ".parquet")
    if not known and not told:
        return None
    confusion = Confusion()
    heard = set()
    for uri in told:
        for batch in storage.read_batches(uri, TOLD.names):
            for row in batch.to_pylist():
                heard.add(row["uri"])
                confusion.add(row["stated"], row["told"] if row["sure"] else UNCERTAIN, row["speech_samples"])
    parts = storage.list_files(folder.table("recordings"), ".parquet")
    names = _Names(known)
    for uri in parts:
        for batch in storage.read_batches(uri, ["uri"]):
            names.see(batch["uri"].to_pylist())
    met = set()
    for uri in parts:
        for batch in storage.read_batches(uri, _COLUMNS):
            for row in batch.to_pylist():
                name = names.of(row["uri"])
                if name is not None:
                    met.add(name)
                if row["uri"] not in heard:
                    _count(confusion, row, None if name is None else known[name])
    confusion.absent = len(known) - len(met)
    return confusion


def _count(confusion: Confusion, row: dict[str, Any], lang: str | None) -> None:
    """Count a recording that was not heard in spite of what was stated."""
    if lang is None:
        confusion.unknown += 1
    elif row["lang"] is None:
        confusion.add(lang, NO_SPEECH, row["speech_samples"])
    elif row["lang_prob"] == 1.0:  # as the run writes it where it was told; who is heard is never as sure
        confusion.stated += 1
    else:
        confusion.add(lang, _INSTEAD.get(row["drop_reason"], row["lang"]), row["speech_samples"])


def _read_known(folder: RunFolder) -> dict[str, str]:
    if not storage.exists(folder.known_languages):
        return {}
    return {row["uri"]: row["lang"] for row in storage.read_table(folder.known_languages, KNOWN.names).to_pylist()}


class _Names:
    """The names that recordings are known by: the same as in the run, or else the only one of its file.

    A run, or its recordings, may have been moved since.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._by_file: dict[str, list[str]] = {}
        for name in known:
            self._by_file.setdefault(_file(name), []).append(name)
        self._seen: dict[str, set[str]] = {}  # uris of the run by file, of files that are known, two of each at most

    def see(self, uris: Iterable[str]) -> None:
        """Take note of recordings of the run. All have to be seen before the first is asked for."""
        for uri in uris:
            plain = _plain(uri)
            if (file := _file(plain)) in self._by_file:
                seen = self._seen.setdefault(file, set())
                if len(seen) < 2:
                    seen.add(plain)

    def of(self, uri: str) -> str | None:
        """The name that a recording is known by; None where it is not."""
        plain = _plain(uri)
        if uri in self._known or plain in self._known:
            return uri if uri in self._known else plain
        file = _file(plain)
        names = self._by_file.get(file, [])
        return names[0] if len(names) == 1 and len(self._seen.get(file, ())) == 1 else None


def _file(uri: str) -> str:
    return PurePosixPath(uri).name


def _plain(uri: str) -> str:
    """A uri without the channel."""
    return _CHANNEL.sub("", uri)
