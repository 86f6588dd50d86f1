"""What could not be rebuilt, as one table and as one text file."""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.published.lines import HARMLESS
from seamlessalign.pipelines.published.rebuild_tasks import BAD_LINES, LOST, LOST_SCHEMA, RebuildContext

MISSING = "missing.tsv"
_LOST = "lost.parquet"
_MOST, _LONGEST = 8, 240  # reasons that are shown, and signs of what was seen
_COLUMNS = ("direction", "line_no", "side", "reason", "url", "start", "end", "cc_warc", "detail")


def write_missing(context: RebuildContext) -> None:
    """Write `lost.parquet` and `missing.tsv`: a row for each side that could not be had, and each bad line."""
    folder = context.folder
    storage.write_tables(storage.join(folder.root, _LOST), _tables(context), LOST_SCHEMA, {})
    with storage.local_target(storage.join(folder.root, MISSING)) as path, path.open("w", encoding="utf-8") as file:
        file.write("\t".join(_COLUMNS) + "\n")
        for table in _tables(context):
            for row in table.to_pylist():
                file.write("\t".join(_cell(row[name]) for name in _COLUMNS) + "\n")


def examples(folder: RunFolder) -> list[tuple[str, str]]:
    """The reasons for which most was lost, each with what was seen of the first."""
    counts, first = Counter[str](), dict[str, str]()
    for batch in storage.read_batches(storage.join(folder.root, _LOST), ["reason", "detail"]):
        columns = batch.to_pydict()
        counts.update(columns["reason"])
        for reason, detail in zip(columns["reason"], columns["detail"], strict=True):
            first.setdefault(reason, detail)
    return [(reason, _cell(first[reason])[:_LONGEST]) for reason, _ in counts.most_common(_MOST)]


def _tables(context: RebuildContext) -> Iterator[pa.Table]:
    folder = context.folder
    for uri in storage.list_files(folder.table(BAD_LINES), ".parquet"):
        for batch in storage.read_batches(uri):
            rows = [
                {"direction": "", "line_no": None, "side": None, "reason": row["reason"], "url": None, "start": None,
                 "end": None, "cc_warc": None, "detail": f"{row['file']} line {row['row']}: {row['detail']}"}
                for row in batch.to_pylist()
                if row["reason"] not in HARMLESS
            ]  # fmt: skip
            yield pa.Table.from_pylist(rows, schema=LOST_SCHEMA)
    for uri in storage.list_files(folder.table(LOST), ".parquet"):
        for batch in storage.read_batches(uri):
            yield pa.Table.from_batches([batch.replace_schema_metadata(None)]).cast(LOST_SCHEMA)


def _cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())
