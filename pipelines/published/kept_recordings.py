"""Recordings that stay in the folder once they are cut: other spans of them, or another format, need no network then.

`sources/ab/abcd…` is a recording by the SHA-256 of its bytes, and `sources/addresses/NAME` says which an address has
given. What does not have that SHA-256 any more is not taken. All of them stay where that is asked for; otherwise the
first that come, up to a size, if the folder is on disk.
"""

import os
import shutil
import struct
from pathlib import Path

from seamlessalign import local_files, storage
from seamlessalign.pipelines.published.downloads import name_of
from seamlessalign.pipelines.published.hosts import shared_folder
from seamlessalign.pipelines.published.rebuild_tasks import RebuildContext

_COUNT = struct.Struct("<q")  # bytes that are kept


class KeptRecordings:
    """Those of a rebuilding, whose processes share the size that they may have together."""

    def __init__(self, context: RebuildContext) -> None:
        audio = context.config.audio
        self._root = context.sources
        self._is_local = storage.is_local(context.root)
        self._most = None if audio.keep_recordings else int(audio.kept_gb * 2**30)
        self._count = shared_folder(context.root) / "kept"

    def find(self, url: str, copy: Path) -> Path | None:
        """The recording of an address, at `copy` where it is kept elsewhere; None where it is not kept."""
        sha256 = self._told(url)
        uri = self._uri(sha256)
        if not sha256 or not storage.exists(uri):
            return None
        path = storage.local_path(uri) if self._is_local else copy
        if not self._is_local:
            copy.parent.mkdir(parents=True, exist_ok=True)
            storage.download(uri, copy)
        if storage.sha256_of(path) == sha256:
            return path
        storage.remove(uri)
        path.unlink(missing_ok=True)
        return None

    def keep(self, url: str, path: Path, sha256: str) -> None:
        """Keep a recording, if there is room for it, and note which address it is from."""
        uri = self._uri(sha256)
        if not storage.exists(uri):
            if self._most is not None and not (self._is_local and self._takes(path.stat().st_size)):
                return
            self._put(path, uri)
        note = self._note(url)
        if not self._is_local:
            storage.write_bytes_atomic(note, sha256.encode())
            return
        link = storage.local_path(note)
        with storage.writing(note):
            local_files.make_folder(link.parent)
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{sha256[:2]}/{sha256}")

    def _told(self, url: str) -> str:
        """The SHA-256 of what an address gave; empty where nothing is noted."""
        note = self._note(url)
        try:
            return storage.local_path(note).readlink().name if self._is_local else storage.read_bytes(note).decode()
        except OSError:
            return ""

    def _put(self, path: Path, uri: str) -> None:
        if not self._is_local:
            with storage.local_target(uri) as target:
                shutil.copyfile(path, target)
            return
        target = storage.local_path(uri)
        with storage.writing(uri):
            local_files.make_folder(target.parent)
            try:
                os.link(path, target)  # it is whole, and on the disk
            except FileExistsError:
                pass
            except OSError:  # the disk knows no links
                with storage.atomic_local(uri) as copy:
                    shutil.copyfile(path, copy)

    def _takes(self, size: int) -> bool:
        """Whether there is room for so many bytes more, which are counted then."""
        assert self._most is not None
        if size > self._most:
            return False
        with local_files.locked(self._count) as file:
            data = os.pread(file, _COUNT.size, 0)
            there = _COUNT.unpack(data)[0] if len(data) == _COUNT.size else size_of_kept(self._root)
            if there + size > self._most:
                return False
            os.pwrite(file, _COUNT.pack(there + size), 0)
        return True

    def _uri(self, sha256: str) -> str:
        return storage.join(self._root, sha256[:2], sha256)

    def _note(self, url: str) -> str:
        return storage.join(self._root, "addresses", name_of(url))


def count_anew(context: RebuildContext) -> None:
    """Have it counted what is kept: some may have been removed since."""
    (shared_folder(context.root) / "kept").unlink(missing_ok=True)


def size_of_kept(root: str) -> int:
    """Bytes of all recordings that are kept below a folder on disk."""
    folder = storage.local_path(root)
    return sum(path.stat().st_size for path in folder.glob("??/*") if path.is_file())
