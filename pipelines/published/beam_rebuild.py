"""A rebuilding as one Beam pipeline, for any runner."""

from collections.abc import Sequence
from typing import Any

from seamlessalign.pipelines.beam_run import BeamJob, Planner
from seamlessalign.pipelines.context import new_run_id
from seamlessalign.pipelines.published.rebuild_config import RebuildConfig
from seamlessalign.pipelines.published.rebuild_tasks import RebuildContext
from seamlessalign.pipelines.stage_plans import StagePlan


class BeamRebuild(BeamJob):
    """A rebuilding."""

    context: RebuildContext

    def __init__(self, config: RebuildConfig, flags: list[str]) -> None:
        """As a job has it."""
        super().__init__(
            config, config.output, flags,
            lambda device, threads: RebuildContext(config, config.output, device, threads, new_run_id()),
        )  # fmt: skip

    def levels(self) -> Sequence[Sequence[str]]:
        """The stages of every rebuilding."""
        from seamlessalign.pipelines.published.rebuild import LEVELS

        return LEVELS

    def planner(self) -> Planner:
        """Plans from the folder alone."""
        return _plan


def _plan(stage: str, context: Any) -> StagePlan:
    from seamlessalign.pipelines.published.rebuild import plan_stage

    return plan_stage(stage, context)
