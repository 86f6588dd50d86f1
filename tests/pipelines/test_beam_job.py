"""A job that may be at work without its driver keeps others out of the run's folder, until it has ended."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.beam_job import END, forget_job, record_job, refuse_beside_job
from seamlessalign.pipelines.beam_run import BeamRun
from seamlessalign.pipelines.driver import clear_folder
from seamlessalign.pipelines.task_log import task_log
from tests.pipelines.made_sides import config_of, context_of


@pytest.mark.parametrize("root", ["local", "memory"])
def test_others_are_refused_until_the_last_step_is_done(tmp_path: Path, root: str) -> None:
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    if root == "memory":
        context = replace(context, root=f"memory://{tmp_path.name}")
    folder = context.folder
    refuse_beside_job(folder)
    record_job(folder, "DataflowRunner", "2026-11-29_1", "r1")
    with pytest.raises(SeamlessAlignError, match=r"job 2026-11-29_1 of DataflowRunner, begun .* may be at work"):
        clear_folder(folder)
    with task_log(replace(context, run_id="r0"), "corpus", END, ""):  # of a run before
        pass
    with pytest.raises(SeamlessAlignError, match="may be at work"):
        refuse_beside_job(folder)
    with pytest.raises(ValueError), task_log(replace(context, run_id="r1"), "corpus", END, ""):
        raise ValueError("shards are missing")
    with pytest.raises(SeamlessAlignError, match="may be at work"):
        refuse_beside_job(folder)
    with task_log(replace(context, run_id="r1"), "corpus", END, ""), pytest.raises(SeamlessAlignError, match="may be"):
        refuse_beside_job(folder)
    refuse_beside_job(folder)
    forget_job(folder)  # there is none any more
    refuse_beside_job(folder)


def test_a_job_is_recorded_while_it_is_waited_for(tmp_path: Path) -> None:
    run = BeamRun(config_of(tmp_path, ["eng-frA"]), ["--runner=FlinkRunner"])
    folder = run.context.folder

    def wait() -> Any:
        with pytest.raises(SeamlessAlignError, match="job j-7 of FlinkRunner"):
            refuse_beside_job(folder)
        return "DONE"

    assert run._outcome(folder, SimpleNamespace(_job_id="j-7", wait_until_finish=wait)) == "DONE"
    refuse_beside_job(folder)


def test_half_a_record_is_a_record(tmp_path: Path) -> None:
    folder = context_of(config_of(tmp_path, ["eng-frA"])).folder
    record_job(folder, "DataflowRunner", "j", "r")
    Path(folder.beam_job).write_text("{")
    with pytest.raises(SeamlessAlignError, match=r"remove .*state/beam\.json and run again"):
        refuse_beside_job(folder)
