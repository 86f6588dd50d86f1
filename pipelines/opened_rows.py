"""Rows of a run that are asked for in SQL and come in whatever form a notebook wants."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from seamlessalign.errors import InputError, MissingPackageError, StorageError
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.run_tables import RunTables

_SHOWN_ROWS = 10
_SHOWN_CHARACTERS = 80
_AT_ONCE = 1 << 16


class Rows:
    """A query over a run's tables. Nothing is read before it is asked for, and then only the columns it names.

    `.arrow()` and `.pandas()` hold all rows in memory; `.batches()` and iteration do not; `.relation()` is DuckDB's, to
    be asked further. Raises StorageError where a file of the run is damaged.
    """

    def __init__(
        self,
        tables: RunTables,
        query: str,
        parameters: list[Any] | None = None,
        beside: Mapping[str, pa.Table] | None = None,
    ) -> None:
        """beside: further tables that the query names."""
        self._tables, self._query, self._parameters = tables, query, parameters or []  # it may end with a comment
        self._beside = dict(beside or {})
        self._schema: pa.Schema | None = None
        self._length: int | None = None
        self._cursors: dict[int, Any] = {}  # of each thread

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        if self._schema is None:
            self._schema = self._ask(f"select * from ({self._query}\n) limit 0").schema
        return self._schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def __len__(self) -> int:
        if self._length is None:
            self._length = int(self._ask(f"select count(*) from ({self._query}\n)")[0][0].as_py())
        return self._length

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self._ask(self._query)

    def pandas(self) -> Any:
        """All rows as a pandas DataFrame. Raises MissingPackageError without pandas."""
        try:
            import pandas  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as error:
            raise MissingPackageError("pandas", "curate", "rows as a DataFrame") from error
        return self.arrow().to_pandas()

    def relation(self) -> Any:
        """All rows as a DuckDB relation, which stays lazy: `.filter("margin > 2").aggregate(…)`. One thread asks it."""
        thread = threading.get_ident()
        if thread not in self._cursors:
            self._cursors[thread] = self._new_cursor()  # kept: a relation does not outlive its connection
        with telling(self._tables.root):
            return self._cursors[thread].sql(self._query, params=self._parameters or None)

    def batches(self, rows: int = _AT_ONCE) -> pa.RecordBatchReader:
        """The rows one batch after the other, about `rows` in each, so that memory stays small."""
        if rows < 1:
            raise InputError(f"{rows} rows a batch: give 1 or more")
        cursor = self._new_cursor()  # of its own: a connection gives one answer at a time
        with telling(self._tables.root):
            reader = cursor.sql(self._query, params=self._parameters or None).to_arrow_reader(rows)

        def read() -> Iterator[pa.RecordBatch]:
            with cursor, telling(self._tables.root):
                yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, read())

    def head(self, rows: int = _SHOWN_ROWS) -> pa.Table:
        """The first rows as an Arrow table."""
        return self._ask(f"select * from ({self._query}\n) limit {int(rows)}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        shown = self.head(5).to_pylist()
        lines = [f"<{len(self):,} rows of {', '.join(self.columns)}>"]
        lines += ["  " + " | ".join(_written(value) for value in row.values()) for row in shown]
        return "\n".join([*lines, "  …"] if len(self) > len(shown) else lines)

    def _repr_html_(self) -> str:
        head = self.head()
        numeric = [place for place, field in enumerate(head.schema) if _is_number(field.type)]
        rows = [row_of(*(_written(value) for value in row.values())) for row in head.to_pylist()]
        told = tag("p", f"{len(self):,} rows" + (f", of which the first {len(rows)}" if len(self) > len(rows) else ""))
        return Markup(tag("div", table_of(self.columns, rows, numeric=numeric), told))

    def _new_cursor(self) -> Any:
        cursor = self._tables.cursor()
        for name, table in self._beside.items():
            cursor.register(name, table)
        return cursor

    def _ask(self, query: str) -> pa.Table:
        with telling(self._tables.root):
            return self._tables.ask(query, self._parameters or None, self._beside)


class telling:
    """Turns what DuckDB says of a query into one line. `root` names the run."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import duckdb

        if isinstance(error, StorageError) and isinstance(error.__cause__, duckdb.PermissionException):
            error = error.__cause__  # no file is at fault, but who asks for one outside of the run
        if isinstance(error, duckdb.IOException):
            raise StorageError(f"{self._root}: a table of the run cannot be read: {_first_line(error)}") from error
        if isinstance(error, duckdb.Error):
            raise InputError(f"{self._root}: cannot be asked this: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())


def _written(value: Any) -> str:
    """A value for people: short, and without bytes."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list) and len(value) > 4:
        return f"[{', '.join(map(_written, value[:3]))}, … {len(value)}]"
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
