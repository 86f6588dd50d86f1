"""What the machine had not written to its disk is lost: nothing that a run builds on, and a torn file is never read.

The model is as strict as POSIX lets a crash be: bytes of a file that were not fsynced are gone (its name may be there,
so that it is empty), and so is, in `LOSE_NAMES`, every name in a folder that was not fsynced, old names being back.
"""

import shutil
from collections import Counter

import pytest

from tests.faults.crashes import Tiny, moments, sampled
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import LOSE_DATA, LOSE_NAMES, TORN, Fault

OTHER = "mining.threshold=0.0"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param(TORN, marks=pytest.mark.thorough), LOSE_DATA, LOSE_NAMES])
def test_at_many_moments(tiny: Tiny, counted: Counter[str], mode: int) -> None:
    tried = sampled(moments(tiny.whole()[1]), 30)
    met = sum(tiny.crash(Fault(mode, number), counted) is not None for number in tried)
    assert met > len(tried) / 2  # a slow run makes more calls, since it tells more often how far it is


@pytest.mark.slow
def test_old_marks_that_come_back_vouch_for_nothing(tiny: Tiny, counted: Counter[str]) -> None:
    """A finished run is begun again with another threshold, the power goes, and it is begun as it was before."""
    done = tiny.folder()
    assert tiny.program.run(tiny.config, done).status == STATUS
    folder = tiny.folder()
    shutil.copytree(done, folder)
    calls = tiny.program.run(tiny.config, folder, OTHER).calls
    assert {kind for kind, file in calls if file.startswith("/pairs")} >= {"write", "rename"}
    shutil.rmtree(folder)
    for number in sampled(moments(calls), 20):
        shutil.copytree(done, folder)
        crashed = tiny.program.run(tiny.config, folder, OTHER, fault=Fault(LOSE_NAMES, number))
        if crashed.faults:
            assert crashed.status == -9
            counted[f"crash points: power and names lost at {crashed.faults[0].kind}, another threshold"] += 1
        tiny.again(folder, counted)
    shutil.rmtree(done)
