"""The section of a report on speed and cost: core-hours, GPU-hours, time on the clock, bytes and money by stage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.ledger import marks_of
from seamlessalign.pipelines.report_parts import tidy
from seamlessalign.pipelines.run_plan import ON_GPU
from seamlessalign.pipelines.stage_speed import overall_speed
from seamlessalign.rows import SAMPLE_RATE, LedgerLine

# stage → its lines of the ledger; what is not here is a stage of its own name
_LINES = {"speech": ("recordings", "segments"), "text": ("sentences",), "gather": ("mining_input",), "mine": ("pairs",)}
_STAGE_OF = {line: stage for stage, lines in _LINES.items() for line in lines}
_WITH_AUDIO = ("speech", "corpus", *SIDE_STAGES)  # whose samples are distinct audio; spans and candidates overlap
_PRICES = ("cpu_hour", "gpu_hour", "gb_month")


@dataclass(frozen=True)
class StageClock:
    """What completion marks say of a stage that the ledger does not."""

    wall_seconds: float  # of all shards, one after the other
    elapsed_seconds: float  # on the clock, while at least one shard was at work


@dataclass(frozen=True)
class RunCosts:
    """What is known of the cost of a run beside its ledger."""

    clocks: dict[str, StageClock] = field(default_factory=dict)  # by stage; of those that left marks
    on_gpu: bool = False
    prices: dict[str, float] = field(default_factory=dict)  # those that are given, by key of `resources.prices`


def read_costs(run_dir: str, config: Mapping[str, Any] | None) -> RunCosts:
    """Read a run's completion marks, and its prices out of its configuration as `run.yaml` has it."""
    folder = RunFolder(run_dir)
    clocks = {}
    for stage in stages_of(folder):
        marks = [mark for mark in marks_of(folder, stage) if mark.wall_seconds > 0]
        if marks:
            elapsed = overall_speed(marks).minutes * 60
            clocks[stage] = StageClock(sum(mark.wall_seconds for mark in marks), elapsed)
    resources = (config or {}).get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    given = resources.get("prices")
    given = given if isinstance(given, Mapping) else {}
    prices = {name: float(given[name]) for name in _PRICES if isinstance(given.get(name), int | float)}
    return RunCosts(clocks, resources.get("device") == "cuda", prices)


@dataclass
class _StageCost:
    """The ledger lines of a stage added up."""

    stage: str
    lines: list[LedgerLine]
    clock: StageClock | None
    on_gpu: bool

    def first(self) -> list[LedgerLine]:
        """The lines of what came in: of recordings, and not of the spans that were made of them."""
        wanted = _LINES.get(self.stage, (self.stage,))[0]
        return [line for line in self.lines if line.stage == wanted]

    @property
    def seconds(self) -> float:
        return sum(sum(line.seconds.values()) for line in self.lines)

    @property
    def gpu_seconds(self) -> float | None:
        return self.clock.wall_seconds if self.on_gpu and self.clock and self.stage in ON_GPU else None

    def total(self, name: str) -> int:
        return sum(getattr(line, name) for line in self.lines)

    def cost(self, prices: Mapping[str, float]) -> float | None:
        """None where a price is not given."""
        if "cpu_hour" not in prices or (self.gpu_seconds is not None and "gpu_hour" not in prices):
            return None
        return (self.seconds * prices["cpu_hour"] + (self.gpu_seconds or 0.0) * prices.get("gpu_hour", 0.0)) / 3600


def costs_section(ledger: Sequence[LedgerLine], costs: RunCosts) -> list[Markup]:
    """What each stage took, and folded, each of its steps; nothing where there is no ledger."""
    stages = _stages(ledger, costs)
    if not stages:
        return []
    audio = sum(line.samples_in for line in ledger if line.stage == "recordings") / SAMPLE_RATE
    rows = [_row(stage, costs.prices) for stage in stages]
    rows.append(_total(stages, costs, audio))
    head = (
        "stage", "shards", "core time", "GPU time", "on the clock", "audio h / core-h", "rows / core-s", "read",
        "written", "peak memory", "cost",
    )  # fmt: skip
    pieces = [table_of(head, rows, numeric=range(1, len(head)))]
    notes = (
        "Core time is the work of all processes, and audio h / core-h how many times faster than real time one core "
        "goes; time on the clock is while a shard was at work; peak memory is that of one process."
    )
    if costs.on_gpu:
        notes += " GPU time is that of the shards on the clock."
    return [*pieces, tag("p", f"{notes} {_money(stages, costs, audio)}", class_="note"), _steps(stages)]


