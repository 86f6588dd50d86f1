"""Languages of recordings that somebody knows, beside what a run told of them: who is taken for whom.

They come from three places: a list that is given to the report (`seamlessalign report DIR --languages LIST`), the truth
of a demo, and the inputs themselves, where `speech.lid.check_stated` has recordings heard whose language is stated.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.inputs import find_recordings
from seamlessalign.rows import RECORDINGS

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
        for row in storage.read_table(uri, TOLD.names).to_pylist():
            heard.add(row["uri"])
            confusion.add(row["stated"], row["told"] if row["sure"] else UNCERTAIN, row["speech_samples"])
    rows = storage.read_tables(folder.table("recordings"), RECORDINGS, _COLUMNS).to_pylist()
    names = _same_recordings(known, [row["uri"] for row in rows])
    confusion.absent = len(known) - len(set(names.values()))
    for row in rows:
        lang = known.get(names.get(row["uri"], ""))
        if row["uri"] in heard:
            continue
        if lang is None:
            confusion.unknown += 1
        elif row["lang"] is None:
            confusion.add(lang, NO_SPEECH, row["speech_samples"])
        elif row["lang_prob"] == 1.0:  # as the run writes it where it was told; who is heard is never as sure
            confusion.stated += 1
        else:
            confusion.add(lang, _INSTEAD.get(row["drop_reason"], row["lang"]), row["speech_samples"])
    return confusion


def _read_known(folder: RunFolder) -> dict[str, str]:
    if not storage.exists(folder.known_languages):
        return {}
    return {row["uri"]: row["lang"] for row in storage.read_table(folder.known_languages, KNOWN.names).to_pylist()}


def _same_recordings(known: Mapping[str, str], uris: list[str]) -> dict[str, str]:
    """The names that recordings are known by, by their uris in the run: the same, or else the only one of its file.

    A run, or its recordings, may have been moved since.
    """
    by_file: dict[str, list[str]] = {}
    for name in known:
        by_file.setdefault(PurePosixPath(name).name, []).append(name)
    files = Counter(PurePosixPath(plain).name for plain in {_plain(uri) for uri in uris})
    found = {}
    for uri in uris:
        plain = _plain(uri)
        file = PurePosixPath(plain).name
        if uri in known or plain in known:
            found[uri] = uri if uri in known else plain
        elif files[file] == 1 and len(by_file.get(file, ())) == 1:
            found[uri] = by_file[file][0]
    return found


def _plain(uri: str) -> str:
    """A uri without the channel."""
    return _CHANNEL.sub("", uri)
