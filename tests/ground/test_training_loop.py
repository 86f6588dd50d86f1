"""The loop of trainings, by a trainer of a line: steps against a plain loop, stops of every kind, several processes."""

import json
import math
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.errors import ConfigError, InputError, ModelError, NotFiniteError, StorageError
from seamlessalign.training_loop import BatchLoss, Trained
from tests.ground.line_trainer import LineSettings, LineTrainer, PointBatches, far, train_line
from tests.ground.trainings import assert_same, metrics_of, start_ranks, state_of, wait_for, wait_until

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


def _keys(output: Path, **more: Any) -> dict[str, Any]:
    optimiser = {"steps": 20, "lr": 0.05, "last_lr": 0.01, "warmup": 3} | more.pop("optimiser", {})
    return {
        "output": str(output),
        "optimiser": optimiser,
        "validation": {"every": 5},
        "log_every": 1,
        "checkpoint_every": 4,
        "resources": {"device": "cpu"},
    } | more


def _reference(**keys: Any) -> tuple[dict[str, Any], list[float]]:
    """Weights and losses of the same training, in one plain loop over all points of each step."""
    settings = LineSettings.model_validate(keys)
    batches, optimiser = PointBatches(settings, 0, 1), settings.optimiser
    torch.manual_seed(settings.seed)
    model = LineTrainer(LineSettings.model_validate(keys | {"output": keys["output"] + "-unused"})).model
    adam = torch.optim.AdamW(model.parameters(), lr=optimiser.lr)
    losses: list[float] = []
    place = 0
    for _ in range(optimiser.steps):
        taken_together = []
        for _ in range(optimiser.accumulate):
            epoch, position = divmod(place, batches.num_batches(0))
            place += 1
            points = batches[epoch, position].values
            if not len(points):
                continue
            found = model(points[:, :4], more=not settings.unused or position % 2 == 0, uneven=settings.uneven)
            taken_together.append((found - points[:, 4:], far(points)))
        if not taken_together:
            continue
        apart, of = (torch.cat(parts) for parts in zip(*taken_together, strict=True))
        loss = apart.square().mean() + settings.far * (apart[of].abs().mean() if of.any() else 0.0)
        adam.zero_grad()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        if norm > optimiser.clip:
            for gradient in gradients:
                gradient *= optimiser.clip / norm
        taken = len(losses)
        share = min(max(0.0, (taken - optimiser.warmup) / (optimiser.steps - optimiser.warmup)), 1.0)
        fall = 0.01 + (0.05 - 0.01) * (1 + math.cos(math.pi * share)) / 2
        for group in adam.param_groups:
            group["lr"] = 0.05 * (taken + 1) / (optimiser.warmup + 1) if taken < optimiser.warmup else fall
        adam.step()
        losses.append(float(loss.detach()))
    return dict(model.state_dict()), losses


class _Nameless(LineTrainer):
    def batch_loss(self, *of_batch: Any) -> BatchLoss:
        return replace(super().batch_loss(*of_batch), names=())


