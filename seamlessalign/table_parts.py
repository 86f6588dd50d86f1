"""The parts of a table: many Parquet files that are read as one. Of those in a store many are asked for at a time."""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import remote_files, remote_requests, storage
from seamlessalign.errors import StorageError

_AHEAD = 16  # parts that are fetched before they are asked for
_SMALL = remote_files.BLOCK  # bytes of a part that is fetched whole


def footers(uris: Sequence[str]) -> dict[str, Any]:
    """The footer of each part, as `pyarrow.parquet.FileMetaData`. Raises StorageError naming a damaged one."""
    found, uri = {}, ""
    try:
        if uris and not storage.is_local(uris[0]):
            for uri, tail in remote_files.read_tails(uris, _tail_needed).items():
                found[uri] = pq.read_metadata(pa.BufferReader(tail))
            return found
        for uri in uris:
            found[uri] = pq.read_metadata(storage.local_path(uri))
    except (pa.ArrowException, OSError) as error:
        where = getattr(error, "filename", None) or uri
        raise StorageError(f"{where}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return found


def batches_of(
    uris: Sequence[str], columns: list[str] | None = None, rows: int = 1 << 16
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The batches of all parts one behind the other, each with the uri of its part, as `storage.read_batches` has them.

    Small parts in a store are fetched whole, some ahead of the one that is read; about 128 MiB of them are in memory.
    """
    if not uris or storage.is_local(uris[0]):
        for uri in uris:
            for batch in storage.read_batches(uri, columns, rows):
                yield uri, batch
        return
    sizes = {uri: about.get("size") if isinstance(about, dict) else None
             for uri, about in remote_requests.infos(uris).items()}  # fmt: skip
    waiting: deque[tuple[str, Future[bytes] | None]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        try:
            for uri in uris:
                size = sizes[uri]
                is_small = size is not None and size <= _SMALL
                waiting.append((uri, pool.submit(storage.read_bytes, uri) if is_small else None))
                if len(waiting) >= _AHEAD:
                    yield from _batches(*waiting.popleft(), columns, rows)
            while waiting:
                yield from _batches(*waiting.popleft(), columns, rows)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()


def _batches(
    uri: str, fetched: "Future[bytes] | None", columns: list[str] | None, rows: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    if fetched is None:
        for batch in storage.read_batches(uri, columns, rows):
            yield uri, batch
        return
    try:
        with pq.ParquetFile(io.BytesIO(fetched.result()), page_checksum_verification=True) as parquet:
            for batch in storage.batches_of(parquet, rows, columns):
                yield uri, batch
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def _tail_needed(tail: bytes) -> int:
    """Bytes of a Parquet file that its footer takes, which its last eight bytes tell."""
    return int.from_bytes(tail[-8:-4], "little") + 8 if tail.endswith(b"PAR1") else 0
