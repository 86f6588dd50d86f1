"""What the stages of a rebuilding hand to each other: tasks, names of tables, and their schemas."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.folder import shard_name
from seamlessalign.pipelines.published.rebuild_config import RebuildConfig
from seamlessalign.rows import SCHEMA_VERSION
from seamlessalign.storage import join, versions
from seamlessalign.typed_config import digest

LINES, SHARES, WANTED, SOUGHT = (f"state/published/{name}" for name in ("lines", "shares", "wanted", "sought"))
CLIPS, TEXTS = "state/published/clips", "state/published/texts"
BAD_LINES, LOST = "bad_lines", "lost"
TABLES: dict[str, tuple[str, ...]] = {  # stage → tables that it writes
    "lines": (LINES, BAD_LINES),
    "share": (SHARES, WANTED, SOUGHT),
    "audio": (CLIPS, "recordings"),
    "texts": (TEXTS,),
    "assemble": ("pairs", "corpus", LOST),
}
SIDES = ("src", "tgt")
DIGEST = "seamlessalign.digest"  # key of the metadata of every table
MADE = "seamlessalign.made"  # key of that of clips and texts: digest of the settings with which they were made
TERMS = "seamlessalign.terms"  # and of those by which more, or less, could have been had
ABOUT = b"seamlessalign.recording"  # key of that of a piece: the recording that it is of, and what fetching it took

LINES_SCHEMA = pa.schema(
    [
        pa.field("line_no", pa.int64(), nullable=False),
        pa.field("published", pa.string(), nullable=False),  # the direction as it is written
        pa.field("score", pa.float32()),
        *(
            field
            for side in SIDES
            for field in (
                pa.field(f"{side}_url", pa.string(), nullable=False),
                pa.field(f"{side}_start", pa.int64()),
                pa.field(f"{side}_end", pa.int64()),
                pa.field(f"{side}_duration", pa.float64()),
                pa.field(f"{side}_cc_warc", pa.string()),
                pa.field(f"{side}_cc_sha", pa.string()),
                pa.field(f"{side}_cc_lineno", pa.int64()),
                pa.field(f"{side}_paragraph_digest", pa.uint64()),
                pa.field(f"{side}_sentence_digest", pa.uint64()),
            )
        ),
    ]
)
_PLACE = [  # of a side among all that are assembled
    pa.field("home", pa.int32(), nullable=False),  # the shard of the corpus
    pa.field("row", pa.int32(), nullable=False),  # of its pairs
    pa.field("side", pa.int8(), nullable=False),  # 0: src; 1: tgt
]
WANTED_SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("duration", pa.float64()),
        *_PLACE,
    ]
)
SOUGHT_SCHEMA = pa.schema(
    [
        pa.field("cc_warc", pa.string(), nullable=False),
        pa.field("cc_sha", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("cc_lineno", pa.int64()),
        pa.field("paragraph_digest", pa.uint64()),
        pa.field("sentence_digest", pa.uint64()),
        pa.field("lang", pa.string(), nullable=False),
        *_PLACE,
    ]
)
CLIPS_SCHEMA = pa.schema(
    [
        *_PLACE,
        pa.field("recording_id", pa.string()),
        pa.field("audio", pa.binary()),  # encoded; null where there is a problem
        pa.field("problem", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("url", pa.string()),  # what it was cut of, for a plan with other places
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
    ]
)
TEXTS_SCHEMA = pa.schema(
    [
        *_PLACE,
        pa.field("text", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("cc_warc", pa.string()),  # where it was looked for, for a plan with other places
        pa.field("key", pa.string()),  # and what was
    ]
)
LOST_SCHEMA = pa.schema(
    [
        pa.field("direction", pa.string(), nullable=False),
        pa.field("line_no", pa.int64()),
        pa.field("side", pa.string()),  # src or tgt
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("cc_warc", pa.string()),
    ]
)


@dataclass(frozen=True)
class RebuildTask:
    """A shard of a stage of a rebuilding."""

    number: int
    source: str = ""  # lines: the file; assemble: the direction
    lines: int = 0  # assemble: the number of the file of lines
    first: int = 0  # assemble: of the rows of these
    last: int = 0  # and behind the last
    earlier: tuple[str, ...] = ()  # audio, texts: files of earlier plans that have something of what it wants

    @property
    def name(self) -> str:
        """Of the shard and the parts that it writes."""
        return shard_name(self.number)


@dataclass(frozen=True)
class RebuildContext(JobContext):
    """Given to every shard of a rebuilding."""

    config: RebuildConfig

    def part(self, table: str, number: int, partition: str = "") -> str:
        """The address of one part of a table."""
        return self.folder.table(table, partition, shard_name(number))

    @property
    def downloads(self) -> str:
        """Folder of files that are being fetched."""
        return join(self.root, "state", "published", "downloads")

    @property
    def sources(self) -> str:
        """Folder of recordings that are kept."""
        return join(self.root, "sources")

    @property
    def all_pieces(self) -> str:
        """Folder of what shards of audio that are not done have cut so far."""
        return join(self.root, "state", "published", "pieces")

    @property
    def all_earlier(self) -> str:
        """Folder of what earlier plans have."""
        return join(self.root, "state", "published", "earlier")

    def pieces(self, shard: str, digest: str) -> str:
        """Folder of what one of these has cut."""
        return join(self.all_pieces, f"{shard}-{digest}")


def made_of(table: str, config: RebuildConfig) -> str:
    """Digest of all by which clips of the same recordings, or texts of the same lines, would be others."""
    return digest("audio", SCHEMA_VERSION, config.corpus) if table == CLIPS else digest("texts", SCHEMA_VERSION)


def terms_of(config: RebuildConfig) -> str:
    """Digest of all by which more, or less, could be had of the same places."""
    allowed = {"schemes", "allow_local", "allow_private", "max_gb", "max_redirects", "robots"}
    fetch = config.fetch.model_dump(mode="json", include=allowed)
    of_others = {"keep_recordings", "kept_gb", "downloads", "urls_per_shard"}
    audio = config.audio.model_dump(mode="json", exclude=of_others)
    return digest(fetch, audio, config.common_crawl, versions_of(config.texts))


def settings_of(table: str, config: RebuildConfig) -> dict[str, str]:
    """Both, as files of clips and texts carry them."""
    return {MADE: made_of(table, config), TERMS: terms_of(config)}


def versions_of(uris: Sequence[str]) -> list[tuple[str, str]]:
    """Files with their versions."""
    return [(uri, str(version)) for uri, version in sorted(versions(uris).items())]
