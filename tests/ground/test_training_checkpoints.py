"""Checkpoints: how many are kept, and which is used where some are damaged, whatever the damage."""

import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seamlessalign.errors import StorageError
from seamlessalign.training_checkpoints import Checkpoints
from tests.ground.line_trainer import train_line
from tests.ground.trainings import assert_same, state_of

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


def _state(value: float) -> dict[str, Any]:
    keys = ("progress", "optimiser", "schedule", "scaler", "random")
    return dict.fromkeys(keys) | {"model": {"weight": torch.full((1000,), value)}}


def _flip(file: Path) -> None:
    """One bit of a tensor's values, which torch itself does not notice."""
    content = bytearray(file.read_bytes())
    values = torch.full((1000,), 3.0).numpy().tobytes()
    content[content.index(values) + random.Random(7).randrange(len(values))] ^= 16
    file.write_bytes(content)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _other(file: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, file)


def _code(file: Path) -> None:
    torch.save(_state(3.0) | {"progress": Path}, file)  # a pickle that would run something


class TestKept:
    def test_the_last_few_are_kept(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        assert checkpoints.steps() == [] and checkpoints.newest(pytest.fail) is None
        for step in (5, 10, 99_999_990, 100_000_000, 123_456_789):
            checkpoints.save(step, _state(step), keep=3)
        assert checkpoints.steps() == [99_999_990, 100_000_000, 123_456_789]
        found = checkpoints.newest(pytest.fail)
        assert found is not None and found[0] == 123_456_789
        assert torch.equal(found[1]["model"]["weight"], torch.full((1000,), 123_456_789.0))
        checkpoints.save(123_456_789, _state(1.0), keep=1)
        assert [file.name for file in checkpoints.root.iterdir()] == ["step-123456789.pt"]

    def test_a_disk_that_is_full_takes_nothing_away(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, _state(1.0), keep=1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            with pytest.raises(StorageError, match=r"step-00000002\.pt: cannot be written: [^\n]+$"):
                checkpoints.save(2, _state(2.0), keep=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [file.name for file in tmp_path.iterdir()] == ["step-00000001.pt"]
        found = checkpoints.newest(pytest.fail)
        assert found is not None and found[0] == 1

    def test_one_that_cannot_be_read_is_not_called_damaged(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, _state(1.0), keep=2)
        checkpoints.file(2).mkdir()
        with pytest.raises(StorageError, match=r"step-00000002\.pt: cannot be read: Is a directory"):
            checkpoints.newest(pytest.fail)
        assert checkpoints.steps() == [1, 2]


class TestDamage:
    @pytest.mark.parametrize("damage", [_flip, _cut, _empty, _other, _code])
    def test_the_newest_whole_one_is_used(self, tmp_path: Path, damage: Callable[[Path], None]) -> None:
        checkpoints, said = Checkpoints(tmp_path), list[str]()
        for step in (1, 2, 3):
            checkpoints.save(step, _state(3.0), keep=3)
        damage(checkpoints.file(3))
        with pytest.raises(StorageError, match=r"step-00000003\.pt: is damaged: [^\n]+$"):
            checkpoints.load(3)
        found = checkpoints.newest(said.append)
        assert found is not None and found[0] == 2 and found[1]["model"]["weight"][0] == 3.0
        assert len(said) == 1 and "\n" not in said[0]
        assert said[0].endswith("; it is step-00000003.damaged now, and an older one is used")
        damage(checkpoints.file(2))
        damage(checkpoints.file(1))
        with pytest.raises(StorageError, match=r"step-00000001\.pt: is damaged: .*; no checkpoint is whole: remove"):
            checkpoints.newest(said.append)
        assert len(said) == 2
        names = ["step-00000001.pt", "step-00000002.damaged", "step-00000003.damaged"]
        assert sorted(file.name for file in tmp_path.iterdir()) == names

    def test_a_training_goes_on_from_the_one_before(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        keys: dict[str, Any] = {
            "optimiser": {"steps": 20, "lr": 0.05, "warmup": 3},
            "validation": {"every": 5},
            "log_every": 1,
            "checkpoint_every": 4,
            "keep_checkpoints": 3,
            "dropout": 0.3,
            "resources": {"device": "cpu"},
        }
        train_line(output=str(tmp_path / "straight"), **keys)
        train_line(output=str(tmp_path / "damaged"), **keys)
        checkpoints = Checkpoints(tmp_path / "damaged" / "checkpoints")
        assert checkpoints.steps() == [12, 16, 20]
        _cut(checkpoints.file(20))
        _empty(checkpoints.file(16))
        capsys.readouterr()
        train_line(output=str(tmp_path / "damaged"), **keys)
        said = capsys.readouterr().err
        assert said.count("an older one is used\n") == 2 and "going on from step 12\n" in said
        assert_same(tmp_path / "damaged", tmp_path / "straight")
        assert state_of(tmp_path / "damaged")["progress"]["step"] == 20 and checkpoints.steps() == [12, 16, 20]
