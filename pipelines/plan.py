"""What a run would do and take: shown by `--dry-run`, as text or as JSON."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.folder import STAGES, side_stages
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.local import Workers, share_out
from seamlessalign.pipelines.plan_limits import told_limits
from seamlessalign.pipelines.progress import clock
from seamlessalign.pipelines.run import plan_inputs
from seamlessalign.pipelines.run_plan import RunPlan, Size, StageCost, plan_stages
from seamlessalign.pipelines.sample_run import measure_rates
from seamlessalign.pipelines.search_plan import (
    SPANS_PER_SECOND,
    SearchPlan,
    audio_seconds,
    count_lines,
    count_rows,
    plans,
)
from seamlessalign.pipelines.search_sizes import over_memory
from seamlessalign.pipelines.stage_rates import Rates, read_rates
from seamlessalign.sources import is_http, place_of


@dataclass(frozen=True)
class Asked:
    """What a plan is to be of: what the inputs have where nothing is said."""

    hours: float | None = None  # of audio
    sentences: int | None = None  # lines of text
    recording_minutes: float | None = None  # of one recording, on average
    rates_from: str | None = None  # folder of a finished run
    executor: str = "local"


@dataclass(frozen=True)
class DryRun:
    """A plan with all that is told of it."""

    config: RunConfig
    workers: dict[str, Workers]  # by stage
    inputs: tuple[list[Shard], list[Shard]] | None  # None where sizes were given for both
    searches: list[SearchPlan]
    plan: RunPlan | None  # None where no rates could be measured
    unmeasured: str  # why not
    limits: list[str]


def dry_run(config: RunConfig, asked: Asked = Asked()) -> DryRun:
    """Plan a run. Raises InputError where `rates_from` is no finished run, ConfigError for a size that is none."""
    _check(asked)
    workers, context = _workers(config, asked)
    config = context.config
    rates = read_rates(asked.rates_from) if asked.rates_from is not None else None
    has_text = bool(config.text_languages()) and any(not side.is_audio for side in config.sides())
    needs_inputs = asked.hours is None or (has_text and asked.sentences is None) or rates is None
    inputs = plan_inputs(config) if needs_inputs else None
    unmeasured = ""
    if rates is None and inputs is not None:
        try:
            rates = measure_rates(config, context, *inputs)
        except SeamlessAlignError as error:
            unmeasured = str(error)
    size = _size(config, asked, inputs, rates)
    rows = _rows(context, asked, size, rates)
    searches = plans(context, workers["search"], rows)
    if rates is None:
        limits = [
            told
            for search in searches
            if (told := over_memory(f"{search.direction}: choosing its pairs", search.choice_memory, config.resources))
        ]
        return DryRun(config, workers, inputs, searches, None, unmeasured, limits)
    plan = plan_stages(context, workers, size, rows, searches, rates, asked.executor)
    limits = told_limits(plan, {name: count for name, (count, _) in rows.items()}, context, asked.executor)
    return DryRun(config, workers, inputs, searches, plan, "", limits)


def _check(asked: Asked) -> None:
    for option, value in (
        ("--hours", asked.hours),
        ("--sentences", asked.sentences),
        ("--recording-minutes", asked.recording_minutes),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} {value:g}: give a number above 0")


def _workers(config: RunConfig, asked: Asked) -> tuple[dict[str, Workers], Context]:
    """What the executor would work with, by stage, and the context in which the search is planned."""
    resources = config.resources
    stages = (*STAGES, *side_stages(config))
    if asked.executor == "slurm":
        tasks = {stage: resources.slurm.of(stage) for stage in stages}
        workers = {
            stage: Workers(task.parallel, task.cpus, "cuda" if task.gpus else "cpu") for stage, task in tasks.items()
        }
        least = min(tasks[stage].memory_gb for stage in ("gather", "index", "search", "mine"))
        config = config.model_copy(update={"resources": resources.within(least)})
    elif asked.executor == "beam":
        on_gpu = resources.beam.accelerator is not None or resources.device == "cuda"
        threads = resources.threads if resources.threads != "auto" else 1
        workers = dict.fromkeys(stages, Workers(resources.beam.parallel, threads, "cuda" if on_gpu else "cpu"))
    else:
        workers = dict.fromkeys(stages, share_out(resources))
    search = workers["search"]
    return workers, Context(config, config.output or "", search.device, search.threads)


def _size(config: RunConfig, asked: Asked, inputs: tuple[list[Shard], list[Shard]] | None, rates: Rates | None) -> Size:
    files = _files(inputs[0]) if inputs is not None else []
    seconds = audio_seconds(inputs[0]) if inputs is not None else 0.0
    hours = seconds / 3600 if asked.hours is None else asked.hours
    recordings = len(files)
    if asked.hours is not None or asked.recording_minutes is not None:
        minutes = asked.recording_minutes
        if minutes is None and seconds:
            minutes = seconds / 60 / len(files)
        if minutes is None and rates is not None:
            minutes = rates.hours * 60 / rates.recordings
        recordings = math.ceil(hours * 60 / minutes) if minutes else len(files)
    lines = asked.sentences
    if lines is None:
        lines = count_lines(inputs[1]) if inputs is not None else 0
    of_text = math.ceil(lines / config.text.lines_per_shard) if asked.sentences is not None or inputs is None else None
    shares, shared = _shares(config, files, rates)
    return Size(
        hours, recordings, lines, math.ceil(recordings / config.speech.recordings_per_shard),
        len(inputs[1]) if of_text is None and inputs is not None else of_text or 0, shares, shared,
    )  # fmt: skip


def _shares(config: RunConfig, files: list[InputFile], rates: Rates | None) -> tuple[dict[str, float], str]:
    """Each language's share of the audio, and by what."""
    wanted = config.speech_languages()
    if files and all(file.lang for file in files):
        stated = [str(file.lang) for file in files]
        return {lang: stated.count(lang) / len(stated) for lang in wanted}, "as many recordings as the manifest has"
    if rates is not None and set(wanted) <= rates.shares.keys():
        return {lang: rates.shares[lang] for lang in wanted}, "as in the rates' run"
    return {lang: 1 / len(wanted) for lang in wanted}, "equally"


