"""Training a vocoder: it learns, goes on after being killed, and is the same in several processes."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from torch.nn.functional import pad

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.vocoder.generator import speech_of
from seamlessalign.training.vocoder.learner import VocoderBatch
from seamlessalign.training.vocoder.model import load_vocoder
from seamlessalign.training.vocoder.train import VocoderTraining, train_vocoder
from tests.ground.trainings import (
    assert_close,
    assert_same,
    kill_midway,
    metrics_of,
    start_ranks,
    state_of,
    wait_for,
)
from tests.training.vocoder.tone_world import parsed, rows, vocoder_config, write

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    content = rows(24)
    content[5]["units"] = None
    file = write(root / "speech" / "part-0.parquet", content)
    pq.write_table(pq.read_table(file).replace_schema_metadata({"seamlessalign.units": "f1"}), file, row_group_size=8)
    return root


@pytest.fixture(scope="module")
def trained(world: Path) -> Path:
    """A training that is over, whose first steps were without discriminators."""
    changes: dict[str, Any] = {"losses": {"mel_only_steps": 20}, "optimiser__steps": 40, "validation__at_start": True}
    changes |= {"validation__every": 20, "checkpoint_every": 20, "optimiser__lr": 4e-3}
    return train_vocoder(parsed(vocoder_config(world, "trained", **changes))).folder


def _program(config: dict[str, Any], file: Path, *more: str) -> list[str]:
    file.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "seamlessalign", "train", "vocoder", str(file), *more]


def test_it_learns_and_what_it_writes_can_be_loaded(trained: Path) -> None:
    lines = metrics_of(trained)
    found = [line for line in lines if "mel_l1" in line]
    assert [line["step"] for line in found] == [0, 20, 40]
    assert found[2]["mel_l1"] < 0.7 * found[0]["mel_l1"]
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["duration"] < 0.5 * steps[0]["duration"]
    assert [("discriminator" in line) for line in steps] == [False] * 20 + [True] * 20
    last = steps[-1]
    terms = last["discriminator"] + last["adversarial"] + 2 * last["features"] + 45 * last["mel"] + last["duration"]
    assert last["loss"] == pytest.approx(terms, rel=1e-4)
    assert lines[-1]["set_aside"] == {"no_units": 1}
    model = load_vocoder(trained / "model")
    assert model.languages == ["eng", "fra"] and model.speakers == ["high", "low"] and model.centroids == "f1"
    measured = json.loads((trained / "evaluation.json").read_text())
    assert set(measured) == {"all", *{one.lang for one in _held_out(trained)}}
    assert len(model.speak([0, 1, 2], "fra", "low")) % 320 == 0


def _held_out(trained: Path) -> Any:
    return VocoderTraining(parsed(vocoder_config(trained.parent, "unused"))).held_out


def test_what_is_heard_and_seen_is_of_the_best_model(trained: Path) -> None:
    made, rate = soundfile.read(trained / "samples" / "0-made.wav", dtype="float32")
    true, _ = soundfile.read(trained / "samples" / "0-true.wav", dtype="float32")
    one = _held_out(trained)[0]
    said = load_vocoder(trained / "model").speak(one.units.tolist(), one.lang, one.speaker)
    assert rate == 16000 and len(true) == one.num_frames * 320
    np.testing.assert_allclose(made, said, atol=2**-15)
    assert "Step " in (trained / "samples" / "0.svg").read_text()
    assert not (trained / "samples" / "1.svg").exists()


@pytest.mark.parametrize(
    ("choose", "mel_only", "kept"),
    [
        ("last", 2, [True, True, True, True, True]),
        # step 3 is the first with discriminators: it is kept, though worse than step 2; step 4 is worse than it
        ("best", 2, [True, True, True, False, True]),
        ("best", 0, [True, True, False, False, True]),
        ("best", 9, [True, True, False, False, True]),
    ],
)
def test_which_model_is_kept(world: Path, choose: str, mel_only: int, kept: list[bool]) -> None:
    """Of validations at steps 1 to 5 with these mel L1."""
    changes: dict[str, Any] = {"validation__choose": choose, "losses": {"mel_only_steps": mel_only}}
    trainer = VocoderTraining(parsed(vocoder_config(world, "kept", **changes)))
    told, saved = [0.9, 0.5, 0.7, 0.8, 0.4], list[int]()
    trainer.validate = lambda: {"mel_l1": told[trainer.at.step - 1]}  # type: ignore[method-assign]
    trainer.save_best = lambda: saved.append(trainer.at.step)  # type: ignore[method-assign]
    for step in range(1, 6):
        trainer.at.step = step
        trainer._validate()
    assert saved == [step for step, keep in enumerate(kept, 1) if keep]
    assert trainer.at.best_step == saved[-1] and trainer.at.best == told[saved[-1] - 1]


def test_two_networks_have_rates_of_their_own(world: Path) -> None:
    trainer = VocoderTraining(parsed(vocoder_config(world, "rates", optimiser__discriminator_lr=1e-5)))
    groups = trainer._optimiser.param_groups
    assert [group["initial_lr"] for group in groups] == [2e-3, 1e-5]
    assert all(group["betas"] == (0.8, 0.99) for group in groups)
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.module.parameters()))


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """A precision in a process that may have had another."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield request.param
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["no", "bf16"], indirect=True)
def test_what_is_minimised_is_what_is_told(world: Path, precision: str) -> None:
    config = vocoder_config(world, f"told-{precision}", losses={"duration": 3.0, "mel": 7.0, "features": 0.5})
    config["resources"]["precision"] = precision
    trainer = VocoderTraining(parsed(config))
    batch = trainer.batches[0, 0]
    (counts,) = trainer.counts([batch])
    found = trainer.batch_loss(batch, 0, 0, counts)
    told = {name: float(value) for name, value in found.measures.items()}
    weighted = told["discriminator"] + told["adversarial"] + 0.5 * told["features"] + 7 * told["mel"]
    assert told["loss"] == pytest.approx(weighted + 3 * told["duration"], rel=1e-5)
    assert float(found.loss.detach()) == pytest.approx(told["loss"], rel=1e-5)
    with trainer.accelerator.autocast():
        speech = speech_of(trainer.module.generator, batch.frames, batch.languages, batch.speakers).detach()
    assert speech.dtype == (torch.float32 if precision == "no" else torch.bfloat16)
    mels = trainer.module.mel(speech), trainer.module.mel(batch.speech)
    assert told["mel"] == pytest.approx(float((mels[0] - mels[1]).abs().mean()), rel=1e-5)
    found.loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in trainer.module.parameters())


