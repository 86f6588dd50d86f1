"""Configurations of evaluations: those that the documentation shows, and what contradicts itself."""

import re
from pathlib import Path

import pytest

from seamlessalign.errors import ConfigError
from seamlessalign.training.evaluation.config import load_evaluation_config

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def shown(tmp_path: Path) -> str:
    """The file that docs/evaluation.md begins with."""
    (text, *_) = re.findall(r"```yaml\n(.*?)```", (DOCS / "evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "evaluation.yaml").write_text(text, encoding="utf-8")
    return str(tmp_path / "evaluation.yaml")


def test_the_documentations_example_is_one(shown: str, tmp_path: Path) -> None:
    config = load_evaluation_config(shown)
    assert list(config.systems) == ["cascade", "ours"]
    assert config.systems["ours"].columns.text == "translation"
    assert config.systems["ours"].path == str(tmp_path / "predictions.parquet")
    assert config.measures.asr.engine == "transformers"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("measures.asr.engine=whisper", "measures.asr.engine"),
        ("measures.asr.compute_type=int8", "asr.compute_type is of engine faster-whisper: say engine, or leave it out"),
        ("measures.asr.function=a:b", "asr has both function and whisper: give one of them"),
        ("measures.asr.beem=5", "did you mean 'beam'"),
        ("resampling.samples=0", "resampling.samples"),
        ("baseline=theirs", "baseline is 'theirs', which is none of systems: cascade, ours"),
    ],
)
def test_what_contradicts_itself(shown: str, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_evaluation_config(shown, [override])


def test_paths_of_a_recogniser_are_beside_the_file(shown: str, tmp_path: Path) -> None:
    asr = "measures.asr={engine: faster-whisper, directory: large, kept: heard, beam: 5, compute_type: int8_float16}"
    found = load_evaluation_config(shown, [asr]).measures.asr
    assert (found.directory, found.kept) == (str(tmp_path / "large"), str(tmp_path / "heard"))