def _rows(context: Context, asked: Asked, size: Size, rates: Rates | None) -> dict[str, tuple[int, bool]]:
    """Rows of every side without decoys, and whether they are guessed."""
    spans = rates.spans if rates is not None else SPANS_PER_SECOND * 3600
    kept = rates.sentences_kept if rates is not None and rates.sentences_kept is not None else 1.0
    texts = len(context.config.text_languages())
    rows = {}
    for side in context.config.sides():
        given = asked.hours if side.is_audio else asked.sentences
        there = count_rows(side, context) if given is None and context.root else None
        guess = size.hours * spans * size.shares[side.lang] if side.is_audio else size.lines * kept / max(texts, 1)
        rows[str(side)] = (round(guess), True) if there is None else (there, False)
    return rows


def _files(shards: list[Shard]) -> list[InputFile]:
    """Files that can be found."""
    return [file for shard in shards for file in shard.files if file.problem is None]


def plan_json(done: DryRun) -> dict[str, Any]:
    """The plan for programs."""
    plan = done.plan
    told: dict[str, Any] = {
        "name": done.config.name, "output": done.config.output, "directions": done.config.directions,
        "workers": {stage: asdict(workers) for stage, workers in done.workers.items()},
        "searches": [asdict(search) for search in done.searches], "limits": done.limits,
    }  # fmt: skip
    if plan is None:
        return {**told, "unmeasured": done.unmeasured}
    totals = {what: plan.total(what) for what in ("core_hours", "gpu_hours", "wall_hours", "cost")}
    return {
        **told, "size": asdict(plan.size), "rates": plan.rates, "stages": [asdict(stage) for stage in plan.stages],
        "totals": totals, "storage_bytes": plan.storage, "storage_month_cost": plan.month_cost,
        "pairs_kept": plan.pairs, "assumptions": plan.assumptions,
    }  # fmt: skip


