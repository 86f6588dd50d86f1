"""What of a run is done, running, failed and dropped, read from its folder while it goes on or afterwards."""

import socket
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder, run_below, stages_of
from seamlessalign.pipelines.heartbeat import Listener, age_of, lease_of, parse_time, read_heartbeat
from seamlessalign.pipelines.ledger import Mark, parse_mark, read_plan, unbalanced
from seamlessalign.pipelines.slurm_record import DriverJob, living_driver
from seamlessalign.pipelines.stage_speed import overall_speed, recent_speed, slowest
from seamlessalign.pipelines.task_log import events_of
from seamlessalign.rows import SAMPLE_RATE, LedgerLine

SLOWEST = 5  # shards of each stage that are told
ERRORS = 5
_LONGEST_TASK = 90 * 86400.0  # seconds
_TRIES = 3  # of a look that met files being removed
_HOUR = SAMPLE_RATE * 3600


def read_status(root: str) -> dict[str, Any]:
    """What `StatusReader.read` finds at one look. Raises as that does."""
    return StatusReader(root).read()


def unfinished(folder: RunFolder) -> str:
    """The state of a run that is not done; empty of one that is, or was copied without its state.

    Raises InputError where the folder is not a run.
    """
    if storage.exists(folder.ledger) and not storage.exists(folder.heartbeat):
        return ""
    state = run_state(folder)
    return "" if state == "done" else state


def run_state(folder: RunFolder) -> str:
    """The `state` of `read_status`. Raises InputError where the folder is not a run."""
    job = living_driver(folder)
    _check_run(folder, job)
    return _state(folder, read_heartbeat(folder), Listener(), job)


@dataclass
class _Stage:
    """What is known of a stage: its plan, its marks by name of file, and the logs of shards that are not done."""

    plan: dict[str, str] | None = None
    marks: dict[str, Mark] = field(default_factory=dict)
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by shard
    all_done: bool = False

    @property
    def done(self) -> dict[str, Mark]:
        """Marks of the shards that are planned, done for what is planned."""
        plan, found = self.plan or {}, {mark.shard: mark for mark in self.marks.values()}
        return {name: found[name] for name, digest in plan.items()
                if name in found and digest in ("", found[name].digest)}  # fmt: skip


