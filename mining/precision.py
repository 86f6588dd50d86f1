"""How likely a mined pair is right, without labels: counted against decoys that are known to have no counterpart.

Decoys compete with the targets. Every hit on a decoy is wrong, and a source that takes a wrong row takes a decoy as
readily as a target that has no right partner of its own. So each decoy hit stands for `free targets / decoys` wrong
hits on targets of about the same score. This is target-decoy counting (Elias and Gygi 2007, "Target-decoy search
strategy"), with the one hit more than was seen that keeps a finite count from promising too much (Barber and Candès
2015, "knockoff+").
"""

import numpy as np
import numpy.typing as npt

from seamlessalign.mining.vectors import Floats

_ROUNDS = 200
_SETTLED = 1e-6  # change of the expected number of right pairs, relative to all


def estimate_precision(
    score: Floats,
    is_decoy: npt.NDArray[np.bool_],
    num_targets: int,
    num_decoys: int,
    once_per_target: bool,
) -> Floats:
    """Estimate for every hit how likely a target hit with its score is right; (num_hits,) float32, in [0, 1].

    score (num_hits,) sorted descending, is_decoy (num_hits,). The estimate is that of a single pair, not of all pairs
    above it, never rises as the score falls, and is equal for equal scores. Wrong hits are pooled until their rate per
    target hit rises monotonically (isotonic regression). In the conservative form a decoy hit stands for |Y| / |Z|
    wrong hits; where a target is in one pair at most, targets already rightly paired above it are no longer free, and
    the count is repeated with (|Y| - R) / |Z| until R settles. R starts at 0 and only grows, so that stopping early is
    on the safe side.
    """
    edges = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]])) if len(score) else np.empty(0, np.int64)
    group = np.repeat(np.arange(len(edges)), np.diff(np.append(edges, len(score))))
    decoys = np.bincount(group, weights=is_decoy, minlength=len(edges)).astype(np.float64)
    targets = np.bincount(group, weights=~is_decoy, minlength=len(edges)).astype(np.float64)
    right = np.zeros(len(edges))
    free = np.full(len(edges), float(num_targets))
    for _ in range(_ROUNDS if once_per_target else 1):
        right = 1 - np.minimum(1, _rising_rate(decoys * free / num_decoys, targets, num_targets / num_decoys))
        above = np.cumsum(right * targets)
        left = np.maximum(num_targets - above, 0)
        if np.abs(free - left).max(initial=0) <= _SETTLED * num_targets:
            break
        free = left
    estimate: Floats = right[group].astype(np.float32)
    return estimate


def _rising_rate(
    wrong: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], extra: float
) -> npt.NDArray[np.float64]:
    """Wrong hits per target hit of each group, pooled with its neighbours until it never falls from group to group.

    `extra` wrong hits come before the first group. Groups without wrong hits always join the group before them (its
    rate is above 0), so only groups with wrong hits are walked through.
    """
    starts = np.concatenate([[0], np.flatnonzero(wrong) + 1]) if len(wrong) else np.zeros(1, np.int64)
    begin = starts - 1  # block b holds groups begin[b] … begin[b + 1] - 1; the first has the extra hits and group -1
    ends = np.append(begin[1:], len(wrong))
    total = np.concatenate([[0.0], np.cumsum(targets)])
    blocks: list[tuple[float, float, int]] = []  # wrong hits, target hits, last group + 1
    for number, (left, right) in enumerate(zip(begin.tolist(), ends.tolist(), strict=True)):
        bad = extra if number == 0 else float(wrong[left])
        good = float(total[right] - total[max(left, 0)])
        while blocks and blocks[-1][0] * good >= bad * blocks[-1][1]:  # the rate before is as high: pool
            bad += blocks[-1][0]
            good += blocks[-1][1]
            blocks.pop()
        blocks.append((bad, good, right))
    rate = np.array([bad / good if good else np.inf for bad, good, _ in blocks])
    size = np.diff([0, *(end for _, _, end in blocks)])
    out: npt.NDArray[np.float64] = np.repeat(rate, size)
    return out