class TestSteps:
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"batch": 7, "optimiser": {"accumulate": 3}},
            {"batch": 7, "optimiser": {"accumulate": 2}, "empty": [1, 4]},
            {"batch": 7, "optimiser": {"accumulate": 3}, "far": 2.0},
            {"empty": [0, 3]},
            {"unused": True},
            {"uneven": True, "batch": 3},
        ],
        ids=["plain", "accumulated", "accumulated-empty", "accumulated-two-losses", "empty", "unused", "uneven"],
    )
    def test_they_are_those_of_a_plain_loop(self, tmp_path: Path, more: dict[str, Any]) -> None:
        keys = _keys(tmp_path / "out", **more)
        assert train_line(**keys).steps == 20
        weights, losses = _reference(**keys)
        found = [line["loss"] for line in metrics_of(tmp_path / "out") if "loss" in line]
        assert found == pytest.approx(losses, rel=1e-4)
        for name, value in weights.items():
            torch.testing.assert_close(state_of(tmp_path / "out")["model"][name], value, atol=1e-5, rtol=1e-5)

    def test_batches_with_nothing_are_counted_and_what_was_not_usable_too(self, tmp_path: Path) -> None:
        train_line(**_keys(tmp_path, batch=8, empty=[2, 3], optimiser={"steps": 12}, log_every=12))
        line, *_, last = [line for line in metrics_of(tmp_path) if "error" not in line]
        assert line["step"] == line["step"] == 12 and line["empty_batches"] == 4
        assert last["set_aside"] == {"broken": 2, "empty": 4}

    def test_a_loss_that_is_not_finite_ends_it_and_names_its_batch(self, tmp_path: Path) -> None:
        keys = _keys(tmp_path, bad_point=17)
        message = r"^step (\d): the loss is nan; lower optimiser\.lr, or leave out what is at fault of point \d+, .*"
        with pytest.raises(NotFiniteError, match=message + r" and 5 more \(.*bad_batch\.json\)$") as caught:
            train_line(**keys)
        assert caught.value.exit_status == 1 and isinstance(caught.value, ModelError)
        told = json.loads((tmp_path / "bad_batch.json").read_text())
        (batch,) = told["batches"]
        assert "point 17" in batch["items"] and len(batch["items"]) == 8 and batch["loss"] == "nan"
        made = [line["step"] for line in metrics_of(tmp_path) if "lr" in line]
        assert told["step"] == batch["position"] + 1 == made[-1] + 1
        # the same again, from the checkpoint before; and not with other points
        with pytest.raises(NotFiniteError, match=message):
            train_line(**keys)
        assert train_line(**_keys(tmp_path / "other")).finished and not (tmp_path / "other/bad_batch.json").exists()

    def test_a_gradient_that_is_not_finite_ends_it_before_weights_are_lost(self, tmp_path: Path) -> None:
        keys = _keys(tmp_path, bad_gradient_from=6, optimiser={"accumulate": 2}) | {"checkpoint_every": 1}
        with pytest.raises(NotFiniteError, match=r"^step 6: the gradient is nan; .* of point \d+, .* and 13 more"):
            train_line(**keys)
        told = json.loads((tmp_path / "bad_batch.json").read_text())
        assert [batch["loss"] != "nan" for batch in told["batches"]] == [True, True]
        assert state_of(tmp_path)["progress"]["step"] == 5
        assert all(bool(value.isfinite().all()) for value in state_of(tmp_path)["model"].values())

    def test_a_loss_without_names_ends_it_too(self, tmp_path: Path) -> None:
        keys = _keys(tmp_path, optimiser={"lr": 1e30, "last_lr": 0, "warmup": 0, "steps": 5}, validation={"every": 5})
        with pytest.raises(NotFiniteError, match=r"step \d: the loss is (inf|nan); lower optimiser\.lr"):
            _Nameless(LineSettings.model_validate(keys)).run()

    def test_a_measure_that_is_not_finite_ends_it(self, tmp_path: Path) -> None:
        keys = _keys(tmp_path, optimiser={"lr": 1e30, "last_lr": 0, "warmup": 0}, validation={"every": 1})
        with pytest.raises(ModelError, match=r"step 1: error of what is held out is (inf|nan)"):
            train_line(**keys)


def test_half_precision_that_processors_lack_is_told(tmp_path: Path) -> None:
    keys = _keys(tmp_path) | {"resources": {"device": "cpu", "precision": "fp16"}}
    with pytest.raises(InputError, match="precision is fp16, which needs a GPU; on processors there are bf16"):
        train_line(**keys)
    assert not (tmp_path / "training.json").exists()
    assert train_line(**(keys | {"resources": {"device": "cpu"}})).finished  # and in the same process


