"""What tests of trainings look at, and trainings as programs: killed, told to stop, or as several processes."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seamlessalign.training_speed import BY_THE_CLOCK


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics without what depends on the clock and the machine."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in BY_THE_CLOCK} for line in lines]


def state_of(folder: Path) -> dict[str, Any]:
    """The newest checkpoint."""
    return dict(torch.load(max((folder / "checkpoints").glob("step-*.pt")), weights_only=True))


def assert_same(ours: Path, theirs: Path, *files: str) -> None:
    """Two trainings ended alike: lines, place, and weights to the bit; and these files of their folders."""
    assert metrics_of(ours) == metrics_of(theirs)
    first, second = state_of(ours), state_of(theirs)
    assert first["progress"] == second["progress"] and first["model"].keys() == second["model"].keys()
    for name, value in second["model"].items():
        assert torch.equal(first["model"][name], value), name
    for file in files:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file


def assert_close(ours: Path, theirs: Path, keys: Sequence[str] = ("loss", "grad_norm"), rel: float = 1e-5) -> None:
    """Two trainings took the same steps up to rounding."""
    mine, others = metrics_of(ours), metrics_of(theirs)
    assert len(mine) == len(others)
    for line, other in zip(mine, others, strict=True):
        assert line.keys() == other.keys()
        for key in set(keys) & line.keys():
            assert abs(line[key] - other[key]) <= rel * abs(other[key]) + 1e-7, (key, line, other)


def start(command: list[str]) -> subprocess.Popen[str]:
    """A training as one process; what it says is to be read from `stderr`."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def start_ranks(command: list[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """A training as several processes that find each other over gloo, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(i), "LOCAL_RANK": str(i)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for i in range(count)
    ]


def wait_for(programs: Sequence[subprocess.Popen[str]], status: int = 0) -> list[str]:
    """What each program said, once all have ended with this status."""
    said = []
    for program in programs:
        said.append(program.communicate(timeout=900)[1])
        assert program.returncode == status, said[-1]
    return said


def wait_until(step: int, folder: Path, programs: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until programs that train in a folder have written a line of a step, or of one behind it."""
    end = time.monotonic() + 900  # a program that hangs; a busy machine may be slow
    metrics = folder / "metrics.jsonl"
    while not metrics.is_file() or not any(line["step"] >= step for line in metrics_of(folder)):
        ended = [program for program in programs if program.poll() is not None]
        assert not ended and time.monotonic() < end, [program.stderr and program.stderr.read() for program in ended]
        time.sleep(0.005)


def kill_midway(command: list[str], folder: Path, behind: int, most: int) -> None:
    """SIGKILL a training that has a line of step `behind` and a checkpoint, which is of a step before `most`."""
    program = start(command)
    wait_until(behind, folder, [program])
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    assert 0 < state_of(folder)["progress"]["step"] < most


def tell_one_of_two_to_stop(command: list[str], folder: Path, told: int, most: int) -> None:
    """Start two ranks, SIGTERM one of them early on: both say and save one same step before `most`, with status 143."""
    ranks = start_ranks(command)
    wait_until(3, folder, ranks)
    ranks[told].send_signal(signal.SIGTERM)
    said = wait_for(ranks, 128 + signal.SIGTERM)
    step = state_of(folder)["progress"]["step"]
    assert 3 <= step < most and all(f"stopped at step {step};" in words for words in said)
