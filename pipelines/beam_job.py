"""The job of a runner that works on without its driver: a record in the run's folder, which keeps others out of it."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.folder import RunFolder, stages_of
from seamlessalign.pipelines.task_log import read_log

END = "end"  # the log of what a pipeline does behind the shards of a stage


def record_job(folder: RunFolder, runner: str, job: str, run_id: str) -> None:
    """Note that a runner has taken a job."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"runner": runner, "job": job, "run": run_id, "since": now}
    storage.write_bytes_atomic(folder.beam_job, json.dumps(about).encode())


def forget_job(folder: RunFolder) -> None:
    """Note that it has ended."""
    storage.remove(folder.beam_job)


def refuse_beside_job(folder: RunFolder) -> None:
    """Raise SeamlessAlignError where a job may be at work whose driver is gone; one that has ended is forgotten."""
    if not storage.exists(folder.beam_job):
        return
    about: dict[str, Any] = {}
    with suppress(ValueError):
        about = json.loads(storage.read_bytes(folder.beam_job))
    if _has_ended(folder, about.get("run")):
        forget_job(folder)
        return
    raise SeamlessAlignError(
        f"{folder.root}: job {about.get('job')} of {about.get('runner')}, begun {about.get('since')}, may be at work "
        f"here without its driver: wait for it or cancel it; if it is gone and left no word, remove {folder.beam_job} "
        "and run again"
    )


def _has_ended(folder: RunFolder, run_id: Any) -> bool:
    """Whether the last step of a pipeline has logged that it is done."""
    events = read_log(folder, stages_of(folder)[-1], END)
    return len(events) > 1 and events[-1]["event"] == "done" and events[-2].get("run") == run_id
