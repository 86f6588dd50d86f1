"""Mining as a whole: the table's contract, thresholds, decoys, determinism."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import STRATEGIES, attraction, lists, mine, mine_candidates, mine_pairs
from seamlessalign.mining.groups import Labels
from seamlessalign.mining.knn import Neighbours
from tests.mining import slow

Array = npt.NDArray[Any]
COLUMNS = {
    "src": pa.int64(),
    "tgt": pa.int64(),
    "margin": pa.float32(),
    "cosine": pa.float32(),
    "forward_rank": pa.int16(),
    "backward_rank": pa.int16(),
}


def sides(num_right: int, num_other: int, dim: int = 32, noise: float = 0.6, seed: int = 0) -> tuple[Array, Array]:
    """Sources, and targets of which the first `num_right` mean the same as the source of that number."""
    rng = np.random.default_rng(seed)
    src, tgt = rng.standard_normal((2, num_right + num_other, dim))
    tgt[:num_right] = src[:num_right] + noise * rng.standard_normal((num_right, dim))
    return src.astype(np.float32), tgt.astype(np.float32)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_contract(strategy: str) -> None:
    src, tgt = sides(60, 40)
    pairs = mine_pairs(src, tgt.astype(np.float16), strategy=strategy, threshold=1.6)
    assert dict(zip(pairs.schema.names, pairs.schema.types, strict=True)) == COLUMNS
    rows = pairs.to_pylist()
    assert rows == sorted(rows, key=lambda row: (-row["margin"], row["src"], row["tgt"]))
    assert min(row["margin"] for row in rows) >= np.float32(1.6)
    every = mine_pairs(src, tgt.astype(np.float16), strategy=strategy, threshold=None)
    assert rows == [row for row in every.to_pylist() if row["margin"] >= np.float32(1.6)]
    assert len(rows) < len(every)
    assert mine_candidates(src, tgt.astype(np.float16), strategy=strategy).equals(every)


def test_whole_against_a_slow_reference() -> None:
    src, tgt = sides(12, 6, dim=8)
    k = 5
    scores = slow.cosine_matrix(src, tgt)
    forward, backward = slow.nearest(scores, k), slow.nearest(scores.T, k)
    near_src = [np.mean([scores[x, y] for y in row]) for x, row in enumerate(forward)]
    near_tgt = [np.mean([scores[x, y] for x in column]) for y, column in enumerate(backward)]

    def ratio(x: int, y: int) -> float:
        return float(scores[x, y] / (near_src[x] / 2 + near_tgt[y] / 2))

    edges = {(x, max(row, key=lambda y: ratio(x, y))) for x, row in enumerate(forward)}
    edges |= {(max(column, key=lambda x: ratio(x, y)), y) for y, column in enumerate(backward)}
    wanted = slow.greedy([(ratio(x, y), x, y) for x, y in edges])
    pairs = mine_pairs(src, tgt, k=k, threshold=None).to_pylist()
    assert [(row["src"], row["tgt"]) for row in pairs] == wanted
    for row in pairs:
        x, y = row["src"], row["tgt"]
        assert row["margin"] == pytest.approx(ratio(x, y), rel=1e-5) and row["cosine"] == pytest.approx(scores[x, y])
        assert row["forward_rank"] == (forward[x].index(y) if y in forward[x] else -1)
        assert row["backward_rank"] == (backward[y].index(x) if x in backward[y] else -1)


def test_a_margin_read_from_the_table_keeps_its_pair() -> None:
    src, tgt = sides(60, 40)
    margins = mine_pairs(src, tgt, threshold=None)["margin"].to_pylist()
    assert mine_pairs(src, tgt, threshold=margins[30]).num_rows == 31


def test_backends_give_the_same_bytes() -> None:
    src, tgt = sides(300, 200)
    tables = [mine_pairs(src, tgt, backend=backend, threshold=None) for backend in ("exact", "faiss-flat", "auto")]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


def test_swapping_the_sides_swaps_the_columns() -> None:
    src, tgt = sides(80, 40)
    one = mine_pairs(src, tgt, threshold=None).to_pydict()
    two = mine_pairs(tgt, src, threshold=None).to_pydict()
    assert {*zip(one["src"], one["tgt"], one["margin"], one["forward_rank"], strict=True)} == {
        *zip(two["tgt"], two["src"], two["margin"], two["backward_rank"], strict=True)
    }


def test_decoys_compete_and_are_never_returned() -> None:
    src, tgt = sides(50, 0)
    decoys = src[:10] * 2  # nearer to the first ten sources than their own targets
    pairs = mine_pairs(src, tgt, threshold=None, decoys=decoys)
    assert pairs.schema.field("precision_estimate").type == pa.float32()
    rows = pairs.to_pylist()
    assert max(row["tgt"] for row in rows) < 50
    assert {row["src"] for row in rows if row["src"] == row["tgt"]} == set(range(10, 50))


def test_precision_estimates_are_close_to_the_truth() -> None:
    src, tgt = sides(700, 800, noise=0.95, seed=1)
    decoys = np.random.default_rng(2).standard_normal((1000, 32)).astype(np.float32)
    for strategy in STRATEGIES:
        pairs = mine_pairs(src, tgt, strategy=strategy, threshold=None, decoys=decoys)
        right = np.array(pairs["src"]) == np.array(pairs["tgt"])
        estimate = np.array(pairs["precision_estimate"])
        assert (np.diff(estimate) <= 0).all() and estimate.min() >= 0 and estimate.max() < 1
        assert abs(right.mean() - estimate.mean()) < 0.05, strategy
        for low, high in ((0.9, 1.0), (0.5, 0.9), (0.0, 0.5)):
            part = (estimate >= low) & (estimate < high)
            assert part.sum() > 20 and abs(right[part].mean() - estimate[part].mean()) < 0.12, (strategy, low)


@pytest.mark.parametrize("near_duplicates", [None, 0.7])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_range_of_lists_at_a_time_gives_the_same(
    strategy: str, near_duplicates: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, tgt = sides(90, 60)
    src[80:90] = src[:10]
    decoys, made_from = 0.5 * (tgt[:40] + tgt[40:80]), np.stack([np.arange(40), np.arange(40, 80)], 1)
    options: dict[str, Any] = {"strategy": strategy, "near_duplicates": near_duplicates}
    for more in ({}, {"decoys": decoys}, {"decoys": decoys, "made_from": made_from}):
        monkeypatch.setattr(lists, "RANGE_BYTES", 1 << 30)
        whole = mine_candidates(src, tgt, **options, **more)
        monkeypatch.setattr(lists, "RANGE_BYTES", 20_000)
        assert mine_candidates(src, tgt, **options, **more).equals(whole)


@given(data=st.data(), rows=st.integers(1, 5), width=st.integers(1, 12))
def test_the_best_few_leave_out_what_says_the_same_as_the_first(data: st.DataObject, rows: int, width: int) -> None:
    index = np.stack([data.draw(st.permutations(range(20)))[:width] for _ in range(rows)])
    score = np.array(data.draw(st.lists(st.integers(0, 9), min_size=rows * width, max_size=rows * width)), np.float32)
    score = score.reshape(rows, width)
    group = np.array(data.draw(st.lists(st.integers(0, 4), min_size=20, max_size=20)))
    few, margin = mine._best_few(Neighbours(np.asarray(score, np.float32), index), score, Labels(group))
    for row in range(rows):
        best = sorted(range(width), key=lambda place: -score[row, place])[:8]
        counts = [best[0]] + [place for place in best[1:] if group[index[row, place]] != group[index[row, best[0]]]]
        there = np.isfinite(margin[row])
        assert few.index[row][there].tolist() == index[row, counts[:4]].tolist()
        assert margin[row][there].tolist() == score[row, counts[:4]].tolist()


def test_as_many_candidates_are_kept_as_the_attraction_of_decoys_is_measured_from() -> None:
    assert mine._LOOKED_AT >= attraction._DEPTH


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "angle"}, "margin is 'angle'"),
        ({"strategy": "all"}, "strategy is 'all'"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"k": 40_000}, "k is 40000: at most 32768"),
        ({"decoys": np.zeros((2, 3), np.float32)}, "decoys: row 0 is all zeros"),
        ({"decoys": np.ones((2, 4), np.float32)}, "tgt has 3 dimensions and decoys 4"),
        ({"decoys": np.ones((0, 3), np.float32)}, "decoys: has no rows"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match=message):
        mine_pairs(rows, rows, **options)
