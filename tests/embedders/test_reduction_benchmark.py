"""The benchmark of reductions measures what it says: on rows whose answer is known, without texts."""

import numpy as np
import pytest

from benchmarks.reduction import as_mined, centred, line_of, name_of, quality, time_ratios
from seamlessalign.embedders.reduction import fit_reduction


def _languages(noise: float) -> "dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]":
    """150 meanings in 10 of 40 dimensions, in three languages that differ by an offset and noise in all."""
    rng = np.random.default_rng(0)
    meaning = rng.standard_normal((150, 10)) @ np.linalg.qr(rng.standard_normal((40, 10)))[0].T
    return {
        lang: centred((meaning + rng.standard_normal(40) + noise * rng.standard_normal((150, 40))).astype(np.float32))
        for lang in ("eng", "fra", "rus")
    }


def test_rows_that_agree_are_all_found_and_noise_is_not() -> None:
    clear = quality(*as_mined(_languages(0.01), ("eng", "fra")))
    assert clear.cosine == clear.margin == 1 and clear.f1 == clear.f1_there > 0.9
    dim = quality(*as_mined(_languages(3.0), ("eng", "fra")))
    assert dim.cosine < 0.2 and dim.f1 < 0.4


def test_leaving_out_dimensions_of_noise_helps() -> None:
    rows = _languages(0.4)
    whole = quality(*as_mined(rows, ("eng", "fra")))
    reduced = quality(*as_mined(rows, ("eng", "fra"), fit_reduction(rows.values(), 10)), whole.threshold)
    assert reduced.cosine > whole.cosine + 0.02 and reduced.f1 > whole.f1
    assert reduced.f1_there <= reduced.f1
    harsh = quality(*as_mined(rows, ("eng", "fra"), fit_reduction(rows.values(), 2)))
    assert harsh.cosine < whole.cosine - 0.2


def test_a_line_has_means_and_the_first_ratio_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _languages(0.4)
    reduction = fit_reduction(rows.values(), 10, 0.5)
    ratios = time_ratios(rows, [None, reduction], 3)
    assert ratios[0] == 1 and ratios[1] > 0 and "search of 300 × 150 rows" in capsys.readouterr().out
    found = [quality(*as_mined(rows, pair, reduction)) for pair in (("eng", "fra"), ("fra", "rus"))]
    line = line_of(name_of(reduction), reduction.explained, found, 0.5)
    assert line.startswith("| 10, whiten 0.5 | ") and line.endswith("| 0.50 |")
    assert f"| {(found[0].cosine + found[1].cosine) / 2:.3f} |" in line