def plan_text(config: RunConfig, asked: Asked = Asked()) -> str:
    """The plan for people: inputs, directions, workers, the search, every stage, storage, and what does not fit."""
    return dry_run_text(dry_run(config, asked))


def dry_run_text(done: DryRun) -> str:
    """The plan for people."""
    config, workers, plan = done.config, done.workers, done.plan
    mining = config.mining
    rule = f"threshold {mining.threshold}"
    if mining.min_precision is not None:
        rule = f"precision of each pair {mining.min_precision:g} or more"
    if mining.fdr is not None:
        rule = f"share of wrong pairs {mining.fdr:g} or less"
    lines = [f"run        {config.name} → {config.output or '(give --output)'}"]
    if done.inputs is not None:
        lines += [f"recordings {_described(done.inputs[0])}", f"texts      {_described(done.inputs[1])}"]
    if plan is not None:
        size = plan.size
        shares = ", ".join(f"{lang} {share:.0%}" for lang, share in size.shares.items())
        lines += [
            f"size       {size.hours:,.2f} h in {size.recordings:,} recordings, {size.speech_shards:,} shards; "
            f"{size.lines:,} lines of text in {size.text_shards:,} shards",
            f"shares     {shares}: {size.shared}",
        ]
    lines += [
        f"languages  audio {', '.join(config.speech_languages())}; text {', '.join(config.text_languages())}",
        f"directions {', '.join(config.directions)}",
        f"mining     k {mining.k}, margin {mining.margin}, strategy {mining.strategy}, {rule}",
        f"workers    {_described_workers(workers)}",
        "",
        *_search_table(done.searches),
    ]
    if plan is None:
        lines.append(f"the other stages could not be measured: {done.unmeasured}")
    else:
        lines += ["", *_stage_table(plan, config), "", *_storage_table(plan), "", *_pairs_lines(plan)]
        lines += ["", f"rates: {plan.rates}", *_assumed(plan)]
    if done.limits:
        lines += ["", "does not fit:", *(f"- {line}" for line in done.limits)]
    return "\n".join(lines)


def size_text(size: float | None) -> str:
    """Bytes for people: 3.2 GiB, 12 MiB; ? where it is not known."""
    if size is None:
        return "?"
    for unit, power in (("PiB", 50), ("TiB", 40), ("GiB", 30)):
        if size >= 2**power:
            return f"{size / 2**power:,.1f} {unit}"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 or not size else f"{size / 2**10:.1f} KiB"


def _search_table(searches: list[SearchPlan]) -> list[str]:
    lines = [
        f"{'search':<10} {'rows':>22} {'backend':<11} {'tasks':>5} {'memory each':>11} {'operations':>10} "
        f"{'passed on':>10} {'time':>8} {'gather, mine memory':>19}",
        *(_search_line(search) for search in searches),
    ]
    if any(search.guessed for search in searches):
        lines.append("rows marked ~ are guessed from the inputs: the plan is exact once they are embedded")
    return lines + [f"{name}: {why}" for name, why in dict.fromkeys((one.backend, one.why) for one in searches)]


def _search_line(plan: SearchPlan) -> str:
    about = "~" if plan.guessed else ""
    rows = f"{about}{plan.num_src:,} × {about}{plan.num_tgt:,}"
    operations = f"{plan.operations:.1e}" if plan.operations else "-"
    return (
        f"{plan.direction:<10} {rows:>22} {plan.backend:<11} {plan.tasks:>5} {size_text(plan.memory):>11} "
        f"{operations:>10} {size_text(plan.shuffled):>10} {clock(plan.seconds):>8} "
        f"{size_text(plan.gather_memory) + ', ' + size_text(plan.choice_memory):>19}"
    )


