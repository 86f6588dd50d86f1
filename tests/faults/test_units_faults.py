"""A run is killed while its units are made, added, and taken away: the bytes are those of an unbroken run."""

import shutil
from collections import Counter

import pytest

from tests.faults.crashes import Tiny, sampled
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import COUNT, KILL, Fault
from tests.pipelines.test_units_stage import write_units

pytestmark = pytest.mark.slow


def test_killed_while_units_are_made_added_and_taken_away(tiny: Tiny, counted: Counter[str]) -> None:
    write_units(tiny.root / "units")
    wanted = f"units.model={tiny.root / 'units'}"
    whole, calls = tiny.whole(wanted)
    assert [name for name in whole.files if name.startswith("units/")]
    numbers = [number for number, call in enumerate(calls, 1) if "units" in call.file]
    assert {calls[number - 1].kind for number in numbers} >= {"write", "fsync", "rename"}
    for number in sampled(numbers, 8):
        assert tiny.crash(Fault(KILL, number), counted, wanted)

    for before, after in (((), (wanted,)), ((wanted,), ())):
        folder, copy = tiny.folder(), tiny.folder()
        assert tiny.program.run(tiny.config, folder, *before).status == STATUS
        shutil.copytree(folder, copy)
        calls = tiny.program.run(tiny.config, copy, *after, fault=Fault(COUNT)).calls
        numbers = [number for number, call in enumerate(calls, 1) if "units" in call.file]
        for number in sampled(numbers, 5):
            assert tiny.crash(Fault(KILL, number), counted, *after, before=folder)
