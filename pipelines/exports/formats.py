"""The formats a corpus is handed on in, by the name that `seamlessalign export --format` takes.

format = FORMATS["webdataset"]
format.check(target, {"eng-frA": frozenset({"units"})})
with format.writer(target, Shard("eng-frA", 3, "train"), {"units": units}) as shard:   # in any process
    for batch in batches:
        shard.add(batch)
shard.written
format.finish(target, all_that_were_written)                                           # once, behind all shards
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from seamlessalign.pipelines.exports.parquet import ParquetFormat
from seamlessalign.pipelines.exports.shards import ShardWriter, Target, Written


class Format(Protocol):
    """One way to write a corpus down."""

    @property
    def name(self) -> str: ...

    @property
    def writer(self) -> type[ShardWriter]:
        """Writes a shard; see there."""
        ...

    @property
    def local_only(self) -> bool:
        """Whether its files name each other by paths of this machine, so that no store can have them."""
        ...

    def check(self, target: Target, directions: Mapping[str, frozenset[str]]) -> None:
        """Raise InputError for what can never be written so, MissingPackageError for what it needs.

        directions: which tables the run has beside the corpus, `units` and `transcripts`, by direction.
        """
        ...

    def files(self, place: str) -> tuple[str, str] | None:
        """How `datasets` reads the shards of a place (`train/eng-frA`), if it can: builder, pattern below the folder.

        The front matter of the folder's README.md has these patterns, and `load_dataset(folder)` takes them from there.
        """
        ...

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write what spans shards, given in order of split, direction and number; the files below the folder."""
        ...


FORMATS: dict[str, Format] = {format.name: format for format in (ParquetFormat(),)}
