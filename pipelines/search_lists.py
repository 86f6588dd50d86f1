"""The files of neighbour lists that search tasks write, and their lists put together a range of rows at a time.

What a task found of a row is the best among the rows of the other side that it looked at. The best of all are found by
the order that defines them, cosine descending, then index ascending; so it is all one which task found what, and when.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.lists import BYTES_A_PLACE, RANGE_BYTES
from seamlessalign.pipelines.rectangles import Rectangle


@dataclass(frozen=True)
class ListFile:
    """Lists of one side's rows in a task's file: those of rows [begin, end), of others in [left, right).

    Others are numbered from `left` on, in 32 bits where these suffice.
    """

    uri: str
    which: str  # forward or backward
    where: Rectangle

    def read(self, path: Path, begin: int, end: int, k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Cosines and indices of rows [begin, end), of which nothing else is read."""
        from safetensors import SafetensorError, safe_open

        shape = [self.where.rows, min(k, self.where.columns)]
        try:
            # opened anew for each range, since what was read of a file counts as this process's memory until it closes
            with safe_open(path, "np") as file:
                slices = [file.get_slice(f"{self.which}_{name}") for name in ("cosine", "index")]
                if any(one.get_shape() != shape for one in slices):
                    raise StorageError(f"{self.uri}: is not the lists of its rows; remove it and run again")
                part = slice(begin - self.where.begin, end - self.where.begin)
                return slices[0][part], slices[1][part].astype(np.int64) + self.where.left
        except (OSError, SafetensorError) as error:
            told = f"is not a whole file of neighbours ({error}); remove it and run again"
            raise StorageError(f"{self.uri}: {told}") from error


class ListsInFiles:
    """Lists of one side, put together from files: `mining.lists.Lists`."""

    def __init__(self, files: list[ListFile], paths: dict[str, Path], size: tuple[int, int], k: int) -> None:
        """files: each pair of rows is in one of them; paths: where they can be read; size: rows of both sides."""
        self._files = sorted(files, key=lambda file: (file.where.left, file.where.begin))
        self._paths, self._rows, self._k = paths, size[0], k
        self._width = min(k, size[1])

    @property
    def width(self) -> int:
        """Neighbours of a row."""
        return self._width

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    def ranges(self) -> Iterator[tuple[int, Neighbours]]:
        """All lists in the order of their rows. Raises StorageError naming a file that is missing or damaged."""
        edges = sorted({edge for file in self._files for edge in (file.where.begin, file.where.end)})
        for begin, end in pairwise(edges):
            files = [file for file in self._files if file.where.begin <= begin and end <= file.where.end]
            places = self._width + sum(min(self._k, file.where.columns) for file in files)
            step = max(1, RANGE_BYTES // (BYTES_A_PLACE * places))
            for at in range(begin, end, step):
                yield at, self._read(files, at, min(at + step, end))

    def _read(self, files: list[ListFile], begin: int, end: int) -> Neighbours:
        found = [file.read(self._paths[file.uri], begin, end, self._k) for file in files]
        if len(found) == 1:
            return Neighbours(*found[0])
        cosine, index = (np.concatenate(part, 1) for part in zip(*found, strict=True))
        del found
        # files come by index, and each is by cosine, then index: so equals are in order as they stand
        best = first_places(cosine, self._width)
        return Neighbours(np.take_along_axis(cosine, best, 1), np.take_along_axis(index, best, 1))


def first_places(cosine: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.int64]:
    """Places of the highest of each line, equals as they stand: a stable order, faster than a stable sort.

    Whole numbers are sorted that have the cosine's order above and the place below.
    """
    bits = (np.float32(0) - cosine).view(np.int32)  # never -0
    keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64) << 32
    keys |= np.arange(cosine.shape[1])
    keys.sort(1)
    return keys[:, :width] & 0xFFFFFFFF


@contextlib.contextmanager
def local_paths(uris: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Where files can be read from: themselves where they are local, else copies for the time being."""
    with contextlib.ExitStack() as copies:
        paths = {}
        for uri in uris:
            try:
                paths[uri] = copies.enter_context(storage.local_copy(uri))
            except OSError as error:
                raise StorageError(f"{uri}: cannot be read ({error}); remove its mark and run again") from error
        yield paths


def place_bytes(columns: int) -> int:
    """Bytes of a neighbour in a list, with its cosine, where a task looks at so many rows of the other side."""
    return 4 + index_type(columns).itemsize


def index_type(columns: int) -> "np.dtype[Any]":
    """What numbers so many rows."""
    return np.dtype(np.uint32 if columns <= 1 << 32 else np.int64)


def save_arrays(uri: str, arrays: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> int:
    """Write arrays to one safetensors file, whole or not at all; returns its bytes."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with storage.local_target(uri) as path:
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata)
        except SafetensorError as error:  # also for a disk that is full
            raise StorageError(f"{uri}: cannot be written: {error}") from error
    return storage.size(uri)
