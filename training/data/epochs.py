"""The plan of an epoch: which items are together in a batch, and in what order batches come.

It follows from the data, the seed and the number of the epoch alone, so that any process can make any batch at any
time, and all have the same. Row groups come in random order, a window of them at a time; inside a window items are
shuffled, cut into batches by length, and the batches shuffled. So a reader has a window in memory, and reads each row
group once for all batches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.training.data.limits import Items
from seamlessalign.training.data.mixing import Mixture
from seamlessalign.training.data.settings import BatchSettings

Int64 = npt.NDArray[np.int64]

_ORDER, _SHUFFLE = 2, 3  # streams of random numbers
_BUCKET = 1.1  # lengths within so much of each other are alike
_FRAMES, _SOURCE, _TARGET, _UNITS = range(4)  # columns of `Items.lengths`


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """Batches of an epoch. Items of a batch are sorted by row group, in the order in which these are read."""

    items: Int64  # (num_items_of_epoch,): places in the mixture's items, batch behind batch
    times: Int64  # (num_items_of_epoch,): which time it is in this epoch that an item comes, from 0
    starts: Int64  # (num_batches + 1,): of each batch in `items`
    windows: Int64  # (num_batches,): number of the window of each batch

    @property
    def num_batches(self) -> int:
        return len(self.starts) - 1

    def batch(self, place: int) -> slice:
        """Where the items of a batch are."""
        return slice(int(self.starts[place]), int(self.starts[place + 1]))


def plan_epoch(mixture: Mixture, settings: BatchSettings, slowest: float, seed: int, epoch: int) -> EpochPlan:
    """Plan an epoch.

    slowest: the least speed at which speech may be heard; lengths in `settings` are those at that speed.
    """
    items, times = mixture.draw(seed, epoch)
    if not len(items):
        nothing = np.zeros(0, np.int64)
        return EpochPlan(nothing, nothing, np.zeros(1, np.int64), nothing)
    chosen = mixture.items.where(items)
    lengths, kinds = chosen.lengths(slowest), kinds_of(chosen)
    rng = np.random.default_rng([seed, _SHUFFLE, epoch])
    window, order_of_groups = _windows(chosen, times, settings, seed, epoch)
    bucket = _buckets(lengths) if settings.by_length else np.zeros(len(items), np.int64)
    order = np.lexsort((rng.random(len(items)), bucket, kinds, window))
    ends = _cut(lengths[order], kinds[order], window[order], settings)
    # batches of a window in random order
    first = np.concatenate([[0], ends[:-1]])
    by_window = np.lexsort((rng.random(len(ends)), window[order][first]))
    batch_of = np.repeat(np.arange(len(ends)), ends - first)
    turn = np.empty(len(ends), np.int64)
    turn[by_window] = np.arange(len(ends))
    final = order[np.lexsort((order, order_of_groups[order], turn[batch_of]))]
    sizes = (ends - first)[by_window]
    return EpochPlan(
        items[final], times[final], np.concatenate([[0], np.cumsum(sizes)]), window[order][first][by_window]
    )


def kinds_of(items: Items) -> Int64:
    """The parts that items have, as a number: those of a batch are of one kind."""
    said = items.lengths()[:, _SOURCE] > 0
    return items.has_speech.astype(np.int64) * 4 + said * 2 + items.has_units


def split(costs: Int64, world: int) -> Int64:
    """The process of each row of a batch, `(rows,)`: runs of rows whose costs are about equal, in order.

    Where rows are sorted by row group, a process so reads about its share of the groups. With more processes than
    rows some have none.
    """
    total = max(int(costs.sum()), 1)
    middle = np.cumsum(costs) * 2 - costs  # twice what lies before the middle of each row
    return np.asarray(np.minimum(middle * world // (2 * total), world - 1), np.int64)


def _windows(items: Items, times: Int64, settings: BatchSettings, seed: int, epoch: int) -> tuple[Int64, Int64]:
    """The window of each item, and the place in the epoch of its row group, `(num_items,)` both.

    A row group whose items come several times is visited as often.
    """
    groups = items.index.rows["group"][items.rows].astype(np.int64)
    visits, visit = np.unique(times * len(items.index.groups) + groups, return_inverse=True)
    order = np.random.default_rng([seed, _ORDER, epoch]).permutation(len(visits))
    sizes = items.index.groups["size"][visits[order] % len(items.index.groups)].astype(np.int64)
    window = np.empty(len(visits), np.int64)
    limit, number, filled = settings.window_mb * 1_000_000, 0, 0
    for place, size in enumerate(sizes.tolist()):
        if filled and filled + size > limit:
            number, filled = number + 1, 0
        window[order[place]] = number
        filled += size
    rank = np.empty(len(visits), np.int64)
    rank[order] = np.arange(len(visits))
    return window[visit], rank[visit]


def _buckets(lengths: Int64) -> Int64:
    """Numbers that grow with the length: of speech, else of the source text."""
    decisive = np.where(lengths[:, _FRAMES] > 0, lengths[:, _FRAMES], lengths[:, _SOURCE])
    return np.asarray(np.floor(np.log(np.maximum(decisive, 1)) / np.log(_BUCKET)), np.int64)


def _cut(lengths: Int64, kinds: Int64, window: Int64, settings: BatchSettings) -> Int64:
    """The end of each batch of items in this order: one more item would be too much, or is of another kind."""
    limits = (settings.max_frames, settings.max_tokens, settings.max_tokens, settings.max_units)
    most_frames, most_source, most_target, most_units = limits
    ends: list[int] = []
    start = frames = source = target = units = 0
    last = (-1, -1)
    rows = zip(*lengths.T.tolist(), kinds.tolist(), window.tolist(), strict=True)
    for place, (f, s, t, u, kind, of_window) in enumerate(rows):
        frames, source, target, units = max(frames, f), max(source, s), max(target, t), max(units, u)
        count = place - start + 1
        if place > start and (
            (kind, of_window) != last
            or count > settings.max_rows
            or count * frames > most_frames
            or count * source > most_source
            or count * target > most_target
            or count * units > most_units
        ):
            ends.append(place)
            start, frames, source, target, units = place, f, s, t, u
        last = (kind, of_window)
    ends.append(len(lengths))
    return np.array(ends, np.int64)
