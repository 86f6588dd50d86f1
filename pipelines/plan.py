"""What a run would do: shown by `--dry-run`."""

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.local import share_out
from seamlessalign.pipelines.progress import clock
from seamlessalign.pipelines.run import plan_inputs
from seamlessalign.pipelines.search_plan import SearchPlan, plans
from seamlessalign.pipelines.search_sizes import over_memory


def plan_text(config: RunConfig) -> str:
    """Inputs, shards, languages, directions and workers, and what the search takes, for people."""
    recordings, texts = plan_inputs(config)
    workers = share_out(config.resources)
    context = Context(config, config.output or "", workers.device, workers.threads)
    searches = plans(context, workers, recordings, texts)
    mining = config.mining
    rule = f"threshold {mining.threshold}"
    if mining.min_precision is not None:
        rule = f"precision of each pair {mining.min_precision:g} or more"
    if mining.fdr is not None:
        rule = f"share of wrong pairs {mining.fdr:g} or less"
    lines = [
        f"run        {config.name} → {config.output or '(give --output)'}",
        f"recordings {_described(recordings)}",
        f"texts      {_described(texts)}",
        f"languages  audio {', '.join(config.speech_languages())}; text {', '.join(config.text_languages())}",
        f"directions {', '.join(config.directions)}",
        f"mining     k {mining.k}, margin {mining.margin}, strategy {mining.strategy}, {rule}",
        f"workers    {workers.processes} processes of {workers.threads} threads on {workers.device}",
        "",
        f"{'search':<10} {'rows':>22} {'backend':<11} {'tasks':>5} {'memory each':>11} {'operations':>10} "
        f"{'passed on':>10} {'time':>8} {'gather, mine memory':>19}",
        *(_search_line(plan) for plan in searches),
    ]
    if any(plan.guessed for plan in searches):
        lines.append("rows marked ~ are guessed from the inputs: the plan is exact once they are embedded")
    for plan in searches:
        told = over_memory(f"{plan.direction}: choosing its pairs", plan.choice_memory, config.resources)
        lines += [told] if told is not None else []
    lines += [f"{name}: {why}" for name, why in dict.fromkeys((plan.backend, plan.why) for plan in searches)]
    return "\n".join(lines)


def size_text(size: float) -> str:
    """Bytes for people: 3.2 GiB, 12 MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _search_line(plan: SearchPlan) -> str:
    about = "~" if plan.guessed else ""
    rows = f"{about}{plan.num_src:,} × {about}{plan.num_tgt:,}"
    return (
        f"{plan.direction:<10} {rows:>22} {plan.backend:<11} {plan.tasks:>5} {size_text(plan.memory):>11} "
        f"{plan.operations:>10.1e} {size_text(plan.shuffled):>10} {clock(plan.seconds):>8} "
        f"{size_text(plan.gather_memory) + ', ' + size_text(plan.choice_memory):>19}"
    )


def _described(shards: list[Shard]) -> str:
    files = {file.uri: file for shard in shards for file in shard.files}.values()
    good = [file for file in files if file.problem is None]
    size = sum(storage.size(file.uri) for file in good)
    missing = f", {len(files) - len(good)} cannot be found" if len(good) < len(files) else ""
    return f"{len(good)} files, {size / 2**20:.1f} MiB, in {len(shards)} shards{missing}"
