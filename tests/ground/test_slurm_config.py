"""What tasks ask of Slurm: in general, for a stage, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.config import parse_config
from seamlessalign.errors import ConfigError
from seamlessalign.pipelines.folder import SIDE_STAGES, STAGES
from seamlessalign.slurm_config import SlurmConfig, SlurmStages, SlurmTaskConfig

PAGE = Path(__file__).parents[2] / "docs" / "slurm.md"


def _parsed(slurm: dict[str, Any]) -> SlurmConfig:
    raw = {"directions": ["eng-frA"], "speech": {"inputs": ["a"]}, "text": {"inputs": ["b"]}}
    return parse_config({**raw, "resources": {"slurm": slurm}}, "run.yaml").resources.slurm


def test_a_stage_asks_what_all_ask_but_for_its_own() -> None:
    speech = {"partition": "gpu", "gpus": 1, "extra": {"reservation": "mining"}, "retries": 0}
    made = _parsed({"partition": "cpu", "account": "us", "memory_gb": 3, "stages": {"speech": speech}})
    asks = made.of("speech")
    assert (asks.partition, asks.account, asks.memory_gb, asks.gpus) == ("gpu", "us", 3, 1)
    assert asks.extra == {"reservation": "mining"} and asks.retries == 0
    assert (made.of("text").partition, made.of("text").gpus, made.of("text").extra) == ("cpu", 0, {})


def test_the_driver_asks_for_little_unless_told_otherwise() -> None:
    made = _parsed({"partition": "cpu", "memory_gb": 64, "cpus": 16, "gpus": 2, "driver": {"minutes": 60}})
    asks = made.of("driver")
    assert (asks.partition, asks.memory_gb, asks.cpus, asks.gpus, asks.minutes) == ("cpu", 4, 1, 0, 60)


def test_every_stage_and_every_key_can_be_given() -> None:
    assert tuple(SlurmStages.model_fields) == (*STAGES, *SIDE_STAGES)
    assert set(SlurmTaskConfig.model_fields) == set(SlurmConfig.model_fields) - {"stages", "folder", "driver"}


@pytest.mark.parametrize(
    ("slurm", "told"),
    [
        ({"stages": {"speach": {}}}, "unknown key 'resources.slurm.stages.speach'; did you mean 'speech'?"),
        ({"stages": {"mine": {"memorygb": 1}}}, "slurm.stages.mine.memorygb'; did you mean 'memory_gb'?"),
        ({"stages": {"mine": {"cpus": 0}}}, "slurm.stages.mine.cpus: input should be greater than 0"),
        ({"extra": {"mem": "3G"}}, "resources.slurm.extra.mem: write memory_gb beside extra"),
        ({"stages": {"text": {"extra": {"time": 3}}}}, "slurm.stages.text.extra.time: write minutes beside extra"),
        ({"extra": {"array": "0-3"}}, "resources.slurm.extra.array: is the run's own to give"),
        ({"extra": {"--nice": 3}}, "resources.slurm.extra.--nice: is not a long option of sbatch"),
        ({"setup": "module load cuda"}, "resources.slurm.setup: input should be a valid list"),
    ],
)
def test_what_is_refused(slurm: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match="resources") as error:
        _parsed(slurm)
    assert told in str(error.value)


def test_the_configuration_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    slurm = parse_config(yaml.safe_load(example), "docs/slurm.md").resources.slurm
    assert slurm.of("speech").gpus == 1 and slurm.of("corpus").partition == "cpu"
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert set(SlurmConfig.model_fields) - {"stages"} <= told
    defaults = {key: SlurmConfig.model_fields[key].default for key in ("minutes", "gpus", "parallel", "retries")}
    assert all(re.search(rf"^\| `{key}` .* {value} \|$", page, re.MULTILINE) for key, value in defaults.items())
