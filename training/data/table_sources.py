"""Sources that are tables: Parquet files, those of a mined corpus among them, and data sets of the package datasets."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from seamlessalign.errors import InputError, MissingPackageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, bytes_of, open_parquet, parquet_files
from seamlessalign.training.data.settings import ColumnSource, CorpusSource, HubSource, ParquetSource, SideColumns
from seamlessalign.training.data.sources import (
    Group,
    OpenGroup,
    RowSide,
    RowSource,
    SourceRow,
    file_state,
    language_of,
    reduced,
    words_of,
)

_SLICE = 200  # rows of a data set that are read at once


@dataclass(frozen=True)
class _Columns:
    """Which columns a row is made of."""

    sides: tuple[SideColumns, ...]
    spans: tuple[tuple[str, str], ...] = ()  # of each side: first sample and the one behind the last, in the recording
    margin: str | None = None
    id: str | None = None

    def sounds(self) -> list[str]:
        return [side.audio for side in self.sides if side.audio is not None]

    def names(self, *, sound: bool) -> list[str]:
        """Those to read; without `sound` only the audio whose length no other column says."""
        found = [name for side in self.sides for name in side.columns()]
        found += [name for span in self.spans for name in span]
        found += [name for name in (self.margin, self.id) if name is not None]
        known = [side.audio for side in self.sides if side.seconds or self.spans]
        return [name for name in dict.fromkeys(found) if sound or name not in known]


_CORPUS = _Columns(
    tuple(
        SideColumns(lang_column=f"{side}_lang", audio=f"{side}_audio", text=f"{side}_text") for side in ("src", "tgt")
    ),
    tuple((f"{side}_start", f"{side}_end") for side in ("src", "tgt")),
    "margin",
    "pair_id",
)


class _OpenTable:
    """A group as a table of Arrow's; what is small in it as values of Python's, which are sooner at hand."""

    def __init__(self, table: Any, heavy: Collection[str], make: Callable[[dict[str, Any], int], SourceRow]) -> None:
        """heavy: columns that stay in the table."""
        self._rows, self._make = int(table.num_rows), make
        self._heavy = {name: table.column(name) for name in table.column_names if name in heavy}
        self._light = {name: table.column(name).to_pylist() for name in table.column_names if name not in heavy}

    def row(self, number: int) -> SourceRow:
        values = {name: column[number] for name, column in self._light.items()}
        for name, column in self._heavy.items():
            values[name] = column[number].as_py()
        return self._make(values, number)

    def rows(self) -> Iterator[SourceRow]:
        return (self.row(number) for number in range(self._rows))


class ParquetRows(RowSource):
    """Row groups of Parquet files."""

    def __init__(self, settings: CorpusSource | ParquetSource) -> None:
        """Find the files. Raises InputError where there is none, or one lacks a column."""
        corpus = isinstance(settings, CorpusSource)
        self._columns = _CORPUS if isinstance(settings, CorpusSource) else _columns(settings)
        files = parquet_files(_corpus_folder(settings.path) if corpus else settings.path)
        self.files = [str(file) for file in files]
        for file in self.files:
            _check(file, self._columns, _metadata(file).schema.to_arrow_schema().names)

    def groups(self) -> Iterator[Group]:
        wanted = set(self._columns.names(sound=True))
        for number, file in enumerate(self.files):
            metadata, first = _metadata(file), 0
            for start in range(metadata.num_row_groups):
                group = metadata.row_group(start)
                columns = (group.column(i) for i in range(group.num_columns))
                size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted)
                yield Group(number, start, first, group.num_rows, size)
                first += group.num_rows

    def open(self, group: Group, *, sound: bool) -> OpenGroup:
        file = self.files[group.file]
        parquet = open_parquet(Path(file), _metadata(file))
        try:
            # processes that load stand side by side: threads in each would only wait for each other
            table = parquet.read_row_group(group.start, columns=self._columns.names(sound=sound), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            line = str(error).splitlines()[0]
            raise InputError(f"{file}: row group {group.start} cannot be read: {line}; fetch the file anew") from error
        beside = Path(file)

        def make(values: dict[str, Any], number: int) -> SourceRow:
            return _row(values, self._columns, self.place(group, number), beside)

        return _OpenTable(table, self._columns.sounds(), make)

    def place(self, group: Group, number: int) -> str:
        return f"{self.files[group.file]} row {group.first + number}"


class DatasetRows(RowSource):
    """Slices of a data set that the package datasets loads."""

    def __init__(self, settings: HubSource) -> None:
        """Load it. Raises InputError where it is not there, or lacks a column; MissingPackageError without datasets."""
        self._columns = _columns(settings)
        self.files = [settings.path]
        self._data = _load(settings)
        _check(settings.path, self._columns, self._data.column_names)
        self._tables: dict[bool, Any] = {}
        for sound in (False, True):
            names = [name for name in self._data.column_names if name in self._columns.names(sound=sound)]
            self._tables[sound] = self._data.select_columns(names).with_format("arrow")

    def groups(self) -> Iterator[Group]:
        whole = int(self._tables[True].data.nbytes)
        for start in range(0, len(self._data), _SLICE):
            rows = min(_SLICE, len(self._data) - start)
            yield Group(0, start, start, rows, whole * rows // len(self._data))

    def open(self, group: Group, *, sound: bool) -> OpenGroup:
        table = self._tables[sound][group.start : group.start + group.rows]
        beside = Path(self.files[0]) / "row"

        def make(values: dict[str, Any], number: int) -> SourceRow:
            return _row(values, self._columns, self.place(group, number), beside)

        return _OpenTable(table, self._columns.sounds(), make)

    def place(self, group: Group, number: int) -> str:
        return f"{self.files[0]} row {group.first + number}"

    def state(self) -> list[Any]:
        return [self.files[0], self._data._fingerprint, len(self._data)]


def _load(settings: HubSource) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingPackageError("datasets", "training", f"the source {settings.path}") from error
    place = settings.path
    try:
        if Path(place).is_dir():
            found = datasets.load_from_disk(place)
        else:
            found = datasets.load_dataset(place, settings.config, split=settings.split)
    except (OSError, ValueError, RuntimeError) as error:  # those of its hub are OSErrors
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{place}: cannot be loaded as a data set: {line}; name a folder that save_to_disk wrote"
        ) from error
    if isinstance(found, dict):
        if settings.split not in found:
            raise InputError(f"{place}: has the splits {', '.join(found)}; name one as split")
        return found[settings.split]
    return found


def _columns(settings: ColumnSource) -> _Columns:
    sides = (settings.src,) if settings.tgt is None else (settings.src, settings.tgt)
    return _Columns(sides, margin=settings.margin, id=settings.id)


def _check(file: str, columns: _Columns, there: Sequence[str]) -> None:
    lacking = [name for name in columns.names(sound=True) if name not in there]
    if lacking:
        raise InputError(f"{file}: lacks the columns {', '.join(lacking)}; there are {', '.join(there)}")


def _corpus_folder(path: str) -> str:
    """The folder `corpus` of a run; else the path itself."""
    inside = Path(path) / "corpus"
    return str(inside) if inside.is_dir() else path


def _metadata(file: str) -> Any:
    try:
        return _read_metadata(file, *file_state(Path(file))[1:])
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; fetch the file anew") from error


@lru_cache(maxsize=1000)
def _read_metadata(file: str, size: int, time: int) -> Any:
    """They are read once for each state of a file."""
    return open_parquet(Path(file)).metadata


def _row(values: dict[str, Any], columns: _Columns, place: str, beside: Path) -> SourceRow:
    """beside: a path that paths of sound are in the folder of."""
    try:
        sides = tuple(
            _side(values, side, columns.spans[i] if columns.spans else None, place, beside)
            for i, side in enumerate(columns.sides)
        )
    except UnreadableError as error:
        return SourceRow(place, problem=error)
    margin = values.get(columns.margin) if columns.margin else None
    name = values.get(columns.id) if columns.id else None
    return SourceRow(place, sides, "" if name is None else str(name), None if margin is None else float(margin))


def _side(
    values: dict[str, Any], columns: SideColumns, span: tuple[str, str] | None, place: str, beside: Path
) -> RowSide:
    lang = language_of(columns.lang or values.get(columns.lang_column or ""), place)
    text = words_of(values.get(columns.text) if columns.text else None)
    units = values.get(columns.units) if columns.units else None
    seconds = values.get(columns.seconds) if columns.seconds else None
    if span and values[span[0]] is not None:
        seconds = (values[span[1]] - values[span[0]]) / SAMPLE_RATE
    sound, problem = None, None
    value = values.get(columns.audio) if columns.audio else None
    if _is_there(value):
        name = value.get("path") or "" if isinstance(value, dict) else value if isinstance(value, str) else ""
        try:
            sound = Sound(name, content=bytes_of(value, beside))
        except UnreadableError as error:
            problem = error
    return RowSide(
        lang,
        text,
        sound,
        None if seconds is None else float(seconds),
        None if units is None else reduced(units),
        problem,
    )


def _is_there(value: Any) -> bool:
    """Whether a row has audio at all: a struct of nothing is none."""
    return any(inner is not None for inner in value.values()) if isinstance(value, dict) else value is not None
