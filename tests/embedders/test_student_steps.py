"""Steps of several batches, and a training that is told to stop."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from seamlessalign.embedders.student.train import Training, train
from tests.embedders.student_world import make_speech, make_teacher, parsed, plain_config

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_speech(root / "speech", 44)
    make_teacher(root / "teacher")
    return root


def _lines(folder: Path, *apart: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("steps_per_second", *apart)} for line in lines]


def _weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_file(folder / "student" / "model.safetensors")
    return found


def _train_in_parts(config: dict[str, Any], pieces: int) -> Training:
    """Train with each batch of the configuration as so many batches, the first one larger where it must be."""
    training = Training(parsed(config))
    loader = training.lessons.loader
    whole = loader.batches

    def parts(epoch: int) -> list[list[int]]:
        return [list(part) for batch in whole(epoch) for part in _parted(batch, pieces)]

    loader.batches = parts  # type: ignore[method-assign]
    training.run()
    return training


def _parted(batch: list[int], pieces: int) -> list[list[int]]:
    first = len(batch) - (pieces - 1) * (len(batch) // (pieces + 1))
    edges = [0, *(first + i * (len(batch) // (pieces + 1)) for i in range(pieces))]
    return [batch[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("pieces", [2, 3])
def test_batches_that_make_one_step_are_one_larger_batch(world: Path, pieces: int) -> None:
    losses = {"losses": {"mse": 0.5, "cosine": 1.0}}  # the loss of each row is its own
    train(parsed(plain_config(world, f"whole-{pieces}", **losses)))
    accumulate = {"optimiser__accumulate": pieces}
    _train_in_parts(plain_config(world, f"parts-{pieces}", **losses, **accumulate), pieces)
    whole, parts = world / f"whole-{pieces}", world / f"parts-{pieces}"
    for ours, theirs in zip(_lines(parts), _lines(whole), strict=True):
        assert ours.keys() == theirs.keys() and ours["step"] == theirs["step"]
        if "grad_norm" in ours:  # the losses of a line are means over batches, which are not equally large
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], value, atol=1e-3, rtol=0)  # half a step


def test_rows_are_wrong_for_each_other_in_their_own_batch_only(world: Path) -> None:
    losses = {"losses": {"contrastive": 1.0}, "optimiser__steps": 1, "validation__every": 1}
    train(parsed(plain_config(world, "one-batch", **losses)))
    _train_in_parts(plain_config(world, "two-batches", **losses, optimiser__accumulate=2), 2)
    one, two = (_lines(world / folder)[0]["contrastive"] for folder in ("one-batch", "two-batches"))
    assert two < one - 0.3  # fewer to be told apart from


def test_a_training_of_several_batches_a_step_goes_on_where_it_was(world: Path) -> None:
    """By a checkpoint in the middle of an epoch."""
    accumulate = {"optimiser__accumulate": 3, "checkpoint_every": 1}
    train(parsed(plain_config(world, "all-at-once", **accumulate)))
    config = parsed(plain_config(world, "in-between", **accumulate))
    first = Training(config)
    step = first._step

    def stopping(batches: Any) -> None:
        step(batches)
        if first.at.step == 6:
            raise KeyboardInterrupt

    first._step = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run()
    train(config)
    assert _lines(world / "in-between") == _lines(world / "all-at-once")
    ours, theirs = _weights(world / "in-between"), _weights(world / "all-at-once")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_sigterm_saves_the_step_that_is_taken(world: Path, tmp_path: Path) -> None:
    """And the same command ends with the same lines and weights as if it had not come."""
    train(parsed(plain_config(world, "straight", optimiser__steps=40)))
    config = plain_config(world, "told", optimiser__steps=40, checkpoint_every=1000)
    (tmp_path / "told.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "seamlessalign", "train", "speech-encoder", str(tmp_path / "told.yaml")]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    metrics, end = world / "told" / "metrics.jsonl", time.monotonic() + 120
    while not metrics.is_file() or not any(line["step"] >= 3 for line in _lines(world / "told")):
        assert program.poll() is None and time.monotonic() < end, program.stderr and program.stderr.read()
        time.sleep(0.005)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 128 + signal.SIGTERM, said
    step = torch.load(world / "told" / "checkpoint" / "state.pt", weights_only=True)["progress"]["step"]
    assert 3 <= step < 40
    assert f"seamlessalign: stopped at step {step}; the same command goes on from there" in said
    assert not (world / "told" / "student" / "card.yaml").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"going on from step {step}" in done.stderr
    assert _lines(world / "told") == _lines(world / "straight")
    ours, theirs = _weights(world / "told"), _weights(world / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
