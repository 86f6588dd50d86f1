"""What is written at once of an export: those rows of one part of the corpus that are of one split.

A shard is written by one process and needs no other, so workers write many at a time, and an export that was killed
goes on with those that it has not. Its files are atomic. What spans shards, such as the one manifest of a split, is put
together behind them from pieces below `state/pieces`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.exports.clips import SIDES, AudioFormat, Clip, clips_of
from seamlessalign.pipelines.folder import shard_name
from seamlessalign.rows import CORPUS

PIECES = "state/pieces"  # below an export's folder: of what spans shards; nobody needs them once it is finished
_PLAIN = [name for name in CORPUS.names if not name.endswith("_audio")]


@dataclass(frozen=True)
class Target:
    """Where an export goes, and what of it is for every shard the same."""

    root: str  # a folder or, where the format can be written there, any uri
    audio: AudioFormat | None = None  # None: as it is in the corpus, copied
    max_bytes: int = 1 << 30  # of audio in one file that holds many clips


@dataclass(frozen=True)
class Shard:
    """Some rows of one part of the corpus."""

    direction: str
    number: int  # of the part
    split: str | None = None  # None: the export has no splits

    @property
    def place(self) -> str:
        """Folder of all shards of this direction and split below the export's: `eng-frA` or `train/eng-frA`."""
        return self.direction if self.split is None else f"{self.split}/{self.direction}"

    @property
    def name(self) -> str:
        """What the names of its files begin with: `part-00003`."""
        return shard_name(self.number)

    def piece(self, suffix: str) -> str:
        """Name of its piece of what spans shards, below the export's folder."""
        return f"{PIECES}/{self.place}/{self.name}{suffix}"


@dataclass(frozen=True)
class Written:
    """What became of the rows of a shard: those that came are `pairs` and, by reason, those in `refused`."""

    shard: Shard
    pairs: int = 0
    samples: int = 0  # of audio at 16 kHz, of both sides
    audio_bytes: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)  # reason → pairs that the format cannot hold
    files: Mapping[str, int] = field(default_factory=dict)  # name below the export's folder → rows; no single clips


@dataclass(frozen=True)
class ExportRow:
    """One pair on its way out."""

    key: str  # `pair_id` with every character that means something in names of files as %XX
    values: dict[str, Any]  # the columns of `corpus` but the audio
    audio: dict[str, Clip]  # by side, src or tgt, where that is speech
    units: dict[str, dict[str, Any]]  # by side: the row of `units`, where the run has it
    transcripts: dict[str, dict[str, Any]]  # by side: the row of `transcripts`, where the run has it

    @property
    def beside(self) -> dict[str, Any]:
        """What the run has beside the pair, as columns: `src_transcript`, `src_units`, `src_unit_durations`, …"""
        heard = {f"{side}_transcript": row["text"] for side, row in self.transcripts.items()}
        units = {f"{side}_units": row["units"] for side, row in self.units.items()}
        return {**heard, **units, **{f"{side}_unit_durations": row["durations"] for side, row in self.units.items()}}


