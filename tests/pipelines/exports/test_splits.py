"""Splits against a union-find in plain Python, and what they promise for any graph."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.pipelines.exports.hanging_together import NOTHING, components
from seamlessalign.pipelines.exports.splits import (
    STRADDLES,
    Straddling,
    divide,
    parse_shares,
    recording_numbers,
    text_numbers,
)

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
Edges = list[tuple[int, int, int]]  # two vertices, 0 for none, and a weight

edges = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 50)), max_size=40)


def _groups(pairs: Edges) -> list[int]:
    """Component of each pair, by the first pair of it: union-find over vertices and pairs."""
    parent: dict[object, object] = {}

    def find(item: object) -> object:
        while parent.setdefault(item, item) != item:
            item = parent[item]
        return item

    for row, (a, b, _) in enumerate(pairs):
        for vertex in (a, b):
            if vertex:
                parent[find(vertex)] = find(("pair", row))
    first: dict[object, int] = {}
    return [first.setdefault(find(("pair", row)), row) for row in range(len(pairs))]


def _columns(pairs: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    src, tgt, weight = (np.array([pair[i] for pair in pairs]) for i in range(3))
    return src.astype(np.uint64), tgt.astype(np.uint64), weight.astype(np.int64)


@given(edges)
@settings(max_examples=150, deadline=None)
def test_components_are_those_of_a_union_find(pairs: Edges) -> None:
    assert components(*_columns(pairs)[:2]).tolist() == _groups(pairs)


def test_a_long_chain_and_a_star_are_one_component_each() -> None:
    order = np.random.default_rng(0).permutation(5000).astype(np.uint64) + 1
    assert set(components(order[:-1], order[1:]).tolist()) == {0}
    centre = np.full(5000, 10_000, np.uint64)
    assert set(components(order, centre).tolist()) == {0}


def _weights(pairs: Edges, split: list[int]) -> list[int]:
    return [sum(pair[2] for pair, of in zip(pairs, split, strict=True) if of == number) for number in range(3)]


@given(edges, st.integers(0, 5), st.randoms(use_true_random=False), st.sampled_from(["leave-out", "keep-together"]))
@settings(max_examples=70, deadline=None)
def test_no_vertex_is_on_two_sides_and_the_order_of_rows_does_not_matter(
    pairs: Edges, seed: int, random: "np.random.Generator", straddling: Straddling
) -> None:
    pairs = [pair for pair in pairs if pair[0] or pair[1]]
    division = divide(*_columns(pairs), SHARES, seed, straddling)
    split = division.split.tolist()
    splits = defaultdict(set)
    for (a, b, _), of in zip(pairs, split, strict=True):
        if of != STRADDLES:
            splits[a].add(of)
            splits[b].add(of)
    splits.pop(0, None)
    assert all(len(found) == 1 for found in splits.values())
    assert division.straddling == split.count(STRADDLES) and set(split) <= {STRADDLES, 0, 1, 2}
    assert list(division.weights) == _weights(pairs, split)
    assert sum(division.weights) >= 0.58 * division.total  # no set is worth more
    sizes = Counter[int]()
    for group, (_, _, weight) in zip(_groups(pairs), pairs, strict=True):
        sizes[group] += weight
    assert division.largest == max(sizes.values(), default=0) and division.num_components == len(sizes)
    order = list(range(len(pairs)))
    random.shuffle(order)
    again = divide(*_columns([pairs[i] for i in order]), SHARES, seed, straddling)
    assert again.split.tolist() == division.split[order].tolist()


@given(edges, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_what_is_kept_together_is_in_one_split_and_none_is_carried_far_beyond_its_share(
    pairs: Edges, seed: int
) -> None:
    pairs = [pair for pair in pairs if pair[0] or pair[1]]
    division = divide(*_columns(pairs), SHARES, seed, "keep-together")
    assert division.straddling == 0
    for group in set(_groups(pairs)):
        assert len({of for of, one in zip(division.split.tolist(), _groups(pairs), strict=True) if one == group}) == 1
    for reached, target in zip(division.weights, division.targets, strict=True):
        assert reached <= target + division.largest + 1e-6


@given(edges, st.lists(st.integers(0, 4), min_size=40, max_size=40), st.sampled_from(["leave-out", "keep-together"]))
@settings(max_examples=40, deadline=None)
def test_nor_is_what_is_beside_the_vertices(pairs: Edges, beside: list[int], straddling: Straddling) -> None:
    pairs = [pair for pair in pairs if pair[0] or pair[1]]
    also = np.array(beside[: len(pairs)], np.uint64) * np.uint64(1001)
    division = divide(*_columns(pairs), SHARES, 0, straddling, also)
    splits = defaultdict(set)
    for (a, b, _), c, split in zip(pairs, also.tolist(), division.split.tolist(), strict=True):
        for vertex in (a, b, c):
            splits[vertex].add(split)
    splits.pop(0, None)
    assert all(len(found - {STRADDLES}) <= 1 for found in splits.values())
    assert division.straddling == division.split.tolist().count(STRADDLES) and len(division.split) == len(pairs)
    assert straddling == "leave-out" or division.straddling == 0


def _alone(count: int, weight: int = 10) -> Edges:
    return [(2 * i + 1, 2 * i + 2, weight) for i in range(count)]


def test_many_small_components_come_within_one_of_their_shares() -> None:
    division = divide(*_columns(_alone(1000)), {"train": 0.9, "dev": 0.05, "test": 0.05}, 0)
    assert np.abs(np.array(division.weights) - [9000, 500, 500]).max() <= 10 and not division.notes


def test_another_seed_divides_in_another_way() -> None:
    first, second = (divide(*_columns(_alone(200)), SHARES, seed).split.tolist() for seed in (0, 1))
    assert first != second and sorted(first) == sorted(second)


def test_a_giant_component_goes_to_train_and_that_is_said() -> None:
    giant = [(2, 2 * vertex + 1, 10) for vertex in range(1, 1000)]  # one recording
    pairs = giant + [(10_000 + 2 * i, 10_001 + 2 * i, 10) for i in range(10)]
    division = divide(*_columns(pairs), {"dev": 0.05, "test": 0.05, "train": 0.9}, 3)
    assert set(division.split[:999].tolist()) == {2}
    assert Counter(division.split[999:].tolist()) == {0: 5, 1: 5}  # all that is left
    assert len(division.notes) == 2 and division.notes[0].startswith("dev has 0.5% and not 5.0%")


def test_what_is_one_component_is_one_split() -> None:
    division = divide(*_columns([(1, 2, 5), (2, 3, 5)]), SHARES, 0, "keep-together")
    assert division.split.tolist() == [0, 0] and len(division.notes) == 2


def test_no_pairs_are_divided_into_nothing() -> None:
    division = divide(*_columns([]), SHARES, 0)
    assert division.split.tolist() == [] and division.weights == (0, 0, 0)


def test_channels_of_one_file_are_one_recording() -> None:
    ids = ["4b15b37b66734c31:5-9", "4b15b37b66734c31.1:0-3", "4b15b37b66734c32:5-9", None, "4b15b37b66734c31:1-2"]
    numbers = recording_numbers(pa.array(ids, pa.string())).tolist()
    assert numbers[0] == numbers[1] == numbers[4] != numbers[2] and numbers[3] == NOTHING


def test_texts_are_one_whatever_their_case_and_punctuation() -> None:
    numbers = text_numbers(pa.array(["Good day!", "good  day", "Good, day?", "Good night", None])).tolist()
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3] and numbers[4] == NOTHING


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train=0.9,dev=0.2", "add up to 1.1, not to 1"),
        ("train", "write a name and its share"),
        ("train=x", "a share is above 0"),
        ("train=1.5", "a share is above 0"),
        ("train=nan", "a share is above 0"),
        ("train=0,dev=1", "a share is above 0"),
        ("../x=1", "write a name and its share"),
        ("state=0.9,dev=0.1", "'state' is a folder of the export's own"),
        ("train=0.5,train=0.5", "'train' is there twice"),
        ("train=0.5,TRAIN=0.5", "'TRAIN' is there twice"),
    ],
)
def test_shares_that_cannot_be_are_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_shares(text)


def test_shares_are_read_in_order() -> None:
    assert parse_shares("train=0.9, dev=0.05 ,test=0.05") == {"train": 0.9, "dev": 0.05, "test": 0.05}
