"""Stages that begin and end in a folder where another driver may have begun."""

from pathlib import Path

import numpy as np
import pytest

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.languages import Side
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.ledger import done_shards, read_marks, write_mark
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.stage_plans import StagePlan, begin_stage, end_stage
from tests.pipelines.made_sides import DIM, config_of, context_of, write_segments

FRA = Side.parse("frA")


def test_a_stage_whose_plan_is_gone_ends_with_an_error_and_clears_nothing(tmp_path: Path) -> None:
    """As when a job on Dataflow goes on whose driver died, and the same command is given again."""
    write_segments(tmp_path, "fra", np.random.default_rng(3).standard_normal((9, DIM)).astype(np.float32), [0])
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    folder, stage = context.folder, gather_stage.STAGE
    (task,) = begin_stage(StagePlan(stage, [ShardTask(stage, f"side={FRA}", "d", FRA)], 1.0), folder)
    write_mark(folder, gather_stage.process(FRA, "d", context))
    end_stage(stage, folder)
    files = storage.list_files(folder.table(gather_stage.TABLE))
    storage.remove(folder.plans)
    with pytest.raises(SeamlessAlignError, match="gather: its plan is gone: another driver has begun in "):
        end_stage(stage, folder)
    assert storage.list_files(folder.table(gather_stage.TABLE)) == files != []
    assert list(read_marks(folder, stage)) == [task.name]
    assert done_shards(folder, stage, [task.name], [gather_stage.TABLE]) == {task.name: "d"}
