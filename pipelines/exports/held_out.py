"""Held-out sets out of what hangs together as a whole: which recordings and texts, so that few pairs lie across.

Every recording and every text is of one split, so that no two splits share one. A pair whose sides are of two splits
straddles them and is left out. What is looked for are splits of about the sizes asked, and few such pairs.

First recordings are put into clusters, strongest ties first, as long as a cluster is small enough to be held out: two
recordings are tied by pairs between them and by texts that both have, more by texts that few others have. So what says
the same in several languages stays together. Then clusters are held out, in an order that a hash of the seed gives,
and last each text goes to the split where it loses fewest pairs, but for those that a held-out set needs to be as
large as asked. Several sizes of clusters and of sets of recordings are tried, and what does best is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seamlessalign.pipelines.exports.hanging_together import Graph, Indices, Numbers, sums
from seamlessalign.pipelines.row_ids import mixed

Weights = npt.NDArray[np.float64]
Splits = npt.NDArray[np.int8]

TOLERANCE = 0.1  # of a held-out set's size, by which it may miss what was asked without harm
_WEAKEST = 1 / 64  # tie that puts recordings together, as a share of their pairs
_TURNS = 40  # in which clusters grow
_UNIT = 1 << 20  # of the strength of a tie: that of one pair, or of a text that two recordings have
_TRIED_SIZES = (0.0, 0.25, 1.0)  # of clusters, as shares of the smallest set
_TRIED_ROOMS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # how much of recordings is held out, as a multiple of what is asked
_TRIED_PARTS = (1.0, 0.6, 0.3)  # how much of what is asked texts are given up elsewhere for; less where it is dear
_DEAR = 0.2  # what is wrong with splits from which on smaller held-out sets are tried
_BETTER = 0.2  # of what is wrong, by which a way must do better than those tried before, and a tenth of this beside it
_ROUNDS = 4  # in which sizes are fitted to what is not left out


@dataclass(frozen=True)
class Aim:
    """How large splits are to be."""

    shares: Weights  # (num_splits,), with the sum 1
    seeds: tuple[int, ...]  # by split: of the order in which it takes what it takes

    @property
    def rest(self) -> int:
        """The split that takes what no other does: the one with the largest share."""
        return int(self.shares.argmax())

    @property
    def held_out(self) -> list[int]:
        """The others, smallest first."""
        return [int(one) for one in np.argsort(self.shares, kind="stable") if one != self.rest]

    def cost(self, weights: Weights, total: float) -> float:
        """What is wrong with splits of these weights, (num_splits,), of a total that they were made of.

        What was left out for each that was not, and how much of its size the worst held-out set misses beyond the
        tolerance. So nothing is worth more than about two fifths of the pairs, not even that a set is not empty.
        """
        kept = float(weights.sum())
        if not kept or not self.held_out:
            return float("inf")
        held = np.array(self.held_out)
        missing = np.abs(weights[held] / kept / self.shares[held] - 1)
        return total / kept - 1 + max(0.0, float(missing.max()) - TOLERANCE)


def fill(sizes: Weights, names: Numbers, rooms: Weights, aim: Aim) -> Splits:
    """A split for each of some groups, (num_groups,). names: by which they are ordered; rooms: by split, what is asked.

    Each held-out set takes groups that fit, in an order of its own that a hash gives, so that one more or less changes
    little; where much is missing, those first that are large. Where all that is small enough is too little, each gets
    its part. Then the set that is furthest behind may get a group more, if it is nearer then to what is asked, and the
    rest keeps half of what it should have.
    """
    split = np.full(len(sizes), aim.rest, np.int8)
    left = np.ones(len(sizes), bool)
    held = np.array(aim.held_out, np.int64)
    missing, unused = rooms[held].astype(np.float64), float(sizes.sum())
    small = float(sizes[sizes <= missing.max(initial=0.0)].sum())
    scale = min(1.0, small / missing.sum()) if missing.sum() else 0.0
    for place, number in enumerate(held.tolist()):
        free = np.flatnonzero(left)
        order = free[np.lexsort([names[free], mixed(names[free] + np.uint64(aim.seeds[number]))])]
        room = missing[place] * scale
        taken = _that_fit(order, sizes, room)
        if room - sizes[taken].sum() > TOLERANCE / 2 * room:
            large = _that_fit(order[np.argsort(-sizes[order], kind="stable")], sizes, room)
            taken = max(taken, large, key=lambda one: float(sizes[one].sum()))
        split[taken], left[taken] = number, False
        missing[place] -= sizes[taken].sum()
        unused -= float(sizes[taken].sum())
    free = np.flatnonzero(left & (sizes <= 2 * missing.max(initial=0.0)))
    for group in map(int, free[np.lexsort([names[free], sizes[free]])]):
        place = int((missing / np.maximum(rooms[held], 1e-300)).argmax()) if len(held) else 0
        unused -= float(sizes[group])
        if not len(held) or sizes[group] > 2 * missing[place] or unused < rooms[aim.rest] / 2:
            break  # and so would be all that are larger
        split[group] = held[place]
        missing[place] -= sizes[group]
    return split


def _that_fit(order: Indices, sizes: Weights, room: float) -> Indices:
    """Groups out of an order, each taken where it still fits."""
    taken, room = [order[:0]], room * (1 + 1e-9)
    while len(order := order[sizes[order] <= room]):
        together = np.cumsum(sizes[order])
        number = max(int(np.searchsorted(together, room, side="right")), 1)
        taken.append(order[:number])
        room -= float(together[number - 1])
        order = order[number + 1 :]  # the one behind does not fit
    return np.concatenate(taken)


def break_up(graph: Graph, is_text: npt.NDArray[np.bool_], weight: Weights, whole: Splits, aim: Aim) -> Splits | None:
    """A split for each vertex, (num_vertices,), better than that of whole components; None where nothing is.

    is_text: (num_vertices,); weight: of pairs; whole: splits of vertices by whole components.
    """
    total = float(weight.sum())
    best, least = None, aim.cost(_kept(graph, weight, whole, aim), total)
    if not aim.held_out or not _is_better(0.0, least):
        return None
    work = _Work(graph, is_text, weight, aim)
    clusters = [work.clusters(size) for size in _TRIED_SIZES]
    for part in _TRIED_PARTS:
        if least <= _DEAR:
            break
        for cluster in clusters:
            last = np.inf
            for times in _TRIED_ROOMS:
                tried = work.tried(cluster, times, part)
                cost = aim.cost(_kept(graph, weight, tried, aim), total)
                if _is_better(cost, least):
                    best, least = tried, cost
                if cost > last + 0.05:
                    break  # more recordings only lose more
                last = cost
    return best


def _is_better(cost: float, least: float) -> bool:
    """Whether a way is so much better than another that a few pairs more would not change it."""
    return cost < least * (1 - _BETTER) - _BETTER / 10


def _kept(graph: Graph, weight: Weights, split: Splits, aim: Aim) -> Weights:
    """The weight of each split without pairs that straddle. split: of vertices."""
    src, tgt = split[graph.src], split[graph.tgt]
    return sums(src[src == tgt], weight[src == tgt], len(aim.shares))


class _Work:
    """A graph to be broken up. Recordings are anchors, texts follow them; what is small enough stays as it is."""

    def __init__(self, graph: Graph, is_text: npt.NDArray[np.bool_], weight: Weights, aim: Aim) -> None:
        self._graph, self._aim = graph, aim
        self.total = float(weight.sum())
        self._targets = aim.shares * self.total
        self._smallest = float(self._targets.min())
        count = len(graph.numbers)
        of_pair = graph.component[graph.src]
        sizes = sums(of_pair, weight, count)  # of components, at their least vertex
        self._small = np.flatnonzero((sizes > 0) & (sizes <= self._smallest))
        self._small_sizes = sizes[self._small]
        self._is_small = sizes[graph.component] <= self._smallest  # (num_vertices,)
        rows = np.flatnonzero(sizes[of_pair] > self._smallest)
        src, tgt = graph.src[rows], graph.tgt[rows]
        is_anchor = np.zeros(count, bool)
        is_anchor[src[~is_text[src] | is_text[tgt]]] = True  # where both are texts, that of the source leads
        is_anchor[tgt[~is_text[tgt]]] = True
        self._anchors = np.flatnonzero(is_anchor)
        self._names = graph.numbers[self._anchors]
        place = np.cumsum(is_anchor) - 1  # of anchors, among anchors
        is_tie = is_anchor[src] & is_anchor[tgt]
        self._tie = place[src[is_tie]], place[tgt[is_tie]]
        self._of_tie = weight[rows[is_tie]]
        leads = is_anchor[src[~is_tie]]
        anchor = place[np.where(leads, src[~is_tie], tgt[~is_tie])]
        text = np.where(leads, tgt[~is_tie], src[~is_tie])
        order = np.lexsort([anchor, text])
        text = text[order]
        self._anchor, self._of_text = anchor[order], weight[rows[~is_tie][order]]  # of pairs with a text, text by text
        self._first = np.flatnonzero(np.diff(text, prepend=-1))  # pair of each text
        self._texts = text[self._first]
        self._times = np.diff(np.append(self._first, len(text)))  # pairs of each text
        ends = np.concatenate([self._anchor, *self._tie])
        halves = np.concatenate([self._of_text, self._of_tie / 2, self._of_tie / 2])
        self._sizes = sums(ends, halves, len(self._anchors))
        self._pairs = np.bincount(ends, minlength=len(self._anchors)).astype(np.float64)  # of each anchor

    def clusters(self, size: float) -> Indices:
        """Of each anchor, one that stands for its cluster, (num_anchors,)."""
        count = len(self._anchors)
        cluster = np.arange(count)
        if not size or not self._smallest:
            return cluster
        most = 2.0 ** (np.ceil(np.log2(self._smallest * size) * 4) / 4)  # the same when a few pairs more come
        sizes, pairs = self._sizes, self._pairs
        a, b, strength = self._ties
        for turn in range(_TURNS):
            possible = (sizes[a] + sizes[b] <= most) & (a != b)
            a, b, strength = a[possible], b[possible], strength[possible]
            strong = strength / _UNIT >= _WEAKEST * np.sqrt(pairs[a] * pairs[b])
            if not strong.any():
                break
            share = strength[strong] / np.sqrt(pairs[a[strong]] * pairs[b[strong]])
            joining, joined = _join(a[strong], b[strong], share, sizes, most, self._names, turn)
            parent = np.arange(count)
            parent[joining] = joined
            sizes, pairs = sums(parent, sizes, count), sums(parent, pairs, count)
            cluster = parent[cluster]
            a, b, strength = _together(parent[a], parent[b], strength, count)
        # known by the least of them: that which others joined may be another when a few pairs more come
        least = np.full(count, count)
        np.minimum.at(least, cluster, np.arange(count))
        return least[cluster]

    @cached_property
    def _ties(self) -> tuple[Indices, Indices, Weights]:
        """Pairs of anchors and how strong their ties are: a text ties those that have it in a row, each to the next."""
        text = np.repeat(np.arange(len(self._times)), self._times)
        new = (np.diff(text, prepend=-1) != 0) | (np.diff(self._anchor, prepend=-1) != 0)
        text, anchor = text[new], self._anchor[new]
        having = np.bincount(text, minlength=len(self._times))[text]
        next_ = np.flatnonzero(text[1:] == text[:-1])
        strength = np.concatenate([_UNIT // np.maximum(having[next_] - 1, 1), np.full(len(self._of_tie), _UNIT)])
        a, b = (np.concatenate(ends) for ends in ((anchor[next_], self._tie[0]), (anchor[next_ + 1], self._tie[1])))
        return _together(a, b, strength.astype(np.float64), len(self._anchors))

    def tried(self, cluster: Indices, times: float, part: float) -> Splits:
        """A split for each vertex, with so many times what is asked of recordings held out, and part of it of texts."""
        aim = self._aim
        split = self._of_small.copy()
        of_small = sums(split[self._small], self._small_sizes, len(aim.shares))
        rooms = np.maximum(self._targets - of_small, 0)
        rooms[aim.held_out] *= times
        rooms[aim.rest] = max(float(self._sizes.sum() - rooms[aim.held_out].sum()), 0.0)
        heads, of_anchor = np.unique(cluster, return_inverse=True)
        of_anchor = of_anchor.reshape(-1)
        of_head = fill(sums(of_anchor, self._sizes, len(heads)), self._names[heads], rooms, aim)
        anchors = of_head[of_anchor]
        split[self._anchors] = anchors
        a, b = (anchors[end] for end in self._tie)
        sure = of_small + sums(a[a == b], self._of_tie[a == b], len(aim.shares))
        split[self._texts] = self._of_texts(anchors, sure, part)
        return split

    @cached_property
    def _of_small(self) -> Splits:
        """A split for each vertex of what is small enough, (num_vertices,)."""
        split = np.full(len(self._graph.numbers), self._aim.rest, np.int8)
        names = self._graph.numbers[self._small]
        split[self._small] = fill(self._small_sizes, names, self._targets, self._aim)
        split[self._is_small] = split[self._graph.component[self._is_small]]
        return split

    def _of_texts(self, anchors: Splits, sure: Weights, part: float) -> Splits:
        """For each text the split that loses fewest pairs, but for those that a held-out set needs, (num_texts,).

        anchors: their splits; sure: by split, the weight that it has without texts.
        """
        count, of_pair = len(sure), anchors[self._anchor]
        if not len(self._first):
            return np.zeros(0, np.int8)
        split, high = (take.reduceat(of_pair, self._first) for take in (np.minimum, np.maximum))
        contested = split != high
        on = np.repeat(contested, self._times)
        sure = sure + sums(of_pair[~on], self._of_text[~on], count)
        text = np.repeat(np.cumsum(contested) - 1, self._times)[on]
        weights = sums(text * count + of_pair[on], self._of_text[on], int(contested.sum()) * count)
        split[contested] = self._shared_out(weights.reshape(-1, count), self._texts[contested], sure, part)
        return np.asarray(split)

    def _shared_out(self, weights: Weights, texts: Indices, sure: Weights, part: float) -> Splits:
        """Splits of texts that several have. weights: of their pairs by split, (num_texts, num_splits)."""
        aim, all_of = self._aim, weights.sum(1)
        names = mixed(self._graph.numbers[texts])
        orders = {}
        for number in aim.held_out:
            there = np.flatnonzero(weights[:, number])
            loss = all_of[there] / weights[there, number]
            orders[number] = there[np.lexsort([names[there], loss])]
        kept, found = self.total, np.zeros(len(texts), np.int8)
        for _ in range(_ROUNDS):
            found = np.full(len(texts), -1, np.int8)
            reached = sure.copy()
            for number in aim.held_out:
                order = orders[number][found[orders[number]] < 0]
                need = part * aim.shares[number] * kept - reached[number]
                taken = order[: _nearest(np.cumsum(weights[order, number]), need)]
                found[taken] = number
                reached[number] += weights[taken, number].sum()
            others = np.flatnonzero(found < 0)
            of_rest = weights[others, aim.rest] > 0
            found[others] = np.where(of_rest, aim.rest, weights[others].argmax(1))
            got = sums(found, weights[np.arange(len(texts)), found], len(aim.shares))
            now = float(sure.sum() + got.sum())
            if now == kept:
                break
            kept = now
        return found


def _together(a: Indices, b: Indices, strength: Weights, count: int) -> tuple[Indices, Indices, Weights]:
    """Ties between the same two, of `count` vertices, as one."""
    key, number = np.unique(np.minimum(a, b) * count + np.maximum(a, b), return_inverse=True)
    a, b = np.divmod(key, count)
    return a, b, sums(number.reshape(-1), strength, len(key))


def _join(
    a: Indices, b: Indices, strength: Weights, weights: Weights, most: float, numbers: Numbers, turn: int
) -> tuple[Indices, Indices]:
    """Vertices that join the one they are most tied to, and these. Which may join in a turn, a hash says.

    None that is joined joins another at once, and of those that want to join the same one, the strongest do, as long as
    all together weigh no more than `most`.
    """
    one, other = np.concatenate([a, b]), np.concatenate([b, a])
    value = np.concatenate([strength, strength])
    order = np.lexsort([numbers[other], -value, one])
    best = order[np.flatnonzero(np.diff(one[order], prepend=-1))]
    one, other, value = one[best], other[best], value[best]
    stays = (mixed(numbers + np.uint64(turn)) & np.uint64(1)) == 1
    joins = ~stays[one] & stays[other]
    one, other, value = one[joins], other[joins], value[joins]
    order = np.lexsort([numbers[one], -value, other])
    one, other = one[order], other[order]
    together = np.cumsum(weights[one])
    first = np.flatnonzero(np.diff(other, prepend=-1))
    before = np.repeat((together - weights[one])[first], np.diff(np.append(first, len(one))))
    fits = together - before + weights[other] <= most
    return one[fits], other[fits]


def _nearest(together: Weights, need: float) -> int:
    """How many of some, whose weights together ascend, come nearest to what is needed."""
    if need <= 0 or not len(together):
        return 0
    number = int(np.searchsorted(together, need, side="right"))
    before = float(together[number - 1]) if number else 0.0
    return number + (number < len(together) and float(together[number]) - need < need - before)


def seeds_of(names: Sequence[str], seed: int) -> tuple[int, ...]:
    """The seeds of splits' orders: by their names, so that it does not matter which was asked for first."""
    from xxhash import xxh3_64_intdigest

    return tuple(xxh3_64_intdigest(f"{seed}\n{name}".encode()) for name in names)
