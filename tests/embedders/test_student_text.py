"""Lessons from text alone: they are learnt, go on after a kill as if there had been none, and bad lines are named."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from seamlessalign.cli import main
from seamlessalign.embedders.card import card_beside, load_card, unit_rows
from seamlessalign.embedders.student.losses import contrastive_bank
from seamlessalign.embedders.student.targets import Meaning, Teacher
from seamlessalign.embedders.student.text_noise import noisy
from seamlessalign.embedders.student.texts import ParallelText, TextLoader, choose_texts
from seamlessalign.embedders.student.train import Training, train
from seamlessalign.embedders.student.training_config import TargetsConfig, TextConfig, load_training_config
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.errors import ConfigError, InputError, ModelError
from tests.embedders.student_world import changed, parsed
from tests.embedders.test_e5_model import small_e5
from tests.ground.tiny_whisper import save_directory, tiny_model
from tests.ground.trainings import assert_close, assert_same, metrics_of, start_ranks, state_of, wait_for

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")

WORDS = {
    "number": "aza", "query": "olo", "hello": "kiwi", "world": "gyg", "merci": "juj", "bien": "xax",
    "red": "wow", "cat": "fef", "dog": "sis", "seven": "pop", "far": "tyt", "two": "vev",
}  # fmt: skip


def _parallel(count: int, seed: int) -> list[dict[str, str]]:
    """Sentences, other words for them as their Spanish, and words spelt backwards as the French of every other one."""
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        words = [list(WORDS)[i] for i in rng.choice(len(WORDS), rng.integers(2, 6), replace=False)]
        item = {"eng": " ".join(words), "spa": " ".join(WORDS[word] for word in words)}
        if len(found) % 2:
            item["fra"] = " ".join(word[::-1] for word in words)
        found[item["eng"]] = item
    return list(found.values())


def _write(file: Path, items: list[dict[str, str]]) -> str:
    file.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    small_e5(root / "e5", layers=1, width=384)  # as wide as the card of e5-small
    save_directory(root / "whisper", tiny_model())
    _write(root / "text.jsonl", _parallel(300, 0))
    return root


def _config(world: Path, output: str, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "output": str(world / output),
        "student": {"backbone": {"kind": "whisper-decoder"}, "pooler": {"kind": "e5", "rank": 8}},
        "data": {"train": [{"kind": "text", "path": str(world / "text.jsonl")}], "validation_share": 0.2},
        "text": {"languages": {"spa": 3, "eng": 1}, "other_languages": 2, "noise": 0.3},
        "targets": {"translations": "mean", "own_weight": 0, "centre": False},
        "losses": {"cosine": 0.5, "contrastive": 1, "bank": 24, "duplicate": 0.9999},
        "optimiser": {"steps": 12, "batch": 16, "lr": 0.003, "warmup": 2, "schedule": "linear", "weight_decay": 0},
        "validation": {"every": 6, "at_start": True},
        "log_every": 1,
        "checkpoint_every": 4,
        "models": {"e5-small": str(world / "e5"), "whisper-base": str(world / "whisper")},
        "resources": {"device": "cpu", "threads": 1},
    }
    return changed(config, changes)


def _weights(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "student" / "model.safetensors"))


def test_it_learns(world: Path) -> None:
    changes: dict[str, Any] = {"optimiser__steps": 100, "optimiser__lr": 0.01, "text__noise": 0.1}
    changes |= {"validation__every": 50, "checkpoint_every": 1000}
    result = train(parsed(_config(world, "learns", **changes)))
    lines = metrics_of(world / "learns")
    loss = [line["loss"] for line in lines if "loss" in line]
    found = [line for line in lines if "p_at_1" in line]
    assert np.mean(loss[-10:]) < 0.85 * np.mean(loss[:10])
    assert [line["step"] for line in found] == [0, 50, 100] and set(found[0]["sides"]) == {"spa-eng"}
    assert result.best > 0.1 > 2 * found[0]["p_at_1"]  # by chance it is 1 / 60
    card = card_beside(world / "learns" / "student", "any")
    assert card is not None and set(card.means) == {"eng", "spa", "fra"}
    weights = _weights(world / "learns")
    assert all(weights[name].any() for name in weights if name.endswith(".up"))
    assert not weights["pooler.enter.weight"].any()  # what reads frames is not taught


def test_a_stopped_training_goes_on_as_if_it_had_not_been(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch: texts, their noise and the bank are drawn again as they were."""
    train(parsed(_config(world, "straight")))
    config, learn = parsed(_config(world, "stopped")), Training.batch_loss

    def stopping(training: Training, *of_batch: Any) -> Any:
        if training.at.step == 6:
            raise KeyboardInterrupt
        return learn(training, *of_batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Training, "batch_loss", stopping)
        train(config)
    assert state_of(world / "stopped")["progress"]["step"] == 4
    train(config)
    assert_same(world / "stopped", world / "straight")
    ours, theirs = _weights(world / "stopped"), _weights(world / "straight")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_two_processes_are_one(world: Path, tmp_path: Path) -> None:
    """Of a batch of one text more than they share, and of parameters that text does not touch."""
    one, two = (_config(world, name, optimiser__steps=6, optimiser__batch=7) for name in ("one", "two"))
    train(parsed(one))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(two))
    command = [sys.executable, "-m", "seamlessalign", "train", "speech-encoder", str(tmp_path / "two.yaml")]
    wait_for(start_ranks(command))
    assert_close(world / "two", world / "one", ["loss", "cosine", "contrastive", "grad_norm"], rel=1e-4)


