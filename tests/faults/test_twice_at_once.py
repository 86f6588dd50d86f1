"""Two processes at once: a shard done by both gives what one gives, and of two drivers the second is refused."""

import shutil
import subprocess
from collections import Counter

import pytest

from tests.faults.crashes import Tiny, finished, sampled
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import KILL, Fault, Twins
from tests.pipelines.small_corpus import command, complaint, environment

_VARIANT = ["mining.reduce.dim=4", "resources.mining_tasks=3"]


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_every_shard_is_done_by_two_processes_at_once(tiny: Tiny, counted: Counter[str], late: bool) -> None:
    whole, _ = tiny.whole(*_VARIANT)
    for seed in sampled(range(15), 8):
        folder = tiny.folder()
        twins = Twins(seed, apart=0.2 if late else 0.02, late=late)
        outcome = tiny.program.run(tiny.config, folder, *_VARIANT, twins=twins)
        tiny.program.wait_for_twins()
        if late and outcome.status != STATUS:  # a mark was written anew after the ledger had been gathered from them
            assert outcome.status == 1 and "ledger.parquet has other lines than the marks" in outcome.complaint
            outcome = tiny.program.run(tiny.config, folder, *_VARIANT)
        assert outcome.status == STATUS, outcome.err
        assert finished(folder) == whole
        counted["shards done twice at once"] += whole.shards
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_driver_begins_while_tasks_of_one_that_was_killed_still_write(tiny: Tiny, counted: Counter[str]) -> None:
    whole, calls = tiny.whole(*_VARIANT)
    for number in sampled(range(40, len(calls)), 8):
        folder = tiny.folder()
        killed = tiny.program.run(
            tiny.config, folder, *_VARIANT, twins=Twins(number, apart=0.3, late=True), fault=Fault(KILL, number)
        )
        again = tiny.program.run(tiny.config, folder, *_VARIANT)
        assert again.status == STATUS, again.err
        tiny.program.wait_for_twins()
        assert finished(folder) == whole
        if killed.faults:
            counted["drivers begun beside tasks of a killed one"] += 1
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_second_of_two_drivers_is_refused(tiny: Tiny, counted: Counter[str]) -> None:
    whole, _ = tiny.whole()
    for _ in sampled(range(3), 2):
        folder = tiny.folder()
        drivers = [
            subprocess.Popen(
                command("run", tiny.config, "--output", folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=environment(),
            )
            for _ in range(2)
        ]  # fmt: skip
        ends = sorted((driver.communicate(timeout=300)[1], driver.returncode) for driver in drivers)
        ends.sort(key=lambda end: end[1])
        (refusal, refused), (_, done) = ends
        assert (refused, done) == (1, STATUS), ends
        assert complaint(refusal).startswith(f"seamlessalign: {folder}: another run is at work in this folder")
        assert finished(folder) == whole
        counted["second drivers refused"] += 1
        shutil.rmtree(folder)
