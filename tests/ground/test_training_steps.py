"""How the learning rate goes, against a paper's formula and those of transformers; and which signals are heard."""

import math
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.training_settings import OptimiserSettings
from seamlessalign.training_steps import StopSignal, rate_factor


class TestRate:
    @given(st.integers(0, 5000), st.integers(0, 300))
    def test_the_inverse_square_root_is_that_of_the_paper(self, step: int, warmup: int) -> None:
        """ "Attention is all you need", section 5.3: min(n^-0.5, n · w^-1.5), here in proportion to its peak."""
        number, risen = step + 1.0, warmup + 1.0
        paper = min(number**-0.5, number * risen**-1.5) / risen**-0.5
        assert rate_factor(step, 100, warmup, "inverse_sqrt") == pytest.approx(paper)
        assert rate_factor(step, 100, warmup, "inverse_sqrt", 0.25) == pytest.approx(
            paper if step < warmup else max(paper, 0.25)
        )

    @pytest.mark.slow  # transformers takes its time to load
    @pytest.mark.parametrize("schedule", ["cosine", "linear", "inverse_sqrt", "constant"])
    def test_they_are_those_of_transformers(self, schedule: str) -> None:
        """Whose warm-up begins one step earlier, at 0, and ends one later."""
        torch = pytest.importorskip("torch")
        optimization = pytest.importorskip("transformers.optimization")
        warmup, steps = 10, 60
        adam = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = {
            "cosine": lambda: optimization.get_cosine_schedule_with_warmup(adam, warmup, steps),
            "linear": lambda: optimization.get_linear_schedule_with_warmup(adam, warmup, steps),
            "inverse_sqrt": lambda: optimization.get_inverse_sqrt_schedule(adam, warmup),
            "constant": lambda: optimization.get_constant_schedule_with_warmup(adam, warmup),
        }[schedule]()
        for number in range(1, steps):  # ours is asked before a step, so that the first is number 1 there
            adam.step()
            theirs.step()
            ours = OptimiserSettings.model_validate(
                {"steps": steps - 1, "warmup": warmup - 1, "schedule": schedule, "lr": 1.0}
            )
            assert ours.rate(number - 1) == pytest.approx(theirs.get_last_lr()[0]), number

    @pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.1), ("linear", 0.1), ("constant", 1.0)])
    def test_they_end_where_they_should(self, schedule: str, last: float) -> None:
        settings = OptimiserSettings.model_validate({"steps": 40, "lr": 0.5, "last_lr": 0.05, "schedule": schedule})
        assert settings.rate(40) == pytest.approx(last) or settings.warmup > 40
        assert rate_factor(40, 40, 5, settings.schedule, 0.1) == pytest.approx(last)
        assert rate_factor(5, 40, 5, settings.schedule, 0.1) == 1.0

    def test_adam_is_told_all_that_can_be_set(self) -> None:
        keys = {"steps": 1, "lr": 3e-4, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.2}
        settings = OptimiserSettings.model_validate(keys)
        assert settings.adam() == {"lr": 3e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}
        assert math.isclose(OptimiserSettings(steps=1).adam()["eps"], 1e-8)


class TestStopSignal:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
    def test_any_of_them_is_heard_and_others_after_it_do_not_end_the_program(self, number: int) -> None:
        """Slurm sends SIGUSR2 and then SIGTERM to what it puts off a node."""
        said: list[str] = []
        others = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} - {number}
        before = {each: signal.getsignal(each) for each in (*others, number)}
        with StopSignal(said.append) as stop:
            assert not stop.told
            os.kill(os.getpid(), number)
            assert stop.told
            for other in others:
                os.kill(os.getpid(), other)
            assert signal.getsignal(number) is signal.SIG_DFL
        assert len(said) == 1
        assert {each: signal.getsignal(each) for each in before} == before
