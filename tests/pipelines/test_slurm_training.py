"""A training as a job of a real Slurm: two processes on two nodes, put off one of them, end as two local ones do."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.cli import main
from tests.ground.trainings import assert_same, metrics_of, start_ranks, state_of, wait_for
from tests.lid.spoken_world import lid_config, make_languages, parsed
from tests.pipelines.real_slurm import Slurm, slurm

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")
# speechbrain itself is imported where it is needed: a bare import leaves traps in the table of modules
pytestmark = pytest.mark.skipif(importlib.util.find_spec("speechbrain") is None, reason="needs speechbrain")

PATIENCE = 240.0  # seconds until a moment that does not come fails the test
STEPS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech")
    return root


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    with slurm(tmp_path_factory.mktemp("slurm")) as made:
        yield made


def _config(world: Path, output: str, **slurm: Any) -> Path:
    asks = {"cpus": 1, "memory_gb": 2, "minutes": 10, "folder": str(world / "private"), **slurm}
    config = lid_config(world, output, optimiser__steps=STEPS, validation__every=20, checkpoint_every=20)
    config["resources"] |= {"threads": 1, "slurm": asks}
    file = world / f"{output}.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def _command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "seamlessalign", "train", "lid", str(config), *more]


def _on_slurm(config: Path, *more: str) -> "subprocess.Popen[str]":
    command = _command(config, "--executor", "slurm", *more)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _end(driver: "subprocess.Popen[str]", cluster: Slurm) -> tuple[int, str]:
    """Wait for the end of a driver; its status and what it said."""
    until = time.monotonic() + PATIENCE
    while driver.poll() is None:
        cluster.hurry()
        assert time.monotonic() < until, cluster.queue("%i %T %r %j")
        time.sleep(0.5)
    out, err = driver.communicate()
    return driver.returncode, out + err


def _wait_for_step(step: int, folder: Path, cluster: Slurm) -> None:
    until = time.monotonic() + PATIENCE
    while not (folder / "metrics.jsonl").is_file() or not any(line["step"] >= step for line in metrics_of(folder)):
        assert time.monotonic() < until, cluster.queue("%i %T %r %j")
        time.sleep(0.02)


def _jobs(cluster: Slurm) -> set[str]:
    return {job for job, name in cluster.queue("%i %j") if name.startswith("seamlessalign-train-")}


def _kill_a_process(folder: Path, cluster: Slurm) -> None:
    """Kill the second process of the job that trains in a folder, once it has made steps."""
    before = len(metrics_of(folder)) if (folder / "metrics.jsonl").is_file() else 0
    until = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < until, cluster.queue("%i %T %r %j")
        time.sleep(0.02)
        if not (folder / "metrics.jsonl").is_file() or len(metrics_of(folder)) <= before + 3:
            continue
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                ours = b"submitit.core._submit" in words and words[0] != b"srun"
                if ours and b"SLURM_PROCID=1" in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    return


@pytest.fixture(scope="module")
def local(world: Path) -> Path:
    """A training by two processes of this machine."""
    wait_for(start_ranks(_command(_config(world, "local"))))
    return world / "local"


@pytest.mark.slow
def test_two_nodes_one_of_which_is_taken_are_two_local_processes(world: Path, local: Path, cluster: Slurm) -> None:
    config = _config(world, "two", nodes=2)
    assert _end(_on_slurm(config, "--detach"), cluster)[0] == 0
    driver = _on_slurm(config)  # which waits for the same job
    _wait_for_step(5, world / "two", cluster)
    other = ["sbatch", "--partition=high", "--exclusive", "--wrap=true", "--output=/dev/null"]
    subprocess.run(other, check=True, capture_output=True)
    status, said = _end(driver, cluster)
    assert status == 0, said
    (job,) = _jobs(cluster)
    saved = re.search(rf"seamlessalign: saved at step (\d+); job {job} is queued again", said)
    assert saved is not None and 5 <= int(saved[1]) < STEPS, said
    assert f"job {job} is at this training already" in said and f"going on from step {saved[1]}\n" in said
    assert re.search(rf"language identifier: \S+/two/model, macro F1 \d\.\d+ at step \d+ of {STEPS}\n", said)
    assert_same(world / "two", local)
    for name in ("model/model.safetensors", "model/calibration.yaml"):
        assert (world / "two" / name).read_bytes() == (local / name).read_bytes(), name


@pytest.mark.slow
def test_one_that_is_killed_is_submitted_again(world: Path, local: Path, cluster: Slurm) -> None:
    config = _config(world, "killed", processes=2)
    driver = _on_slurm(config, "resources.slurm.retries=0", "checkpoint_every=1000")
    _kill_a_process(world / "killed", cluster)
    status, said = _end(driver, cluster)
    assert status == 1, said
    assert re.search(r"the job was lost once without a step saved; task \d+ ended as FAILED \(signal \d+\);", said), (
        said
    )
    driver = _on_slurm(config, "resources.slurm.retries=1")
    _kill_a_process(world / "killed", cluster)
    status, said = _end(driver, cluster)
    assert status == 0, said
    assert re.search(r"ended as FAILED \(signal \d+\); it is submitted again", said), said
    assert_same(world / "killed", local)


@pytest.mark.slow
def test_ctrl_c_saves_the_step_and_errors_are_the_trainings_own(world: Path, cluster: Slurm) -> None:
    config = _config(world, "stopped", processes=2)
    driver = _on_slurm(config)
    _wait_for_step(3, world / "stopped", cluster)
    os.killpg(driver.pid, signal.SIGINT)
    status, said = _end(driver, cluster)
    assert status == 1 and said.endswith("seamlessalign: stopped; the same command goes on from here\n"), said
    assert "is told to save its step and end" in said
    assert "told to stop: this step is ended and saved first" in said
    step = state_of(world / "stopped")["progress"]["step"]
    assert 3 <= step < STEPS
    assert all(state not in ("RUNNING", "PENDING") for _, state in cluster.queue())
    status, said = _end(_on_slurm(config, "optimiser.lr=0.1"), cluster)
    assert status == 2, said
    assert said.endswith("go on with the same configuration, or name another output\n")
    assert said.splitlines()[-1].startswith(
        f"seamlessalign: {world}/stopped holds a training with optimiser.lr = 0.005"
    )
    assert state_of(world / "stopped")["progress"]["step"] == step


def test_what_does_not_fit_is_told_before_anything_is_submitted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(world, "nothing")
    command = ["train", "lid", str(config)]
    assert main([*command, "--detach"]) == 2
    assert capsys.readouterr().err == "seamlessalign: --detach goes with --executor slurm\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*command, "--executor", "slurm"]) == 2
    assert "there is no sbatch here" in capsys.readouterr().err
    assert not (world / "nothing").exists()
    with pytest.raises(Exception, match="gpus"):
        parsed(lid_config(world, "nothing", resources__slurm={"gpus": 2}))
