"""Held-out sets out of graphs that hang together as a whole: nothing is shared, little is lost, sizes are as asked."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.pipelines.exports.splits import STRADDLES, Division, divide
from seamlessalign.pipelines.row_ids import mixed

Numbers = NDArray[np.uint64]
Pairs = tuple[Numbers, Numbers, NDArray[np.int64]]
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def _texts(numbers: NDArray[np.int64]) -> Numbers:
    return mixed(numbers.astype(np.uint64) + np.uint64(1)) | np.uint64(1)


def _recordings(numbers: NDArray[np.int64]) -> Numbers:
    return mixed(numbers.astype(np.uint64) + np.uint64(10**9)) & ~np.uint64(1)


def _weighed(src: Numbers, tgt: Numbers, rng: np.random.Generator) -> Pairs:
    return src, tgt, rng.integers(8_000, 160_000, len(src))


def talks(rng: np.random.Generator) -> Pairs:
    """60 talks of 50 sentences in 4 languages, each a recording, most sentences found; and phrases that all have."""
    text = np.repeat(np.arange(60 * 50), 4)
    recording = text // 50 * 4 + np.tile(np.arange(4), 60 * 50)
    found = rng.random(len(text)) < 0.6
    text, recording = text[found], recording[found]
    is_phrase = rng.random(len(text)) < 0.03
    text = np.where(is_phrase, 60 * 50 + (30 * rng.random(len(text)) ** 3).astype(np.int64), text)
    return _weighed(_texts(text), _recordings(recording), rng)


def strewn(rng: np.random.Generator) -> Pairs:
    """Texts each of which one to five recordings have, any of 300."""
    text = np.repeat(np.arange(4000), np.minimum(rng.geometric(0.6, 4000), 5))
    return _weighed(_texts(text), _recordings(rng.integers(0, 300, len(text))), rng)


def broadcasts(rng: np.random.Generator) -> Pairs:
    """Speech with speech: each of 300 recordings with some that were on the air next to it."""
    one = rng.integers(0, 300, 5000)
    other = 300 + np.clip(one + rng.integers(-2, 3, 5000), 0, 299)
    return _weighed(_recordings(one), _recordings(other), rng)


def _nothing_is_shared(pairs: Pairs, division: Division) -> None:
    splits = defaultdict(set)
    for side in pairs[:2]:
        for vertex, split in zip(side.tolist(), division.split.tolist(), strict=True):
            if split != STRADDLES:
                splits[vertex].add(split)
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(("made", "lost"), [(talks, 0.06), (strewn, 0.2), (broadcasts, 0.15)])
@given(st.integers(0, 2**32), st.sampled_from([SHARES, {"test": 0.05, "train": 0.95}]))
@settings(max_examples=4, deadline=None)
def test_sets_of_the_asked_size_come_out_of_one_component_and_little_is_lost(
    made: Callable[[np.random.Generator], Pairs], lost: float, seed: int, shares: dict[str, float]
) -> None:
    pairs = made(np.random.default_rng(seed))
    division = divide(*pairs, shares, seed % 100)
    assert division.largest > 0.9 * division.total
    _nothing_is_shared(pairs, division)
    kept = pairs[2][division.split != STRADDLES].sum()
    for name, share, weight in zip(shares, shares.values(), division.weights, strict=True):
        assert 0.7 * share <= weight / kept <= 1.3 * share, name
    assert np.count_nonzero(division.split == STRADDLES) == division.straddling <= lost * len(pairs[0])


def test_what_says_the_same_in_several_languages_is_held_out_together() -> None:
    """Drawing recordings at random would lose nearly all that is held out."""
    text, recording, weight = talks(np.random.default_rng(1))
    division = divide(text, recording, weight, SHARES, 0)
    rng = np.random.default_rng(0)
    names = np.unique(recording)
    is_drawn = np.isin(recording, rng.permutation(names)[: len(names) // 5])
    in_both = np.intersect1d(text[is_drawn], text[~is_drawn])
    drawn_lost = np.count_nonzero(is_drawn & np.isin(text, in_both))
    assert division.straddling < drawn_lost / 5


def test_a_few_pairs_more_move_little() -> None:
    src, tgt, weight = strewn(np.random.default_rng(2))
    before = np.random.default_rng(0).random(len(src)) < 0.99
    whole, part = divide(src, tgt, weight, SHARES, 0), divide(src[before], tgt[before], weight[before], SHARES, 0)
    both = (whole.split[before] != STRADDLES) & (part.split != STRADDLES)
    assert np.mean(whole.split[before][both] != part.split[both]) < 0.03


def test_recordings_that_hang_together_by_nothing_are_not_broken_up() -> None:
    number = np.arange(2000)
    pairs = _weighed(_texts(number), _recordings(number // 10), np.random.default_rng(0))
    division = divide(*pairs, SHARES, 0)
    assert division.straddling == 0 and not division.notes
    assert division.split.tolist() == divide(*pairs, SHARES, 0, "keep-together").split.tolist()


def test_one_recording_stays_whole_and_that_is_said() -> None:
    pairs = _weighed(_texts(np.arange(50)), _recordings(np.zeros(50, np.int64)), np.random.default_rng(0))
    division = divide(*pairs, SHARES, 0)
    assert set(division.split.tolist()) == {0}
    assert division.notes == [
        "dev has 0.0% and not 10.0%: all is cut from 1 recording",
        "test has 0.0% and not 10.0%: all is cut from 1 recording",
    ]


def test_what_is_lost_is_said() -> None:
    """Four recordings that all say the same: one is held out, and each text is of that or of the others."""
    number = np.arange(400)
    pairs = _weighed(_texts(number // 4), _recordings(number % 4), np.random.default_rng(0))
    division = divide(*pairs, {"train": 0.9, "test": 0.1}, 0)
    _nothing_is_shared(pairs, division)
    assert 0.08 < division.weights[1] / sum(division.weights) < 0.12
    lost = f"{division.straddling} of 400 pairs ({division.straddling / 4:.1f}%) are left out, since they share"
    assert division.notes[0].startswith(lost) and division.straddling < 150


def test_no_more_than_two_fifths_are_given_up_for_a_set_that_would_be_empty() -> None:
    rng = np.random.default_rng(0)
    pairs = _weighed(_recordings(rng.integers(0, 100, 5000)), _recordings(rng.integers(100, 200, 5000)), rng)
    division = divide(*pairs, SHARES, 0)
    assert division.straddling == 0 and division.weights[1:] == (0, 0)
    assert division.notes[0] == (
        "dev has 0.0% and not 10.0%: all hang together through recordings or texts that they share, "
        "and to break it up would leave out too many"
    )