class TestValidation:
    def test_the_best_is_kept_and_drawn(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trainer = LineTrainer(LineSettings.model_validate(_keys(tmp_path, validation={"every": 5, "at_start": True})))
        result = trainer.run()
        found = {line["step"]: line["error"] for line in metrics_of(tmp_path) if "error" in line}
        assert list(found) == [0, 5, 10, 15, 20] and found[20] < 0.7 * found[0]
        best = min(found, key=lambda step: found[step])
        assert result == Trained(tmp_path, 20, best, found[best], "steps")
        assert trainer.saved == sum(value < min([math.inf, *list(found.values())[:i]]) for i, value in
                                    enumerate(found.values()))  # fmt: skip
        assert f"{found[best]:.3f}" in (tmp_path / "curve.svg").read_text()
        said = capsys.readouterr().err
        assert said.startswith("48 points; set aside: {'broken': 2}\n") and "epoch 3" in said and "deep" not in said

    def test_it_ends_when_it_gets_no_better(self, tmp_path: Path) -> None:
        keys = _keys(
            tmp_path, optimiser={"lr": 1e-12, "last_lr": 0, "steps": 60}, validation={"every": 2, "patience": 2}
        )
        result = train_line(**keys)
        assert result.finished == "patience" and result.steps < 60
        assert result.steps == result.best_step + 4
        lines = metrics_of(tmp_path)
        assert train_line(**keys) == result and metrics_of(tmp_path) == lines
        # as if it had been killed between its last checkpoint and the last line
        metrics = tmp_path / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
        assert train_line(**keys) == result and metrics_of(tmp_path) == lines


class _Stopping(LineTrainer):
    """Something happens while the first batch of a step is learnt."""

    at_step = 6

    def batch_loss(self, *of_batch: Any) -> BatchLoss:
        if self.at.step == self.at_step:
            self.happen()
        return super().batch_loss(*of_batch)

    def happen(self) -> None:
        raise KeyboardInterrupt


class _Told(_Stopping):
    def happen(self) -> None:
        self.at_step = -1  # once: the second signal would end the program
        os.kill(os.getpid(), signal.SIGTERM)


# dropout draws from the generator of the process, which goes on where it was too
DRAWN: dict[str, Any] = {"dropout": 0.3, "batch": 7, "optimiser": {"accumulate": 2}}


class TestStops:
    @pytest.mark.parametrize("every", [1, 4, 7])
    def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(self, tmp_path: Path, every: int) -> None:
        train_line(**_keys(tmp_path / "straight", **DRAWN))
        keys = _keys(tmp_path / "stopped", **DRAWN) | {"checkpoint_every": every}
        with pytest.raises(KeyboardInterrupt):
            _Stopping(LineSettings.model_validate(keys)).run()
        with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 7, "lo')  # as when a kill came while a line was written
        train_line(**keys)
        assert_same(tmp_path / "stopped", tmp_path / "straight")

    def test_sigterm_ends_and_saves_the_step(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(signal.SIGTERM)
        train_line(**_keys(tmp_path / "straight", **DRAWN))
        keys = _keys(tmp_path / "told", **DRAWN) | {"checkpoint_every": 1000}
        result = _Told(LineSettings.model_validate(keys)).run()
        assert result.finished == "" and result.steps == 7 == state_of(tmp_path / "told")["progress"]["step"]
        assert signal.getsignal(signal.SIGTERM) is before
        assert "told to stop: this step is ended and saved first" in capsys.readouterr().err
        assert train_line(**keys).finished == "steps"
        assert "going on from step 7" in capsys.readouterr().err
        assert_same(tmp_path / "told", tmp_path / "straight")

    def test_another_plan_is_refused_and_other_files_are_not_read(self, tmp_path: Path) -> None:
        train_line(**_keys(tmp_path))
        with pytest.raises(ConfigError, match=r"holds a training with optimiser\.lr = 0\.05, not 0\.1"):
            train_line(**_keys(tmp_path, optimiser={"lr": 0.1}))
        with pytest.raises(ConfigError, match=r"holds a training with digest of points = '48', not '47'"):
            train_line(**_keys(tmp_path, points=47))
        assert train_line(**(_keys(tmp_path) | {"log_every": 3})).steps == 20  # this changes nothing

    def test_a_training_of_an_earlier_version_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "checkpoint").mkdir()
        (tmp_path / "checkpoint" / "state.pt").touch()
        (tmp_path / "metrics.jsonl").write_text('{"step": 7}\n')
        with pytest.raises(ConfigError, match="holds a training of an earlier version; name another output"):
            train_line(**_keys(tmp_path))
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 7}\n'

    def test_two_trainings_in_a_folder_keep_out_of_each_others_way(self, tmp_path: Path) -> None:
        class Another(_Stopping):
            def happen(self) -> None:
                self.at_step = -1
                with pytest.raises(StorageError, match="another training is at work there; name another output"):
                    train_line(**_keys(tmp_path))

        assert Another(LineSettings.model_validate(_keys(tmp_path))).run().finished == "steps"
        assert train_line(**_keys(tmp_path)).finished == "steps"  # now it is free

    def test_what_is_drawn_from_numpy_and_python_goes_on_too(self, tmp_path: Path) -> None:
        """Models of transformers draw masks from numpy."""
        _Drawing(LineSettings.model_validate(_keys(tmp_path / "straight"))).run()
        keys = _keys(tmp_path / "stopped") | {"checkpoint_every": 4}
        stopping = _Drawing(LineSettings.model_validate(keys))
        stopping.at_step = 6
        with pytest.raises(KeyboardInterrupt):
            stopping.run()
        _Drawing(LineSettings.model_validate(keys)).run()
        assert_same(tmp_path / "stopped", tmp_path / "straight")
        assert len({line["drawn"] for line in metrics_of(tmp_path / "straight") if "drawn" in line}) == 20


