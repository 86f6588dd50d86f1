"""Strategies against their definitions in loops."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining.choose import STRATEGIES, choose, one_to_one
from seamlessalign.mining.groups import Labels
from seamlessalign.mining.knn import Neighbours
from tests.mining import slow


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Neighbours, Neighbours, npt.NDArray[Any], npt.NDArray[Any]]:
    """Any margins from few values (ties are common), any lists of neighbours; a pair has one margin on both sides."""
    num_src, num_tgt = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    k_src, k_tgt = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = rng.integers(0, draw(st.sampled_from([2, 5, 1000])), size=(num_src, num_tgt)).astype(np.float32)
    cosine = rng.random((num_src, num_tgt)).astype(np.float32)
    fwd = np.array([rng.permutation(num_tgt)[:k_src] for _ in range(num_src)])
    bwd = np.array([rng.permutation(num_src)[:k_tgt] for _ in range(num_tgt)])
    sources, targets = np.arange(num_src)[:, None], np.arange(num_tgt)[:, None]
    return (
        Neighbours(cosine[sources, fwd], fwd),
        Neighbours(cosine[bwd, targets], bwd),
        matrix[sources, fwd],
        matrix[bwd, targets],
    )


def reference(
    forward: Neighbours,
    backward: Neighbours,
    ahead: npt.NDArray[Any],
    back: npt.NDArray[Any],
    strategy: str,
    depth: int = 1,
    groups: tuple[list[int], list[int]] | None = None,
) -> list[tuple[float, int, int]]:
    def best(row: list[int], values: list[float], group: list[int] | None) -> list[tuple[float, int]]:
        down = sorted((-value, other) for value, other in zip(values, row, strict=True))[:depth]
        return [one for one in down if group is None or group[one[1]] == group[down[0][1]]]

    src_group, tgt_group = groups or (None, None)
    out: set[tuple[float, int, int]] = set()
    ours = {
        (-value, x, y)
        for x, (row, values) in enumerate(zip(forward.index.tolist(), ahead.tolist(), strict=True))
        for value, y in best(row, values, tgt_group)
    }
    theirs = {
        (-value, x, y)
        for y, (row, values) in enumerate(zip(backward.index.tolist(), back.tolist(), strict=True))
        for value, x in best(row, values, src_group)
    }
    if strategy == "forward":
        out = ours
    elif strategy == "backward":
        out = theirs
    elif strategy == "intersect":
        out = ours & theirs
    else:
        out = ours | theirs
    if strategy == "max":
        kept = slow.greedy(list(out))
        out = {edge for edge in out if edge[1:] in kept}
    return sorted(out, key=lambda edge: (-edge[0], edge[1], edge[2]))


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=80, deadline=None)
@given(candidates())
def test_equals_the_definition(strategy: str, given_: Any) -> None:
    forward, backward, ahead, back = given_
    pairs = choose(forward, backward, ahead, back, strategy)
    assert list(zip(pairs.margin.tolist(), pairs.src.tolist(), pairs.tgt.tolist(), strict=True)) == reference(
        forward, backward, ahead, back, strategy
    )
    for place, (x, y) in enumerate(zip(pairs.src.tolist(), pairs.tgt.tolist(), strict=True)):
        row, column = forward.index[x].tolist(), backward.index[y].tolist()
        assert pairs.forward_rank[place] == (row.index(y) if y in row else -1)
        assert pairs.backward_rank[place] == (column.index(x) if x in column else -1)
        values = [forward.cosine[x, row.index(y)]] if y in row else [backward.cosine[y, column.index(x)]]
        assert pairs.cosine[place] == values[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=60, deadline=None)
@given(candidates(), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_falling_back_equals_the_definition(strategy: str, given_: Any, depth: int, alike: bool, seed: int) -> None:
    forward, backward, ahead, back = given_
    rng = np.random.default_rng(seed)
    groups = tuple(rng.integers(0, 3, len(lists.index)) for lists in (forward, backward))
    options = {"src_alike": Labels(groups[0]), "tgt_alike": Labels(groups[1])} if alike else {}
    pairs = choose(forward, backward, ahead, back, strategy, depth, **options)
    wanted = reference(
        forward, backward, ahead, back, strategy, depth, (groups[0].tolist(), groups[1].tolist()) if alike else None
    )
    assert list(zip(pairs.margin.tolist(), pairs.src.tolist(), pairs.tgt.tolist(), strict=True)) == wanted


def test_a_near_duplicate_does_not_push_out_the_right_pair() -> None:
    """Targets 0 and 1 say nearly the same; source 1 means target 1, but both sources like target 0 best."""
    forward = Neighbours(np.ones((2, 3), np.float32), np.array([[0, 1, 2], [0, 1, 2]]))
    backward = Neighbours(np.ones((3, 2), np.float32), np.array([[0, 1], [0, 1], [0, 1]]))
    ahead = np.array([[1.9, 1.8, 0.5], [1.7, 1.6, 1.5]], np.float32)
    back = np.ascontiguousarray(ahead.T)
    tgt_alike = Labels(np.array([0, 0, 1]))
    paired = {
        depth: [*zip((pairs := choose(forward, backward, ahead, back, "max", depth, **kind)).src.tolist(),
                     pairs.tgt.tolist(), strict=True)]
        for depth, kind in ((1, {}), (2, {"tgt_alike": tgt_alike}))
    }  # fmt: skip
    assert paired == {1: [(0, 0), (1, 2)], 2: [(0, 0), (1, 1)]}
    # what is not alike the best is no way out
    other = choose(forward, backward, ahead, back, "forward", 3, tgt_alike=tgt_alike)
    assert sorted(zip(other.src.tolist(), other.tgt.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_best_is_by_margin_not_the_nearest() -> None:
    forward = Neighbours(np.array([[0.9, 0.8]], np.float32), np.array([[0, 1]]))
    backward = Neighbours(np.array([[0.9], [0.8]], np.float32), np.array([[0], [0]]))
    ahead, back = np.array([[1.0, 1.5]], np.float32), np.array([[1.0], [1.5]], np.float32)
    pairs = choose(forward, backward, ahead, back, "max")
    assert (pairs.src.tolist(), pairs.tgt.tolist(), pairs.forward_rank.tolist()) == ([0], [1], [1])


def test_a_long_chain_is_quick() -> None:
    # x0-y0, y0-x1, x1-y1, … : each pair is settled by the one before it only.
    steps = np.arange(1_000_000)
    begin = time.process_time()
    taken = one_to_one((steps + 1) // 2, steps // 2)
    assert time.process_time() - begin < 1  # milliseconds; a walk in Python takes as long as that, rounds for ever
    assert (taken == np.arange(0, len(steps), 2)).all()


def test_one_to_one_names_rows_that_cannot_be() -> None:
    assert one_to_one(np.zeros(0, np.int64), np.zeros(0, np.int64)).shape == (0,)
    with pytest.raises(InputError, match="tgt of pair 1 is -1"):
        one_to_one(np.array([0, 1]), np.array([0, -1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60, unique=True))
def test_one_to_one_equals_greedy(edges: list[tuple[int, int]]) -> None:
    src, tgt = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
    wanted = slow.greedy([(-float(place), x, y) for place, (x, y) in enumerate(edges)])
    assert [edges[place] for place in one_to_one(src, tgt)] == wanted


def test_unknown_strategy() -> None:
    one = Neighbours(np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64))
    with pytest.raises(InputError, match="strategy is 'best': choose one of forward, "):
        choose(one, one, one.cosine, one.cosine, "best")
    with pytest.raises(InputError, match="depth is 0: every row puts one"):
        choose(one, one, one.cosine, one.cosine, "max", 0)