def _stage_table(plan: RunPlan, config: RunConfig) -> list[str]:
    lines = [
        f"{'stage':<8} {'tasks':>9} {'core-hours':>12} {'GPU-hours':>10} {'wall hours':>11} {'read':>11} "
        f"{'of it passed':>12} {'written':>11} {'memory':>10} {'cost':>12}"
    ]
    lines += [_stage_line(stage) for stage in plan.stages if stage.tasks]
    total = StageCost(
        "all", sum(stage.tasks for stage in plan.stages), 0, plan.total("core_hours"), plan.total("gpu_hours"),
        plan.total("wall_hours"), plan.total("read"), plan.total("shuffled"), plan.total("written"),
        max((stage.memory or 0 for stage in plan.stages), default=0), plan.total("cost"),
    )  # fmt: skip
    lines.append(_stage_line(total))
    if config.resources.prices.cpu_hour is None:
        lines.append("cost: no price given (resources.prices.cpu_hour, gpu_hour, gb_month)")
    if any(stage.core_hours is None for stage in plan.stages if stage.tasks):
        lines.append("?: not measured; --rates-from a finished run tells it")
    return lines


def _stage_line(stage: StageCost) -> str:
    gpu = "-" if stage.gpu_hours is None else _number(stage.gpu_hours)
    cost = "-" if stage.cost is None else f"{stage.cost:,.2f}"
    return (
        f"{stage.stage} {stage.tasks:>{17 - len(stage.stage)},} "
        f"{_number(stage.core_hours):>12} {gpu:>10} {_number(stage.wall_hours):>11} "
        f"{size_text(stage.read):>11} {size_text(stage.shuffled):>12} {size_text(stage.written):>11} "
        f"{size_text(stage.memory):>10} {cost:>12}"
    )


def _storage_table(plan: RunPlan) -> list[str]:
    known = [size for size in plan.storage.values() if size is not None]
    lines = ["stored   " + "; ".join(f"{name} {size_text(size)}" for name, size in plan.storage.items() if size != 0.0)]
    unknown = "" if len(known) == len(plan.storage) else " and what is not known"
    lines.append(f"         together {size_text(sum(known))}{unknown}")
    if plan.month_cost is not None:
        lines.append(f"         {plan.month_cost:,.2f} a month")
    return lines


def _pairs_lines(plan: RunPlan) -> list[str]:
    told = [f"{name} {'?' if count is None else f'{count:,}'}" for name, count in plan.pairs.items()]
    return ["kept     " + ", ".join(told) + " pairs"]


def _assumed(plan: RunPlan) -> list[str]:
    lines = [
        "assumed: every hour of audio has as many spans and kept pairs as in the rates' run; every line of text is as "
        "long; processors are as fast. The search is timed here and now",
        "not in it: waiting for a queue, or for a slower disk or network than the rates' run had; tasks done twice",
    ]
    return lines + plan.assumptions


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _described_workers(workers: dict[str, Workers]) -> str:
    alike: dict[Workers, list[str]] = {}
    for stage, some in workers.items():
        alike.setdefault(some, []).append(stage)
    told = [
        f"{one.processes} processes of {one.threads} threads on {one.device}"
        + (f" ({', '.join(stages)})" if len(alike) > 1 else "")
        for one, stages in alike.items()
    ]
    return "; ".join(told)


def _described(shards: list[Shard]) -> str:
    files = {file.uri: file for shard in shards for file in shard.files}.values()
    good = [file for file in files if file.problem is None]
    stored = {place_of(file.uri).file for file in good}  # what is on the web is asked when it is read
    size = sum(storage.size(uri) for uri in stored if not is_http(uri))
    missing = f", {len(files) - len(good)} cannot be found" if len(good) < len(files) else ""
    return f"{len(good)} files, {size / 2**20:.1f} MiB, in {len(shards)} shards{missing}"