def test_batches_of_a_step_are_one_of_all_their_rows(world: Path) -> None:
    """Their durations are means over units, of which they have unequal numbers; all else over segments."""
    found = []
    for together in (True, False):
        trainer = VocoderTraining(parsed(vocoder_config(world, "apart", losses={"duration": 30.0})))
        trainer.module.eval()  # else each batch improves the estimates of spectral norms that the next one goes by
        parts = [trainer.batches[0, 0], _rows(trainer.batches[0, 1], 2)]
        parts[1].durations[0, -2:] = 0  # padding
        batches = [_joined(*parts)] if together else parts
        told = 0.0
        for batch, counts in zip(batches, trainer.counts(batches), strict=True):
            loss = trainer.batch_loss(batch, 0, 0, counts)
            loss.loss.backward()
            told += float(loss.measures["loss"])
        found.append((told, {name: p.grad for name, p in trainer.module.named_parameters()}))
    largest = max(float(gradient.abs().max()) for gradient in found[0][1].values())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6 * max(1.0, largest))


def _rows(batch: VocoderBatch, count: int) -> VocoderBatch:
    part = {name: getattr(batch, name)[:count] for name in (*_OF_UNITS, *_OF_SEGMENTS, "seeds")}
    return replace(batch, **part)


def _joined(*parts: VocoderBatch) -> VocoderBatch:
    longest = max(part.units.shape[1] for part in parts)
    wide = [
        replace(part, **{name: pad(getattr(part, name), (0, longest - part.units.shape[1])) for name in _OF_UNITS})
        for part in parts
    ]
    whole = {name: torch.cat([getattr(part, name) for part in wide]) for name in _OF_UNITS + _OF_SEGMENTS}
    return replace(parts[0], **whole, seeds=[seed for part in wide for seed in part.seeds])


