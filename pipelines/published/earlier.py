"""What was cut and found for an earlier plan, for one of other metadata, scores or limits.

No recording is fetched again for spans that were cut of it, and no WET file read for texts that were found. Before all
is shared out anew, the parts of shards that are done are set aside under other names (by links, where the disk knows
them), beside the pieces of shards that are not done. Each new shard is told which of these have addresses of its own,
takes what it can use, and asks for the rest. When all is done they are removed.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.pipelines.ledger import marks_of
from seamlessalign.pipelines.published.downloads import Traffic, name_of
from seamlessalign.pipelines.published.rebuild_tasks import (
    ABOUT,
    CLIPS,
    CLIPS_SCHEMA,
    MADE,
    TERMS,
    TEXTS,
    RebuildContext,
    made_of,
    terms_of,
)

PASSING = frozenset(  # reasons that may pass by themselves
    {
        "timeout", "truncated", "server_error", "throttled", "unreachable", "changing", "robots_unreachable",
        "unreadable", "wet_truncated", "wet_changed",
    }
)  # fmt: skip
OF_TERMS = frozenset(  # reasons of recordings that the configuration decides
    {
        "address_refused", "outside_root", "too_large", "too_many_redirects", "robots_disallowed", "too_long",
        "needs_ffmpeg",
    }
)  # fmt: skip
_OPEN = 300  # pieces that are written at a time
_ROWS = 64  # clips in memory

Spans = Mapping[str, pa.Table]  # those wanted of each recording, by its address


def set_aside(context: RebuildContext) -> None:
    """Keep what shards have done, as far as it was made as it would be now, from being written over."""
    for stage, table in (("audio", CLIPS), ("texts", TEXTS)):
        made = made_of(table, context.config)
        for mark in marks_of(context.folder, stage):
            part = context.folder.table(table, part=mark.shard)
            if storage.exists(part) and storage.footer(part)[1].get(MADE) == made:
                target = storage.join(context.all_earlier, _leaf(table), f"{mark.shard}-{mark.digest}.parquet")
                if stage == "audio":
                    _link(context.folder.table("recordings", part=mark.shard), _beside(target))
                _link(part, target)


def shares_of(context: RebuildContext, table: str, key: str, shards: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each shard the names of files that have something of its addresses (`key`: their column)."""
    shard_of = {one: number for number, some in enumerate(shards) for one in some}
    made = made_of(table, context.config)
    found: list[list[str]] = [[] for _ in shards]
    parts = storage.list_files(storage.join(context.all_earlier, _leaf(table)), ".parquet")
    for uri in (*parts, *_pieces(context, table)):
        if storage.footer(uri)[1].get(MADE) == made:
            there = pc.unique(storage.read_table(uri, [key]).column(key)).to_pylist()
            for number in sorted({shard_of[one] for one in there if one in shard_of}):
                found[number].append(context.folder.relative(uri))
    return found


def take_clips(
    names: Collection[str], spans: Spans, context: RebuildContext, pieces: str, is_as_told: Callable[[str, int], bool]
) -> set[str]:
    """Make pieces of the recordings of which earlier files have all spans, and return their addresses.

    A recording that could not be had is taken for one still, unless the reason may pass, or the configuration decides
    it and is another by now. `is_as_told`: whether a recording of so many samples is as long as the metadata says now.
    """
    taken = set[str]()
    for uri in (storage.join(context.root, name) for name in names):
        if not storage.exists(uri):
            continue
        abouts = {url: about for url, about in _abouts(uri).items() if url in spans and url not in taken}
        is_other = storage.footer(uri)[1].get(TERMS) != terms_of(context.config)
        columns = storage.read_table(uri, ["url", "start", "end"]).to_pydict()
        there: dict[str, set[tuple[int, int]]] = {}
        for url, start, end in zip(columns["url"], columns["start"], columns["end"], strict=True):
            there.setdefault(url, set()).add((start, end))
        usable = {}
        for url, about in abouts.items():
            reason, samples = about["recording"]["drop_reason"], about["recording"]["num_samples"]
            if reason in PASSING or (reason in OF_TERMS and is_other):
                continue
            if reason in (None, "duration_differs") and is_as_told(url, samples) != (reason is None):
                continue
            if reason is not None or _places(spans[url]).keys() <= there.get(url, set()):
                usable[url] = about
        take_apart(uri, {url: spans[url] for url in usable}, usable, pieces)
        taken |= usable.keys()
    return taken


def by_url(wanted: pa.Table) -> dict[str, pa.Table]:
    """The spans of each recording, in the order of the table, which is that of their addresses."""
    urls = wanted.column("url").to_pylist()
    begins = [number for number, url in enumerate(urls) if number == 0 or urls[number - 1] != url]
    return {
        urls[begin]: wanted.slice(begin, end - begin)
        for begin, end in zip(begins, [*begins[1:], len(urls)], strict=True)
    }


