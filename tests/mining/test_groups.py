"""Which rows are alike, against loops over plain numbers."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import groups
from seamlessalign.mining.groups import Alike, Labels, Near, alike_spans, alike_texts, like_first, unlike
from seamlessalign.mining.vectors import Vectors, cosines
from tests.mining import slow


def kinds(seed: int, rows: int) -> list[tuple[Alike, Any]]:
    """Each way to be alike, with a slow test of two rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, rows)
    recording, start = rng.integers(0, 3, rows), rng.integers(0, 30, rows)
    end = start + rng.integers(1, 15, rows)
    vectors = rng.integers(-2, 3, (rows, 3)) + np.array([0, 0, 0.5])
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def by_span(a: int, b: int) -> bool:
        shared = min(end[a], end[b]) - max(start[a], start[b])
        return bool(recording[a] == recording[b] and shared >= 0.5 * min(end[a] - start[a], end[b] - start[b]))

    return [
        (Labels(labels), lambda a, b: labels[a] == labels[b]),
        (alike_spans(recording.astype(str), start, end), by_span),
        (Near(unit, 0.8123), lambda a, b: slow.cosine(unit[a], unit[b]) >= 0.8123),
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_equals_a_walk_down_each_list(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    index = np.array([rng.permutation(15)[:width] for _ in range(7)])
    for alike, same in kinds(seed, 15):
        counts, first = unlike(index, alike), like_first(index, alike)
        for line, row in enumerate(index.tolist()):
            met: list[int] = []
            for place, one in enumerate(row):
                assert counts[line, place] == (not any(same(one, other) for other in met))
                assert first[line, place] == (place == 0 or same(row[0], one))
                met += [one] if counts[line, place] else []


def test_many_lists_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    index = np.random.default_rng(0).integers(0, 40, (101, 9))
    for alike, _ in kinds(3, 40):
        whole = unlike(index, alike), like_first(index, alike)
        with monkeypatch.context() as patch:
            patch.setattr(groups, "_PAIRS", 10 * 9 * 9)
            parts = unlike(index, alike), like_first(index, alike)
        assert (whole[0] == parts[0]).all() and (whole[1] == parts[1]).all()
        assert 0 < whole[0].sum() < whole[0].size


def test_a_chain_of_spans_counts_every_other_one() -> None:
    spans = alike_spans(np.zeros(3), np.array([0, 5, 10]), np.array([10, 15, 20]))
    assert unlike(np.array([[0, 1, 2]]), spans).tolist() == [[True, False, True]]
    assert unlike(np.array([[1, 0, 2]]), spans).tolist() == [[True, False, False]]


def test_texts_are_alike_but_for_case_and_punctuation() -> None:
    texts = ["Please try again.", "please  try again", "...to exit the menu.", "Try again, please", "To exit: the menu"]
    for given_ in (texts, pa.array(texts), pa.chunked_array([texts[:2], texts[2:]])):
        group = alike_texts(given_).group
        assert [group.tolist().index(number) for number in group] == [0, 0, 2, 3, 2]
    with pytest.raises(InputError, match="text of row 1 is null"):
        alike_texts(["a", None])


@pytest.mark.parametrize(
    ("start", "end", "shared", "message"),
    [
        ([0, 4], [3, 4], 0.5, r"span 1 is \[4, 4\): its end must be after"),
        ([0, 4], [3], 0.5, "recording, start and end have 2, 2 and 1 rows"),
        ([0, 4], [3, 9], 0.0, "shared is 0.0: give a share"),
    ],
)
def test_errors(start: Any, end: Any, shared: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        alike_spans(np.zeros(2), np.array(start), np.array(end), shared)


@pytest.mark.parametrize(("dtype", "norm"), [(np.float16, 1.0), (np.float32, 1.0), (np.float32, 1e25)])
def test_near_rows_are_those_of_exact_cosines(dtype: Any, norm: float) -> None:
    """Also where cosines differ from the limit by less than float32's products and sums are off."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((300, 200))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    away = rng.standard_normal((300, 200))
    away -= base * (away * base).sum(1, keepdims=True)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = 0.7 + rng.choice([0, 1e-7, -1e-7, 3e-6, 1e-4, -1e-2], (300, 1))
    rows = (norm * np.concatenate([base, cosine * base + np.sqrt(1 - cosine**2) * away])).astype(dtype)
    index = np.stack([rng.permutation(300)[:8] for _ in range(400)])
    index[:, 4:] = index[:, :4] + 300
    side = Vectors(rows, "rows")
    exact = np.stack([cosines(side, side, index[:, place], index) for place in range(8)], 1)
    found = Near(rows).couples(index)
    assert (found == (exact >= np.float32(0.7))).all()
    limit = np.float32(0.7)
    assert (np.abs(exact - limit) < 2e-7).any() and found.any() and not found.all()
    assert (np.abs(exact - limit) < 2e-7)[found].any() or dtype == np.float16
