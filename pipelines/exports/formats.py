"""The formats a corpus is handed on in, by the name that `seamlessalign export --format` takes.

format = FORMATS["webdataset"]
format.check(target, {"eng-frA": frozenset({"units"})})
with format.writer(target, Shard("eng-frA", 3, "train"), {"units": units}) as shard:   # in any process
    for batch in batches:
        shard.add(batch)
shard.written
format.finish(target, all_that_were_written)                                           # once, behind all shards
"""

from seamlessalign.pipelines.exports.folder import FolderFormat
from seamlessalign.pipelines.exports.lhotse import LhotseFormat, SharFormat
from seamlessalign.pipelines.exports.meta_manifest import MetaFormat
from seamlessalign.pipelines.exports.parquet import ParquetFormat
from seamlessalign.pipelines.exports.shards import Format
from seamlessalign.pipelines.exports.webdataset import WebDatasetFormat

_EVERY: tuple[Format, ...] = (
    ParquetFormat(),
    WebDatasetFormat(),
    LhotseFormat(),
    SharFormat(),
    FolderFormat(),
    MetaFormat(),
)
FORMATS: dict[str, Format] = {format.name: format for format in _EVERY}
