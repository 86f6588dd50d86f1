"""A small run is killed at calls that change a file, and started again: the bytes are those of an unbroken run.

What was done by then is not done again, but for the one shard that was being done.
"""

from collections import Counter

import pytest

from tests.faults.crashes import Tiny, sampled
from tests.faults.warm_program import KILL, Fault

# other ways that a run can go: more directions with another kind of decoys; fewer dimensions, parts of every search
VARIANTS = [
    ["directions=[eng-frA, frA-esA]", "mining.filters.drop_identical_audio=true"],
    [
        "mining.reduce.dim=4",
        "resources.mining_tasks=3",
        "speech.vad.keep_probabilities=true",
        "speech.quality.min_snr_db=-99",
    ],
]


def test_killed_once_at_every_kind_of_call(tiny: Tiny, counted: Counter[str]) -> None:
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(tiny.whole()[1], 1):
        kinds.setdefault(call.kind, []).append(number)
    assert kinds.keys() >= {"create", "write", "allocate", "fsync", "rename", "unlink", "mkdir"}
    for numbers in kinds.values():
        assert tiny.crash(Fault(KILL, numbers[len(numbers) // 2]), counted)


@pytest.mark.slow
def test_killed_at_any_call(tiny: Tiny, counted: Counter[str]) -> None:
    """At a sample of all calls; at every one of them with `make test-thorough`."""
    calls = range(1, len(tiny.whole()[1]) + 1)
    tried = sampled(calls, 110)
    met = sum(tiny.crash(Fault(KILL, number), counted) is not None for number in tried)
    assert met > len(tried) * 0.9  # a slow run tells more often how far it is, a fast one less often
    if len(tried) == len(calls):
        number = len(calls) + 1
        while tiny.crash(Fault(KILL, number), counted):
            number += 1


@pytest.mark.slow
@pytest.mark.parametrize("overrides", VARIANTS)
def test_other_ways_of_a_run_killed_here_and_there(tiny: Tiny, counted: Counter[str], overrides: list[str]) -> None:
    _, calls = tiny.whole(*overrides)
    tried = sampled(range(1, len(calls) + 1), 20)
    met = sum(tiny.crash(Fault(KILL, number), counted, *overrides) is not None for number in tried)
    assert met > len(tried) / 2
