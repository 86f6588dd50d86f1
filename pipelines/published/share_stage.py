"""How the work of a rebuilding is shared out: recordings and WET files among shards, pairs among parts of the corpus.

A recording belongs to one shard, and the recordings of a host to as few as the size of shards allows. Shards of large
hosts take turns, so that workers ask different ones. What a shard wants is a table of its own.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from seamlessalign import storage
from seamlessalign.languages import Side, parse_side
from seamlessalign.pipelines.context import Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.published.earlier import set_aside, shares_of
from seamlessalign.pipelines.published.hosts import host_of
from seamlessalign.pipelines.published.rebuild_tasks import (
    CLIPS,
    DIGEST,
    LINES,
    SHARES,
    SIDES,
    SOUGHT,
    SOUGHT_SCHEMA,
    TEXTS,
    WANTED,
    WANTED_SCHEMA,
    RebuildContext,
    RebuildTask,
)
from seamlessalign.typed_config import digest as digest_of

STAGE = "share"
_ROWS_AT_ONCE = 4_000_000  # sides in memory while their tables are written
_MOST_SHARDS = 2000  # of recordings, of WET files, and of pairs each: each part of one is read by those of another


@dataclass(frozen=True)
class Shares:
    """What there is to do."""

    homes: list[RebuildTask]  # of the corpus
    audio: list[tuple[int, str]]  # of each shard: spans, digest
    texts: list[tuple[int, str]]  # of each shard: sentences, digest
    earlier_audio: list[list[str]]  # of each shard: files of earlier plans with something of its addresses
    earlier_texts: list[list[str]]


def process(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    """Share everything out, and return the completion mark. Rows are pairs."""
    watch, tally = Stopwatch(), Tally()
    with watch.step("share"):
        homes = _homes(context, tally)
        urls, files = _count(homes, context)
        config = context.config
        audio = _shards_of_hosts(urls, _size(len(urls), config.audio.urls_per_shard))
        texts = _shards_in_order(files, _size(len(files), config.files_per_shard))
        told: dict[str, list[list[Any]]] = {}
        outputs = []
        set_aside(context)
        earlier = [shares_of(context, CLIPS, "url", audio), shares_of(context, TEXTS, "cc_warc", texts)]
        for table, schema, shards, key, counts in (
            (WANTED, WANTED_SCHEMA, audio, "url", urls),
            (SOUGHT, SOUGHT_SCHEMA, texts, "cc_warc", files),
        ):
            told[table] = []
            for number, rows in _tables(homes, context, schema, shards, key, counts):
                uri = context.part(table, number)
                storage.write_table(uri, rows, metadata={DIGEST: digest})
                outputs.append(context.folder.relative(uri))
                told[table].append([len(rows), _content(rows)])
    uri = storage.join(context.folder.table(SHARES), "shares.json")
    lists = [[home.number, home.source, home.lines, home.first, home.last] for home in homes]
    about = {"homes": lists, "audio": told[WANTED], "texts": told[SOUGHT], "earlier": earlier}
    storage.write_bytes_atomic(uri, json.dumps(about).encode())
    outputs.append(context.folder.relative(uri))
    advance(STAGE, 1)
    line = tally.line(STAGE, task.name, digest=digest, seconds=watch.seconds)
    return Mark(STAGE, task.name, digest, outputs, [line])


def read_shares(context: RebuildContext) -> Shares:
    """What was shared out."""
    about = json.loads(storage.read_bytes(storage.join(context.folder.table(SHARES), "shares.json")))
    homes = [RebuildTask(number, *rest) for number, *rest in about["homes"]]
    audio, texts = ([tuple(one) for one in about[name]] for name in ("audio", "texts"))
    return Shares(homes, audio, texts, *about["earlier"])


def lines_of(home: RebuildTask, context: RebuildContext) -> pa.Table:
    """The pairs of a part of the corpus, as the metadata has them."""
    return storage.read_rows(context.part(LINES, home.lines, f"direction={home.source}"), home.first, home.last)


def sides_of_direction(direction: str) -> tuple[Side, Side]:
    """The sides of a direction by its name in the corpus, which may be of text alone."""
    src, tgt = (parse_side(code, direction) for code in direction.split("-"))
    return src, tgt


def _size(count: int, wanted: int) -> int:
    return max(wanted, -(-count // _MOST_SHARDS))


def _homes(context: RebuildContext, tally: Tally) -> list[RebuildTask]:
    """The parts of the corpus, in the order of the metadata: a direction, a table of its pairs, and rows of that."""
    config, homes = context.config, list[RebuildTask]()
    counts = []
    for uri in storage.list_files(context.folder.table(LINES), ".parquet"):
        direction = uri.rsplit("/", 2)[-2].removeprefix("direction=")
        found = storage.num_rows(uri)
        rows = min(found, config.limit or found)
        tally.keep(rows)
        tally.drop("beyond_limit", found - rows)
        counts.append((direction, int(uri.rsplit("part-", 1)[-1].removesuffix(".parquet")), rows))
    size = _size(sum(rows for *_, rows in counts), config.pairs_per_shard)
    for direction, number, rows in counts:
        for first in range(0, rows, size):
            homes.append(RebuildTask(len(homes), direction, number, first, min(first + size, rows)))
    return homes


def _count(homes: Sequence[RebuildTask], context: RebuildContext) -> tuple[Counter[str], Counter[str]]:
    """How many spans there are of each recording, and sentences of each WET file."""
    urls, files = Counter[str](), Counter[str]()
    for home in homes:
        rows = lines_of(home, context)
        for side, which in zip(sides_of_direction(home.source), SIDES, strict=True):
            to, name = (urls, "url") if side.is_audio else (files, "cc_warc")
            for one in pc.value_counts(rows.column(f"{which}_{name}")).to_pylist():
                to[one["values"] or ""] += one["counts"]
    return urls, files


def _shards_of_hosts(urls: Mapping[str, int], size: int) -> list[list[str]]:
    """Addresses in shards of so many at most, those of a host together."""
    hosts: dict[str, list[str]] = {}
    for url in sorted(urls):
        hosts.setdefault(host_of(url), []).append(url)
    large: list[tuple[int, str, list[str]]] = []
    small: list[list[str]] = []
    for host, theirs in sorted(hosts.items(), key=lambda one: (-len(one[1]), one[0])):
        if len(theirs) > size:
            count = -(-len(theirs) // size)
            bounds = [len(theirs) * number // count for number in range(count + 1)]
            large += [(turn, host, theirs[begin:end]) for turn, (begin, end) in enumerate(pairwise(bounds))]
        elif small and len(small[-1]) + len(theirs) <= size:
            small[-1] += theirs
        else:
            small.append(list(theirs))
    return [*(some for _, _, some in sorted(large, key=lambda one: one[:2])), *small]


def _shards_in_order(files: Mapping[str, int], size: int) -> list[list[str]]:
    names = sorted(files)
    return [names[begin : begin + size] for begin in range(0, len(names), size)]


def _tables(
    homes: Sequence[RebuildTask],
    context: RebuildContext,
    schema: pa.Schema,
    shards: Sequence[Sequence[str]],
    key: str,
    counts: Mapping[str, int],
) -> Iterator[tuple[int, pa.Table]]:
    """The table of each shard, sorted by key and place; as many at a time as memory allows."""
    shard_of = {one: number for number, some in enumerate(shards) for one in some}
    sizes = [sum(counts[one] for one in some) for some in shards]
    first = 0
    while first < len(shards):
        last, rows = first + 1, sizes[first]
        while last < len(shards) and rows + sizes[last] <= _ROWS_AT_ONCE:
            rows += sizes[last]
            last += 1
        found = [part for home in homes for part in _sides(home, context, schema, key, shard_of, first, last)]
        table = pa.concat_tables(found).sort_by([(name, "ascending") for name in ("shard", key, "home", "row", "side")])
        ends = np.searchsorted(table.column("shard").to_numpy(), np.arange(first, last), side="right")
        begin = 0
        for number, end in zip(range(first, last), ends.tolist(), strict=True):
            yield number, table.slice(begin, end - begin).select(schema.names).combine_chunks()
            begin = end
        first = last


def _sides(
    home: RebuildTask,
    context: RebuildContext,
    schema: pa.Schema,
    key: str,
    shard_of: Mapping[str, int],
    first: int,
    last: int,
) -> Iterator[pa.Table]:
    """The sides of one part of the corpus that belong to shards [first, last)."""
    wants_audio = key == "url"
    sides = list(zip(sides_of_direction(home.source), SIDES, strict=True))
    if not any(side.is_audio == wants_audio for side, _ in sides):
        return
    rows = lines_of(home, context)
    for number, (side, which) in enumerate(sides):
        if side.is_audio != wants_audio:
            continue
        of_side = rows.column(f"{which}_{key}").to_pylist()
        shard = np.array([shard_of[one or ""] for one in of_side], np.int32)
        places = np.flatnonzero((shard >= first) & (shard < last))
        columns: dict[str, Any] = {
            name: rows.column(f"{which}_{name}").take(places)
            for name in schema.names
            if name not in ("home", "row", "side", "lang")
        }
        if "lang" in schema.names:
            columns["lang"] = pa.array([side.lang] * len(places), pa.string())
            columns[key] = pc.fill_null(columns[key], "")
            columns["cc_sha"] = pc.fill_null(columns["cc_sha"], "")
        columns["home"] = np.full(len(places), home.number, np.int32)
        columns["row"] = places.astype(np.int32)
        columns["side"] = np.full(len(places), number, np.int8)
        table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
        yield table.append_column("shard", pa.array(shard[places]))


def _content(rows: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return digest_of(xxhash.xxh3_128_hexdigest(sink.getvalue()))
