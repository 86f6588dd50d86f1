"""Embeddings of any number as one file that is mapped into memory: 10 M × 1024 in float16 are 20 GB, and reading some
rows of them takes the memory of those rows.

The pages of a Parquet file are compressed and encoded, so they must be decoded to be read. What is read again and
again, or by row, is therefore laid out once as a `.npy` file; a run's stage `gather` does the same with the rows that
it mines.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import StorageError

_BATCH_ROWS = 4096  # read at a time


def map_embeddings(uris: Sequence[str], path: Path) -> npt.NDArray[np.float16]:
    """Lay the column `embedding` of Parquet files out as one `.npy` file, whole or not at all, and map it.

    Args:
        uris: files in the order that their rows are to have, any that storage reads.
        path: of the new file. It can be opened again with `np.load(path, mmap_mode="r")`.

    Returns:
        float16 `(num_rows, dim)`, read-only, mapped; NaN where a number is null. Memory is bounded by a few thousand rows.

    Raises:
        StorageError: a file that is not a readable Parquet file, has no such column, or other dimensions than those
            before it; no files; or no room for the new one.
    """
    sizes = [storage.num_rows(uri) for uri in uris]
    if not sizes:
        raise StorageError(f"{path}: there are no files of embeddings to lay out")
    dim = dimensions(uris[0])
    with storage.atomic_local(str(path)) as temporary:
        if not sum(sizes) * dim:
            with temporary.open("wb") as file:
                np.save(file, np.zeros((sum(sizes), dim), np.float16))
        else:
            out = np.lib.format.open_memmap(temporary, "w+", np.float16, (sum(sizes), dim))
            storage.reserve(temporary)
            begin = 0
            for uri, size in zip(uris, sizes, strict=True):
                _fill(out[begin : begin + size], uri, dim)
                begin += size
            out.flush()
    mapped: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def dimensions(uri: str) -> int:
    """Dimensions of the column `embedding` of a Parquet file. Raises StorageError where it has none."""
    try:
        with storage.open_read(uri) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    if "embedding" not in schema.names or not pa.types.is_fixed_size_list(schema.field("embedding").type):
        raise StorageError(f"{uri}: has no column 'embedding' of lists of one length")
    return int(schema.field("embedding").type.list_size)


def _fill(out: npt.NDArray[np.float16], uri: str, dim: int) -> None:
    found = dimensions(uri)
    if found != dim:
        raise StorageError(f"{uri}: has {found} dimensions, files before it {dim}: embed it again")
    begin = 0
    try:
        with storage.open_read(uri) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=["embedding"]):
                out[begin : begin + len(batch)] = storage.embeddings_of(batch)
                begin += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    if begin != len(out):
        raise StorageError(f"{uri}: changed while it was read; run again")
