"""Sources that are tables: Parquet files, those of a mined corpus among them, and data sets of the package datasets."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from seamlessalign.errors import InputError, MissingPackageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound, bytes_of, open_parquet, parquet_files
from seamlessalign.training.data.column_types import check_columns
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

    def names(self, *, sound: bool, whole: Callable[[str], bool] = lambda _: True) -> list[str]:
        """Those to read; without `sound` only the audio whose length other columns may not say, since they, or the
        audio itself, are not `whole`: in every row.
        """
        found = [name for side in self.sides for name in side.columns()]
        found += [name for span in self.spans for name in span]
        found += [name for name in (self.margin, self.id) if name is not None]
        known = []
        for i, side in enumerate(self.sides):
            says = self.spans[i] if self.spans else (side.seconds,) if side.seconds else ()
            if side.audio and says and all(whole(name) for name in (side.audio, *says)):
                known.append(side.audio)
        return [name for name in dict.fromkeys(found) if sound or name not in known]

    def check(self, file: str, schema: Any) -> None:
        """Raises InputError where a table lacks a column, or one holds what it cannot."""
        others = [(name, "number") for span in self.spans for name in span]
        check_columns(file, self.sides, [*others, (self.margin, "number"), (self.id, "name")], schema)


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

    def __init__(
        self,
        table: Any,
        heavy: Collection[str],
        make: Callable[[dict[str, Any], int], SourceRow],
        place: Callable[[int], str],
    ) -> None:
        """heavy: columns that stay in the table."""
        self._rows, self._make, self._place = int(table.num_rows), make, place
        self._light, self._heavy = dict[str, list[Any]](), dict[str, Any]()
        for name in table.column_names:
            column = table.column(name)
            try:
                if name not in heavy:
                    self._light[name] = column.to_pylist()
                    continue
            except UnicodeDecodeError:  # then row by row, so that only one is lost
                pass
            self._heavy[name] = column

    def row(self, number: int) -> SourceRow:
        values = {name: column[number] for name, column in self._light.items()}
        try:
            for name, column in self._heavy.items():
                values[name] = column[number].as_py()
        except UnicodeDecodeError as error:
            place = self._place(number)
            return SourceRow(place, problem=UnreadableError("not_unicode", f"{place}: {name}: {error}"))
        return self._make(values, number)

    def rows(self) -> Iterator[SourceRow]:
        return (self.row(number) for number in range(self._rows))


class ParquetRows(RowSource):
    """Row groups of Parquet files."""

    def __init__(
        self, settings: CorpusSource | ParquetSource | HubSource, files: Sequence[str | Path] | None = None
    ) -> None:
        """Find the files, unless they have been. Raises InputError where there is none, or one lacks a column."""
        corpus = isinstance(settings, CorpusSource)
        self._columns = _CORPUS if isinstance(settings, CorpusSource) else _columns(settings)
        found = files or (_corpus_files(settings.path) if corpus else parquet_files(settings.path))
        self.files = [str(file) for file in found]
        for file in self.files:
            self._columns.check(file, _metadata(file).schema.to_arrow_schema())

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
        metadata = _metadata(file)
        parquet, inside = open_parquet(Path(file), metadata), metadata.row_group(group.start)
        names = self._columns.names(sound=sound, whole=lambda name: _whole(inside, name))
        try:
            # processes that load stand side by side: threads in each would only wait for each other
            table = parquet.read_row_group(group.start, columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            line = str(error).splitlines()[0]
            raise InputError(f"{file}: row group {group.start} cannot be read: {line}; fetch the file anew") from error
        beside = Path(file)

        def place(number: int) -> str:
            return self.place(group, number)

        def make(values: dict[str, Any], number: int) -> SourceRow:
            return _row(values, self._columns, place(number), beside, sound=sound)

        return _OpenTable(table, self._columns.sounds(), make, place)

    def place(self, group: Group, number: int) -> str:
        return f"{self.files[group.file]} row {group.first + number}"


class DatasetRows(RowSource):
    """Slices of a data set that the package datasets loads."""

    def __init__(self, settings: HubSource, data: Any) -> None:
        """Raises InputError where it lacks a column."""
        self._columns = _columns(settings)
        self.files = [settings.path]
        self._data = data
        self._columns.check(settings.path, self._data.data.schema)
        self._tables: dict[bool, Any] = {}
        for sound in (False, True):
            wanted = self._columns.names(sound=sound, whole=self._whole)
            names = [name for name in self._data.column_names if name in wanted]
            self._tables[sound] = self._data.select_columns(names).with_format("arrow")

    def groups(self) -> Iterator[Group]:
        whole = int(self._tables[True].data.nbytes)
        for start in range(0, len(self._data), _SLICE):
            rows = min(_SLICE, len(self._data) - start)
            yield Group(0, start, start, rows, whole * rows // len(self._data))

    def open(self, group: Group, *, sound: bool) -> OpenGroup:
        table = self._tables[sound][group.start : group.start + group.rows]
        beside = Path(self.files[0]) / "row"

        def place(number: int) -> str:
            return self.place(group, number)

        def make(values: dict[str, Any], number: int) -> SourceRow:
            return _row(values, self._columns, place(number), beside, sound=sound)

        return _OpenTable(table, self._columns.sounds(), make, place)

    def place(self, group: Group, number: int) -> str:
        return f"{self.files[0]} row {group.first + number}"

    def state(self) -> list[Any]:
        return [self.files[0], self._data._fingerprint, len(self._data)]

    def _whole(self, name: str) -> bool:
        """Whether a column is there in every row."""
        column = self._data.data.column(name)
        if column.null_count or not pa.types.is_struct(column.type):
            return not column.null_count
        return any(not inner.null_count for inner in column.flatten())


def open_hub(settings: HubSource) -> RowSource:
    """A data set of the package datasets; Parquet files of a local folder are read from where they lie, not copied.

    Raises InputError where it is not there, or lacks a column; MissingPackageError without datasets.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackageError("datasets", "training", f"the source {settings.path}") from error
    place, saved = Path(settings.path), ("state.json", "dataset_dict.json")
    try:
        if any((place / name).is_file() for name in saved):
            found = datasets.load_from_disk(settings.path)
        elif place.is_dir():
            builder = datasets.load_dataset_builder(settings.path, settings.config)
            if builder.info.builder_name == "parquet":
                return ParquetRows(settings, _split_of(builder.config.data_files, settings))
            found = datasets.load_dataset(settings.path, settings.config)
        else:
            found = datasets.load_dataset(settings.path, settings.config, split=settings.split)
    except (OSError, ValueError, RuntimeError) as error:  # those of its hub are OSErrors
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{settings.path}: cannot be loaded as a data set: {line}; name a folder that save_to_disk wrote"
        ) from error
    return DatasetRows(settings, _split_of(found, settings) if isinstance(found, dict) else found)