def _stages(ledger: Sequence[LedgerLine], costs: RunCosts) -> list[_StageCost]:
    lines: dict[str, list[LedgerLine]] = {}
    for line in ledger:
        lines.setdefault(_STAGE_OF.get(line.stage, line.stage), []).append(line)
    return [_StageCost(stage, some, costs.clocks.get(stage), costs.on_gpu) for stage, some in lines.items()]


def _row(stage: _StageCost, prices: Mapping[str, float]) -> Row:
    first, spent = stage.first(), stage.seconds
    samples = sum(line.samples_in for line in first) if stage.stage in _WITH_AUDIO else 0
    rows = sum(line.rows_in for line in first)
    gpu, cost = stage.gpu_seconds, stage.cost(prices)
    return row_of(
        stage.stage,
        f"{len({line.shard for line in stage.lines}):,}",
        duration(spent),
        "–" if gpu is None else duration(gpu),
        "–" if stage.clock is None else duration(stage.clock.elapsed_seconds),
        rate(samples / SAMPLE_RATE / spent) if samples and spent > 0 else "–",
        rate(rows / spent) if spent > 0 else "–",
        size(read) if (read := stage.total("bytes_read")) else "–",  # of tables of its own a run does not count it
        size(stage.total("bytes_written")),
        size(max(line.peak_rss for line in stage.lines)),
        "–" if cost is None else f"{cost:,.2f}",
    )


def _total(stages: Sequence[_StageCost], costs: RunCosts, audio: float) -> Row:
    spent = sum(stage.seconds for stage in stages)
    gpu = [stage.gpu_seconds for stage in stages if stage.gpu_seconds is not None]
    clocks = [stage.clock.elapsed_seconds for stage in stages if stage.clock is not None]
    money = [stage.cost(costs.prices) for stage in stages]
    known = [one for one in money if one is not None]
    return row_of(
        "all stages",
        "",
        duration(spent),
        duration(sum(gpu)) if gpu else "–",
        duration(sum(clocks)) if clocks else "–",
        rate(audio / spent) if audio and spent > 0 else "–",
        "",
        size(sum(stage.total("bytes_read") for stage in stages)),
        size(sum(stage.total("bytes_written") for stage in stages)),
        size(max(line.peak_rss for stage in stages for line in stage.lines)),
        f"{sum(known):,.2f}" if known and len(known) == len(money) else "–",
        kind="total",
    )


def _money(stages: Sequence[_StageCost], costs: RunCosts, audio: float) -> str:
    """What the prices are, and what an hour of audio came to."""
    if not costs.prices:
        return "No price is known: resources.prices.cpu_hour, gpu_hour and gb_month of the configuration make costs."
    told = ", ".join(f"{name.replace('_', ' ')} {costs.prices[name]:g}" for name in _PRICES if name in costs.prices)
    text = f"Prices: {told}."
    money = [stage.cost(costs.prices) for stage in stages]
    known = [one for one in money if one is not None]
    if len(known) == len(money) and audio:
        text += f" That is {sum(known) / (audio / 3600):,.4g} for an hour of audio that came in."
    if "gb_month" in costs.prices:
        written = sum(stage.total("bytes_written") for stage in stages) / 1e9
        text += f" What was written, {written:,.2f} GB, costs {written * costs.prices['gb_month']:,.2f} a month."
    return text


def _steps(stages: Sequence[_StageCost]) -> Markup:
    """The steps of all stages, those that took longest first."""
    rows: list[Row] = []
    for stage in stages:
        seconds = Counter[str]()
        for line in stage.lines:
            seconds.update(line.seconds)
        first = stage.first()
        samples = sum(line.samples_in for line in first) if stage.stage in _WITH_AUDIO else 0
        entered = sum(line.rows_in for line in first)
        whole = sum(seconds.values())
        for step, spent in seconds.most_common():
            speed = rate(samples / SAMPLE_RATE / spent) if samples and spent > 0 else "–"
            done = rate(entered / spent) if spent > 0 else "–"
            share = f"{spent / whole:.1%}" if whole > 0 else "–"
            rows.append(row_of(stage.stage, tidy(step), duration(spent), share, speed, done))
    head = ("stage", "step", "core time", "of its stage", "audio h / core-h", "rows / core-s")
    return tag("details", tag("summary", "Step by step"), table_of(head, rows, numeric=range(2, 6)))


def size(number: int) -> str:
    """Bytes for people."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number} B"


def rate(value: float) -> str:
    """A speed in about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
