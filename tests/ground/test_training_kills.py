"""SIGKILL at random moments, again and again: a training ends with the weights and lines of one that nothing befell.

Trainings are forks of one process that has loaded everything, so that many can be killed in little time.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ground.trainings import assert_same, metrics_of

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")

KEYS: dict[str, Any] = {
    "optimiser": {"steps": 60, "lr": 0.05, "warmup": 3, "accumulate": 2, "schedule": "inverse_sqrt"},
    "validation": {"every": 7, "at_start": True},
    "batch": 7,
    "dropout": 0.3,
    "log_every": 1,
    "checkpoint_every": 3,
    "seconds": 0.002,
    "resources": {"device": "cpu", "threads": 1},
}
_MOST_KILLS = 25


def _kill_again_and_again(folder: Path, seed: int) -> int:
    """Train in forks, all but the last of which are killed; how many were. To be called in a process of one thread."""
    from tests.ground.line_trainer import train_line

    straight = folder / "straight"
    draw, kills = random.Random(seed), 0
    began = time.monotonic()
    child = _forked(lambda: train_line(**KEYS, output=str(straight)))
    assert os.waitpid(child, 0)[1] == 0
    longest = time.monotonic() - began
    while True:
        child = _forked(lambda: train_line(**KEYS, output=str(folder / "killed")))
        if kills < _MOST_KILLS:
            time.sleep(draw.uniform(0.0, longest / 2))
            os.kill(child, signal.SIGKILL)
            kills += 1
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0
            return kills


def _forked(work: Any) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_change_nothing(tmp_path: Path, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ground.test_training_kills", str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5, done.stderr
    assert "going on from step" in done.stderr
    assert_same(tmp_path / "killed", tmp_path / "straight")
    assert metrics_of(tmp_path / "killed")[-1]["finished"] == "steps"
    for folder in ("killed", "straight"):
        assert (tmp_path / folder / "best.pt").is_file()
        assert len(list((tmp_path / folder / "checkpoints").iterdir())) == 2


if __name__ == "__main__":
    print(_kill_again_and_again(Path(sys.argv[1]), int(sys.argv[2])))
