"""Where files live: local folders, `s3://`, `gs://`, `memory://`, the latter through fsspec, with atomic writes.

A file written here is either wholly there under its name or not there at all: locally through a temporary name in
the same folder, fsync and rename; on object stores through one put, which is atomic by itself, as is the end of an
upload in parts. Whatever is not local is tried again where that may help (`remote_files`).
"""

import contextlib
import hashlib
import io
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from errno import ENOENT
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import local_files, multipart, remote_files, remote_requests
from seamlessalign.errors import StorageError
from seamlessalign.retries import retrying

TEMPORARY_PREFIX = ".writing-"
_BLOCK = 1 << 20
_BUFFER = 8 << 20  # bytes of a column that are read at a time


def join(root: str, *parts: str) -> str:
    """Join parts to a folder's uri with '/'."""
    return "/".join([root.rstrip("/"), *(part.strip("/") for part in parts)])


def is_local(uri: str) -> bool:
    """Whether the uri is a path on this machine."""
    return "://" not in uri or uri[:7].lower() == "file://"


def is_in_store(uri: str) -> bool:
    """Whether the uri is in an object store, where each question is a round trip."""
    return uri.startswith(("s3://", "gs://", "gcs://"))


def local_path(uri: str) -> Path:
    """The path of a local uri."""
    return Path(_local_name(uri))


