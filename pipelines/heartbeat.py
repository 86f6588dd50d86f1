"""What the driver of a run is doing, in a file that it writes anew while it lives, for `status` here and elsewhere.

Whether a driver lives is told on its own machine by its process, and elsewhere by the file being renewed: by its time,
whichever clock that was written by, or by having been seen to change.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.driver_lock import Lease, is_driven, new_lease
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.retries import BRIEF, patience
from seamlessalign.secrets import redact

RENEW_SECONDS = 15.0  # at most between two writes
LOST_SECONDS = 90.0  # without a write until a driver of another machine counts as gone

_driving: "Heartbeat | None" = None


class Heartbeat:
    """Writes what a driver is doing. `stage` and `state` are those of the stage, until the driver has ended."""

    def __init__(self, folder: RunFolder, run: str = "") -> None:
        lease = new_lease()
        self.folder = folder
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beat: dict[str, Any] = {
            "stage": None,
            "state": "running",
            "done": 0.0,
            "total": 0.0,
            "per_second": 0.0,
            "driver": lease.process,
            "error": None,
            "run": run,
            "host": lease.host,
            "machine": lease.machine,
            "process_begun": lease.begun,
            "since": _now(),
            "ended": False,
            "beats": 0,
        }

    def say(self, **about: Any) -> None:
        """Write what is new."""
        with self._lock:
            self._beat |= about
            self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """Write how the run ended, unless its stage has said why it failed or stopped."""
        if self._beat["state"] in ("failed", "stopped") and state != "done":
            state, error = self._beat["state"], self._beat["error"]
        self.say(state=state, error=error, ended=True)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Write it anew from time to time, whatever the driver is busy with."""
        thread = threading.Thread(target=self._renew, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            self.say()

    def _write(self) -> None:
        self._beat |= {"time": _now(), "beats": self._beat["beats"] + 1}
        try:
            with patience(BRIEF):  # the next one comes soon
                storage.write_bytes_atomic(self.folder.heartbeat, json.dumps(self._beat).encode())
        except (StorageError, OSError):
            # the shards' own writes will say what is wrong, with the right words
            return


@contextmanager
def driving(folder: RunFolder, run: str) -> Iterator[None]:
    """Tell that this process drives a run, and how that ends. `run`: the name of this start of the driver."""
    global _driving
    heart = _driving = Heartbeat(folder, run)
    heart.say()
    try:
        with heart.renewed():
            yield
    except KeyboardInterrupt:
        heart.end("stopped")
        raise
    except BaseException as error:
        heart.end("failed", redact(" ".join(str(error).split()) or error.__class__.__name__))
        raise
    else:
        heart.end("done")
    finally:
        _driving = None


def heartbeat_of(folder: RunFolder) -> Heartbeat:
    """That of this process, where it drives this run; else a new one."""
    return _driving if _driving is not None and _driving.folder == folder else Heartbeat(folder)


def read_heartbeat(folder: RunFolder) -> dict[str, Any]:
    """What was last written; empty where no driver has been. Raises StorageError for what is no heartbeat."""
    try:
        beat = json.loads(storage.read_bytes(folder.heartbeat))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StorageError(f"{folder.heartbeat}: is not JSON ({error}); the next run writes it anew") from error
    if not isinstance(beat, dict):
        raise StorageError(f"{folder.heartbeat}: is not a JSON object; the next run writes it anew")
    return beat


class Listener:
    """Tells whether the driver of a run lives, better from the second look on."""

    def __init__(self) -> None:
        self._seen: tuple[Any, Any] | None = None
        self._changed: float | None = None  # by the monotonic clock, when it was seen to

    def lives(self, beat: dict[str, Any], folder: RunFolder) -> bool:
        """Whether the driver that wrote a heartbeat is at work."""
        now, seen = time.monotonic(), (beat.get("run"), beat.get("beats"))
        if self._seen is not None and seen != self._seen:
            self._changed = now
        self._seen = seen
        if not beat or beat.get("ended"):
            return False
        lease = lease_of(beat)
        if lease.is_here or not lease.machine:
            return not lease.is_gone if lease.machine else is_driven(folder, lease.process)
        if self._changed is not None:
            return now - self._changed <= LOST_SECONDS
        ages = (age_of(beat.get("time")), _age(storage.modified(folder.heartbeat)))
        return any(age is not None and abs(age) <= LOST_SECONDS for age in ages)

    def heard_seconds(self, beat: dict[str, Any]) -> float | None:
        """Since when nothing was heard of the driver: never less than nothing, whatever the clocks say."""
        if self._changed is not None:
            return time.monotonic() - self._changed
        age = age_of(beat.get("time"))
        return None if age is None else max(age, 0.0)


def lease_of(beat: dict[str, Any]) -> Lease:
    """The process that wrote a heartbeat."""
    text = {name: str(beat.get(name) or "") for name in ("host", "since", "machine", "process_begun")}
    return Lease("", text["host"], int(beat.get("driver") or 0), text["since"], text["machine"], text["process_begun"])


def age_of(moment: Any) -> float | None:
    """Seconds since a time in ISO 8601, by our clock; negative where that is behind; None where it is none."""
    parsed = parse_time(moment)
    return None if parsed is None else time.time() - parsed


def parse_time(moment: Any) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; None where it is none."""
    try:
        parsed = datetime.fromisoformat(str(moment))
    except ValueError:
        return None
    return parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else time.time() - moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
