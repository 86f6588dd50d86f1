"""Recordings of published metadata: each fetched once, checked, and all its spans cut out of it at once.

What was cut of each recording is kept until its shard is done, so that a shard that is done again after its process was
killed asks for nothing that it had. Recordings come ahead of being cut, a few at a time.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from seamlessalign import local_files, storage
from seamlessalign.audio import Decoding, Samples, cut_whole, encode
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.context import Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally, read_marks, write_mark
from seamlessalign.pipelines.published.downloads import Downloads, Traffic, name_of
from seamlessalign.pipelines.published.earlier import by_url, take_clips
from seamlessalign.pipelines.published.hosts import Hosts, host_of, shared_folder
from seamlessalign.pipelines.published.kept_recordings import KeptRecordings
from seamlessalign.pipelines.published.own_sources import bring, is_on_the_web
from seamlessalign.pipelines.published.rebuild_tasks import (
    ABOUT,
    CLIPS,
    CLIPS_SCHEMA,
    DIGEST,
    WANTED,
    RebuildContext,
    RebuildTask,
    settings_of,
)
from seamlessalign.pipelines.published.robots import Robots
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE, Recording, recording_id
from seamlessalign.secrets import redact_uri
from seamlessalign.sources import place_of

STAGE = "audio"
CONTENT = "seamlessalign.content"  # key of the metadata of clips: digest of which there are, and of which not
_ROW_GROUP = 64


@dataclass(frozen=True)
class _Fetched:
    """A recording that is here, or why it is not."""

    url: str
    path: Path | None
    traffic: Traffic
    problem: UnreadableError | None = None


def process(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    """Do one shard of recordings, write its tables, and return its completion mark.

    Where a task that was given up for lost is still at it, this waits, and takes what that has done.
    """
    with local_files.locked(shared_folder(context.root) / f"{task.name}.shard"):
        done = read_marks(context.folder, STAGE, task.name).get(task.name)
        if done is not None and done.digest == digest:
            return done
        mark = _done(task, digest, context)
        write_mark(context.folder, mark)  # now, so that whoever waits finds it
        storage.remove(context.pieces(task.name, digest))
        return mark


def _done(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    watch, folder = Stopwatch(), context.folder
    wanted = storage.read_table(context.part(WANTED, task.number))
    spans = by_url(wanted)
    pieces = context.pieces(task.name, digest)
    there = {uri.rsplit("/", 1)[-1] for uri in storage.list_files(pieces, ".parquet")}
    missing = [url for url in _in_turn(list(spans)) if f"{name_of(url)}.parquet" not in there]
    if missing and task.earlier:
        left = {url: spans[url] for url in missing}
        tolerance = context.config.audio.duration_tolerance_seconds
        is_as_told: Callable[[str, int], bool] = lambda url, samples: _lasts(left[url], samples, tolerance)  # noqa: E731
        taken = take_clips(task.earlier, left, context, pieces, is_as_told)
        missing = [url for url in missing if url not in taken]
    for url in spans.keys() - set(missing):
        advance(STAGE, spans[url].num_rows)
    downloads, kept = downloads_of(context), KeptRecordings(context)
    settings = settings_of(CLIPS, context.config)

    def here(url: str) -> Path | None:
        """The recording of an address without asking the web: one that was kept, or that never was there."""
        copy = downloads.folder / f"{name_of(url)}.whole"
        return kept.find(url, copy) if is_on_the_web(url) else bring(url, context.config.audio.root, copy)

    for fetched in _ahead(missing, downloads, context.config.audio.downloads, here):
        piece = _cut(fetched, spans[fetched.url], context, kept, watch)
        uri = storage.join(pieces, f"{name_of(fetched.url)}.parquet")
        storage.write_table(uri, piece, metadata=settings, row_group_size=_ROW_GROUP)
        downloads.remove(fetched.url)
        advance(STAGE, spans[fetched.url].num_rows)
    with watch.step("join"):
        uris = [storage.join(pieces, f"{name_of(url)}.parquet") for url in spans]
        recordings = [json.loads(_about(uri)) for uri in uris]
        clips, files, fetched_files = Tally(), Tally(), [Recording(**about["recording"]) for about in recordings]
        content = xxhash.xxh3_64()
        for recording in fetched_files:
            if recording.drop_reason is None:
                files.keep(samples=recording.num_samples)
            else:
                files.drop(recording.drop_reason, samples=recording.num_samples)
        keys = _keys(uris, clips, content)
        uri = context.part(CLIPS, task.number)
        metadata = {DIGEST: digest, CONTENT: content.hexdigest(), **settings}
        written = storage.write_tables(uri, _joined(uris, keys), CLIPS_SCHEMA, metadata, _ROW_GROUP)
    table = pa.Table.from_pylist([asdict(recording) for recording in fetched_files], schema=RECORDINGS)
    told = folder.table("recordings", part=task.name)
    written += storage.write_table(told, table, metadata={DIGEST: digest})
    lines = [
        files.line(
            "recordings", task.name, digest=digest, seconds=watch.seconds,
            bytes_read=sum(about["traffic"]["bytes"] for about in recordings),
        ),
        clips.line("clips", task.name, digest=digest, bytes_written=written),
    ]  # fmt: skip
    return Mark(STAGE, task.name, digest, [folder.relative(uri), folder.relative(told)], lines)


def downloads_of(context: RebuildContext) -> Downloads:
    """Who fetches, as the configuration has it."""
    config, shared = context.config.fetch, shared_folder(context.root)
    hosts = Hosts(shared, config.requests_per_second, config.connections, config.longest_hold_seconds)
    folder = storage.local_path(context.downloads) if storage.is_local(context.root) else shared / "downloads"
    robots = Robots(shared, hosts) if config.robots else None
    return Downloads(folder, hosts, robots, config.trying())


def _in_turn(urls: list[str]) -> list[str]:
    """Addresses so that those of one host are far from each other: others come while it may not be asked."""
    seen: dict[str, int] = {}
    turns = []
    for url in urls:
        host = host_of(url)
        seen[host] = seen.get(host, 0) + 1
        turns.append((seen[host], host, url))
    return [url for _, _, url in sorted(turns)]


def _ahead(urls: list[str], downloads: Downloads, most: int, kept: Callable[[str], Path | None]) -> Iterator[_Fetched]:
    """Recordings as they come, of which so many are here or on their way at a time."""
    stopped = threading.Event()

    def fetch(url: str) -> _Fetched:
        traffic = Traffic()
        if stopped.is_set():
            return _Fetched(url, None, traffic)
        try:
            return _Fetched(url, kept(url) or downloads.fetch(url, traffic), traffic)
        except UnreadableError as error:
            return _Fetched(url, None, traffic, error)

    left = deque(urls)
    with ThreadPoolExecutor(most, thread_name_prefix="download") as pool:
        coming: set[Future[_Fetched]] = set()
        try:
            while left or coming:
                while left and len(coming) < most:
                    coming.add(pool.submit(fetch, left.popleft()))
                done = wait(coming, return_when=FIRST_COMPLETED).done.pop()
                coming.remove(done)
                yield done.result()
        finally:
            stopped.set()


def _cut(
    fetched: _Fetched, spans: pa.Table, context: RebuildContext, kept: KeptRecordings, watch: Stopwatch
) -> pa.Table:
    """The clips of one recording, in the order of their places, with what is to be told of it in the schema."""
    config, url = context.config.audio, fetched.url
    starts, ends = spans.column("start").to_pylist(), spans.column("end").to_pylist()
    problem, sha256 = fetched.problem, ""
    count = len(starts)
    problems: list[tuple[str, str] | None] = [None] * count
    audio: list[bytes | None] = [None] * count
    samples, rate, channels = 0, 0, 0

    def take(number: int, piece: Samples) -> None:
        audio[number] = encode(piece, context.config.corpus.audio_format)

    if fetched.path is not None:
        try:
            with watch.step("decode and encode"):
                sha256 = storage.sha256_of(fetched.path)
                channel = place_of(url).channel
                decoding = Decoding(channel, config.max_recording_hours * 3600, config.decode_seconds, config.ffmpeg)
                cut = cut_whole(fetched.path, np.array([starts, ends], np.int64).T, take, decoding)
            samples, rate, channels = cut.num_samples, cut.original_sample_rate, cut.channels
            if not _lasts(spans, samples, config.duration_tolerance_seconds):
                told = next(one for one in spans.column("duration").to_pylist() if one is not None)
                detail = f"{url!r} lasts {samples / SAMPLE_RATE:.3f} s; the metadata says {told:.3f} s: it was changed"
                raise UnreadableError("duration_differs", detail)
            for number, piece in enumerate(audio):
                if piece is None:
                    told = f"[{starts[number]}, {ends[number]}) ends behind {url!r} of {samples} samples"
                    problems[number] = ("span_outside", told)
            if is_on_the_web(url):
                kept.keep(url, fetched.path, sha256)
        except UnreadableError as error:
            detail = error.detail.replace(repr(str(fetched.path)), repr(url))
            problem = UnreadableError(error.reason, detail)
    if problem is not None:
        problems = [(problem.reason, problem.detail)] * count
        audio = [None] * count
    identity = recording_id(sha256, place_of(url).channel) if sha256 else f"none:{name_of(url)[:16]}"
    shown = redact_uri(url) if problem is not None and problem.reason == "secret_in_address" else url
    recording = Recording(
        identity, shown, sha256, samples, rate, channels, None, None, 0, None, host_of(url).partition("://")[2],
        problem.reason if problem is not None else None,
    )  # fmt: skip
    table = pa.Table.from_pydict(
        {
            **{name: spans.column(name) for name in ("home", "row", "side")},
            "recording_id": [identity if one is not None else None for one in audio],
            "audio": audio,
            "problem": [one and one[0] for one in problems],
            "detail": [one and one[1] for one in problems],
            **{name: spans.column(name) for name in ("url", "start", "end")},
        },
        schema=CLIPS_SCHEMA,
    )
    about = {"recording": asdict(recording), "traffic": asdict(fetched.traffic)}
    return table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})


def _lasts(spans: pa.Table, samples: int, tolerance: float) -> bool:
    """Whether the metadata says so, where it says something: the lines of a recording may differ in rounding."""
    known = [one for one in spans.column("duration").to_pylist() if one is not None]
    return not known or min(abs(one - samples / SAMPLE_RATE) for one in known) <= tolerance


# --- pieces


def _about(uri: str) -> bytes:
    with storage.open_read(uri) as file:
        return bytes((pq.read_schema(file).metadata or {})[ABOUT])


def _keys(uris: list[str], tally: Tally, content: Any) -> list[tuple[int, int, int, int, int]]:
    """Home, row and side of every clip with its piece and place in that, sorted; they are counted, and digested."""
    keys = []
    for piece, uri in enumerate(uris):
        table = storage.read_table(uri, ["home", "row", "side", "recording_id", "problem"])
        columns = (table.column(name).to_pylist() for name in table.column_names)
        for place, (home, row, side, recording, problem) in enumerate(zip(*columns, strict=True)):
            keys.append((home, row, side, piece, place))
            content.update(f"{home} {row} {side} {recording} {problem}\n".encode())
            tally.keep() if problem is None else tally.drop(problem)
    return sorted(keys)


def _joined(uris: list[str], keys: list[tuple[int, int, int, int, int]]) -> Iterator[pa.Table]:
    """The clips of all pieces in the order of their homes, those of one home at a time."""
    begin = 0
    while begin < len(keys):
        end = begin
        while end < len(keys) and keys[end][0] == keys[begin][0] and end - begin < _ROW_GROUP * 8:
            end += 1
        some = keys[begin:end]
        rows: list[pa.Table] = []
        places: dict[int, list[int]] = {}
        for _, _, _, piece, place in some:
            places.setdefault(piece, []).append(place)
        for piece, wanted in sorted(places.items()):
            first, last = min(wanted), max(wanted) + 1
            rows.append(storage.read_rows(uris[piece], first, last).take([place - first for place in wanted]))
        table = pa.concat_tables([one.replace_schema_metadata(None) for one in rows])
        yield table.sort_by([("home", "ascending"), ("row", "ascending"), ("side", "ascending")])
        begin = end
