"""What curators said of pairs: a table in the run's folder to which lines are added and from which none ever goes.

A line says of a pair that it is right, wrong or that one is not sure, or takes the pair's last line back. `append`
returns once its lines are on the disk: it reads the file anew, writes it with more lines behind under another name and
renames that, one process at a time. So a process may be killed at any point, and two pages may be open. Locally a file
lock, which goes with the process, keeps others waiting; in a store the file is replaced under the condition that it is
the one that was read (`remote_files.write_if`, which says which stores decide that by themselves).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import local_files, remote_files, storage
from seamlessalign.errors import InputError, SeamlessAlignError, StorageError
from seamlessalign.pipelines.folder import RunFolder

Said = Literal["right", "wrong", "unsure", "undo"]
How = Literal["random at the threshold", "random above the threshold", "random", "in order", "looked up"]
RANDOM: tuple[How, ...] = ("random at the threshold", "random above the threshold", "random")
_ATTEMPTS = 50  # to replace a file in a store, while others do

LABELS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # right, wrong, unsure; undo takes the pair's last one back
        pa.field("session", pa.string(), nullable=False),  # who said so
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),  # when the line was added
        pa.field("threshold", pa.float64()),  # the margin at which the page stood
        pa.field("margin", pa.float64(), nullable=False),  # of the pair
        pa.field("drawn", pa.string(), nullable=False),  # how the pair came to be looked at
        pa.field("drawn_from", pa.float64()),  # of a random draw: margins in [from, to) had the same chance each;
        pa.field("drawn_to", pa.float64()),  # null has no end
        pa.field("drawn_among", pa.string(), nullable=False),  # of a random draw: filters, as JSON; else empty
    ]
)


@dataclass(frozen=True)
class Drawn:
    """How a pair came to be looked at. Where it was at random, from which margins and among which pairs."""

    how: How
    low: float | None = None
    high: float | None = None  # not itself among them
    among: str = ""  # `filters_key` of the filters

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise InputError(f"{self.how!r} is no way to draw pairs; there are {', '.join(get_args(How))}")


@dataclass(frozen=True)
class Label:
    """A line to add."""

    pair_id: str
    direction: str
    label: Said
    margin: float
    drawn: Drawn
    session: str = ""
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.label not in get_args(Said):
            raise InputError(f"{self.label!r} is no label; there are {', '.join(get_args(Said))}")
        if not self.pair_id or not self.direction or not math.isfinite(self.margin):
            raise InputError(f"a label needs a pair, its direction and its margin: {self}")


@dataclass
class Labelled:
    """What all lines together say of a pair."""

    pair_id: str
    direction: str
    margin: float  # as its last line has it
    labels: list[Said] = field(default_factory=list)  # those not taken back, the last of which counts
    draws: list[Drawn] = field(default_factory=list)  # every random draw that it was labelled in

    @property
    def label(self) -> Said | None:
        """What counts; None where all was taken back."""
        return self.labels[-1] if self.labels else None


class Labels:
    """The labels of a run's folder. Any number of threads and processes may add lines."""

    def __init__(self, root: str) -> None:
        self.uri = RunFolder(root).labels
        self._lock = RunFolder(root).labels_lock

    def read(self) -> pa.Table:
        """All lines in the order in which they were added. Raises StorageError where the file is damaged."""
        if storage.is_local(self.uri):
            return _table(storage.read_bytes(self.uri), self.uri) if storage.exists(self.uri) else LABELS.empty_table()
        there = remote_files.read_tagged(self.uri)
        return _table(there[0], self.uri) if there else LABELS.empty_table()

    def append(self, lines: Sequence[Label]) -> int:
        """Add lines behind all others, with the time; returns how many there are now.

        They are on the disk when this returns. Raises StorageError where the file is damaged, which then stays as it
        is, or cannot be written.
        """
        if not lines:
            return len(self.read())
        return self._append_locally(lines) if storage.is_local(self.uri) else self._append_remotely(lines)

    def labelled(self, direction: str | None = None) -> dict[str, Labelled]:
        """What counts of each pair of a direction, or of all, by `DIRECTION pair_id`; errors as of `read`."""
        return fold(self.read(), direction)

    def _append_locally(self, lines: Sequence[Label]) -> int:
        with local_files.locked(storage.local_path(self._lock)):
            path = storage.local_path(self.uri)
            for left in path.parent.glob(f"{storage.TEMPORARY_PREFIX}{path.name}.*"):  # by one who was killed
                left.unlink(missing_ok=True)
            table = pa.concat_tables([self.read(), _lines(lines)])
            storage.write_bytes_atomic(self.uri, _written(table))
        return len(table)

    def _append_remotely(self, lines: Sequence[Label]) -> int:
        for _ in range(_ATTEMPTS):
            there = remote_files.read_tagged(self.uri)
            table = pa.concat_tables([_table(there[0], self.uri) if there else LABELS.empty_table(), _lines(lines)])
            if remote_files.write_if(self.uri, _written(table), there[1] if there else None):
                return len(table)
        raise SeamlessAlignError(f"{self.uri}: others kept writing it meanwhile; no label was added, try again")


def fold(lines: pa.Table, direction: str | None = None) -> dict[str, Labelled]:
    """What lines say together of each pair, of a direction or of all, by `DIRECTION pair_id`, in order of first lines.

    An undo takes back the last line of its pair that was not taken back; where there is none it does nothing. A random
    draw counts even where the label given there was taken back and given again elsewhere.
    """
    found: dict[str, Labelled] = {}
    for row in lines.to_pylist():
        if direction is not None and row["direction"] != direction:
            continue
        key = f"{row['direction']} {row['pair_id']}"
        pair = found.setdefault(key, Labelled(row["pair_id"], row["direction"], row["margin"]))
        pair.margin = row["margin"]
        if row["label"] == "undo":
            del pair.labels[-1:]
            continue
        pair.labels.append(row["label"])
        if row["drawn"] in RANDOM:
            drawn = Drawn(row["drawn"], row["drawn_from"], row["drawn_to"], row["drawn_among"])
            if drawn not in pair.draws:
                pair.draws.append(drawn)
    return found


def _lines(lines: Sequence[Label]) -> pa.Table:
    now = datetime.now(UTC)
    rows = [
        {
            "pair_id": line.pair_id,
            "direction": line.direction,
            "label": line.label,
            "session": line.session,
            "time": now,
            "threshold": line.threshold,
            "margin": line.margin,
            "drawn": line.drawn.how,
            "drawn_from": line.drawn.low,
            "drawn_to": line.drawn.high,
            "drawn_among": line.drawn.among,
        }
        for line in lines
    ]
    return pa.Table.from_pylist(rows, LABELS)


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _table(data: bytes, uri: str) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise StorageError(
            f"{uri}: is damaged: {what}; put back a copy of it, or move it away to begin anew"
        ) from error
    if not table.schema.equals(LABELS) or not set(table["label"].unique().to_pylist()) <= set(get_args(Said)):
        raise StorageError(f"{uri}: is no table of labels of this version; move it away to begin anew")
    return table.replace_schema_metadata(None)
