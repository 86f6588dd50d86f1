"""The compressed index for sides too large to compare in full: built in shards, searched in shards, ranked exactly.

An index is a folder. `trained.faiss` holds what was learnt from a sample (rotation, centres of the lists, codes),
`shard-00000.faiss` and so on the inverted lists of a fixed number of rows each. Beside every file lies a mark, a small
JSON file written after it: a digest of all that the file was made from, and the digest of its bytes. A restart builds
what has no valid mark; a search refuses it.

The same search gives the same bytes however it is cut into tasks, threads and memory. A matrix product may round a row
otherwise when other rows are with it, so rows always go through products in the same company, the blocks of one grid,
each on one thread. What comes after is row by row, and candidates are merged in one order, by score, then row.
"""

import functools
import io
import itertools
import logging
import os
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xxhash

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.mining import marked
from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES, gpus, index_description, on_gpu, train
from seamlessalign.mining.vectors import Floats, Indices, Vectors, blocks, cosines

_T = TypeVar("_T")
log = logging.getLogger(__name__)

ROWS_PER_SHARD = 1 << 20  # with codes of 64 bytes 72 MiB
ROWS_PER_PART = 1 << 18  # of the query side in one file of partial results
MEMORY = 1 << 30  # bytes
_GRID = 1 << 10  # rows that go through matrix products together
_FORMAT = 1  # of the folder; another one is built again
_MAX_GPU = 2048  # lists and candidates per row that faiss's GPU search can do


@dataclass(frozen=True)
class _Asked:
    """What is searched: rows as the index has them, the lists to look into for each, and the scores of those."""

    rotated: Floats  # (n, dim)
    lists: Indices  # (n, probes)
    near: Floats  # (n, probes)