def _local_name(uri: str) -> str:
    return uri[7:] if uri[:7].lower() == "file://" else uri


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of a uri, as fsspec has them, and the path inside it. Raises as `remote_files.filesystem`."""
    if not is_local(uri):
        return remote_requests.filesystem(uri)
    import fsspec

    # a local name is taken as it is: '::' or '?' in it mean nothing to us
    return fsspec.filesystem("file"), str(local_path(uri).absolute())


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    return kind_of(uri) is not None


def kind_of(uri: str) -> str | None:
    """`file`, `directory`, or None where there is nothing."""
    if is_local(uri):
        fs, path = filesystem(uri)
        return "directory" if fs.isdir(path) else "file" if fs.exists(path) else None
    try:
        return str(remote_files.info(uri)["type"])
    except FileNotFoundError:
        return None


def size(uri: str) -> int:
    """Bytes of a file."""
    return local_path(uri).stat().st_size if is_local(uri) else int(remote_files.info(uri)["size"] or 0)


def version(uri: str) -> str:
    """What is different of a file once its bytes are others: its size, and its tag or time. Raises OSError."""
    fs, path = filesystem(uri)
    return remote_files.version(fs.info(path) if is_local(uri) else remote_files.info(uri))


def versions(uris: Sequence[str]) -> dict[str, str | OSError]:
    """The version of each of many files, or why it has none; asked for many at a time where they are elsewhere."""
    found: dict[str, str | OSError] = {}
    for uri in uris:
        if is_local(uri):
            try:
                found[uri] = version(uri) if exists(uri) else FileNotFoundError(ENOENT, os.strerror(ENOENT), uri)
            except OSError as error:
                found[uri] = error
    by_place: dict[str, list[str]] = {}
    for uri in uris:
        if uri not in found:
            by_place.setdefault(uri.partition("://")[0], []).append(uri)
    for elsewhere in by_place.values():
        for uri, about in remote_requests.infos(elsewhere).items():
            found[uri] = about if isinstance(about, OSError) else remote_files.version(about)
    return found


def list_versions(uri: str) -> dict[str, str | OSError]:
    """The files below a folder as `list_files` has them, each with its version, or why it has none."""
    if is_local(uri):
        return versions(list_files(uri))
    path, found = filesystem(uri)[1], remote_files.list_infos(uri)
    listed = {
        _as_given(name, path, uri): about
        for name, about in found.items()
        if not _basename(name).startswith(TEMPORARY_PREFIX)
    }
    if not all(about.get("ETag") or about.get("etag") for about in listed.values()):
        return versions(list(listed))  # times may be told in another way by a listing
    return {uri: remote_files.version(about) for uri, about in listed.items()}


def modified(uri: str) -> datetime | None:
    """When a file was last changed; None where its driver cannot tell."""
    fs, path = filesystem(uri)

    def ask() -> datetime | None:
        try:
            found: datetime = fs.modified(path)
            return found
        except NotImplementedError:
            return None

    return retrying(uri, "cannot be looked at", ask)


def list_files(uri: str, suffix: str = "") -> list[str]:
    """Uris of all files below a folder (or the file itself), sorted, each beginning with `uri` as it was given.

    Temporary files of unfinished writes are left out.
    """
    if is_local(uri):
        place = local_path(uri).absolute()
        path = str(place)
        below = os.walk(path, followlinks=True)  # a few times faster than what fsspec does for it
        found = [path] if place.is_file() else [f"{folder}/{name}" for folder, _, names in below for name in names]
    else:
        path, found = filesystem(uri)[1], remote_files.list_names(uri)
    names = sorted(name for name in found if name.endswith(suffix) and not _basename(name).startswith(TEMPORARY_PREFIX))
    return [_as_given(name, path, uri) for name in names]


def glob(pattern: str) -> list[str]:
    """Uris of the files that match a pattern (`*`, `?`, `**`, `[…]`), sorted, each beginning as the pattern does."""
    fs, path = filesystem(pattern)
    folder = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0] or ("/" if pattern.startswith("/") else ".")
    _, inside = filesystem(folder)
    if is_local(pattern):
        found = [name for name in fs.glob(path) if fs.isfile(name)]
    else:
        found = remote_files.glob_names(pattern)
    return [_as_given(name, inside, folder) for name in sorted(found)]


def read_bytes(uri: str) -> bytes:
    """All bytes of a file."""
    if not is_local(uri):
        return remote_files.read_bytes(uri)
    return local_files.read(_local_name(uri))


def read_many(uris: Sequence[str]) -> dict[str, bytes]:
    """All bytes of each of many small files of one place, asked for many at a time where that is elsewhere."""
    if not uris or is_local(uris[0]):
        return {uri: read_bytes(uri) for uri in uris}
    return remote_files.read_many(uris)


def open_read(uri: str) -> Any:
    """A binary file object for reading."""
    return local_path(uri).open("rb") if is_local(uri) else remote_files.open_read(uri)


def write_bytes_atomic(uri: str, data: bytes) -> None:
    """Write a whole file so that it is seen complete or not at all. Raises StorageError naming the file."""
    if not is_local(uri):
        remote_files.write(uri, data)
        return
    with atomic_local(uri) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def writing(uri: str, what: str = "written") -> Iterator[None]:
    """Make an OSError inside, such as that of a full disk, a StorageError that names the file being written."""
    try:
        yield
    except OSError as error:
        # Arrow's message would say more, of a temporary name that means nothing to anybody
        raise StorageError(f"{uri}: cannot be {what}: {os.strerror(error.errno) if error.errno else error}") from error


@contextlib.contextmanager
def atomic_local(uri: str) -> Iterator[Path]:
    """A temporary path beside a local file; on leaving without an error it is fsynced and renamed onto it."""
    target = local_path(uri)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{target.name}.{os.getpid()}.{threading.get_ident()}"
    try:
        with writing(str(target)):
            local_files.make_folder(target.parent)
            yield temporary
            local_files.sync(temporary)
            temporary.replace(target)
            local_files.sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def local_target(uri: str) -> Iterator[Path]:
    """A local path to write a large file to; on leaving without an error it is there under its uri, whole."""
    if is_local(uri):
        with atomic_local(uri) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as folder:
        path = Path(folder) / "file"
        with writing(uri):
            yield path
        remote_files.upload(uri, path)


@contextlib.contextmanager
def scratch(uri: str) -> Iterator[Path]:
    """A local path for something large that goes on leaving: beside a local file, else where temporary files are."""
    if not is_local(uri):
        with tempfile.TemporaryDirectory(prefix="seamlessalign-") as folder:
            yield Path(folder) / "scratch"
        return
    target = local_path(uri)
    path = target.parent / f"{TEMPORARY_PREFIX}{target.name}.scratch.{os.getpid()}.{threading.get_ident()}"
    try:
        with writing(str(target)):
            local_files.make_folder(target.parent)
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def reserve(path: Path) -> None:
    """Have the disk set aside a local file's whole size: a full disk is then an error here, not a crash later."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def remove(uri: str) -> None:
    """Remove a file or a folder with everything below it; nothing happens where there is none.

    What was local stays away, even if the machine crashes right after. Raises StorageError.
    """
    if not is_local(uri):
        remote_files.remove(uri)
        return
    with writing(uri, "removed"):
        local_files.remove(local_path(uri))


