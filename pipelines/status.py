"""What of a run is done, running, failed and dropped, read from its folder while it goes on or afterwards."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.driver_lock import is_driven
from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.ledger import marks_of, read_plan, unbalanced
from seamlessalign.pipelines.progress import clock
from seamlessalign.pipelines.slurm_record import DriverJob, living_driver


def read_status(root: str) -> dict[str, Any]:
    """Shards planned and done, rows and drops of every stage, and what the driver was last seen at.

    `state` is `done`, `running`, `failed`, `waiting` where the driver is a job in Slurm's queue, or `stopped` where a
    driver began and is no longer there.
    Raises InputError where the folder is not a run.
    """
    folder = RunFolder(root)
    driver = living_driver(folder)
    if driver is None and not storage.exists(folder.config):
        raise InputError(f"{root}: is not the folder of a run: it has no run.yaml")
    plan = {stage: shards for stage in STAGES if (shards := read_plan(folder, stage)) is not None}
    beat: dict[str, Any] = _json(folder.heartbeat) or {}
    stages, wrong, quarantined = {}, [], 0
    for stage, shards in plan.items():
        planned = set(shards)
        dropped: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for mark in marks_of(folder, stage):
            if mark.shard not in planned:
                continue
            count["done"] += 1
            for line in mark.lines:
                count.update(rows_in=line.rows_in, rows_kept=line.rows_kept)
                dropped.update(line.dropped)
                quarantined += line.quarantined
            wrong += unbalanced(mark.lines)
        stages[stage] = {
            "shards": len(shards),
            **{name: count[name] for name in ("done", "rows_in", "rows_kept")},
            "dropped": dict(dropped.most_common()),
        }
    return {
        "run": root,
        "state": _state(folder, beat, driver),
        "driver": None if driver is None else asdict(driver),
        "stages": stages,
        "now": beat,
        "quarantined": quarantined,
        "unbalanced": wrong,
    }


def run_state(folder: RunFolder) -> str:
    """Whether a run is `done`, `running`, `failed` or `stopped`. Raises InputError where the folder is not a run."""
    if not storage.exists(folder.config):
        raise InputError(f"{folder.root}: is not the folder of a run: it has no run.yaml")
    return _state(folder, _json(folder.heartbeat) or {}, living_driver(folder))


def status_text(status: dict[str, Any]) -> str:
    """The status for people."""
    lines = [f"{status['run']}: {status['state']}"]
    for stage, numbers in status["stages"].items():
        reasons = ", ".join(f"{reason} {number}" for reason, number in numbers["dropped"].items())
        lines.append(
            f"  {stage:<7} {numbers['done']}/{numbers['shards']} shards, {numbers['rows_in']} rows in, "
            f"{numbers['rows_kept']} kept" + (f"; dropped: {reasons}" if reasons else "")
        )
    now, driver = status["now"], status["driver"]
    if driver is not None:
        waits = f", waits in the queue: {driver['reason']}" if status["state"] == "waiting" else ""
        lines.append(f"  driven by job {driver['job']}{waits}")
    if status["state"] == "running" and now.get("total") and now.get("per_second"):
        left = max(now["total"] - now["done"], 0.0) / now["per_second"]
        lines.append(f"  at {now['stage']}: {now['done'] / now['total']:.0%}, about {clock(left)} left")
    if status["state"] == "failed":
        lines.append(f"  stage {now['stage']} failed: {now['error']}")
    if status["state"] == "stopped":
        lines.append("  the same command goes on from here")
    if status["quarantined"]:
        lines.append(f"  {status['quarantined']} inputs could not be read: see quarantine/")
    lines += [f"  does not balance: {sentence}" for sentence in status["unbalanced"]]
    return "\n".join(lines)


def _state(folder: RunFolder, beat: dict[str, Any], driver: DriverJob | None) -> str:
    if driver is not None:
        return "waiting" if driver.state == "PENDING" else "running"
    if storage.exists(folder.ledger) and beat.get("state") != "running":
        return "failed" if beat.get("state") == "failed" else "done"
    if beat.get("state") in ("failed", "stopped"):
        return str(beat["state"])
    return "running" if beat and is_driven(folder, beat["driver"]) else "stopped"


def _json(uri: str) -> Any:
    if not storage.exists(uri):
        return None
    try:
        return json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise StorageError(f"{uri}: is not JSON ({error}); the next run writes it anew") from error
