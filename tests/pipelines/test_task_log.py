"""The log of a task: what begun, what was said, how it ended, without secrets, whatever happens to the disk."""

import json
import logging
from pathlib import Path

import pytest

from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.task_log import ShardFailure, error_of, last_failure, read_log, task_log
from tests.pipelines.made_sides import config_of, context_of


def _events(root: Path) -> list[dict[str, object]]:
    return read_log(RunFolder(str(root)), "speech", "part-00000")


def test_a_task_that_succeeds_after_one_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very/secret/key/indeed")
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    with pytest.raises(ValueError), task_log(context, "speech", "part-00000", "d1"):
        logging.getLogger("seamlessalign.audio").warning("very/secret/key/indeed is %s", "odd")
        raise ValueError("broken\nin two lines")
    failure = last_failure(context.folder, "speech", "part-00000", job="12_3")
    assert failure is not None and failure["error"] == "broken in two lines"
    assert last_failure(context.folder, "speech", "part-00000", job="12_4") is None
    told = error_of(failure, context.folder, "speech", "part-00000")
    assert isinstance(told, ShardFailure) and "raise ValueError" in told.trace
    assert str(told).endswith(
        f"stage speech, part-00000: broken in two lines; log: {tmp_path}/logs/speech/part-00000.jsonl"
    )
    with task_log(context, "speech", "part-00000", "d1"):
        pass
    events = _events(tmp_path)
    assert [event["event"] for event in events] == ["begun", "log", "failed", "begun", "done"]
    assert events[0]["digest"] == "d1" and events[0]["job"] == "12_3"
    assert "very/secret" not in (tmp_path / "logs/speech/part-00000.jsonl").read_text()
    assert last_failure(context.folder, "speech", "part-00000") is None


def test_an_error_of_the_user_comes_back_as_it_was(tmp_path: Path) -> None:
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    with pytest.raises(ConfigError), task_log(context, "mine", "direction=eng-frA", "d"):
        raise ConfigError("k: too small")
    failure = last_failure(context.folder, "mine", "direction=eng-frA", run=context.run_id)
    assert failure is not None
    told = error_of(failure, context.folder, "mine", "direction=eng-frA")
    assert isinstance(told, ConfigError) and (str(told), told.exit_status) == ("k: too small", 2)


def test_half_a_line_is_passed_over_and_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    context = context_of(config_of(tmp_path, ["eng-frA"]))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "speech").write_text("in the way")
    with task_log(context, "speech", "part-00000", "d"):
        pass
    assert _events(tmp_path) == []
    (tmp_path / "logs" / "speech").unlink()
    (tmp_path / "logs" / "speech").mkdir()
    (tmp_path / "logs" / "speech" / "part-00000.jsonl").write_text('{"event": "begun"}\n{"event": "fai')
    assert _events(tmp_path) == [{"event": "begun"}]


def test_a_remote_log_is_written_whole_and_keeps_what_was_there(tmp_path: Path) -> None:
    from dataclasses import replace

    context = replace(context_of(config_of(tmp_path, ["eng-frA"])), root=f"memory://{tmp_path.name}")
    for _ in range(2):
        with task_log(context, "speech", "part-00000", "d"):
            assert read_log(context.folder, "speech", "part-00000")[-1]["event"] == "begun"
    events = read_log(context.folder, "speech", "part-00000")
    assert [event["event"] for event in events] == ["begun", "done", "begun", "done"]
    assert all(json.dumps(event) for event in events)


def test_only_our_own_errors_are_taken_for_the_users(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    told = error_of({"error": "no", "kind": "SystemExit", "trace": ["a"]}, folder, "text", "part-00001")
    assert type(told) is ShardFailure and told.exit_status == 1
    assert type(error_of({"error": "no", "kind": "SeamlessAlignError"}, folder, "text", "x")) is SeamlessAlignError
