"""The page of trainings: its configurations can be read and have every key, and its formulas are those of the code."""

import re
from pathlib import Path
from typing import Any

import yaml

from seamlessalign.slurm_config import SlurmTrainingConfig
from seamlessalign.training_settings import OptimiserSettings, TrainingResources, TrainingSettings, ValidationSettings
from seamlessalign.training_steps import rate_factor
from seamlessalign.typed_config import checked

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
KEYS, ON_SLURM = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_every_key_is_there() -> None:
    settings = checked(TrainingSettings, KEYS, "page")
    assert settings.optimiser.schedule == "inverse_sqrt" and settings.optimiser.betas == (0.9, 0.98)
    sections: list[tuple[Any, dict[str, Any], set[str]]] = [
        (TrainingSettings, KEYS, set()),
        (OptimiserSettings, KEYS["optimiser"], set()),
        (ValidationSettings, KEYS["validation"], set()),
        (TrainingResources, KEYS["resources"], {"slurm"}),
        (SlurmTrainingConfig, ON_SLURM["resources"]["slurm"], set()),
    ]
    for kind, given, elsewhere in sections:
        assert given.keys() | elsewhere == set(kind.model_fields), kind


def test_the_keys_on_slurm_can_be_read() -> None:
    slurm = checked(TrainingSettings, {**KEYS, **ON_SLURM}, "page").resources.slurm
    assert slurm.nodes * slurm.processes * slurm.gpus == 16


def test_what_may_change_is_what_the_page_says() -> None:
    told = re.search(r"What is under `resources`, and (.*?)may be changed", PAGE, re.DOTALL)
    assert told is not None
    plan = checked(TrainingSettings, KEYS, "page").plan()
    left_out = set(TrainingSettings.model_fields) - plan.keys() - {"output", "resources"}
    assert set(re.findall(r"`(\w+)`", told[1])) == left_out and plan["precision"] == "bf16"


def test_its_formulas_are_those_of_the_code() -> None:
    steps, warmup, last = 1000, 99, 0.1
    risen = warmup + 1
    for number in (1, 50, 100, 101, 400, 999):
        rising = number / risen
        assert rate_factor(number - 1, steps, warmup, "constant") == min(1, rising)
        found = rate_factor(number - 1, steps, warmup, "inverse_sqrt", last)
        assert abs(found - min(rising, max((risen / number) ** 0.5, last))) < 1e-12
