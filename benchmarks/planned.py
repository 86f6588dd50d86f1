"""How near a plan comes to a run: the plan of a finished run, by rates of another, against its ledger.

    python -m benchmarks.planned runs/small runs/demo/run

The plan is made as `run --dry-run --rates-from runs/small` makes it, of the configuration, the hours of audio and the
lines of text that the second run's folder tells of, before anything of it had been done. Printed for each stage are
core-hours planned and taken, bytes that were planned to be written and that were, and planned over taken.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.ledger import marks_of
from seamlessalign.pipelines.plan import Asked, dry_run, size_text
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.rows import SAMPLE_RATE


@dataclass
class Taken:
    """What a run took."""

    seconds: Counter[str] = field(default_factory=Counter)  # stage → core-seconds
    written: Counter[str] = field(default_factory=Counter)  # stage → bytes
    samples: int = 0  # of audio that was read
    lines: int = 0  # of text


def taken(root: str) -> Taken:
    """What a finished run took, from its marks."""
    found = Taken()
    for stage in STAGES:
        for line in (line for mark in marks_of(RunFolder(root), stage) for line in mark.lines):
            found.seconds[stage] += sum(line.seconds.values())  # type: ignore[assignment]
            found.written[stage] += line.bytes_written
            found.samples += line.samples_in if line.stage == "recordings" else 0
            found.lines += line.rows_in if line.stage == "sentences" else 0
    return found


def ratio(planned: float | None, done: float, form: Callable[[float], str]) -> list[str]:
    """Planned, done, and planned over done."""
    if planned is None or not done:
        return ["?" if planned is None else form(planned), form(done), "-"]
    return [form(planned), form(done), f"{planned / done:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("rates", help="folder of the run that rates are taken from")
    parser.add_argument("run", help="folder of the run that is planned")
    options = parser.parse_args(arguments)
    done = taken(options.run)
    config = read_config(options.run).model_copy(update={"output": None})
    hours = done.samples / SAMPLE_RATE / 3600
    plan = dry_run(config, Asked(hours=hours, sentences=done.lines, rates_from=options.rates)).plan
    assert plan is not None
    print(f"rates: {plan.rates}; planned: {hours:.2f} h of audio and {done.lines:,} lines of text")
    print("| stage | core-hours planned | taken | ratio | written, planned | written | ratio |")
    print("|---|---|---|---|---|---|---|")
    for stage in plan.stages:
        if not stage.tasks:
            continue
        hours_taken, size = done.seconds[stage.stage] / 3600, done.written[stage.stage]
        cells = [stage.stage, *ratio(stage.core_hours, hours_taken, "{:.5f}".format)]
        print(f"| {' | '.join([*cells, *ratio(stage.written, size, size_text)])} |")
    whole = sum(done.seconds.values()) / 3600
    cells = ["all", *ratio(plan.total("core_hours"), whole, "{:.5f}".format)]
    print(f"| {' | '.join([*cells, *ratio(plan.total('written'), sum(done.written.values()), size_text)])} |")


if __name__ == "__main__":
    main()
