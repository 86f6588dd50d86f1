"""Clips as files of their own, a folder for each shard, which locally comes into being whole."""

import os
import shutil
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from seamlessalign import local_files, storage
from seamlessalign.pipelines.exports.shards import ExportRow, RowWriter, Shard, Target

_AT_ONCE = 16  # clips on their way to a store


class ClipFiles(RowWriter):
    """Writes `<place>/part-00003/KEY.src.flac` and so on; what tells of them is up to subclasses."""

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self.folder = f"{shard.place}/{shard.name}"
        self._growing: Path | None = None  # the folder, until all is in it
        self._pool: ThreadPoolExecutor | None = None  # to stores
        self._sent: deque[Future[None]] = deque()

    @abstractmethod
    def _describe(self, row: ExportRow, names: dict[str, str]) -> None:
        """Note what is told of a row; names: of its clips, by side, below the shard's folder."""

    def _finish_folder(self, folder: str) -> None:
        """Write what lies beside the clips."""

    def _write(self, row: ExportRow) -> None:
        names = {side: f"{row.key}.{side}.{clip.suffix}" for side, clip in row.audio.items()}
        for side, name in names.items():
            self._put(name, row.audio[side].data)
        self._describe(row, names)

    def _put(self, name: str, data: bytes) -> None:
        if not storage.is_local(self.target.root):
            if self._pool is None:
                self._pool = self._stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
            self._sent.append(
                self._pool.submit(storage.write_bytes_atomic, storage.join(self.target.root, self.folder, name), data)
            )
            while len(self._sent) > 2 * _AT_ONCE:
                self._sent.popleft().result()
            return
        if self._growing is None:
            self._growing = self._begun()
        with storage.writing(storage.join(self.target.root, self.folder, name)):
            (self._growing / name).write_bytes(data)

    def _begun(self) -> Path:
        place = storage.local_path(storage.join(self.target.root, self.folder))
        growing = place.parent / f"{storage.TEMPORARY_PREFIX}{place.name}.{os.getpid()}"
        with storage.writing(str(place)):
            shutil.rmtree(growing, ignore_errors=True)
            local_files.make_folder(growing)
        self._stack.callback(shutil.rmtree, growing, ignore_errors=True)
        return growing

    def _finish(self) -> None:
        while self._sent:
            self._sent.popleft().result()
        if not self._pairs:
            return
        place = storage.join(self.target.root, self.folder)
        if self._growing is None:
            self._finish_folder(place)
            return
        self._finish_folder(str(self._growing))
        path = storage.local_path(place)
        with storage.writing(place):
            local_files.sync_all(self._growing)
            shutil.rmtree(path, ignore_errors=True)  # of an export that was killed before it noted this shard
            self._growing.rename(path)
            local_files.sync(path.parent)