def remove_many(uris: Sequence[str]) -> None:
    """Remove files of one place, of which some may not be there. As `remove` otherwise."""
    if uris and not is_local(uris[0]):
        remote_files.remove_many(uris)
        return
    for uri in uris:
        with writing(uri, "removed"):
            local_path(uri).unlink(missing_ok=True)
    for folder in sorted({local_path(uri).parent for uri in uris}):
        with writing(str(folder)), contextlib.suppress(FileNotFoundError):
            local_files.sync(folder)


def remove_unfinished(root: str) -> int:
    """Remove what killed writers left below a folder; returns how many there were.

    These are temporary files of local folders, and uploads of many parts in object stores.
    """
    if not is_local(root):
        return multipart.abort_uploads(root)
    leftovers = list(local_path(root).rglob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        local_files.remove(leftover)
    return len(leftovers)


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path with the bytes of a file: the file itself where it is local, else a temporary copy."""
    if is_local(uri):
        yield local_path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as folder:
        copy = Path(folder) / f"copy{Path(_basename(uri)).suffix}"
        download(uri, copy)
        yield copy


def download(uri: str, target: Path) -> None:
    """Write the bytes of a file that is elsewhere to a local one, which is whole if this returns."""
    remote_files.download(uri, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_table(
    uri: str, table: pa.Table, *, metadata: dict[str, str] | None = None, row_group_size: int = 100_000
) -> int:
    """Write a Parquet file atomically, with `metadata` in its schema; returns its bytes.

    Equal rows and metadata give equal bytes. The column `embedding` is written byte by byte of its numbers (docs/
    mining.md has what that gives): no two rows are equal, so a dictionary of numbers costs more than it saves.
    """
    if metadata:
        kept = table.schema.metadata or {}
        table = table.replace_schema_metadata({**kept, **{k.encode(): v.encode() for k, v in metadata.items()}})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size, **_layout(table.schema))
    data = sink.getvalue().to_pybytes()
    write_bytes_atomic(uri, data)
    return len(data)


def write_tables(
    uri: str, tables: Iterable[pa.Table], schema: pa.Schema, metadata: dict[str, str], row_group_size: int = 100_000
) -> int:
    """Write tables one behind the other to one Parquet file, whole or not at all; returns its bytes.

    Of the tables, which have that schema, one is in memory at a time; each begins a row group. Otherwise as
    `write_table`.
    """
    schema = schema.with_metadata({key.encode(): value.encode() for key, value in metadata.items()})
    with table_writer(uri, schema) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=row_group_size)
    return size(uri)


@contextlib.contextmanager
def table_writer(uri: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Takes tables of exactly that schema for one Parquet file, which on leaving without an error is there, whole."""
    with local_target(uri) as path, pq.ParquetWriter(path, schema, **_layout(schema)) as writer:
        yield writer


def _layout(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: with a checksum for each page, by which a reader sees a byte that is not as it was."""
    layout = {"compression": "zstd", "write_page_checksum": True}
    if "embedding" not in schema.names:
        return layout
    others = [name for name in schema.names if name != "embedding"]
    encoding = {"embedding.list.element": "BYTE_STREAM_SPLIT"}
    return {**layout, "use_dictionary": others, "column_encoding": encoding}


def read_table(uri: str, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file. Raises StorageError naming the file when it is damaged."""
    try:
        return pq.read_table(io.BytesIO(read_bytes(uri)), columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def read_batches(uri: str, columns: list[str] | None = None, rows: int = 1 << 16) -> Iterator[pa.RecordBatch]:
    """Read a Parquet file some rows at a time, about what they take in memory. Raises as `read_table` does."""
    try:
        with open_read(uri) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True)
            yield from batches_of(parquet, rows, columns)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def batches_of(parquet: pq.ParquetFile, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows of a Parquet file, some at a time.

    Raises ArrowInvalid where there are fewer than the file tells: a damaged header of a page can make it one of no
    rows, at which Arrow would end without a word.
    """
    found = 0
    for batch in parquet.iter_batches(rows, columns=columns, use_threads=False):
        found += len(batch)
        yield batch
    if found != parquet.metadata.num_rows:
        raise pa.ArrowInvalid(f"{found} of {parquet.metadata.num_rows} rows can be read")


def read_rows(uri: str, first: int, last: int) -> pa.Table:
    """Rows [first, last) of a Parquet file, of which only the row groups that have some are read."""
    try:
        with open_read(uri) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            ends = np.cumsum(sizes, dtype=np.int64)
            groups = [group for group, end in enumerate(ends) if end > first and end - sizes[group] < last]
            before = int(ends[groups[0]] - sizes[groups[0]]) if groups else 0
            return parquet.read_row_groups(groups).slice(first - before, last - first)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def num_rows(uri: str) -> int:
    """Rows of a Parquet file, from its footer."""
    if not is_local(uri):
        return footer(uri)[0]
    try:
        return int(pq.read_metadata(_local_name(uri)).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def footer(uri: str) -> tuple[int, dict[str, str]]:
    """Rows of a Parquet file, and the metadata that `write_table` was given, without reading the table."""
    try:
        with open_read(uri) as file:
            read = pq.read_metadata(file)
            metadata = read.schema.to_arrow_schema().metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return int(read.num_rows), {key.decode(): value.decode("utf-8", "replace") for key, value in metadata.items()}


def read_tables(folder: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read every Parquet file below a folder, in the order of their names; an empty table where there is none."""
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    tables = [read_table(uri, columns).select(wanted.names).cast(wanted) for uri in list_files(folder, ".parquet")]
    return pa.concat_tables(tables).replace_schema_metadata(None) if tables else wanted.empty_table()


def with_embeddings(rows: list[dict[str, Any]], embeddings: npt.NDArray[np.float32], schema: pa.Schema) -> pa.Table:
    """Rows as a table whose last column is their embeddings `(num_rows, dim)`, stored as float16."""
    plain = pa.Table.from_pylist(rows, schema=pa.schema([field for field in schema if field.name != "embedding"]))
    halves = np.ascontiguousarray(embeddings, np.float16)
    values = pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel(), pa.float16()), halves.shape[1])
    return plain.append_column(schema.field("embedding"), values).cast(schema)


def embeddings_of(table: pa.Table) -> npt.NDArray[np.float16]:
    """The column `embedding` as float16 `(num_rows, dim)`, NaN where a row or a number of it is null.

    Where the column is one chunk without nulls, a slice too, the rows are a read-only view of Arrow's buffer, nothing
    copied; `torch.from_numpy` or `torch.from_dlpack` of them shares that memory too. Several chunks are copied once.
    """
    column = table.column("embedding")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    rows = [_rows_of(chunk, column.type.list_size) for chunk in chunks]
    return rows[0] if len(rows) == 1 else np.concatenate([np.zeros((0, column.type.list_size), np.float16), *rows])


def _rows_of(chunk: Any, dim: int) -> npt.NDArray[np.float16]:
    values = np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), np.float16).reshape(-1, dim)
    if not chunk.null_count:
        return values
    rows = np.full((len(chunk), dim), np.nan, np.float16)
    rows[chunk.is_valid().to_numpy(zero_copy_only=False)] = values  # flatten leaves out the rows that are null
    return rows


def check_writable(root: str) -> None:
    """Raise StorageError, naming the folder, unless files can be created in it."""
    probe = join(root, f"{TEMPORARY_PREFIX}probe")
    write_bytes_atomic(probe, b"")
    remove(probe)


def _basename(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _as_given(found: str, inside: str, given: str) -> str:
    """The uri of a path that was found below `inside`, which is the path of the uri `given`."""
    return given.rstrip("/") + found.removeprefix(inside.rstrip("/"))
