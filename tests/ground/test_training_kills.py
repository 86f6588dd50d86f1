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
    "optimiser": {"steps": 40, "lr": 0.05, "warmup": 3, "accumulate": 2, "schedule": "inverse_sqrt"},
    "validation": {"every": 7, "at_start": True},
    "batch": 7,
    "dropout": 0.3,
    "log_every": 1,
    "checkpoint_every": 3,
    "seconds": 0.002,
    "resources": {"device": "cpu", "threads": 1},
}


def _kill_again_and_again(folder: Path, seed: int) -> int:
    """Train in forks, all but the last of which are killed; how many were. To be called in a process of one thread.

    A fork lives until it has added some lines of metrics and a moment more, or (some of them) for a moment only.
    """
    import accelerate  # noqa: F401 - loaded once
    from torch.utils import tensorboard  # noqa: F401

    from tests.ground.line_trainer import train_line

    draw, kills, killed = random.Random(seed), 0, folder / "killed"
    child = _forked(lambda: train_line(**KEYS, output=str(folder / "straight")))
    assert os.waitpid(child, 0)[1] == 0
    while True:
        child = _forked(lambda: train_line(**KEYS, output=str(killed)))
        more = draw.choice([0, *range(12)])
        until = _lines(killed) + more
        while more and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if _lines(killed) >= until:
                break
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.02 if more else 0.3))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0
            return kills
        kills += 1


def _lines(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0


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
def test_kills_change_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ground.test_training_kills", str(tmp_path), "1"],
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
