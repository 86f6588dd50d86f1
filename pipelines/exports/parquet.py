"""Parquet with audio inside, as `datasets` opens it and as trainings here take it: the corpus of a run, row for row."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.pipelines.corpus_stage import FEATURES, ROW_GROUP
from seamlessalign.pipelines.exports.clips import SIDES, clips_of, with_clips
from seamlessalign.pipelines.exports.shards import Format, Shard, ShardWriter, Target
from seamlessalign.rows import CORPUS


class ParquetWriter(ShardWriter):
    """`<place>/part-00003.parquet`, and beside it `[<split>/]units/<direction>/part-00003.parquet` and so on."""

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._waiting: list[pa.Table] = []  # less than a row group
        self._names: list[pa.ChunkedArray] = []  # pair_id of every row, which says what is taken of the tables beside
        self._writer: Any = None
        self._name = f"{shard.place}/{shard.name}.parquet"

    def add(self, pairs: pa.Table) -> None:
        for side in SIDES:
            clips = clips_of(pairs, side, self.target.audio)
            if self.target.audio is not None:
                pairs = with_clips(pairs, side, clips)
            self._count(clips)
        if self._writer is None:
            self._writer = self._opened(pairs.schema.metadata or {})
        self._pairs += len(pairs)
        self._names.append(pairs.column("pair_id"))
        self._waiting.append(pairs.select(CORPUS.names))
        waiting = sum(map(len, self._waiting))
        self._write(waiting - waiting % ROW_GROUP)

    def _opened(self, metadata: Mapping[bytes, bytes]) -> Any:
        kept = metadata if b"huggingface" in metadata else {**metadata, b"huggingface": FEATURES.encode()}
        uri = self._uri(self._name)
        return self._stack.enter_context(storage.table_writer(uri, CORPUS.with_metadata(kept)))

    def _write(self, rows: int) -> None:
        """Write that many of the waiting rows."""
        if not rows:
            return
        every = pa.concat_tables([table.replace_schema_metadata(None) for table in self._waiting])
        # in one piece: where pages end, and with that the bytes, must not depend on how rows came
        table = every.slice(0, rows).combine_chunks().replace_schema_metadata(self._writer.schema.metadata)
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self._waiting = [every.slice(rows)]

    def _finish(self) -> None:
        self._write(sum(map(len, self._waiting)))
        if not self._names:
            return
        self._files[self._name] = self._pairs
        names = pa.chunked_array([chunk for column in self._names for chunk in column.chunks], pa.string())
        for name, table in sorted(self.beside.items()):
            folder = name if self.shard.split is None else f"{self.shard.split}/{name}"
            rows = table.filter(pc.is_in(table.column("pair_id"), names))
            uri = self._uri(f"{folder}/{self.shard.direction}/{self.shard.name}.parquet", len(rows))
            storage.write_table(uri, rows)


class ParquetFormat(Format):
    """See there."""

    name = "parquet"
    writer = ParquetWriter

    def files(self, place: str) -> tuple[str, str] | None:
        """See there."""
        return "parquet", f"{place}/part-*.parquet"
