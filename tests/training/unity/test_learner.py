"""The loss of a batch against one that is written out row by row, and how it falls to parts and to processes."""

from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.training.data.examples import Task
from seamlessalign.training.unity import learner as module
from seamlessalign.training.unity.config import UnityLosses
from seamlessalign.training.unity.frame_norm import with_frame_norms
from seamlessalign.training.unity.freezing import choose_trained
from seamlessalign.training.unity.learner import FOUND, UnityLearner
from seamlessalign.training.unity.train import PARTS
from tests.training.unity.made_rows import batch_of, item, made_unity

LOSSES = UnityLosses(s2tt=0.7, t2tt=0.4, kd=1.5, t2u=0.9, label_smoothing=0.2)


def _logs(logits: Any) -> Any:
    values = logits.detach().double().numpy()
    return (
        values
        - np.log(np.exp(values - values.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - values.max(-1, keepdims=True)
    )


def _smoothed(logs: Any, labels: list[int]) -> float:
    spread = 0.2 / (logs.shape[1] - 1)
    found = (0.8 * row[label] + spread * (row.sum() - row[label]) for row, label in zip(logs, labels, strict=True))
    return -float(sum(found))


def _alone(unity: Any, one: Any) -> dict[str, tuple[float, int]]:
    """The sums of one row's losses, of a batch that it is alone in: name → (sum, tokens)."""
    batch = batch_of([one])
    inputs, labels = batch.tgt_tokens[:, :-1], batch.tgt_tokens[0, 1:].tolist()
    found, states = {}, []
    sides = []
    if batch.features is not None:
        sides.append(("s2tt", unity.encode_speech(batch.features, batch.feature_mask)))
    if batch.src_tokens is not None:
        sides.append(("t2tt", unity.encode_text(batch.src_tokens, batch.src_mask)))
    logs = {}
    for name, (encoded, mask) in sides:
        hidden = unity.decode_text(inputs, encoded, mask)
        states.append(hidden)
        logs[name] = _logs(unity.logits(hidden)[0])[1:]  # the tag is given
        found[name] = (_smoothed(logs[name], labels[1:]), len(labels) - 1)
    if len(logs) == 2:
        gaps = np.exp(logs["t2tt"]) * (logs["t2tt"] - logs["s2tt"])
        found["kd"] = (float(gaps.sum()), len(labels) - 1)
    if batch.unit_tokens is not None:
        everything = torch.ones(states[0].shape[:2], dtype=torch.long)
        logits = unity.decode_units(states[0], everything, batch.unit_tokens[:, :-1])
        units = batch.unit_tokens[0, 1:].tolist()
        found["t2u"] = (_smoothed(_logs(logits[0])[1:], units[1:]), len(units) - 1)
    return found


class TestLoss:
    @pytest.mark.parametrize(
        ("tasks", "source_text"),
        [
            (["asr", "s2tt", "s2tt", "asr", "s2tt"], True),
            (["s2tt", "s2tt", "asr"], False),
            (["t2tt", "t2tt"], True),
            (["s2st", "s2st", "s2st"], True),
            (["t2st", "t2st"], True),
        ],
        ids=["speech-and-text", "speech", "text", "speech-and-units", "text-and-units"],
    )
    def test_it_is_that_of_its_rows_one_by_one(self, tasks: list[Task], source_text: bool) -> None:
        unity = made_unity(initializer_range=0.4).eval()  # both sides say something, and not the same
        items = [item(task, 3 * i + 1, source_text=source_text) for i, task in enumerate(tasks)]
        totals: dict[str, float] = {}
        counts = {"text": 0, "units": 0}
        with torch.no_grad():
            for one in items:
                alone = _alone(unity, one)
                for name, (total, _) in alone.items():
                    totals[name] = totals.get(name, 0.0) + total
                counts["text"] += (alone.get("s2tt") or alone["t2tt"])[1]
                counts["units"] += alone["t2u"][1] if "t2u" in alone else 0
            wanted = sum(
                weight * totals.get(name, 0.0) / counts[of]
                for name, weight, of in (
                    ("s2tt", 0.7, "text"),
                    ("t2tt", 0.4, "text"),
                    ("kd", 1.5, "text"),
                    ("t2u", 0.9, "units"),
                )
                if counts[of]
            )
            learner = UnityLearner(unity, LOSSES).eval()
            loss, found = learner(batch_of(items), counts["text"], max(1, counts["units"]))
        assert float(loss) == pytest.approx(wanted, rel=1e-5)
        sums = dict(zip(FOUND, found.sum(0).tolist(), strict=True))
        assert totals.get("kd", 1.0) > 0.1
        for name in ("s2tt", "t2tt", "kd"):
            assert sums[f"{name}_tokens"] == (counts["text"] if name in totals else 0)
        assert sums["kd"] == pytest.approx(totals.get("kd", 0.0), rel=1e-4)
        assert sums["t2u_tokens"] == counts["units"] and 0 <= sums["t2u_right"] <= counts["units"]
        if totals.get("s2tt"):
            assert found[:, FOUND.index("s2tt_tokens")].tolist() == [
                len(batch_of([one]).tgt_tokens[0]) - 2 for one in items
            ]

    def test_what_weighs_nothing_is_not_computed(self) -> None:
        unity = made_unity().eval()
        batch = batch_of([item("s2st", 1), item("s2st", 2)])
        with torch.no_grad():
            _, found = UnityLearner(unity, UnityLosses(s2tt=0, t2tt=0, kd=0)).eval()(batch)
        sums = dict(zip(FOUND, found.sum(0).tolist(), strict=True))
        assert sums["t2u_tokens"] and not any(sums[f"{name}_tokens"] for name in ("s2tt", "t2tt", "kd"))

    def test_long_batches_are_computed_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = []
        for at_once in (1000, 3):
            monkeypatch.setattr(module, "_TOKENS_AT_ONCE", at_once)
            learner = UnityLearner(made_unity(), LOSSES).train()
            loss, rows = learner(batch_of([item("s2st", i) for i in range(3)]), 20, 9)
            loss.backward()
            found.append((loss.detach(), rows, {name: p.grad for name, p in learner.named_parameters()}))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


class TestGradients:
    def test_parts_of_a_batch_add_up_to_it(self) -> None:
        """As processes have them: rows of unequal number and length, and none."""
        items = [item("s2st", i) for i in range(5)]
        learner = UnityLearner(made_unity(), LOSSES).train()
        learner(batch_of(items), 50, 40)[0].backward()
        whole = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
        learner.zero_grad()
        for part in (items[:1], items[1:], []):
            learner(batch_of(part) if part else None, 50, 40, speech=True)[0].backward()
        for name, p in learner.named_parameters():
            torch.testing.assert_close(p.grad, whole.get(name), rtol=1e-4, atol=1e-6, msg=name)

    def test_every_parameter_that_learns_has_one(self) -> None:
        unity = made_unity()
        chosen = choose_trained(unity.model, PARTS, None, ["vocoder", "text_encoder"])
        learner = UnityLearner(unity, LOSSES).train()
        assert unity.text_decoder.training and not any(module.training for module in unity.text_encoder.modules())
        for batch in (batch_of([item("t2tt", 1)]), None):
            learner.zero_grad()
            learner(batch, 5, 5)[0].backward()
            assert [name for name, p in unity.model.named_parameters() if p.grad is not None] == chosen

    def test_the_teacher_is_left_alone(self) -> None:
        batch = batch_of([item("s2tt", 1), item("s2tt", 2)])
        moved = {}
        for learns in (False, True):
            unity = made_unity()
            losses = UnityLosses(s2tt=0, t2tt=0, kd=1, t2u=0, teacher_learns=learns)
            UnityLearner(unity, losses).train()(batch, 5)[0].backward()
            moved[learns] = max(float(p.grad.abs().max()) for p in unity.text_encoder.layers.parameters())
            assert max(float(p.grad.abs().max()) for p in unity.speech_encoder.encoder.parameters()) > 0
        assert moved[False] == 0 < moved[True]

    def test_units_teach_the_text_decoder(self) -> None:
        unity = made_unity()
        losses = UnityLosses(s2tt=0, t2tt=0, kd=0, t2u=1)
        UnityLearner(unity, losses).train()(batch_of([item("s2st", 1)]), 1, 5)[0].backward()
        for part in (unity.text_decoder.layers, unity.speech_encoder.encoder, unity.t2u):
            assert max(float(p.grad.abs().max()) for p in part.parameters()) > 0


class TestModes:
    def test_frozen_norms_go_by_what_they_have(self) -> None:
        batch = batch_of([item("asr", 1), item("asr", 2)])
        for frozen in (True, False):
            unity = made_unity() if frozen else with_frame_norms(made_unity())
            learner = UnityLearner(unity, LOSSES, frozen_norms=frozen).train()
            before = {name: value.clone() for name, value in unity.named_buffers() if "running" in name}
            learner(batch, 9)
            same = [torch.equal(value, before[name]) for name, value in unity.named_buffers() if "running" in name]
            assert same and all(same) is frozen
            assert unity.text_encoder.training

    def test_layers_are_left_out_by_the_draw_alone(self) -> None:
        unity = made_unity(speech_encoder_layers=4, speech_encoder_layerdrop=0.5)
        learner = UnityLearner(unity, LOSSES, layer_drop=0.5).train()
        ran: list[int] = []
        for number, layer in enumerate(unity.speech_encoder.encoder.layers):
            layer.register_forward_hook(lambda *_, number=number: ran.append(number))
        batch, seen = batch_of([item("asr", 1)]), []
        for draw in range(40):
            ran.clear()
            torch.manual_seed(draw % 3)  # what else is drawn does not matter
            first = learner(batch, 5, draw=draw)[0]
            seen.append(tuple(ran))
            ran.clear()
            assert torch.equal(learner(batch, 5, draw=draw)[0], first) and tuple(ran) == seen[-1]
        assert 0.35 < sum(map(len, seen)) / 160 < 0.65 and len(set(seen)) > 6
        learner.eval()
        ran.clear()
        learner(batch, 5, draw=0)
        assert ran == [0, 1, 2, 3]