def test_other_texts_or_other_first_weights_are_refused(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    _write(file, _parallel(60, 1))
    config = _config(world, "guard", optimiser__steps=2, data__train=[{"kind": "text", "path": str(file)}])
    train(parsed(config))
    with pytest.raises(ConfigError, match="digest of utterances and models"):
        train(parsed(config | {"student": config["student"] | {"init": str(world / "guard" / "student")}}))
    _write(file, _parallel(60, 2))
    with pytest.raises(ConfigError, match="digest of utterances and models"):
        train(parsed(config))


def test_it_begins_with_the_weights_of_another_student(world: Path, tmp_path: Path) -> None:
    train(parsed(_config(world, "first", optimiser__steps=4)))
    there = str(world / "first" / "student")
    before = _weights(world / "first")
    training = Training(parsed(_config(world, "second", student__init=there)))
    own = training.student.own_state()
    assert all(torch.equal(own[name], value) for name, value in before.items())
    assert "init" not in json.dumps(training.student.config.model_dump())
    with pytest.raises(ModelError, match=r"model\.safetensors: .* has shape \(8, "):
        Training(parsed(_config(world, "third", student__init=there, student__pooler__rank=4)))
    with pytest.raises(ModelError, match="nowhere"):
        Training(parsed(_config(world, "fourth", student__init=str(tmp_path / "nowhere"))))


class TestTargets:
    MEANINGS = (
        Meaning("spa", "world hello", {"eng": "hello world"}),
        Meaning("fra", "rac", {}),
        Meaning("eng", "far", {"eng": "far"}),
    )

    def _terms(self, world: Path, **keys: Any) -> Any:
        embedder = load_text_embedder("e5-small", str(world / "e5"))
        return Teacher(embedder, TargetsConfig(**keys)).terms(self.MEANINGS, ["eng"]), embedder

    @pytest.mark.parametrize("kind", ["mean", "terms"])
    def test_weight_0_leaves_the_translations_row_alone(self, world: Path, kind: str) -> None:
        (term,), embedder = self._terms(world, translations=kind, own_weight=0, weight=3)
        assert term.there.tolist() == [True, False, True]
        rows = embedder.embed(["hello world", "far"], "eng")
        np.testing.assert_allclose(term.targets[term.there].numpy(), rows, atol=1e-6)

    def test_both_are_weighted(self, world: Path) -> None:
        (term,), embedder = self._terms(world, translations="mean", own_weight=2, weight=3)
        own, other = embedder.embed(["world hello"], "spa"), embedder.embed(["hello world"], "eng")
        np.testing.assert_allclose(term.targets[:1].numpy(), unit_rows(2 * own + 3 * other), atol=1e-6)
        assert term.there.all()

    def test_weight_0_needs_translations(self) -> None:
        with pytest.raises(ValueError, match="own_weight 0 leaves no target"):
            TargetsConfig(own_weight=0)


def test_rows_are_centred_by_the_teachers_means(world: Path) -> None:
    training = Training(parsed(_config(world, "centred", targets__centre_student=True)))
    rows = 7 * torch.randn(3, 384, generator=torch.Generator().manual_seed(0))
    langs, card = ["spa", "eng", "spa"], load_card("e5-small")
    expected = np.concatenate([card.centre(row[None].numpy(), lang) for row, lang in zip(rows, langs, strict=True)])
    np.testing.assert_allclose(training._centred(rows, langs).numpy(), expected, atol=1e-6)
    plain = Training(parsed(_config(world, "not-centred")))
    assert plain._centred(rows, langs) is rows


class TestBank:
    def test_it_is_the_slow_sum(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rows, targets, bank = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (4, 4, 9))
        x, y, z = (torch.nn.functional.normalize(part, dim=1) for part in (rows, targets, bank))
        z[2] = y[1]  # what item 1 means
        same = torch.eye(4, dtype=torch.bool)
        same[0, 3] = same[3, 0] = True
        made = float(contrastive_bank(rows, targets, same, 0.2, z, 0.9))
        total = 0.0
        for i in range(4):
            others = [y[j] for j in range(4) if j == i or not same[i, j]]
            others += [row for row in z if float(row @ y[i]) <= 0.9]
            scores = torch.stack([x[i] @ row for row in others]) / 0.2
            total += float(torch.logsumexp(scores, 0) - x[i] @ y[i] / 0.2)
        assert made == pytest.approx(total / 4, rel=1e-9)

    def test_near_duplicates_push_nothing_away(self) -> None:
        rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
        targets = torch.nn.functional.normalize(torch.randn(2, 5, generator=torch.Generator().manual_seed(2)), dim=1)
        same = torch.eye(2, dtype=torch.bool)
        none, equal = targets[:0], targets.repeat(3, 1)
        alone = contrastive_bank(rows, targets, same, 0.1, none, 0.97)
        assert torch.allclose(contrastive_bank(rows, targets, same, 0.1, equal[::2], 0.97), alone) is False
        near = targets[:1] + 0.001
        beside = contrastive_bank(rows[:1], targets[:1], same[:1, :1], 0.1, near, 0.97)
        assert float(beside) == 0.0  # nothing else is left to be found

    def test_it_is_drawn_anew_for_each_batch_and_the_same_again(self, world: Path) -> None:
        loader = Training(parsed(_config(world, "bank"))).lessons.loader
        assert isinstance(loader, TextLoader)
        drawn = loader.bank(0, 1)
        assert len(drawn) == 24 and drawn == loader.bank(0, 1) and drawn != loader.bank(0, 2) != loader.bank(1, 2)


class TestChoice:
    ITEMS = tuple(
        ParallelText(str(i), (("eng", "a"), ("fra", "b"), ("ita", "c"), ("spa", "d")), "a", "eng") for i in range(4000)
    )

    def test_languages_come_by_their_weights(self) -> None:
        config = TextConfig(languages={"spa": 6, "eng": 1}, other_languages=3)
        counted = Counter(choose_texts(self.ITEMS, config, 0, 0))
        shares = [counted[place] / len(self.ITEMS) for place in range(4)]
        np.testing.assert_allclose(shares, [0.1, 0.15, 0.15, 0.6], atol=0.025)
        assert choose_texts(self.ITEMS, config, 0, 1) != choose_texts(self.ITEMS, config, 0, 0)

    def test_weight_0_is_never_drawn(self) -> None:
        config = TextConfig(languages={"spa": 1, "fra": 0}, other_languages=0)
        assert set(choose_texts(self.ITEMS, config, 0, 0)) == {3}

    def test_every_item_comes_once_an_epoch(self, world: Path) -> None:
        training = Training(parsed(_config(world, "epoch")))
        loader = training.batches
        assert isinstance(loader, TextLoader)
        for epoch in (1, 0, 1):
            batches = loader.batches(epoch)
            texts = [written.translations for place in range(len(batches)) for written in loader[epoch, place]]
            assert len(set(texts)) == len(texts) == len(training.lessons.learnt)  # type: ignore[attr-defined]
        again = [loader[1, 0], loader[1, 0]]
        assert again[0] == again[1] != loader[0, 0]


class TestNoise:
    TEXT = "Please enter the number of the conference that you wish to call today"

    def test_it_changes_words_and_never_empties_a_text(self) -> None:
        rng = np.random.default_rng(0)
        made = [noisy(self.TEXT, rng) for _ in range(200)]
        assert len(set(made)) > 150
        kept = [len(set(text.split()) & set(self.TEXT.lower().split())) for text in made]
        assert min(kept) < 6 and np.mean(kept) > 7
        assert all(any(c.isalnum() for c in noisy("a", rng)) for _ in range(200))
        assert noisy(self.TEXT, np.random.default_rng(5)) == noisy(self.TEXT, np.random.default_rng(5))

    def test_the_target_is_of_the_text_without_it(self, world: Path) -> None:
        loader = Training(parsed(_config(world, "noise", text__noise=1.0))).lessons.loader
        there = {text for item in _parallel(300, 0) for text in item.values()}
        lesson = loader[0, 0]
        assert all(written.text in there for written in lesson)
        assert any(written.heard != written.text for written in lesson)


class TestBadInput:
    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ('{"eng": "a b"', "line 3: is not JSON"),
            ('["a"]', "line 3: is no JSON object of texts by language"),
            ('{"eng": 7}', "line 3: is no JSON object of texts by language"),
            ('{"spa": "uno", "fra": "un"}', "line 3: has no text in eng; there are fra, spa"),
            ("{}", "line 3: has no text in eng; there are none"),
            ('{"eng": "one", "spa": " .. "}', "line 3: the text in spa is empty"),
            ('{"eng": "one", "es": "uno"}', "line 3: language 'es': use its ISO 639-3 code 'spa'"),
        ],
    )
    def test_a_line_is_named(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, why: str
    ) -> None:
        file = tmp_path / "text.jsonl"
        lines = [json.dumps(item) for item in _parallel(30, 0)]
        lines[2] = line
        file.write_text("\n".join(lines) + "\n")
        config = _config(world, "bad", data__train=[{"kind": "text", "path": str(file)}])
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        assert main(["train", "speech-encoder", str(tmp_path / "c.yaml")]) == 2
        said = capsys.readouterr().err
        assert f"{file} {why}" in said and said.count("\n") == 1

    @pytest.mark.parametrize(
        ("content", "why"),
        [(None, "cannot be read"), (b"", "it is empty"), (b'{"eng": "\xff"}\n', "cannot be read")],
    )
    def test_a_file_is_named(self, world: Path, tmp_path: Path, content: bytes | None, why: str) -> None:
        file = tmp_path / "text.jsonl"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=why) as caught:
            train(parsed(_config(world, "bad", data__train=[{"kind": "text", "path": str(file)}])))
        assert str(file) in str(caught.value)

    def test_long_texts_are_set_aside_and_counted(self, world: Path, tmp_path: Path) -> None:
        items = [*_parallel(40, 0), {"eng": "one " * 9, "spa": "x"}, {"eng": "ten two", "spa": "y" * 50}, {"eng": "q"}]
        config = _config(
            world,
            "long",
            data__train=[{"kind": "text", "path": _write(tmp_path / "text.jsonl", items)}],
            data__max_chars=49,
            text__max_words=8,
            text__languages={"spa": 1, "eng": 0},
            optimiser__steps=2,
        )
        train(parsed(config))
        counts = {"language_of_weight_0": 1, "text_too_long": 1, "too_many_words": 1}
        assert metrics_of(world / "long")[-1]["set_aside"] == counts


