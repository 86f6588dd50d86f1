"""k-means against scipy's, what it does with empty clusters, and the sample it is given."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from seamlessalign.errors import InputError
from seamlessalign.training.units.kmeans import assign, first_centroids, moved
from seamlessalign.training.units.sampling import FrameSample, Part, shares

Float32 = NDArray[np.float32]


def _sample(folder: Path, *parts: Float32) -> FrameSample:
    made = []
    for number, rows in enumerate(parts):
        path = folder / f"eng-{number:05d}.safetensors"
        save_file({"frames": rows}, path, {"about": json.dumps({"utterances": 1, "rejects": {}})})
        made.append(Part(path, "eng", len(rows), 1, {}))
    return FrameSample(made, parts[0].shape[1])


def _blobs(seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(7, 5)) * 3
    return np.asarray(middles[rng.integers(7, size=400)] + rng.normal(size=(400, 5)), np.float32)


def test_iterations_are_those_of_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.cluster.vq import kmeans2

    monkeypatch.setattr("seamlessalign.training.units.kmeans._BLOCK", 37)  # no block is a part
    rows = _blobs()
    sample = _sample(tmp_path, rows[:150], rows[150:])
    ours = first_centroids(sample, 9, seed=3)
    theirs, labels = kmeans2(rows.astype(np.float64), ours.astype(np.float64), iter=6, minit="matrix")
    objectives = []
    for _ in range(6):
        assigned = assign(sample, ours, threads=1)
        objectives.append(assigned.objective)
        last, ours = assigned, moved(sample, assigned, ours)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert last.nearest.tolist() == labels.tolist() and last.empty == 0
    assert objectives == sorted(objectives, reverse=True) and objectives[0] > objectives[-1]
    before = rows.astype(np.float64)[:, None] - np.stack([rows[last.nearest == unit].mean(0) for unit in range(9)])
    slow = np.square(before).sum(2).min(1)
    assert assign(sample, ours).objective == pytest.approx(slow.mean(), rel=1e-5)


def test_first_centroids_are_distinct_frames(tmp_path: Path) -> None:
    silence = np.zeros((90, 4), np.float32)
    few = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    sample = _sample(tmp_path, silence, few, silence)
    found = first_centroids(sample, 11, seed=1)
    there = {row.tobytes() for row in np.concatenate([silence, few])}
    assert {row.tobytes() for row in found} == there and len(found) == 11
    assert (first_centroids(sample, 11, seed=1) == found).all()
    assert not (first_centroids(sample, 11, seed=2) == found).all()
    with pytest.raises(InputError, match=r"12, but the 190 frames of the sample have 11 different values"):
        first_centroids(sample, 12, seed=1)


def test_a_unit_without_frames_takes_the_farthest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamlessalign.training.units.kmeans._BLOCK", 3)
    rows = np.array([[0.0], [0.5], [1.0], [9.0], [20.0], [20.0]], np.float32)
    sample = _sample(tmp_path, rows[:4], rows[4:])
    centroids = np.array([[0.0], [20.0], [-50.0], [-60.0]], np.float32)
    assigned = assign(sample, centroids)
    assert assigned.counts.tolist() == [4, 2, 0, 0] and assigned.empty == 2
    found = moved(sample, assigned, centroids)
    # 9 is farthest from its centroid, then 1; the middle of the others is that of 0 and 0.5
    np.testing.assert_allclose(found[:, 0], [0.25, 20.0, 9.0, 1.0])
    again = assign(sample, found)
    assert again.empty == 0 and again.objective < assigned.objective


def test_a_unit_that_nothing_can_be_given_to_stays(tmp_path: Path) -> None:
    rows = np.array([[1.0], [1.0], [2.0]], np.float32)
    centroids = np.array([[1.0], [2.0], [7.0]], np.float32)
    sample = _sample(tmp_path, rows)
    assert moved(sample, assign(sample, centroids), centroids).tolist() == centroids.tolist()


def test_a_sample_gives_any_of_its_frames(tmp_path: Path) -> None:
    rows = _blobs()
    sample = _sample(tmp_path, rows[:150], rows[150:151], rows[151:])
    assert len(sample) == 400 and sample.languages == {"eng": 400}
    numbers = np.random.default_rng(0).permutation(400)[:50]
    assert (sample.take(numbers) == rows[numbers]).all()
    assert (np.concatenate([some for _, some in sample.blocks(33)]) == rows).all()
    assert [start for start, _ in sample.blocks(1000)] == [0, 150, 151]


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), min_size=1), st.integers(0, 200))
def test_shares_are_as_even_as_can_be(available: dict[str, int], total: int) -> None:
    given_to = shares(available, total)
    assert sum(given_to.values()) == min(total, sum(available.values()))
    assert all(0 <= given_to[lang] <= count for lang, count in available.items())
    for lang, count in available.items():  # whoever has less than another has given all
        if any(other > given_to[lang] + 1 for other in given_to.values()):
            assert given_to[lang] == count
