"""The lines of published metadata as tables of pairs, one for each direction; what makes no pair is set aside."""

from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.pipelines.context import Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.published.lines import HARMLESS
from seamlessalign.pipelines.published.pairing import SET_ASIDE, pair_up
from seamlessalign.pipelines.published.rebuild_config import direction_of
from seamlessalign.pipelines.published.rebuild_tasks import (
    BAD_LINES,
    DIGEST,
    LINES,
    LINES_SCHEMA,
    SIDES,
    RebuildContext,
    RebuildTask,
)

STAGE = "lines"
_ROW_GROUP = 5000  # about a part of the corpus, for which its lines are read
_FROM = {"start": "start_frame", "end": "end_frame"}  # column here → column there, where they differ


def process(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    """Read all metadata, and return the completion mark. Rows are lines."""
    config, watch, tally = context.config, Stopwatch(), Tally()
    bad = context.part(BAD_LINES, task.number)
    metadata = {DIGEST: digest}
    with storage.scratch(bad) as folder, watch.step("read"):
        folder.mkdir()
        pairs, aside = folder / "pairs.parquet", folder / "aside.parquet"
        try:
            paired = pair_up(config.metadata, str(pairs), str(aside))
            for reason, count in paired.set_aside.items():
                tally.drop(reason, count, quarantined=reason not in HARMLESS)
            tables = (pa.Table.from_batches([batch]).cast(SET_ASIDE) for batch in storage.read_batches(str(aside)))
            written = storage.write_tables(bad, tables, SET_ASIDE, metadata)
            outputs = [context.folder.relative(bad)]
            with _Writers(context, task, metadata) as writers:
                for batch in storage.read_batches(str(pairs)):
                    for published, rows in _by_direction(pa.Table.from_batches([batch])):
                        name = direction_of(published)
                        if config.directions and name not in config.directions:
                            tally.drop("direction_not_wanted", 2 * len(rows))
                            continue
                        wanted = _scored(rows, published)
                        if config.min_score is not None:
                            above = wanted.filter(pc.field("score") >= pa.scalar(config.min_score, pa.float32()))
                            tally.drop("below_min_score", 2 * (len(wanted) - len(above)))
                            wanted = above
                        tally.keep(2 * len(wanted))
                        writers.write(name, wanted)
        finally:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    outputs += [context.folder.relative(uri) for uri in writers.uris]
    advance(STAGE, 1)
    line = tally.line(STAGE, task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    return Mark(STAGE, task.name, digest, outputs, [line])


class _Writers:
    """A table for each direction, open while there may be rows of it."""

    def __init__(self, context: RebuildContext, task: RebuildTask, metadata: dict[str, str]) -> None:
        self._context, self._task = context, task
        self._schema = LINES_SCHEMA.with_metadata({key.encode(): value.encode() for key, value in metadata.items()})
        self._stack = ExitStack()
        self._open: dict[str, pq.ParquetWriter] = {}
        self.uris: list[str] = []

    def __enter__(self) -> "_Writers":
        self._stack.__enter__()
        return self

    def __exit__(self, *about: Any) -> Any:
        return self._stack.__exit__(*about)

    def write(self, direction: str, rows: pa.Table) -> None:
        """Append rows."""
        if direction not in self._open:
            uri = self._context.part(LINES, self._task.number, f"direction={direction}")
            path = self._stack.enter_context(storage.local_target(uri))
            self._open[direction] = self._stack.enter_context(
                pq.ParquetWriter(path, self._schema, compression="zstd", write_page_checksum=True)
            )
            self.uris.append(uri)
        table = rows.replace_schema_metadata(self._schema.metadata)
        self._open[direction].write_table(table, row_group_size=_ROW_GROUP)


def _by_direction(rows: pa.Table) -> list[tuple[str, pa.Table]]:
    """The rows of each direction as it is written, in the order in which they first come."""
    names = pc.unique(rows.column("direction")).to_pylist()
    return [(name, rows if len(names) == 1 else rows.filter(pc.field("direction") == name)) for name in names]


def _scored(rows: pa.Table, published: str) -> pa.Table:
    """Rows as they are kept; the score is that of either side."""
    score = pc.coalesce(rows.column("src_laser_score"), rows.column("tgt_laser_score")).cast(pa.float32())
    columns: dict[str, Any] = {
        "line_no": rows.column("line_no"),
        "published": pa.array([published] * len(rows), pa.string()),
        "score": score,
    }
    for side in SIDES:
        for name in ("url", "start", "end", "duration", "cc_warc", "cc_sha", "cc_lineno", "paragraph_digest",
                     "sentence_digest"):  # fmt: skip
            columns[f"{side}_{name}"] = rows.column(f"{side}_{_FROM.get(name, name)}")
    return pa.table(columns).cast(LINES_SCHEMA)
