"""Steps of several batches, and a training that is told to stop."""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from seamlessalign.cli import main
from seamlessalign.embedders.student.hearing import Loader
from seamlessalign.embedders.student.train import Training, train
from tests.embedders.student_world import make_speech, make_teacher, parsed, plain_config
from tests.ground.trainings import (
    assert_close,
    assert_same,
    metrics_of,
    start_ranks,
    state_of,
    tell_one_of_two_to_stop,
    wait_for,
)

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_speech(root / "speech", 44)
    make_teacher(root / "teacher")
    return root


def _train_in_parts(config: dict[str, Any], pieces: int) -> Training:
    """Train with each batch of the configuration as so many batches, the first one larger where it must be."""
    training = Training(parsed(config))
    assert isinstance(training.batches, Loader)
    whole = training.batches.batches

    def parts(epoch: int) -> list[list[int]]:
        return [list(part) for batch in whole(epoch) for part in _parted(batch, pieces)]

    training.batches.batches = parts  # type: ignore[method-assign]
    training.run()
    return training


def _parted(batch: list[int], pieces: int) -> list[list[int]]:
    first = len(batch) - (pieces - 1) * (len(batch) // (pieces + 1))
    edges = [0, *(first + i * (len(batch) // (pieces + 1)) for i in range(pieces))]
    return [batch[a:b] for a, b in itertools.pairwise(edges)]


def test_batches_that_make_one_step_are_one_larger_batch(world: Path) -> None:
    few = {"optimiser__steps": 6, "losses": {"mse": 0.5, "cosine": 1.0}}  # the loss of each row is its own
    train(parsed(plain_config(world, "whole", **few)))
    _train_in_parts(plain_config(world, "parts", **few, optimiser__accumulate=3), 3)
    # the losses of a line are means over batches, which are not equally large
    assert_close(world / "parts", world / "whole", ["grad_norm"], rel=1e-4)
    ours, theirs = (load_file(world / name / "student" / "model.safetensors") for name in ("parts", "whole"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-3, rtol=0)  # half a step


def test_rows_are_wrong_for_each_other_in_their_own_batch_only(world: Path) -> None:
    losses = {"losses": {"contrastive": 1.0}, "optimiser__steps": 1, "validation__every": 1}
    train(parsed(plain_config(world, "one-batch", **losses)))
    _train_in_parts(plain_config(world, "two-batches", **losses, optimiser__accumulate=2), 2)
    one, two = (metrics_of(world / folder)[0]["contrastive"] for folder in ("one-batch", "two-batches"))
    assert two < one - 0.3  # fewer to be told apart from


def test_the_command_ends_with_143_where_it_was_told_to_stop(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the step is saved; and the same command goes on."""
    file = tmp_path / "told.yaml"
    file.write_text(yaml.safe_dump(plain_config(world, "told", optimiser__steps=4, checkpoint_every=1000)))
    learn = Training.batch_loss

    def told(training: Training, *of_batch: Any) -> Any:
        if training.at.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(training, *of_batch)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "batch_loss", told)
        assert main(["train", "speech-encoder", str(file)]) == 128 + signal.SIGTERM
    assert state_of(world / "told")["progress"]["step"] == 3
    assert "seamlessalign: stopped at step 3; the same command goes on from there" in capsys.readouterr().err
    assert not (world / "told" / "student" / "card.yaml").exists()
    assert main(["train", "speech-encoder", str(file)]) == 0
    assert "going on from step 3" in capsys.readouterr().err


def _program(config: dict[str, Any], file: Path) -> list[str]:
    file.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "seamlessalign", "train", "speech-encoder", str(file)]


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_that_accumulate_are_one(world: Path, tmp_path: Path) -> None:
    """Batches of an odd size: each process has another share of every one."""
    changes: dict[str, Any] = {"optimiser__accumulate": 3, "optimiser__batch": 7, "optimiser__steps": 8}
    changes["losses"] = {"mse": 0.1, "cosine": 1.0, "contrastive": 1.0}
    train(parsed(plain_config(world, "one", **changes)))
    wait_for(start_ranks(_program(plain_config(world, "two", **changes), tmp_path / "two.yaml")))
    assert_close(world / "two", world / "one", ["loss", "mse", "cosine", "contrastive", "grad_norm"])
    ours, theirs = (state_of(world / name)["model"] for name in ("two", "one"))
    furthest = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    assert furthest < 2e-3  # Adam divides by gradients that are next to nothing


@pytest.mark.slow
@pytest.mark.thorough
def test_sigterm_to_one_of_two_processes_saves_one_step_of_both(world: Path, tmp_path: Path) -> None:
    """And they end as if it had not come, to the bit: the sum of two numbers has no order."""
    changes: dict[str, Any] = {"optimiser__accumulate": 2, "optimiser__steps": 30, "student__pooler__dropout": 0.1}
    wait_for(start_ranks(_program(plain_config(world, "both-straight", **changes), tmp_path / "straight.yaml")))
    command = _program(plain_config(world, "both-told", checkpoint_every=1000, **changes), tmp_path / "told.yaml")
    tell_one_of_two_to_stop(command, world / "both-told", told=1, most=30)
    wait_for(start_ranks(command))
    assert_same(world / "both-told", world / "both-straight")
