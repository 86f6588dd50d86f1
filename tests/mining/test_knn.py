"""Neighbours: every backend against float64 brute force, in a defined order, and errors that name the row."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import native, neighbours
from seamlessalign.mining.certify import best_certain, best_in_full
from seamlessalign.mining.exact import Found
from seamlessalign.mining.flat import search_error
from seamlessalign.mining.knn import choose_backend
from seamlessalign.mining.vectors import Vectors, cosines
from tests.mining import slow

EPS = 1.2e-7  # one step of float32 below 1: cosines are float64 sums rounded once
CERTAIN = ["exact", "faiss-flat"]
Array = npt.NDArray[Any]


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[Array, Array, int]:
    """Small sides whose rows come from a small pool, so that duplicates, scaled copies and ties are common."""
    dim = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    row = st.lists(st.integers(-3, 3), min_size=dim, max_size=dim).filter(any)
    pool = draw(st.lists(row, min_size=1, max_size=6))
    pick = st.lists(st.tuples(st.sampled_from(pool), st.sampled_from([1.0, 1.0, 0.25, 3.0])), min_size=1, max_size=40)
    src, tgt = (np.array([np.array(r) * s for r, s in draw(pick)], dtype) for _ in range(2))
    return src, tgt, draw(st.integers(1, 20))


def check(found: Any, scores: npt.NDArray[np.float64], k: int) -> None:
    """Against the matrix of float64 cosines: right values, right order, nothing better left out."""
    k = min(k, scores.shape[1])
    assert found.cosine.shape == found.index.shape == (len(scores), k)
    assert found.cosine.dtype == np.float32 and found.index.dtype == np.int64
    for row, (values, index) in enumerate(zip(found.cosine, found.index, strict=True)):
        assert len(set(index)) == k
        assert np.abs(values - scores[row, index]).max() <= EPS
        assert list(zip(-values, index, strict=True)) == sorted(zip(-values, index, strict=True))
        others = np.setdiff1d(np.arange(scores.shape[1]), index)
        assert (scores[row, others] <= values[-1] + EPS).all()


@settings(max_examples=60, deadline=None)
@given(two_sides())
def test_backends_equal_brute_force_and_each_other(sides: tuple[Array, Array, int]) -> None:
    src, tgt, k = sides
    scores = slow.cosine_matrix(src, tgt)
    results = [neighbours(src, tgt, k, backend) for backend in CERTAIN]
    for forward, backward in results:
        check(forward, scores, k)
        check(backward, scores.T, k)
    for one, two in zip(*results, strict=True):
        assert one.cosine.tobytes() == two.cosine.tobytes() and one.index.tobytes() == two.index.tobytes()


@pytest.mark.parametrize("backend", CERTAIN)
def test_ties_go_to_the_lowest_index(backend: str) -> None:
    rng = np.random.default_rng(1)
    pool = rng.standard_normal((5, 24)).astype(np.float32)
    src, tgt = pool[rng.integers(5, size=90)], pool[rng.integers(5, size=300)]
    scores = src.astype(np.float64) @ tgt.T.astype(np.float64)
    scores /= np.linalg.norm(src, axis=1)[:, None] * np.linalg.norm(tgt, axis=1)
    kind = np.round(scores, 5)  # five kinds of rows: equal kinds are equal, different ones far apart
    forward, backward = neighbours(src, tgt, 70, backend)
    assert forward.index.tolist() == slow.nearest(kind, 70)
    assert backward.index.tolist() == slow.nearest(kind.T, 70)


@pytest.mark.parametrize("backend", CERTAIN)
def test_larger_sides_in_half_precision(backend: str) -> None:
    rng = np.random.default_rng(2)
    src = rng.standard_normal((700, 40)).astype(np.float16)
    tgt = (src[rng.integers(700, size=900)] + 0.5 * rng.standard_normal((900, 40))).astype(np.float16)
    wide = [side.astype(np.float64) for side in (src, tgt)]
    unit = [side / np.linalg.norm(side, axis=1)[:, None] for side in wide]
    scores = unit[0] @ unit[1].T
    forward, backward = neighbours(src, tgt, 16, backend)
    check(forward, scores, 16)
    check(backward, scores.T, 16)


@pytest.mark.parametrize("backend", CERTAIN)
def test_norms_do_not_matter(backend: str) -> None:
    rng = np.random.default_rng(3)
    src, tgt = rng.standard_normal((2, 50, 8)).astype(np.float32)
    scale = (2.0 ** rng.integers(-100, 100, size=(50, 1))).astype(np.float32)
    plain, scaled = neighbours(src, tgt, 4, backend), neighbours(src * scale, tgt * scale[::-1], 4, backend)
    for one, two in zip(plain, scaled, strict=True):
        assert one.index.tolist() == two.index.tolist()
        assert np.abs(one.cosine - two.cosine).max() <= EPS


def test_a_cosine_is_the_same_from_both_sides_and_in_any_company() -> None:
    rng = np.random.default_rng(4)
    src, tgt = (
        Vectors(rng.standard_normal((40, 77)).astype(np.float32), "src"),
        Vectors(rng.standard_normal((50, 77)).astype(np.float16), "tgt"),
    )
    every = cosines(src, tgt, np.arange(40), np.tile(np.arange(50), (40, 1)))
    assert (cosines(tgt, src, np.arange(50), np.tile(np.arange(40), (50, 1))) == every.T).all()
    assert cosines(src, tgt, np.array([7]), np.array([[9]]))[0, 0] == every[7, 9]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_any_error_within_the_bound_still_gives_the_exact_answer(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    # Rows so close together that the bound of float32 is larger than most gaps.
    middle = rng.standard_normal(3000)
    src, tgt = (Vectors((middle + 0.02 * rng.standard_normal((n, 3000))).astype(np.float32), "") for n in (12, 60))
    true = src.unit(0, 12, np.float64) @ tgt.unit(0, 60, np.float64).T
    shaken = true + rng.uniform(-1, 1, true.shape) * search_error(3000) * 0.9
    order = np.argsort(-shaken, axis=1)[:, : k + 4]
    score = np.take_along_axis(shaken, order, 1)
    found = Found(score.astype(np.float32), order, score[:, -1] + search_error(3000))
    cosine, index = best_certain(src, tgt, np.arange(12), np.arange(60), found, k)
    full, rows = best_in_full(src, tgt, np.arange(12), np.arange(60), k)
    assert index.tolist() == rows.tolist() == slow.nearest(true, k)
    assert (cosine == full).all()


def test_near_ties_are_computed_again_and_said(caplog: pytest.LogCaptureFixture) -> None:
    tgt = np.ones((50, 4), np.float32)
    tgt *= 2.0 ** np.arange(50)[:, None]  # the same direction in other bytes
    with caplog.at_level(logging.INFO, logger="seamlessalign"):
        forward, _ = neighbours(np.ones((3, 4), np.float32), tgt, 2, "exact")
    assert "have near ties" in caplog.text and "3 rows, 1 of them distinct" in caplog.text
    assert forward.index.tolist() == [[0, 1]] * 3


def test_compressed_index_finds_most_neighbours_with_exact_cosines() -> None:
    rng = np.random.default_rng(7)
    tgt = rng.standard_normal((10_500, 8)).astype(np.float32)
    src = (tgt[:700] + 0.5 * rng.standard_normal((700, 8))).astype(np.float32)
    best = neighbours(src, tgt, 8, "exact")
    found = neighbours(src, tgt, 8, "faiss-ivfpq")
    assert (found[1].index == best[1].index).all()  # 700 sources are too few for codes: flat, exact
    hits = [len(set(a) & set(b)) for a, b in zip(best[0].index, found[0].index, strict=True)]
    assert np.mean(hits) >= 0.9 * 8
    again = cosines(Vectors(src, ""), Vectors(tgt, ""), np.arange(700), found[0].index)
    assert (again == found[0].cosine).all() and (np.diff(found[0].cosine, axis=1) <= 0).all()


def test_more_dimensions_than_codes_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    src, tgt = np.random.default_rng(10).standard_normal((2, 20, 9)).astype(np.float32)
    wanted = neighbours(src, tgt, 3, "exact")
    monkeypatch.setattr(native, "MAX_DIM", 8)
    monkeypatch.setattr(native, "scan", None)
    for one, two in zip(wanted, neighbours(src, tgt, 3, "exact"), strict=True):
        assert (one.index == two.index).all() and (one.cosine == two.cosine).all()


def test_as_many_neighbours_as_each_side_wants() -> None:
    rng = np.random.default_rng(9)
    src, tgt = rng.standard_normal((30, 5)).astype(np.float32), rng.standard_normal((40, 5)).astype(np.float32)
    for backend in CERTAIN:
        forward, backward = neighbours(src, tgt, (3, 7), backend)
        assert (forward.index.tolist(), backward.index.tolist()) == (
            neighbours(src, tgt, 3, backend)[0].index.tolist(),
            neighbours(src, tgt, 7, backend)[1].index.tolist(),
        )


def test_memmap(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    src, tgt = rng.standard_normal((2, 30, 6)).astype(np.float16)
    np.save(tmp_path / "src.npy", src)
    mapped = np.load(tmp_path / "src.npy", mmap_mode="r")
    for backend in CERTAIN:
        one, two = neighbours(src, tgt, 3, backend), neighbours(mapped, tgt, 3, backend)
        assert (one[0].index == two[0].index).all() and (one[1].cosine == two[1].cosine).all()


def test_auto_names_its_choice(caplog: pytest.LogCaptureFixture) -> None:
    rows = np.eye(3, dtype=np.float32)
    with caplog.at_level(logging.INFO, logger="seamlessalign"):
        forward, _ = neighbours(rows, rows, 1)
    assert forward.index.tolist() == [[0], [1], [2]]
    assert "backend exact, because all products take about" in caplog.text


def test_auto_goes_by_size_and_device() -> None:
    assert choose_backend(10_000, 10_000, 1024, cores=2).backend == "exact"
    assert choose_backend(10**8, 10**8, 1024, cores=2).backend == "faiss-ivfpq"
    assert choose_backend(10**8, 10**8, 1024, cores=10**6).backend == "exact"
    named = choose_backend(10**8, 10**8, 1024, "cuda:0,cuda:1", cores=2)
    assert named.backend == "exact" and "cuda:0,cuda:1 is named" in named.why
    two, one = (choose_backend(10**6, 10**6, 384, cores=cores).seconds for cores in (2, 1))
    assert one == 2 * two


def test_torch_keeps_its_own_precision() -> None:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        neighbours(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1, "exact", device="cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


GOOD = np.ones((4, 3), np.float32)


def _with(value: float, dtype: Any = np.float32) -> Array:
    rows = np.ones((4, 3), dtype)
    rows[2] = [value, 0, 0]
    return rows


@pytest.mark.parametrize(
    ("src", "tgt", "options", "message"),
    [
        (_with(np.nan), GOOD, {}, "src: row 2 holds NaN or Inf"),
        (GOOD, _with(np.inf, np.float16), {}, "tgt: row 2 holds NaN or Inf"),
        (GOOD, _with(0), {}, "tgt: row 2 is all zeros"),
        (GOOD, np.ones((4, 2), np.float32), {}, "src has 3 dimensions and tgt 2"),
        (np.ones((0, 3), np.float32), GOOD, {}, "src: has no rows"),
        (GOOD, np.ones((4, 0), np.float32), {}, "tgt: has no dimensions"),
        (GOOD[0], GOOD, {}, r"src: expected a two-dimensional array \(rows, dim\), got shape \(3,\)"),
        ([[1.0]], GOOD, {}, "src: .* got list"),
        (GOOD, GOOD.astype(np.float64), {}, "tgt: expected float16 or float32 rows, got float64"),
        (GOOD, GOOD, {"k": 0}, "k is 0"),
        (GOOD, GOOD, {"k": 2.0}, "k is 2.0"),
        (GOOD, GOOD, {"k": True}, "k is True"),
        (GOOD, GOOD, {"k": (3, 0)}, r"k is \(3, 0\)"),
        (GOOD, GOOD, {"backend": "hnsw"}, "backend is 'hnsw': choose one of"),
        (GOOD, GOOD, {"backend": "faiss-flat", "device": "cuda"}, "does not run on a device"),
        (GOOD, GOOD, {"device": "abacus"}, "device 'abacus' is not one that torch knows"),
    ],
)
def test_errors_name_side_and_row(src: Any, tgt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        neighbours(src, tgt, **options)
    assert "\n" not in str(error.value)