class TestConfiguration:
    def test_a_pooler_that_reads_no_texts_is_refused(self, world: Path) -> None:
        config = _config(world, "refused", student__pooler={"kind": "mean"})
        with pytest.raises(ConfigError, match="a pooler of kind 'mean' reads no texts, one of kind 'e5' does"):
            train(parsed(config))

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"augment": {"mask": 0.1}}, "have no sound for augment"),
            ({"cache": "frames"}, "have no sound for cache"),
            ({"spans": {"utterances": 2}}, "have no sound for spans"),
            ({"losses": {"cosine": 1, "bank": 5}}, "bank is for the contrastive loss"),
            ({"text": {"languages": {"spa": -1}}}, "the weight of spa is below 0"),
            ({"text": {"languages": {"spa": 0}, "other_languages": 0}}, "a weight above 0"),
            ({"data": {"train": [{"kind": "text", "path": "a", "lang": "spa"}]}}, "leave out lang"),
            ({"data": {"train": [{"kind": "folder", "path": "a"}, {"kind": "text", "path": "b"}]}}, "not both"),
            ({"data": {"train": [{"kind": "folder", "path": "a"}]}}, "losses.bank is for sources of kind text"),
            (
                {"data": {"train": [{"kind": "folder", "path": "a"}]}, "losses": {"cosine": 1}},
                "text is for sources of kind text",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, world: Path, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(ConfigError, match=why):
            parsed(_config(world, "refused") | changes)

    def test_the_rate_falls_along_a_line(self, world: Path) -> None:
        config = parsed(_config(world, "rate", optimiser={"steps": 10, "warmup": 2, "schedule": "linear"}))
        rates = [config.optimiser.rate(step) for step in range(12)]
        np.testing.assert_allclose(rates, [1 / 3, 2 / 3, *(1 - i / 8 for i in range(9)), 0], atol=1e-12)

    def test_the_recipe_of_the_shipped_weights_can_be_read(self) -> None:
        folder = Path(__file__).parents[2] / "embedders" / "weights" / "whisper-e5"
        config = load_training_config(str(folder / "recipe.yaml"))
        described = json.loads((folder / "config.json").read_text())["student"]
        ours = config.student.model_dump(exclude={"init"})
        assert ours == {key: described[key] for key in ours}
