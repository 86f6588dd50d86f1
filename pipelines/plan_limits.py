"""What of a planned run does not fit: tasks that cannot be cut, what tasks of Slurm have, disks, a driver's shards."""

import math
import shutil
from pathlib import Path

from seamlessalign import storage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.gather_stage import MOST_ROWS
from seamlessalign.pipelines.progress import clock
from seamlessalign.pipelines.run_plan import RunPlan, StageCost, plus
from seamlessalign.pipelines.search_sizes import choice_memory, gather_memory, over_memory

_DRIVEN = 100_000  # shards of a stage up to which the driver was measured (docs/scale.md)
_LONG_HOURS = 24.0


def told_limits(plan: RunPlan, rows: dict[str, int], context: Context, executor: str) -> list[str]:
    """One sentence for each thing that will not work as planned, saying what to do. `rows`: of each side."""
    lines = [*_of_mining(plan, rows, context), *_of_shards(plan)]
    lines += _of_slurm(plan, context) if executor == "slurm" else _of_machine(plan, executor)
    lines += _of_barriers(plan)
    return lines + _of_disk(plan, context)


def _of_mining(plan: RunPlan, rows: dict[str, int], context: Context) -> list[str]:
    resources = context.config.resources
    limit = int(resources.mining_memory_gb * 2**30)
    many = [
        (
            count,
            f"side {name} has {count:,} rows, and one side can have {MOST_ROWS:,}: split it into "
            f"{math.ceil(count / MOST_ROWS)} runs or more, by domain or source",
        )
        for name, count in rows.items()
        if count > MOST_ROWS
    ]
    gathered, chosen = [], []
    for name, count in rows.items():
        told = over_memory(f"{name}: gathering its rows", gather_memory(count), resources)
        if told is not None:
            most = _most(limit, gather_memory(0), gather_memory(1))
            gathered.append((count, f"{told}; or split it into runs of {most:,} rows"))
    for search in plan.searches:
        told = over_memory(f"{search.direction}: choosing its pairs", search.choice_memory, resources)
        if told is not None:
            most = _most(limit, choice_memory(0, 0), choice_memory(1, 0))
            ways = f"{told}; or split it into runs of {most:,} rows on both sides together, by domain or source"
            chosen.append((search.choice_memory, ways))
    return [*_worst(many, "sides"), *_worst(gathered, "sides"), *_worst(chosen, "directions")]


def _worst(told: list[tuple[int, str]], what: str) -> list[str]:
    """The line of the largest, saying how many others there are."""
    if not told:
        return []
    others = f" (and {len(told) - 1} more {what})" if len(told) > 1 else ""
    return [max(told)[1] + others]


def _most(limit: int, base: int, with_one: int) -> int:
    return max(0, (limit - base) // (with_one - base))


def _of_shards(plan: RunPlan) -> list[str]:
    lines = []
    keys = {"speech": "speech.recordings_per_shard", "text": "text.lines_per_shard"}
    for stage in plan.stages:
        if stage.tasks > _DRIVEN:
            what = f"stage {stage.stage} has {stage.tasks:,} shards; one driver was measured with up to {_DRIVEN:,}"
            more = math.ceil(stage.tasks / _DRIVEN)
            lines.append(f"{what}: set {keys[stage.stage]} {more} times as high" if stage.stage in keys else what)
    return lines


def _of_slurm(plan: RunPlan, context: Context) -> list[str]:
    lines = []
    for stage in plan.stages:
        asks, workers = context.config.resources.slurm.of(stage.stage), plan.workers[stage.stage]
        if stage.wall_hours is not None and stage.groups:
            minutes = stage.wall_hours / math.ceil(stage.groups / workers.processes) * 60
            if minutes > asks.minutes:
                lines.append(
                    f"a task of stage {stage.stage} takes about {clock(minutes * 60)} and may take {asks.minutes} min: "
                    f"set resources.slurm.stages.{stage.stage}.minutes{_shorter(stage, plan, minutes / asks.minutes)}"
                )
        if stage.memory is not None and stage.memory > asks.memory_gb * 2**30:
            lines.append(
                f"a task of stage {stage.stage} takes {stage.memory / 2**30:.1f} GiB and has {asks.memory_gb:g}: "
                f"set resources.slurm.stages.{stage.stage}.memory_gb to that or more"
            )
    return lines


def _shorter(stage: StageCost, plan: RunPlan, times: float) -> str:
    """How else a task becomes so many times shorter."""
    if stage.stage == "search":
        most = max(search.tasks for search in plan.searches)
        return f", or resources.mining_tasks to {math.ceil(most * times):,} or more with resources.shards_per_group 1"
    return ", or resources.shards_per_group lower" if stage.groups < stage.tasks else ""


def _of_machine(plan: RunPlan, executor: str) -> list[str]:
    if executor != "local":
        return []
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return []
    there = int(told.partition("MemTotal:")[2].split()[0]) * 1024
    lines = []
    for stage in plan.stages:
        processes = plan.workers[stage.stage].processes
        needed = (stage.memory or 0) * min(processes, stage.groups)
        if needed > there:
            lines.append(
                f"stage {stage.stage} takes {needed / 2**30:.1f} GiB with {processes} workers, and this "
                f"machine has {there / 2**30:.1f}: set resources.workers lower"
            )
    return lines


def _of_barriers(plan: RunPlan) -> list[str]:
    """Stages of few tasks, which more workers do not make faster."""
    lines = []
    for stage in plan.stages:
        if (
            stage.wall_hours
            and stage.wall_hours > _LONG_HOURS
            and 0 < stage.tasks <= plan.workers[stage.stage].processes
        ):
            lines.append(
                f"stage {stage.stage} has {stage.tasks} tasks, one for each side or direction: it takes "
                f"{stage.wall_hours:,.0f} h however many workers there are"
            )
    return lines


def _of_disk(plan: RunPlan, context: Context) -> list[str]:
    needed, root = plus(*plan.storage.values()), context.root
    if not root or not needed or not storage.is_local(root):
        return []
    path = storage.local_path(root).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed <= free:
        return []
    return [f"{root} would hold {needed / 1e12:,.3f} TB, and its disk has {free / 1e12:,.3f} TB free"]
