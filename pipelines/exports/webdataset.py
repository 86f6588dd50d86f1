"""Tar files as WebDataset has them: of each pair its speech, KEY.src.flac, KEY.tgt.flac, and the rest, KEY.json."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.pipelines.exports.shards import ExportRow, Format, RowWriter, Shard, Target, Written, by_split
from seamlessalign.pipelines.exports.tars import TarWriter, tar_writer

_INDEX = "index.json"


class WebDatasetWriter(RowWriter):
    """`<place>/part-00003-000.tar`, and -001 and so on where it would grow beyond the target's `max_bytes`."""

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._open = self._stack.enter_context(ExitStack())  # the tar file that is being written
        self._tar: TarWriter | None = None
        self._name = ""

    def _write(self, row: ExportRow) -> None:
        members = {f"{row.key}.{side}.{clip.suffix}": clip.data for side, clip in row.audio.items()}
        members[f"{row.key}.json"] = json.dumps({**row.values, **row.beside}, ensure_ascii=False).encode()
        if self._tar is None or self._tar.size_with(*members.values()) > self.target.max_bytes:
            self._open.close()
            self._name = f"{self.shard.place}/{self.shard.name}-{len(self._files):03}.tar"
            self._tar = self._open.enter_context(tar_writer(self._uri(self._name)))
        for name, data in members.items():
            self._tar.add(name, data)
        self._files[self._name] += 1


class WebDatasetFormat(Format):
    """See there."""

    name = "webdataset"
    writer = WebDatasetWriter

    def files(self, place: str) -> tuple[str, str] | None:
        """None: `datasets` would tell from the first five pairs of what kind each value is, and fail at the sixth."""
        return None

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write for each split an index of its tar files, with how many pairs each has: the one that wids reads."""
        pairs = {name: rows for shard in written for name, rows in shard.files.items()}
        names = []
        for split, tars in by_split(written, ".tar").items():
            names.append(_INDEX if split is None else f"{split}/{_INDEX}")
            below = "" if split is None else f"{split}/"
            shards = [{"url": name.removeprefix(below), "nsamples": pairs[name]} for name in tars]
            index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards}
            storage.write_bytes_atomic(storage.join(target.root, names[-1]), json.dumps(index, indent=1).encode())
        return names
