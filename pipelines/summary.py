"""What a finished run did, as text for the terminal: counts of every stage, how sure the pairs are, speed, memory."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import SIDE_STAGES
from seamlessalign.pipelines.report_numbers import batches_of, parts_of, rule_of
from seamlessalign.rows import SAMPLE_RATE, LedgerLine

_WITH_HOURS = ("recordings", "segments", "pairs", "corpus", *SIDE_STAGES)


def summary_text(result: JobResult) -> str:
    """What the run did, of its ledger and its pairs.

    Stages with rows in, kept and dropped by reason; estimated precision of the kept pairs of each direction; hours of
    audio per core-hour of each step; peak memory.
    """
    lines = ["", f"{'stage':<12} {'in':>9} {'kept':>9} {'hours in':>9} {'kept':>9}  dropped"]
    for stage in dict.fromkeys(line.stage for line in result.lines):
        lines.append(_stage_line(stage, [line for line in result.lines if line.stage == stage]))
    lines += _precision_lines(result.folder.root)
    lines += ["", *_speed_lines(result.lines)]
    if result.quarantined:
        lines.append(f"{result.quarantined} inputs could not be read: {result.folder.root}/quarantine says which")
    if result.shards_kept:
        lines.append(f"{result.shards_kept} shards had been done before, {result.shards_done} were done now")
    return "\n".join(lines)


def steps_per_core_hour(lines: Iterable[LedgerLine]) -> dict[str, tuple[float, float | None]]:
    """For each step its core-seconds, and hours of recordings per core-hour where it works on recordings."""
    seconds: dict[str, float] = {}
    audio = 0.0
    of_audio = set()
    for line in lines:
        for step, value in line.seconds.items():
            name = step if line.stage in ("recordings", "pairs", "corpus") else f"{step} {line.stage}"
            seconds[name] = seconds.get(name, 0.0) + value
            if line.stage == "recordings" and step != "load models":
                of_audio.add(name)
        if line.stage == "recordings":
            audio += line.samples_in
    return {
        step: (value, audio / SAMPLE_RATE / value if step in of_audio and value else None)
        for step, value in seconds.items()
    }


def _stage_line(stage: str, lines: list[LedgerLine]) -> str:
    dropped: Counter[str] = Counter()
    for line in lines:
        dropped.update(line.dropped)
    hours_in = sum(line.samples_in for line in lines) / SAMPLE_RATE / 3600
    hours_kept = sum(line.samples_kept for line in lines) / SAMPLE_RATE / 3600
    hours = f"{hours_in:>9.3f} {hours_kept:>9.3f}" if stage in _WITH_HOURS else " " * 19
    reasons = ", ".join(f"{reason} {number}" for reason, number in dropped.most_common()) or "-"
    rows_in, rows_kept = sum(line.rows_in for line in lines), sum(line.rows_kept for line in lines)
    return f"{stage:<12} {rows_in:>9} {rows_kept:>9} {hours}  {reasons}"


def _precision_lines(root: str) -> list[str]:
    """How many of the kept pairs are expected to be wrong, by direction; nothing where there were no decoys."""
    shown = []
    for direction, uris in parts_of(root, "pairs").items():
        kept, right = 0, 0.0
        for uri in uris:
            for batch in batches_of(uri, ["kept", "precision_estimate"]):
                estimates = batch.filter(batch["kept"])["precision_estimate"].drop_null()
                kept += len(estimates)
                right += float(estimates.to_numpy().sum(dtype=np.float64))
        if kept:
            decoys = rule_of(uris).decoys or "-"
            shown.append(f"{direction:<12} {kept:>9} {right / kept:>19.2f} {kept - right:>14.0f}  {decoys}")
    head = f"{'direction':<12} {'kept':>9} {'estimated precision':>19} {'expected wrong':>14}  decoys"
    return ["", head, *shown] if shown else []


def _speed_lines(lines: list[LedgerLine]) -> list[str]:
    steps = steps_per_core_hour(lines)
    width = max((len(step) for step in steps), default=4)
    shown = [f"{'step':<{width}} {'core-seconds':>12} {'hours of audio per core-hour':>30}"]
    for step, (seconds, speed) in steps.items():
        shown.append(f"{step:<{width}} {seconds:>12.1f} {f'{speed:.1f}' if speed else '-':>30}")
    peak = max((line.peak_rss for line in lines), default=0)
    shown.append(f"peak memory of a worker: {peak / 2**30:.2f} GiB")
    return shown
