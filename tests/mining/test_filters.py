"""Filters: reasons at the edges, nulls that pass, and limits against a walk from the best pair down."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import filters

HOUR = 3600 * 16_000  # samples


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


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_language_probability(kind: Any) -> None:
    column = pa.array([0.89, 0.9, 1.0, 0.0, None], kind)
    for of, reason in (
        (filters.text_language_probability, "uncertain_text_language"),
        (filters.speech_language_probability, "uncertain_speech_language"),
    ):
        assert of(column, min_prob=0.9).to_pylist() == [reason, None, None, reason, None]
        assert of(pa.chunked_array([column]), min_prob=0.0).to_pylist() == [None] * 5


def test_repeated_text() -> None:
    text = pa.array(["a", "b", "a", "a", None, "a", "b", None])
    scores = np.array([1.1, 1.2, 1.3, 1.2, 1.0, 1.2, 1.0, 1.0], np.float32)
    left = np.array([1, 1, 1, 1, 1, 1, 1, 1], bool)
    found = filters.repeated_text(text, scores, left, max_pairs=2).to_pylist()
    assert found == ["repeated_text", None, None, None, None, "repeated_text", None, None]
    left[2] = False  # what is dropped already takes no place
    found = filters.repeated_text(text, scores, left, max_pairs=2).to_pylist()
    assert found == ["repeated_text", None, None, None, None, None, None, None]


def test_top_hours() -> None:
    start, end = pa.array([0, 0, 0, 7, None]), pa.array([HOUR, HOUR // 2, HOUR // 2, HOUR + 7, None])
    scores, left = np.array([1.1, 1.4, 1.2, 1.3, 1.0]), np.ones(5, bool)

    def found(hours: float) -> Any:
        return filters.top_hours(start, end, scores, left, max_hours=hours).to_pylist()

    late = "beyond_max_hours"
    assert found(3) == [None] * 5
    assert found(2) == [late, None, None, None, late]  # exactly two hours are allowed
    assert found(1.49) == [late, None, late, late, late]  # the second best is too long: nothing behind it is taken
    assert found(0.4) == [late] * 5
    left[3] = False
    assert found(1.49) == [late, None, None, None, late]  # row 3 has its reason already


pairs_of_texts = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 4), st.booleans(), st.integers(1, 5)), max_size=30
)


@given(pairs_of_texts, st.integers(1, 4), st.integers(1, 40))
def test_limits_against_a_walk(pairs: list[tuple[str | None, int, bool, int]], most: int, hours: int) -> None:
    """Taking pairs one by one from the best down, equal scores in the order of rows."""
    scores, left = np.array([pair[1] for pair in pairs], np.float32), np.array([pair[2] for pair in pairs], bool)
    walk = [i for i in sorted(range(len(pairs)), key=lambda i: (-pairs[i][1], i)) if pairs[i][2]]
    taken: dict[str, int] = {}
    repeated: set[int] = set()
    for i in walk:
        text = pairs[i][0]
        if text is not None:
            taken[text] = taken.get(text, 0) + 1
            if taken[text] > most:
                repeated.add(i)
    texts = pa.chunked_array([pa.array([pair[0] for pair in pairs], pa.string())])
    found = filters.repeated_text(texts, scores, left, max_pairs=most).to_pylist()
    assert [i for i, reason in enumerate(found) if reason] == sorted(repeated)

    total, late = 0, set()
    for i in walk:
        total += pairs[i][3]
        if total > hours:
            late.add(i)
    start, end = pa.array([5] * len(pairs), pa.int64()), pa.array([5 + pair[3] * HOUR for pair in pairs], pa.int64())
    found = filters.top_hours(start, end, scores, left, max_hours=hours).to_pylist()
    assert [i for i, reason in enumerate(found) if reason] == sorted(late)


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
    with pytest.raises(InputError, match=r"min_prob is 1\.5"):
        filters.text_language_probability(pa.array([0.5]), min_prob=1.5)
    with pytest.raises(InputError, match="max_pairs is 0"):
        filters.repeated_text(pa.array(["a"]), np.ones(1), np.ones(1, bool), max_pairs=0)
    with pytest.raises(InputError, match="max_hours is nan"):
        filters.top_hours(*times(1), np.ones(1), np.ones(1, bool), max_hours=float("nan"))
    with pytest.raises(InputError, match="no filters"):
        filters.first_reason()