def _split_of(splits: Mapping[str, Any], settings: HubSource) -> Any:
    """The split that is named, or the only one."""
    named = settings.split or (next(iter(splits)) if len(splits) == 1 else None)
    if named is None or named not in splits:
        raise InputError(f"{settings.path}: has the splits {', '.join(splits)}; name one as split")
    return splits[named]


def _columns(settings: ColumnSource) -> _Columns:
    sides = (settings.src,) if settings.tgt is None else (settings.src, settings.tgt)
    return _Columns(sides, margin=settings.margin, id=settings.id)


def _corpus_files(path: str) -> list[Path]:
    """Those of the folder `corpus` of a run; else of the path itself, without what an export puts beside its pairs."""
    inside, place = Path(path) / "corpus", Path(path)
    if inside.is_dir():
        return parquet_files(str(inside))
    beside = tuple(place / name for name in ("units", "transcripts"))
    return [file for file in parquet_files(path) if not any(file.is_relative_to(folder) for folder in beside)]


def _metadata(file: str) -> Any:
    try:
        return _read_metadata(file, *file_state(Path(file))[1:])
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; fetch the file anew") from error


@lru_cache(maxsize=1000)
def _read_metadata(file: str, size: int, time: int) -> Any:
    """They are read once for each state of a file."""
    return open_parquet(Path(file)).metadata


def _whole(group: Any, name: str) -> bool:
    """Whether a column of a row group is there in every row, as far as the file says; a struct by one of its parts."""
    columns = (group.column(i) for i in range(group.num_columns))
    parts = [column.statistics for column in columns if column.path_in_schema.split(".")[0] == name]
    return any(part is not None and part.has_null_count and not part.null_count for part in parts)


def _row(values: dict[str, Any], columns: _Columns, place: str, beside: Path, *, sound: bool) -> SourceRow:
    """beside: a path that paths of sound are in the folder of; sound: it is wanted even where its length is known."""
    try:
        sides = tuple(
            _side(values, side, columns.spans[i] if columns.spans else None, place, beside, sound=sound)
            for i, side in enumerate(columns.sides)
        )
    except UnreadableError as error:
        return SourceRow(place, problem=error)
    margin = values.get(columns.margin) if columns.margin else None
    name = values.get(columns.id) if columns.id else None
    return SourceRow(place, sides, "" if name is None else str(name), None if margin is None else float(margin))


def _side(
    values: dict[str, Any],
    columns: SideColumns,
    span: tuple[str, str] | None,
    place: str,
    beside: Path,
    *,
    sound: bool,
) -> RowSide:
    lang = language_of(columns.lang or values.get(columns.lang_column or ""), place)
    text = words_of(values.get(columns.text) if columns.text else None)
    units = values.get(columns.units) if columns.units else None
    seconds, value = None, values.get(columns.audio) if columns.audio else None
    if columns.audio not in values or _is_there(value):  # what was not read is there
        seconds = _seconds(values, columns, span)
    heard, problem = None, None
    if _is_there(value) and (sound or seconds is None):
        name = value.get("path") or "" if isinstance(value, dict) else value if isinstance(value, str) else ""
        try:
            content = bytes_of(value, beside)
            if not content:
                raise UnreadableError("empty", f"{place}: its sound has no bytes")
            heard = Sound(name, content=content)
        except UnreadableError as error:
            problem = error
    return RowSide(lang, text, heard, seconds, None if units is None else reduced(units), problem)


def _seconds(values: dict[str, Any], columns: SideColumns, span: tuple[str, str] | None) -> float | None:
    """The length of the sound, where the row says it."""
    found = values.get(columns.seconds) if columns.seconds else None
    if span and values[span[0]] is not None and values[span[1]] is not None:
        found = (values[span[1]] - values[span[0]]) / SAMPLE_RATE
    return float(found) if found is not None and math.isfinite(found) else None


def _is_there(value: Any) -> bool:
    """Whether a row has audio at all: a struct of nothing is none."""
    return any(inner is not None for inner in value.values()) if isinstance(value, dict) else value is not None
