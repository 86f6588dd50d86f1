"""What a training says: on a real terminal, elsewhere, and to TensorBoard, whose own reader is asked."""

import io
import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_log import TrainingLog
from tests.ground.line_trainer import LineSettings, LineTrainer, train_line
from tests.ground.trainings import metrics_of

KEYS: dict[str, Any] = {
    "optimiser": {"steps": 12, "lr": 0.05, "warmup": 3},
    "validation": {"every": 4, "at_start": True},
    "log_every": 2,
    "checkpoint_every": 5,
    "resources": {"device": "cpu"},
}


def _events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard shows them."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=True)
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


class _Stopping(LineTrainer):
    def batch_loss(self, *of_batch: Any) -> Any:
        if self.at.step == 8:
            raise KeyboardInterrupt
        return super().batch_loss(*of_batch)


class TestEvents:
    def test_they_are_the_lines_of_metrics_also_where_it_was_stopped(self, tmp_path: Path) -> None:
        keys = KEYS | {"output": str(tmp_path)}
        with pytest.raises(KeyboardInterrupt):
            _Stopping(LineSettings.model_validate(keys)).run()  # at step 8, and the checkpoint is of step 5
        train_line(**keys)
        events = _events(tmp_path)
        lines = metrics_of(tmp_path)
        for tag, marker in (("train", "lr"), ("validation", "error")):
            some = [line for line in lines if marker in line and "finished" not in line]
            for key in ("loss", "lr", "grad_norm", "epoch") if tag == "train" else ("error",):
                wanted = [(line["step"], line[key]) for line in some]
                assert [step for step, _ in wanted] == [step for step, _ in events[f"{tag}/{key}"]]
                assert [value for _, value in events[f"{tag}/{key}"]] == pytest.approx([v for _, v in wanted], rel=1e-6)
        assert events["validation/deep/a/b"] == [(step, 1.0) for step in (0, 4, 8, 12)]
        assert events["end/best"][0][0] == 12

    def test_there_are_none_where_none_are_wanted(self, tmp_path: Path) -> None:
        train_line(**KEYS, output=str(tmp_path), tensorboard=False)
        assert not (tmp_path / "tensorboard").exists()

    def test_it_is_said_once_where_the_package_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        assert train_line(**KEYS, output=str(tmp_path)).finished == "steps"
        assert capsys.readouterr().err.count("no files for TensorBoard, which is not installed") == 1


def _on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a training writes on a real terminal of 80 columns."""
    main, end = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    try:
        with os.fdopen(end, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            train_line(**KEYS, output=str(tmp_path), seconds=0.05)
            monkeypatch.undo()
            terminal.flush()
            os.set_blocking(main, False)
            said = b""
            while True:
                try:
                    said += os.read(main, 1 << 16)
                except BlockingIOError:
                    return said.decode()
    finally:
        os.close(main)


class TestProgress:
    def test_a_terminal_has_one_line_that_renews_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said = _on_a_terminal(tmp_path, monkeypatch)
        renewed = re.findall(
            r"\r\x1b\[2K(step (\d+) of 12, loss [\d.e+-]+, [\d.e+-]+ steps/s, \d+:\d\d:\d\d [^\r\n]*)", said
        )
        assert 1 < len(renewed) <= 12 and renewed[-1][1] == "12"
        assert all(len(line) <= 59 for line, _ in renewed)
        steps = [int(step) for _, step in renewed]
        assert steps == sorted(set(steps))
        lines = [part.split("\x1b[2K")[-1] for part in said.replace("\r\n", "\n").split("\n")]  # as they stay
        assert lines[0] == "48 points; set aside: {'broken': 2}" and lines[-1] == ""
        assert [re.match(r"step \d+, epoch \d, error ", line) is not None for line in lines[1:5]] == [True] * 4
        assert lines[5].startswith("step 12, finished steps") and len(lines) == 7

    def test_elsewhere_there_are_lines_with_the_time_left(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        train_line(**KEYS, output=str(tmp_path))
        said = capsys.readouterr().err
        assert "\r" not in said and "\x1b" not in said
        of_steps = [line for line in said.splitlines() if " lr " in line]
        assert len(of_steps) == 6 and all(re.search(r", \d+:\d\d:\d\d left$", line) for line in of_steps)
        assert of_steps[-1].endswith(", 0:00:00 left")

    def test_it_says_where_it_is_when_it_was_silent_for_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = io.StringIO()
        monkeypatch.setattr(sys, "stderr", told)
        log = TrainingLog(TrainingFolder(str(tmp_path)), main=True, steps=10)
        log.progress(3, 1.0)
        assert told.getvalue() == ""
        monkeypatch.setattr("seamlessalign.training_log._SILENT_SECONDS", 0.0)
        log.progress(4, 1.0)
        assert re.fullmatch(r"step 4 of 10, \d+:\d\d:\d\d left\n", told.getvalue())
