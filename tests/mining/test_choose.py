"""Strategies against their definitions in loops."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining.choose import STRATEGIES, choose, one_to_one
from seamlessalign.mining.knn import Neighbours
from tests.mining import slow


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Neighbours, Neighbours, npt.NDArray[Any], npt.NDArray[Any]]:
    """Any margins from few values (ties are common), any lists of neighbours; a pair has one margin on both sides."""
    num_src, num_tgt, k = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = rng.integers(0, draw(st.sampled_from([2, 5, 1000])), size=(num_src, num_tgt)).astype(np.float32)
    cosine = rng.random((num_src, num_tgt)).astype(np.float32)
    fwd = np.array([rng.permutation(num_tgt)[:k] for _ in range(num_src)])
    bwd = np.array([rng.permutation(num_src)[:k] for _ in range(num_tgt)])
    sources, targets = np.arange(num_src)[:, None], np.arange(num_tgt)[:, None]
    return (
        Neighbours(cosine[sources, fwd], fwd),
        Neighbours(cosine[bwd, targets], bwd),
        matrix[sources, fwd],
        matrix[bwd, targets],
    )


def reference(
    forward: Neighbours, backward: Neighbours, ahead: npt.NDArray[Any], back: npt.NDArray[Any], strategy: str
) -> list[tuple[float, int, int]]:
    out: set[tuple[float, int, int]] = set()
    ours = set()
    for x, (row, values) in enumerate(zip(forward.index.tolist(), ahead.tolist(), strict=True)):
        value, y = min((-value, y) for value, y in zip(values, row, strict=True))
        ours.add((-value, x, y))
    theirs = set()
    for y, (row, values) in enumerate(zip(backward.index.tolist(), back.tolist(), strict=True)):
        value, x = min((-value, x) for value, x in zip(values, row, strict=True))
        theirs.add((-value, x, y))
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


def test_the_best_is_by_margin_not_the_nearest() -> None:
    forward = Neighbours(np.array([[0.9, 0.8]], np.float32), np.array([[0, 1]]))
    backward = Neighbours(np.array([[0.9], [0.8]], np.float32), np.array([[0], [0]]))
    ahead, back = np.array([[1.0, 1.5]], np.float32), np.array([[1.0], [1.5]], np.float32)
    pairs = choose(forward, backward, ahead, back, "max")
    assert (pairs.src.tolist(), pairs.tgt.tolist(), pairs.forward_rank.tolist()) == ([0], [1], [1])


def test_a_long_chain_needs_the_walk() -> None:
    # x0-y0, y0-x1, x1-y1, … : every round of picking settles only the head of the chain.
    steps = np.arange(400)
    src, tgt = (steps + 1) // 2, steps // 2
    assert one_to_one(src, tgt).tolist() == list(range(0, 400, 2))


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
