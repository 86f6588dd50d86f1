"""The log of every task: one file of JSON lines for each shard of each stage, kept whether it succeeds or not.

A line is `{"time", "event", …}`; events are `begun` (where, by which process), `log` (what the program said meanwhile),
`done` (how long it took), `stopped` (by Ctrl-C) and `failed` (the error, its kind and its trace). A shard that is done
again adds to its file.
"""

import json
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, ModelError, SeamlessAlignError, StorageError
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.retries import BRIEF, patience
from seamlessalign.secrets import redact

_TRACE_LINES = 60  # of an error's trace, from its end
_KINDS = {kind.__name__: kind for kind in (ConfigError, InputError, ModelError, StorageError, SeamlessAlignError)}


class ShardFailure(SeamlessAlignError):
    """A shard stopped on an error that is not the user's: the trace is kept for `--debug`."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace

    def __reduce__(self) -> tuple[type["ShardFailure"], tuple[str, str]]:
        return (ShardFailure, (str(self), self.trace))


@contextmanager
def task_log(context: JobContext, stage: str, shard: str, digest: str) -> Iterator[int]:
    """Log what happens inside as one task, with the error that ends it, which goes on.

    Gives how often this shard has failed before.
    """
    log, place = _TaskLog(context.folder.log(stage, shard)), {"run": context.run_id, **_place()}
    failures = sum(event["event"] == "failed" for event in events_of(log.before()))
    log.say("begun", stage=stage, shard=shard, digest=digest, **place)
    log.put()
    begun = time.monotonic()
    try:
        with log.listening():
            yield failures
    except KeyboardInterrupt:
        log.say("stopped", seconds=round(time.monotonic() - begun, 3))
        raise
    except BaseException as error:
        lines = traceback.format_exception(error)
        log.say(
            "failed",
            seconds=round(time.monotonic() - begun, 3),
            error=one_line(error),
            kind=error.__class__.__name__,
            exit_status=error.exit_status if isinstance(error, SeamlessAlignError) else 1,
            trace="".join(lines).splitlines()[-_TRACE_LINES:],
            **place,
        )
        raise
    else:
        log.say("done", seconds=round(time.monotonic() - begun, 3))
    finally:
        log.put()


def read_log(folder: RunFolder, stage: str, shard: str) -> list[dict[str, Any]]:
    """All events of a shard, oldest first; lines that a dying machine left half written are passed over."""
    try:
        data = storage.read_bytes(folder.log(stage, shard))
    except (OSError, SeamlessAlignError):
        return []
    return list(events_of(data))


def last_failure(folder: RunFolder, stage: str, shard: str, **about: str) -> dict[str, Any] | None:
    """The event `failed` that a shard's log ends with; None where it does not, or is of another `run` or `job`."""
    events = read_log(folder, stage, shard)
    if not events or events[-1]["event"] != "failed":
        return None
    return events[-1] if all(events[-1].get(name) == value for name, value in about.items()) else None


def error_of(failure: dict[str, Any], folder: RunFolder, stage: str, shard: str) -> SeamlessAlignError:
    """The error that an event `failed` tells of, as it was raised where that was on purpose."""
    message, kind = str(failure.get("error")), _KINDS.get(str(failure.get("kind")))
    if kind is not None:
        return kind(message)
    return shard_failure(folder, stage, [shard], message, "\n".join(map(str, failure.get("trace", []))))


def shard_failure(folder: RunFolder, stage: str, shards: Sequence[str], cause: str, trace: str) -> ShardFailure:
    """An error that was not raised on purpose, naming the log of the first of these shards, one of which it stopped."""
    names = shards[0] if len(shards) == 1 else f"{shards[0]} to {shards[-1]}"
    log = folder.log(stage, shards[0]) if len(shards) == 1 else folder.logs(stage)
    return ShardFailure(f"stage {stage}, {names}: {cause[:300]}; log: {log}", trace)


def one_line(error: BaseException) -> str:
    """What an error says, in one line without secrets."""
    text = " ".join(str(error).split())
    return redact(text) if text else error.__class__.__name__


def slurm_job() -> str | None:
    """The job that this process runs in, as `squeue` names it: `12_3` in an array; None outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _place() -> dict[str, Any]:
    """Where this process is."""
    job = slurm_job()
    return {"host": socket.gethostname(), "process": os.getpid(), **({"job": job} if job else {})}


def events_of(data: bytes) -> Iterator[dict[str, Any]]:
    """The events of a log; lines that a dying machine left half written are passed over."""
    for line in data.splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                yield event


class _TaskLog:
    """Appends to a local file as things happen; a remote one is written whole, since nothing can be added to it.

    A log that cannot be written stops no work: where the disk is full, the tables say so.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._fresh: list[str] = []
        self._before: bytes | None = None

    def say(self, event: str, **about: Any) -> None:
        """Add a line, which `put` writes."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._fresh.append(redact(json.dumps({"time": moment, "event": event, **about}, ensure_ascii=False)) + "\n")

    def before(self) -> bytes:
        """What is there of earlier tasks."""
        with suppress(OSError, SeamlessAlignError), patience(BRIEF):
            if self._before is None:
                self._before = storage.read_bytes(self._uri) if storage.exists(self._uri) else b""
        return self._before or b""

    def put(self) -> None:
        """Write what was said since."""
        data = "".join(self._fresh).encode("utf-8", "replace")
        with suppress(OSError, SeamlessAlignError), patience(BRIEF):
            if storage.is_local(self._uri):
                path = storage.local_path(self._uri)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab", buffering=0) as file:  # one write, so that lines of two tasks do not mix
                    file.write(data)
                self._fresh.clear()
                return
            if self._before is None:
                self._before = storage.read_bytes(self._uri) if storage.exists(self._uri) else b""
            storage.write_bytes_atomic(self._uri, self._before + data)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take in what the program logs meanwhile, in this thread."""
        handler = _Listener(self, threading.get_ident())
        logger = logging.getLogger("seamlessalign")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Listener(logging.Handler):
    """Passes on what is logged by one thread: another may be at another task."""

    def __init__(self, log: _TaskLog, thread: int) -> None:
        super().__init__(logging.INFO)
        self._log, self._thread = log, thread

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line to the task's log."""
        if record.thread == self._thread:
            self._log.say("log", level=record.levelname.lower(), logger=record.name, message=record.getMessage())
