"""One driver at a time in a run's folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError, StorageError
from seamlessalign.pipelines.folder import RunFolder


@contextlib.contextmanager
def only_driver(folder: RunFolder) -> Iterator[None]:
    """Hold the folder's lock, which goes with the process however it ends."""
    if not storage.is_local(folder.root):
        yield
        return
    path = storage.local_path(folder.lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeamlessAlignError(f"{folder.root}: another run is at work in this folder; wait for it") from None
        yield
    finally:
        os.close(handle)
