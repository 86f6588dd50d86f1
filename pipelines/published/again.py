"""Trying again what could not be had: shards with such losses are done anew, and fetch nothing that they have."""

import json
from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.published.downloads import Traffic, name_of
from seamlessalign.pipelines.published.rebuild_tasks import (
    ABOUT,
    CLIPS,
    CLIPS_SCHEMA,
    WANTED,
    RebuildContext,
)

PASSING = frozenset(  # reasons that may pass by themselves
    {
        "timeout", "truncated", "server_error", "throttled", "unreachable", "changing", "robots_unreachable",
        "unreadable", "wet_truncated", "wet_changed",
    }
)  # fmt: skip
_ROUNDS = ("state", "published", "rounds.json")
_OPEN = 300  # pieces that are written at a time
_ROWS = 64  # clips in memory


def rounds_of(context: RebuildContext) -> dict[str, int]:
    """How often shards were done again, by stage and name, such as `audio part-00003`."""
    uri = storage.join(context.root, *_ROUNDS)
    if not storage.exists(uri):
        return {}
    rounds: dict[str, int] = json.loads(storage.read_bytes(uri))
    return rounds


def try_again(context: RebuildContext, digest_of: Callable[[str, int], str], reasons: Set[str]) -> int:
    """Have shards done again that lost something for one of these reasons; returns how many there are.

    `digest_of`: the digest that a shard of recordings has in a round. Of what it has, pieces are made under that of the
    next round first, so that whoever does it finds them there.
    """
    rounds, count = rounds_of(context), 0
    for name, mark in sorted(read_marks(context.folder, "audio").items()):
        dropped = next((line.dropped for line in mark.lines if line.stage == "recordings"), {})
        if reasons & dropped.keys():
            key = f"audio {name}"
            _take_apart(name, digest_of(name, rounds.get(key, 0) + 1), context, reasons)
            rounds[key] = rounds.get(key, 0) + 1
            count += 1
    for name, mark in sorted(read_marks(context.folder, "texts").items()):
        if any(reasons & line.dropped.keys() for line in mark.lines):
            rounds[f"texts {name}"] = rounds.get(f"texts {name}", 0) + 1
            count += 1
    if count:
        storage.write_bytes_atomic(storage.join(context.root, *_ROUNDS), json.dumps(rounds).encode())
    return count


def _take_apart(name: str, digest: str, context: RebuildContext, reasons: Set[str]) -> None:
    """Make pieces of the recordings of a shard, but of those that are to be tried again."""
    number = int(name.removeprefix("part-"))
    recordings = storage.read_table(context.folder.table("recordings", part=name)).to_pylist()
    kept = {row["uri"]: row for row in recordings if row["drop_reason"] not in reasons}
    wanted = storage.read_table(context.part(WANTED, number), ["url", "home", "row", "side"]).to_pydict()
    places = zip(wanted["home"], wanted["row"], wanted["side"], strict=True)
    url_of = {place: url for place, url in zip(places, wanted["url"], strict=True) if url in kept}
    urls = sorted(set(url_of.values()))
    for first in range(0, len(urls), _OPEN):
        some = set(urls[first : first + _OPEN])
        with ExitStack() as stack:
            writers = {url: _writer(url, kept[url], digest, name, context, stack) for url in sorted(some)}
            for batch in storage.read_batches(context.part(CLIPS, number), rows=_ROWS):
                table = pa.Table.from_batches([batch])
                keys = zip(*(table.column(key).to_pylist() for key in ("home", "row", "side")), strict=True)
                at: dict[str, list[int]] = {}
                for place, key in enumerate(keys):
                    if url_of.get(key) in some:
                        at.setdefault(url_of[key], []).append(place)
                for url, rows in at.items():
                    writers[url].write_table(table.take(rows).cast(CLIPS_SCHEMA).replace_schema_metadata(
                        writers[url].schema.metadata))  # fmt: skip


def _writer(
    url: str, recording: dict[str, Any], digest: str, name: str, context: RebuildContext, stack: ExitStack
) -> pq.ParquetWriter:
    about = {"recording": recording, "traffic": asdict(Traffic())}
    schema = CLIPS_SCHEMA.with_metadata({ABOUT: json.dumps(about).encode()})
    uri = storage.join(context.pieces(name, digest), f"{name_of(url)}.parquet")
    path = stack.enter_context(storage.local_target(uri))
    return stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True))
