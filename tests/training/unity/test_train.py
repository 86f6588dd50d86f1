"""The training of UnitY: what is frozen stays, a stop changes nothing, and several processes are one."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError
from seamlessalign.training.data.examples import Task
from seamlessalign.training.unity import train as module
from seamlessalign.training.unity.config import UnityLosses, UnityTrainingConfig
from seamlessalign.training.unity.freezing import choose_trained
from seamlessalign.training.unity.generation import load_translator
from seamlessalign.training.unity.learner import UnityLearner
from seamlessalign.training.unity.model import load_unity
from seamlessalign.training.unity.train import PARTS
from seamlessalign.training_loop import BatchLoss
from tests.ground.trainings import assert_same, kill_midway, metrics_of, start_ranks, state_of, wait_for
from tests.training.tiny_unity import SENTENCES, tiny_text
from tests.training.unity.made_rows import batch_of, item
from tests.training.unity.made_training import (
    MadeBatches,
    MadeTraining,
    gradients_of,
    saved_gradients,
    settings,
    start_of,
)

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_of(tmp_path_factory.mktemp("start"), dropout=0.1, speech_encoder_layers=2)


def _train(keys: dict[str, Any]) -> MadeTraining:
    trainer = MadeTraining(UnityTrainingConfig.model_validate(keys))
    trainer.run()
    return trainer


class TestTraining:
    def test_it_learns_and_its_best_model_is_written(self, tmp_path: Path, start: str) -> None:
        trainer = _train(
            settings(
                tmp_path, start, validation={"every": 12, "at_start": True, "translate": 1}, optimiser={"steps": 24}
            )
        )
        lines = metrics_of(tmp_path)
        validations = [line for line in lines if "directions" in line]
        assert validations[-1]["nll"] < 0.9 * validations[0]["nll"]
        assert validations[-1]["directions"].keys() == {"s2st fra-eng", "t2tt fra-eng", "asr eng-eng"}
        told = validations[-1]["directions"]["s2st fra-eng"]
        assert told["translated"] == 1 and {"s2tt_nll", "t2tt_nll", "t2u_nll", "kd", "bleu", "chrf"} <= told.keys()
        assert "s2tt_nll" not in validations[-1]["directions"]["t2tt fra-eng"]
        tasks = {"s2st_s2tt_nll", "s2st_t2u_accuracy", "t2tt_t2tt_nll", "asr_kd", "s2tt_s2tt_accuracy"}
        assert tasks <= set().union(*lines) and lines[-1]["set_aside"] == {"too_long": 3}
        unity, text, units = load_unity(tmp_path / "model")
        assert text.languages and units is not None and lines[-1]["best_step"] == 24
        for name, value in trainer.unity.state_dict().items():
            assert torch.equal(unity.state_dict()[name], value), name
        behind = MadeTraining(UnityTrainingConfig.model_validate(settings(tmp_path / "next", str(tmp_path))))
        for name, value in behind.unity.state_dict().items():  # a stage begins with what the one before found best
            assert torch.equal(unity.state_dict()[name], value), name

    @pytest.mark.parametrize(
        ("keys", "changed"),
        [
            ({"tasks": ["s2st"], "trained": ["t2u"], "loss": {"s2tt": 0, "t2tt": 0, "kd": 0}}, ["t2u_model."]),
            (
                {"freeze": ["t2u", "text_decoder", "text_encoder"], "model": {"batch_norm": "batch"}},
                ["speech_encoder."],
            ),
            (
                {"freeze": ["speech_encoder"], "loss": {"t2u": 0}, "model": {"batch_norm": "batch"}},
                ["shared.", "text_", "lm_head."],
            ),
        ],
        ids=["stage-3", "speech-encoder", "without-units"],
    )
    def test_what_is_frozen_stays_to_the_bit(
        self, tmp_path: Path, start: str, keys: dict[str, Any], changed: list[str]
    ) -> None:
        before = load_unity(start)[0].model.state_dict()
        trainer = _train(settings(tmp_path / "out", start, **keys))
        moved = {
            name for name, value in trainer.unity.model.state_dict().items() if not torch.equal(value, before[name])
        }
        assert moved and all(any(name.startswith(part) for part in changed) for name in moved)
        for part in changed:
            assert any(name.startswith(part) for name in moved)
        statistics = any(name.endswith("running_mean") for name in moved)
        assert statistics is (changed == ["speech_encoder."])

    def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(self, tmp_path: Path, start: str) -> None:
        """With dropout, layers left out, and statistics of batches; of the frozen rest nothing is kept."""
        more = {"model": {"batch_norm": "batch", "layer_drop": 0.3}, "freeze": ["text_encoder"]}
        _train(settings(tmp_path / "straight", start, **more))

        class Stopping(MadeTraining):
            def batch_loss(self, *of_batch: Any) -> BatchLoss:
                if self.at.step == 5:
                    raise KeyboardInterrupt
                return super().batch_loss(*of_batch)

        keys = settings(tmp_path / "stopped", start, **more)
        with pytest.raises(KeyboardInterrupt):
            Stopping(UnityTrainingConfig.model_validate(keys)).run()
        _train(keys)
        assert_same(tmp_path / "stopped", tmp_path / "straight")

    def test_what_is_computed_again_is_the_same(self, tmp_path: Path, start: str) -> None:
        """With dropout, whose places are drawn again."""
        passes = {}
        for again in (False, True):
            keys = settings(tmp_path / str(again), start, model={"recompute": again}, optimiser={"steps": 2})
            trainer, ran = MadeTraining(UnityTrainingConfig.model_validate(keys)), list[int]()
            for stack in (trainer.unity.speech_encoder.encoder, trainer.unity.text_decoder):
                stack.layers[0].self_attn.register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
            trainer.run()
            passes[again] = len(ran)
        one, other = (state_of(tmp_path / str(again))["model"] for again in (False, True))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert passes[True] > passes[False]

    def test_adapters_learn_alone_and_are_worked_in(self, tmp_path: Path, start: str) -> None:
        before = load_unity(start)[0].model.state_dict()
        keys = settings(tmp_path, start, lora={"rank": 2, "layers": ["*.q_proj"]}, half_weights=False)
        trainer = _train(keys)
        assert trainer.trained and all("lora_" in name for name in trainer.trained)
        kept = {name.replace(".base_layer", ""): value for name, value in trainer.unity.model.state_dict().items()}
        assert all(torch.equal(kept[name], value) for name, value in before.items())
        after = load_unity(tmp_path / "model")[0].model.state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved and all(name.endswith("q_proj.weight") for name in moved)
        assert (tmp_path / "adapters" / "adapter_model.safetensors").is_file()
        assert all("lora_" in name for name in state_of(tmp_path)["model"])

    @pytest.mark.parametrize(
        "how",
        [
            {"freeze": ["text_encoder", "text_decoder", "t2u"]},
            {"lora": {"rank": 2, "layers": ["speech_encoder.*.linear_q"]}},
        ],
        ids=["frozen", "adapters"],
    )
    def test_to_learn_to_transcribe_english_changes_no_other_direction(
        self, tmp_path: Path, start: str, how: dict[str, Any]
    ) -> None:
        """From text, into any language: bit for bit. From speech it does change, or nothing would be learnt."""
        keys = settings(tmp_path, start, tasks=["asr"], **how)
        trainer = MadeTraining(UnityTrainingConfig.model_validate(keys))
        trainer.batches = MadeBatches(0, 1, [("asr", (0, 1, 2)), ("asr", (3, 4))])
        trainer.run()
        before, after = load_unity(start)[0].eval(), load_unity(tmp_path / "model")[0].eval()
        for lang in ("fra", "eng"):
            row = batch_of([item("s2st", 5)])
            tokens = row.tgt_tokens.clone()
            tokens[:, 1] = tiny_text().languages[lang]
            found = []
            with torch.no_grad():
                for unity in (before, after):
                    from_text = unity.decode_text(tokens, *unity.encode_text(row.src_tokens, row.src_mask))
                    from_speech = unity.decode_text(tokens, *unity.encode_speech(row.features, row.feature_mask))
                    found.append((unity.logits(from_text), unity.logits(from_speech)))
            assert torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][1], found[1][1])

    def test_the_seed_is_what_a_new_model_and_its_training_begin_with(self, tmp_path: Path) -> None:
        tiny_text().save(tmp_path / "vocabulary")

        def begun(seed: int) -> tuple[Any, float]:
            torch.rand(seed + 3)  # whatever was drawn before
            keys = settings(tmp_path, "", seed=seed) | {"start": None}
            keys["model"] = {"size": "tiny", "vocabulary": str(tmp_path / "vocabulary"), "num_units": 12}
            trainer = MadeTraining(UnityTrainingConfig.model_validate(keys))
            batch = trainer.batches[0, 0]
            (counts,) = trainer.counts([batch])
            weights = trainer.unity.model.text_decoder.layers[0].ffn.fc1.weight.detach()
            return weights, float(trainer.batch_loss(batch, 0, 0, counts).loss.detach())  # with dropout

        first, loss = begun(3)
        again, same = begun(3)
        other, _ = begun(4)
        assert torch.equal(first, again) and loss == same and not torch.equal(first, other)

    def test_adapters_begin_as_the_seed_says(self, tmp_path: Path, start: str) -> None:
        def begun(seed: int) -> Any:
            torch.rand(seed + 1)  # whatever was drawn before
            keys = settings(tmp_path, start, lora={"rank": 2, "layers": ["*.q_proj"]}, seed=seed)
            adapters = MadeTraining(UnityTrainingConfig.model_validate(keys)).adapters
            assert adapters is not None
            return torch.cat([value.detach().flatten() for value in adapters.parameters().values()])

        first = begun(0)
        assert torch.equal(first, begun(0))
        assert not torch.equal(first, begun(1))

    def test_a_loss_that_is_no_number_names_its_rows(
        self, tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = MadeTraining(UnityTrainingConfig.model_validate(settings(tmp_path, start)))
        (counts,) = trainer.counts([trainer.batches[0, 0]])
        found = trainer.batch_loss(trainer.batches[0, 0], 0, 0, counts)
        names = found.names() if callable(found.names) else found.names
        assert len(names) == 5 and names[0] == "s2st fra-eng made row 0 (00000000)"
        assert found.frames == sum(12 + 5 * n for n in range(5)) and found.items > 5

    def test_half_precision_is_for_what_is_multiplied_alone(self, tmp_path: Path, start: str) -> None:
        """Losses, gradients and weights are float32."""
        keys = settings(tmp_path, start)
        keys["resources"]["precision"] = "bf16"
        trainer = MadeTraining(UnityTrainingConfig.model_validate(keys))
        trainer.learner.eval()  # without dropout
        seen: set[Any] = set()
        trainer.unity.text_decoder.layers[0].ffn.fc1.register_forward_hook(lambda *made: seen.add(made[2].dtype))
        batch = trainer.batches[0, 0]
        (counts,) = trainer.counts([batch])
        found = trainer.batch_loss(batch, 0, 0, counts)
        trainer.accelerator.backward(found.loss)
        with torch.no_grad():
            whole, _ = UnityLearner(trainer.unity, UnityLosses()).eval()(
                batch, counts.step["text"], counts.step["units"]
            )
        assert seen == {torch.bfloat16, torch.float32} and found.loss.dtype == torch.float32
        assert 0 < abs(float(found.loss.detach()) / float(whole) - 1) < 0.02
        learning = [p for p in trainer.unity.parameters() if p.requires_grad]
        assert all(p.dtype == p.grad.dtype == torch.float32 and bool(p.grad.isfinite().all()) for p in learning)

    def test_the_command_trains_on_texts_and_speech(
        self, tmp_path: Path, start: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Texts, and speech that espeak makes of them: in tasks that share batches by what these have."""
        lines = [{"fra": f"{SENTENCES[3 + i % 3]} {i}", "eng": f"{SENTENCES[i % 3]} {i}"} for i in range(8)]
        written = [json.dumps(line) for line in [*lines, {"fra": "", "eng": "nothing to read"}]]
        (tmp_path / "lines.jsonl").write_text("\n".join(written))
        pairs = {"path": "lines.jsonl", "pairs": [["fra", "eng"]], "both_ways": False}
        data = {
            "train": [{"kind": "text"} | pairs, {"kind": "espeak", "max_rows": 3} | pairs],
            "tasks": ["t2tt", "s2tt"],
            "validation_share": 0.5,
        }
        keys = settings(tmp_path / "out", start, data=data, optimiser={"steps": 4}, validation={"every": 4})
        (tmp_path / "unity.yaml").write_text(yaml.safe_dump(keys))
        command = ["train", "unity", str(tmp_path / "unity.yaml"), "resources.precision=bf16"]
        assert main([*command, "log_every=2"]) == 0
        told = capsys.readouterr()
        assert f"translation model: {tmp_path / 'out'}/model, best" in told.out
        before, after = (load_unity(folder)[0].model for folder in (start, tmp_path / "out" / "model"))
        for name, value in before.t2u_model.state_dict().items():  # no task has units
            assert torch.equal(after.t2u_model.state_dict()[name], value), name
        last = metrics_of(tmp_path / "out")[-1]
        assert sum(last["set_aside"].values()) >= 1, last
        ways = next(line["directions"] for line in metrics_of(tmp_path / "out") if "directions" in line)
        assert set(ways) <= {"s2tt fra-eng", "t2tt fra-eng"} and ways
        assert load_translator(tmp_path / "out" / "model").translate_text([], "fra", "eng") == []
        assert "train.0 (text): set aside {" in told.err
        assert main([*command, "loss.kd=0.5"]) == 2
        assert "holds a training with loss.kd = 1.0, not 0.5" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("tasks", "loss", "wanted"),
        [
            (["s2st", "t2tt"], {}, []),
            (["s2tt", "asr"], {}, ["t2u"]),
            (["s2tt"], {"t2tt": 0, "kd": 0}, ["text_encoder", "t2u"]),
            (["asr"], {"t2tt": 0}, ["text_encoder", "t2u"]),
            (["asr"], {"t2tt": 0, "teacher_learns": True}, ["t2u"]),
            (["t2u"], {}, ["speech_encoder"]),
            (["t2tt", "t2st"], {"t2u": 0}, ["speech_encoder", "t2u"]),
        ],
    )
    def test_what_no_loss_reaches(self, tasks: list[str], loss: dict[str, Any], wanted: list[str]) -> None:
        keys = settings(Path("out"), "start", tasks=tasks, loss=loss)
        assert module.unreached(UnityTrainingConfig.model_validate(keys)) == wanted

    def test_a_start_that_is_none_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"start: .*nowhere is neither a training"):
            module.start_folder(str(tmp_path / "nowhere"))


