"""The recordings that a process has in hand before their shards are done, fetched while others are embedded.

One model for all threads, and one core for each: a thread takes a recording through all its steps, and only so many
are in the hands of the models at a time. What a shard gets is the same as without, in the order of its files.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from seamlessalign import sources, storage, web_access
from seamlessalign.audio import SPOOL_SECONDS
from seamlessalign.pipelines.context import Context, Stopwatch, use_threads
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.look_ahead import LookAhead, Turn
from seamlessalign.pipelines.speech_recordings import Recordings, SpeechModels, SpeechOutput
from seamlessalign.pipelines.stretch_rows import StretchRows
from seamlessalign.rows import SAMPLE_RATE

_REMOTE = 4  # recordings that a process fetches at a time, unless the configuration says how many
_MOST_DECODED = 4 * SAMPLE_RATE * int(SPOOL_SECONDS)  # bytes of a recording in memory; a longer one lies in a file


@dataclass(frozen=True)
class Lanes:
    """How many recordings a process has in hand."""

    embedding: int  # in the hands of the models
    ahead: int  # besides: being fetched, decoded, searched for speech, or waiting for the models
    most_bytes: int  # of samples of all of them


def lanes_of(context: Context, shards: Sequence[Shard], processes: int) -> Lanes | None:
    """How a process is to look ahead that does its share of some shards; None where it gains nothing."""
    resources, threads = context.config.resources, context.threads
    files = [file for shard in shards for file in shard.files]
    share = -(-len(files) // processes)
    embedding = 1
    if context.device == "cpu" and 2 * share > threads:  # of fewer recordings each is embedded by all threads instead
        embedding = min(threads, share)
    if resources.decode_ahead != "auto":
        ahead = resources.decode_ahead
    else:
        on_gpu = threads if context.device != "cpu" else 0
        ahead = max(on_gpu, _REMOTE if any(_is_remote(file.uri) for file in files) else 0)
    ahead = min(ahead, share - embedding)
    if embedding + ahead < 2:
        return None
    return Lanes(embedding, ahead, int(resources.decoded_memory_gb * 2**30))


def _is_remote(uri: str) -> bool:
    return not storage.is_local(sources.place_of(uri).file)


@dataclass(frozen=True)
class _Given:
    """A shard that is being done: its jobs, one for each file, and what they logged."""

    models: SpeechModels
    jobs: list[Any]
    said: list[logging.LogRecord]


class SpeechAhead:
    """Does recordings of shards that are given to it, until these ask for what they gave."""

    def __init__(self, lanes: Lanes) -> None:
        """Threads begin with the first shard."""
        expected = min(_MOST_DECODED, lanes.most_bytes)
        self._ahead = LookAhead(lanes.embedding, lanes.ahead, lanes.most_bytes, expected)
        self._shards: dict[tuple[str, str], _Given] = {}

    def give(self, shard: Shard, digest: str, context: Context) -> None:
        """Add a shard that will be done in this process."""
        context = replace(context, threads=1)
        models, stretches = SpeechModels(context), StretchRows(context.folder, shard.name, digest)
        said: list[logging.LogRecord] = []

        def work_on(file: InputFile) -> Any:
            def work(turn: Turn) -> SpeechOutput:
                use_threads(1)
                output = SpeechOutput(watch=Stopwatch(of_thread=True))
                with _kept(said):
                    return Recordings(context, models, turn, output, stretches).do(file)

            return work

        jobs = self._ahead.give([work_on(file) for file in shard.files])
        self._shards[shard.name, digest] = _Given(models, jobs, said)

    def output(self, shard: Shard, digest: str) -> tuple[SpeechModels, SpeechOutput] | None:
        """What the recordings of a shard gave, as soon as all are done; None for a shard that was not given.

        What was logged meanwhile goes into the log of the task that asks. Raises what stopped a recording.
        """
        given = self._shards.pop((shard.name, digest), None)
        if given is None:
            return None
        output = SpeechOutput(watch=Stopwatch(of_thread=True))
        try:
            for job in given.jobs:
                output.add(self._ahead.result(job))
        finally:
            _pass_on(given.said)
        return given.models, output

    def stop(self) -> None:
        """End the threads; shards that were not asked for are forgotten."""
        self._ahead.stop()
        self._shards.clear()


_at_work: SpeechAhead | None = None
_lock = threading.Lock()


def begin(shards: Sequence[tuple[Shard, str]], context: Context, lanes: Lanes) -> None:
    """Have this process look ahead to shards, each with its digest, behind those that it knows of."""
    global _at_work
    web_access.use(context.config.fetch.access())
    with _lock:
        if _at_work is None:
            _at_work = SpeechAhead(lanes)
        for shard, digest in shards:
            _at_work.give(shard, digest, context)


def end() -> None:
    """Have this process look ahead no more."""
    global _at_work
    with _lock:
        at_work, _at_work = _at_work, None
    if at_work is not None:
        at_work.stop()


def taken(shard: Shard, digest: str) -> tuple[SpeechModels, SpeechOutput] | None:
    """What the recordings of a shard gave that this process has looked ahead to; None for any other."""
    return _at_work.output(shard, digest) if _at_work is not None else None


class _Keeper(logging.Handler):
    """Keeps what one thread logs."""

    def __init__(self, said: list[logging.LogRecord]) -> None:
        super().__init__(logging.INFO)
        self._said, self._thread = said, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of this thread."""
        if record.thread == self._thread:
            self._said.append(record)


@contextmanager
def _kept(said: list[logging.LogRecord]) -> Iterator[None]:
    """Keep what this thread logs inside."""
    keeper, logger = _Keeper(said), logging.getLogger("seamlessalign")
    logger.addHandler(keeper)
    try:
        yield
    finally:
        logger.removeHandler(keeper)


def _pass_on(said: list[logging.LogRecord]) -> None:
    """Tell the log of this thread's task, and nobody who has heard it already, what other threads logged."""
    for record in said:
        record.thread = threading.get_ident()
        for handler in list(logging.getLogger("seamlessalign").handlers):
            handler.handle(record)
