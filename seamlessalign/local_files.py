"""Files on this machine: what was written, created or removed through here is so after a crash of the machine too.

A file's bytes are on the disk once it was fsynced, its name, or that it has none any more, once its folder was.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from seamlessalign.errors import StorageError


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Have all that was written to a folder's file system on the disk: once, for thousands of files. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, as far as they are missing. Raises OSError."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # a folder that others own may be one that is not read
            sync(one.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with everything below it; nothing happens where there is none. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
    else:
        return
    sync(path.parent)


@contextlib.contextmanager
def locked(path: Path, waits: bool = True) -> Iterator[int]:
    """Be the only one who holds the lock of a file, which is made where it is missing; gives the open file.

    The kernel lets go of it when the process ends, however it does. Whoever holds it is waited for; raises
    BlockingIOError instead where `waits` is false, and StorageError where the file cannot be opened.
    """
    try:
        make_folder(path.parent)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def read(path: str) -> bytes:
    """All bytes of a file. Raises OSError with its name."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path takes as long to make as this to read
            return file.read()
    except OSError as error:
        error.filename = error.filename or path  # a disk that fails while it is read does not say in which file
        raise