class TestSteps:
    """Every token counts alike, whatever batch of a step it is in."""

    def _gradients(self, folder: Path, start: str, batches: Any, **more: Any) -> tuple[dict[str, Any], float]:
        """Those of one step of all batches, and the loss that is told of it."""
        optimiser = {"steps": 1, "accumulate": len(batches), "warmup": 0, "clip": 1e9}
        trainer = MadeTraining(UnityTrainingConfig.model_validate(settings(folder, start, optimiser=optimiser, **more)))
        trainer.batches = MadeBatches(0, 1, batches)
        with saved_gradients(trainer, folder / "gradients"):
            trainer.run()
        (gradients,) = gradients_of(folder / "gradients")
        return gradients, metrics_of(folder)[0]["loss"]

    def test_batches_are_one_of_all_their_rows(self, tmp_path: Path) -> None:
        start = start_of(tmp_path / "start")
        apart = [("s2st", (0, 1, 2)), ("s2st", (3,)), ("s2st", (4, 5, 6, 7))]
        ours, loss = self._gradients(tmp_path / "apart", start, apart)
        theirs, wanted = self._gradients(tmp_path / "together", start, [("s2st", range(8))])
        _assert_gradients(ours, theirs)
        assert loss == pytest.approx(wanted, rel=1e-6)

    @pytest.mark.parametrize("loss", [{}, {"t2tt": 0.0, "kd": 0.0}], ids=["all", "not-of-text-from-text"])
    def test_tasks_that_are_mixed_are_their_rows_one_by_one(self, tmp_path: Path, loss: dict[str, float]) -> None:
        """With units that are long where texts are short; and batches whose texts are not learnt."""
        start = start_of(tmp_path / "start")
        batches: Sequence[tuple[Task, Sequence[int]]] = (
            *(("s2st", (0, 6)), ("asr", (4,)), ("s2st", (5,)), ("t2st", (1, 2, 3)), ("s2tt", (8, 9))),
        )
        tasks = ["s2st", "asr", "t2st", "s2tt"]
        ours, told = self._gradients(tmp_path / "out", start, batches, loss=loss, tasks=tasks)
        weights, unity = UnityLosses(**loss), load_unity(start)[0]
        choose_trained(unity.model, PARTS, None, ["vocoder"])
        learner = UnityLearner(unity, weights).train()
        rows = [(task, batch_of([item(task, number)])) for task, numbers in batches for number in numbers]
        text = sum(len(row.tgt_tokens[0]) - 2 for task, row in rows if weights.t2tt or task != "t2st")
        units = sum(len(row.unit_tokens[0]) - 2 for task, row in rows if row.unit_tokens is not None)
        total = 0.0
        for _, row in rows:
            share, _ = learner(row, text, units)
            share.backward()
            total += float(share.detach())
        _assert_gradients(ours, {name: p.grad for name, p in unity.model.named_parameters() if name in ours})
        assert told == pytest.approx(total, rel=1e-6)


