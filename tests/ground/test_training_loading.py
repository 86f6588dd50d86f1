"""Batches on their way to the loop: the same from worker processes, and what befalls these told in one line."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from seamlessalign.errors import InputError, MissingPackageError, SeamlessAlignError
from seamlessalign.training_loading import load, told_in_one_line
from seamlessalign.training_settings import TrainingResources
from tests.ground.line_trainer import train_line
from tests.ground.trainings import assert_same, metrics_of, state_of, wait_for, wait_until

CPU = torch.device("cpu")


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Batch:
    values: Any
    more: dict[str, Any]
    pair: Pair
    names: list[str]
    none: None = None


class Made:
    """Three batches in an epoch; something else at one place."""

    def __init__(self, at: tuple[int, int] = (-1, -1), what: str = "") -> None:
        self.at, self.what = at, what

    def num_batches(self, epoch: int) -> int:
        return 3

    def __getitem__(self, where: tuple[int, int]) -> Batch | None:
        if where == self.at:
            if self.what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "input":
                raise InputError("a.parquet: row 3: is not audio")
            if self.what == "package":
                raise MissingPackageError("soxr", "train", "reading it")
            return None
        values = torch.full((2, 3), 10.0 * where[0] + where[1])
        return Batch(values, {"a": values + 1}, Pair(values + 2, "x"), [f"{where}"])


def _first(number: int, made: Made, workers: int = 0, device: Any = CPU) -> list[Any]:
    coming = load(made, 1, 2, TrainingResources(workers=workers, prefetch=1), device)
    return [next(coming) for _ in range(number)]


class TestHere:
    def test_they_come_in_order_and_as_they_are(self) -> None:
        found = _first(4, Made(at=(2, 1)))
        assert [batch and batch.names for batch in found] == [["(1, 2)"], ["(2, 0)"], None, ["(2, 2)"]]

    def test_all_tensors_are_taken_to_the_device(self) -> None:
        """The device `meta` stands for another: it is on every machine."""
        (batch,) = _first(1, Made(), device=torch.device("meta"))
        moved = [batch.values, batch.more["a"], batch.pair.first]
        assert [tensor.device.type for tensor in moved] == ["meta"] * 3
        assert type(batch) is Batch and type(batch.pair) is Pair and batch.pair.second == "x" and batch.none is None

    def test_what_is_on_the_device_already_is_the_same_object(self) -> None:
        kept = Batch(torch.ones(2), {"a": [np.float32(3)]}, Pair(1, 2), ["n"])

        class Same(Made):
            def __getitem__(self, where: tuple[int, int]) -> Batch:
                return kept

        assert _first(2, Same()) == [kept, kept] and _first(1, Same())[0] is kept

    def test_an_error_is_the_same(self) -> None:
        with pytest.raises(InputError, match=r"^a\.parquet: row 3: is not audio$"):
            _first(1, Made((1, 2), "input"))

    def test_other_errors_of_torch_are_left_alone(self) -> None:
        with pytest.raises(RuntimeError, match="shapes"), told_in_one_line():
            raise RuntimeError("shapes do not fit")


@pytest.mark.slow
class TestWorkers:
    def test_batches_and_errors_are_the_same(self) -> None:
        wanted, found = _first(7, Made(at=(2, 1))), _first(7, Made(at=(2, 1)), workers=2)
        assert [batch and batch.names for batch in found] == [batch and batch.names for batch in wanted]
        assert all(torch.equal(ours.values, theirs.values) for ours, theirs in zip(found, wanted, strict=True) if ours)
        with pytest.raises(InputError, match=r"^a\.parquet: row 3: is not audio$"):
            _first(1, Made((1, 2), "input"), workers=1)
        with pytest.raises(MissingPackageError, match=r"^reading it needs the package soxr: [^\n]*$"):
            _first(1, Made((1, 2), "package"), workers=1)

    def test_one_that_is_killed_is_told_in_one_line(self) -> None:
        told = r"^process \d+, which loaded batches, [^\n]*; if memory was short, set resources\.workers or [^\n]*$"
        with pytest.raises(SeamlessAlignError, match=told), told_in_one_line():
            _first(4, Made((2, 1), "killed"), workers=1)

    def test_they_do_not_heed_what_tells_the_training_to_stop(self, tmp_path: Path) -> None:
        """Slurm sends its signals to every process of a job."""
        keys = {
            "output": str(tmp_path / "out"),
            "optimiser": {"steps": 1000},
            "log_every": 1,
            "seconds": 0.01,
            "resources": {"device": "cpu", "workers": 2},
        }
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.ground.line_trainer", str(tmp_path / "keys.json")],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until(1, tmp_path / "out", [program])
        os.killpg(program.pid, signal.SIGUSR2)
        os.killpg(program.pid, signal.SIGTERM)
        (said,) = wait_for([program], 128 + signal.SIGTERM)
        assert "told to stop: this step is ended and saved first" in said and "loaded batches" not in said
        assert state_of(tmp_path / "out")["progress"]["step"] == metrics_of(tmp_path / "out")[-1]["step"] >= 1

    def test_a_training_with_them_is_the_same(self, tmp_path: Path) -> None:
        for workers in (0, 2):
            train_line(
                output=str(tmp_path / str(workers)),
                optimiser={"steps": 8, "accumulate": 2},
                dropout=0.3,
                log_every=1,
                resources={"device": "cpu", "workers": workers, "prefetch": 3},
            )
        assert_same(tmp_path / "2", tmp_path / "0")