class ShardWriter(ABC):
    """Writes one shard: opened as a context, given rows, and asked for `written` once it is closed without an error.

    beside: by name, `units` and `transcripts`, the rows that the run has beside this part of the corpus; those of other
    pairs may be among them.
    """

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        self.target, self.shard, self.beside = target, shard, beside
        self._files: dict[str, int] = {}
        self._refused: Counter[str] = Counter()
        self.refused_pairs: list[tuple[str, str]] = []  # pair_id and reason of each
        self._pairs = self._samples = self._audio_bytes = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failed:
            self._stack.__exit__(type(failed), failed, failed.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

    @property
    def written(self) -> Written:
        """What was written."""
        counts = (self._pairs, self._samples, self._audio_bytes)
        return Written(self.shard, *counts, dict(sorted(self._refused.items())), dict(self._files))

    @abstractmethod
    def add(self, pairs: pa.Table) -> None:
        """Write rows of `corpus` that come next. Raises StorageError for audio that is not what its row says."""

    def _finish(self) -> None:  # noqa: B027  not all have something to do
        """Write what is left once all rows came."""

    def _uri(self, name: str, rows: int = 0) -> str:
        """The uri of a file below the export's folder, which is noted as written."""
        self._files[name] = rows
        return storage.join(self.target.root, name)

    def _count(self, clips: Sequence[Clip | None]) -> None:
        self._samples += sum(clip.num_samples for clip in clips if clip is not None)
        self._audio_bytes += sum(len(clip.data) for clip in clips if clip is not None)


class RowWriter(ShardWriter):
    """Writes a shard row by row."""

    default_audio: ClassVar[AudioFormat | None] = None  # of formats that cannot hold any

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._units = _by_pair(beside.get("units"))
        self._transcripts = _by_pair(beside.get("transcripts"))

    def add(self, pairs: pa.Table) -> None:
        for row in self._rows(pairs):
            reason = self._refusal(row)
            if reason is not None:
                self._refused[reason] += 1
                self.refused_pairs.append((row.values["pair_id"], reason))
                continue
            self._write(row)
            self._pairs += 1
            self._count(list(row.audio.values()))

    def _refusal(self, row: ExportRow) -> str | None:
        """Why the format cannot hold a row, if so."""
        return None

    @abstractmethod
    def _write(self, row: ExportRow) -> None: ...

    def _rows(self, pairs: pa.Table) -> Iterator[ExportRow]:
        wanted = self.target.audio or self.default_audio
        clips = {side: clips_of(pairs, side, wanted) for side in SIDES}
        for number, values in enumerate(pairs.select(_PLAIN).to_pylist()):
            name = values["pair_id"]
            there = {side: clip for side in SIDES if (clip := clips[side][number]) is not None}
            yield ExportRow(key_of(name), values, there, self._units.get(name, {}), self._transcripts.get(name, {}))


class Format(ABC):
    """One way to write a corpus down."""

    name: ClassVar[str]
    writer: ClassVar[type[ShardWriter]]
    local_only: ClassVar[bool] = False  # its files name each other by paths of this machine: no store can have them

    def check(self, target: Target, directions: Mapping[str, frozenset[str]]) -> None:
        """Raise InputError for what can never be written so, MissingPackageError for what it needs.

        directions: which tables the run has beside the corpus, `units` and `transcripts`, by direction.
        """
        if self.local_only and not storage.is_local(target.root):
            raise InputError(f"{target.root}: {self.name} names files by paths; export to a folder of this machine")

    def files(self, place: str) -> tuple[str, str] | None:
        """How `datasets` reads the shards of a place (`train/eng-frA`), if it can: builder, pattern below the folder.

        The front matter of the folder's README.md has these patterns, and `load_dataset(folder)` takes them from there.
        """
        return None

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write what spans shards, given in order of split, direction and number; the names of its files."""
        return []


def key_of(pair_id: str) -> str:
    """A pair's id as a name: characters that are not letters, digits, '-' or '_' as %XX of their UTF-8 bytes."""
    name = quote(pair_id, safe="").replace(".", "%2E").replace("~", "%7E")
    return f"%5F{name[1:]}" if name.startswith("_") else name  # webdataset passes over what begins so


def join_pieces(target: Target, name: str, pieces: Sequence[str], header: bool = False) -> str:
    """Put pieces one behind the other into one file below the export's folder; returns its name.

    header: the first line of each is the same, and is written once. Raises StorageError where it is not.
    """
    first = None
    with storage.local_target(storage.join(target.root, name)) as path, path.open("wb") as out:
        for piece in pieces:
            with storage.open_read(storage.join(target.root, piece)) as source:
                if header:
                    line = source.readline()
                    if first is None:
                        out.write(line)
                        first = line
                    elif line != first:
                        raise StorageError(f"{target.root}: {piece} has other columns than {pieces[0]}; export anew")
                while block := source.read(1 << 20):
                    out.write(block)
    return name


def by_split(written: Sequence[Written], suffix: str) -> dict[str | None, list[str]]:
    """The files of all shards whose names end so, by split."""
    found: dict[str | None, list[str]] = {}
    for shard in written:
        for name in shard.files:
            if name.endswith(suffix):
                found.setdefault(shard.shard.split, []).append(name)
    return found


def _by_pair(table: pa.Table | None) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in [] if table is None else table.to_pylist():
        found.setdefault(row["pair_id"], {})[row["side"]] = row
    return found
