"""The clock jumps while a run goes on: it takes no notice, and nothing that is shown is absurd."""

import json
import re
import shutil
from collections import Counter

import pytest

from tests.faults.crashes import Tiny, finished, sampled
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import KILL, Clock, Fault

DAY = 24 * 3600
_NEGATIVE = re.compile(r"(?<![\w.=-])-\d|\d{3,}:\d\d:\d\d|\bnan\b|\binf\b")  # a minus, 100 hours left, …


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [DAY, -DAY, 3650 * DAY, -3650 * DAY])
def test_the_clock_jumps(tiny: Tiny, counted: Counter[str], seconds: int) -> None:
    whole, calls = tiny.whole()
    for number in sampled(range(1, len(calls) + 1), 3):
        folder = tiny.folder()
        clock = Clock(seconds, number)
        crashed = tiny.program.run(
            tiny.config, folder, fault=Fault(KILL, min(number + 60, len(calls) - 9)), clock=clock
        )
        assert crashed.status == -9
        for at in (0, 1 << 40):  # before the clock is set right, and after
            told = tiny.program.call("status", folder, folder=folder, clock=Clock(seconds, at))
            assert told.status == 0 and not _NEGATIVE.search(told.out), told.out
        outcome = tiny.program.run(tiny.config, folder, clock=Clock(-seconds, number // 2))
        assert outcome.status == STATUS, outcome.err
        for text in (crashed.err, outcome.out, outcome.err):
            assert not _NEGATIVE.search(text), text
        assert finished(folder) == whole
        for mark in (folder / "state" / "done").rglob("*.json"):
            for line in json.loads(mark.read_text())["lines"]:
                assert all(0 <= spent < 600 for spent in line["seconds"].values()), line
        counted["errors: clock jumped"] += 2
        shutil.rmtree(folder)
