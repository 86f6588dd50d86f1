"""Where rows of a direction lie, in its Parquet files and in what was unpacked of them, and what lies there."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.pair_columns import KEYS
from seamlessalign.rows import PAIRS

UNPACKED_KEYS = ("part", "file_row_number")  # by which a row is found in the order of the table


class UnpackedPairs:
    """Columns of all pairs of a direction (`unpacked`), which are mapped into memory."""

    def __init__(self, paths: Sequence[str], columns: pa.Table) -> None:
        """paths: of the parts that they were made of. Raises StorageError where one cannot be read."""
        self.paths, self.columns = paths, columns
        self._begins = np.cumsum([0, *(storage.num_rows(path) for path in paths)]).tolist()

    def joined(self, columns: pa.Table) -> "UnpackedPairs":
        """The same with further columns."""
        whole = self.columns
        for name in columns.column_names:
            whole = whole.append_column(name, columns[name])
        return UnpackedPairs(self.paths, whole)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self.columns.column_names)

    def keys(self, found: pa.Table) -> pa.Table:
        """`KEYS` of rows of which `UNPACKED_KEYS` were found."""
        names = pa.array(self.paths, pa.string()).take(found["part"].combine_chunks())
        return pa.table({"filename": names, "file_row_number": found["file_row_number"].cast(pa.int64())})

    def rows_at(self, keys: pa.Table) -> list[int]:
        """Rows of the columns by `KEYS`."""
        begins = dict(zip(self.paths, self._begins, strict=False))
        return [begins[name] + row for name, row in zip(*(keys[key].to_pylist() for key in KEYS), strict=True)]

    def at(self, rows: Sequence[int], names: Sequence[str]) -> pa.Table:
        """Some columns of some rows, in their order."""
        whole, wanted = self.columns.select(list(names)), np.asarray(rows, np.int64)
        order, picked, begin = np.argsort(wanted, kind="stable"), [whole.slice(0, 0)], 0
        rising = wanted[order]
        for batch in whole.to_batches():  # to take from a whole column of texts would copy all of it
            inside = rising[slice(*np.searchsorted(rising, [begin, begin + len(batch)]))] - begin
            if len(inside):
                picked.append(pa.Table.from_batches([batch.take(pa.array(inside))]))
            begin += len(batch)
        return pa.concat_tables(picked).take(pa.array(np.argsort(order, kind="stable")))


def read_rows(keys: pa.Table, known: pa.Table) -> pa.Table:
    """Rows of Parquet files by `KEYS`, with these, and with `place`, which tells their order.

    known: columns of these rows that need not be read. DuckDB would take half as long again. Raises StorageError.
    """
    rows = keys["file_row_number"].to_numpy()
    names = np.asarray(keys["filename"].to_pylist(), object)
    wanted = pa.schema([field for field in PAIRS if field.name not in known.column_names])
    added = [pa.field("filename", pa.string()), pa.field("file_row_number", pa.int64()), pa.field("place", pa.int64())]

    def of_file(name: str) -> Iterator[pa.Table]:
        here = np.flatnonzero(names == name)
        with pq.ParquetFile(name, page_checksum_verification=True) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = np.cumsum(sizes, dtype=np.int64)
            groups = np.searchsorted(ends, rows[here], side="right")
            for group in np.unique(groups).tolist():
                places = here[groups == group]
                inside = pa.array(rows[places] - (ends[group] - sizes[group]))
                found = file.read_row_group(group, wanted.names).take(inside).cast(wanted)
                for one, values in zip(added, ([name] * len(places), rows[places], places), strict=True):
                    found = found.append_column(one, pa.array(values, one.type))
                yield found

    found = [pa.schema([*wanted, *added]).empty_table()]
    for name in sorted(set(names.tolist())):
        try:
            found += of_file(name)
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{name}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    whole = pa.concat_tables(found)
    for column in known.column_names:
        whole = whole.append_column(column, known[column].take(whole["place"]))
    return whole
