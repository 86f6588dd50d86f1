"""Losses of tokens against sums that are written out in numpy, and their gradients against differences."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from seamlessalign.training.unity.losses import Smoothing, token_divergence, token_losses


def _logs(logits: Any) -> Any:
    """Log probabilities by the definition, in float64."""
    values = np.asarray(logits, np.float64)
    highest = values.max(-1, keepdims=True)
    return values - highest - np.log(np.exp(values - highest).sum(-1, keepdims=True))


def _smoothed(logits: Any, labels: Any, smoothing: float, over: Smoothing) -> list[float]:
    """The cross entropy of each token with the whole distribution that its label becomes."""
    found, logs = [], _logs(logits)
    classes = logs.shape[-1]
    for row, label in zip(logs, labels, strict=True):
        spread = smoothing / (classes - 1 if over == "wrong" else classes)
        target = [spread + (0.0 if over == "wrong" else 1 - smoothing) * (i == label) for i in range(classes)]
        if over == "wrong":
            target[label] = 1 - smoothing
        assert sum(target) == pytest.approx(1)
        found.append(-sum(share * log for share, log in zip(target, row, strict=True)))
    return found


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Any, Any]:
    tokens, classes = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 20.0]))
    return rng.normal(size=(tokens, classes)).astype(np.float32) * scale, rng.integers(0, classes, tokens)


class TestTokenLosses:
    @given(_cases(), st.floats(0, 0.9), st.sampled_from(["wrong", "all"]))
    @settings(max_examples=30, deadline=None)
    def test_they_are_the_sums_of_the_definition(
        self, case: tuple[Any, Any], smoothing: float, over: Smoothing
    ) -> None:
        logits, labels = case
        found = token_losses(torch.from_numpy(logits), torch.from_numpy(labels), smoothing, over)
        np.testing.assert_allclose(found.loss, _smoothed(logits, labels, smoothing, over), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.nll, _smoothed(logits, labels, 0.0, over), rtol=1e-4, atol=1e-4)
        assert found.right.tolist() == [float(row.argmax() == label) for row, label in zip(*case, strict=True)]

    @given(_cases(), st.floats(0, 0.9))
    @settings(max_examples=15, deadline=None)
    def test_over_all_classes_is_what_torch_has(self, case: tuple[Any, Any], smoothing: float) -> None:
        logits, labels = map(torch.from_numpy, case)
        theirs = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(token_losses(logits, labels, smoothing, "all").loss, theirs, rtol=1e-4, atol=1e-4)

    def test_the_two_definitions_differ(self) -> None:
        logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
        ours = [float(token_losses(logits, labels, 0.2, over).loss) for over in ("wrong", "all")]
        assert ours[0] - ours[1] == pytest.approx((0.2 - 0.2 * 2 / 3) * (2.0 + 0.5), rel=1e-5)

    @pytest.mark.parametrize("over", ["wrong", "all"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_gradients(self, over: Smoothing, smoothing: float) -> None:
        torch.manual_seed(0)
        logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([4, 0, 2])
        assert torch.autograd.gradcheck(lambda given: token_losses(given, labels, smoothing, over).loss, (logits,))
        token_losses(logits, labels, smoothing, over).loss.sum().backward()
        target = torch.full((3, 5), smoothing / (4 if over == "wrong" else 5), dtype=torch.float64)
        right = 1 - smoothing if over == "wrong" else 1 - smoothing + smoothing / 5
        target[torch.arange(3), labels] = right
        assert logits.grad is not None  # of a cross entropy: p - q
        torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - target)

    def test_half_precision_is_summed_in_single(self) -> None:
        torch.manual_seed(0)
        logits, labels = torch.randn(4, 1000).bfloat16(), torch.tensor([1, 2, 3, 4])
        ours = token_losses(logits, labels, 0.1)
        assert ours.loss.dtype == torch.float32
        np.testing.assert_allclose(ours.loss, _smoothed(logits.float(), labels.tolist(), 0.1, "wrong"), rtol=1e-5)


class TestTokenDivergence:
    @given(_cases())
    @settings(max_examples=20, deadline=None)
    def test_it_is_the_sum_of_the_definition(self, case: tuple[Any, Any]) -> None:
        student = case[0]
        teacher = np.ascontiguousarray(student[:, ::-1]) * np.float32(0.7)
        p, q = _logs(teacher), _logs(student)
        wanted = [
            sum(np.exp(a) * (a - b) for a, b in zip(row, other, strict=True)) for row, other in zip(p, q, strict=True)
        ]
        found = token_divergence(torch.from_numpy(teacher), torch.from_numpy(student))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        assert (found > -1e-4).all()
        assert token_divergence(torch.from_numpy(student), torch.from_numpy(student)).abs().max() < 1e-5

    def test_the_teacher_learns_only_where_it_is_told_to(self) -> None:
        torch.manual_seed(0)
        teacher = torch.randn(2, 4, requires_grad=True)
        student = torch.randn(2, 4, requires_grad=True)
        token_divergence(teacher, student).sum().backward()
        assert teacher.grad is None and student.grad is not None
        torch.testing.assert_close(student.grad, student.detach().softmax(-1) - teacher.detach().softmax(-1))
        before, student.grad = student.grad, None
        token_divergence(teacher, student, teacher_learns=True).sum().backward()
        torch.testing.assert_close(student.grad, before)
        p = teacher.detach().softmax(-1)
        gap = p.log() - student.detach().log_softmax(-1)
        torch.testing.assert_close(teacher.grad, p * (gap - (p * gap).sum(-1, keepdim=True)), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("learns", [False, True])
    def test_gradients_are_differences(self, learns: bool) -> None:
        torch.manual_seed(0)
        teacher = torch.randn(2, 3, dtype=torch.float64, requires_grad=learns)
        student = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        inputs = (teacher, student) if learns else (student,)

        def total(*given: Any) -> Any:
            return token_divergence(*given if learns else (teacher, *given), teacher_learns=learns).sum()

        assert torch.autograd.gradcheck(total, inputs)
