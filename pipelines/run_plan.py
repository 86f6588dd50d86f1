"""What every stage of a run would take: tasks, hours, bytes, memory and cost, from rates that were measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seamlessalign.config import RunConfig
from seamlessalign.languages import Direction
from seamlessalign.pipelines import decoys_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.corpus_stage import PAIRS_PER_SHARD
from seamlessalign.pipelines.folder import SIDE_STAGES, STAGES, side_stages
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.search_plan import SearchPlan, count_decoys, dimensions_of
from seamlessalign.pipelines.search_sizes import gather_memory
from seamlessalign.pipelines.stage_rates import Rates, SideRates

ON_GPU = ("speech", "text", "decoys", "search", *SIDE_STAGES)  # where there is one
_THREADED = ("speech", "text", "decoys", "index", "search", *SIDE_STAGES)  # the others use one core of a task
_HALF = 2  # bytes of a number of an embedding
GB = 1e9


@dataclass(frozen=True)
class Size:
    """How much is to be mined."""

    hours: float  # of audio
    recordings: int
    lines: int  # of text
    speech_shards: int
    text_shards: int
    shares: dict[str, float]  # language → its share of the audio
    shared: str  # by what the shares are, for people


@dataclass(frozen=True)
class StageCost:
    """What a stage would take; None: nothing was measured to tell it by."""

    stage: str
    tasks: int
    groups: int  # of tasks that one worker does in a row: tasks of a job array
    core_hours: float | None
    gpu_hours: float | None  # None too where the stage uses none
    wall_hours: float | None
    read: float | None  # bytes, of inputs and of what other tasks wrote
    shuffled: float | None  # of these what other tasks wrote
    written: float | None
    memory: int | None  # bytes of the largest task
    cost: float | None  # None too where there is no price


@dataclass(frozen=True)
class RunPlan:
    """What a run would take."""

    size: Size
    workers: Mapping[str, Workers]  # by stage
    stages: list[StageCost]
    storage: dict[str, float | None]  # table → bytes
    month_cost: float | None  # of all that is stored
    pairs: dict[str, int | None]  # direction → pairs that would be kept
    searches: list[SearchPlan]
    rates: str  # where they are from
    assumptions: list[str]

    def total(self, what: str) -> float | None:
        """The sum of a number over the stages that have it; None where a stage with tasks lacks it."""
        values = [getattr(stage, what) for stage in self.stages if stage.tasks]
        if what == "gpu_hours":
            values = [value for value in values if value is not None] or [None]
        return None if None in values else float(sum(values))


class _Totals:
    """Core-seconds, bytes and memory of stages while they are summed up."""

    def __init__(self) -> None:
        self.tasks: dict[str, int] = {}
        self.seconds: dict[str, float | None] = {}
        self.gpu_seconds: dict[str, float | None] = {}
        self.read: dict[str, float | None] = {}
        self.shuffled: dict[str, float | None] = {}
        self.written: dict[str, float | None] = {}
        self.memory: dict[str, int | None] = {}


def plan_stages(
    context: Context,
    workers: Mapping[str, Workers],
    size: Size,
    rows: Mapping[str, tuple[int, bool]],
    searches: list[SearchPlan],
    rates: Rates,
    executor: str,
) -> RunPlan:
    """Plan every stage. `workers`: by stage; `rows`: of each side, as `search_plan.plans` takes them."""
    config, dim = context.config, dimensions_of(context)
    totals, assumptions = _Totals(), []
    stored: dict[str, float | None] = {}
    sides = {str(side): side for side in config.sides()}
    texts = [side for side in sides.values() if not side.is_audio]
    spans, sentences = size.hours * rates.spans, times(size.lines, rates.sentences_kept)
    decoys = sum(
        count_decoys(decoys_stage.kind_of(side, context), rows[str(side)][0], context)
        for side in decoys_stage.sides_to_embed(context)
    )

    stored["recordings"] = size.speech_shards * rates.recording_bytes
    stored["segments"] = spans * rates.span_bytes
    stored["sentences"] = times(sentences, rates.sentence_bytes) if texts else 0.0
    stored["decoys"] = times(decoys, rates.decoy_bytes) if texts else 0.0

    totals.tasks = {
        "speech": size.speech_shards,
        "text": size.text_shards if texts else 0,
        "decoys": len(decoys_stage.sides_to_embed(context)),
        "reduce": 1 if config.mining.reduce is not None else 0,
        "gather": len(sides),
        "index": 2 * sum(search.index_bytes > 0 for search in searches),
        "search": sum(search.tasks for search in searches),
        "mine": len(searches),
    }
    groups = {stage: _groups(count, config, workers[stage], executor) for stage, count in totals.tasks.items()}
    loads = rates.load_seconds * (
        groups["speech"] if executor == "slurm" else min(workers["speech"].processes, groups["speech"])
    )

    # embedding
    audio = size.hours * rates.audio_bytes
    totals.seconds["speech"] = size.hours * rates.speech_seconds + loads
    totals.gpu_seconds["speech"] = _gpu(times(size.hours, rates.speech_wall), rates, workers["speech"])
    totals.read["speech"], totals.shuffled["speech"] = audio, 0.0
    totals.written["speech"] = plus(stored["recordings"], stored["segments"])
    totals.seconds["text"] = times(size.lines, rates.text_seconds)
    totals.gpu_seconds["text"] = _gpu(times(size.lines, rates.text_wall), rates, workers["text"])
    totals.read["text"], totals.shuffled["text"] = times(size.lines, rates.line_bytes), 0.0
    totals.written["text"] = stored["sentences"]
    totals.seconds["decoys"] = times(decoys, rates.decoy_seconds)
    totals.gpu_seconds["decoys"] = _gpu(times(decoys, rates.text_wall), rates, workers["decoys"])
    totals.read["decoys"] = totals.shuffled["decoys"] = stored["sentences"]
    totals.written["decoys"] = stored["decoys"]

    # mining
    side_rows = {name: rows[name][0] for name in sides}
    all_rows = sum(side_rows.values())
    tables = [times(side_rows[name], rates.row_bytes.get(side.is_audio)) for name, side in sides.items()]
    beside = sum(max(_rows_of(search)) - max(_plain(search, side_rows)) for search in searches)
    stored["gathered sides"] = plus(*tables, float((all_rows + max(beside, 0)) * dim * _HALF))
    totals.seconds["gather"] = times(all_rows, rates.gather_seconds)
    totals.read["gather"] = totals.shuffled["gather"] = plus(stored["segments"], stored["sentences"], stored["decoys"])
    totals.written["gather"] = stored["gathered sides"]
    totals.memory["gather"] = max(gather_memory(count) for count in side_rows.values())
    stored["indexes"] = float(sum(search.index_bytes for search in searches))
    totals.seconds["index"] = sum(search.index_seconds for search in searches)
    compressed = [search for search in searches if search.index_bytes]
    totals.read["index"] = totals.shuffled["index"] = float(sum(sum(_rows_of(s)) for s in compressed) * dim * _HALF)
    totals.written["index"] = stored["indexes"]
    stored["neighbour lists"] = float(sum(search.shuffled for search in searches))
    totals.seconds["search"] = sum(search.core_seconds for search in searches)
    totals.gpu_seconds["search"] = totals.seconds["search"] if workers["search"].device == "cuda" else None
    totals.read["search"] = totals.shuffled["search"] = plus(
        float(sum(search.read for search in searches)), stored["indexes"]
    )
    totals.written["search"] = stored["neighbour lists"]
    totals.memory["search"] = max((search.memory for search in searches), default=None)
    totals.seconds["mine"] = times(sum(sum(_rows_of(search)) for search in searches), rates.choice_seconds)
    totals.read["mine"] = totals.shuffled["mine"] = plus(stored["neighbour lists"], stored["gathered sides"])
    totals.memory["mine"] = max((search.choice_memory for search in searches), default=None)

    # pairs
    kept: dict[str, int | None] = {}
    cut: list[float | None] = []
    parts, corpus, cut_read, cut_tasks = [], [], [], 0
    heard: dict[str, list[float | None]] = {stage: [] for stage in side_stages(config)}  # audio sides by direction
    for search in searches:
        direction = Direction.parse(search.direction)
        theirs, why = rates.of_direction(search.direction)
        if why:
            assumptions.append(f"{search.direction} is not in the rates' run: as {why}")
        audios = [side.lang for side in (direction.src, direction.tgt) if side.is_audio]
        hours = [size.hours * size.shares.get(lang, 0.0) for lang in audios]
        count = None if theirs is None else round(min(theirs.kept * hours[0], min(_rows_of(search))))
        kept[search.direction] = count
        candidates = times(min(_rows_of(search)), theirs.candidates if theirs else None)
        parts.append(times(candidates, theirs.pair_bytes if theirs else None))
        cut.append(times(count, theirs.cut_seconds if theirs else None))
        corpus.append(times(count, theirs.corpus_bytes if theirs else None))
        cut_read.append(sum(hours) * rates.audio_bytes)
        cut_tasks += math.ceil((count or 0) / PAIRS_PER_SHARD)
        for stage, sides_heard in heard.items():
            wanted = [side for side in getattr(config, stage).sides if getattr(direction, side).is_audio]
            sides_heard.append(times(count, len(wanted)))
    stored["pairs"], stored["corpus"] = plus(*parts), plus(*corpus)
    totals.written["mine"] = stored["pairs"]
    totals.tasks["corpus"] = cut_tasks
    groups["corpus"] = _groups(cut_tasks, config, workers["corpus"], executor)
    totals.seconds["corpus"] = plus(*cut)
    totals.read["corpus"], totals.shuffled["corpus"] = plus(stored["pairs"], sum(cut_read)), stored["pairs"]
    totals.written["corpus"] = stored["corpus"]
    for stage, sides_heard in heard.items():
        of_stage, number = rates.beside.get(stage, SideRates(None, None, None)), plus(*sides_heard)
        totals.tasks[stage], groups[stage] = cut_tasks, groups["corpus"]
        totals.seconds[stage] = times(number, of_stage.seconds)
        totals.gpu_seconds[stage] = _gpu(times(number, of_stage.wall), rates, workers[stage])
        totals.read[stage] = totals.shuffled[stage] = stored["corpus"]
        stored[stage] = totals.written[stage] = times(number, of_stage.bytes)
    stages = (*STAGES, *heard)
    stored["marks and logs"] = float(sum(totals.tasks[stage] * rates.mark_bytes.get(stage, 0.0) for stage in stages))

    for stage in ("speech", "text", "decoys", "corpus", *heard):
        totals.memory[stage] = rates.memory.get(stage)
    if totals.tasks["reduce"]:
        totals.seconds["reduce"] = totals.read["reduce"] = totals.shuffled["reduce"] = totals.written["reduce"] = None
    prices = config.resources.prices
    whole = plus(*stored.values())
    return RunPlan(
        size, workers, [_stage_cost(stage, totals, groups[stage], context, workers[stage]) for stage in stages], stored,
        times(whole and whole / GB, prices.gb_month), kept, searches, rates.origin, assumptions,
    )  # fmt: skip


def _stage_cost(stage: str, totals: _Totals, groups: int, context: Context, workers: Workers) -> StageCost:
    tasks, prices = totals.tasks[stage], context.config.resources.prices
    if not tasks:
        return StageCost(stage, 0, 0, 0.0, None, 0.0, 0.0, 0.0, 0.0, None, None)
    seconds, gpu = totals.seconds.get(stage), totals.gpu_seconds.get(stage)
    uses_gpu = workers.device == "cuda" and stage in ON_GPU
    gpu = gpu if uses_gpu else None
    threads = workers.threads if stage in _THREADED and not uses_gpu else 1
    busy = gpu if uses_gpu else seconds
    wall = None if busy is None else busy / groups / threads * math.ceil(groups / workers.processes)
    cost = times(seconds and seconds / 3600, prices.cpu_hour)
    if uses_gpu:
        cost = plus(cost, times(gpu and gpu / 3600, prices.gpu_hour))
    return StageCost(
        stage, tasks, groups, _hours(seconds), _hours(gpu), _hours(wall), totals.read.get(stage),
        totals.shuffled.get(stage), totals.written.get(stage), totals.memory.get(stage), cost,
    )  # fmt: skip


def _groups(tasks: int, config: RunConfig, workers: Workers, executor: str) -> int:
    """How many groups of tasks are done as one: tasks of Slurm; others are made small enough to come to as much."""
    if executor != "slurm":
        return tasks
    return math.ceil(tasks / max(1, min(config.resources.shards_per_group, tasks // workers.processes)))


def _gpu(wall: float | None, rates: Rates, workers: Workers) -> float | None:
    """Seconds of a GPU: what a task took on the clock, where it was measured on one."""
    return wall if workers.device == "cuda" and rates.on_gpu else None


def _rows_of(search: SearchPlan) -> tuple[int, int]:
    return search.num_src, search.num_tgt


def _plain(search: SearchPlan, rows: Mapping[str, int]) -> tuple[int, int]:
    direction = Direction.parse(search.direction)
    return rows[str(direction.src)], rows[str(direction.tgt)]


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def times(amount: float | None, rate: float | None) -> float | None:
    """Their product, None where that is not known."""
    if amount == 0:
        return 0.0
    return None if amount is None or rate is None else amount * rate


def plus(*parts: float | None) -> float | None:
    """Their sum, None where one is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
