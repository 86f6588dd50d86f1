"""The benchmarks of mining run, and print both sides of their ratio and where the time goes."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("knn 400 500 32 --rounds 1", ["faiss, both ways", "scan over bare products", "certification"]),
        ("knn 400 400 32 --rounds 1 --hurt sorted hubs", ["sorted", "hubs", "up to ties"]),
        ("end_to_end 1500 1500 32 --rounds 1", ["usual way", "margins", "choice"]),
    ],
)
def test_it_runs(command: str, told: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *f"benchmarks.{command}".split()], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [words for words in told if words not in done.stdout] == []
