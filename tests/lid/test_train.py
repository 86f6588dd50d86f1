"""Training an identifier: it learns, goes on after being killed, and is the same in several processes."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.lid import load_speech_lid
from seamlessalign.lid.train import train_lid
from tests.ground.trainings import (
    assert_close,
    assert_same,
    kill_midway,
    metrics_of,
    start_ranks,
    state_of,
    tell_one_of_two_to_stop,
    wait_for,
)
from tests.lid.spoken_world import LANGUAGES, lid_config, make_languages, parsed, sing

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")
# speechbrain itself is imported where it is needed: a bare import leaves traps in the table of modules
pytestmark = pytest.mark.skipif(importlib.util.find_spec("speechbrain") is None, reason="needs speechbrain")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech")
    return root


@pytest.fixture(scope="module")
def two_steps(world: Path) -> dict[str, Any]:
    """The configuration of a training that is over."""
    config = lid_config(world, "two-steps", optimiser__steps=2, validation__every=2)
    train_lid(parsed(config))
    return config


def _program(config: dict[str, Any], file: Path, *more: str) -> list[str]:
    file.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "seamlessalign", "train", "lid", str(file), *more]


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(world: Path, tmp_path: Path) -> None:
    straight, killed = lid_config(world, "straight"), lid_config(world, "killed")
    train_lid(parsed(straight))
    kill_midway(_program(killed, tmp_path / "k.yaml"), world / "killed", 6, 12)
    train_lid(parsed(killed))
    assert_same(
        world / "killed",
        world / "straight",
        "model/model.safetensors",
        "model/calibration.yaml",
        "confusion-1s.svg",
        "rejection.svg",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "steps"), [(1, 8), (2, 3)])
def test_two_processes_are_one(world: Path, tmp_path: Path, accumulate: int, steps: int) -> None:
    """Two ranks over gloo learn what one process learns from the same batches of an odd size."""
    changes: dict[str, Any] = {"optimiser__batch": 7, "optimiser__steps": steps, "validation__every": steps}
    changes |= {"optimiser__lr": 1e-4, "optimiser__last_lr": 1e-5, "optimiser__accumulate": accumulate}
    one, two = f"one-{accumulate}", f"two-{accumulate}"
    train_lid(parsed(lid_config(world, one, **changes)))
    wait_for(start_ranks(_program(lid_config(world, two, **changes), tmp_path / "two.yaml")))
    assert_close(world / two, world / one, ["loss"])
    assert_close(world / two, world / one, ["grad_norm"], rel=1e-4)
    first, second = (state_of(world / name)["model"] for name in (one, two))
    furthest = {name: float((first[name] - second[name]).abs().max()) for name in first}
    assert max(furthest.values()) < 2e-4, furthest  # Adam divides by gradients that are next to nothing


@pytest.mark.slow
@pytest.mark.thorough
def test_sigterm_to_one_of_two_processes_saves_one_step_of_both(world: Path, tmp_path: Path) -> None:
    """And they end as if it had not come, to the bit."""
    steps = {"optimiser__steps": 30, "validation__every": 15}
    wait_for(start_ranks(_program(lid_config(world, "both-straight", **steps), tmp_path / "s.yaml")))
    command = _program(lid_config(world, "both-told", checkpoint_every=1000, **steps), tmp_path / "t.yaml")
    tell_one_of_two_to_stop(command, world / "both-told", told=1, most=30)
    wait_for(start_ranks(command))
    assert_same(world / "both-told", world / "both-straight")


def test_it_learns_and_what_it_writes_can_be_loaded(world: Path) -> None:
    steps = {"optimiser__steps": 40, "optimiser__batch": 12, "validation__every": 20, "checkpoint_every": 1000}
    result = train_lid(parsed(lid_config(world, "learns", half_weights=True, **steps)))
    assert result.finished == "steps" and result.best >= 0.9
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
@pytest.mark.thorough
def test_processes_that_load_make_no_difference(world: Path) -> None:
    for workers in (0, 1):
        changes = {"optimiser__steps": 3, "validation__every": 3, "resources__workers": workers}
        train_lid(parsed(lid_config(world, f"workers-{workers}", **changes)))
    assert metrics_of(world / "workers-0") == metrics_of(world / "workers-1")


def test_half_precision(world: Path, two_steps: dict[str, Any]) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    config = two_steps | {"output": str(world / "bf16"), "resources": {"device": "cpu", "precision": "bf16"}}
    try:
        train_lid(parsed(config))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    half, full = (
        [line["loss"] for line in metrics_of(world / name) if "loss" in line] for name in ("bf16", "two-steps")
    )
    assert len(half) == 2 and half != full  # it is another precision
    assert half == pytest.approx(full, rel=0.05)


class TestRefusals:
    def test_another_configuration_is_refused(self, two_steps: dict[str, Any]) -> None:
        config = two_steps | {"augment": two_steps["augment"] | {"speed": 0.2}}
        with pytest.raises(ConfigError, match=r"two-steps holds a training with augment\.speed = 0\.1, not 0\.2"):
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

    def test_a_model_of_another_shape_is_refused(self, two_steps: dict[str, Any], tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((Path(two_steps["output"]) / "model" / name).read_bytes())
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