def _assert_gradients(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert ours.keys() == theirs.keys() and largest > 1e-3
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) <= 1e-6 * max(1.0, largest), name


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Of accumulated batches of mixed tasks, with dropout."""
    start, more = start_of(tmp_path / "start", dropout=0.1), {"steps": 24, "accumulate": 3}
    straight, killed = (
        settings(tmp_path / name, start, optimiser=more, validation={"every": 12}) for name in ("straight", "killed")
    )
    _train(straight)
    (tmp_path / "killed.json").write_text(json.dumps(killed))
    program = [sys.executable, "-m", "tests.training.unity.made_training", str(tmp_path / "killed.json")]
    kill_midway([*program, str(tmp_path / "gradients")], tmp_path / "killed", 5, 24)
    _train(killed)
    assert_same(tmp_path / "killed", tmp_path / "straight", "model/model.safetensors", "model/config.json")


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize(
        "more",
        [
            {"model": {"batch_norm": "batch", "layer_drop": 0.4}},
            {"optimiser": {"accumulate": 2}, "freeze": ["text_encoder"]},
        ],
        ids=["norms-of-batches", "accumulated"],
    )
    def test_gradients_of_two_are_those_of_one(self, tmp_path: Path, more: dict[str, Any]) -> None:
        """Of unequal shares and lengths; one process has no row of a batch. Steps are so small that nothing moves."""
        start = start_of(tmp_path / "start", speech_encoder_layers=4)
        optimiser = {"steps": 4, "lr": 1e-12, "warmup": 0, "clip": 1e9} | more.get("optimiser", {})
        validation = {"every": 4, "translate": 1}
        keys = settings(tmp_path / "two", start, **(more | {"optimiser": optimiser, "validation": validation}))
        (tmp_path / "two.json").write_text(json.dumps(keys))
        program = [sys.executable, "-m", "tests.training.unity.made_training", str(tmp_path / "two.json")]
        ranks = start_ranks([*program, str(tmp_path / "two-gradients")])
        one = MadeTraining(UnityTrainingConfig.model_validate(keys | {"output": str(tmp_path / "one")}))
        with saved_gradients(one, tmp_path / "one-gradients"):
            one.run()
        wait_for(ranks)
        ours, theirs = gradients_of(tmp_path / "two-gradients"), gradients_of(tmp_path / "one-gradients")
        assert len(ours) == len(theirs) == 4
        for mine, other in zip(ours, theirs, strict=True):
            _assert_gradients(mine, other)
        for mine, other in zip(metrics_of(tmp_path / "two"), metrics_of(tmp_path / "one"), strict=True):
            assert mine.keys() == other.keys()
            for key in mine.keys() - {"directions", "set_aside", "finished"}:
                assert mine[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5), key
            for way, told in other.get("directions", {}).items():
                assert mine["directions"][way] == pytest.approx(told, rel=1e-4, abs=1e-5), way
