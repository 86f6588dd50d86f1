"""Compressed indexes of runs in a store: they are built and searched in local files, and kept where the run is."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seamlessalign import remote_files, storage
from seamlessalign.mining.compressed import CompressedIndex


@contextlib.contextmanager
def index_here(folder: str) -> Iterator[str]:
    """A local folder with the files of an index: its own where that is local, else a copy for the time being."""
    if storage.is_local(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as copy:
        for uri in storage.list_files(folder):
            storage.download(uri, Path(copy) / uri.rsplit("/", 1)[-1])
        yield copy


def build_index(index: CompressedIndex, folder: str) -> None:
    """Build an index that lies in its own folder, or in a copy, from which each file goes to `folder` once it is made.

    What is there already stays. Raises StorageError naming what cannot be written.
    """
    if storage.is_local(folder):
        index.build()
        return
    stored = _states(index.folder)
    index.train()
    stored = _store(index.folder, folder, stored)
    for shard in range(len(index.shards)):
        index.add(shard)
        stored = _store(index.folder, folder, stored)


def _store(copy: str, folder: str, stored: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Store what is not yet stored as it is; marks behind the files that they vouch for."""
    states = _states(copy)
    for name in sorted(states, key=lambda name: name.endswith(".json")):
        if stored.get(name) != states[name]:
            remote_files.upload(storage.join(folder, name), Path(copy) / name)
    return states


def _states(copy: str) -> dict[str, tuple[int, int]]:
    """What changes of a file when it is written anew, by name."""
    found = {path.name: path.stat() for path in Path(copy).iterdir() if path.is_file()}
    return {name: (status.st_mtime_ns, status.st_size) for name, status in found.items()}
