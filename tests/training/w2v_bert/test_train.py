"""Pre-training: it learns, goes on after being killed, is the same in two processes, and ends in a model."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError
from seamlessalign.training.w2v_bert.losses import diversity
from seamlessalign.training.w2v_bert.train import W2vBertTraining, train_w2v_bert
from tests.ground.trainings import (
    assert_close,
    assert_same,
    kill_midway,
    metrics_of,
    start_ranks,
    state_of,
    wait_for,
)
from tests.lid.spoken_world import make_languages
from tests.training.w2v_bert.speech_world import parsed, w2v_bert_keys

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech", clips=6)
    return root


@pytest.fixture(scope="module")
def trained(world: Path) -> dict[str, Any]:
    """The configuration of a training that is over."""
    keys = w2v_bert_keys(
        world, "trained", optimiser__steps=60, optimiser__lr=0.01, validation__every=20, validation__at_start=True
    )
    train_w2v_bert(parsed(keys | {"checkpoint_every": 1000}))
    return keys


def _program(keys: dict[str, Any], file: Path, *more: str) -> list[str]:
    file.write_text(yaml.safe_dump(keys))
    return [sys.executable, "-m", "seamlessalign", "train", "w2v-bert", str(file), *more]


def test_every_loss_falls_and_all_is_told(trained: dict[str, Any]) -> None:
    folder = Path(trained["output"])
    steps = [line for line in metrics_of(folder) if "loss" in line]
    first, last = (
        {name: sum(line[name] for line in some) / len(some) for name in ("loss", "contrastive", "gvq", "rpq")}
        for some in (steps[:10], steps[-10:])
    )
    assert all(last[name] < first[name] for name in first), (first, last)
    line = steps[-1]
    parts = line["contrastive"] + 0.2 * line["diversity"] + 0.5 * line["gvq"] + 0.5 * line["rpq"]
    assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert line["temperature"] == pytest.approx(max(2 * 0.9**59, 0.1))
    for kind, entries in (("gvq", 6), ("rpq", 12)):
        assert all(1 <= line[f"{kind}_perplexity_{i}"] <= entries for i in (1, 2))
    held = [line for line in metrics_of(folder) if "held_out_rpq" in line]
    assert held[-1]["held_out_rpq"] < held[0]["held_out_rpq"]


def test_the_best_model_is_measured_once_more(trained: dict[str, Any]) -> None:
    folder = Path(trained["output"])
    found = json.loads((folder / "evaluation.json").read_text())
    *_, last = metrics_of(folder)
    assert found["held_out_rpq"] == pytest.approx(last["best"], rel=1e-6)
    assert [book["codebook"] for book in found["codebooks"]] == ["gvq 1", "gvq 2", "rpq 1", "rpq 2"]
    assert all(1 <= book["perplexity"] <= book["used"] <= book["entries"] for book in found["codebooks"])
    assert (folder / "curve.svg").read_text().count("held-out RPQ loss") == 1


def test_it_goes_on_from_a_model(world: Path, trained: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The first validation finds what the model was saved with."""
    more = {"model__start": str(Path(trained["output"]) / "model"), "optimiser__steps": 1, "optimiser__lr": 1e-9}
    keys = w2v_bert_keys(world, "more", validation__at_start=True, **more)
    train_w2v_bert(parsed(keys))
    first, *_ = metrics_of(world / "more")
    found = json.loads((Path(trained["output"]) / "evaluation.json").read_text())
    assert first["held_out_rpq"] == pytest.approx(found["held_out_rpq"], rel=1e-6)
    with pytest.raises(ConfigError, match="digest of speech"):
        train_w2v_bert(parsed(w2v_bert_keys(world, "more", validation__at_start=True, optimiser__steps=1,
                                            optimiser__lr=1e-9)))  # fmt: skip


def test_one_line_tells_what_is_wrong(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(w2v_bert_keys(world, "wrong")))
    assert main(["train", "w2v-bert", str(file), "gvq.entries=1"]) == 2
    assert "gvq.entries: input should be greater than or equal to 2" in capsys.readouterr().err
    (world / "empty").mkdir()
    assert main(["train", "w2v-bert", str(file), f"data.train=[{{kind: folder, path: {world / 'empty'}}}]"]) == 2
    assert "holds 0 .tsv and .jsonl files" in capsys.readouterr().err


