"""The one map by which a run reduces the dimensions of all its rows, both sides of all directions, before mining.

It is fitted on rows spread evenly over every side, each side's less its mean as `gather` takes it away, or read from a
file; either way it lies in the run's folder, and `gather` takes it from there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.config import ReduceConfig
from seamlessalign.embedders import speech_card
from seamlessalign.embedders.reduction import Reduction, fit_reduction, load_reduction, save_reduction
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import Side
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.ledger import Mark, Tally

STAGE = "reduce"
TABLE = "state/mining/reduction"
NAME = "all-sides"


@dataclass(frozen=True)
class ReduceTask:
    """All sides of a run, whose rows go through one map."""

    sides: tuple[Side, ...]


def check(context: Context) -> None:
    """Raise ConfigError or ModelError where the run's rows cannot be reduced as the configuration says."""
    reduce = context.config.mining.reduce
    if reduce is None:
        return
    card = speech_card(context.config.speech.embedder, context.config.models)
    if reduce.dim is not None and reduce.dim > card.dim:
        raise ConfigError(f"mining.reduce.dim: {reduce.dim} is more than the {card.dim} dimensions of {card.name}")
    if reduce.file is not None and load_reduction(reduce.file).dims[0] != card.dim:
        before = load_reduction(reduce.file).dims[0]
        raise ConfigError(f"mining.reduce.file: {reduce.file} reduces {before} dimensions, {card.name} has {card.dim}")


def digest_parts(context: Context) -> list[Any]:
    """What the map depends on besides the rows of all sides; nothing where rows are not reduced."""
    reduce = context.config.mining.reduce
    if reduce is None:
        return []
    if reduce.file is not None:
        return [STAGE, load_reduction(reduce.file).digest]
    return [STAGE, reduce, context.config.mining.centre]


def process(task: ReduceTask, digest: str, context: Context) -> Mark:
    """Fit or read the map, write it, and return the completion mark."""
    reduce, watch, tally = context.config.mining.reduce, Stopwatch(), Tally()
    assert reduce is not None
    with watch.step("reduce"):
        reduction = load_reduction(reduce.file) if reduce.file is not None else _fit(task, reduce, context)
        tally.keep(int(reduction.recipe.get("rows", 0)))
    uris = save_reduction(reduction, context.folder.table(TABLE), NAME)
    line = tally.line(STAGE, NAME, digest=digest, seconds=watch.seconds, bytes_written=sum(map(storage.size, uris)))
    advance(STAGE, 1)
    return Mark(STAGE, NAME, digest, [context.folder.relative(uri) for uri in uris], [line])


def load(context: Context) -> Reduction | None:
    """The map of a run; None where rows are not reduced."""
    if context.config.mining.reduce is None:
        return None
    return load_reduction(storage.join(context.folder.table(TABLE), f"{NAME}.safetensors"))


def _fit(task: ReduceTask, reduce: ReduceConfig, context: Context) -> Reduction:
    def samples() -> Any:
        for side in task.sides:
            rows = gather_stage.spread_rows(side, reduce.sample, context)
            yield rows[np.linalg.norm(rows, axis=1) > gather_stage.NOTHING]

    recipe = {"sides": [str(side) for side in task.sides], "rows of a side at most": reduce.sample}
    try:
        return fit_reduction(samples(), int(reduce.dim or 0), reduce.whiten, recipe)
    except InputError as error:
        raise InputError(f"mining.reduce: {error}") from error
