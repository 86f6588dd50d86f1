"""Training an identifier: it learns, goes on after being killed, and is the same in several processes."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.lid import load_speech_lid
from seamlessalign.lid.train import train_lid
from tests.embedders.student_world import train_in_two_processes
from tests.lid.spoken_world import LANGUAGES, lid_config, make_languages, parsed, sing

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")
# speechbrain itself is imported where it is needed: a bare import leaves traps in the table of modules
pytestmark = pytest.mark.skipif(importlib.util.find_spec("speechbrain") is None, reason="needs speechbrain")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech")
    return root


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "steps_per_second"} for line in lines]


def _state(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoint" / "state.pt", weights_only=True))


def _program(config: dict[str, Any], file: Path, *more: str) -> list[str]:
    file.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "seamlessalign", "train", "lid", str(file), *more]


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(world: Path, tmp_path: Path) -> None:
    straight, killed = lid_config(world, "straight"), lid_config(world, "killed")
    train_lid(parsed(straight))
    program = subprocess.Popen(_program(killed, tmp_path / "k.yaml"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics, end = world / "killed" / "metrics.jsonl", time.monotonic() + 120
    # a checkpoint is there, and lines of steps after it
    while not metrics.is_file() or not any(line["step"] >= 6 for line in _lines(metrics.parent)):
        assert program.poll() is None and time.monotonic() < end, program.stderr and program.stderr.read().decode()
        time.sleep(0.005)
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    assert 0 < _state(world / "killed")["progress"]["step"] < 12
    with metrics.open("a") as file:
        file.write('{"step": 7, "lo')  # as when the kill came while a line was written
    train_lid(parsed(killed))
    assert _lines(world / "killed") == _lines(world / "straight")
    ours, theirs = _state(world / "killed"), _state(world / "straight")
    assert ours["progress"] == theirs["progress"]
    assert all(torch.equal(ours["network"][name], value) for name, value in theirs["network"].items())
    for name in ("model/model.safetensors", "model/calibration.yaml", "confusion-1s.svg", "rejection.svg"):
        assert (world / "killed" / name).read_bytes() == (world / "straight" / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_are_one(world: Path, tmp_path: Path) -> None:
    """Two ranks over gloo learn what one process learns from the same batches of an odd size."""
    changes: dict[str, Any] = {"optimiser__batch": 7, "optimiser__steps": 8, "validation__every": 8}
    changes |= {"optimiser__lr": 1e-4, "optimiser__last_lr": 1e-5}
    train_lid(parsed(lid_config(world, "one", **changes)))
    train_in_two_processes(_program(lid_config(world, "two", **changes), tmp_path / "two.yaml"))
    mine, theirs = _lines(world / "one"), _lines(world / "two")
    assert len(mine) == len(theirs)
    for ours, other in zip(mine, theirs, strict=True):
        assert ours.keys() == other.keys()
        if "loss" in ours:
            assert other["loss"] == pytest.approx(ours["loss"], rel=1e-5), (ours, other)
            assert other["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
    first, second = (_state(world / name)["network"] for name in ("one", "two"))
    furthest = {name: float((first[name] - second[name]).abs().max()) for name in first}
    assert max(furthest.values()) < 2e-4, furthest  # two steps: Adam divides by gradients that are next to nothing


def test_it_learns_and_what_it_writes_can_be_loaded(world: Path) -> None:
    steps = {"optimiser__steps": 40, "optimiser__batch": 12, "validation__every": 20, "log_every": 20}
    result = train_lid(parsed(lid_config(world, "learns", half_weights=True, **steps)))
    assert result.finished == "steps" and result.macro_f1 >= 0.9
    lid = load_speech_lid("ecapa", str(world / "learns" / "model"))
    assert lid.calibration is not None and lid.calibration.sha256 == lid.sha256
    for lang in LANGUAGES:
        decision = lid.decide(sing(lang, 3.0, 999), window_seconds=1.0, max_windows=3)
        assert decision.lang == lang and len(decision.windows) == 3 and not decision.mixed
    figures = json.loads((world / "learns" / "evaluation.json").read_text())
    assert [line["seconds"] for line in figures["lengths"]] == [1, 2]
    assert set(figures["lengths"][0]["all"]["f1"]) == set(LANGUAGES)
    assert all(line["cost"] > 0 for line in figures["lengths"])
    assert "macro F1" in (world / "learns" / "curve.svg").read_text()


@pytest.mark.slow
def test_processes_that_load_make_no_difference(world: Path) -> None:
    for workers in (0, 1):
        changes = {"optimiser__steps": 3, "validation__every": 3, "resources__workers": workers}
        train_lid(parsed(lid_config(world, f"workers-{workers}", **changes)))
    assert _lines(world / "workers-0") == _lines(world / "workers-1")


def test_half_precision(world: Path) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        train_lid(parsed(lid_config(world, "bf16", resources__precision="bf16", optimiser__steps=6)))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    losses = [line["loss"] for line in _lines(world / "bf16") if "loss" in line]
    assert len(losses) == 6 and np.isfinite(losses).all()
    full = (
        [line["loss"] for line in _lines(world / "straight") if "loss" in line] if (world / "straight").exists() else []
    )
    assert not full or losses != full[:6]  # it is another precision


def test_it_ends_when_it_gets_no_better(world: Path) -> None:
    config = lid_config(
        world, "patience", validation={"every": 2, "patience": 2, "crops": 5, "seconds": [1]}, optimiser__lr=1e-9,
        optimiser__last_lr=1e-9, optimiser__steps=60,
    )  # fmt: skip
    result = train_lid(parsed(config))
    assert result.finished == "patience" and result.steps < 60
    assert train_lid(parsed(config)) == result and _lines(world / "patience")[-1]["finished"] == "patience"


class TestRefusals:
    def test_another_configuration_is_refused(self, world: Path) -> None:
        config = lid_config(world, "guard", optimiser__steps=2, validation__every=2)
        train_lid(parsed(config))
        config["optimiser"]["lr"] = 0.5
        with pytest.raises(ConfigError, match=r"guard holds a training with optimiser\.lr = 0\.005, not 0\.5"):
            train_lid(parsed(config))

    def test_one_language_is_refused(self, world: Path) -> None:
        config = lid_config(world, "lonely")
        config["data"]["train"][0]["languages"] = ["fra"]
        with pytest.raises(InputError, match="there is only fra"):
            train_lid(parsed(config))

    def test_a_language_that_is_only_held_out_is_refused(self, world: Path) -> None:
        config = lid_config(world, "strange")
        config["data"]["validation"] = [dict(config["data"]["train"][0])]
        config["data"]["train"][0]["languages"] = ["fra", "eng"]
        with pytest.raises(InputError, match=r"no source of data\.train has rus"):
            train_lid(parsed(config))

    def test_a_loss_that_is_not_finite_ends_it(self, world: Path) -> None:
        config = lid_config(world, "wild", optimiser__lr=1e30, optimiser__last_lr=1e30, optimiser__warmup=0)
        with pytest.raises(ModelError, match=r"the loss is (nan|inf); lower optimiser\.lr"):
            train_lid(parsed(config))

    def test_the_command_tells_errors_in_one_line(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "c.yaml"
        config = lid_config(world, "cli") | {"optimizer": {}}
        file.write_text(yaml.safe_dump(config))
        assert main(["train", "lid", str(file)]) == 2
        assert "unknown key 'optimizer'; did you mean 'optimiser'?" in capsys.readouterr().err
        del config["optimizer"]
        file.write_text(yaml.safe_dump(config))
        assert main(["train", "lid", str(file), "optimiser.steps=2", "validation.every=2"]) == 0
        out = capsys.readouterr().out
        assert str(world / "cli" / "model") in out and "macro F1" in out and "at step 2 of 2" in out

    def test_a_model_of_another_shape_is_refused(self, world: Path, tmp_path: Path) -> None:
        if not (world / "guard" / "model").exists():
            train_lid(parsed(lid_config(world, "guard", optimiser__steps=2, validation__every=2)))
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((world / "guard" / "model" / name).read_bytes())
        about = json.loads((tmp_path / "config.json").read_text())
        about["sizes"]["embedding"] = 17
        (tmp_path / "config.json").write_text(json.dumps(about))
        with pytest.raises(ModelError, match="has shape"):
            load_speech_lid("ecapa", str(tmp_path))
        about["languages"] = ["eng", "eng", "rus"]
        (tmp_path / "config.json").write_text(json.dumps(about))
        with pytest.raises(ModelError, match="none of them twice"):
            load_speech_lid("ecapa", str(tmp_path))
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelError, match=r"config\.json"):
            load_speech_lid("ecapa", str(tmp_path))
        assert load_file(world / "guard" / "model" / "model.safetensors")