def take_apart(uri: str, spans: Spans, abouts: Mapping[str, dict[str, Any]], pieces: str) -> None:
    """Make a piece of each of these recordings, of which a file has the clips, with their places as they are now."""
    urls = sorted(abouts)
    for first in range(0, len(urls), _OPEN):
        places = {url: _places(spans[url]) for url in urls[first : first + _OPEN]}
        lost = {url for url in places if abouts[url]["recording"]["drop_reason"] is not None}
        with ExitStack() as stack:
            writers = {url: _writer(url, abouts[url], pieces, uri, stack) for url in places}
            for batch in storage.read_batches(uri, rows=_ROWS):
                table = pa.Table.from_batches([batch]).select(CLIPS_SCHEMA.names)
                keys = zip(*(table.column(name).to_pylist() for name in ("url", "start", "end")), strict=True)
                for row, (url, start, end) in enumerate(keys):
                    if url not in places:
                        continue
                    of_url = places[url]
                    if url in lost:  # one row says what there is to be said of all
                        wanted, places[url] = [(*span, place) for span, some in of_url.items() for place in some], {}
                    else:
                        wanted = [(start, end, place) for place in of_url.pop((start, end), ())]
                    if wanted:
                        writers[url].write_table(_placed(table.slice(row, 1), wanted, writers[url].schema))


def take_texts(names: Collection[str], context: RebuildContext) -> dict[str, dict[str, Any]]:
    """Rows with texts that were found, or surely are not there, by their keys."""
    found: dict[str, dict[str, Any]] = {}
    for uri in (storage.join(context.root, name) for name in names):
        if storage.exists(uri):
            rows = storage.read_table(uri, ["key", "text", "problem", "detail"]).to_pylist()
            is_other = storage.footer(uri)[1].get(TERMS) != terms_of(context.config)
            found |= {row["key"]: row for row in rows if row["problem"] is None}
            if not is_other:
                found |= {row["key"]: row for row in rows if row["problem"] not in PASSING}
    return found


def _placed(clip: pa.Table, wanted: Sequence[tuple[int, int, tuple[int, int, int]]], schema: pa.Schema) -> pa.Table:
    """A clip for each of these spans and places."""
    columns = {name: clip.column(name).take([0] * len(wanted)) for name in clip.column_names}
    columns |= {"start": pa.array([start for start, *_ in wanted]), "end": pa.array([end for _, end, _ in wanted])}
    for at, name in enumerate(("home", "row", "side")):
        columns[name] = pa.array([place[at] for *_, place in wanted])
    return pa.table(columns).cast(CLIPS_SCHEMA).replace_schema_metadata(schema.metadata)


def _places(spans: pa.Table) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    """Home, row and side of each span of a recording."""
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    columns = (spans.column(name).to_pylist() for name in ("start", "end", "home", "row", "side"))
    for start, end, *place in zip(*columns, strict=True):
        found.setdefault((start, end), []).append((place[0], place[1], place[2]))
    return found


def _abouts(uri: str) -> dict[str, dict[str, Any]]:
    """What is known of the recordings of a part or a piece, by their addresses."""
    with storage.open_read(uri) as file:
        about = (pq.read_schema(file).metadata or {}).get(ABOUT)
    if about is not None:
        told = json.loads(about)
        return {told["recording"]["uri"]: told}
    rows = storage.read_table(_beside(uri)).to_pylist()
    return {row["uri"]: about_of(row) for row in rows}


def about_of(recording: dict[str, Any]) -> dict[str, Any]:
    """What a piece says of its recording, which was not asked for now."""
    return {"recording": recording, "traffic": asdict(Traffic())}


def _writer(url: str, about: dict[str, Any], pieces: str, uri: str, stack: ExitStack) -> pq.ParquetWriter:
    told = {ABOUT: json.dumps({**about, **about_of(about["recording"])}).encode()}
    settings = storage.footer(uri)[1]
    told |= {key.encode(): settings.get(key, "").encode() for key in (MADE, TERMS)}
    schema = CLIPS_SCHEMA.with_metadata(told)
    path = stack.enter_context(storage.local_target(storage.join(pieces, f"{name_of(url)}.parquet")))
    return stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True))


def _pieces(context: RebuildContext, table: str) -> Iterator[str]:
    """Files of shards that are not done."""
    for uri in storage.list_files(context.all_pieces, ".parquet"):
        is_text = context.folder.relative(uri).rsplit("/", 2)[-2].startswith("texts-")
        if is_text == (table == TEXTS):
            yield uri


def _leaf(table: str) -> str:
    return table.rsplit("/", 1)[-1]


def _beside(uri: str) -> str:
    """Where what is known of the recordings of a part that was set aside is."""
    folder, _, name = uri.rsplit("/", 2)
    return f"{folder}/recordings/{name}"


def _link(uri: str, target: str) -> None:
    """Have a file under another name too, which is not written over when that is."""
    if storage.exists(target):
        return
    with storage.local_target(target) as copy, storage.local_copy(uri) as path:
        try:
            os.link(path, copy)
        except OSError:  # the disk knows no links
            shutil.copyfile(path, copy)
