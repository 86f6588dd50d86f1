"""A run of many shards with two workers, killed again and again: each time a worker loses at most one shard."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from seamlessalign.rows import SAMPLE_RATE
from tests.faults.crashes import Tiny, finished, marks_of
from tests.pipelines.small_corpus import command, environment, mine, spoken

WORKERS = 2
KILLS = 5 if "SEAMLESSALIGN_THOROUGH" in os.environ else 3


def _more_recordings(tiny: Tiny) -> Path:
    """The tiny run's configuration over forty recordings, all different."""
    audio = tiny.root / "many"
    audio.mkdir()
    samples = spoken("fra", (0, 1), 0.6)
    for number in range(40):
        soundfile.write(audio / f"{number:02}.flac", samples[100 * number :], SAMPLE_RATE)
    config = tiny.config.with_name("many.yaml")
    config.write_text(tiny.config.read_text().replace("recordings.jsonl", str(audio)))
    return config


def _begun_and_done(folder: Path) -> tuple[Counter[str], Counter[str]]:
    begun: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for log in (folder / "logs").rglob("*.jsonl"):
        events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        shard = str(log.relative_to(folder))
        begun[shard], done[shard] = events.count("begun"), events.count("done")
    return begun, done


@pytest.mark.slow
def test_killed_again_and_again(tiny: Tiny, counted: Counter[str]) -> None:
    config, chance = _more_recordings(tiny), random.Random(0)
    unbroken, folder = tiny.folder(), tiny.folder()
    assert mine(config, unbroken).status == 0
    settings = [f"resources.workers={WORKERS}"]
    for kill in range(1, KILLS + 1):
        driver = subprocess.Popen(
            command("run", config, "--output", folder, *settings), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env=environment(), start_new_session=True,
        )  # fmt: skip
        while len(marks_of(folder)) < 8 * kill and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.05))
        os.killpg(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "ended before it was killed"
        counted["runs of many shards killed"] += 1
    last = subprocess.run(command("run", config, "--output", folder, *settings), env=environment(), capture_output=True)
    assert last.returncode == 0, last.stderr
    begun, done = _begun_and_done(folder)
    again = sum((begun - Counter(begun.keys())).values())
    assert begun.keys() == done.keys() and again <= WORKERS * KILLS
    assert finished(folder).files == finished(unbroken).files
    counted["shards begun again"] += again
    counted["shards begun again, at most allowed"] += WORKERS * KILLS
    for used in (unbroken, folder, tiny.root / "many"):
        shutil.rmtree(used)
