"""Reductions: what is kept, what whitening does, that cutting rows changes no bit, and files there and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.embedders.card import unit_rows
from seamlessalign.embedders.reduction import Reduction, fit_reduction, load_reduction, save_reduction
from seamlessalign.errors import InputError, ModelError

Float32 = NDArray[np.float32]


def _rows(count: int = 600, dim: int = 12, seed: int = 0) -> Float32:
    """Rows that vary most in a few slanted directions."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(7).standard_normal((dim, dim)))[0]
    return np.asarray((rng.standard_normal((count, dim)) * 0.7 ** np.arange(dim)) @ turn, np.float32)


def test_all_dimensions_without_whitening_keep_every_cosine() -> None:
    rows = _rows()
    reduced = fit_reduction([rows], 12).apply(rows)
    np.testing.assert_allclose(reduced @ reduced.T, unit_rows(rows) @ unit_rows(rows).T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 4, 11])
def test_it_is_that_of_the_singular_values(dim: int) -> None:
    """The same subspace as a decomposition of the rows themselves, and the same share of variance."""
    rows = _rows()
    unit = unit_rows(rows).astype(np.float64)
    _, values, turned = np.linalg.svd(unit, full_matrices=False)
    reduction = fit_reduction([rows], dim)
    wanted = unit @ turned[:dim].T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = reduction.apply(rows)
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-4)
    assert reduction.explained == pytest.approx((values[:dim] ** 2).sum() / (values**2).sum(), abs=1e-6)


def test_whitening_evens_out_what_varies() -> None:
    rows = _rows(4000)
    spread = {}
    for power in (0.0, 0.5, 1.0):
        mapped = unit_rows(rows).astype(np.float64) @ fit_reduction([rows], 8, power).matrix
        deviations = np.sqrt((mapped**2).mean(axis=0))
        spread[power] = deviations.max() / deviations.min()
    assert spread[1.0] == pytest.approx(1, abs=1e-3)
    assert spread[0.5] == pytest.approx(spread[0.0] ** 0.5, rel=1e-3)


def test_a_direction_in_which_nothing_varies_is_not_blown_up() -> None:
    rows = _rows()
    rows[:, 3] = 0
    matrix = fit_reduction([rows], 12, 1.0).matrix
    assert np.isfinite(matrix).all() and np.linalg.norm(matrix, axis=0).max() <= 1


@given(st.lists(st.integers(0, 5000), max_size=4), st.sampled_from([0.0, 0.5]))
@settings(max_examples=10, deadline=None)
def test_the_way_that_rows_are_cut_changes_no_bit(cuts: list[int], power: float) -> None:
    rows = _rows(5000, 10)
    whole = fit_reduction([rows], 6, power)
    parts = np.split(rows, sorted(cuts))
    assert fit_reduction(parts, 6, power).digest == whole.digest
    assert fit_reduction([rows[::-1]], 6, power).digest == whole.digest
    cut = np.concatenate([whole.apply(part) for part in parts])
    np.testing.assert_array_equal(cut.view(np.int32), whole.apply(rows).view(np.int32))


def test_what_cannot_be_mapped_is_not_a_number_and_never_nothing() -> None:
    reduction = Reduction(np.eye(4, 2, dtype=np.float32), 1.0, 0.0)
    rows = np.array([[1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 0, 0], [np.nan, 1, 0, 0], [np.inf, 1, 0, 0]], np.float32)
    with np.errstate(invalid="ignore"):
        reduced = reduction.apply(rows)
    np.testing.assert_allclose(reduced[0], np.array([1, 2]) / 5**0.5, atol=1e-6)
    assert np.isnan(reduced[1:]).all()
    assert reduction.apply(rows[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("samples", "dim", "whiten", "told"),
    [
        ([_rows(5)], 6, 0.0, "6 dimensions cannot be fitted on 5 rows of 12"),
        ([_rows()], 13, 0.0, "13 dimensions cannot be fitted on 600 rows of 12"),
        ([_rows()], 0, 0.0, "0 dimensions"),
        ([], 3, 0.0, "on 0 rows"),
        ([_rows()], 3, 1.5, "give a power from 0 to 1"),
        ([_rows(), np.zeros((2, 12), np.float32)], 3, 0.0, "zero or not finite"),
        ([_rows(), np.full((2, 12), np.nan, np.float32)], 3, 0.0, "zero or not finite"),
        ([_rows(), _rows(dim=5)], 3, 0.0, "12 and 5 dimensions"),
    ],
)
def test_what_cannot_be_fitted_is_told(samples: list[Float32], dim: int, whiten: float, told: str) -> None:
    with pytest.raises(InputError, match=told):
        fit_reduction(samples, dim, whiten)


def test_rows_of_other_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="rows have 5 dimensions, the reduction is of 12"):
        fit_reduction([_rows()], 3).apply(_rows(dim=5))


@pytest.mark.parametrize("kind", ["safetensors", "yaml"])
def test_files_there_and_back(tmp_path: Path, kind: str) -> None:
    reduction = fit_reduction([_rows()], 5, 0.5, {"sides": ["eng", "frA"]})
    save_reduction(reduction, str(tmp_path), "small")
    back = load_reduction(str(tmp_path / f"small.{kind}"))
    np.testing.assert_array_equal(back.matrix, reduction.matrix)
    assert back.digest == reduction.digest and back.dims == (12, 5)
    assert (back.whiten, dict(back.recipe)) == (0.5, {"sides": ["eng", "frA"], "rows": 600})
    assert back.explained == pytest.approx(reduction.explained, abs=1e-6)


def _other_matrix(folder: Path) -> None:
    save_reduction(fit_reduction([_rows()], 5), str(folder / "other"), "small")
    (folder / "other" / "small.safetensors").replace(folder / "small.safetensors")


def _odd(matrix: NDArray[Any]) -> Any:
    def harm(folder: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"matrix": matrix}, folder / "small.safetensors")

    return harm


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_other_matrix, "do not belong together"),
        (lambda folder: (folder / "small.yaml").unlink(), "is no reduction that can be read"),
        (lambda folder: (folder / "small.safetensors").unlink(), "is no reduction that can be read"),
        (lambda folder: (folder / "small.safetensors").write_bytes(b"\0" * 20), "is no reduction that can be read"),
        (lambda folder: (folder / "small.yaml").write_text("{"), "is no reduction that can be read"),
        (lambda folder: (folder / "small.yaml").write_text("name: small\n"), "is no reduction that can be read"),
        (_odd(np.zeros(3, np.float32)), "not one of a reduction"),
        (_odd(np.zeros((3, 2), np.float64)), "not one of a reduction"),
        (_odd(np.full((3, 2), np.nan, np.float32)), "not one of a reduction"),
        (_odd(np.full((3, 2), 5, np.float32)), "not one of a reduction"),
    ],
)
def test_damaged_files_are_told_in_a_line(tmp_path: Path, harm: Any, told: str) -> None:
    save_reduction(fit_reduction([_rows()], 5, 0.5), str(tmp_path), "small")
    harm(tmp_path)
    with pytest.raises(ModelError, match=told) as caught:
        load_reduction(str(tmp_path / "small.safetensors"))
    assert "\n" not in str(caught.value) and "small" in str(caught.value)
