"""Common Voice as it is distributed: `validated.tsv` says what is said in `clips/`. CoVoST 2, CVSS need release 4."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from seamlessalign.errors import InputError
from seamlessalign.speech_sources import Sound, text_lines


@dataclass(frozen=True)
class Clips:
    """What there is of a language: clip → sentence, where a table of them is there, and files."""

    sentences: dict[str, str] | None
    folder: Path | None
    there: frozenset[str]

    def sound(self, name: str) -> Sound | None:
        return Sound(f"{self.folder}/{name}") if name in self.there else None


@lru_cache(maxsize=1)
def read_clips(roots: tuple[Path, ...], lang: str) -> Clips:
    """Clips and sentences of a language (Common Voice's name), in `LANG/` of one of the folders, or in one itself.

    Those of the last language are kept: English is the source of fifteen directions, and has a million of them.
    """
    places = [place for root in roots for place in (root / lang, root)]
    table = next((file for place in places if (file := place / "validated.tsv").is_file()), None)
    folder = next((clips for place in places if (clips := place / "clips").is_dir()), None)
    sentences = None
    if table is not None:
        sentences = {row["path"]: row["sentence"] for row in escaped_rows(table, ("path", "sentence"))}
    return Clips(
        sentences, folder, frozenset() if folder is None else frozenset(file.name for file in folder.iterdir())
    )


def escaped_rows(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    r"""Rows of a table with a header, in which `\` stands before what is not meant, as CoVoST's own program reads them.

    Raises InputError where a column is not there, or a row has more or fewer values than the header.
    """
    lines = csv.reader(text_lines(str(file)), delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    header = next(lines, list[str]())
    absent = [name for name in columns if name not in header]
    if absent:
        raise InputError(f"{file}: has no column {absent[0]}, but {', '.join(header)}")
    for values in _told(lines, file):
        if len(values) != len(header):
            raise InputError(
                f"{file} line {lines.line_num}: has {len(values)} values for {len(header)} columns; fetch it anew"
            )
        yield dict(zip(header, values, strict=True))


def _told(lines: Iterator[list[str]], file: Path) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error as error:
        raise InputError(f"{file}: {error}; fetch it anew") from error
