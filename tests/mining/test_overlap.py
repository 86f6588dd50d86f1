"""Overlaps: one side exactly optimal against all subsets, two sides feasible and never worse than greedy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import overlap, resolve_overlaps, resolve_overlaps_two_sides
from tests.mining import slow

Span = tuple[int, int, int]
SHARES = [0.0, 0.1, 0.25, 0.5, 0.9]


@st.composite
def spans(draw: st.DrawFn, most: int) -> list[Span]:
    span = st.tuples(st.integers(0, 1), st.integers(0, 25), st.integers(1, 14))
    return [(recording, start, start + size) for recording, start, size in draw(st.lists(span, max_size=most))]


def columns(rows: list[Span]) -> tuple[Any, Any, Any]:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def bad_couples(rows: list[Span], share: float) -> set[tuple[int, int]]:
    return {(a, b) for a in range(len(rows)) for b in range(a + 1, len(rows)) if slow.conflict(rows[a], rows[b], share)}


def reached(keep: Any, weight: list[float], bad: set[tuple[int, int]]) -> float:
    """The sum that was kept, after checking that nothing kept is in conflict."""
    rows = np.flatnonzero(keep).tolist()
    assert not any((a, b) in bad for a in rows for b in rows)
    return sum(weight[row] for row in rows)


@settings(max_examples=250, deadline=None)
@given(spans(9), st.sampled_from(SHARES), st.data())
def test_one_side_is_exactly_optimal(rows: list[Span], share: float, data: st.DataObject) -> None:
    weight = [float(w) for w in data.draw(st.lists(st.integers(1, 9), min_size=len(rows), max_size=len(rows)))]
    bad = bad_couples(rows, share)
    keep = resolve_overlaps(*columns(rows), np.array(weight), share)
    assert keep.dtype == bool and keep.shape == (len(rows),)
    assert reached(keep, weight, bad) == slow.best_subset(weight, bad)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHARES))
def test_one_side_with_many_spans(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 300, 60)
    rows = [(0, int(s), int(s + n)) for s, n in zip(start, rng.integers(1, 40, 60), strict=True)]
    weight = (1 + rng.random(60)).tolist()
    bad = bad_couples(rows, share)
    keep = resolve_overlaps(*columns(rows), np.array(weight), share)
    assert reached(keep, weight, bad) >= slow.greedy_subset(weight, bad) - 1e-9


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(spans(1).filter(len), spans(1).filter(len)), max_size=9), st.sampled_from(SHARES), st.data())
def test_two_sides_are_between_greedy_and_the_best(
    pairs: list[tuple[list[Span], list[Span]]], share: float, data: st.DataObject
) -> None:
    src, tgt = [one[0] for one, _ in pairs], [two[0] for _, two in pairs]
    weight = [float(w) for w in data.draw(st.lists(st.integers(1, 9), min_size=len(src), max_size=len(src)))]
    bad = bad_couples(src, share) | bad_couples(tgt, share)
    keep = resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight), share)
    assert slow.greedy_subset(weight, bad) <= reached(keep, weight, bad) <= slow.best_subset(weight, bad)


def test_two_sides_are_nearly_best_on_small_cases() -> None:
    rng = np.random.default_rng(0)
    totals = np.zeros(3)
    for _ in range(60):
        src, tgt = (
            [(0, int(s), int(s + n)) for s, n in zip(rng.integers(0, 30, 11), rng.integers(2, 10, 11), strict=True)]
            for _ in range(2)
        )
        weight = (1 + rng.random(11)).tolist()
        bad = bad_couples(src, 0) | bad_couples(tgt, 0)
        keep = resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight))
        totals += slow.greedy_subset(weight, bad), reached(keep, weight, bad), slow.best_subset(weight, bad)
    assert totals[0] < 0.95 * totals[2] and totals[1] > 0.985 * totals[2]


def random_pairs(rng: np.random.Generator, count: int, length: int) -> tuple[list[Span], list[Span], list[float]]:
    src, tgt = (
        [
            (int(recording), int(start), int(start + size))
            for recording, start, size in zip(
                rng.integers(0, 3, count), rng.integers(0, length, count), rng.integers(2, 30, count), strict=True
            )
        ]
        for _ in range(2)
    )
    return src, tgt, (1 + rng.random(count)).tolist()


@pytest.mark.parametrize("together", [1, 7, 300])
@pytest.mark.parametrize("share", SHARES)
def test_so_many_at_a_time_as_hang_together_give_the_same(
    together: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, tgt, weight = random_pairs(np.random.default_rng(5), 400, 3000)
    src = [(recording + 3 * (start // 200), start, end) for recording, start, end in src]
    one = resolve_overlaps(*columns(src), np.array(weight), share)
    two = resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight), share)
    monkeypatch.setattr(overlap, "_TOGETHER", together)
    assert (resolve_overlaps(*columns(src), np.array(weight), share) == one).all()
    assert (resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight), share) == two).all()
    assert 0 < one.sum() < 400 and 0 < two.sum() < 400
    parts = list(overlap._in_parts(np.array([recording for recording, _, _ in src])))
    assert len(parts) > (1 if together < 300 else 0) and sorted(np.concatenate(parts).tolist()) == list(range(400))


@pytest.mark.parametrize("conflicts", [1, 40, 1 << 20])
def test_two_sides_improved_in_parts(conflicts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_CONFLICTS", conflicts)
    totals = np.zeros(2)
    for seed in range(12):
        src, tgt, weight = random_pairs(np.random.default_rng(seed), 80, 200)
        share = SHARES[seed % 3]
        bad = bad_couples(src, share) | bad_couples(tgt, share)
        keep = resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight), share)
        greedy, got = slow.greedy_subset(weight, bad), reached(keep, weight, bad)
        assert got >= greedy - 1e-9
        totals += greedy, got
    assert totals[1] > totals[0] * (1.06 if conflicts > 40 else 1.01 if conflicts > 1 else 1)


def test_two_sides_that_overlap_alike_are_exact() -> None:
    """Where both sides hang together in the same way, the best choice for one side is the best there is."""
    rng = np.random.default_rng(1)
    src, _, weight = random_pairs(rng, 3000, 9000)
    tgt = [(recording, start + 1000, end + 1000) for recording, start, end in src]
    one = resolve_overlaps(*columns(src), np.array(weight))
    two = resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight))
    assert np.array(weight)[two].sum() == pytest.approx(np.array(weight)[one].sum())


def test_what_hangs_together_does_not_depend_on_the_rest() -> None:
    """Far apart in time, two groups of pairs give what each gives alone."""
    rng = np.random.default_rng(2)
    parts = [random_pairs(rng, 40, 60) for _ in range(2)]
    alone = [
        resolve_overlaps_two_sides(*columns(src), *columns(tgt), np.array(weight)).tolist()
        for src, tgt, weight in parts
    ]
    src, tgt = (
        near + [(recording, start + 10**6, end + 10**6) for recording, start, end in far]
        for near, far in ((parts[0][0], parts[1][0]), (parts[0][1], parts[1][1]))
    )
    weight = np.array(parts[0][2] + parts[1][2])
    assert resolve_overlaps_two_sides(*columns(src), *columns(tgt), weight).tolist() == alone[0] + alone[1]


def test_two_sides_of_many_spans_are_quick() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 10_000_000, 20_000)
    end = start + rng.integers(16_000, 320_000, 20_000)
    recording = rng.integers(0, 50, 20_000)
    weight = 1 + rng.random(20_000)
    keep = resolve_overlaps_two_sides(recording, start, end, recording, start + 7, end + 7, weight)
    assert keep.sum() > 1000


def test_two_light_pairs_beat_one_heavy() -> None:
    names = np.array(["a", "a", "a"])
    start, end = np.array([0, 8, 5]), np.array([7, 15, 10])
    weight = np.array([6.0, 6.0, 10.0])
    assert resolve_overlaps(names, start, end, weight).tolist() == [True, True, False]
    apart = np.array(["x", "y", "z"])
    two = resolve_overlaps_two_sides(names, start, end, apart, start, end, weight)
    assert two.tolist() == [True, True, False]


def test_touching_spans_and_other_recordings_do_not_conflict() -> None:
    keep = resolve_overlaps(np.array([1, 1, 2]), np.array([0, 5, 3]), np.array([5, 9, 8]), np.ones(3))
    assert keep.all()
    assert resolve_overlaps(*columns([]), np.array([])).shape == (0,)
    assert resolve_overlaps_two_sides(*columns([]), *columns([]), np.array([])).shape == (0,)


def test_share_is_of_the_shorter_span() -> None:
    rows = columns([(0, 0, 100), (0, 90, 110)])  # overlap 10: half of the shorter, a tenth of the longer
    assert resolve_overlaps(*rows, np.array([2.0, 1.0]), 0.5).all()
    assert resolve_overlaps(*rows, np.array([2.0, 1.0]), 0.49).tolist() == [True, False]


def test_many_spans_are_quick() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 10_000_000, 50_000)
    end = start + rng.integers(16_000, 320_000, 50_000)
    keep = resolve_overlaps(rng.integers(0, 50, 50_000), start, end, 1 + rng.random(50_000), 0.1)
    assert 1000 < keep.sum() < 50_000


@pytest.mark.parametrize(
    ("start", "end", "weight", "share", "message"),
    [
        ([0, 4], [3, 4], [1, 1], 0.0, r"span 1 is \[4, 4\)"),
        ([0, 4], [3, 9], [1, 0], 0.0, "weight of row 1 is 0.0"),
        ([0, 4], [3, 9], [1, float("nan")], 0.0, "weight of row 1 is nan"),
        ([0, 4], [3, 9], [1], 0.0, r"weight has shape \(1,\) for 2 spans"),
        ([0, 4], [3], [1, 1], 0.0, "recording, start and end have 2, 2 and 1 rows"),
        ([0, 4.5], [3, 9], [1, 1], 0.0, "start is float64: give whole samples"),
        ([0, 4], [3, 9], [1, 1], 1.0, "max_overlap is 1.0"),
        ([0, 4], [3, 9], [1, 1], -0.1, "max_overlap is -0.1"),
    ],
)
def test_errors(start: Any, end: Any, weight: Any, share: float, message: str) -> None:
    side = np.zeros(2, np.int64), np.array(start), np.array(end)
    with pytest.raises(InputError, match=message):
        resolve_overlaps(*side, np.array(weight), share)
    with pytest.raises(InputError, match=message):
        resolve_overlaps_two_sides(*side, *side, np.array(weight), share)
