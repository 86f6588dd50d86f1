"""The benchmarks of embedders run on a demo of seconds, and print both sides of their ratio."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seamlessalign.embedders.student import BackboneConfig, PoolerConfig, Student, StudentConfig
from seamlessalign.embedders.student.backbones import build_backbone
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import find_model
from seamlessalign.pipelines.demo_data import build_demo

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.embedded]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    try:
        for name in ("whisper-base", "e5-small"):
            find_model(name, online=False)
        build_demo(root / "data", root / "cache", minutes=0.2, distractors=20, source="espeak")
    except (InputError, ModelError) as error:
        pytest.skip(str(error))
    return root


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    config = StudentConfig(
        backbone=BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32),
        train_backbone=True,
        pooler=PoolerConfig(width=16, layers=1, heads=2, ffn=32),
        dim=384,
    )
    Student(config, build_backbone(config.backbone)).save(folder)
    return folder


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "spans --minutes 0.15",
            ["transcribe-e5", "each, 30 s", "each span", "one pass is cheaper by", "hearing", "P@1"],
        ),
        ("spans --minutes 0.15 --student STUDENT", ["student", "each span", "one pass is cheaper by", "P@1"]),
        ("embed --minutes 0.15 --sentences 9 --student STUDENT", ["transcribe-e5", "student", "core-hour", "e5-small"]),
    ],
)
def test_it_runs(command: str, told: list[str], demo: Path, student: Path) -> None:
    words = [*command.replace("STUDENT", str(student)).split(), "--rounds", "1", "--threads", "1", "--demo", str(demo)]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    assert [words for words in told if words not in done.stdout] == []
