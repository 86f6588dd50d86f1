"""The tables of a run, to be asked in SQL: DuckDB over its Parquet files, which sees nothing but the run's folder."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, StorageError
from seamlessalign.pipelines.folder import SIDE_STAGES, TABLES, RunFolder, run_below
from seamlessalign.pipelines.report_numbers import parts_of

ASKED = (*TABLES, *SIDE_STAGES)  # in the order of a run
_EMBEDDED, _EMBEDDING = ("segments", "sentences"), "embedding"  # DuckDB cannot read numbers of 16 bits in its encoding


class RunTables:
    """A view for each table that a run has: `recordings`, `segments`, `sentences`, `pairs`, `corpus`, …

    `pairs` and what comes behind it have a column `direction`, none has embeddings, and every view has DuckDB's
    `filename` and `file_row_number`, by which a row is found again. Nothing is read before it is asked for. Each thread
    takes a `cursor` of its own.

    Raises InputError where the folder has no table, StorageError where one is damaged, MissingPackageError without
    duckdb.
    """

    def __init__(self, root: str, threads: int | None = None) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise MissingPackageError("duckdb", "curate", "asking the tables of a run") from error
        self.root = root
        self.folder = RunFolder(root)
        self.parts = {name: found for name in ASKED if (found := parts_of(root, name))}
        if not self.parts:
            told = run_below(root) or "; is it a run's folder?"
            raise InputError(f"{root}: has none of the tables of a run ({', '.join(TABLES)}){told}")
        self._lock = threading.Lock()
        self._ended = threading.Condition()  # told whenever a question has its answer
        self._asked: list[Any] = []  # cursors of those that have none yet
        self._is_ending = False
        self._remote: dict[str, Any] = {}
        options: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        self._connection = duckdb.connect(config=options | ({"threads": threads} if threads else {}))
        self._confine()
        for name, found in self.parts.items():
            self._add_view(name, [uri for uris in found.values() for uri in uris])

    @property
    def names(self) -> list[str]:
        """The tables that the run has."""
        return list(self.parts)

    @property
    def directions(self) -> list[str]:
        """The directions that have pairs, or, where there are no pairs, a corpus; sorted."""
        return sorted(self.parts.get("pairs") or self.parts.get("corpus") or {})

    def check_direction(self, direction: str) -> None:
        """Raises InputError for one that the run does not have."""
        if direction not in self.directions:
            raise InputError(f"{self.root}: has no direction {direction!r}; there are {', '.join(self.directions)}")

    def cursor(self) -> Any:
        """A DuckDB connection to the views, for one thread. What it may read stays within the run's folder.

        Raises InputError once this was closed.
        """
        import duckdb

        with self._lock:
            try:
                cursor = self._connection.cursor()
            except duckdb.ConnectionException as error:
                raise InputError(f"{self.root}: was closed; open it again") from error
        for name, dataset in self._remote.items():
            cursor.register(name, dataset)
        return cursor

    def ask(
        self,
        query: str,
        parameters: list[Any] | dict[str, Any] | None = None,
        beside: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """What a query that gives rows gives. Raises StorageError where a file of the run is damaged.

        beside: further tables that the query may name.
        """
        with self._telling(query), self._asking(beside) as cursor:
            found: pa.Table = cursor.sql(query, params=parameters).to_arrow_table()
        return found

    def batches(
        self,
        query: str,
        parameters: list[Any] | dict[str, Any] | None = None,
        rows: int = 100_000,
        beside: Mapping[str, pa.Table] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """What a query gives, some rows at a time and no more of them in memory. Raises as `ask`.

        beside: further relations that it may name.
        """
        with self._telling(query), self._asking(beside) as cursor:
            yield from cursor.sql(query, params=parameters).to_arrow_reader(rows)

    def keep(self, name: str, table: pa.Table) -> None:
        """Have a table of this name, as long as this is open, where there is none yet."""
        with self.cursor() as cursor:
            cursor.register("table_to_keep", table)
            cursor.execute(f'create table if not exists "{name}" as from table_to_keep')

    def schema(self, name: str) -> pa.Schema:
        """Columns of a table, without those that DuckDB adds."""
        return self.ask(f"select * exclude (filename, file_row_number) from {name} limit 0").schema

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def interrupt(self, seconds: float) -> bool:
        """End what is being asked and let nothing be asked any more, which raises StorageError there.

        Returns whether all of it has ended within so many seconds: a thread that is inside of DuckDB when Python ends
        brings it down.
        """
        deadline = time.monotonic() + seconds
        with self._ended:
            self._is_ending = True
            while self._asked:
                for cursor in self._asked:
                    cursor.interrupt()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._ended.wait(min(left, 0.05))  # again: an interruption before a query begins is none
        return True

    def __enter__(self) -> "RunTables":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _asking(self, beside: Mapping[str, Any] | None) -> Iterator[Any]:
        """A cursor to ask, with further tables, which `interrupt` knows of."""
        with self._ended:
            if self._is_ending:
                raise StorageError(f"{self.root}: is not asked any more: this process ends")
            cursor = self.cursor()
            self._asked.append(cursor)
        try:
            for name, table in (beside or {}).items():
                cursor.register(name, table)
            yield cursor
        finally:
            with self._ended:
                self._asked.remove(cursor)
                self._ended.notify_all()
            cursor.close()

    @contextmanager
    def _telling(self, query: str = "") -> Iterator[None]:
        import duckdb

        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if self._is_ending:
                raise StorageError(f"{self.root}: is not asked any more: this process ends") from error
            of_files = (duckdb.IOException, duckdb.InvalidInputException, duckdb.PermissionException)
            if isinstance(error, duckdb.Error) and not isinstance(error, of_files) and type(error) is not duckdb.Error:
                raise  # what damage inside of a page is has no kind of its own
            if isinstance(error, MemoryError):
                raise
            said = " ".join(str(error).splitlines()[0].split())
            if "parameters" in said and isinstance(error, duckdb.InvalidInputException):  # too few or too many values
                raise
            if not self._names_a_file(said):
                self._name_damaged(query)
            raise StorageError(f"{self.root}: a table of the run cannot be read: {said}") from error

    def _names_a_file(self, said: str) -> bool:
        return storage.is_local(self.root) and str(storage.local_path(self.root).absolute()) in said

    def _name_damaged(self, query: str) -> None:
        """Raise StorageError naming the first damaged file of the tables that a query speaks of, which are read anew.

        Of columns those that it speaks of, unless it takes them all.
        """
        words = set(re.findall(r"[a-z0-9_]+", query))
        for name in (name for name in self.parts if name in words):
            for uri in (uri for uris in self.parts[name].values() for uri in uris):
                try:
                    with storage.open_read(uri) as file:
                        names = pq.read_schema(file).names
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    told = str(error).splitlines()[0]
                    raise StorageError(f"{uri}: is not a readable Parquet file: {told}") from error
                wanted = names if "*" in query else [column for column in names if column in words]
                for _ in storage.read_batches(uri, wanted):
                    pass

    def _confine(self) -> None:
        """Let no query reach files outside of the run's folder, or change that."""
        if storage.is_local(self.root):
            folder = f"{storage.local_path(self.root).absolute()}/"
            allowed = ", ".join(
                map(_quoted, {folder, _taken_literally(folder)})
            )  # patterns are judged before files are
            self._connection.execute(f"set allowed_directories = [{allowed}]")
        self._connection.execute("set enable_external_access = false")
        self._connection.execute("set lock_configuration = true")

    def _add_view(self, name: str, uris: list[str]) -> None:
        if storage.is_local(self.root):
            paths = ", ".join(_quoted(_taken_literally(str(storage.local_path(uri).absolute()))) for uri in uris)
            left_out = f" exclude ({_EMBEDDING})" if name in _EMBEDDED else ""
            statement = (
                f"create view {name} as select *{left_out} from read_parquet([{paths}], "
                "hive_partitioning = false, filename = true, file_row_number = true)"
            )
            with self._telling():
                self._connection.execute(statement)
            return
        import pyarrow.dataset as ds

        form, files = ds.ParquetFileFormat(), _stored(dict(enumerate(uris)))
        fragments = [form.make_fragment(str(number), files) for number in range(len(uris))]
        schema = pa.schema([field for field in fragments[0].physical_schema if field.name != _EMBEDDING])
        self._remote[name] = ds.FileSystemDataset(fragments, schema, form, files)


def _stored(uris: Mapping[int, str]) -> Any:
    """Files of a store by number, as Arrow asks for them, whose reads are tried again as all others are."""
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    class Handler(FSSpecHandler):  # type: ignore[misc]
        def open_input_file(self, path: str) -> Any:
            return pa.PythonFile(storage.open_read(uris[int(path)]), mode="r")

    return PyFileSystem(Handler(fsspec.filesystem("memory")))  # of which nothing else is asked


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _taken_literally(path: str) -> str:
    """A path in which DuckDB sees no pattern."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path)
