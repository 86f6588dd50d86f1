"""Rows that are sorted by their places (`home`, `row`, `side`), in many files, found by what their footers tell."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import StorageError


@dataclass(frozen=True)
class _Group:
    """A row group with rows of one home, and which."""

    uri: str
    number: int
    first: int
    last: int


class RowsOfHome:
    """The rows that files have for one part of the corpus."""

    def __init__(self, uris: Sequence[str], home: int, but: Collection[str] = ()) -> None:
        """Looks at the footers. `but`: columns that are not wanted. Raises StorageError."""
        self._home, self._but = home, but
        self._groups = [group for uri in uris for group in _groups(uri, home)]

    def read(self, first: int, last: int) -> pa.Table | None:
        """What there is for rows [first, last) of the part; None where there is nothing."""
        wanted: dict[str, list[int]] = {}
        for group in self._groups:
            if group.first < last and group.last >= first:
                wanted.setdefault(group.uri, []).append(group.number)
        tables = []
        for uri, numbers in wanted.items():
            try:
                with storage.open_read(uri) as file:
                    parquet = pq.ParquetFile(file, page_checksum_verification=True)
                    columns = [name for name in parquet.schema_arrow.names if name not in self._but]
                    table = parquet.read_row_groups(numbers, columns)
            except (pa.ArrowException, OSError) as error:
                raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
            row = pc.field("row")
            tables.append(table.filter((pc.field("home") == self._home) & (row >= first) & (row < last)))
        return pa.concat_tables([table.replace_schema_metadata(None) for table in tables]) if tables else None


def _groups(uri: str, home: int) -> Iterator[_Group]:
    try:
        with storage.open_read(uri) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    at = {metadata.schema.column(number).name: number for number in range(metadata.num_columns)}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        homes = group.column(at["home"]).statistics
        if homes.min <= home <= homes.max:
            rows = group.column(at["row"]).statistics
            yield _Group(uri, number, rows.min, rows.max)
