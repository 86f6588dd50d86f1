"""Trying again what could not be had: shards with such losses are done anew, and fetch nothing that they have."""

import json
from collections.abc import Callable, Set

from seamlessalign import storage
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.published.earlier import about_of, by_url, take_apart
from seamlessalign.pipelines.published.rebuild_tasks import CLIPS, WANTED, RebuildContext

_ROUNDS = ("state", "published", "rounds.json")


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
    kept = {row["uri"]: about_of(row) for row in recordings if row["drop_reason"] not in reasons}
    spans = by_url(storage.read_table(context.part(WANTED, number)))
    kept = {url: about for url, about in kept.items() if url in spans}
    take_apart(context.part(CLIPS, number), {url: spans[url] for url in kept}, kept, context.pieces(name, digest))
