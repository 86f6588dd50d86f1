"""The plan of an epoch: every item once, batches within their limits, and the same for whoever plans."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.training.data.epochs import kinds_of, plan_epoch, split
from seamlessalign.training.data.mixing import Mixture, each_once
from seamlessalign.training.data.settings import BatchSettings
from tests.training.data.data_world import items_of, made_index


@st.composite
def mixtures(draw: st.DrawFn, times: int = 1) -> Mixture:
    """Items of several tasks and row groups, each coming so often or less."""
    count = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    num_groups = draw(st.integers(1, 8))
    seconds = [float(one) for one in rng.uniform(0.5, 4, count)]
    subwords = [(int(said) if rng.random() < 0.8 else 0, int(told)) for said, told in rng.integers(1, 9, (count, 2))]
    groups = sorted(int(one) for one in rng.integers(0, num_groups, count))
    index = made_index(seconds, subwords, groups=groups, units=[int(one) for one in rng.integers(1, 9, count)])
    tasks = draw(st.lists(st.sampled_from(["asr", "s2tt", "s2st"]), min_size=1, max_size=3, unique=True))
    items = items_of(index, *((task, 0) for task in tasks))
    if times == 1:
        return each_once(items)
    size = np.array([len(items)])
    return Mixture(
        items, np.zeros(len(items), np.int64), ("all",), size, np.maximum(size * times - draw(st.integers(0, 5)), 1)
    )


limits = st.builds(
    BatchSettings,
    max_frames=st.integers(250, 1000),
    max_tokens=st.integers(13, 60),
    max_units=st.integers(13, 60),
    max_rows=st.integers(1, 9),
    window_mb=st.integers(1, 5),
    by_length=st.booleans(),
)


class TestPlan:
    @settings(deadline=None, max_examples=60)
    @given(mixtures(), limits, st.integers(0, 3))
    def test_every_item_once_and_no_batch_too_large(self, mixture: Mixture, batches: BatchSettings, epoch: int) -> None:
        plan = plan_epoch(mixture, batches, 0.9, 5, epoch)
        assert sorted(plan.items.tolist()) == list(range(len(mixture.items))) and not plan.times.any()
        lengths, kinds = mixture.items.lengths(0.9), kinds_of(mixture.items)
        assert plan.starts[0] == 0 and plan.starts[-1] == len(plan.items)
        for place in range(plan.num_batches):
            there = plan.items[plan.batch(place)]
            assert 1 <= len(there) <= batches.max_rows
            frames, source, target, units = lengths[there].max(axis=0) * len(there)
            assert frames <= batches.max_frames and units <= batches.max_units
            assert max(source, target) <= batches.max_tokens
            assert len(set(kinds[there].tolist())) == 1

    @settings(deadline=None, max_examples=40)
    @given(mixtures(3), limits, st.integers(0, 2))
    def test_what_is_repeated_is_there_as_often(self, mixture: Mixture, batches: BatchSettings, epoch: int) -> None:
        plan = plan_epoch(mixture, batches, 1.0, 5, epoch)
        drawn, times = mixture.draw(5, epoch)
        assert Counter(zip(plan.items.tolist(), plan.times.tolist(), strict=True)) == Counter(
            zip(drawn.tolist(), times.tolist(), strict=True)
        )

    @settings(deadline=None, max_examples=40)
    @given(mixtures(2), limits, st.integers(0, 2))
    def test_a_window_is_as_large_as_it_may_be(self, mixture: Mixture, batches: BatchSettings, epoch: int) -> None:
        """Windows follow each other, each row group is in one of them a turn, its rows beside each other in batches."""
        self._check_windows(mixture, batches, epoch)

    def test_many_rows_in_few_groups_stay_in_their_windows(self) -> None:
        rng = np.random.default_rng(0)
        index = made_index(rng.uniform(0.5, 4, 300).tolist(), [(3, 3)] * 300, groups=[i // 30 for i in range(300)])
        self._check_windows(each_once(items_of(index, ("asr", 0))), BatchSettings(max_frames=1000, window_mb=2), 0)

    def _check_windows(self, mixture: Mixture, batches: BatchSettings, epoch: int) -> None:
        plan = plan_epoch(mixture, batches, 1.0, 5, epoch)
        index = mixture.items.index
        assert plan.windows.tolist() == sorted(plan.windows.tolist())
        groups = index.rows["group"][mixture.items.rows[plan.items]].tolist()
        seen: dict[tuple[int, int], int] = {}
        inside: dict[int, set[tuple[int, int]]] = {}
        for place in range(plan.num_batches):
            window, there = int(plan.windows[place]), plan.batch(place)
            visits = list(zip(plan.times[there].tolist(), groups[there], strict=True))
            assert len([one for i, one in enumerate(visits) if not i or visits[i - 1] != one]) == len(set(visits))
            for visit in visits:
                assert seen.setdefault(visit, window) == window
                inside.setdefault(window, set()).add(visit)
        assert max(map(len, inside.values())) <= batches.window_mb  # groups are of a megabyte
        assert all(len(inside[w]) == batches.window_mb for w in range(max(inside)))

    def test_batches_come_in_another_order_each_epoch(self) -> None:
        rng = np.random.default_rng(0)
        index = made_index(rng.uniform(0.5, 4, 300).tolist(), [(3, 3)] * 300, groups=[i // 30 for i in range(300)])
        mixture = each_once(items_of(index, ("asr", 0)))
        plans = [
            plan_epoch(mixture, BatchSettings(max_frames=2000), 1.0, seed, e) for seed, e in ((0, 0), (0, 1), (1, 0))
        ]
        assert len({tuple(plan.items.tolist()) for plan in plans}) == 3
        again = plan_epoch(mixture, BatchSettings(max_frames=2000), 1.0, 0, 0)
        assert [again.items.tolist(), again.starts.tolist()] == [plans[0].items.tolist(), plans[0].starts.tolist()]
        first = {frozenset(plans[0].items[plans[0].batch(i)].tolist()) for i in range(plans[0].num_batches)}
        second = {frozenset(plans[1].items[plans[1].batch(i)].tolist()) for i in range(plans[1].num_batches)}
        assert len(first & second) < len(first) / 4  # other rows together, too

    def test_like_lengths_together_leave_little_to_pad(self) -> None:
        rng = np.random.default_rng(0)
        seconds = np.exp(rng.normal(1.2, 0.7, 3000)).clip(0.2, 30)
        mixture = each_once(items_of(made_index(seconds.tolist(), [(3, 3)] * 3000), ("s2tt", 0)))
        lengths, padding = mixture.items.lengths()[:, 0], dict[bool, float]()
        for by_length in (False, True):
            plan = plan_epoch(mixture, BatchSettings(by_length=by_length), 1.0, 0, 0)
            made = [lengths[plan.items[plan.batch(place)]] for place in range(plan.num_batches)]
            padding[by_length] = 1 - lengths.sum() / sum(len(one) * one.max() for one in made)
        assert padding[True] < 0.1 < 0.4 < padding[False]

    def test_nothing_is_no_batches(self) -> None:
        index = made_index([1.0], [(3, 3)])
        nothing = each_once(items_of(index, ("asr", 0)).where(np.zeros(0, np.int64)))
        assert plan_epoch(nothing, BatchSettings(), 1.0, 0, 0).num_batches == 0


class TestSplit:
    @given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 12))
    def test_processes_share_a_batch_in_runs_of_about_equal_cost(self, costs: list[int], world: int) -> None:
        ranks = split(np.array(costs), world)
        assert len(ranks) == len(costs) and ranks.tolist() == sorted(ranks.tolist())
        assert ranks[0] >= 0 and ranks[-1] < world
        even = sum(costs) / world
        for rank in range(world):
            cost = sum(one for one, mine in zip(costs, ranks, strict=True) if mine == rank)
            assert abs(cost - even) <= max(costs)

    @pytest.mark.parametrize("world", [2, 3, 8])
    def test_rows_of_like_length_are_shared_evenly(self, world: int) -> None:
        counts = np.bincount(split(np.full(24, 50), world), minlength=world)
        assert counts.tolist() == [24 // world] * world