class CompressedIndex:
    """OPQ + IVF + PQ codes of one side in a local folder. One object is for one thread at a time."""

    def __init__(
        self,
        other: Vectors,
        folder: str,
        fingerprint: str,
        *,
        rows_per_shard: int = ROWS_PER_SHARD,
        description: str = "",
    ) -> None:
        """Nothing is read or written yet.

        `fingerprint` names the content of `other`: files made from another one are not used (`fingerprint_of` makes
        one). `description` is a faiss index_factory string `OPQ…,IVF…,PQ…np`, by default one that fits the size.
        Raises InputError for a folder that is not local, a side too small to train codes on, shards without rows.
        """
        if not storage.is_local(folder):
            raise InputError(f"{folder}: a compressed index needs a local folder")
        if len(other) < MIN_ROWS_FOR_CODES:
            raise InputError(f"{other.side}: {len(other)} rows, and codes are trained on {MIN_ROWS_FOR_CODES} or more")
        self.other = other
        self.folder = str(storage.local_path(folder))
        self.description, self.probes = index_description(len(other), other.dim)
        self.description = description or self.description
        self.shards = shard_ranges(len(other), rows_per_shard)
        self._about: dict[str, Any] = {"format": _FORMAT, "fingerprint": fingerprint, "description": self.description}
        self._about |= {"rows": len(other), "dim": other.dim}
        self._trained: Any = None
        self._resident: dict[int, Any] = {}  # inverted lists by shard
        weakref.finalize(self, _free, self._resident)

    def build(self) -> None:
        """Train, and add every shard, as far as this is not done. Raises StorageError naming what cannot be written."""
        self.train()
        for shard in range(len(self.shards)):
            self.add(shard)

    def train(self) -> None:
        """Learn rotation, lists and codes and write them, unless they are there. One task does it, before any `add`."""
        import faiss

        name, about = self._path("trained"), self._about_training()
        if marked.is_done(name, about):
            return
        log.info("%s: training %s for %d rows", self.other.side, self.description, len(self.other))
        self._trained = None
        _free(self._resident)
        marked.write(name, about, faiss.serialize_index(train(self.other, self.description)).tobytes())

    def add(self, shard: int) -> None:
        """Encode the rows of one shard and write their lists, unless they are there. Tasks may share the shards."""
        name, about = self._path(shard), self._about_shard(shard)
        if marked.is_done(name, about):
            return
        _free(self._resident)
        start, stop = self.shards[shard]
        marked.write(name, about, self._encoded(start, stop))
        log.info("%s: rows %d to %d of %d are in %s", self.other.side, start, stop, len(self.other), name)

    def search(
        self,
        query: Vectors,
        start: int,
        stop: int,
        k: int,
        *,
        probes: int | None = None,
        width: int | None = None,
        memory: int = MEMORY,
    ) -> tuple[Floats, Indices]:
        """About the k nearest rows for query rows start … stop, by exact cosine descending, then index ascending.

        Returns cosine (stop - start, k) float32 and index (stop - start, k) int64. `probes` lists are searched per row,
        the `width` best by their codes are ranked exactly; a row whose lists hold fewer than k searches more of them.
        About `memory` bytes are used beside the trained index, results and one shard of it; they change nothing in the
        results. Raises StorageError naming a file of the index that is missing, damaged or of other rows.
        """
        probes, width = self._checked(query, start, stop, k, probes, width)
        cosine, index = np.empty((stop - start, k), np.float32), np.empty((stop - start, k), np.int64)
        keep = sum(mark.size for mark in self._check_marks()) <= memory // 2
        rows = memory // 2 // _bytes_per_row(query.dim, probes, width) // _GRID * _GRID
        for left, right in _grid(start, stop, max(rows, _GRID)):
            candidates = self._candidates(query, left, right, k, probes, width, keep, memory // 2)
            here = slice(left - start, right - start)
            cosine[here], index[here] = rank_exactly(query, self.other, np.arange(left, right), candidates, k)
        return cosine, index

    def search_to_file(
        self,
        query: Vectors,
        start: int,
        stop: int,
        k: int,
        path: str,
        fingerprint: str,
        *,
        probes: int | None = None,
        width: int | None = None,
        memory: int = MEMORY,
    ) -> tuple[Floats, Indices]:
        """`search`, whose result is kept in a file, local or not, and read from there the next time.

        `fingerprint` names the content of `query`. A file that is damaged, or of another index, query, range or way to
        search, is made again.
        """
        probes, width = self._checked(query, start, stop, k, probes, width)
        files = [mark.digest for mark in self._check_marks()]
        asked = {"index": files, "query": fingerprint, "range": [start, stop], "k": k, "probes": probes, "width": width}
        digest = marked.digest_of({**self._about, **asked})
        if storage.exists(path):
            try:
                return read_found(path, digest)
            except StorageError as error:
                log.warning("%s: searched again", error)
        found = self.search(query, start, stop, k, probes=probes, width=width, memory=memory)
        buffer = io.BytesIO()
        np.savez(buffer, cosine=found[0], index=found[1], digest=np.array(digest))
        storage.write_bytes_atomic(path, buffer.getvalue())
        return found

    def _checked(
        self, query: Vectors, start: int, stop: int, k: int, probes: int | None, width: int | None
    ) -> tuple[int, int]:
        if query.dim != self.other.dim:
            raise InputError(f"{query.side} has {query.dim} dimensions and {self.other.side} {self.other.dim}")
        if not 0 <= start < stop <= len(query):
            raise InputError(f"{query.side}: there are no rows {start} to {stop} among {len(query)}")
        if not 1 <= k <= len(self.other):
            raise InputError(f"k is {k}: {self.other.side} has {len(self.other)} rows")
        probes = self.probes if probes is None else probes
        width = candidates_for(k) if width is None else width
        if probes < 1 or width < k:
            raise InputError(f"probes is {probes} and width {width}: search 1 list or more, and k = {k} rows or more")
        return min(probes, self._lists()), min(width, len(self.other))

    def _candidates(
        self, query: Vectors, start: int, stop: int, k: int, probes: int, width: int, keep: bool, memory: int
    ) -> Indices:
        """The `width` best by their codes for some query rows, (stop - start, width) int64, -1 where lists ran out."""
        self._load()  # before there are threads
        _, found = self._walk(self._assign(query, start, stop, probes), width, keep)
        while probes < self._lists():
            short = np.flatnonzero((found >= 0).sum(1) < k)
            if not len(short):
                break
            probes = min(2 * probes, self._lists())
            log.info("%s: %d rows with fewer than %d near; %d lists", query.side, len(short), k, probes)
            # By themselves, since which rows are short must not decide in whose company they are.
            alone = functools.partial(self._assign_row, query, probes)
            for left, right in _grid(0, len(short), max(1, memory // _bytes_per_row(query.dim, probes, width))):
                some = short[left:right]
                asked = _joined(_in_threads(alone, (start + some).tolist()))
                found[some] = self._walk(asked, width, keep)[1]
        return found

    def _assign(self, query: Vectors, start: int, stop: int, probes: int) -> _Asked:
        """What is searched for some query rows, which go through the products with all rows of their blocks."""

        def work(at: int) -> _Asked:
            whole = self._assign_block(query, probes, at, min(at + _GRID, len(query)))
            here = slice(max(start, at) - at, min(stop, at + _GRID) - at)
            return _Asked(whole.rotated[here], whole.lists[here], whole.near[here])

        return _joined(_in_threads(work, range(start // _GRID * _GRID, stop, _GRID)))

    def _assign_row(self, query: Vectors, probes: int, row: int) -> _Asked:
        return self._assign_block(query, probes, row, row + 1)

    def _assign_block(self, side: Vectors, probes: int, start: int, stop: int) -> _Asked:
        rotation, ivf = self._load()
        rotated = rotation.apply(side.unit(start, stop))
        near, lists = ivf.quantizer.search(rotated, probes)
        return _Asked(rotated, lists, near)

    def _walk(self, asked: _Asked, width: int, keep: bool) -> tuple[Floats, Indices]:
        """Best scores and rows, both (n, width), over all shards; one is in memory at a time, or all where `keep`."""
        n = len(asked.rotated)
        score, row = np.full((n, width), -np.inf, np.float32), np.full((n, width), -1, np.int64)
        for shard, (_, stop) in enumerate(self.shards):
            more, ids = self._scan(self._lists_of(shard, keep), asked, width)
            score, row = merge(score, row, more, rows_of(ids, stop), width)
        return score, row

    def _scan(self, inverted: Any, asked: _Asked, width: int) -> tuple[Floats, Indices]:
        """Best scores and ids within one shard, both (n, width)."""
        _, ivf = self._load()
        ivf.replace_invlists(inverted, False)
        ivf.nprobe = asked.lists.shape[1]
        ivf.ntotal = inverted.compute_ntotal()
        score = np.empty((len(asked.rotated), width), np.float32)
        ids = np.empty((len(asked.rotated), width), np.int64)
        if gpus() and max(ivf.nprobe, width) <= _MAX_GPU:
            copy = on_gpu(ivf)
            copy.nprobe = ivf.nprobe
            score[:], ids[:] = copy.search(asked.rotated, width)
            return score, ids

        def work(at: int) -> None:
            here = slice(at, at + _GRID)
            near, lists = asked.near[here], asked.lists[here]
            score[here], ids[here] = ivf.search_preassigned(asked.rotated[here], width, lists, near)

        _in_threads(work, range(0, len(ids), _GRID))
        return score, ids

    def _encoded(self, start: int, stop: int) -> bytes:
        """The inverted lists of some rows, as faiss writes them.

        Ids count from the last row back to the first: among equal scores faiss keeps what it meets first, and when it
        must let one go, that with the lowest id. So what is kept of rows that are the same are the first.
        """
        import faiss

        _, ivf = self._load()
        number, codes = np.empty(stop - start, np.int64), np.empty((stop - start, ivf.code_size), np.uint8)

        def work(at: int) -> None:
            block = self._assign_block(self.other, 1, at, min(at + _GRID, len(self.other)))
            some = np.empty((len(block.rotated), ivf.code_size), np.uint8)
            ivf.encode_vectors(len(some), *(faiss.swig_ptr(part) for part in (block.rotated, block.lists, some)))
            left, right = max(start, at), min(stop, at + _GRID)
            number[left - start : right - start] = block.lists[left - at : right - at, 0]
            codes[left - start : right - start] = some[left - at : right - at]

        _in_threads(work, range(start // _GRID * _GRID, stop, _GRID))
        order = np.argsort(number, kind="stable")
        cuts = np.searchsorted(number[order], np.arange(ivf.nlist + 1)).tolist()
        inverted = faiss.ArrayInvertedLists(ivf.nlist, ivf.code_size)
        for at, (left, right) in enumerate(itertools.pairwise(cuts)):
            if left < right:
                ids, some = stop - start - 1 - order[left:right], codes[order[left:right]]
                inverted.add_entries(at, right - left, faiss.swig_ptr(ids), faiss.swig_ptr(some))
        writer = faiss.VectorIOWriter()
        faiss.write_InvertedLists(inverted, writer)
        return bytes(faiss.vector_to_array(writer.data).tobytes())

    def _load(self) -> tuple[Any, Any]:
        """The trained rotation and inverted file."""
        import faiss

        if self._trained is None:
            marked.check(self._path("trained"), self._about_training())
            self._trained = _by_faiss(self._path("trained"), faiss.read_index)
        rotation = faiss.downcast_VectorTransform(self._trained.chain.at(0))
        return rotation, faiss.downcast_index(self._trained.index)

    def _lists_of(self, shard: int, keep: bool) -> Any:
        import faiss

        if shard in self._resident:
            return self._resident[shard]
        if not keep:
            _free(self._resident)
        marked.check(self._path(shard), self._about_shard(shard))
        inverted = _by_faiss(self._path(shard), lambda path: faiss.read_InvertedLists(faiss.FileIOReader(path)))
        self._resident[shard] = inverted
        return inverted

    def _lists(self) -> int:
        return int(self.description.split(",")[1].removeprefix("IVF"))

    def _check_marks(self) -> list[marked.Mark]:
        """The marks of all files, before anything is searched. What they say of the bytes is proved on reading."""
        marks = [marked.check(self._path("trained"), self._about_training(), whole=False)]
        for shard in range(len(self.shards)):
            marks.append(marked.check(self._path(shard), self._about_shard(shard), whole=False))
        return marks

    def _about_training(self) -> dict[str, Any]:
        import faiss

        return {**self._about, "faiss": faiss.__version__}

    def _about_shard(self, shard: int) -> dict[str, Any]:
        trained = marked.check(self._path("trained"), self._about_training(), whole=False)
        return {**self._about_training(), "trained": trained.digest, "range": list(self.shards[shard])}

    def _path(self, name: str | int) -> str:
        return storage.join(self.folder, f"{name}.faiss" if isinstance(name, str) else f"shard-{name:05d}.faiss")


def compressed(
    query: Vectors,
    other: Vectors,
    k: int,
    folder: str | None = None,
    *,
    probes: int | None = None,
    width: int | None = None,
    memory: int = MEMORY,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> tuple[Floats, Indices]:
    """About the min(k, len(other)) nearest rows for every query row, by exact cosine; both (len(query), k).

    `folder`, one for each ordered couple of sides, keeps the index and the results of parts of the query side, so that
    a restart goes on from there; without one everything is built anew in a temporary folder. A side of fewer than
    MIN_ROWS_FOR_CODES rows is compared in full.
    """
    k = min(k, len(other))
    if len(other) < MIN_ROWS_FOR_CODES:
        log.info("%s: %d rows are too few to train codes on: compared in full", other.side, len(other))
        return _in_full(query, other, k)
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="seamlessalign-") as temporary:
            index = CompressedIndex(other, temporary, "", rows_per_shard=rows_per_shard)
            index.build()
            return index.search(query, 0, len(query), k, probes=probes, width=width, memory=memory)
    index = CompressedIndex(other, folder, fingerprint_of(other), rows_per_shard=rows_per_shard)
    index.build()
    ours = fingerprint_of(query)
    parts: list[tuple[Floats, Indices]] = []
    for start, stop in shard_ranges(len(query), ROWS_PER_PART):
        path = storage.join(folder, f"found-{start:012d}-{stop:012d}.npz")
        options: dict[str, Any] = {"probes": probes, "width": width, "memory": memory}
        parts.append(index.search_to_file(query, start, stop, k, path, ours, **options))
    return np.concatenate([cosine for cosine, _ in parts]), np.concatenate([index for _, index in parts])


def read_found(path: str, digest: str | None = None) -> tuple[Floats, Indices]:
    """What `search_to_file` wrote: cosine and index. Raises StorageError where it is damaged or has another digest."""
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as found:
            cosine, index, made_from = found["cosine"], found["index"], str(found["digest"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path}: is not a readable search result: {str(error).splitlines()[0]}") from error
    if digest is not None and made_from != digest:
        raise StorageError(f"{path}: is the result of another search")
    return cosine, index


def fingerprint_of(side: Vectors) -> str:
    """A digest of a side's rows, their type and shape."""
    digest = xxhash.xxh3_128()
    for start, stop in blocks(len(side), side.dim):
        digest.update(side.rows[start:stop].tobytes())
    return f"{digest.hexdigest()} {side.rows.dtype} {len(side)} {side.dim}"


def candidates_for(k: int) -> int:
    """How many candidates by their codes are ranked exactly to find k.

    Of 16 neighbours among 100,000 rows, 32 candidates held .940, these 80 .988, 128 .991, and no more pairs came of it.
    """
    return max(4 * k, k + 64)


def shard_ranges(rows: int, rows_per_shard: int) -> list[tuple[int, int]]:
    """Half-open ranges of rows in order. Raises InputError for shards without rows."""
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard is {rows_per_shard}: give 1 or more")
    return list(_grid(0, rows, rows_per_shard))


def rows_of(ids: Indices, stop: int) -> Indices:
    """Row numbers, int64, of ids in a shard that ends before row `stop`; -1, which is none, stays."""
    return np.where(ids < 0, np.int64(-1), np.int64(stop - 1) - ids)


def merge(score: Floats, row: Indices, more_score: Floats, more_row: Indices, width: int) -> tuple[Floats, Indices]:
    """The `width` best of two lists of candidates for each row, all (n, …), by score descending, then row ascending.

    Scores descend in both; -1 stands for no candidate. As the order is total, it does not matter what is merged first.
    """
    score, row = np.concatenate([score, more_score], 1), np.concatenate([row, more_row], 1)
    score[row < 0] = -np.inf
    # each list is in order already, and this sort only merges them: but not by row where scores are equal
    order = np.argsort(-score, axis=1, kind="stable")
    score, row = np.take_along_axis(score, order, 1), np.take_along_axis(row, order, 1)
    tied = np.flatnonzero(((score[:, 1:] == score[:, :-1]) & (row[:, 1:] >= 0)).any(1))
    if len(tied):
        order = np.lexsort((row[tied], -score[tied]), axis=1)
        score[tied] = np.take_along_axis(score[tied], order, 1)
        row[tied] = np.take_along_axis(row[tied], order, 1)
    return np.ascontiguousarray(score[:, :width]), np.ascontiguousarray(row[:, :width])


def rank_exactly(
    query: Vectors, other: Vectors, query_rows: Indices, candidates: Indices, k: int
) -> tuple[Floats, Indices]:
    """The k best of each row's candidates (n, width), -1 for none, by exact cosine, then index; both (n, k)."""
    candidates = np.sort(candidates, axis=1)  # rows are then read in order, and equal cosines stay in it
    cosine = cosines(query, other, query_rows, np.maximum(candidates, 0))
    cosine[candidates < 0] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosine, order, 1), np.take_along_axis(candidates, order, 1)


def _in_full(query: Vectors, other: Vectors, k: int) -> tuple[Floats, Indices]:
    """The k nearest rows, exactly."""
    from seamlessalign.mining.certify import best_certain
    from seamlessalign.mining.distinct import classes_of, spread
    from seamlessalign.mining.flat import flat

    ours, theirs = classes_of(query), classes_of(other)
    width = min(k, len(theirs.first))
    found = flat(query.unit_of(ours.first), other.unit_of(theirs.first), min(width + 4, len(theirs.first)))
    best = best_certain(query, other, ours.first, theirs.first, found, width)
    cosine, index = spread(*best, ours, theirs, k)
    return cosine, index


def _joined(parts: list[_Asked]) -> _Asked:
    return _Asked(
        np.concatenate([part.rotated for part in parts]),
        np.concatenate([part.lists for part in parts]),
        np.concatenate([part.near for part in parts]),
    )


def _bytes_per_row(dim: int, probes: int, width: int) -> int:
    """What a query row needs during a search: itself and its lists, twice while they are joined; candidates, merged."""
    return dim * 8 + probes * 24 + width * 96


def _grid(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Spans that end at multiples of `step`, and at `stop`."""
    while start < stop:
        end = min(start // step * step + step, stop)
        yield start, end
        start = end


def _in_threads(work: Callable[[int], _T], places: Iterable[int]) -> list[_T]:
    """work(place) for each on all cores, in order; faiss itself keeps to one thread in each."""
    import faiss

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(work, places))


def _free(resident: dict[int, Any]) -> None:
    """Give the memory of inverted lists back: what faiss reads belongs to nobody in Python."""
    while resident:
        _, inverted = resident.popitem()
        inverted.__swig_destroy__(inverted)


def _by_faiss(path: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(path)
    except RuntimeError as error:
        raise StorageError(f"{path}: faiss cannot read it: {str(error).splitlines()[0]}") from error
