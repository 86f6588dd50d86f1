"""Sentences of published metadata, looked up in Common Crawl's WET files, each of which is read once."""

from typing import Any

import pyarrow as pa
import xxhash

from seamlessalign import storage
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.context import Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.published.audio_stage import CONTENT
from seamlessalign.pipelines.published.common_crawl import Kept, is_common_crawl, texts_of, wet_uri
from seamlessalign.pipelines.published.downloads import name_of
from seamlessalign.pipelines.published.earlier import take_texts
from seamlessalign.pipelines.published.hosts import Hosts, host_of, shared_folder
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.pipelines.published.own_sources import texts_with
from seamlessalign.pipelines.published.rebuild_tasks import (
    DIGEST,
    SOUGHT,
    TEXTS,
    TEXTS_SCHEMA,
    RebuildContext,
    RebuildTask,
    settings_of,
)
from seamlessalign.sources import is_http

STAGE = "texts"


def process(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    """Do one shard of WET files, write its table, and return its completion mark. Rows are sentences."""
    watch, tally, content = Stopwatch(), Tally(), xxhash.xxh3_64()
    sought = storage.read_table(context.part(SOUGHT, task.number)).to_pylist()
    config = context.config.fetch
    hosts = Hosts(
        shared_folder(context.root), config.requests_per_second, config.connections, config.longest_hold_seconds
    )
    rows, begin = list[dict[str, Any]](), 0
    pieces = context.pieces(f"texts-{task.name}", digest)  # of each file, so that a shard that was killed goes on
    there = set(storage.list_files(pieces, ".parquet"))
    earlier = take_texts(task.earlier, context) if task.earlier else {}
    made = settings_of(TEXTS, context.config)
    with watch.step("read"):
        own = _own(sought, context)
        while begin < len(sought):
            end = begin
            while end < len(sought) and sought[end]["cc_warc"] == sought[begin]["cc_warc"]:
                end += 1
            some = sought[begin:end]
            name = name_of(some[0]["cc_warc"])
            piece, kept = storage.join(pieces, f"{name}.parquet"), Kept(storage.join(pieces, f"{name}.json"))
            if piece not in there:
                asked = [row for row in some if _key(row) not in earlier]
                new = iter(_texts(asked, context, hosts, own, kept) if asked else ())
                found = [_row(row, earlier.get(_key(row)) or next(new)) for row in some]
                storage.write_table(piece, pa.Table.from_pylist(found, schema=TEXTS_SCHEMA), metadata=made)
            rows += storage.read_table(piece).to_pylist()
            advance(STAGE, len(some))
            begin = end
    rows.sort(key=lambda row: (row["home"], row["row"], row["side"]))
    for row in rows:
        content.update(f"{row['home']} {row['row']} {row['side']} {row['text']} {row['problem']}\n".encode())
        tally.keep() if row["problem"] is None else tally.drop(row["problem"])
    uri = context.part(TEXTS, task.number)
    metadata = {DIGEST: digest, CONTENT: content.hexdigest(), **made}
    table = pa.Table.from_pylist(rows, schema=TEXTS_SCHEMA)
    written = storage.write_table(uri, table, metadata=metadata, row_group_size=1000)
    line = tally.line("texts", task.name, digest=digest, seconds=watch.seconds, bytes_written=written)
    return Mark(STAGE, task.name, digest, [context.folder.relative(uri)], [line])


def _own(sought: list[dict[str, Any]], context: RebuildContext) -> dict[int, str]:
    """Texts of no WET file, by their digests, as far as the files that were named have them."""
    if not context.config.texts:
        return {}
    others = {row["sentence_digest"] for row in sought if not is_common_crawl(row["cc_warc"])}
    return texts_with(others - {None}, context.config.texts)


def _texts(
    some: list[dict[str, Any]], context: RebuildContext, hosts: Hosts, own: dict[int, str], kept: Kept
) -> list[str | UnreadableError]:
    """The texts of one WET file, or why there is none."""
    try:
        uri = wet_uri(some[0]["cc_warc"], context.config.common_crawl)
    except UnreadableError as error:
        known = UnreadableError("text_not_found", "no file that texts names has a text with its digest")
        return [own.get(row["sentence_digest"], known if context.config.texts else error) for row in some]
    lines = [_line(row) for row in some]
    if not is_http(uri):
        return texts_of(uri, lines, kept)
    with hosts.connection(host_of(uri)):
        hosts.wait_turn(host_of(uri))
        return texts_of(uri, lines, kept)


def _line(row: dict[str, Any]) -> MetadataLine:
    return MetadataLine(
        cc_warc=row["cc_warc"], cc_sha=row["cc_sha"], url=row["url"], start_frame=None, end_frame=None,
        cc_lineno=row["cc_lineno"], paragraph_digest=row["paragraph_digest"], duration=None,
        sentence_digest=row["sentence_digest"], text_lid_score=None, laser_score=None,
        direction=f"{row['lang']}-{row['lang']}", side=row["lang"], line_no=0,
    )  # fmt: skip


def _key(row: dict[str, Any]) -> str:
    """What tells a text that is looked for from others."""
    told = [row[name] for name in ("cc_warc", "cc_sha", "cc_lineno", "paragraph_digest", "sentence_digest", "lang")]
    return xxhash.xxh3_128_hexdigest(repr(told).encode("utf-8", "surrogatepass"))


def _row(row: dict[str, Any], text: str | UnreadableError | dict[str, Any]) -> dict[str, Any]:
    """`text`: what was found now, or a row of what was before."""
    place = {**{name: row[name] for name in ("home", "row", "side", "cc_warc")}, "key": _key(row)}
    if isinstance(text, dict):
        return {**text, **place}
    if isinstance(text, str):
        return {**place, "text": text, "problem": None, "detail": None}
    return {**place, "text": None, "problem": text.reason, "detail": text.detail}
