"""What is learnt and how often: the best by margin, shares by temperature, and turns that are fair."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.training.data.limits import OFFERS, Items
from seamlessalign.training.data.mixing import Mixture, choose, each_once, first_of_each, mix, rounded, shares
from seamlessalign.training.data.settings import ChoiceSettings, MixingSettings, TaskChoice
from tests.training.data.data_world import items_of, made_index, source_of

MINED, HUMAN = source_of(kind="corpus", path="a"), source_of(kind="corpus", path="b", human=True)


def _items(lengths: list[float], margins: list[float], human: list[bool]) -> Items:
    # two groups, whichever rows there are: the first is of what was mined
    index = made_index(lengths, [(3, 3)] * len(lengths), margin=margins, groups=[int(one) for one in human])
    index.groups = np.resize(index.groups, 2)
    index.groups["source"] = [0, 1]
    return items_of(index, ("s2tt", 0))


class TestChoice:
    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(st.tuples(st.sampled_from([600.0, 1800.0, 3600.0]), st.sampled_from([1.0, 1.1, 1.2]), st.booleans())),
        st.none() | st.sampled_from([1.1, 1.5]),
        st.none() | st.sampled_from([0.5, 1.0, 2.0]),
        st.none() | st.sampled_from([1.0, 2.5]),
    )
    def test_the_best_come_first(
        self, rows: list[tuple[float, float, bool]], least: float | None, mined: float | None, total: float | None
    ) -> None:
        items = _items([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
        settings = ChoiceSettings(
            min_margin=least,
            max_hours={} if mined is None else {"*-bbb": mined},
            total_hours={} if total is None else {"aaa-*": total},
        )
        chosen, left_out = choose(items, [MINED, HUMAN], settings)

        # one after another, as the settings say
        reasons = dict[int, str]()
        for i, (_, margin, human) in enumerate(rows):
            if not human and least is not None and np.float32(margin) < least:
                reasons[i] = "below_margin"
        keys = items.index.rows["key"]
        order = sorted(
            (i for i in range(len(rows)) if i not in reasons),
            key=lambda i: (not rows[i][2], 0 if rows[i][2] else -rows[i][1], keys[i]),
        )
        mined_hours = all_hours = 0.0
        for i in order:
            hours = rows[i][0] / 3600
            if not rows[i][2]:
                mined_hours += hours
                if mined is not None and mined_hours > mined + 1e-6:
                    reasons[i] = "beyond_hours"
                    continue
            all_hours += hours
            if total is not None and all_hours > total + 1e-6:
                reasons[i] = "beyond_hours"
        assert chosen.rows.tolist() == [i for i in range(len(rows)) if i not in reasons]
        wanted = [Counter(r for i, r in reasons.items() if rows[i][2] is human) for human in (False, True)]
        assert [Counter(one) for one in left_out] == wanted

    def test_directions_have_limits_of_their_own(self) -> None:
        index = made_index([3600.0] * 6, [(3, 3)] * 6, margin=[1.0] * 6, lang=[(0, 1)] * 3 + [(1, 0)] * 3)
        hours: Any = {"aaa-bbb": 1, "*-aaa": 2}
        chosen, _ = choose(items_of(index, ("s2tt", 0)), [MINED], ChoiceSettings(max_hours=hours))
        assert np.bincount(index.rows["lang"][chosen.rows, 0]).tolist() == [1, 2]

    def test_text_of_the_same_rows_is_limited_alike(self) -> None:
        """A teacher that reads learns what its pupil hears."""
        index = made_index([3600.0] * 5, [(3, 3)] * 5, margin=[1.4, 1.1, 1.3, 1.2, 1.5])
        hours: Any = {"*-*": 2}
        chosen, _ = choose(items_of(index, ("s2tt", 0), ("t2tt", 0)), [MINED], ChoiceSettings(max_hours=hours))
        assert Counter(chosen.rows.tolist()) == {0: 2, 4: 2}


class TestShares:
    @given(
        st.lists(st.integers(1, 10_000), min_size=1, max_size=8),
        st.floats(1, 100),
        st.integers(0, 5000),
    )
    def test_they_are_the_formula(self, sizes: list[int], temperature: float, total: int) -> None:
        weights = [1.0 + i % 3 for i in range(len(sizes))]
        found = shares(np.array(sizes), weights, temperature)
        slow = [w * (n / sum(sizes)) ** (1 / temperature) for w, n in zip(weights, sizes, strict=True)]
        np.testing.assert_allclose(found, [one / sum(slow) for one in slow])
        counts = rounded(found, total)
        assert counts.sum() == total and (np.abs(counts - found * total) < 1 + 1e-6).all()

    @given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
    def test_as_there_are_is_each_once(self, sizes: list[int]) -> None:
        made = shares(np.array(sizes), [0.3] * len(sizes), 1.0)
        assert rounded(made, sum(sizes)).tolist() == sizes

    def test_weights_of_sources_and_tasks_multiply(self) -> None:
        index = made_index([1.0] * 40, [(3, 3)] * 40, groups=[i % 2 for i in range(40)], sources=[0, 1])
        items = items_of(index, ("asr", 0), ("s2tt", 0))
        tasks: Any = {"asr": TaskChoice(weight=3), "s2tt": TaskChoice()}
        sources = [MINED.model_copy(update={"weight": 4}), HUMAN]
        made = mix(items, sources, tasks, MixingSettings())
        assert made.sizes.tolist() == [20] * 4
        assert dict(zip(made.names, made.counts.tolist(), strict=True)) == {
            "0. corpus: asr aaa-aaa": 48,
            "0. corpus: s2tt aaa-bbb": 16,
            "1. corpus: asr aaa-aaa": 12,
            "1. corpus: s2tt aaa-bbb": 4,
        }
        assert (made.repeated, made.left_over) == (28, 28)

    @pytest.mark.parametrize(("temperature", "wanted"), [(1, [90, 10]), (2, [75, 25]), (1e9, [50, 50])])
    def test_a_high_temperature_makes_them_alike(self, temperature: float, wanted: list[int]) -> None:
        index = made_index([1.0] * 100, [(3, 3)] * 100, lang=[(0, 1)] * 90 + [(1, 0)] * 10)
        tasks: Any = {"s2tt": TaskChoice()}
        made = mix(items_of(index, ("s2tt", 0)), [MINED], tasks, MixingSettings(temperature=temperature))
        assert made.counts.tolist() == wanted


class TestDraw:
    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 30)), min_size=1, max_size=4), st.integers(1, 6))
    def test_all_items_of_a_group_take_turns(self, groups: list[tuple[int, int]], epochs: int) -> None:
        sizes = np.array([size for size, _ in groups])
        group = np.random.default_rng(0).permutation(np.repeat(np.arange(len(groups)), sizes))
        index = made_index([1.0] * len(group), [(3, 3)] * len(group))
        items = items_of(index, ("s2tt", 0))
        mixture = Mixture(items, group, ("",) * len(groups), sizes, np.array([count for _, count in groups]))
        seen = np.zeros(len(group), int)
        for epoch in range(epochs):
            drawn, times = mixture.draw(7, epoch)
            assert np.bincount(group[drawn], minlength=len(groups)).tolist() == mixture.counts.tolist()
            assert len(set(zip(drawn.tolist(), times.tolist(), strict=True))) == len(drawn)
            seen += np.bincount(drawn, minlength=len(group))
            for number in range(len(groups)):
                counts = seen[group == number]
                assert counts.max() - counts.min() <= 1
        assert mixture.repeated - mixture.left_over == mixture.counts.sum() - len(group)

    def test_over_many_epochs_shares_are_the_formula(self) -> None:
        """p ∝ weight · n^(1/T), counted; an epoch's whole numbers are within one item of it."""
        sizes, epochs = [200, 50, 7], 40
        lang = [(0, 1)] * sizes[0] + [(1, 0)] * sizes[1] + [(2, 0)] * sizes[2]
        index = made_index([1.0] * sum(sizes), [(3, 3)] * sum(sizes), lang=lang)
        tasks: Any = {"s2tt": TaskChoice()}
        made = mix(items_of(index, ("s2tt", 0)), [MINED], tasks, MixingSettings(temperature=3, epoch_items=100))
        seen = Counter[int]()
        for epoch in range(epochs):
            seen.update(index.rows["lang"][made.items.rows[made.draw(1, epoch)[0]], 0].tolist())
        wanted = [size ** (1 / 3) for size in sizes]
        for number, one in enumerate(wanted):
            assert abs(seen[number] / epochs - 100 * one / sum(wanted)) < 1
        assert sum(seen.values()) == 100 * epochs

    def test_epochs_have_other_orders(self) -> None:
        items = items_of(made_index([1.0] * 50, [(3, 3)] * 50), ("s2tt", 0))
        orders = [each_once(items).draw(seed, epoch)[0].tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
        assert orders[0] == orders[1] and len({tuple(order) for order in orders}) == 3
        assert [sorted(order) for order in orders] == [list(range(50))] * 4


def test_the_first_of_each_direction_are_the_same_in_any_order() -> None:
    index = made_index([1.0] * 30, [(3, 3)] * 30, lang=[(0, 1)] * 20 + [(1, 0)] * 10)
    items = items_of(index, ("s2tt", 0), ("asr", 0))
    found = items.where(np.flatnonzero(first_of_each(items, 4)))
    assert Counter(zip(found.offers.tolist(), (found.rows >= 20).tolist(), strict=True)) == {
        (OFFERS.index((task, 0)), later): 4 for task in ("s2tt", "asr") for later in (False, True)
    }
    mixed = items.where(np.random.default_rng(0).permutation(len(items)))
    again = mixed.where(np.flatnonzero(first_of_each(mixed, 4)))
    assert sorted(zip(again.rows.tolist(), again.offers.tolist(), strict=True)) == sorted(
        zip(found.rows.tolist(), found.offers.tolist(), strict=True)
    )
