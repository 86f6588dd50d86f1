"""Configurations of the stages, and what is told of those that are wrong."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.errors import ConfigError
from seamlessalign.training.unity.config import load_unity_config
from seamlessalign.training.unity.start_settings import load_start_config
from seamlessalign.training.vocabulary_config import load_vocabulary_config

STAGES = Path(__file__).parents[3] / "training" / "unity" / "stages"


def _file(folder: Path, **keys: Any) -> str:
    data = {"train": [{"kind": "text", "path": "lines.jsonl", "pairs": [["fra", "eng"]]}], "tasks": ["t2tt"]}
    whole = {"output": "out", "start": "before", "data": data, "optimiser": {"steps": 1}} | keys
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
    return str(file)


def test_the_page_names_tests_that_are_there() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "unity_training.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 20
    for file, test in named:
        assert f"def {test}(" in (root / "tests" / file).read_text(encoding="utf-8"), (file, test)


class TestStages:
    def test_all_that_there_are_can_be_read_and_follow_each_other(self) -> None:
        stages = {file.stem: file for file in STAGES.glob("*.yaml")}
        load_vocabulary_config(str(stages.pop("vocabulary")))
        load_start_config(str(stages.pop("start")))
        read = {name: load_unity_config(str(file)) for name, file in stages.items()}
        assert set(read) == {"stage1", "stage2", "t2u", "stage3", "tiny"}
        for stage, before in (("stage2", "stage1"), ("t2u", "stage2"), ("stage3", "t2u")):
            assert read[stage].start == read[before].output
        for stage in ("t2u", "stage3"):
            assert read[stage].trained == ["t2u"] and read[stage].loss.s2tt == 0
        assert [read[name].data.choice.hours("fra", "eng")[0] for name in ("stage1", "stage2")] == [400, 400]
        assert read["stage2"].data.choice.hours("eng", "fra")[0] == 200
        assert read["stage1"].optimiser.schedule == "inverse_sqrt" and read["stage1"].optimiser.lr == 3e-4

    def test_torch_is_not_needed_to_read_them(self) -> None:
        script = (
            "import sys; from seamlessalign.training.unity.config import load_unity_config; "
            f"load_unity_config({str(STAGES / 'stage1.yaml')!r}); print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False"]


class TestConfig:
    def test_paths_are_beside_the_file_but_for_trainings(self, tmp_path: Path) -> None:
        model = {"size": "tiny", "vocabulary": "pieces"}
        config = load_unity_config(_file(tmp_path, start=None, model=model), ["optimiser.lr=0.5"])
        assert config.model.vocabulary == str(tmp_path / "pieces") and config.output == "out"
        assert config.data.train[0].path == str(tmp_path / "lines.jsonl") and config.optimiser.lr == 0.5
        assert load_unity_config(_file(tmp_path)).start == "before"

    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            ({"start": None}, "give start, or a new model's model.size and model.vocabulary"),
            ({"model": {"size": "tiny"}}, "model.size is for new models, but there is a start"),
            ({"loss": dict.fromkeys(("s2tt", "t2tt", "kd", "t2u"), 0)}, "loss: all weights are 0"),
            ({"loss": {"s2t": 1}}, "unknown key 'loss.s2t'; did you mean 's2tt'"),
            ({"validation": {"choose": "bleu"}}, "choose: bleu needs rows to translate"),
            ({"lora": {"rank": 4}, "freeze": ["t2u"]}, "with lora nothing else learns"),
            ({"model": {"recompute": True, "batch_norm": "batch"}}, "model: recompute would count each batch twice"),
            ({"loss": {"t2tt": 0}}, "task t2tt teaches nothing: the weight of t2tt is 0 in loss"),
            ({"trained": ["vocoder"]}, "the vocoder is not learnt here"),
        ],
    )
    def test_what_is_wrong_is_told_in_a_line(self, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load_unity_config(_file(tmp_path, **keys))
        assert told in str(caught.value) and "\n" not in str(caught.value)