def test_nothing_in_a_batch_that_can_be_read(world: Path) -> None:
    """A batch of nothing has no weight, and gradients of zero everywhere."""
    trainer = W2vBertTraining(parsed(w2v_bert_keys(world, "nothing")))
    trainer.batches.pieces = [  # type: ignore[attr-defined]
        piece.__class__(piece.key, piece.recording, piece.place, piece.seconds, None, uri=str(world / "gone.wav"))
        for piece in trainer.batches.pieces  # type: ignore[attr-defined]
    ]
    (counts,) = trainer.counts([trainer.batches[0, 0]])
    found = trainer.batch_loss(trainer.batches[0, 0], 0, 0, counts)
    assert found.items == 0 and set(found.rejects.values()) == {"missing"}
    found.loss.backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in trainer.network.parameters())


def test_diversity_has_its_gradient(world: Path) -> None:
    """The gradient of the whole loss less that without diversity is diversity's own, of the mean over all targets."""
    gradients = []
    for weight in (0.2, 0.0):
        trainer = W2vBertTraining(parsed(w2v_bert_keys(world, "diverse", gvq__diversity=weight)))
        batch = trainer.batches[0, 0]
        (counts,) = trainer.counts([batch])
        trainer.batch_loss(batch, 0, 0, counts).loss.backward()
        gradients.append(trainer.network.gumbel.logits.weight.grad.clone())
    network = trainer.network
    inputs = network.encoder.feature_projection.layer_norm(batch.features)[batch.masked].detach()
    weight = network.gumbel.logits.weight
    shares = network.gumbel(inputs, None, 1.0).shares.mean(0)
    (wanted,) = torch.autograd.grad(0.2 * diversity(shares), weight)
    torch.testing.assert_close(gradients[0] - gradients[1], wanted, atol=1e-6, rtol=1e-3)
    assert wanted.abs().max() > 1e-5


def test_batches_of_a_step_are_one_of_all_their_rows(world: Path) -> None:
    """But for diversity, which is of the codes of a batch: each batch's counts by its masked inputs."""
    found = []
    for plan in ([[0, 1, 2, 3]], [[0], [1, 2, 3]]):
        trainer = W2vBertTraining(parsed(w2v_bert_keys(world, "apart", gvq__diversity=0.0)))
        trainer.batches._planned = (0, plan)  # type: ignore[attr-defined]
        batches = [trainer.batches[0, place] for place in range(len(plan))]
        told = 0.0
        for batch, counts in zip(batches, trainer.counts(batches), strict=True):
            loss = trainer.batch_loss(batch, 0, 0, counts)
            loss.loss.backward()
            told += float(loss.measures["loss"])
        found.append((told, {name: p.grad for name, p in trainer.network.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in found[0][1].values()) > 1e-3


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(world: Path, tmp_path: Path) -> None:
    """To the bit, with the noise of the codes and dropout."""
    straight, killed = (w2v_bert_keys(world, name, model__dropout=0.1) for name in ("straight", "killed"))
    train_w2v_bert(parsed(straight))
    kill_midway(_program(killed, tmp_path / "k.yaml"), world / "killed", 6, 12)
    train_w2v_bert(parsed(killed))
    assert_same(
        world / "killed",
        world / "straight",
        "model/model.safetensors",
        "model/pretraining.safetensors",
        "model/config.json",
        "evaluation.json",
    )


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_are_one(world: Path, tmp_path: Path, accumulate: int) -> None:
    """Two ranks over gloo, one of which has no row of some batches, learn what one process learns."""
    changes: dict[str, Any] = {"optimiser__accumulate": accumulate, "optimiser__steps": 6, "optimiser__lr": 1e-4}
    changes |= {"optimiser__batch_seconds": 1.3, "data__max_seconds": 1.3, "validation__every": 3}
    one, two = f"one-{accumulate}", f"two-{accumulate}"
    train_w2v_bert(parsed(w2v_bert_keys(world, one, **changes)))
    wait_for(start_ranks(_program(w2v_bert_keys(world, two, **changes), tmp_path / "two.yaml")))
    keys = ["loss", "contrastive", "gvq", "rpq", "diversity", "gvq_perplexity_1", "held_out_rpq", "held_out_loss"]
    assert_close(world / two, world / one, keys, rel=1e-6)
    assert_close(world / two, world / one, ["grad_norm"], rel=1e-5)
    first, second = (state_of(world / name)["model"] for name in (one, two))
    furthest = {name: float((first[name] - second[name]).abs().max()) for name in first}
    assert max(furthest.values()) < 1e-5, furthest


@pytest.mark.slow
def test_processes_that_load_make_no_difference(world: Path) -> None:
    for workers in (0, 1):
        changes = {"optimiser__steps": 3, "validation__every": 3, "resources__workers": workers}
        train_w2v_bert(parsed(w2v_bert_keys(world, f"workers-{workers}", **changes)))
    assert metrics_of(world / "workers-0") == metrics_of(world / "workers-1")
