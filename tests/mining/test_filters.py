"""Filters: reasons at the edges, and nulls that pass."""

from typing import Any

import pyarrow as pa
import pytest

from seamlessalign.errors import InputError
from seamlessalign.mining import filters


def times(*seconds: float | None) -> tuple[Any, Any]:
    """Start and end columns of spans of so many seconds."""
    starts = [None if s is None else 8_000 for s in seconds]
    return pa.array(starts, pa.int64()), pa.array([None if s is None else 8_000 + round(16_000 * s) for s in seconds])


def test_duration() -> None:
    found = filters.duration(*times(0.09, 0.1, 50, 50.01, None), min_seconds=0.1, max_seconds=50)
    assert found.to_pylist() == ["too_short", None, None, "too_long", None]
    assert found.type == pa.string()


def test_duration_of_chunked_columns() -> None:
    start, end = (pa.chunked_array([column.slice(0, 1), column.slice(1)]) for column in times(1, 30, 3))
    assert filters.duration(start, end, min_seconds=0, max_seconds=20).to_pylist() == [None, "too_long", None]


def test_duration_ratio() -> None:
    found = filters.duration_ratio(*times(1, 2, 4.01, 1, None), *times(2, 1, 2, 2.5, 9), max_ratio=2)
    assert found.to_pylist() == [None, None, "duration_ratio", "duration_ratio", None]


def test_chars_per_second_counts_characters() -> None:
    text = pa.array(["ééééé", "ab", "x" * 51, None, "abc"])
    found = filters.chars_per_second(text, *times(1, 1, 2, 1, None), min_rate=3, max_rate=25)
    assert found.to_pylist() == [None, "too_slow", "too_fast", None, None]


def test_language() -> None:
    assert filters.language(pa.array(["fra", "eng", None]), "fra").to_pylist() == [None, "wrong_language", None]


def test_first_reason() -> None:
    one, two = pa.array(["a", None, None], pa.string()), pa.array(["b", "b", None], pa.string())
    assert filters.first_reason(one, two).to_pylist() == ["a", "b", None]
    assert filters.first_reason(two, one).to_pylist() == ["b", "b", None]


def test_errors() -> None:
    with pytest.raises(InputError, match="min_seconds is 2 and max_seconds 1"):
        filters.duration(*times(1), min_seconds=2, max_seconds=1)
    with pytest.raises(InputError, match=r"max_ratio is 0\.5"):
        filters.duration_ratio(*times(1), *times(1), max_ratio=0.5)
    with pytest.raises(InputError, match="min_rate is -1"):
        filters.chars_per_second(pa.array(["a"]), *times(1), min_rate=-1, max_rate=1)
    with pytest.raises(InputError, match="no filters"):
        filters.first_reason()
