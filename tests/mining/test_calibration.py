"""The precision estimate against what comes true: on vectors of known meaning, and on real sentences."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.mining import mine_candidates
from seamlessalign.mining.precision import keep_fdr, keep_precision

Float32 = npt.NDArray[np.float32]
Trials = list[tuple[Float32, npt.NDArray[np.bool_]]]  # estimate and truth of each pair

LEVELS = (0.5, 0.8, 0.9, 0.95)
SHAPES = [  # paired, unpaired sources, unpaired targets, decoys
    (30, 270, 270, 300),
    (150, 150, 150, 150),
    (270, 30, 30, 100),
    (100, 200, 500, 300),
    (100, 500, 100, 150),
    (400, 400, 100, 400),
]
KEEP: dict[str, Callable[[Float32, float], npt.NDArray[np.bool_]]] = {
    "min-precision": keep_precision,
    "fdr": lambda estimate, level: keep_fdr(estimate, 1 - level),
}


def came_true(
    trials: Trials, keep: Callable[[Float32, float], npt.NDArray[np.bool_]], level: float
) -> tuple[float, float]:
    """Mean estimate and share that is right, over what is kept of all trials."""
    kept = [(estimate[mask], right[mask]) for estimate, right in trials for mask in [keep(estimate, level)]]
    estimate, right = (np.concatenate(column) for column in zip(*kept, strict=True))
    assert len(right) > 100
    return float(estimate.mean()), float(right.mean())


def meanings(
    rng: np.random.Generator, shape: tuple[int, int, int, int], noise: float
) -> tuple[Float32, Float32, Float32]:
    """Sources, targets and decoys, of which the first `paired` sources and targets mean the same."""
    paired, alone_src, alone_tgt, num_decoys = shape
    meaning = rng.standard_normal((paired + alone_src + alone_tgt + num_decoys, 24))
    src = meaning[: paired + alone_src]
    tgt = np.concatenate([meaning[:paired], meaning[paired + alone_src :]])
    src, tgt = (side + noise * rng.standard_normal(side.shape) for side in (src, tgt))
    return (
        src.astype(np.float32),
        tgt[: paired + alone_tgt].astype(np.float32),
        tgt[paired + alone_tgt :].astype(np.float32),
    )


@pytest.mark.parametrize("strategy", ["max", "intersect"])
def test_synthetic_meanings(strategy: str) -> None:
    """Within 5 points at every level, by either way of keeping: over sizes, unpaired shares and strengths of noise."""
    trials: Trials = []
    for shape in SHAPES:
        for seed in range(4):
            src, tgt, decoys = meanings(np.random.default_rng(seed), shape, noise=(0.6, 0.75)[seed % 2])
            pairs = mine_candidates(src, tgt, decoys=decoys, strategy=strategy)
            numbers = pairs["src"].to_numpy()
            right = (numbers == pairs["tgt"].to_numpy()) & (numbers < shape[0])
            trials.append((pairs["precision_estimate"].to_numpy(), right))
    for name, keep in KEEP.items():
        for level in LEVELS:
            estimate, right = came_true(trials, keep, level)
            assert abs(estimate - right) < 0.05, (name, level, estimate, right)
    estimates, truth = (np.concatenate(column) for column in zip(*trials, strict=True))
    for level, half_width in ((0.5, 0.1), (0.8, 0.1), (0.9, 0.05), (0.95, 0.03)):  # pairs that are about so sure
        about = np.abs(estimates - level) < half_width
        assert about.sum() > 200
        assert -0.05 < truth[about].mean() - estimates[about].mean() < 0.1, level


def test_foreign_decoys_need_their_attraction_measured() -> None:
    """Decoys of other meanings than the targets attract less: taken as they come they promise too much."""
    trials: dict[bool, Trials] = {False: [], True: []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        src, tgt, decoys = meanings(rng, (100, 300, 300, 400), noise=0.6)
        decoys[:, 16:] *= 0.3  # they hardly differ in a third of what sources and targets differ in
        for measured in (False, True):
            made_from = np.full((len(decoys), 1), -1) if measured else None
            pairs = mine_candidates(src, tgt, decoys=decoys, made_from=made_from)
            numbers = pairs["src"].to_numpy()
            right = (numbers == pairs["tgt"].to_numpy()) & (numbers < 100)
            trials[measured].append((pairs["precision_estimate"].to_numpy(), right))
    for level in LEVELS[:3]:
        estimate, right = came_true(trials[False], KEEP["fdr"], level)
        assert right < estimate - 0.05, (level, estimate, right)
        estimate, right = came_true(trials[True], KEEP["fdr"], level)
        assert -0.02 < right - estimate < 0.15, (level, estimate, right)


def test_what_says_the_same_as_the_first_tells_nothing_of_decoys() -> None:
    """Three targets say each meaning in other words: decoys of another kind look as if hardly anything took them."""
    trials: dict[float | None, Trials] = {None: [], 0.7: []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        src, tgt, decoys = meanings(rng, (200, 200, 300, 400), noise=0.6)
        tgt = np.concatenate([tgt + 0.4 * rng.standard_normal(tgt.shape).astype(np.float32) for _ in range(3)])
        for near in trials:
            made_from = np.full((len(decoys), 1), -1)
            pairs = mine_candidates(src, tgt, decoys=decoys, made_from=made_from, near_duplicates=near)
            numbers = pairs["src"].to_numpy()
            right = (numbers == pairs["tgt"].to_numpy() % 500) & (numbers < 200)
            trials[near].append((pairs["precision_estimate"].to_numpy(), right))
    kept = {near: sum(int(keep_fdr(estimate, 0.2).sum()) for estimate, _ in of) for near, of in trials.items()}
    assert kept[0.7] > 2 * kept[None]
    for level in LEVELS[:2]:
        estimate, right = came_true(trials[0.7], KEEP["fdr"], level)
        assert right > estimate - 0.05, (level, estimate, right)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.embedded
def test_real_sentences(tmp_path: Path) -> None:
    """English against Spanish game texts: within 5 points with real decoys, within 10 and safe with made ones.

    Safe as well where nine tenths of both sides are alone.
    """
    from benchmarks.calibration import aligned_sentences, embedded
    from seamlessalign.embedders.card import fit_mean, unit_rows
    from seamlessalign.mining.decoys import make_decoys

    cache = Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))
    try:
        texts = aligned_sentences(cache, 420)
        src_rows, tgt_rows = (embedded(texts[lang], lang, cache) for lang in ("eng", "spa"))
        made = make_decoys(texts["spa"][:210], 210, seed=0)
        made_rows = embedded(made.texts, "spa", cache)
    except SeamlessAlignError as error:
        pytest.skip(f"real sentences cannot be had here: {error}")
    # Targets are among the first 210 sentences, which decoys are made from; the others are sources alone or real decoys
    trials: dict[str, Trials] = {"real": [], "made": [], "sparse": []}
    for seed in range(48):
        rng = np.random.default_rng(seed)
        sparse = seed >= 24
        paired, alone = (21, 189) if sparse else ((21, 52, 105)[seed % 3], 105)
        targets, others = rng.permutation(210), 210 + rng.permutation(210)
        sources = np.concatenate([targets[:paired], others[:alone]])
        mean = fit_mean(tgt_rows[targets])
        src = unit_rows(src_rows[sources] - fit_mean(src_rows[sources]))
        for kind, decoys in (("real", tgt_rows[others[alone:]]), ("made", made_rows)):
            if sparse and kind == "real":
                continue
            pairs = mine_candidates(
                src,
                unit_rows(tgt_rows[targets] - mean),
                decoys=unit_rows(decoys - mean),
                made_from=np.argsort(targets)[made.made_from] if kind == "made" else None,
            )
            right = sources[pairs["src"].to_numpy()] == targets[pairs["tgt"].to_numpy()]
            trials["sparse" if sparse else kind].append((pairs["precision_estimate"].to_numpy(), right))
    for level in LEVELS[:3]:
        estimate, right = came_true(trials["sparse"], KEEP["fdr"], level)
        assert right - estimate > -0.01, ("sparse", level, estimate, right)
    for name, keep in KEEP.items():
        for level in LEVELS:
            estimate, right = came_true(trials["real"], keep, level)
            assert abs(estimate - right) < 0.05, ("real", name, level, estimate, right)
            estimate, right = came_true(trials["made"], keep, level)
            assert -0.01 < right - estimate < 0.1, ("made", name, level, estimate, right)