class StatusReader:
    """Looks at a run, and again: marks that were seen under one driver are not read twice."""

    def __init__(self, root: str) -> None:
        self._folder = RunFolder(root)
        self._listener = Listener()
        self._stages: dict[str, _Stage] = {}
        self._driver: Any = None

    def read(self) -> dict[str, Any]:
        """The status as JSON has it (docs/runs.md has every key).

        Raises InputError where the folder is not a run, StorageError where a file in it is damaged.
        """
        for tries in range(_TRIES):
            try:
                return self._read()
            except FileNotFoundError:
                if tries == _TRIES - 1:
                    raise
                self._stages.clear()  # a stage began anew between listing its marks and reading them
        raise AssertionError

    def _read(self) -> dict[str, Any]:
        job = living_driver(self._folder)
        _check_run(self._folder, job)
        beat = read_heartbeat(self._folder)
        driver = beat.get("run"), beat.get("driver"), beat.get("since")
        if driver != self._driver:
            self._stages.clear()
            self._driver = driver
        names = stages_of(self._folder)
        state = _state(self._folder, beat, self._listener, job)
        for stage in names:
            self._look(stage)
        known = {stage: found for stage, found in self._stages.items() if found.plan is not None}
        stages = {stage: self._stage(stage, found, beat, state) for stage, found in known.items()}
        lines = [line for found in known.values() for mark in found.done.values() for line in mark.lines]
        return {
            "run": self._folder.root,
            "state": state,
            "driver": None if job is None else asdict(job),
            "heard_seconds": _rounded(self._listener.heard_seconds(beat)),
            "stages": stages,
            "not_planned": [stage for stage in names if stage not in known],
            "eta": _eta(names, stages, beat, state),
            "now": beat,
            "quarantined": sum(line.quarantined for line in lines),
            "unbalanced": unbalanced(lines),
            "errors": self._errors(beat, state),
        }

    def _look(self, stage: str) -> None:
        """Take in what is new of a stage."""
        folder, found = self._folder, self._stages.setdefault(stage, _Stage())
        if found.all_done:
            return  # only another driver can change that
        found.plan = read_plan(folder, stage)
        if found.plan is None:
            found.marks.clear()
            return
        uris = storage.list_files(folder.marks(stage), ".json")
        for gone in found.marks.keys() - set(uris):
            del found.marks[gone]
        texts = storage.read_many([uri for uri in uris if uri not in found.marks])
        found.marks |= {uri: _slim(parse_mark(uri, data)) for uri, data in texts.items()}
        done = found.done
        logs = {self._shard_of(uri): uri for uri in storage.list_files(folder.logs(stage), ".jsonl")}
        wanted = {
            shard: uri for shard, uri in logs.items()
            if shard not in done or (done[shard].failures and shard not in found.logs)
        }  # fmt: skip
        read = storage.read_many(list(wanted.values()))
        found.logs = {shard: events for shard, events in found.logs.items() if shard in done}
        found.logs |= {shard: list(events_of(read[uri])) for shard, uri in wanted.items()}
        found.all_done = len(done) == len(found.plan) and bool(self._driver[2])

    @staticmethod
    def _shard_of(uri: str) -> str:
        return uri.rsplit("/", 1)[-1].removesuffix(".jsonl")

    def _stage(self, stage: str, found: _Stage, beat: dict[str, Any], state: str) -> dict[str, Any]:
        plan, done = found.plan or {}, found.done
        lines = [line for mark in done.values() for line in mark.lines]
        tables = {name: _table(line for line in lines if line.stage == name)
                  for name in dict.fromkeys(line.stage for line in lines)}  # fmt: skip
        first: dict[str, Any] = next(iter(tables.values()), {})
        at: dict[str, list[dict[str, Any]]] = {"running": [], "failed": [], "lost": [], "waiting": []}
        for shard in plan:
            if shard in done or shard not in found.logs:
                continue
            kind, about = self._undone(stage, shard, found.logs[shard], beat, state)
            at[kind].append(about)
        marks, now = list(done.values()), _now(beat, state)
        recent = recent_speed(marks, now, parse_time(beat.get("since"))) if state == "running" else None
        seconds: Counter[str] = Counter()
        for line in lines:
            seconds.update(line.seconds)
        numbers: dict[str, Any] = {
            "shards": len(plan),
            "done": len(done),
            "rows_in": sum(line.rows_in for line in lines),
            "rows_kept": sum(line.rows_kept for line in lines),
            "dropped": dict(_summed(line.dropped for line in lines).most_common()),
            "waiting": len(plan) - len(done) - sum(len(at[kind]) for kind in ("running", "failed", "lost")),
            **{kind: at[kind] for kind in ("running", "failed", "lost")},
            "hours_in": first.get("hours_in", 0.0),
            "hours_kept": first.get("hours_kept", 0.0),
            "tables": tables,
            "wall_seconds": round(sum(mark.wall_seconds for mark in marks), 3),
            "seconds": {step: round(value, 3) for step, value in seconds.items()},
            "speed": {"overall": asdict(overall_speed(marks)), "recent": asdict(recent) if recent else None},
            "slowest": [
                {"shard": mark.shard, "wall_seconds": mark.wall_seconds, "host": mark.host,
                 "log": self._folder.log(stage, mark.shard)}
                for mark in slowest(marks, SLOWEST)
            ],
        }  # fmt: skip
        return {**numbers, "eta_seconds": _stage_eta(stage, numbers, beat, state)}

    def _undone(
        self, stage: str, shard: str, events: list[dict[str, Any]], beat: dict[str, Any], state: str
    ) -> tuple[str, dict[str, Any]]:
        """What a shard without a mark is at, by its log: running, failed, lost or waiting."""
        last = events[-1] if events else {}
        begun: dict[str, Any] = next((event for event in reversed(events) if event["event"] == "begun"), {})
        about: dict[str, Any] = {"shard": shard, "log": self._folder.log(stage, shard)}
        about |= {name: begun[name] for name in ("host", "process", "job") if name in begun}
        if last.get("event") == "failed":
            return "failed", {**about, "time": last.get("time"), "error": last.get("error")}
        if last.get("event") in (None, "done", "stopped") or not begun:
            return "waiting", about
        age = max(age_of(begun.get("time")) or 0.0, 0.0)
        # longer than any task: a clock has jumped since, and how long it was is not known
        about |= {"since": begun.get("time"), "seconds": _rounded(age) if age < _LONGEST_TASK else None}
        is_ours = state == "running" and begun.get("run") == beat.get("run")
        return "running" if is_ours and not _is_gone(begun, beat) else "lost", about

    def _errors(self, beat: dict[str, Any], state: str) -> list[dict[str, Any]]:
        """The last errors of shards, the newest first, also of those that were done in the end."""
        errors = []
        for stage, found in self._stages.items():
            done, plan = found.done, found.plan or {}
            for shard, events in found.logs.items():
                later = "done" if shard in done else self._undone(stage, shard, events, beat, state)[0]
                for event in events:
                    if event["event"] == "failed":
                        errors.append({
                            "time": event.get("time"),
                            "stage": stage,
                            "shard": shard,
                            "error": event.get("error"),
                            "log": self._folder.log(stage, shard),
                            "later": later if shard in plan else None,
                        })  # fmt: skip
        return sorted(errors, key=lambda error: parse_time(error["time"]) or 0.0, reverse=True)[:ERRORS]