_OF_UNITS, _OF_SEGMENTS = ["units", "durations"], ["frames", "speech", "languages", "speakers"]


class TestBadInput:
    def test_nothing_to_hold_out(self, tmp_path: Path) -> None:
        write(tmp_path / "speech" / "a.parquet", rows(1))
        with pytest.raises(InputError, match="nothing to hold out of a language and speaker that is learnt"):
            VocoderTraining(parsed(vocoder_config(tmp_path)))

    def test_held_out_speech_of_others_is_counted(self, world: Path, tmp_path: Path) -> None:
        content = rows(4, seed=9)
        content[0]["speaker"] = "nobody"
        file = write(tmp_path / "held.parquet", content)
        config = vocoder_config(world, "others")
        config["data"]["validation"] = [{"kind": "parquet", "path": str(file)}]
        trainer = VocoderTraining(parsed(config))
        assert trainer.set_aside == {"no_units": 1, "not_learnt": 1} and len(trainer.held_out) == 3

    def test_tables_that_are_too_small(self, world: Path) -> None:
        with pytest.raises(InputError, match=r"model\.speakers is 1, but there are 2"):
            VocoderTraining(parsed(vocoder_config(world, "small", model__speakers=1)))
        with pytest.raises(InputError, match="languages: lacks fra of the data"):
            VocoderTraining(parsed(vocoder_config(world, "few", languages=["eng", "deu"])))

    def test_a_training_of_other_data_is_not_gone_on_with(self, world: Path, trained: Path) -> None:
        changes: dict[str, Any] = {"losses": {"mel_only_steps": 20}, "optimiser__steps": 40}
        with pytest.raises(ConfigError, match="holds a training with"):
            train_vocoder(parsed(vocoder_config(world, "trained", data__segment=14, **changes)))

    def test_the_command_tells_errors_in_one_line(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "v.yaml"
        file.write_text(yaml.safe_dump(vocoder_config(world, "cli")))
        assert main(["train", "vocoder", str(file), "model.chanels=3"]) == 2
        assert "unknown key 'model.chanels'; did you mean 'channels'?" in capsys.readouterr().err
        assert main(["train", "vocoder", str(file), "validation.patience=2"]) == 2
        assert "patience waits for a better model: it goes with choose: best" in capsys.readouterr().err
        assert main(["train", "vocoder", str(file), "model.units=2"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "nothing to learn from" in line and "unknown_unit" in line


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(world: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model__duration_dropout": 0.5, "losses": {"mel_only_steps": 5}}
    straight, killed = (vocoder_config(world, name, **changes) for name in ("straight", "killed"))
    train_vocoder(parsed(straight))
    kill_midway(_program(killed, tmp_path / "k.yaml"), world / "killed", 7, 12)
    train_vocoder(parsed(killed))
    assert_same(
        world / "killed",
        world / "straight",
        "model/model.safetensors",
        "model/vocoder.json",
        "evaluation.json",
        "samples/0-made.wav",
    )


@pytest.mark.slow
@pytest.mark.parametrize("mel_only", [0, 2])
def test_two_processes_are_one(world: Path, tmp_path: Path, mel_only: int) -> None:
    """Two ranks over gloo learn what one process learns from the same batches of an odd size, with dropout."""
    changes: dict[str, Any] = {"optimiser__batch": 5, "optimiser__steps": 5, "validation__every": 5}
    changes |= {"optimiser__lr": 1e-5, "losses": {"mel_only_steps": mel_only}, "model__duration_dropout": 0.5}
    one, two = f"one-{mel_only}", f"two-{mel_only}"
    train_vocoder(parsed(vocoder_config(world, one, **changes)))
    wait_for(start_ranks(_program(vocoder_config(world, two, **changes), tmp_path / "two.yaml")))
    assert_close(world / two, world / one, ["loss", "mel", "duration", "discriminator", "features"], rel=1e-5)
    assert_close(world / two, world / one, ["grad_norm", "mel_l1", "duration_error"], rel=1e-4)
    first, second = (metrics_of(world / name)[0] for name in (one, two))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
    assert torch.allclose(
        state_of(world / one)["model"]["generator.unit_embedding.weight"],
        state_of(world / two)["model"]["generator.unit_embedding.weight"],
        atol=1e-5,
    )
