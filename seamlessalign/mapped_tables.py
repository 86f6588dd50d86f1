"""Tables that are mapped into memory: of a file of any size, reading some rows takes the memory of those rows.

They are Arrow files of batches that are not compressed, so that a column can be read where it lies. Strings have 64-bit
offsets (`mappable`), since a column may be larger than 2 GiB.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.errors import StorageError

ROWS = 1 << 16  # of a batch

Indices = npt.NDArray[np.integer]


class MappedTable:
    """A table in batches, as a rule those of a file that is mapped into memory."""

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        self.schema = schema
        self.batches = [batch for batch in batches if len(batch)]
        self._ends = np.cumsum([len(batch) for batch in self.batches], dtype=np.int64)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def table(self) -> pa.Table:
        """All of it, of which nothing is read before it is looked at."""
        return pa.Table.from_batches(self.batches, self.schema)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, of which nothing is read before it is looked at."""
        return self.table.column(name)

    def take(self, rows: Indices, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order given and as often as they are, (num_rows,) from 0: of all columns or of some.

        Arrow's own `take` would first copy the whole of every column of strings. Raises IndexError for a row that is
        not there.
        """
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        if not len(rows):
            return schema.empty_table()
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        edges = np.searchsorted(ordered, np.append(0, self._ends))
        pieces = []
        for number in np.flatnonzero(np.diff(edges)):
            batch = self.batches[number]
            inside = ordered[edges[number] : edges[number + 1]] - (self._ends[number] - len(batch))
            pieces.append(batch.select(names).take(pa.array(inside)))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(pieces, schema).combine_chunks().take(pa.array(back))


def mappable(schema: pa.Schema) -> pa.Schema:
    """A schema whose strings have 64-bit offsets."""
    fields = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in schema]
    return pa.schema(fields)


def write_mappable(path: Path, tables: Iterable[pa.Table | pa.RecordBatch], schema: pa.Schema) -> int:
    """Write tables one behind the other as one file, in batches of at most `ROWS`; returns the rows.

    schema: of what is written, to which every table is cast. One of the tables is in memory at a time. Raises OSError.
    """
    rows = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for table in tables:
            whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
            writer.write_table(whole.select(schema.names).cast(schema).combine_chunks(), max_chunksize=ROWS)
            rows += len(whole)
    return rows


def open_mapped(path: Path, name: str | None = None) -> MappedTable:
    """Map a file of `write_mappable`. A file that is removed stays readable as long as the table is there.

    Raises StorageError, calling the file by its name, where it is not whole.
    """
    try:
        with pa.memory_map(str(path), "r") as file:
            reader = pa.ipc.open_file(file)
            return MappedTable([reader.get_batch(i) for i in range(reader.num_record_batches)], reader.schema)
    except (pa.ArrowException, OSError) as error:
        told = str(error).splitlines()[0]
        raise StorageError(f"{name or path}: is not a whole table ({told}); remove it and run again") from error