class _Drawing(_Stopping):
    at_step = -1

    def batch_loss(self, *of_batch: Any) -> BatchLoss:
        found = super().batch_loss(*of_batch)
        return replace(found, measures={**found.measures, "drawn": np.random.random() + random.random()})


def _program(keys: dict[str, Any], file: Path) -> list[str]:
    file.write_text(json.dumps(keys))
    return [sys.executable, "-m", "tests.ground.line_trainer", str(file)]


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize(
        "more",
        [
            {"optimiser": {"accumulate": 3}, "clip": 0.5, "far": 2.0},
            {"optimiser": {"accumulate": 2}, "empty": [1, 3], "unused": True},
            {"optimiser": {"accumulate": 2}, "uneven": True, "points": 22, "batch": 3},
        ],
        ids=["every-parameter", "not-every-parameter", "not-every-parameter-in-every-process"],
    )
    def test_two_that_accumulate_are_one_plain_loop(self, tmp_path: Path, more: dict[str, Any]) -> None:
        """Of batches of an odd size, so that one process has more of each than the other, or one has nothing."""
        more.setdefault("optimiser", {})["clip"] = more.pop("clip", 1.0)
        keys = _keys(tmp_path / "two", **{"batch": 7, "points": 43, **more})
        wait_for(start_ranks(_program(keys, tmp_path / "two.json")))
        weights, losses = _reference(**keys)
        found = [line["loss"] for line in metrics_of(tmp_path / "two") if "loss" in line]
        assert found == pytest.approx(losses, rel=1e-4)
        for name, value in weights.items():
            torch.testing.assert_close(state_of(tmp_path / "two")["model"][name], value, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("told", [pytest.param(0, marks=pytest.mark.thorough), 1])
    def test_sigterm_to_one_of_two_ends_and_saves_both(self, tmp_path: Path, told: int) -> None:
        wait_for(start_ranks(_program(_keys(tmp_path / "straight", **DRAWN), tmp_path / "straight.json")))
        keys = _keys(tmp_path / "told", **DRAWN) | {"checkpoint_every": 1000, "seconds": 0.05}
        command = _program(keys, tmp_path / "told.json")
        ranks = start_ranks(command)
        wait_until(3, tmp_path / "told", ranks)
        ranks[told].send_signal(signal.SIGTERM)
        wait_for(ranks, 128 + signal.SIGTERM)
        assert 3 <= state_of(tmp_path / "told")["progress"]["step"] < 20
        assert not any("finished" in line for line in metrics_of(tmp_path / "told"))
        wait_for(start_ranks(command))
        assert_same(tmp_path / "told", tmp_path / "straight")

    def test_a_loss_that_is_not_finite_ends_both(self, tmp_path: Path) -> None:
        command = _program(_keys(tmp_path / "two", batch=7, bad_point=17), tmp_path / "two.json")
        said = wait_for(start_ranks(command), 1)
        told = json.loads((tmp_path / "two/bad_batch.json").read_text())
        (batch,) = told["batches"]  # of the process where it happened
        assert "point 17" in batch["items"] and len(batch["items"]) == 4 - batch["process"]
        line = f"seamlessalign: step {told['step']}: the loss is nan; lower optimiser.lr, or leave out what is at fault"
        assert all(words.splitlines()[-1].startswith(line) for words in said)