def _check_run(folder: RunFolder, job: DriverJob | None) -> None:
    if job is None and not storage.exists(folder.config):
        raise InputError(f"{folder.root}: is not the folder of a run: it has no run.yaml{run_below(folder.root)}")


def _state(folder: RunFolder, beat: dict[str, Any], listener: Listener, job: DriverJob | None) -> str:
    """`done`, `running`, `failed`, `waiting` where the driver is a job in Slurm's queue, or `stopped` where a driver
    began and is no longer there.
    """
    if job is not None:
        return "waiting" if job.state == "PENDING" else "running"
    lives = listener.lives(beat, folder)
    state = beat.get("state")
    if state in ("failed", "stopped"):
        return str(state)
    if lives:
        return "running"
    # a driver that was killed while it was at a stage, or between two, has not ended
    has_ended = beat.get("ended", state == "done")
    return "done" if has_ended and state == "done" and storage.exists(folder.ledger) else "stopped"


def _slim(mark: Mark) -> Mark:
    """A mark without what is not told of it: there may be very many."""
    return replace(mark, outputs=[], lines=[replace(line, models={}, digest="") for line in mark.lines])


def _is_gone(begun: dict[str, Any], beat: dict[str, Any]) -> bool:
    """Whether the process of a shard is known to have ended: that of a driver's own machine, where that is this one."""
    if not lease_of(beat).is_here or begun.get("host") != socket.gethostname():
        return False
    try:
        stat = Path(f"/proc/{int(begun['process'])}/stat").read_text(encoding="ascii", errors="replace")
    except (OSError, KeyError, TypeError, ValueError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def _now(beat: dict[str, Any], state: str) -> float:
    """The present time by the clock of the driver, as near as it is known."""
    last = parse_time(beat.get("time"))
    return time.time() if last is None or state != "running" else last


def _table(lines: Iterable[LedgerLine]) -> dict[str, Any]:
    """The sum of ledger lines of one stage of rows."""
    lines = list(lines)
    return {
        "rows_in": sum(line.rows_in for line in lines),
        "rows_kept": sum(line.rows_kept for line in lines),
        "dropped": dict(_summed(line.dropped for line in lines).most_common()),
        "quarantined": sum(line.quarantined for line in lines),
        "hours_in": sum(line.samples_in for line in lines) / _HOUR,
        "hours_kept": sum(line.samples_kept for line in lines) / _HOUR,
        "hours_dropped": {
            reason: samples / _HOUR for reason, samples in _summed(line.samples_dropped for line in lines).items()
        },
    }


def _summed(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _stage_eta(stage: str, numbers: dict[str, Any], beat: dict[str, Any], state: str) -> float | None:
    """Seconds until a stage is done, by what its driver last said or by the shards that are done."""
    left = numbers["shards"] - numbers["done"]
    if not left:
        return 0.0
    if state != "running":
        return None
    if beat.get("stage") == stage and beat.get("per_second") and beat.get("total"):
        return _rounded(max(beat["total"] - beat["done"], 0.0) / beat["per_second"])
    speed = numbers["speed"]["overall"]["shards_per_hour"]
    return _rounded(left * 3600 / speed) if speed else None


def _eta(
    names: Iterable[str], stages: dict[str, dict[str, Any]], beat: dict[str, Any], state: str
) -> dict[str, Any] | None:
    """When the present stage is done, and which stages are behind it whose time is not known."""
    if state != "running":
        return None
    unfinished = [stage for stage, numbers in stages.items() if numbers["done"] < numbers["shards"]]
    known = {stage: stages[stage]["eta_seconds"] for stage in unfinished if stages[stage]["eta_seconds"] is not None}
    unknown = [stage for stage in names if (stage in unfinished or stage not in stages) and stage not in known]
    return {"stage": beat.get("stage"), "known_seconds": _rounded(sum(known.values())), "unknown": unknown}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
