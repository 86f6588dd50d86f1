"""Embeddings of any number as one file that is mapped into memory: 10 M × 1024 in float16 are 20 GB, and reading some
rows of them takes the memory of those rows.

The pages of a Parquet file are compressed and encoded, so they must be decoded to be read. What is read again and
again, or by row, is therefore laid out once as a `.npy` file; a run's stage `gather` does the same with the rows that
it mines.
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import StorageError

_BATCH = 1 << 19  # numbers decoded at a time, of some twenty bytes each while that is done


def map_embeddings(uris: Sequence[str], path: Path) -> npt.NDArray[np.float16]:
    """Lay the column `embedding` of Parquet files out as one `.npy` file, whole or not at all, and open it.

    Args:
        uris: files in the order that their rows are to have, any that storage reads.
        path: of the new file.

    Returns:
        float16 `(num_rows, dim)` as `open_rows` gives it; NaN where a number is null. One row group is in memory.

    Raises:
        StorageError: a file that is not a readable Parquet file, has no such column, or other dimensions than those
            before it; no files; or no room for the new one.
    """
    sizes = [storage.num_rows(uri) for uri in uris]
    if not sizes:
        raise StorageError(f"{path}: there are no files of embeddings to lay out")
    dim = dimensions(uris[0])
    header = {"descr": "<f2", "fortran_order": False, "shape": (sum(sizes), dim)}
    with storage.atomic_local(str(path)) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for uri, size in zip(uris, sizes, strict=True):
            _append(file, uri, size, dim)
    return open_rows(path)


def open_rows(path: Path) -> npt.NDArray[np.float16]:
    """The rows of a `.npy` file, float16 `(num_rows, dim)`, read-only and mapped for reading here and there.

    Only the pages that rows lie on are read, none ahead of them, so that memory grows with the rows read. To go through
    a file from end to end `np.load(path, mmap_mode="r")` is faster. Raises StorageError where it is no such file.
    """
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("another version of the format")
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
            if by_column or dtype != np.float16 or len(shape) != 2:
                raise ValueError(f"{len(shape)} dimensions of {dtype}")
            begin, size = file.tell(), shape[0] * shape[1]
            if os.fstat(file.fileno()).st_size - begin != 2 * size:
                raise ValueError("it has been cut")
            if not size:
                return np.zeros(shape, np.float16)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError) as error:
        raise StorageError(f"{path}: is not a whole array of rows in float16: {error}") from error
    mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, np.float16, size, begin).reshape(shape)


def dimensions(uri: str) -> int:
    """Dimensions of the column `embedding` of a Parquet file. Raises StorageError where it has none."""
    try:
        with storage.open_read(uri) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return dimensions_in(schema, uri)


def dimensions_in(schema: pa.Schema, uri: str) -> int:
    """Dimensions of the column `embedding` of a file with this schema. Raises StorageError where it has none."""
    if "embedding" not in schema.names or not pa.types.is_fixed_size_list(schema.field("embedding").type):
        raise StorageError(f"{uri}: has no column 'embedding' of lists of one length")
    return int(schema.field("embedding").type.list_size)


def _append(out: BinaryIO, uri: str, size: int, dim: int) -> None:
    found, rows = dimensions(uri), 0
    if found != dim:
        raise StorageError(f"{uri}: has {found} dimensions, files before it {dim}: embed it again")
    for batch in storage.read_batches(uri, ["embedding"], max(1, _BATCH // max(1, dim))):
        rows += len(batch)
        out.write(np.ascontiguousarray(storage.embeddings_of(batch)).data)
    if rows != size:
        raise StorageError(f"{uri}: changed while it was read; run again")
