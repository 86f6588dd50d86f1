"""Repeats of units taken out and put back."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.training.units.repeats import expand_units, reduce_units

_UNITS = st.lists(st.integers(0, 3), max_size=40)


@given(_UNITS)
def test_runs_are_those_of_a_plain_loop(units: list[int]) -> None:
    reduced, durations = reduce_units(np.array(units, np.int32))
    runs = [(unit, len(list(some))) for unit, some in groupby(units)]
    assert list(zip(reduced.tolist(), durations.tolist(), strict=True)) == runs
    assert reduced.dtype == durations.dtype == np.int32


@given(_UNITS)
def test_there_and_back(units: list[int]) -> None:
    back = expand_units(*reduce_units(units))
    assert back.dtype == np.int32 and back.tolist() == units


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=20))
def test_durations_decide_how_long_each_lasts(runs: list[tuple[int, int]]) -> None:
    """Also of units that a model made, in which two that follow each other may be equal."""
    expanded = expand_units([unit for unit, _ in runs], [frames for _, frames in runs])
    assert expanded.tolist() == [unit for unit, frames in runs for _ in range(frames)]


@pytest.mark.parametrize(
    ("units", "durations", "told"),
    [
        ([1, 2], [3], "2 units have 1 durations"),
        ([1, 2], [3, 0], "unit 1 has a duration of 0 frames"),
        ([[1]], [1], "shape"),
        ([0.5], [1], "whole numbers"),
    ],
)
def test_what_cannot_be_expanded(units: list[int], durations: list[int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        expand_units(units, durations)
